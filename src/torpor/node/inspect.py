"""The inspector: who holds the event loop, whose mailbox grows, who has what, and who has gone and left something.

Looking must not harm, least of all a node that is in trouble already. So:

- The time of the loop is counted anyway (`torpor.node.meter`); a sample is the difference of two looks.
- A sample runs in a thread. It needs nothing from the loop, and so names who holds the loop while they do.
- It asks each active agent for a few numbers. No mailbox is copied or walked through, no workbook is asked, nobody who
  sleeps is woken. Stacks are looked at only of those who come into the answer.
- During the window it glances at the loop's stack now and then, for the function that takes the time. A glance costs
  the same however many agents there are, and the window bounds how many there are. It needs the interpreter's lock,
  which the loop gives up most readily between turns, so it finds long turns rather than short ones; of who has only
  short ones the answer says where they wait.
- Few samples run at a time; whoever wants one more waits. Between every few agents a sample stands back, so that the
  loop never waits for the interpreter's lock for long.
- Every list in an answer is bounded, and says how many it leaves out.
"""

from __future__ import annotations

import functools
import heapq
import operator
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, Literal, TypeVar

import anyio
from anyio import to_thread

from torpor.base.clock import MICROSECONDS, Clock
from torpor.base.errors import WindowRefused
from torpor.base.limits import INSPECT_CHILDREN_MAX, INSPECT_ROWS_MAX, INSPECT_SECONDS_MAX, INSPECT_TASKS_MAX
from torpor.node.answers import AgentLoad, ByKind, Child, Look, NodeLoad, Owner, TaskStack, Top
from torpor.node.cgroups import Cgroups
from torpor.node.inspected import LABEL, NODE, Actor, Actors, Begun, Children, Subscriptions
from torpor.node.meter import TURNS, Account, Meter, Metered
from torpor.node.processes import Usage, descriptors, descriptors_max, memory, thread_ran, usage
from torpor.node.stacks import Spot, chain, stack, telling

T = TypeVar("T")

By = Literal["busy", "waiting", "oldest", "memory"]
"""What agents are ordered by."""

_GLANCE_S: Final = 0.01
"""Seconds between two glances at the loop's stack."""

_AT_ONCE: Final = 2
"""Samples that run at the same time."""

_BATCH: Final = 100
"""Agents that are asked before the thread lets the loop's have the interpreter's lock."""

_BREATH_S: Final = 0.0005
"""Seconds for which it does."""

_NS: Final = 1_000_000_000


class Opening:
    """What was so at the beginning of a window.

    Attributes:
        at_ns: when it began, by the meter's clock.
        cpu_s: processor time that the node had used.
        ran: for how long the loop's thread had run, and had waited for a core.
        accounts: what agents had used of the loop, and their turns.
        children: processor time of processes, by their ids and beginnings.
        hits: where agents were found that held the loop: how often, and where last; by module and function.

    """

    __slots__ = ("accounts", "at_ns", "children", "cpu_s", "hits", "ran")

    def __init__(self, at_ns: int, cpu_s: float, ran: tuple[int, int] | None) -> None:
        self.at_ns = at_ns
        self.cpu_s = cpu_s
        self.ran = ran
        self.accounts: dict[Account, tuple[int, int]] = {}
        self.children: dict[tuple[int, int], float] = {}
        self.hits: dict[Account, dict[tuple[str, str], tuple[int, Spot]]] = {}


class _Row:
    """What is asked of every active agent."""

    __slots__ = ("actor", "busy_ns", "depth", "name", "oldest", "rank", "tasks", "turns")

    def __init__(self, actor: Actor, busy_ns: int, turns: int, by: By) -> None:
        self.actor = actor
        self.name = actor.name
        self.busy_ns = busy_ns
        self.turns = turns
        self.tasks = actor.account.tasks
        mailbox = actor.mailbox
        self.depth = mailbox.depth if mailbox is not None else None
        self.oldest = mailbox.oldest if mailbox is not None else None
        self.rank = self._rank(by)

    def _rank(self, by: By) -> tuple[float, float, float]:
        """Return what it is ordered by, the most first; equals by the rest."""
        age = -self.oldest if self.oldest is not None else float("-inf")
        depth = self.depth or 0
        if by == "waiting":
            return depth, age, self.busy_ns
        if by == "oldest":
            return age, depth, self.busy_ns
        if by == "memory":
            return self.actor.memory or 0, self.busy_ns, depth
        return self.busy_ns, depth, age


class Inspector:
    """Looks into a running node.

    Args:
        actors: returns the active agents.
        meter: of the node's event loop.
        clock: for the ages of messages.
        subscriptions: returns who follows.
        children: returns who has processes.
        lives: whether an owner that is no agent still is there, by its label. Unless given, only the node does: whoever
            isn't known shows as gone.
        cgroups: the machine's.

    """

    def __init__(  # noqa: PLR0913  (each is told by somebody else)
        self,
        actors: Actors,
        meter: Meter,
        *,
        clock: Clock,
        subscriptions: Subscriptions = dict,
        children: Children = tuple,
        lives: Callable[[str], bool] = NODE.__eq__,
        cgroups: Cgroups | None = None,
    ) -> None:
        self._actors = actors
        self._meter = meter
        self._clock = clock
        self._subscriptions = subscriptions
        self._children = children
        self._lives = lives
        self._cgroups = cgroups
        self._places = anyio.CapacityLimiter(_AT_ONCE)

    async def sample(
        self, window_s: float, *, by: By = "busy", rows: int = INSPECT_ROWS_MAX, machine: bool = False
    ) -> Top:
        """Look on for a while, in a thread, and return who uses the node.

        Args:
            window_s: for how long, in seconds; at most `INSPECT_SECONDS_MAX`.
            by: what the agents are ordered by.
            rows: how many of them, of owners and of processes are told at most; never more than `INSPECT_ROWS_MAX`.
            machine: whether control groups and pressure are wanted too.

        Raises:
            WindowRefused: a window of that length can't be sampled.

        """
        watch = functools.partial(self.watch, window_s, by=by, rows=rows, machine=machine)
        return await self._beside(watch)

    async def look(self, name: str, window_s: float) -> Look | None:
        """Look at one agent from near, for a while, in a thread; None where no active agent is called so.

        Raises:
            WindowRefused: a window of that length can't be sampled.

        """
        return await self._beside(functools.partial(self.watch_one, name, window_s))

    async def _beside(self, watch: Callable[[threading.Event], T]) -> T:
        over = threading.Event()
        try:
            return await to_thread.run_sync(watch, over, abandon_on_cancel=True, limiter=self._places)
        finally:
            over.set()  # if whoever asked has left, so does the thread

    # --- in a thread that isn't the event loop's ------------------------------------------------------------------

    def watch(
        self,
        window_s: float,
        over: threading.Event | None = None,
        *,
        by: By = "busy",
        rows: int = INSPECT_ROWS_MAX,
        machine: bool = False,
    ) -> Top:
        """Look on as `sample` does; `over` ends the window early when it is set.

        Raises:
            WindowRefused: a window of that length can't be sampled.

        """
        _check(window_s)
        opening = self.begin()
        self._glance_for(window_s, opening, over or threading.Event())
        return self.end(opening, by=by, rows=rows, machine=machine)

    def watch_one(self, name: str, window_s: float, over: threading.Event | None = None) -> Look | None:
        """Look on as `look` does; `over` ends the window early when it is set.

        Raises:
            WindowRefused: a window of that length can't be sampled.

        """
        _check(window_s)
        opening = self.begin(name)
        self._glance_for(window_s, opening, over or threading.Event())
        return self.end_one(name, opening)

    def _glance_for(self, window_s: float, opening: Opening, over: threading.Event) -> None:
        until = time.monotonic() + window_s
        while (left := until - time.monotonic()) > 0 and not over.wait(min(left, _GLANCE_S)):
            self.glance(opening)

    # --- in any thread --------------------------------------------------------------------------------------------

    def begin(self, name: str | None = None) -> Opening:
        """Begin a window: note what everybody has used so far, or one agent alone."""
        meter = self._meter
        own, ran = usage("self"), thread_ran(meter.tid)
        opening = Opening(meter.tick(), own.cpu_s if own is not None else 0.0, ran)
        for actor in _patiently(self._actors() if name is None else self._named(name)):
            account = actor.account
            opening.accounts[account] = (meter.busy_ns(account), account.turns)
        for child in self._begun(name)[0]:
            used = usage(child.pid)
            if used is not None:
                opening.children[child.pid, used.began] = used.cpu_s
        return opening

    def glance(self, opening: Opening) -> None:
        """Note which function an agent is in that holds the loop just now."""
        running = self._meter.running
        if running is None:
            return
        spot = telling(stack(self._meter.thread, TURNS))
        if spot is None or self._meter.running is not running:  # the stack may be somebody else's
            return
        hits = opening.hits.setdefault(running.account, {})
        where = (spot.module, spot.function)
        before = hits.get(where)
        hits[where] = (1 if before is None else before[0] + 1, spot)

    def end(self, opening: Opening, *, by: By = "busy", rows: int = INSPECT_ROWS_MAX, machine: bool = False) -> Top:
        """End a window and return who used the node in it; the arguments are those of `sample`."""
        rows = min(rows, INSPECT_ROWS_MAX)
        window_ns = max(1, self._meter.tick() - opening.at_ns)
        now = self._clock.now_us()
        active = [self._row(actor, opening, by) for actor in _patiently(self._actors())]
        names = {row.name for row in active}
        children, more = self._used(opening, window_ns, names, None)
        subscriptions = self._subscriptions()
        first = heapq.nlargest(rows, active, key=_rank)
        own = _by_owner(children)
        owners = self._owners(subscriptions, children, names)
        return Top(
            time=now,
            window_s=window_ns / _NS,
            by=by,
            node=_node(self._meter, opening, window_ns, active),
            agents=[self._load(row, opening, (window_ns, now), subscriptions, own) for row in first],
            agents_left_out=len(active) - len(first),
            owners=owners[:rows],
            owners_left_out=max(0, len(owners) - rows),
            children=children[:rows],
            children_left_out=more + max(0, len(children) - rows),
            machine=self._cgroups.machine() if machine and self._cgroups is not None else None,
        )

    def end_one(self, name: str, opening: Opening) -> Look | None:
        """End a window and return what one agent did in it; None where no active agent is called so."""
        actor = next(iter(self._named(name)), None)
        if actor is None:
            return None
        window_ns = max(1, self._meter.tick() - opening.at_ns)
        now = self._clock.now_us()
        row = self._row(actor, opening, "busy")
        children, _ = self._used(opening, window_ns, {name}, name)
        subscriptions = self._subscriptions()
        parts = actor.account.parts(INSPECT_TASKS_MAX)
        return Look(
            time=now,
            load=self._load(row, opening, (window_ns, now), subscriptions, _by_owner(children)),
            tasks=[_stack(self._meter, part) for part in parts],
            tasks_left_out=max(0, actor.account.tasks - len(parts)),
            children=children,
        )

    def _named(self, name: str) -> list[Actor]:
        return [actor for actor in self._actors() if actor.name == name]

    # --- parts of an answer ---------------------------------------------------------------------------------------

    def _row(self, actor: Actor, opening: Opening, by: By) -> _Row:
        account = actor.account
        busy_ns, turns = opening.accounts.get(account, (0, 0))  # who came since the beginning had used nothing then
        return _Row(actor, max(0, self._meter.busy_ns(account) - busy_ns), account.turns - turns, by)

    def _load(
        self,
        row: _Row,
        opening: Opening,
        moment: tuple[int, int],
        subscriptions: Mapping[str, int],
        children: Mapping[str, list[Child]],
    ) -> AgentLoad:
        actor, (window_ns, now) = row.actor, moment
        account = actor.account
        own = children.get(account.label, [])
        taken = actor.memory
        if own:
            taken = (taken or 0) + sum(child.rss for child in own)
        hits = opening.hits.get(account, {})
        seen = sum(count for count, _ in hits.values())
        count, hot = max(hits.values(), key=lambda hit: hit[0], default=(0, None))
        return AgentLoad(
            agent=actor.name,
            tenant=actor.tenant,
            state=actor.state,
            busy=min(1.0, row.busy_ns / window_ns),
            turns=row.turns,
            waiting=row.depth,
            oldest_s=None if row.oldest is None else max(0, now - row.oldest) / MICROSECONDS,
            memory=taken,
            awake=row.depth is not None,
            has=ByKind(tasks=account.tasks, subscriptions=subscriptions.get(account.label, 0), children=len(own)),
            running=_held_s(self._meter, account),
            spot=_spot(self._meter, account),
            hot=hot,
            hot_share=count / seen if seen else 0.0,
        )

    def _begun(self, name: str | None) -> tuple[list[Begun], int]:
        """Return the children, all or one agent's, and how many of them are too many to be looked at."""
        found = iter(self._children())
        if name is not None:
            found = (child for child in found if child.owner == f"{LABEL}{name}")
        return list(islice(found, INSPECT_CHILDREN_MAX)), sum(1 for _ in found)

    def _used(self, opening: Opening, window_ns: int, names: set[str], name: str | None) -> tuple[list[Child], int]:
        """Return what children have used, those with the most first, and how many weren't looked at."""
        begun, more = self._begun(name)
        found = []
        for child in begun:
            used = usage(child.pid)
            if used is not None and child.began not in (0, used.began):
                used = None  # its id is somebody else's now
            state: Literal["lives", "dead", "gone"] = "gone"
            busy = 0.0
            if used is not None:
                state = "dead" if used.dead else "lives"
                busy = max(0.0, used.cpu_s - opening.children.get((child.pid, used.began), 0.0)) * _NS / window_ns
            found.append(
                Child(
                    owner=child.owner,
                    pid=child.pid,
                    what=child.what,
                    state=state,
                    busy=busy,
                    rss=used.rss if used is not None else 0,
                    owned=self._owner_lives(child.owner, names),
                )
            )
        found.sort(key=lambda child: (not child.owned, child.busy, child.rss), reverse=True)
        return found, more

    def _owner_lives(self, owner: str, names: set[str]) -> bool:
        if owner.startswith(LABEL):
            return owner.removeprefix(LABEL) in names
        return self._lives(owner)

    def _owners(self, subscriptions: Mapping[str, int], children: list[Child], names: set[str]) -> list[Owner]:
        """Return who has subscriptions or processes, and who has gone and left tasks."""
        counts = Counter(child.owner for child in children)
        found = [
            Owner(
                owner=owner,
                lives=self._owner_lives(owner, names),
                has=ByKind(subscriptions=subscriptions.get(owner, 0), children=counts[owner]),
            )
            for owner in subscriptions.keys() | counts.keys()
        ]
        found += [
            Owner(owner=account.label, lives=False, has=ByKind(tasks=account.tasks)) for account in self._meter.left()
        ]
        found.sort(key=lambda one: (one.lives, -one.has.subscriptions - one.has.children - one.has.tasks, one.owner))
        return found


_rank: Final = operator.attrgetter("rank")


def _patiently(actors: Iterable[Actor]) -> Iterator[Actor]:
    """Yield actors, and stand back after every few of them."""
    nobody = threading.Event()
    for number, actor in enumerate(actors, 1):
        yield actor
        if number % _BATCH == 0:
            nobody.wait(_BREATH_S)


def _held_s(meter: Meter, account: Account) -> float | None:
    """Return for how long an account's task has held the loop by now; None where none does."""
    running, since = meter.running, meter.since
    if running is None or running.account is not account:
        return None
    return max(0, meter.tick() - since) / _NS


def _spot(meter: Meter, account: Account) -> Spot | None:
    """Return where an account's task is that went on last."""
    running = meter.running
    if running is not None and running.account is account:
        spot = telling(stack(meter.thread, TURNS))
        if meter.running is running:
            return spot
    part = account.latest() if account.latest is not None else None
    spot = telling(reversed(list(chain(part)))) if part is not None else None
    if spot is None:  # it has ended: then where the oldest is that lives
        spot = next((telling(reversed(list(chain(part)))) for part in account.parts(1)), None)
    return spot


def _stack(meter: Meter, part: Metered) -> TaskStack:
    running = meter.running is part
    spots = list(stack(meter.thread, TURNS))[::-1] if running else list(chain(part))
    begun = telling(spots)  # from outside: a task group has begun it by a function of its own
    return TaskStack(part.__qualname__ if begun is None else begun.function, running, spots)


def _node(meter: Meter, opening: Opening, window_ns: int, active: list[_Row]) -> NodeLoad:
    own = usage("self") or Usage(0, 0.0, 0, 0, dead=False)
    kinds = memory()
    ran = thread_ran(meter.tid)
    loop = waited = None
    if ran is not None and opening.ran is not None:
        loop, waited = ((after - before) / window_ns for after, before in zip(ran, opening.ran, strict=True))
    running, since = meter.running, meter.since
    return NodeLoad(
        pid=os.getpid(),
        cpu=max(0.0, own.cpu_s - opening.cpu_s) * _NS / window_ns,
        loop=loop,
        loop_waited=waited,
        agents_busy=min(1.0, sum(row.busy_ns for row in active) / window_ns),
        held_by=running.account.label if running is not None else "",
        held_s=max(0, meter.tick() - since) / _NS if running is not None else 0.0,
        active=len(active),
        waiting=sum(row.depth or 0 for row in active),
        tasks=sum(row.tasks for row in active) + sum(account.tasks for account in meter.left()),
        threads=own.threads,
        rss=own.rss,
        anon=kinds.anon if kinds is not None else None,
        file=kinds.file if kinds is not None else None,
        shmem=kinds.shmem if kinds is not None else None,
        descriptors=descriptors(),
        descriptors_max=descriptors_max(),
    )


def _check(window_s: float) -> None:
    if not 0 < window_s <= INSPECT_SECONDS_MAX:
        raise WindowRefused(window_s=window_s, limit_s=INSPECT_SECONDS_MAX)


def _by_owner(children: Iterable[Child]) -> dict[str, list[Child]]:
    found: dict[str, list[Child]] = {}
    for child in children:
        found.setdefault(child.owner, []).append(child)
    return found
