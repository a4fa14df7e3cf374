"""Deaths without a process: the code is broken off at a fault point, and nothing is written after that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from torpor import Agent, Event, Workbook
from torpor.base import faults


class Death(BaseException):
    """The process is gone."""


@contextmanager
def dying(chosen: Callable[[str, int], bool]) -> Iterator[None]:
    """Die at the first point for which `chosen(name, count of points before it)` holds, and at whatever comes after."""
    count = 0
    dead = False

    def hear(name: str) -> None:
        nonlocal count, dead
        dead = dead or chosen(name, count)
        count += 1
        # A transaction that has just begun holds nothing: dying a moment later is the same, and leaves it closable.
        if dead and name != "transaction.begun":
            raise Death

    faults.listen(hear)
    try:
        yield
    finally:
        faults.listen(None)


def at(point: str, nth: int = 1) -> Callable[[str, int], bool]:
    """Choose the `nth` reaching of a point."""
    left = nth

    def chosen(name: str, count: int) -> bool:
        nonlocal left
        left -= name == point
        return left == 0

    return chosen


async def die(agent: Agent, message: str, chosen: Callable[[str, int], bool], **given: Any) -> None:
    """Send a message and die while it is handled."""
    with dying(chosen), pytest.raises(BaseException) as caught:
        await agent.send(message, **given)
    assert only_death(caught.value), repr(caught.value)


def only_death(error: BaseException) -> bool:
    """Say whether an error is nothing but Death, in as many groups as the code has put around it."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(only_death, error.exceptions))
    return isinstance(error, Death)


def kinds(book: Workbook) -> list[str]:
    """Return the kinds of all events."""
    return [event.kind for event in book.events()]


def steps(book: Workbook) -> list[Event]:
    """Return the events of steps and effects."""
    return [event for event in book.events() if event.kind.startswith(("step.", "effect."))]


def receipts(book: Workbook) -> list[tuple[str, str, str]]:
    """Return position, name and kind of every receipt, by position."""
    ends = (".completed", ".failed")
    found = [event for event in steps(book) if event.kind.endswith(ends)]
    return sorted((e.body["position"], e.body["name"], e.kind) for e in found)


def reopened(book: Workbook) -> Workbook:
    """Close a workbook and open it again, as the next process would."""
    book.close()
    return Workbook.open(book.path)


def only_run(agent: Agent) -> str:
    """Return the id of the one run."""
    (info,) = agent.runs()
    return info.id


def new_book(folder: Path) -> Workbook:
    """Return a new workbook."""
    return Workbook.open(folder / "ada.workbook")
