"""A cancelled run stops at its next checkpoint, whatever its code catches; on every event loop."""

from __future__ import annotations

from contextlib import suppress

import anyio
import pytest
from tests.unit.runtime.lab import at, die, kinds, only_run, reopened

import torpor
from torpor import Agent, RunCancelled, UnknownOutcome, Workbook
from torpor.base.errors import CancelRefused

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Stage:
    """Where the run is, for the test to act on."""

    def __init__(self) -> None:
        self.reached = anyio.Event()
        self.called: list[str] = []


stage: Stage


@pytest.fixture(autouse=True)
async def _new_stage() -> None:
    global stage  # noqa: PLW0603  (one play at a time)
    stage = Stage()


@torpor.step
async def wait(name: str) -> str:
    stage.called.append(name)
    stage.reached.set()
    await anyio.sleep_forever()
    return name


@torpor.step
async def quick(name: str) -> str:
    stage.called.append(name)
    return name


@torpor.step
async def deaf(name: str) -> str:
    """Be finished before anybody can stop it."""
    stage.called.append(name)
    stage.reached.set()
    with anyio.CancelScope(shield=True):
        await anyio.sleep(0.02)
    return name


@torpor.effect(on_unknown="ask")
async def post(*, key: str) -> str:
    stage.called.append(key)
    stage.reached.set()
    await anyio.sleep_forever()
    return key


class Player(Agent):
    @torpor.on("polite")
    async def polite(self) -> None:
        await quick("first")
        await wait("long")
        await quick("late")

    @torpor.on("stubborn")
    async def stubborn(self) -> str:
        for name in ("long", "late", "later"):
            with suppress(BaseException):  # what is tested is that this is no use
                await wait(name)
            with suppress(BaseException):  # what is tested is that this is no use
                self.memory.remember(name)
        return "went on"

    @torpor.on("angry")
    async def angry(self) -> None:
        try:
            await wait("long")
        except BaseException as error:
            raise ValueError("not now") from error

    @torpor.on("deaf")
    async def deaf(self) -> None:
        await deaf("long")
        await quick("late")

    @torpor.on("post")
    async def post(self) -> None:
        await torpor.gather(post(key="a"), wait("b"))

    @torpor.on("itself")
    async def itself(self) -> None:
        torpor.run().cancel("had enough")
        await quick("late")

    @torpor.on("grouped")
    async def grouped(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            await wait("long")


async def cancelled(agent: Agent, message: str, reason: str = "enough") -> RunCancelled:
    """Send a message, cancel the run when it waits, and return what the sender is told."""
    told: list[RunCancelled] = []

    async def send() -> None:
        with pytest.raises(RunCancelled) as caught:
            await agent.send(message)
        told.append(caught.value)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            await stage.reached.wait()
            agent.cancel(only_run(agent), reason)
    return told[0]


@pytest.mark.parametrize("message", ["polite", "stubborn", "angry", "grouped"])
async def test_it_stops_at_its_next_checkpoint_whatever_its_code_catches(book: Workbook, message: str) -> None:
    agent = Player(book)
    error = await cancelled(agent, message)
    assert error.reason == "enough"
    assert stage.called[-1] == "long"
    assert kinds(book)[-2:] == ["cancel.asked", "run.cancelled"]
    assert "memory.kept" not in kinds(book)
    assert await agent.resume() == []


async def test_what_was_finished_meanwhile_keeps_its_receipt_and_nothing_later_is_called(book: Workbook) -> None:
    await cancelled(Player(book), "deaf")
    assert stage.called == ["long"]
    assert kinds(book)[-3:] == ["cancel.asked", "step.completed", "run.cancelled"]


async def test_the_journal_names_the_effects_in_doubt_and_no_steps(book: Workbook) -> None:
    await cancelled(Player(book), "post")
    (end,) = [event for event in book.events() if event.kind == "run.cancelled"]
    assert end.body == {"reason": "enough", "in_doubt": ["0.0.0"]}


async def test_a_run_can_cancel_itself(book: Workbook) -> None:
    with pytest.raises(RunCancelled, match="had enough"):
        await Player(book).send("itself")
    assert stage.called == []


async def test_other_runs_go_on(book: Workbook) -> None:
    agent = Player(book)
    done: list[str] = []

    @torpor.step
    async def slow() -> str:
        await anyio.sleep(0.05)
        return "done"

    class Sibling(Agent):
        @torpor.on("slow")
        async def slow(self) -> str:
            return await slow()

    async def other() -> None:
        done.append(await Sibling(book).send("slow"))

    async def first() -> None:
        with pytest.raises(RunCancelled):
            await agent.send("polite")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first)
        await stage.reached.wait()
        tasks.start_soon(other)
        await anyio.sleep(0.01)
        agent.cancel(agent.runs()[0].id)
    assert done == ["done"]
    assert [info.state for info in agent.runs()] == ["cancelled", "completed"]


async def test_a_run_at_rest_ends_where_it_is_and_names_what_is_in_doubt(book: Workbook) -> None:
    await die(Player(book), "post", at("effect.intended"))
    with reopened(book) as after:
        agent = Player(after)
        run = only_run(agent)
        agent.cancel(run, "not needed")
        assert [event.body for event in after.events() if event.kind == "run.cancelled"] == [
            {"reason": "not needed", "in_doubt": ["0.0.0"]}
        ]
        assert await agent.resume() == []
        with pytest.raises(CancelRefused):
            agent.cancel(run)
        with pytest.raises(CancelRefused):
            agent.cancel("no such run")


async def test_a_parked_run_can_be_cancelled(book: Workbook) -> None:
    @torpor.effect(on_unknown="ask")
    async def broken(*, key: str) -> None:
        raise OSError(key)

    class Parker(Agent):
        @torpor.on("park")
        async def park(self) -> None:
            await broken(key="k")

    agent = Parker(book)
    with pytest.raises(UnknownOutcome):
        await agent.send("park")
    agent.cancel(only_run(agent))
    assert [info.state for info in agent.runs()] == ["cancelled"]


async def test_a_crash_between_asking_and_the_end_does_not_undo_the_cancellation(book: Workbook) -> None:
    await die(Player(book), "itself", at("append.committed", 2))
    assert kinds(book)[-1] in ("cancel.asked", "run.cancelled")
    with reopened(book) as after:
        outcomes = await Player(after).resume()
        assert all(isinstance(outcome.error, RunCancelled) for outcome in outcomes)
        assert [info.state for info in Player(after).runs()] == ["cancelled"]
        assert stage.called == []


async def test_cancelled_from_outside_the_run_stays_to_be_resumed(book: Workbook) -> None:
    agent = Player(book)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(agent.send, "stubborn")
        await stage.reached.wait()
        tasks.cancel_scope.cancel()
    (info,) = agent.runs()
    assert not info.finished
    assert stage.called == ["long"]


async def test_a_step_runs_and_times_out_on_this_loop(book: Workbook) -> None:
    @torpor.step(timeout="20ms")
    async def slow() -> None:
        await anyio.sleep_forever()

    class Slow(Agent):
        @torpor.on("slow")
        async def slow(self) -> list[str]:
            seen = await torpor.gather(quick("a"), quick("b"), limit=1)
            with pytest.raises(torpor.StepFailed, match=r"no result within 0\.02 s"):
                await slow()
            return seen

    assert await Slow(book).send("slow") == ["a", "b"]
