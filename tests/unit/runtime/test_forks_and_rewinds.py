"""Runs in forks and after rewinds: what is finished is not done again; what was in flight is done by one of the two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.unit.runtime.lab import at, die, kinds

import torpor
from torpor import Agent, EffectRefused, Happened, UnknownOutcome, Workbook
from torpor.base.errors import KeyReused, PointRefused
from torpor.runtime import runs_in, settle
from torpor.workbook import fork

pytestmark = pytest.mark.anyio


class World:
    """What the effects do, and what was called."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.looked: list[str] = []
        self.refuses = False
        self.large = False
        self.hold: anyio.Event | None = None
        self.reached = anyio.Event()


world = World()  # each test begins with a new one: see conftest.py


async def act(text: str, key: str) -> str:
    world.reached.set()
    if world.hold is not None:
        await world.hold.wait()
    if world.refuses:
        raise EffectRefused(reason="not today")
    world.done.append(key)
    return text * (50_000 if world.large else 1)


async def probe(text: str, *, key: str) -> Happened[str] | None:
    return Happened(text) if key in world.done else None


@torpor.step
async def look(name: str) -> str:
    world.looked.append(name)
    return name


@torpor.effect(on_unknown="retry")
async def retried(text: str, *, key: str) -> str:
    return await act(text, key)


@torpor.effect(on_unknown="check", check=probe)
async def checked(text: str, *, key: str) -> str:
    return await act(text, key)


@torpor.effect(on_unknown="ask")
async def asked(text: str, *, key: str) -> str:
    return await act(text, key)


EFFECTS = {"retried": retried, "checked": checked, "asked": asked}


class Poster(Agent):
    """Looks, posts by one of the effects, and looks again."""

    text: str = "hello"

    @torpor.on("post")
    async def post(self, how: str) -> str:
        await look("before")
        try:
            posted = await EFFECTS[how](self.text, key="post-1")
        except torpor.StepFailed as error:
            return error.detail
        await look("after")
        self.memory.remember(f"posted {posted[:20]}", source="post")
        return posted[:20]


def made_fork(book: Workbook, at_event: int | None = None) -> Workbook:
    target = Path(book.path).with_name("fork.workbook")
    fork(book.path, target, agent="the-fork", at=at_event)
    return Workbook.open(target)


async def in_flight(book: Workbook, how: str, point: str = "effect.intended") -> int:
    """Have the parent die while it posts, and return the number of the last event before that."""
    await die(Poster(book), "post", at(point), how=how)
    return book.last


def the_result(outcomes: list[Any]) -> Any:
    (outcome,) = outcomes
    if outcome.error is not None:
        raise outcome.error
    return outcome.result


@pytest.mark.parametrize("how", EFFECTS)
@pytest.mark.parametrize("large", [False, True])
async def test_a_fork_is_told_what_became_of_the_effect_that_its_parent_has_finished_since(
    book: Workbook, how: str, *, large: bool
) -> None:
    world.large = large
    point = await in_flight(book, how)
    if how == "asked":
        await Poster(book).resume()
        settle(book, "post-1", None)
    assert the_result(await Poster(book).resume()).startswith("hello")
    assert world.done == ["post-1"]
    with made_fork(book, point) as branch:
        assert the_result(await Poster(branch).resume()).startswith("hello")
        assert branch.verify().problems == ()
        assert branch.memory.get("post") is not None
    assert world.done == ["post-1"]


async def test_a_fork_does_itself_what_its_parent_has_failed_to_do(book: Workbook) -> None:
    point = await in_flight(book, "retried")
    world.refuses = True
    assert the_result(await Poster(book).resume()) == "not today"
    world.refuses = False
    with made_fork(book, point) as branch:
        assert the_result(await Poster(branch).resume()) == "hello"
    assert world.done == ["post-1"]


@pytest.mark.parametrize("how", ["checked", "asked"])
async def test_what_the_parent_may_still_do_waits_for_a_verdict_in_the_fork(book: Workbook, how: str) -> None:
    await in_flight(book, how)
    with made_fork(book) as branch:
        with pytest.raises(UnknownOutcome):
            the_result(await Poster(branch).resume())
        assert [info.state for info in runs_in(branch)] == ["parked"]
        assert world.done == []
        settle(branch, "post-1", Happened("by my parent"))
        assert the_result(await Poster(branch).resume()) == "by my parent"
        assert branch.verify().problems == ()
    assert world.done == []


async def test_what_may_be_repeated_is_repeated_in_the_fork_under_the_key_that_the_parent_used(book: Workbook) -> None:
    await in_flight(book, "retried", "effect.performed")
    with made_fork(book) as branch:
        assert the_result(await Poster(branch).resume()) == "hello"
    assert set(world.done) == {"post-1"}


async def test_the_probe_of_a_fork_may_find_that_its_parent_did_it(book: Workbook) -> None:
    await in_flight(book, "checked", "effect.performed")
    with made_fork(book) as branch:
        assert the_result(await Poster(branch).resume()) == "hello"
    assert world.done == ["post-1"]


async def test_a_fork_is_done_while_the_effect_is_under_way_and_neither_does_it_twice(book: Workbook) -> None:
    world.hold = anyio.Event()
    results: list[Any] = []

    async def send() -> None:
        results.append(await Poster(book).send("post", how="checked"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await world.reached.wait()
        with made_fork(book) as branch:
            with pytest.raises(UnknownOutcome, match="may still be about to do it"):
                the_result(await Poster(branch).resume())
            world.hold.set()
            while not results:
                await anyio.lowlevel.checkpoint()
            assert the_result(await _settled(branch)) == "hello"
    assert world.done == ["post-1"]
    assert results == ["hello"]


async def _settled(branch: Workbook) -> list[Any]:
    settle(branch, "post-1", Happened("hello"))
    return await Poster(branch).resume()


async def test_the_steps_that_were_finished_at_the_fork_point_are_not_called_again(book: Workbook) -> None:
    await Poster(book).send("post", how="retried")
    middle = next(event.seq for event in book.events() if event.kind == "effect.completed")
    with made_fork(book, middle) as branch:
        assert the_result(await Poster(branch).resume()) == "hello"
        assert kinds(branch)[middle] == "agent.born"
    assert world.looked == ["before", "after", "after"]
    assert world.done == ["post-1"]


async def test_the_two_go_their_own_ways(book: Workbook) -> None:
    with made_fork(book) as branch:
        await Poster(branch).send("post", how="retried")
        Poster(branch).text = "mine"
        assert Poster(book).text == "hello"
        assert book.last == 0


# --- rewinds ---


@pytest.mark.parametrize("how", EFFECTS)
async def test_what_was_done_to_the_world_is_not_done_again_after_a_rewind(book: Workbook, how: str) -> None:
    await Poster(book).send("post", how=how)
    before = next(event.seq for event in book.events() if event.kind == "effect.intended") - 1
    book.rewind(before)
    assert [info.state for info in runs_in(book)] == ["started"]
    assert book.memory.get("post") is None
    assert the_result(await Poster(book).resume()) == "hello"
    assert world.done == ["post-1"]
    assert world.looked == ["before", "after", "after"]
    assert book.verify().problems == ()


async def test_what_was_in_flight_when_it_was_rewound_is_resolved_by_its_policy(book: Workbook) -> None:
    await in_flight(book, "checked", "effect.performed")
    book.rewind(next(event.seq for event in book.events() if event.kind == "effect.intended") - 1)
    assert the_result(await Poster(book).resume()) == "hello"
    assert world.done == ["post-1"]


async def test_another_text_under_the_key_of_what_was_done_is_refused(book: Workbook) -> None:
    await Poster(book).send("post", how="retried")
    start = next(event.seq for event in book.events() if event.kind == "run.started")
    book.rewind(start - 1)
    Poster(book).text = "something else"
    with pytest.raises(KeyReused):
        await Poster(book).send("post", how="retried")
    assert world.done == ["post-1"]


async def test_a_run_that_began_after_the_target_is_no_run_any_more(book: Workbook) -> None:
    start = book.append("note.added", {})
    await Poster(book).send("post", how="retried")
    tip = book.last
    book.rewind(start)
    assert runs_in(book) == []
    assert await Poster(book).resume() == []
    book.rewind(tip)
    assert [info.state for info in runs_in(book)] == ["completed"]


async def test_it_is_not_rewound_under_a_run(book: Workbook) -> None:
    world.hold = anyio.Event()
    async with anyio.create_task_group() as tasks:

        async def send() -> None:
            await Poster(book).send("post", how="retried")

        tasks.start_soon(send)
        await world.reached.wait()
        with pytest.raises(PointRefused, match="is under way"):
            book.rewind(0)
        world.hold.set()
    book.rewind(0)
    assert runs_in(book) == []
