"""Sending, resuming, retrying and failing."""

# ruff: noqa: ARG002  (a handler takes what its message brings, wanted or not)

from __future__ import annotations

from typing import ClassVar

import anyio
import pytest
from tests.unit.runtime.lab import at, die, dying, kinds, only_death, reopened, steps

import torpor
from torpor import Agent, StepFailed, Workbook
from torpor.base.errors import (
    DurationRefused,
    HandlerUnknown,
    ModelRefused,
    NotRecordable,
    StepRefused,
    StorageFull,
    WorkbookClosed,
)
from torpor.runtime import Outcome

pytestmark = pytest.mark.anyio

calls: list[str] = []
trouble: list[Exception] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    calls.clear()
    trouble.clear()


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@torpor.step(retries=1)
async def risky(name: str) -> str:
    calls.append(name)
    if trouble:
        raise trouble.pop(0)
    return name


@torpor.step
async def bad(name: str) -> str:
    raise ValueError(name)


class Doer(Agent):
    made: ClassVar[int] = 3

    @torpor.on("do")
    async def do(self, name: str, times: int = 1) -> str:
        return await risky(name) * times

    @torpor.on("catch")
    async def catch(self) -> list[object]:
        try:
            await risky("x")
        except StepFailed as error:
            cause = error.__cause__ is None and error.__context__ is None
            return [error.name, error.kind, error.detail, error.attempts, cause]
        return []

    @torpor.on("several")
    async def several(self) -> list[str]:
        said = await torpor.gather(risky("a"), bad("b"), bad("c"), return_exceptions=True)
        try:
            await torpor.gather(risky("d"), bad("e"), bad("f"))
        except StepFailed as error:
            said = [*said, error]
        return [part.message if isinstance(part, StepFailed) else str(part) for part in said]


class TestSend:
    @pytest.mark.parametrize(
        ("message", "given", "error"),
        [
            ("nothing", {}, HandlerUnknown),
            ("do", {}, StepRefused),
            ("do", {"name": "x", "more": 1}, StepRefused),
            ("do", {"name": 5}, NotRecordable),
            ("do", {"name": "x", "times": "1"}, NotRecordable),
            ("do", {"name": print}, NotRecordable),
            ("do", {"name": "x", "self": 1}, StepRefused),
        ],
    )
    async def test_a_message_that_cannot_be_handled_is_refused_and_nothing_is_recorded(
        self, book: Workbook, message: str, given: dict[str, object], error: type[Exception]
    ) -> None:
        with pytest.raises(error):
            await Doer(book).send(message, **given)
        assert book.last == 0

    async def test_a_method_that_was_overridden_handles_the_message(self, book: Workbook) -> None:
        class Child(Doer):
            async def do(self, name: str, times: int = 1) -> str:
                return "child"

        assert await Child(book).send("do", name="x") == "child"
        assert Child.made == 3

    def test_what_can_be_no_handler_or_step_is_refused(self) -> None:
        def plain() -> None: ...

        with pytest.raises(StepRefused):
            torpor.on("x")(plain)  # type: ignore[arg-type]  # what is refused
        with pytest.raises(StepRefused):
            torpor.step(plain)  # type: ignore[arg-type]  # what is refused
        with pytest.raises(StepRefused):
            torpor.step(retries=-1)(risky.function)
        with pytest.raises(StepRefused):
            torpor.step(name="two words")(risky.function)
        with pytest.raises(DurationRefused):
            torpor.step(timeout="soon")(risky.function)

    async def test_a_limit_of_nothing_is_refused_and_the_coroutines_are_closed(self) -> None:
        with pytest.raises(StepRefused):
            await torpor.gather(risky("x"), limit=0)

    async def test_a_limit_holds(self, book: Workbook) -> None:
        most, now = [0], [0]

        @torpor.step
        async def count(number: int) -> int:
            now[0] += 1
            most[0] = max(most[0], now[0])
            await anyio.sleep(0.001)
            now[0] -= 1
            return number

        class Counter(Agent):
            @torpor.on("count")
            async def count(self) -> list[int]:
                return await torpor.gather(*map(count, range(9)), limit=2)

        assert await Counter(book).send("count") == list(range(9))
        assert most == [2]


class TestFailures:
    async def test_it_is_tried_again_and_every_attempt_is_recorded(self, book: Workbook) -> None:
        trouble.append(OSError("busy"))
        assert await Doer(book).send("do", name="x") == "x"
        assert calls == ["x", "x"]
        attempt = steps(book)[1]
        assert attempt.kind == "step.attempted"
        assert (attempt.body["error"], attempt.body["detail"]) == ("OSError", "busy")
        assert attempt.parent == steps(book)[0].seq

    async def test_what_cannot_go_better_is_not_tried_again(self, book: Workbook) -> None:
        trouble.append(ModelRefused(model="m", reason="the key is wrong"))
        with pytest.raises(StepFailed) as caught:
            await Doer(book).send("do", name="x")
        assert (caught.value.kind, caught.value.attempts, calls) == ("ModelRefused", 1, ["x"])

    async def test_attempts_survive_a_crash(self, book: Workbook) -> None:
        trouble.extend([OSError("busy"), OSError("busy still"), OSError("for ever")])
        with dying(at("append.committed", 2)), pytest.raises(BaseException) as caught:
            await Doer(book).send("do", name="x")
        assert only_death(caught.value)
        assert kinds(book)[-1] == "step.attempted"
        with reopened(book) as after:
            (outcome,) = await Doer(after).resume()
            assert isinstance(outcome.error, StepFailed)
            assert outcome.error.attempts == 2
            assert calls == ["x", "x"]

    @pytest.mark.parametrize(
        "error",
        [
            ValueError("why"),
            Unprintable(),
            OSError(2, "no \udcff such"),
            ExceptionGroup("g", [KeyError("k")]),
            ValueError("x" * 9_000),
        ],
        ids=["plain", "unprintable", "surrogate", "group", "long"],
    )
    async def test_a_failure_is_the_same_live_and_replayed(self, book: Workbook, error: Exception) -> None:
        trouble.extend([error, error])
        live = await Doer(book).send("catch")
        assert live[:2] == ["risky", type(error).__name__]
        assert live[3:] == [2, True]
        calls.clear()
        trouble.extend([error, error])
        await die(Doer(book), "catch", at("run.finishing"))
        with reopened(book) as after:
            (outcome,) = await Doer(after).resume()
            assert outcome.result == live
            assert len(calls) == 2

    async def test_in_a_gather_all_come_to_an_end_and_the_first_failure_by_place_is_raised(
        self, book: Workbook
    ) -> None:
        live = await Doer(book).send("several")
        assert live == [
            "a",
            "bad failed after 1 attempt(s): ValueError: b",
            "bad failed after 1 attempt(s): ValueError: c",
            "bad failed after 1 attempt(s): ValueError: e",
        ]
        await die(Doer(book), "several", at("run.finishing"))
        with reopened(book) as after:
            (outcome,) = await Doer(after).resume()
            assert outcome.result == live

    async def test_a_handler_that_raises_has_failed_for_good(self, book: Workbook) -> None:
        class Failing(Agent):
            @torpor.on("fail")
            async def fail(self) -> None:
                raise LookupError("nowhere")

        with pytest.raises(LookupError):
            await Failing(book).send("fail")
        assert [event.body for event in book.events() if event.kind == "run.failed"] == [
            {"error": "LookupError", "detail": "nowhere"}
        ]
        assert await Failing(book).resume() == []


class TestResume:
    async def test_the_oldest_comes_first_and_one_that_fails_does_not_keep_the_next(self, book: Workbook) -> None:
        for name in ("one", "two", "three"):
            await die(Doer(book), "do", at("step.intended"), name=name)
        trouble.extend([OSError("busy")] * 2)
        with reopened(book) as after:
            outcomes = await Doer(after).resume()
            assert [(type(o.error), o.result) for o in outcomes] == [
                (StepFailed, None),
                (type(None), "two"),
                (type(None), "three"),
            ]

    async def test_a_run_without_its_handler_or_with_other_parameters_waits_for_the_right_code(
        self, book: Workbook
    ) -> None:
        class Old(Agent):
            @torpor.on("do")
            async def do(self, number: int) -> int:
                return number

        class Empty(Agent):
            pass

        await die(Doer(book), "do", at("step.intended"), name="one")
        with reopened(book) as after:
            before = after.last
            for wrong, error in ((Empty, HandlerUnknown), (Old, StepRefused)):
                (outcome,) = await wrong(after).resume()
                assert isinstance(outcome, Outcome)
                assert isinstance(outcome.error, error)
            assert after.last == before
            (outcome,) = await Doer(after).resume()
            assert outcome.result == "one"


def fill_last_page(book: Workbook) -> None:
    """Append until there is no room; what is left on the last page takes a few events."""
    while True:
        book.append("note.added", {"text": "x" * 100})


class TestStorage:
    async def test_a_full_disk_leaves_the_run_unfinished_and_it_resumes_when_there_is_room(
        self, book: Workbook
    ) -> None:
        room = [0]

        @torpor.step
        async def grow(number: int) -> str:
            calls.append(str(number))
            if number == 2 and room[0] == 0:
                pages = book._store.db.pragma("page_count")
                book._store.db.pragma("max_page_count", pages)
            return str(number) * 100_000

        class Grower(Agent):
            @torpor.on("grow")
            async def grow(self) -> int:
                total = 0
                for number in range(5):
                    try:
                        total += len(await grow(number))
                    except Exception:  # noqa: BLE001  (code that goes on after a full disk is what is tested)
                        total -= 1
                return total

        agent = Grower(book)
        with pytest.raises(StorageFull):
            await agent.send("grow")
        assert calls == ["0", "1", "2"]
        assert [info.state for info in agent.runs()] == ["started"]
        room[0] = 1
        book._store.db.pragma("max_page_count", 2**31 - 1)
        (outcome,) = await agent.resume()
        assert outcome.result == 500_000
        assert calls == ["0", "1", "2", "2", "3", "4"]

    async def test_a_step_that_meets_the_full_disk_itself_has_not_failed(self, book: Workbook) -> None:
        @torpor.step
        async def write() -> str:
            calls.append("write")
            if len(calls) == 1:
                book._store.db.pragma("max_page_count", book._store.db.pragma("page_count"))
                try:
                    fill_last_page(book)
                finally:
                    book._store.db.pragma("max_page_count", 2**31 - 1)
            return "written"

        class Writer(Agent):
            @torpor.on("write")
            async def write(self) -> str:
                return await write()

        with pytest.raises(StorageFull):
            await Writer(book).send("write")
        assert "step.failed" not in kinds(book)
        (outcome,) = await Writer(book).resume()
        assert outcome.result == "written"

    async def test_while_the_disk_is_full_resume_says_so(self, book: Workbook) -> None:
        await die(Doer(book), "do", at("step.intended"), name="one")
        with reopened(book) as after:
            pages = after._store.db.pragma("page_count")
            after._store.db.pragma("max_page_count", pages)
            with pytest.raises(StorageFull):
                fill_last_page(after)
            with pytest.raises(StorageFull):
                await Doer(after).resume()
            after._store.db.pragma("max_page_count", 2**31 - 1)
            (outcome,) = await Doer(after).resume()
            assert outcome.result == "one"

    async def test_a_workbook_closed_under_its_run_leaves_it_unfinished(self, book: Workbook) -> None:
        class Closer(Agent):
            @torpor.on("close")
            async def close(self) -> str:
                if torpor.run().attempt == 1:
                    self.book.close()
                return await risky("x")

        with pytest.raises(WorkbookClosed):
            await Closer(book).send("close")
        with Workbook.open(book.path) as again:
            (outcome,) = await Closer(again).resume()
            assert outcome.result == "x"
