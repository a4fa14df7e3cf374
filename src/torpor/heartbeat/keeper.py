"""The keeper: gives each open workbook its lane, and keeps the log short and the replica complete.

It is the `workbook.CommitLog` of a home. Besides, at each beat, it

- puts what changed in the ledger on its way into the replica;
- takes a snapshot of each agent that the replica could not restore, or only from too many records;
- settles the agents that keep old segments from being reused, and lets those segments go;
- where the store has been away for so long that the log reaches its bound, lets go what isn't shipped either. Each
agent
  concerned is given a new life, so that a snapshot takes the place of what was let go.

**What may be let go.** A record is needed until the file of its agent is complete without it, the index knows it, and
the
replica has it (where there is one). So three numbers decide, and the least counts.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final, Protocol

import msgspec
from anyio import to_thread

from torpor.base.errors import AgentQuarantined, DurabilityRefused, HeartbeatError, HeartbeatStalled, TorporError
from torpor.base.faults import point
from torpor.base.limits import LOG_KEEP_BYTES, LOG_STALL_SECONDS, MIB
from torpor.heartbeat.index import NONE, Index, Known
from torpor.heartbeat.lanes import OpenLane
from torpor.heartbeat.log import Log
from torpor.heartbeat.records import NOBODY, Kind
from torpor.heartbeat.replica import Replica
from torpor.heartbeat.shipping import Shipper
from torpor.heartbeat.snapshots import pack_snapshot
from torpor.workbook import Joining, Level, Standing, snapshot

SCRATCH: Final = "scratch"
LEDGER_MARK: Final = "ledger"
SNAPSHOT_AFTER_BYTES: Final = 4 * MIB
"""Bytes of records after which an agent gets a new snapshot, where it is not itself larger."""

LEDGER_AGAIN_BYTES: Final = 8 * MIB
"""Bytes of changes of the ledger after which all of it is put into the log again, and what was before can go."""

SNAPSHOTS_A_BEAT: Final = 16 * MIB
"""Bytes of snapshots, compressed, that one beat makes at most, or one snapshot."""

_PAGE: Final = 200


class News(msgspec.Struct, frozen=True):
    """What is new in the ledger.

    Attributes:
        mark: how far this goes: where to ask from next time.
        payload: what is to be kept of it.
        there: the ids of the agents and templates that are new or changed.
        gone: the ids of agents that were deleted, and of templates that were dropped.

    """

    mark: bytes
    payload: bytes
    there: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


class Roster(Protocol):
    """What the home says of its agents and templates."""

    def path(self, agent: str) -> str | None:
        """Return the file of an agent or a template, absolute; None where it has none here."""
        ...

    def all(self) -> Iterator[tuple[str, str]]:
        """Yield the id and the file of each whose file is here."""
        ...

    def changes(self, since: bytes | None) -> News | None:
        """Return what has changed in the ledger since a mark; None for nothing."""
        ...


class Keeper:
    """The lanes of one home; a `workbook.CommitLog`.

    Attributes:
        folder: the home.
        level: what commits wait for by default.
        reach: the most that they can wait for.
        log: where their records go.
        folders: where the files are that were opened with it.

    """

    def __init__(  # noqa: PLR0913  (the parts that it brings together)
        self,
        home: str,
        log: Log,
        index: Index,
        roster: Roster,
        *,
        level: Level,
        replica: Replica | None,
        shipper: Shipper | None,
        backlog_max: int,
    ) -> None:
        self.folder = home
        self.level = level
        self.reach = Level.REPLICATED if replica is not None else Level.DURABLE
        self.log = log
        self._index = index
        self._roster = roster
        self._replica = replica
        self._shipper = shipper
        self._backlog_max = backlog_max
        self._lock = threading.Condition()
        self._beating = threading.Lock()
        self._lanes: dict[str, OpenLane] = {}
        self._stuck: list[OpenLane] = []
        """Lanes that ended while their files still needed the log."""
        self._dirty: dict[str, Known] = {}
        """Of whom the index doesn't know the newest."""
        self._wanted = threading.Event()
        self.folders: set[str] = set()
        self._copies = itertools.count()
        self._given_up = 0
        """Up to this record, what isn't shipped never will be."""
        if level > self.reach:
            raise DurabilityRefused(path=self.folder, asked="replicated", reason="there is no replica")

    # --- the CommitLog

    def join(self, member: Joining) -> OpenLane:
        """Give a workbook that was opened its lane.

        Raises:
            AgentQuarantined: it must not be used.
            HeartbeatFenced: another node has taken over.
            HeartbeatError: the log takes nothing.

        """
        self.refuse_fenced()
        standing = member.standing()
        agent = standing.agent
        with self._lock:
            known = self._known(agent)
            if known is not None and known.fault:
                raise AgentQuarantined(path=member.path, name=agent, reason=known.fault)
            lane = OpenLane(self, member, known or Known(agent=agent))
            if known is None or known.life == 0 or not same(known, standing):
                lane.begin(standing)
                self._wanted.set()
            lane.known.rest = lane.known.gone = False
            self._dirty[agent] = lane.known
            self._lanes[agent] = lane
            self.folders.add(os.path.dirname(member.path))
        point("keeper.joined")
        return lane

    def left(self, lane: OpenLane, *, clean: bool) -> None:
        """Note that a lane has ended."""
        with self._lock:
            if self._lanes.get(lane.known.agent) is lane:
                del self._lanes[lane.known.agent]
            if not clean:
                self._stuck.append(lane)
            self._dirty[lane.known.agent] = lane.known

    def replicated(self, lane: OpenLane, lsn: int) -> None:
        """Wait until a record, and the snapshot that it builds on, are in the replica.

        Raises:
            HeartbeatFenced, HeartbeatStalled, HeartbeatFailed: it may be there or not.

        """
        shipper = self._ships()
        self._await_snapshot(lane)
        shipper.wait(max(lsn, lane.known.at_lsn), LOG_STALL_SECONDS)

    async def shipped(self, lane: OpenLane, lsn: int) -> None:
        """Wait for the same as a task.

        Raises:
            HeartbeatFenced, HeartbeatStalled, HeartbeatFailed: it may be there or not.

        """
        shipper = self._ships()
        if lane.known.snapshot == NONE:
            await to_thread.run_sync(self._await_snapshot, lane)
        await shipper.arrive(max(lsn, lane.known.at_lsn))

    def _ships(self) -> Shipper:
        if self._shipper is None:
            raise DurabilityRefused(path=self.folder, asked="replicated", reason="there is no replica")
        return self._shipper

    def _await_snapshot(self, lane: OpenLane) -> None:
        with self._lock:
            if lane.known.snapshot == NONE:
                self._wanted.set()
                if not self._lock.wait_for(lambda: lane.known.snapshot != NONE, LOG_STALL_SECONDS):
                    raise HeartbeatStalled(
                        path=self.log.path, seconds=LOG_STALL_SECONDS, limit=LOG_STALL_SECONDS, waiting=1
                    )

    def _known(self, agent: str) -> Known | None:
        """Return what is known of an agent: of one that is awake, what its lane goes by (the lock is held)."""
        lane = self._lanes.get(agent)
        if lane is not None:
            return lane.known
        return self._dirty.get(agent) or self._index.get(agent)

    def refuse_fenced(self) -> None:
        """Refuse to acknowledge anything once another node has taken over.

        Raises:
            HeartbeatFenced: one has.

        """
        if self._replica is not None and self._replica.fenced is not None:
            raise self._replica.fenced

    # --- what the home tells

    def refuse_quarantined(self, agent: str, name: str) -> None:
        """Refuse to have an agent opened that must not be.

        Raises:
            AgentQuarantined: it must not.

        """
        with self._lock:
            known = self._known(agent)
        if known is not None and known.fault:
            raise AgentQuarantined(path=self.folder, name=name, reason=known.fault)

    def gone(self, agent: str) -> None:
        """Note that an agent was deleted."""
        with self._lock:
            known = self._known(agent)
            if known is None or known.gone:
                return
            self.log.add(agent, known.life, known.txn, Kind.GONE, b"")
            known.gone = True
            known.fault = ""
            self._dirty[agent] = known

    def lift(self, agent: str) -> None:
        """Let an agent be opened again, whose file was restored."""
        with self._lock:
            known = self._known(agent)
            if known is not None:
                known.fault = ""
                known.rest = True
                self._dirty[agent] = known
        self.flush_index()

    def cover(self, agent: str, path: str, head: str) -> None:
        """See to it that the log has all of an agent whose file, at rest, is about to leave the home.

        Args:
            agent: its id.
            path: its file.
            head: the hash of the newest event in it, in hex.

        """
        if self._replica is None:
            return
        with self._lock:
            known = self._known(agent)
            if known is not None and (known.fault or (known.snapshot != NONE and known.head == head)):
                return
        self._snapshot_of(agent, path)

    def renew(self, agents: Iterable[str]) -> None:
        """Have new snapshots taken of agents whose copies were not as they should be."""
        with self._lock:
            for agent in agents:
                lane = self._lanes.get(agent)
                if lane is not None:
                    lane.lapse()
                elif (known := self._known(agent)) is not None:
                    known.snapshot, known.life = NONE, 0
                    self._dirty[agent] = known
        self._wanted.set()

    def covered(self, agent: str) -> bool:
        """Report whether the log, and so the replica soon, has all that it takes to restore an agent."""
        with self._lock:
            known = self._known(agent)
            return known is not None and known.snapshot != NONE and not known.fault

    @property
    def awake(self) -> int:
        """How many workbooks are open."""
        return len(self._lanes)

    @property
    def clean(self) -> bool:
        """Whether every file is complete without the log."""
        return not self._stuck and not self._lanes

    # --- the beat

    def hurry(self) -> None:
        """End the waiting for the next beat."""
        self._wanted.set()

    def wait_for_work(self, seconds: float) -> None:
        """Wait for the next beat, or until a snapshot is wanted."""
        self._wanted.wait(seconds)
        self._wanted.clear()

    def beat(self) -> None:
        """Do what is to be done now and then.

        Raises:
            TorporError: something of it failed; it is tried again at the next beat.

        """
        with self._beating:
            self.log.prepare()
            if self._replica is not None and not self._is_away():
                self._ship_ledger()
                self._snapshot_some()
            self.log.wait(self.log.last)
            self._shorten()
            self.flush_index()
            self._release()

    def _is_away(self) -> bool:
        """Report whether the store has been away so long that what is only for it would make the log too long."""
        if self._shipper is None or self.log.size <= self._backlog_max // 2:
            return False
        return self._shipper.lag().state not in ("shipping", "starting")

    def _ship_ledger(self) -> None:
        known = self._known(NOBODY) or Known(agent=NOBODY)
        mark = begun = self._index.fact(LEDGER_MARK)
        again = known.life == 0 or (known.since > LEDGER_AGAIN_BYTES and known.since > known.full * 2)
        before = known.txn
        if again:
            # All of it anew: an earlier life was given up, or has grown long. The snapshot behind it, which stands
            # before it, lets a replica forget what was until then.
            mark, known.since = None, 0
        if known.life == 0:
            standing = Standing(NOBODY, before, 0, "", 0)
            known.life = self.log.add(NOBODY, 0, before, Kind.LIFE, msgspec.msgpack.encode(standing))
        met: list[Known] = []
        while (found := self._roster.changes(mark)) is not None:
            known.txn += 1
            known.since += len(found.payload)
            known.last = self.log.add(NOBODY, known.life, known.txn, Kind.LEDGER, found.payload)
            met += self._meet(found.there)
            for agent in found.gone:
                self.gone(agent)
            mark = found.mark
        if again:
            known.full, known.since, known.snapshot = known.since, 0, before
            known.at_lsn = known.last = self.log.add(NOBODY, known.life, before, Kind.SNAPSHOT, b"")
        elif mark == begun:
            return
        self.log.wait(self.log.last)  # or a kill would take from the log what the index says is there
        self._index.put([known, *met], facts={} if mark is None else {LEDGER_MARK: mark})

    def _meet(self, agents: Iterable[str]) -> list[Known]:
        """Return those whom the log has never seen: the replica is to have them before they ever wake."""
        with self._lock:
            return [Known(agent=agent) for agent in agents if self._known(agent) is None]

    def _snapshot_some(self) -> None:
        with self._lock:
            awake = {
                lane.known.agent: lane.member.path
                for lane in self._lanes.values()
                if lane.known.snapshot == NONE or lane.known.since > SNAPSHOT_AFTER_BYTES
            }
        left = SNAPSHOTS_A_BEAT
        for agent, path in awake.items():
            left -= self._try_snapshot(agent, path)
            if left <= 0:
                self._wanted.set()
                return
        after = ""
        while page := self._index.wanting(_PAGE, after):
            for known in page:
                after = known.agent
                path_now = self._roster.path(known.agent) if known.agent not in awake else None
                if path_now is not None:
                    left -= self._try_snapshot(known.agent, path_now)
                if left <= 0:
                    self._wanted.set()
                    return

    def _try_snapshot(self, agent: str, path: str) -> int:
        try:
            return self._snapshot_of(agent, path)
        except HeartbeatError:
            raise
        except TorporError:
            return 0  # it is being moved or restored just now, or can't be read: its next opening will say so

    def _snapshot_of(self, agent: str, path: str) -> int:
        """Put a snapshot into the log; returns its bytes there, 0 where it was made in vain."""
        # A name of its own: the beat and whoever moves the agent may do this at the same time.
        scratch = os.path.join(self.folder, "heartbeat", SCRATCH, f"{agent}-{next(self._copies)}")
        with self._lock:
            before = self._life_of(agent)
        try:
            standing = snapshot(path, scratch)
            point("keeper.copied")
            packed = pack_snapshot(scratch, self._replica, agent=agent)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(scratch)
        with self._lock:
            if self._life_of(agent) != before or standing.agent != agent:
                return 0
            kind, payload = packed
            lane = self._lanes.get(agent)
            if lane is not None:
                if not lane.snapped(before[0], standing.txn, kind, payload):
                    return 0
            else:
                self._snapped_asleep(standing, kind, payload)
            self._lock.notify_all()
        point("keeper.snapped")
        return len(payload)

    def _snapped_asleep(self, standing: Standing, kind: Kind, payload: bytes) -> None:
        """Put the snapshot of an agent that sleeps into the log (the lock is held)."""
        agent = standing.agent
        known = self._known(agent) or Known(agent=agent)
        if known.life == 0 or not same(known, standing):
            # It sleeps, so its file is on the disk, and no recovery has to open it.
            told = msgspec.msgpack.encode(standing)
            known.life = self.log.add(agent, 0, standing.txn, Kind.LIFE, told)
            known.txn, known.head, known.schema = standing.txn, standing.head, standing.schema
            self.log.add(agent, known.life, standing.txn, Kind.LEFT, told)
        known.at_lsn = known.last = self.log.add(agent, known.life, standing.txn, kind, payload)
        known.snapshot, known.since = standing.txn, 0
        self._dirty[agent] = known

    def _life_of(self, agent: str) -> tuple[int, bool, int]:
        """Return what a snapshot goes with: of one that sleeps, anything new since it was begun makes it old."""
        known, awake = self._known(agent), agent in self._lanes
        if known is None:
            return 0, awake, 0
        return known.life, awake, 0 if awake else known.last

    def _shorten(self) -> None:
        """Settle who keeps old segments; let go of what isn't shipped where the log has grown to its bound."""
        if self.log.size <= min(LOG_KEEP_BYTES, self._backlog_max // 2):
            return
        with self._lock:
            unsettled = sorted((lane for lane in self._lanes.values() if lane.first), key=lambda lane: lane.first)
        middle = (self.log.first + self.log.last) // 2
        for lane in unsettled:
            if lane.first > middle:
                break
            lane.settle()
        if self._shipper is not None and self.log.size > self._backlog_max:
            self._let_go()

    def _let_go(self) -> None:
        """Give up shipping what waits: each agent concerned begins a new life, which needs no record before it."""
        shipped, until = self._shipped(), self.log.last
        if self._needed() - 1 <= self._given_up:
            return  # nothing would be let go: what was given up before is still needed here
        self.flush_index()
        with self._lock:
            for lane in self._lanes.values():
                if lane.known.last > shipped:
                    lane.lapse()
            self._index.lapse(shipped)
        self._given_up = until

    def _needed(self) -> int:
        """Return the oldest record that some file may lack; the next one where none is."""
        with self._lock:
            lanes = [*self._lanes.values(), *self._stuck]
            return min((lane.first for lane in lanes if lane.first), default=self.log.durable + 1)

    def _shipped(self) -> int:
        return self._shipper.lag().shipped if self._shipper is not None else self.log.durable

    def flush_index(self) -> None:
        """Have the index know all that is durable."""
        with self._lock:
            durable = self.log.durable
            dirty, self._dirty = self._dirty, {}
            copies = [msgspec.structs.replace(known) for known in dirty.values()]
            copies += [known for lane in self._lanes.values() if (known := lane.news()) is not None]
        try:
            # It must not know what a power cut may take from the log.
            self.log.wait(self.log.last)
            self._index.put(copies, through=durable)
            point("keeper.indexed")
        except BaseException:
            with self._lock:
                self._dirty = {**dirty, **self._dirty}
            raise

    def _release(self) -> None:
        self.log.release(min(self._needed() - 1, max(self._shipped(), self._given_up), self._index.through))


def same(known: Known, standing: Standing) -> bool:
    """Report whether a workbook stands where its newest record says."""
    return (known.txn, known.head, known.schema) == (standing.txn, standing.head, standing.schema)
