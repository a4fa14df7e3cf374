"""Random programs, broken off anywhere, end as if they had not been.

A program is made of steps (some fail first, some for good), effects, calls of the agent's own memory and files, and
gathers, nested. It is run once in peace and once with deaths: at any fault point, up to three times. Time is trio's
mock clock, so that pauses cost nothing and branches end in an order that differs from life to life.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.runtime.lab import Death, dying, only_death

import torpor
from torpor import Agent, Event, Workbook
from torpor.base import faults
from torpor.runtime import runs_in


class World:
    """What is outside the workbook, and outlives the process."""

    def __init__(self, delays: list[float]) -> None:
        self.delays = delays
        self.called: Counter[str] = Counter()
        self.seen: list[str] = []
        self.finished: set[str] = set()
        """What had a receipt when this life began."""
        self.rest = 0

    async def pause(self) -> None:
        self.rest += 1
        await anyio.sleep(self.delays[self.rest % len(self.delays)])


world = World([0.0])


class Flaw(Exception):
    """A step's own failure."""


@torpor.step(retries=2)
async def work(name: str, fails: int) -> str:
    """Fail `fails` times in the world's whole life, then succeed."""
    assert name not in world.finished, f"{name} has a receipt and was called again"
    world.called[name] += 1
    count = world.called[name]
    await world.pause()
    if count <= fails:
        raise Flaw(name)
    return f"{name} done"


@torpor.step
async def ruin(name: str) -> str:
    """Fail."""
    assert name not in world.finished, f"{name} has a receipt and was called again"
    world.called[name] += 1
    await world.pause()
    raise Flaw(name)


async def sent(name: str, *, key: str) -> torpor.Happened[str] | None:
    """Look into the world."""
    await world.pause()
    return torpor.Happened(f"{name} sent") if key in world.seen else None


@torpor.effect(on_unknown="check", check=sent)
async def send(name: str, *, key: str) -> str:
    """Be seen."""
    assert name not in world.finished, f"{name} has a receipt and was done again"
    await world.pause()
    world.seen.append(key)
    await world.pause()
    return f"{name} sent"


Node = tuple[Any, ...]


class Player(Agent):
    """Performs a program."""

    luck: int = 0

    @torpor.on("play")
    async def play(self, program: list[Any]) -> list[Any]:
        """Perform it and return its results."""
        return await self.perform(program)

    async def perform(self, program: list[Any]) -> list[Any]:
        """Perform one branch."""
        return [await self.node(*node) for node in program]

    async def node(  # noqa: C901, PLR0911, PLR0912  (one case for each part)
        self, kind: str, *rest: Any
    ) -> Any:
        """Perform one part."""
        match kind:
            case "work":
                return await work(*rest)
            case "ruin":
                try:
                    await ruin(*rest)
                except torpor.StepFailed as error:
                    return [error.name, error.kind, error.detail, error.attempts]
            case "send":
                return await send(rest[0], key=rest[0])
            case "remember":
                return self.memory.remember(rest[0], source=rest[0])
            case "append":
                return self.files.append("/log.txt", rest[0].encode())
            case "missing":
                try:
                    self.files.read(rest[0])
                except torpor.StepFailed as error:
                    return [error.kind, error.detail]
            case "set":
                self.luck += 1
                return self.luck
            case "aside":
                await world.pause()
                return None
            case "gather":
                return await torpor.gather(*(self.perform(branch) for branch in rest[0]))
        raise AssertionError(kind)


def named(program: list[Any], path: str = "n") -> list[Any]:
    """Give each part a name of its own."""
    done: list[Any] = []
    for number, (kind, *rest) in enumerate(program):
        name = f"{path}{number}"
        if kind == "gather":
            done.append((kind, [named(branch, f"{name}.{b}.") for b, branch in enumerate(rest[0])]))
        elif kind in ("set", "aside"):
            done.append((kind,))
        elif kind == "missing":
            done.append((kind, f"/{name}"))
        else:
            done.append((kind, name, *rest))
    return done


plain = st.one_of(
    st.tuples(st.just("work"), st.integers(0, 1)),
    st.tuples(st.sampled_from(["ruin", "send", "remember", "append", "missing", "aside"])),
)
inner = st.lists(plain, max_size=3)
gathers = st.tuples(
    st.just("gather"),
    st.lists(
        st.lists(st.one_of(plain, st.tuples(st.just("gather"), st.lists(inner, max_size=2))), max_size=3),
        max_size=3,
    ),
)
programs = st.lists(st.one_of(plain, gathers, st.tuples(st.just("set"))), min_size=1, max_size=5).map(named)
pauses = st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0]), min_size=1, max_size=7)


def live(main: Callable[[], Any]) -> Any:
    """Run an async function on a clock that jumps."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    return anyio.run(main, backend="trio", backend_options={"clock": clock})


def facts(book: Workbook) -> dict[str, Any]:
    """Return what must not depend on how often the process died."""
    ends = (".completed", ".failed")
    receipts = [e for e in book.events() if e.kind.startswith(("step", "effect")) and e.kind.endswith(ends)]
    # The order in which branches end is chance: numbers that follow from it are left out.
    loose = ("memory.remember", "setting")
    told = {
        event.body["position"]: (event.kind, {**event.body, "result": None})
        if event.body["name"] in loose
        else (event.kind, event.body)
        for event in receipts
    }
    assert len(told) == len(receipts), "one receipt for each position"
    log = book.read("workspace", "/log.txt") if any(e.kind.startswith("file.") for e in book.events()) else b""
    kept = sorted(e.body["source"] for e in book.events() if e.kind == "memory.kept")
    return {"receipts": told, "log": Counter(log.split(b"n")), "kept": kept}


def finished(book: Workbook) -> set[str]:
    """Return the names of what has a receipt."""
    intents: dict[int, Event] = {e.seq: e for e in book.events() if e.kind.endswith(".intended")}
    ends = (".completed", ".failed")
    return {
        intents[event.parent].body["arguments"]["name"]
        for event in book.events()
        if event.kind.startswith(("step.", "effect.")) and event.kind.endswith(ends) and event.parent is not None
    }


def in_peace(path: Path, program: list[Any], delays: list[float]) -> tuple[Any, dict[str, Any], int, World]:
    """Run a program undisturbed; return result, facts, and the number of fault points that it came by."""
    global world  # noqa: PLW0603  (the world is one)
    world = World(delays)
    count = 0

    def hear(_: str) -> None:
        nonlocal count
        count += 1

    with Workbook.open(path) as book:
        faults.listen(hear)
        try:
            result = live(lambda: Player(book).send("play", program=program))
        finally:
            faults.listen(None)
        assert book.verify().problems == ()
        return result, facts(book), count, world


def one_life(path: Path, program: list[Any], death: int) -> Any:
    """Begin or resume the run, and die at the given fault point; return None, or how it came out."""
    with Workbook.open(path) as book:
        world.finished = finished(book)
        agent = Player(book)

        async def go() -> Any:
            if not runs_in(book):
                return await agent.send("play", program=program)
            outcomes = await agent.resume()
            return outcomes[0].result if outcomes else "over"

        try:
            with dying(lambda _, count: count == death):
                return live(go)
        except BaseException as error:
            if not only_death(error):
                raise
            return None


def ends_alike(program: list[Any], delays: list[float], other: list[float], where: list[float]) -> None:
    """Insist that a program which is broken off in places ends as it does in peace."""
    global world  # noqa: PLW0603  (the world is one)
    with tempfile.TemporaryDirectory() as folder:
        result, wanted, points, peace = in_peace(Path(folder) / "peace.workbook", program, delays)
        world = World(delays)
        path = Path(folder) / "deaths.workbook"
        came_out: Any = None
        for life, share in enumerate(where):
            world.delays = other if life % 2 else delays
            came_out = one_life(path, program, int(share * points))
            if came_out is not None:
                break
        while came_out is None:
            came_out = one_life(path, program, -1)
        with Workbook.open(path) as book:
            states = [info.state for info in runs_in(book)]
            assert states == ["completed"]
            if came_out != "over":
                assert plainly(came_out) == plainly(result)
            assert without_attempts(facts(book)) == without_attempts(wanted)
            assert book.verify().problems == ()
        assert Counter(world.seen) == Counter(peace.seen)
        for name, count in peace.called.items():
            assert count <= world.called[name] <= count + len(where)


broken_off = given(
    program=programs,
    delays=pauses,
    other=pauses,
    where=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=3),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@broken_off
def test_a_program_ends_as_if_it_had_not_been_broken_off(
    program: list[Any], delays: list[float], other: list[float], where: list[float]
) -> None:
    ends_alike(program, delays, other, where)


@pytest.mark.torture
@pytest.mark.timeout(3600)
@settings(max_examples=3000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@broken_off
def test_many_programs_end_as_if_they_had_not_been_broken_off(
    program: list[Any], delays: list[float], other: list[float], where: list[float]
) -> None:
    ends_alike(program, delays, other, where)


def plainly(result: Any) -> Any:
    """Return a result without what follows from chance: numbers."""
    if isinstance(result, list):
        return [plainly(part) for part in result]
    return None if isinstance(result, int) else result


def without_attempts(told: dict[str, Any]) -> dict[str, Any]:
    """Leave out how often a failing step was tried: a death may cost it one more."""
    raw = msgspec.json.encode(told)
    return msgspec.json.decode(raw.replace(b'"attempts":2', b'"attempts":1'), type=dict[str, Any])


def test_death_is_told_from_other_errors() -> None:
    assert only_death(BaseExceptionGroup("", [Death()]))
    assert not only_death(BaseExceptionGroup("", [Death(), ValueError()]))
