"""Turns, users and readers: one thing at a time happens to one agent, and nothing of it remains."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from torpor.base.errors import AgentBusy
from torpor.home.activation import Activation, Activations
from torpor.workbook import Workbook


@pytest.fixture
def activations() -> Activations:
    return Activations()


@pytest.fixture
def activation(tmp_path: Path) -> Iterator[Activation]:
    with Workbook.open(tmp_path / "ada.workbook") as book:
        yield Activation(book, 0)


def empty(activations: Activations) -> bool:
    return not (activations._turns or activations._open or activations._readers)


def test_a_turn_is_one_threads_at_a_time_and_leaves_nothing(activations: Activations) -> None:
    inside: list[int] = []
    most: list[int] = []

    def enter() -> None:
        for _ in range(200):
            with activations.turn("1", "ada", wait=True):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    assert empty(activations)


def test_who_does_not_wait_for_a_turn_is_told_so(activations: Activations) -> None:
    with activations.turn("1", "ada", wait=False):
        with pytest.raises(AgentBusy), activations.turn("1", "ada", wait=False):
            pass
        with activations.turn("2", "bob", wait=False):
            pass
    assert empty(activations)


def test_a_turn_that_fails_is_given_back(activations: Activations) -> None:
    with pytest.raises(ZeroDivisionError), activations.turn("1", "ada", wait=False):
        raise ZeroDivisionError
    assert empty(activations)


def test_users_and_readers_make_an_agent_busy_and_are_counted(activations: Activations, activation: Activation) -> None:
    activations.add("1", activation)
    activations.refuse_busy("1", "ada")
    with ExitStack() as users:
        for _ in range(2):
            users.enter_context(activations.used(activation))
        with pytest.raises(AgentBusy, match="2 users"):
            activations.refuse_busy("1", "ada")
    with activations.read("1"), pytest.raises(AgentBusy, match="1 reader"):
        activations.refuse_busy("1", "ada")
    activations.refuse_busy("1", "ada")
    activations.end("1", "ada")
    assert empty(activations)


def test_an_activation_whose_workbook_is_closed_is_none(activations: Activations, activation: Activation) -> None:
    activations.add("1", activation)
    assert activations.get("1") is activation
    activation.book.close()
    assert activations.get("1") is None
    assert empty(activations)


def test_the_last_activity_is_known_while_it_is_awake(activations: Activations, activation: Activation) -> None:
    activations.add("1", activation)
    activations.touch("1", 7)
    activations.touch("2", 7)
    assert (activations.active("1"), activations.active("2")) == (7, 0)
    assert activations.ids() == ["1"]
