"""The world sees an effect once, whatever dies between doing it and recording it."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from tests.unit.runtime.lab import Death, at, die, dying, kinds, only_run, receipts, reopened, steps

import torpor
from torpor import Agent, EffectRefused, Happened, StepFailed, UnknownOutcome, Workbook
from torpor.base.errors import EventRefused, KeyReused, NotRecordable, SettleRefused, StepRefused
from torpor.runtime import runs_in, settle, waiting

pytestmark = pytest.mark.anyio


class World:
    """What the effects do, and how it behaves."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.probed = 0
        self.trouble: Exception | None = None
        self.probe_trouble: Exception | None = None
        self.answer: object = ...
        self.hold: anyio.Event | None = None


world = World()  # each test begins with a new one: see conftest.py


async def act(text: str, key: str) -> str:
    if world.hold is not None:
        await world.hold.wait()
    world.seen.append(key)
    await anyio.lowlevel.checkpoint()
    if world.trouble is not None:
        trouble, world.trouble = world.trouble, None
        raise trouble
    return f"{text}!"


async def probe(text: str, *, key: str) -> Happened[str] | None:
    world.probed += 1
    if world.probe_trouble is not None:
        raise world.probe_trouble
    if world.answer is not ...:
        return world.answer  # type: ignore[return-value]  # what a careless probe says
    return Happened(f"{text}, seen") if key in world.seen else None


@torpor.effect(on_unknown="retry", retries=2)
async def retried(text: str, *, key: str) -> str:
    return await act(text, key)


@torpor.effect(on_unknown="check", check=probe, retries=1)
async def checked(text: str, *, key: str) -> str:
    return await act(text, key)


@torpor.effect(on_unknown="ask")
async def asked(text: str, *, key: str) -> str:
    return await act(text, key)


@torpor.effect(on_unknown="retry", retries=3)
async def unfit(text: str, *, key: str) -> object:
    world.seen.append(key)
    return object()


EFFECTS: dict[str, Any] = {"retried": retried, "checked": checked, "asked": asked, "unfit": unfit}


class Poster(Agent):
    @torpor.on("post")
    async def post(self, how: str, text: str = "hi", key: str = "k") -> str:
        result: str = await EFFECTS[how](text, key=key)
        return result

    @torpor.on("twice")
    async def twice(self, how: str, keys: list[str]) -> list[str]:
        return await torpor.gather(*(self.post(how, key=key) for key in keys))

    @torpor.on("stubborn")
    async def stubborn(self, how: str) -> str:
        for _ in range(3):
            try:
                return await self.post(how)
            except Exception:  # noqa: BLE001, S110  (what is tested is that this is no use)
                pass
            except BaseException:  # noqa: BLE001, S110  (and this)
                pass
        return "went on"


class TestKeys:
    async def test_a_key_is_used_once_for_ever_across_runs(self, book: Workbook) -> None:
        agent = Poster(book)
        assert await agent.send("post", how="retried") == "hi!"
        assert await agent.send("post", how="retried") == "hi!"
        assert world.seen == ["k"]
        assert receipts(book) == [("0", "retried", "effect.completed")] * 2

    async def test_the_same_key_with_other_arguments_is_refused_and_nothing_is_done(self, book: Workbook) -> None:
        agent = Poster(book)
        await agent.send("post", how="retried", text="one")
        with pytest.raises(KeyReused):
            await agent.send("post", how="retried", text="two")
        assert world.seen == ["k"]
        assert kinds(book)[-1] == "run.failed"

    async def test_a_refused_key_that_the_code_survives_is_refused_again_at_replay(self, book: Workbook) -> None:
        class Survivor(Poster):
            @torpor.on("survive")
            async def survive(self) -> list[str]:
                said = []
                for text, key in (("one", "k"), ("two", "k"), ("x", "bad\nkey"), ("three", "l")):
                    try:
                        said.append(await retried(text, key=key))
                    except (KeyReused, EventRefused) as error:
                        said.append(type(error).__name__)
                return said

        await die(Survivor(book), "survive", at("effect.recorded", 2))
        with reopened(book) as after:
            (outcome,) = await Survivor(after).resume()
            assert outcome.result == ["one!", "KeyReused", "EventRefused", "three!"]
            assert world.seen == ["k", "l"]

    async def test_two_branches_with_one_key_do_it_once(self, book: Workbook) -> None:
        assert await Poster(book).send("twice", how="retried", keys=["k"] * 4) == ["hi!"] * 4
        assert world.seen == ["k"]
        assert len(receipts(book)) == 4

    async def test_two_runs_at_once_with_one_key_do_it_once(self, book: Workbook) -> None:
        world.hold = anyio.Event()
        agent = Poster(book)
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(lambda: agent.send("post", how="asked"))
            await anyio.wait_all_tasks_blocked()
            world.hold.set()
        assert world.seen == ["k"]
        assert [info.state for info in agent.runs()] == ["completed"] * 3

    @pytest.mark.parametrize("key", [5, None])
    async def test_a_key_that_is_no_text_is_refused(self, book: Workbook, key: object) -> None:
        class Odd(Agent):
            @torpor.on("post")
            async def post(self) -> str:
                return await retried("x", key=key)  # type: ignore[arg-type]  # what is refused

        with pytest.raises(StepRefused, match="its key must be text"):
            await Odd(book).send("post")
        assert world.seen == []

    def test_an_effect_without_a_proper_key_or_policy_is_refused(self) -> None:
        async def no_key() -> None: ...
        async def default_key(*, key: str = "k") -> None: ...
        async def fine(*, key: str) -> None: ...

        for function, policy, check in (
            (no_key, "retry", None),
            (default_key, "retry", None),
            (fine, "check", None),
            (fine, "ask", probe),
            (fine, "perhaps", None),
        ):
            with pytest.raises(StepRefused):
                torpor.effect(on_unknown=policy, check=check)(function)  # type: ignore[arg-type]  # what is refused

    async def test_a_receipt_fits_under_the_longest_key_that_an_intent_fits_under(self, book: Workbook) -> None:
        key = "k" * (512 - len("effect:retried:"))
        assert await Poster(book).send("post", how="retried", key=key) == "hi!"
        with pytest.raises(EventRefused):
            await Poster(book).send("post", how="retried", key=key + "k")


class TestCrash:
    """Died after the world saw it and before the receipt: the policy decides."""

    @pytest.mark.parametrize(("point", "seen"), [("effect.intended", 1), ("effect.performed", 2)])
    async def test_retry_does_it_again(self, book: Workbook, point: str, seen: int) -> None:
        await die(Poster(book), "post", at(point), how="retried")
        with reopened(book) as after:
            (outcome,) = await Poster(after).resume()
            assert outcome.result == "hi!"
            assert world.seen == ["k"] * seen

    @pytest.mark.parametrize(
        ("point", "result"), [("effect.intended", "hi!"), ("effect.performed", "hi, seen"), ("effect.recorded", "hi!")]
    )
    async def test_check_asks_the_world_and_does_it_only_if_it_has_not_happened(
        self, book: Workbook, point: str, result: str
    ) -> None:
        await die(Poster(book), "post", at(point), how="checked")
        with reopened(book) as after:
            (outcome,) = await Poster(after).resume()
            assert outcome.result == result
            assert world.seen == ["k"]

    @pytest.mark.parametrize("answer", [True, Happened(5), Happened(object())])
    async def test_a_probe_that_talks_nonsense_parks_the_run(self, book: Workbook, answer: object) -> None:
        world.answer = answer
        await die(Poster(book), "post", at("effect.performed"), how="checked")
        with reopened(book) as after:
            (outcome,) = await Poster(after).resume()
            assert isinstance(outcome.error, UnknownOutcome)
            assert "probe" in outcome.error.reason

    async def test_what_is_cancelled_while_the_probe_runs_is_not_done_any_more(self, book: Workbook) -> None:
        async def slow_probe(*, key: str) -> None:
            torpor.run().cancel("enough")

        @torpor.effect(on_unknown="check", check=slow_probe)
        async def act_at_once(*, key: str) -> None:
            world.seen.append(key)

        class Actor(Agent):
            @torpor.on("act")
            async def act(self) -> None:
                await act_at_once(key="k")

        await die(Actor(book), "act", at("effect.intended"))
        with reopened(book) as after:
            (outcome,) = await Actor(after).resume()
            assert isinstance(outcome.error, torpor.RunCancelled)
            assert world.seen == []

    async def test_a_probe_that_raises_parks_the_run(self, book: Workbook) -> None:
        world.probe_trouble = OSError("no route")
        await die(Poster(book), "post", at("effect.performed"), how="checked")
        with reopened(book) as after:
            (outcome,) = await Poster(after).resume()
            assert isinstance(outcome.error, UnknownOutcome)
            assert "OSError: no route" in outcome.error.reason

    async def test_what_one_run_left_in_doubt_another_brings_about_and_the_first_takes_over(
        self, book: Workbook
    ) -> None:
        await die(Poster(book), "post", at("effect.intended"), how="retried")
        with reopened(book) as after:
            agent = Poster(after)
            assert await agent.send("post", how="retried") == "hi!"
            (outcome,) = await agent.resume()
            assert outcome.result == "hi!"
            assert world.seen == ["k"]

    async def test_a_run_that_waited_for_another_takes_its_receipt_and_does_not_do_it_again(
        self, book: Workbook
    ) -> None:
        await die(Poster(book), "post", at("effect.intended"), how="retried")
        with reopened(book) as after, dying(at("effect.intended")), pytest.raises(Death):
            await Poster(after).send("post", how="retried")
        with Workbook.open(book.path) as after:
            outcomes = await Poster(after).resume()
            assert [outcome.result for outcome in outcomes] == ["hi!", "hi!"]
            assert world.seen == ["k"]


class TestExceptions:
    async def test_retry_does_it_again_after_an_exception(self, book: Workbook) -> None:
        world.trouble = TimeoutError("slow")
        assert await Poster(book).send("post", how="retried") == "hi!"
        assert world.seen == ["k", "k"]
        (attempt,) = [event for event in steps(book) if event.kind == "effect.attempted"]
        assert attempt.body["detail"] == "slow"

    async def test_check_asks_the_world_after_an_exception(self, book: Workbook) -> None:
        world.trouble = ConnectionError("cut")
        assert await Poster(book).send("post", how="checked") == "hi, seen"
        assert (world.seen, world.probed) == (["k"], 1)

    async def test_ask_parks_after_an_exception(self, book: Workbook) -> None:
        world.trouble = ConnectionError("cut")
        with pytest.raises(UnknownOutcome, match="ConnectionError: cut"):
            await Poster(book).send("post", how="asked")

    @pytest.mark.parametrize("how", ["retried", "checked", "asked"])
    async def test_a_refusal_of_the_world_is_a_plain_failure_at_once(self, book: Workbook, how: str) -> None:
        world.trouble = EffectRefused(reason="bad address")
        with pytest.raises(StepFailed, match="bad address") as caught:
            await Poster(book).send("post", how=how)
        assert (caught.value.kind, caught.value.attempts) == ("EffectRefused", 1)
        assert (len(world.seen), world.probed) == (1, 0)
        with pytest.raises(StepFailed, match="bad address"):
            await Poster(book).send("post", how=how)
        assert len(world.seen) == 1

    async def test_a_result_that_cannot_be_recorded_does_not_make_it_happen_again(self, book: Workbook) -> None:
        with pytest.raises(StepFailed) as caught:
            await Poster(book).send("post", how="unfit")
        assert caught.value.kind == NotRecordable.__name__
        assert world.seen == ["k"]


@pytest.fixture
async def parked(book: Workbook) -> Workbook:
    world.trouble = ConnectionError("cut")
    with pytest.raises(UnknownOutcome):
        await Poster(book).send("post", how="asked")
    return book


class TestSettling:
    async def test_a_parked_run_does_nothing_until_it_is_settled(self, parked: Workbook) -> None:
        before = parked.last
        assert await Poster(parked).resume() == []
        assert parked.last == before
        (info,) = runs_in(parked)
        assert info.state == "parked"
        assert waiting(parked, info) == {"name": "asked", "key": "k", "reason": "ConnectionError: cut"}

    async def test_settled_as_happened_it_goes_on_with_that_result(self, parked: Workbook) -> None:
        agent = Poster(parked)
        assert agent.settle("k", Happened("by hand")) == only_run(agent)
        (outcome,) = await agent.resume()
        assert outcome.result == "by hand"
        assert world.seen == ["k"]

    async def test_settled_as_not_happened_it_is_done(self, parked: Workbook) -> None:
        agent = Poster(parked)
        agent.settle("k", None)
        (outcome,) = await agent.resume()
        assert outcome.result == "hi!"
        assert world.seen == ["k", "k"]

    async def test_that_verdict_is_used_up_by_one_attempt(self, parked: Workbook) -> None:
        agent = Poster(parked)
        agent.settle("k", None)
        world.trouble = ConnectionError("again")
        (outcome,) = await agent.resume()
        assert isinstance(outcome.error, UnknownOutcome)
        assert await agent.resume() == []
        assert world.seen == ["k", "k"]

    async def test_a_crash_in_that_attempt_puts_it_in_doubt_again(self, parked: Workbook) -> None:
        Poster(parked).settle("k", None)
        with dying(at("effect.performed")), pytest.raises(Death):
            await Poster(parked).resume()
        with reopened(parked) as after:
            (outcome,) = await Poster(after).resume()
            assert isinstance(outcome.error, UnknownOutcome)
            assert world.seen == ["k", "k"]

    async def test_settling_twice_or_what_is_unknown_is_refused(self, parked: Workbook) -> None:
        settle(parked, "k", None)
        with pytest.raises(SettleRefused, match="settled already"):
            settle(parked, "k", None)
        with pytest.raises(SettleRefused, match="no parked run"):
            settle(parked, "other", None)
        await Poster(parked).resume()
        with pytest.raises(SettleRefused, match="no parked run"):
            settle(parked, "k", None)

    async def test_a_result_of_the_wrong_type_parks_it_again(self, parked: Workbook) -> None:
        agent = Poster(parked)
        agent.settle("k", Happened(17))
        (outcome,) = await agent.resume()
        assert isinstance(outcome.error, UnknownOutcome)
        agent.settle("k", Happened("fits"))
        (outcome,) = await agent.resume()
        assert outcome.result == "fits"

    async def test_a_large_result_can_be_settled(self, parked: Workbook) -> None:
        agent = Poster(parked)
        agent.settle("k", Happened("x" * 1_000_000))
        (outcome,) = await agent.resume()
        assert len(outcome.result) == 1_000_000

    async def test_two_effects_of_one_run_in_doubt_are_settled_one_by_one(self, book: Workbook) -> None:
        class Wave(Exception):
            pass

        @torpor.effect(on_unknown="ask")
        async def fall(*, key: str) -> str:
            world.seen.append(key)
            await anyio.lowlevel.checkpoint()
            raise Wave

        class Two(Agent):
            @torpor.on("two")
            async def two(self) -> list[str]:
                return await torpor.gather(fall(key="a"), fall(key="b"))

        agent = Two(book)
        with pytest.raises(UnknownOutcome) as caught:
            await agent.send("two")
        (info,) = agent.runs()
        assert waiting(book, info)["key"] == caught.value.key == "a"
        agent.settle("b", Happened("B"))
        assert await agent.resume() == []
        agent.settle("a", Happened("A"))
        (outcome,) = await agent.resume()
        assert outcome.result == ["A", "B"]
        assert sorted(world.seen) == ["a", "b"]

    async def test_when_two_runs_wait_for_one_effect_one_verdict_is_enough(self, parked: Workbook) -> None:
        agent = Poster(parked)
        with pytest.raises(UnknownOutcome):
            await agent.send("post", how="asked")
        agent.settle("k", Happened("by hand"))
        outcomes = await agent.resume()
        assert [outcome.result for outcome in outcomes] == ["by hand", "by hand"]

    async def test_parking_cannot_be_swallowed(self, book: Workbook) -> None:
        world.trouble = ConnectionError("cut")
        with pytest.raises(UnknownOutcome):
            await Poster(book).send("stubborn", how="asked")
        assert kinds(book)[-1] == "run.parked"
        assert kinds(book).count("run.parked") == 1
        assert world.seen == ["k"]

    async def test_a_branch_that_waits_for_the_same_key_stops_with_the_run(self, book: Workbook) -> None:
        world.trouble = ConnectionError("cut")
        with pytest.raises(UnknownOutcome):
            await Poster(book).send("twice", how="asked", keys=["k", "k"])
        assert kinds(book).count("effect.unknown") == 1
        assert world.seen == ["k"]

    async def test_parked_within_a_task_group_of_the_users(self, book: Workbook) -> None:
        class Grouped(Poster):
            @torpor.on("grouped")
            async def grouped(self) -> str:
                async with anyio.create_task_group():
                    said = [await asked("hi", key="k")]
                return said[0]

        world.trouble = ConnectionError("cut")
        with pytest.raises(UnknownOutcome):
            await Grouped(book).send("grouped")
        assert kinds(book)[-1] == "run.parked"
