"""For how long each agent holds the event loop is counted, and nothing else changes for who is counted."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from anyio import to_thread

import torpor
from torpor.node.meter import Account, Meter, Metered, account_here

pytestmark = pytest.mark.anyio

US = 1_000


class Tick:
    """A clock that whoever works moves on."""

    def __init__(self) -> None:
        self.now = 0
        self.looks = 0

    def __call__(self) -> int:
        self.looks += 1
        return self.now

    def work(self, us: int) -> None:
        self.now += us * US


@pytest.fixture
def tick() -> Tick:
    return Tick()


@pytest.fixture
async def meter(tick: Tick) -> AsyncIterator[Meter]:
    with Meter(tick) as meter:
        yield meter


async def turns(tick: Tick, *us: int) -> None:
    """Work for some µs in each of several turns."""
    for length in us[:-1]:
        tick.work(length)
        await asyncio.sleep(0)
    tick.work(us[-1])


async def test_what_an_agent_does_in_its_turns_is_added_up(meter: Meter, tick: Tick) -> None:
    ada, bob = meter.open("agent:ada"), meter.open("agent:bob")

    await asyncio.gather(
        meter.start(ada, turns(tick, 5, 7), name="ada"), meter.start(bob, turns(tick, 100, 1, 1), name="bob")
    )

    assert (ada.busy_ns, ada.turns) == (12 * US, 2)
    assert (bob.busy_ns, bob.turns) == (102 * US, 3)


async def test_who_waits_is_not_busy(meter: Meter, tick: Tick) -> None:
    ada = meter.open("agent:ada")
    done = asyncio.Event()

    async def wait() -> None:
        tick.work(1)
        await done.wait()
        tick.work(2)

    task = meter.start(ada, wait(), name="ada")
    await anyio.lowlevel.checkpoint()
    tick.work(1_000_000)
    assert (ada.busy_ns, meter.busy_ns(ada)) == (1 * US, 1 * US)
    done.set()
    await task

    assert ada.busy_ns == 3 * US


async def test_what_an_agents_task_begins_counts_as_the_agents(meter: Meter, tick: Tick) -> None:
    ada = meter.open("agent:ada")

    async def handler() -> None:
        tick.work(1)
        await torpor.gather(turns(tick, 10), turns(tick, 20, 30))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(turns, tick, 100)
        await asyncio.create_task(turns(tick, 1_000))

    await meter.start(ada, handler(), name="ada")

    assert ada.busy_ns == 1_161 * US
    assert ada.tasks == 0


async def test_what_is_begun_in_a_context_of_its_own_counts_by_that(meter: Meter, tick: Tick) -> None:
    ada = meter.open("agent:ada")
    nobodys = contextvars.copy_context()

    async def handler() -> None:
        tick.work(1)
        await asyncio.create_task(turns(tick, 50), context=nobodys)

    await meter.start(ada, handler(), name="ada")

    assert ada.busy_ns == 1 * US


async def test_an_agents_task_has_nothing_of_who_woke_it(meter: Meter) -> None:
    wakers: contextvars.ContextVar[str] = contextvars.ContextVar("wakers", default="nothing")
    ada, bob = meter.open("agent:ada"), meter.open("agent:bob")

    async def bobs() -> tuple[str, Account | None]:
        return wakers.get(), account_here.get()

    async def adas() -> tuple[str, Account | None]:
        wakers.set("something")
        return await meter.start(bob, bobs(), name="bob")

    assert await meter.start(ada, adas(), name="ada") == ("nothing", bob)


async def test_the_nodes_own_tasks_are_not_touched(meter: Meter, tick: Tick) -> None:
    task = asyncio.create_task(turns(tick, 1, 2))
    assert not isinstance(task.get_coro(), Metered)
    tick.looks = 0

    await task

    assert tick.looks == 0


async def test_a_turn_costs_two_looks_at_the_clock(meter: Meter, tick: Tick) -> None:
    ada = meter.open("agent:ada")
    task = meter.start(ada, turns(tick, *[1] * 500), name="ada")
    tick.looks = 0

    await task

    assert ada.turns == 500
    assert tick.looks == 1_000


async def test_a_turn_within_a_turn_counts_once(meter: Meter, tick: Tick) -> None:
    """An eager task runs in its starter's turn. Here one turn is had within another by hand, in every Python."""
    ada, bob = meter.open("agent:ada"), meter.open("agent:bob")

    async def inner() -> None:
        tick.work(10)

    async def outer() -> None:
        tick.work(1)
        with pytest.raises(StopIteration):
            Metered(inner(), bob, meter).send(None)
        tick.work(2)
        assert meter.running is not None
        assert meter.running.account is ada

    await meter.start(ada, outer(), name="ada")

    assert (ada.busy_ns, bob.busy_ns) == (3 * US, 10 * US)
    assert meter.running is None


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks are begun eagerly from Python 3.12")
async def test_eager_tasks_count_once(tick: Tick) -> None:
    loop = asyncio.get_running_loop()
    factory = getattr(asyncio, "eager_task_factory")  # noqa: B009  (older Pythons don't have it)
    loop.set_task_factory(factory)
    try:
        with Meter(tick) as meter:
            ada = meter.open("agent:ada")

            async def handler() -> None:
                tick.work(1)
                await asyncio.create_task(turns(tick, 10, 10))

            await meter.start(ada, handler(), name="ada")
            assert ada.busy_ns == 21 * US
    finally:
        loop.set_task_factory(None)


async def test_results_errors_and_cancellation_pass_as_they_are(meter: Meter) -> None:
    ada = meter.open("agent:ada")

    async def give() -> int:
        await asyncio.sleep(0)
        return 42

    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError("no")

    async def stay() -> str:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return "stayed"
        return "slept"

    assert await meter.start(ada, give(), name="1") == 42
    with pytest.raises(LookupError, match="no"):
        await meter.start(ada, fail(), name="2")
    task = meter.start(ada, stay(), name="3")
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "stayed"
    never = meter.start(ada, give(), name="4")
    never.cancel()
    with pytest.raises(asyncio.CancelledError):
        await never
    assert ada.tasks == 0


async def test_scopes_and_deadlines_work_for_who_is_counted(meter: Meter) -> None:
    """anyio asks the task's coroutine whether it has begun, and delivers a cancellation only then."""
    ada = meter.open("agent:ada")
    ended = []

    async def sleeper() -> None:
        try:
            await anyio.sleep(3600)
        finally:
            ended.append("sleeper")

    async def handler() -> str:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sleeper)
                await anyio.lowlevel.checkpoint()
                scope.cancel()
        with anyio.move_on_after(0.001) as late:
            await anyio.sleep(3600)
        assert late.cancelled_caught
        return await to_thread.run_sync(lambda: "from a thread")

    assert await meter.start(ada, handler(), name="ada") == "from a thread"
    assert ended == ["sleeper"]
    assert ada.tasks == 0


async def test_a_coroutine_looks_like_itself(meter: Meter) -> None:
    ada = meter.open("agent:ada")

    async def handler() -> None:
        await asyncio.sleep(3600)

    task = meter.start(ada, handler(), name="agent:ada")
    coroutine = task.get_coro()
    assert isinstance(coroutine, Metered)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED
    await asyncio.sleep(0)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_SUSPENDED
    assert "handler" in repr(task)
    assert [frame.f_code.co_name for frame in task.get_stack()] == ["handler"]
    assert task.get_name() == "agent:ada"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


async def test_a_run_is_counted_with_all_its_branches(meter: Meter, tick: Tick, tmp_path: Path) -> None:
    class Ada(torpor.Agent):
        @torpor.on("work")
        async def work(self, us: list[int]) -> int:
            tick.work(1)
            return sum(await torpor.gather(*(one(us_) for us_ in us)))

    @torpor.step()
    async def one(us: int) -> int:
        await anyio.lowlevel.checkpoint()
        tick.work(us)
        return us

    ada = meter.open("agent:ada")
    with torpor.Workbook.open(tmp_path / "ada.workbook") as book:
        assert await meter.start(ada, Ada(book).send("work", us=[10, 20, 30]), name="ada") == 60

    assert ada.busy_ns == 61 * US
    assert ada.turns >= 6


# --- what other threads see -------------------------------------------------------------------------------------------


async def test_a_thread_sees_who_holds_the_loop_while_it_is_held(tick: Tick) -> None:
    ada_works, seen = threading.Event(), threading.Event()
    found: list[tuple[str, int]] = []

    with Meter(tick) as meter:
        ada = meter.open("agent:ada")

        async def hold() -> None:
            tick.work(250)
            ada_works.set()
            assert seen.wait(60)

        def look() -> None:
            assert ada_works.wait(60)
            running = meter.running
            found.append((running.account.label if running else "", meter.busy_ns(ada)))
            seen.set()

        thread = threading.Thread(target=look)
        thread.start()
        await meter.start(ada, hold(), name="ada")
        thread.join()

    assert found == [("agent:ada", 250 * US)]


async def test_a_thread_never_sees_a_turn_twice() -> None:
    """No account has ever been busy for longer than time has passed, whenever it is looked at."""
    over = threading.Event()
    wrong: list[tuple[int, int]] = []
    looks = 0

    with Meter() as meter:
        ada = meter.open("agent:ada")
        began = meter.tick()

        def look() -> None:
            nonlocal looks
            while not over.is_set():
                busy = meter.busy_ns(ada)
                passed = meter.tick() - began
                looks += 1
                if busy > passed:
                    wrong.append((busy, passed))

        async def spin() -> None:
            for _ in range(20_000):
                await asyncio.sleep(0)

        thread = threading.Thread(target=look)
        thread.start()
        await meter.start(ada, spin(), name="ada")
        over.set()
        thread.join()

    assert wrong == []
    assert looks


# --- what is left -----------------------------------------------------------------------------------------------------


async def test_an_account_goes_with_its_last_task(meter: Meter) -> None:
    ada, bob = meter.open("agent:ada"), meter.open("agent:bob")
    done = asyncio.Event()
    left = meter.start(ada, done.wait(), name="left over")
    await asyncio.sleep(0)

    meter.close(ada)
    meter.close(bob)
    assert meter.left() == [ada]
    assert (ada.closed, ada.tasks) == (True, 1)
    done.set()
    await left

    assert meter.left() == []


async def test_a_task_that_was_dropped_does_not_stay(meter: Meter) -> None:
    """The loop itself keeps no task alive that waits for something which nobody else has."""
    loop = asyncio.get_running_loop()
    told = []
    loop.set_exception_handler(lambda _, context: told.append(context["message"]))
    ada = meter.open("agent:ada")

    async def wait_for_nobody() -> None:
        await loop.create_future()

    task = meter.start(ada, wait_for_nobody(), name="ada")
    await asyncio.sleep(0)
    meter.close(ada)
    assert ada.tasks == 1
    del task
    gc.collect()
    loop.set_exception_handler(None)

    assert told == ["Task was destroyed but it is pending!"]
    assert ada.tasks == 0
    assert meter.left() == []


async def test_a_thousand_agents_that_came_and_went_leave_nothing(meter: Meter, tick: Tick) -> None:
    for number in range(1_000):
        account = meter.open(f"agent:{number}")
        await meter.start(account, turns(tick, 1), name="")
        meter.close(account)

    assert meter.left() == []
    assert meter.running is None


async def test_a_meter_within_another_counts_once(tick: Tick) -> None:
    with Meter(tick) as outer, Meter(tick) as inner:
        ada = inner.open("agent:ada")
        await inner.start(ada, turns(tick, 3, 4), name="ada")
        assert (ada.busy_ns, ada.turns) == (7 * US, 2)
        assert outer.left() == []


async def test_the_loop_is_given_back_as_it_was(tick: Tick) -> None:
    loop = asyncio.get_running_loop()
    made = []

    def factory(loop: asyncio.AbstractEventLoop, coroutine: object, **how: object) -> asyncio.Task[object]:
        made.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **how)  # type: ignore[arg-type]

    loop.set_task_factory(factory)  # type: ignore[arg-type]
    try:
        with Meter(tick) as meter:
            ada = meter.open("agent:ada")
            await meter.start(ada, turns(tick, 3), name="ada")
            assert isinstance(made[-1], Metered), "the factory that was there makes the task"
        assert loop.get_task_factory() is factory
        assert ada.busy_ns == 3 * US
    finally:
        loop.set_task_factory(None)


async def test_after_the_meter_nobody_is_counted_any_more(tick: Tick) -> None:
    with Meter(tick) as meter:
        ada = meter.open("agent:ada")
    token = account_here.set(ada)
    try:
        task = asyncio.create_task(turns(tick, 3))
    finally:
        account_here.reset(token)
    await task

    assert (ada.busy_ns, ada.turns) == (0, 0)


def test_an_account_is_small() -> None:
    """There is one for every active agent."""
    account = Account("agent:ada")

    assert not hasattr(account, "__dict__")
    assert sys.getsizeof(account) + sys.getsizeof(account._parts) < 256
