"""A run is replayed from its start, and what has a receipt is not done again."""

# ruff: noqa: ARG002  (a handler takes what its message brings, wanted or not)

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterator

import anyio
import pytest
from tests.unit.runtime.lab import at, die, kinds, only_run, receipts, reopened, steps

import torpor
from torpor import Agent, Workbook
from torpor.base.errors import Nondeterminism, NotInRun, RunError, StepRefused
from torpor.runtime import runs_in

pytestmark = pytest.mark.anyio

calls: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    calls.clear()


@torpor.step
async def look(what: str, times: int = 1) -> str:
    calls.append(f"look {what}")
    await anyio.lowlevel.checkpoint()
    return what * times


@torpor.step
async def weigh(what: str) -> int:
    calls.append(f"weigh {what}")
    return len(what)


@torpor.step(name="outer")
async def nested(what: str) -> str:
    calls.append("outer")
    return await look(what)


class Walker(Agent):
    @torpor.on("walk")
    async def walk(self, first: str = "a", second: str = "b") -> int:
        seen = await look(first, times=2)
        seen += await look(second)
        return await weigh(seen)

    @torpor.on("both")
    async def both(self) -> list[str]:
        await weigh("before")
        seen = await torpor.gather(look("a"), look("b"))
        await weigh("after")
        return seen

    @torpor.on("nest")
    async def nest(self) -> str:
        return await nested("n")


class TestOrder:
    async def test_the_intent_is_durable_before_the_call_and_the_receipt_after_it(self, book: Workbook) -> None:
        seen: list[list[str]] = []

        @torpor.step
        async def watch() -> int:
            with Workbook.open(book.path, readonly=True) as beside:
                seen.append(kinds(beside))
            return 1

        class Watcher(Agent):
            @torpor.on("watch")
            async def go(self) -> int:
                return await watch()

        assert await Watcher(book).send("watch") == 1
        assert seen == [["run.started", "step.intended"]]
        assert kinds(book) == ["run.started", "step.intended", "step.completed", "run.completed"]
        intent, receipt = steps(book)
        assert receipt.parent == intent.seq
        assert intent.body == {"position": "0", "name": "watch", "arguments": {}}

    async def test_outside_a_run_a_step_is_the_plain_function(self) -> None:
        assert await look("x", times=3) == "xxx"
        assert await torpor.gather(look("x"), look("y")) == ["x", "y"]

    async def test_a_step_within_a_step_is_a_plain_call(self, book: Workbook) -> None:
        assert await Walker(book).send("nest") == "n"
        assert receipts(book) == [("0", "outer", "step.completed")]
        assert calls == ["outer", "look n"]

    async def test_a_method_can_be_a_step_and_its_object_is_not_recorded(self, book: Workbook) -> None:
        class Own(Agent):
            @torpor.step
            async def double(self, number: int) -> int:
                return 2 * number

            @torpor.on("go")
            async def go(self) -> int:
                return await self.double(4)

        agent = Own(book)
        assert await agent.send("go") == 8
        assert steps(book)[0].body["arguments"] == {"number": 4}
        assert await agent.double(5) == 10


class TestCrash:
    @pytest.mark.parametrize(
        ("point", "nth", "again"),
        [
            ("run.started", 1, ["look a", "look b", "weigh aab"]),
            ("step.begun", 2, ["look b", "weigh aab"]),
            ("step.intended", 2, ["look b", "weigh aab"]),
            ("step.called", 2, ["look b", "weigh aab"]),
            ("step.recorded", 2, ["weigh aab"]),
            ("step.recorded", 3, []),
            ("run.finishing", 1, []),
        ],
    )
    async def test_after_a_crash_only_what_has_no_receipt_is_called(
        self, book: Workbook, point: str, nth: int, again: list[str]
    ) -> None:
        await die(Walker(book), "walk", at(point, nth))
        calls.clear()
        with reopened(book) as after:
            (outcome,) = await Walker(after).resume()
            assert (outcome.result, outcome.error) == (3, None)
            assert calls == again
            assert [r[0] for r in receipts(after)] == ["0", "1", "2"]
            assert await Walker(after).resume() == []

    async def test_a_run_that_finished_right_before_the_crash_is_not_run_again(self, book: Workbook) -> None:
        await die(Walker(book), "walk", at("run.finished"))
        with reopened(book) as after:
            assert await Walker(after).resume() == []
            assert [info.state for info in runs_in(after)] == ["completed"]

    async def test_the_run_knows_how_often_it_was_begun(self, book: Workbook) -> None:
        attempts: list[int] = []

        class Counter(Agent):
            @torpor.on("count")
            async def count(self) -> None:
                attempts.append(torpor.run().attempt)
                await weigh("x")

        await die(Counter(book), "count", at("step.recorded"))
        with reopened(book) as after:
            await Counter(after).resume()
        assert attempts == [1, 2]

    async def test_arguments_come_back_at_replay_as_they_were_sent(self, book: Workbook) -> None:
        await die(Walker(book), "walk", at("run.started"), first="ä" * 50_000, second="z")
        with reopened(book) as after:
            (outcome,) = await Walker(after).resume()
            assert outcome.result == 100_001


def other(*, same: bool = False) -> type[Agent]:
    """Return an agent whose handler changed."""

    class Other(Agent):
        @torpor.on("walk")
        async def walk(self, first: str = "a", second: str = "b") -> int:
            await look(first, times=2)
            if same:
                return 0
            await weigh(second)
            return 0

        @torpor.on("both")
        async def both(self) -> None:
            await weigh("before")

    return Other


async def resumed(book: Workbook, agent: type[Agent]) -> Nondeterminism:
    """Resume with the wrong code, which must record nothing but that it was tried, and return what it says."""
    before = book.last
    (outcome,) = await agent(book).resume()
    assert isinstance(outcome.error, Nondeterminism)
    assert kinds(book)[before:] == ["run.resumed"]
    (info,) = runs_in(book)
    assert not info.finished
    return outcome.error


class TestOtherCode:
    async def test_another_name_is_nondeterminism_and_the_right_code_goes_on(self, book: Workbook) -> None:
        await die(Walker(book), "walk", at("step.recorded", 2))
        with reopened(book) as after:
            error = await resumed(after, other())
            assert (error.position, error.recorded, error.asked) == (
                "1",
                'look({"what":"b"})',
                'weigh({"what":"b"})',
            )
            (outcome,) = await Walker(after).resume()
            assert outcome.result == 3

    async def test_other_arguments_are_nondeterminism(self, book: Workbook) -> None:
        class Louder(Agent):
            @torpor.on("walk")
            async def walk(self, first: str = "a", second: str = "b") -> int:
                await look(first, times=3)
                return 0

        await die(Walker(book), "walk", at("step.recorded", 2))
        with reopened(book) as after:
            error = await resumed(after, Louder)
            assert '"times":2' in error.recorded
            assert '"times":3' in error.asked

    async def test_true_is_not_one(self, book: Workbook) -> None:
        class Truth(Agent):
            @torpor.on("walk")
            async def walk(self, first: str = "a", second: str = "b") -> int:
                await look(first, times=True)
                return 0

        class One(Agent):
            @torpor.on("walk")
            async def walk(self, first: str = "a", second: str = "b") -> int:
                await look(first, times=1)
                return 0

        await die(Truth(book), "walk", at("step.recorded"))
        with reopened(book) as after:
            await resumed(after, One)

    async def test_a_recorded_step_that_is_never_reached_is_nondeterminism(self, book: Workbook) -> None:
        await die(Walker(book), "walk", at("step.recorded", 2))
        with reopened(book) as after:
            error = await resumed(after, other(same=True))
            assert error.asked == "to finish without it"
            (outcome,) = await Walker(after).resume()
            assert outcome.error is None

    async def test_a_gather_that_was_left_out_is_nondeterminism(self, book: Workbook) -> None:
        await die(Walker(book), "both", at("step.recorded", 3))
        with reopened(book) as after:
            await resumed(after, other())
            (outcome,) = await Walker(after).resume()
            assert outcome.result == ["a", "b"]

    async def test_a_step_in_the_place_of_a_gather_is_refused_before_it_is_recorded(self, book: Workbook) -> None:
        class Single(Agent):
            @torpor.on("both")
            async def both(self) -> None:
                await weigh("before")
                await look("a")

        await die(Walker(book), "both", at("step.recorded", 3))
        calls.clear()
        with reopened(book) as after:
            error = await resumed(after, Single)
            assert error.recorded == "a gather of 2"
            assert calls == []
            (outcome,) = await Walker(after).resume()
            assert outcome.result == ["a", "b"]

    @pytest.mark.parametrize("width", [1, 3])
    async def test_a_gather_of_another_width_is_refused_before_its_steps(self, book: Workbook, width: int) -> None:
        class Wider(Agent):
            @torpor.on("both")
            async def both(self) -> None:
                await weigh("before")
                await torpor.gather(*(look(name) for name in "abc"[:width]))

        await die(Walker(book), "both", at("step.recorded", 3))
        calls.clear()
        with reopened(book) as after:
            error = await resumed(after, Wider)
            assert (error.recorded, error.asked) == ("a gather of 2", f"a gather of {width}")
            assert calls == []

    async def test_a_gather_in_the_place_of_a_step_is_refused(self, book: Workbook) -> None:
        class Eager(Agent):
            @torpor.on("walk")
            async def walk(self) -> None:
                await torpor.gather(look("c"))

        await die(Walker(book), "walk", at("step.recorded", 1))
        with reopened(book) as after:
            error = await resumed(after, Eager)
            assert error.asked == "a gather of 1"

    async def test_a_branch_that_passes_a_step_by_keeps_what_follows_from_being_recorded(self, book: Workbook) -> None:
        async def two(name: str) -> str:
            await look(name)
            return await look(name)

        class Long(Agent):
            @torpor.on("go")
            async def go(self) -> None:
                await torpor.gather(two("a"), two("b"))
                await weigh("end")

        class Short(Agent):
            @torpor.on("go")
            async def go(self) -> None:
                await torpor.gather(look("a"), two("b"))
                await weigh("other end")

        await die(Long(book), "go", at("step.recorded", 4))
        with reopened(book) as after:
            error = await resumed(after, Short)
            assert error.position == "0.0.1"
            (outcome,) = await Long(after).resume()
            assert outcome.error is None

    async def test_a_new_step_before_recorded_ones_is_refused(self, book: Workbook) -> None:
        class Empty(Agent):
            @torpor.on("go")
            async def go(self) -> None:
                await torpor.gather()
                await weigh("x")

        class Filled(Agent):
            @torpor.on("go")
            async def go(self) -> None:
                await weigh("new")
                await weigh("x")

        await die(Empty(book), "go", at("step.recorded"))
        with reopened(book) as after:
            await resumed(after, Filled)
            (outcome,) = await Empty(after).resume()
            assert outcome.error is None

    async def test_a_local_call_in_the_place_of_a_gather_is_refused_before_it_is_done(self, book: Workbook) -> None:
        class Local(Agent):
            @torpor.on("both")
            async def both(self) -> None:
                await weigh("before")
                self.memory.remember("new")

        await die(Walker(book), "both", at("step.recorded", 3))
        with reopened(book) as after:
            await resumed(after, Local)
            assert "memory.kept" not in kinds(after)

    async def test_code_that_swallows_it_and_goes_on_records_nothing(self, book: Workbook) -> None:
        class Deaf(Agent):
            @torpor.on("walk")
            async def walk(self, first: str = "a", second: str = "b") -> int:
                for _ in range(3):
                    try:
                        await weigh("other")
                    except Exception:  # noqa: BLE001, S110  (what is tested is that this is no use)
                        pass
                    except BaseException:  # noqa: BLE001, S110  (and this)
                        pass
                return 7

        await die(Walker(book), "walk", at("step.recorded", 2))
        with reopened(book) as after:
            await resumed(after, Deaf)

    async def test_in_a_task_group_of_the_users_it_is_still_no_failure_of_the_run(self, book: Workbook) -> None:
        class Grouped(Agent):
            @torpor.on("walk")
            async def walk(self, first: str = "a", second: str = "b") -> int:
                async with anyio.create_task_group():
                    await weigh("other")
                return 0

        await die(Walker(book), "walk", at("step.recorded", 2))
        with reopened(book) as after:
            await resumed(after, Grouped)


class TestStrayTasks:
    async def test_a_step_in_a_task_that_the_run_did_not_start_is_refused(self, book: Workbook) -> None:
        class Stray(Agent):
            @torpor.on("go")
            async def go(self) -> str:
                try:
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(look, "x")
                except ExceptionGroup as group:
                    return str(group.exceptions[0])
                return ""

        assert "a task that its run didn't start" in await Stray(book).send("go")
        assert calls == []

    async def test_a_local_call_in_a_thread_is_refused(self, book: Workbook) -> None:
        class Threaded(Agent):
            @torpor.on("go")
            async def go(self) -> None:
                await anyio.to_thread.run_sync(self.memory.get, "x")

        with pytest.raises(NotInRun, match="in a thread"):
            await Threaded(book).send("go")

    async def test_a_task_that_outlives_its_run_records_nothing_more(self, book: Workbook) -> None:
        ended = anyio.Event()
        refused: list[NotInRun] = []

        async def late(agent: Agent) -> None:
            await ended.wait()
            try:
                agent.memory.remember("late")
            except NotInRun as error:
                refused.append(error)

        async with anyio.create_task_group() as tasks:

            class Leaver(Agent):
                @torpor.on("go")
                async def go(self) -> None:
                    tasks.start_soon(late, self)

            await Leaver(book).send("go")
            before = book.last
            ended.set()
        assert len(refused) == 1
        assert book.last == before

    async def test_what_is_called_in_a_copied_context_after_the_run_is_refused(self, book: Workbook) -> None:
        contexts: list[contextvars.Context] = []

        class Leaver(Agent):
            @torpor.on("go")
            async def go(self) -> None:
                contexts.append(contextvars.copy_context())

        agent = Leaver(book)
        await agent.send("go")
        with pytest.raises(NotInRun, match="after its run had ended"):
            contexts[0].run(agent.memory.remember, "late")
        assert kinds(book)[-1] == "run.completed"

    async def test_a_handler_that_sends_is_refused_for_a_replay_would_send_again(self, book: Workbook) -> None:
        class Sender(Walker):
            @torpor.on("go")
            async def go(self) -> None:
                await self.send("walk")

        with pytest.raises(StepRefused, match="a replay would send it again"):
            await Sender(book).send("go")

    async def test_a_step_in_an_open_transaction_is_refused_for_its_intent_would_not_be_certain(
        self, book: Workbook
    ) -> None:
        class Holder(Agent):
            @torpor.on("go")
            async def go(self) -> None:
                with self.book.transaction():
                    await look("x")

        with pytest.raises(torpor.TorporError, match="Don't await inside"):
            await Holder(book).send("go")
        assert calls == []

    async def test_nothing_of_the_run_is_left_in_the_context_after_it(self, book: Workbook) -> None:
        await Walker(book).send("walk")
        with pytest.raises(NotInRun):
            torpor.run()
        await look("plain")
        assert kinds(book)[-1] == "run.completed"

    async def test_an_async_generator_in_a_handler_takes_its_steps_in_order(self, book: Workbook) -> None:
        async def several() -> AsyncIterator[str]:
            for name in "abc":
                yield await look(name)

        class Streaming(Agent):
            @torpor.on("go")
            async def go(self) -> list[str]:
                return [seen async for seen in several()]

        await die(Streaming(book), "go", at("step.recorded", 2))
        with reopened(book) as after:
            (outcome,) = await Streaming(after).resume()
            assert outcome.result == ["a", "b", "c"]
            assert calls == ["look a", "look b", "look c"]


class TestInterruption:
    async def test_cancellation_from_outside_leaves_the_run_to_be_resumed(self, book: Workbook) -> None:
        begun = anyio.Event()

        @torpor.step
        async def wait_once() -> str:
            calls.append("wait")
            if len(calls) == 1:
                begun.set()
                await anyio.sleep_forever()
            return "done"

        class Waiter(Agent):
            @torpor.on("wait")
            async def wait(self) -> str:
                try:
                    return await wait_once()
                except BaseException:  # noqa: BLE001  (what its code makes of the end of the process is not its result)
                    return "swallowed"

        agent = Waiter(book)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(agent.send, "wait")
            await begun.wait()
            tasks.cancel_scope.cancel()
        assert kinds(book) == ["run.started", "step.intended"]
        (outcome,) = await agent.resume()
        assert outcome.result == "done"

    async def test_a_run_that_is_going_on_is_not_resumed_by_another_object_of_its_agent(self, book: Workbook) -> None:
        begun, go = anyio.Event(), anyio.Event()

        @torpor.step
        async def wait() -> str:
            calls.append("wait")
            begun.set()
            await go.wait()
            return "done"

        class Waiter(Agent):
            @torpor.on("wait")
            async def wait(self) -> str:
                return await wait()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Waiter(book).send, "wait")
            await begun.wait()
            assert await Waiter(book).resume() == []
            go.set()
        assert calls == ["wait"]

    async def test_two_resumes_at_once_run_each_run_once(self, book: Workbook) -> None:
        for _ in range(3):
            await die(Walker(book), "walk", at("step.recorded", 1))
        calls.clear()
        with reopened(book) as after:
            agent = Walker(after)
            both = await torpor.gather(agent.resume(), agent.resume())
            assert sorted(len(part) for part in both) in ([0, 3], [1, 2])
            assert calls == ["look b", "weigh aab"] * 3 or sorted(calls) == sorted(["look b", "weigh aab"] * 3)
            assert all(info.state == "completed" for info in agent.runs())


async def test_a_resume_passes_over_what_another_has_finished_meanwhile(book: Workbook) -> None:
    @torpor.step
    async def pause(seconds: float) -> None:
        await anyio.sleep(seconds)

    class Pauser(Agent):
        @torpor.on("pause")
        async def pause(self, seconds: float) -> None:
            await pause(seconds)

    for seconds in (0.1, 0.0, 0.0):
        await die(Pauser(book), "pause", at("run.started"), seconds=seconds)
    with reopened(book) as after:
        agent = Pauser(after)
        assert [len(part) for part in await torpor.gather(agent.resume(), agent.resume())] == [1, 2]
        assert kinds(after).count("run.completed") == kinds(after).count("run.resumed") == 3


async def test_a_run_error_is_none_of_the_handlers_failures(book: Workbook) -> None:
    await die(Walker(book), "walk", at("step.recorded", 2))
    with reopened(book) as after:
        (outcome,) = await other()(after).resume()
        assert isinstance(outcome.error, RunError)
        assert outcome.run == only_run(Walker(after))
