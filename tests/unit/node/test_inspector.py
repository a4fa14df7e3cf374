"""The inspector names the agent that is drowning, shows what is left over, and harms nobody."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest
from anyio import to_thread
from tests.unit.workbook.kit import SetClock

from torpor.base.clock import MICROSECONDS
from torpor.base.errors import WindowRefused
from torpor.base.limits import INSPECT_ROWS_MAX, INSPECT_TASKS_MAX, STACK_FRAMES_MAX
from torpor.node import inspect as inspecting
from torpor.node.answers import ByKind, Look, Top
from torpor.node.cgroups import Cgroups
from torpor.node.inspect import By, Inspector
from torpor.node.inspected import Begun
from torpor.node.meter import Account, Meter
from torpor.node.processes import descriptors, usage
from torpor.node.stacks import Spot, chain

pytestmark = pytest.mark.anyio

US = 1_000


class Tick:
    """A clock that whoever works moves on."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now

    def work(self, us: int) -> None:
        self.now += us * US


class Box:
    """A mailbox that counts how often it is asked, and can't be walked through."""

    def __init__(self) -> None:
        self.messages: deque[int] = deque()
        self.asked = 0

    @property
    def depth(self) -> int:
        self.asked += 1
        return len(self.messages)

    @property
    def oldest(self) -> int | None:
        self.asked += 1
        return self.messages[0] if self.messages else None

    def __iter__(self) -> Iterator[int]:
        raise AssertionError("nobody walks through a mailbox")

    def __copy__(self) -> Box:
        raise AssertionError("nobody copies a mailbox")


@dataclass
class Worker:
    """An active agent: a real account, real tasks."""

    name: str
    account: Account
    tenant: str = ""
    state: str = "working"
    memory: int | None = None
    box: Box = field(default_factory=Box)
    awake: bool = True

    @property
    def mailbox(self) -> Box | None:
        return self.box if self.awake else None


class Node:
    """Active agents, subscriptions and processes."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.workers: dict[str, Worker] = {}
        self.follows: dict[str, int] = {}
        self.processes: list[Begun] = []

    def add(self, name: str, **how: Any) -> Worker:
        worker = self.workers[name] = Worker(name, self.meter.open(f"agent:{name}"), **how)
        return worker

    def active(self) -> list[Worker]:
        return list(self.workers.values())

    def by_owner(self) -> Mapping[str, int]:
        return dict(self.follows)

    def begun(self) -> Iterable[Begun]:
        return list(self.processes)


@pytest.fixture
def tick() -> Tick:
    return Tick()


@pytest.fixture
async def node(tick: Tick) -> AsyncIterator[Node]:
    with Meter(tick) as meter:
        yield Node(meter)


@pytest.fixture
def inspector(node: Node, clock: SetClock) -> Inspector:
    return Inspector(node.active, node.meter, clock=clock, subscriptions=node.by_owner, children=node.begun)


def names(top: Top) -> list[str]:
    return [load.agent for load in top.agents]


def start(worker: Worker, node: Node, work: Any) -> asyncio.Task[Any]:
    return node.meter.start(worker.account, work, name=worker.account.label)


# --- who is busy ------------------------------------------------------------------------------------------------------


async def test_shares_are_of_the_window(node: Node, inspector: Inspector, tick: Tick) -> None:
    ada, bob = node.add("ada"), node.add("bob")

    async def work(us: int) -> None:
        for _ in range(4):
            tick.work(us)
            await asyncio.sleep(0)

    await start(ada, node, work(1_000))  # before the window
    opening = inspector.begin()
    await asyncio.gather(start(ada, node, work(10)), start(bob, node, work(40)))
    tick.work(200)
    top = inspector.end(opening)

    assert names(top) == ["bob", "ada"]
    assert [load.busy for load in top.agents] == [160 / 400, 40 / 400]
    assert [load.turns for load in top.agents] == [5, 5]
    assert top.window_s == 400e-6
    assert top.node.agents_busy == 0.5
    assert (top.node.active, top.node.held_by) == (2, "")


async def test_who_came_within_the_window_counts_from_then(node: Node, inspector: Inspector, tick: Tick) -> None:
    opening = inspector.begin()

    async def work() -> None:
        tick.work(30)

    await start(node.add("ada"), node, work())
    tick.work(70)
    (load,) = inspector.end(opening).agents

    assert load.busy == 0.3


@pytest.mark.parametrize(
    ("by", "first"), [("busy", "busy"), ("waiting", "deep"), ("oldest", "late"), ("memory", "fat")]
)
async def test_agents_are_ordered_by_what_is_asked_for(
    node: Node, inspector: Inspector, tick: Tick, clock: SetClock, by: By, first: str
) -> None:
    now = clock.now_us()
    node.add("fat", memory=1_000_000)
    node.add("deep", memory=5).box.messages.extend([now - 10] * 50)
    node.add("late").box.messages.append(now - 60 * MICROSECONDS)
    busy = node.add("busy")
    opening = inspector.begin()

    async def work() -> None:
        tick.work(30)

    await start(busy, node, work())
    top = inspector.end(opening, by=by)

    assert names(top)[0] == first
    assert top.by == by
    by_name = {load.agent: load for load in top.agents}
    assert (by_name["deep"].waiting, by_name["deep"].oldest_s) == (50, 10e-6)
    assert (by_name["late"].waiting, by_name["late"].oldest_s) == (1, 60.0)
    assert (by_name["busy"].waiting, by_name["busy"].oldest_s) == (0, None)
    assert top.node.waiting == 51


async def test_what_waits_in_a_closed_workbook_is_not_known(node: Node, inspector: Inspector) -> None:
    node.add("ada", awake=False, state="down").box.messages.extend(range(5))

    top = inspector.end(inspector.begin())
    (load,) = top.agents

    assert (load.state, load.awake, load.waiting, load.oldest_s) == ("down", False, None, None)
    assert top.node.waiting == 0


async def test_a_clock_that_was_put_back_makes_no_message_younger_than_new(
    node: Node, inspector: Inspector, clock: SetClock
) -> None:
    node.add("ada").box.messages.append(clock.now_us() + 60 * MICROSECONDS)

    (load,) = inspector.end(inspector.begin()).agents

    assert load.oldest_s == 0


# --- where it is ------------------------------------------------------------------------------------------------------


async def wait_here(done: asyncio.Event) -> None:
    await done.wait()


async def test_where_an_agent_waits_is_told_by_its_own_code(node: Node, inspector: Inspector) -> None:
    ada = node.add("ada")
    done = asyncio.Event()

    async def handler() -> None:
        async with anyio.create_task_group():
            await wait_here(done)

    task = start(ada, node, handler())
    await anyio.lowlevel.checkpoint()
    (load,) = inspector.end(inspector.begin()).agents

    assert load.spot is not None
    assert (load.spot.module, load.spot.function) == (__name__, "wait_here")
    assert Path(load.spot.file).name == "test_inspector.py"
    assert load.spot.line == wait_here.__code__.co_firstlineno + 1
    assert load.has == ByKind(tasks=1)
    done.set()
    await task
    (load,) = inspector.end(inspector.begin()).agents
    assert load.spot is None


async def test_one_who_holds_the_loop_is_named_while_it_is_held(node: Node, inspector: Inspector, tick: Tick) -> None:
    """The loop can't answer; a thread does."""
    ada, bob = node.add("ada"), node.add("bob")
    held, told = threading.Event(), threading.Event()
    answers: list[tuple[Top, Look | None]] = []

    def hold_on() -> None:
        held.set()
        assert told.wait(60)

    async def drown() -> None:
        hold_on()

    def ask() -> None:
        assert held.wait(60)
        opening = inspector.begin()
        for _ in range(4):
            tick.work(250)
            inspector.glance(opening)
        answers.append((inspector.end(opening), inspector.end_one("ada", opening)))
        told.set()

    thread = threading.Thread(target=ask)
    thread.start()
    await asyncio.gather(start(ada, node, drown()), start(bob, node, asyncio.sleep(0)))
    thread.join()

    ((top, look),) = answers
    assert (top.node.held_by, top.node.held_s) == ("agent:ada", 1e-3)
    first, second = top.agents
    assert (first.agent, first.busy, first.running) == ("ada", 1.0, 1e-3)
    assert first.spot is not None
    assert first.spot.function.endswith("hold_on")
    assert first.hot is not None
    assert (first.hot.function, first.hot_share) == (first.spot.function, 1.0)
    assert (second.agent, second.busy, second.running, second.hot) == ("bob", 0.0, None, None)
    assert look is not None
    (task,) = look.tasks
    assert task.running
    assert [spot.function.rpartition(".")[2] for spot in task.stack if spot.module == __name__] == ["drown", "hold_on"]


async def test_a_sample_names_who_spins(clock: SetClock) -> None:
    """Many short turns, none of which holds the loop for long: no stack would show it at the end of the window."""
    with Meter() as meter:
        node = Node(meter)
        ada, bob = node.add("ada"), node.add("bob")
        inspector = Inspector(node.active, meter, clock=clock)
        over = False

        def churn() -> int:
            return sum(range(20_000))

        async def spin() -> None:
            while not over:
                churn()
                await asyncio.sleep(0)

        spinning = start(ada, node, spin())
        idle = start(bob, node, asyncio.sleep(3600))
        top = await inspector.sample(0.3)
        over = True
        await spinning
        idle.cancel()

    assert names(top) == ["ada", "bob"]
    assert top.agents[0].turns > 0
    where = top.agents[0].hot or top.agents[0].spot
    assert where is not None
    assert where.function.endswith(("churn", "spin"))
    assert top.agents[1].busy < top.agents[0].busy


async def test_a_deep_stack_is_looked_at_so_far_and_no_further(node: Node, inspector: Inspector) -> None:
    ada = node.add("ada")
    done = asyncio.Event()

    async def deeper(left: int) -> None:
        if left:
            await deeper(left - 1)
        else:
            await done.wait()

    task = start(ada, node, deeper(5 * STACK_FRAMES_MAX))
    await asyncio.sleep(0)
    look = inspector.end_one("ada", inspector.begin("ada"))
    assert look is not None
    done.set()
    await task

    assert [len(one.stack) for one in look.tasks] == [STACK_FRAMES_MAX]


# --- one agent from near ----------------------------------------------------------------------------------------------


async def test_a_look_at_one_agent_shows_each_of_its_tasks(node: Node, inspector: Inspector) -> None:
    ada = node.add("ada", tenant="acme")
    node.add("bob")
    node.follows = {"agent:ada": 2, "agent:bob": 7}
    done = asyncio.Event()

    async def handler() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(wait_here, done)

    task = start(ada, node, handler())
    await anyio.lowlevel.checkpoint()
    await anyio.lowlevel.checkpoint()
    look = await inspector.look("ada", 0.01)
    done.set()
    await task

    assert look is not None
    assert (look.load.agent, look.load.tenant) == ("ada", "acme")
    assert look.load.has == ByKind(tasks=4, subscriptions=2)
    assert [one.task.rpartition(".")[2] for one in look.tasks] == ["handler", *["wait_here"] * 3]
    assert "wait_here" in [spot.function for spot in look.tasks[1].stack]
    assert not any(one.running for one in look.tasks)
    assert msgspec.json.decode(msgspec.json.encode(look), type=Look) == look


async def test_a_look_at_nobody_is_none(inspector: Inspector) -> None:
    assert await inspector.look("nobody", 0.01) is None


async def test_of_many_tasks_some_are_told(node: Node, inspector: Inspector) -> None:
    ada = node.add("ada")
    tasks = [start(ada, node, asyncio.sleep(3600)) for _ in range(INSPECT_TASKS_MAX + 5)]
    look = inspector.end_one("ada", inspector.begin("ada"))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert look is not None
    assert (len(look.tasks), look.tasks_left_out) == (INSPECT_TASKS_MAX, 5)


# --- who has what, and who has gone -----------------------------------------------------------------------------------


async def test_what_the_dead_have_left_is_told_first(node: Node, clock: SetClock) -> None:
    gone, ada = node.add("gone"), node.add("ada")
    node.follows = {"agent:ada": 3, "agent:gone": 1, "node": 1, "connection:7": 2, "connection:8": 1}
    inspector = Inspector(
        node.active,
        node.meter,
        clock=clock,
        subscriptions=node.by_owner,
        lives={"node", "connection:7"}.__contains__,
    )
    done = asyncio.Event()
    left = start(gone, node, done.wait())
    mine = start(ada, node, done.wait())
    await asyncio.sleep(0)
    del node.workers["gone"]
    node.meter.close(gone.account)
    top = inspector.end(inspector.begin())
    done.set()
    await asyncio.gather(left, mine)

    assert [(one.owner, one.lives, one.has.subscriptions, one.has.tasks) for one in top.owners] == [
        ("agent:gone", False, 1, 0),
        ("agent:gone", False, 0, 1),
        ("connection:8", False, 1, 0),
        ("agent:ada", True, 3, 0),
        ("connection:7", True, 2, 0),
        ("node", True, 1, 0),
    ]
    assert [load.has for load in top.agents] == [ByKind(tasks=1, subscriptions=3)]
    assert top.node.tasks == 2
    assert [one.lives for one in inspector.end(inspector.begin()).owners] == [False, False, True, True, True]


async def test_an_agent_that_came_back_does_not_own_what_its_earlier_life_left(
    node: Node, inspector: Inspector
) -> None:
    before = node.add("ada")
    done = asyncio.Event()
    left = start(before, node, done.wait())
    await asyncio.sleep(0)
    node.meter.close(before.account)
    node.add("ada")
    top = inspector.end(inspector.begin())
    done.set()
    await left

    assert [(one.owner, one.lives, one.has) for one in top.owners] == [("agent:ada", False, ByKind(tasks=1))]
    assert top.agents[0].has == ByKind()


async def test_an_owner_that_nobody_knows_shows_as_gone(node: Node, inspector: Inspector) -> None:
    node.follows = {"who:is this": 1, "node": 1}

    assert [(one.owner, one.lives) for one in inspector.end(inspector.begin()).owners] == [
        ("who:is this", False),
        ("node", True),
    ]


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that works for as long as nobody closes its input."""
    code = "import sys, threading; threading.Thread(target=sys.stdin.read).start(); print(flush=True)\nwhile "
    code += "threading.active_count() > 1: sum(range(10000))"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


async def test_processes_are_told_by_owner(node: Node, clock: SetClock, child: subprocess.Popen[bytes]) -> None:
    with Meter() as meter:
        node = Node(meter)
        node.add("ada", memory=1_000)
        inspector = Inspector(node.active, meter, clock=clock, children=node.begun)
        used = usage(child.pid)
        assert used is not None
        node.processes = [Begun("agent:ada", child.pid, "counts", used.began)]
        opening = inspector.begin()
        before = opening.children[child.pid, used.began]
        while (now := usage(child.pid)) is not None and now.cpu_s <= before:  # noqa: ASYNC110  (the kernel tells nobody)
            await anyio.sleep(0.01)
        top = inspector.end(opening)

    (found,) = top.children
    assert (found.owner, found.pid, found.what, found.state) == ("agent:ada", child.pid, "counts", "lives")
    assert found.owned
    assert found.busy > 0
    (load,) = top.agents
    assert load.has.children == 1
    assert load.memory == 1_000 + found.rss
    assert [(one.owner, one.lives, one.has) for one in top.owners] == [("agent:ada", True, ByKind(children=1))]


async def test_processes_that_ended_or_whose_owner_did_stand_out(
    node: Node, inspector: Inspector, child: subprocess.Popen[bytes]
) -> None:
    used = usage(child.pid)
    assert used is not None
    node.add("ada")
    node.processes = [
        Begun("agent:ada", child.pid, "another process had this id", used.began + 1),
        Begun("agent:gone", child.pid, "outlived its owner"),
    ]
    top = inspector.end(inspector.begin())
    assert [(one.owner, one.state, one.owned) for one in top.children] == [
        ("agent:gone", "lives", False),
        ("agent:ada", "gone", True),
    ]

    os.kill(child.pid, signal.SIGKILL)
    await to_thread.run_sync(os.waitid, os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    dead = [one.state for one in inspector.end(inspector.begin()).children]
    assert dead == ["dead", "gone"]
    child.wait()
    assert [one.state for one in inspector.end(inspector.begin()).children] == ["gone", "gone"]


# --- the node itself --------------------------------------------------------------------------------------------------


async def test_the_nodes_process_is_told_by_what_it_is_made_of(node: Node, inspector: Inspector) -> None:
    found = inspector.end(inspector.begin()).node

    assert found.pid == os.getpid()
    assert found.anon is not None
    assert found.file is not None
    assert found.anon + found.file > 0
    assert found.rss > 0
    assert found.threads >= 1
    assert 0 < found.descriptors <= found.descriptors_max


async def test_an_open_file_is_one_descriptor_more(tmp_path: Path) -> None:
    before = descriptors()
    with (tmp_path / "file").open("w"):
        assert descriptors() == before + 1
    assert descriptors() == before


async def test_the_machine_is_told_where_it_is_asked_for(node: Node, clock: SetClock) -> None:
    layouts = Path(__file__).parent / "fixtures/cgroups"
    inspector = Inspector(node.active, node.meter, clock=clock, cgroups=Cgroups(str(layouts / "v2")))

    assert inspector.end(inspector.begin()).machine is None
    machine = inspector.end(inspector.begin(), machine=True).machine
    assert machine is not None
    assert machine.own is not None
    assert machine.own.current == 3397386240


# --- bounded ----------------------------------------------------------------------------------------------------------


async def test_asking_costs_the_same_however_many_messages_wait(node: Node, inspector: Inspector) -> None:
    workers = [node.add(f"agent-{number}") for number in range(100)]
    asked = []
    for depth in (0, 10_000):
        workers[0].box.messages.extend(range(depth))
        for worker in workers:
            worker.box.asked = 0
        top = inspector.end(inspector.begin(), rows=5)
        asked.append([worker.box.asked for worker in workers])
        assert top.agents[0].waiting == depth

    assert asked == [[2] * 100] * 2, "depth and oldest, once each"


async def test_stacks_are_looked_at_only_of_those_who_are_told(
    node: Node, inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[object] = []

    def counted(part: object) -> Iterator[Spot]:
        looked.append(part)
        return chain(part)

    monkeypatch.setattr(inspecting, "chain", counted)
    tasks = [start(node.add(f"agent-{number}"), node, asyncio.sleep(3600)) for number in range(50)]
    await asyncio.sleep(0)

    top = inspector.end(inspector.begin(), rows=7)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert len(looked) == 7
    assert (len(top.agents), top.agents_left_out) == (7, 43)


async def test_the_work_of_a_sample_grows_as_the_active_agents_do(node: Node, inspector: Inspector) -> None:
    """Counted by the calls of functions, Python's and C's alike, for ever more agents with ever more messages."""

    def calls() -> int:
        count = 0

        def hear(frame: object, event: str, argument: object) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        sys.setprofile(hear)
        try:
            inspector.end(inspector.begin(), rows=10)
        finally:
            sys.setprofile(None)
        return count

    counts = {}
    for number in range(1, 2_001):
        node.add(f"agent-{number}").box.messages.extend(range(number % 17))
        if number in (500, 1_000, 2_000):
            counts[number] = calls()

    each = (counts[1_000] - counts[500]) / 500
    assert (counts[2_000] - counts[1_000]) / 1_000 < 1.2 * each + 1
    assert each < 60


async def test_no_list_of_an_answer_is_longer_than_its_limit(node: Node, inspector: Inspector) -> None:
    for number in range(INSPECT_ROWS_MAX + 50):
        node.add(f"agent-{number}")
        node.follows[f"agent:agent-{number}"] = 1
    node.processes = [Begun("node", 0, "nothing", 1)] * 1_500
    top = inspector.end(inspector.begin(), rows=10**9)

    assert (len(top.agents), top.agents_left_out) == (INSPECT_ROWS_MAX, 50)
    assert (len(top.owners), top.owners_left_out) == (INSPECT_ROWS_MAX, 51)
    assert (len(top.children), top.children_left_out) == (INSPECT_ROWS_MAX, 1_500 - INSPECT_ROWS_MAX)
    assert msgspec.json.decode(msgspec.json.encode(top), type=Top) == top


async def test_few_samples_run_at_a_time(node: Node, inspector: Inspector, monkeypatch: pytest.MonkeyPatch) -> None:
    running = most = 0
    lock = threading.Lock()
    gate = threading.Barrier(2)  # two run together: the barrier lets them on
    really = Inspector.begin

    def begin(self: Inspector, name: str | None = None) -> Any:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        gate.wait(60)
        with lock:
            running -= 1
        return really(self, name)

    monkeypatch.setattr(Inspector, "begin", begin)
    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(inspector.sample, 0.001)

    assert most == 2


async def test_a_caller_that_goes_away_ends_its_sample(inspector: Inspector, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    really = Inspector.end

    def end(self: Inspector, opening: Any, **how: Any) -> Top:
        ended.set()
        return really(self, opening, **how)

    monkeypatch.setattr(Inspector, "end", end)
    with anyio.move_on_after(0.02) as scope:
        await inspector.sample(60)

    assert scope.cancelled_caught
    assert await to_thread.run_sync(ended.wait, 30), "long before its window would have been over"


@pytest.mark.parametrize("window", [0, -1, 60.1, float("inf"), float("nan")])
async def test_a_window_has_limits(inspector: Inspector, window: float) -> None:
    with pytest.raises(WindowRefused):
        await inspector.sample(window)
    with pytest.raises(WindowRefused):
        await inspector.look("ada", window)
