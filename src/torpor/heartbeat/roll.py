"""The roll: who is known to the log, and who is awake.

Of each agent the log has to know where its newest record stands (`Known`). For those who are awake their lanes say it;
for others who have changed lately, a table in memory; for all the rest the index, which `flush` brings up to date. The
three are asked in this order, and only here.

One lock guards lanes and table. It is held while a record is added to the log, never while one is made durable or a
workbook is read. A lane's own lock is taken inside it, never around it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from torpor.base.faults import point
from torpor.heartbeat.index import NONE, Index, Known
from torpor.heartbeat.lanes import UNKNOWN, OpenLane, Owner
from torpor.heartbeat.log import Log
from torpor.heartbeat.quarantine import Quarantine
from torpor.heartbeat.records import NOBODY, Kind
from torpor.workbook import Joining, Standing

_PAGE: Final = 200


class Roll:
    """The agents of one home, as its log sees them. Safe to use from many threads.

    Args:
        log: where their records go.
        index: what is known of those who sleep.

    Attributes:
        log: as given.
        index: as given.
        quarantine: who must not be opened.
        lock: held by whoever looks at an agent and acts on what he saw; told when a snapshot has come.
        folders: those in which workbooks were opened.

    """

    def __init__(self, log: Log, index: Index) -> None:
        self.log = log
        self.index = index
        self.quarantine = Quarantine(log.path)
        self.lock = threading.Condition()
        self.folders: set[str] = set()
        self._lanes: dict[str, OpenLane] = {}
        self._stuck: list[OpenLane] = []
        """Lanes that ended while their files still needed the log."""
        self._lifting: set[str] = set()
        """Who may be opened although quarantined: whose file was restored."""
        self._changed: dict[str, Known] = {}
        """Of whom the index doesn't know the newest."""

    # --- who comes and goes

    def enter(self, owner: Owner, member: Joining) -> OpenLane:
        """Give a workbook that was opened its lane; where the log can't go on from what it knows, a life begins.

        Raises:
            AgentQuarantined: it must not be used.
            HeartbeatError: the log takes nothing.

        """
        standing = member.standing()
        agent = standing.agent
        with self.lock:
            if agent not in self._lifting:
                self.quarantine.refuse(agent, member.path, agent)
            known = self.known(agent)
            lane = OpenLane(owner, member, known or Known(agent=agent))
            if known is None or not goes_on(known, standing):
                lane.begin(standing)
            lane.known.rest = lane.known.gone = False
            self._changed[agent] = lane.known
            self._lanes[agent] = lane
            self.folders.add(os.path.dirname(member.path))
        return lane

    def left(self, lane: OpenLane, *, clean: bool) -> None:
        """Note that a lane has ended."""
        with self.lock:
            if self._lanes.get(lane.known.agent) is lane:
                del self._lanes[lane.known.agent]
            if not clean:
                self._stuck.append(lane)
            self._changed[lane.known.agent] = lane.known

    def gone(self, agent: str) -> None:
        """Note that an agent was deleted."""
        with self.lock:
            known = self.known(agent)
            if known is None or known.gone:
                return
            known.last = self.log.add(agent, known.life, known.txn, Kind.GONE, b"")
            known.gone = True
            self.note(known)

    @contextmanager
    def lifting(self, agent: str) -> Iterator[None]:
        """Let an agent be opened whose file was restored, and end its quarantine once that is durable in the log.

        Raises:
            HeartbeatError: that can't be kept: it stays quarantined.

        """
        with self.lock:
            self._lifting.add(agent)
        try:
            yield
            self.log.wait(self.log.last)
            self.quarantine.lift(agent)
        finally:
            with self.lock:
                self._lifting.discard(agent)

    # --- what is known

    def known(self, agent: str) -> Known | None:
        """Return what is known of an agent, to be changed only by who holds the lock, and then noted."""
        lane = self._lanes.get(agent)
        if lane is not None:
            return lane.known
        return self._changed.get(agent) or self.index.get(agent)

    def lane(self, agent: str) -> OpenLane | None:
        """Return the lane of an agent that is awake."""
        return self._lanes.get(agent)

    def note(self, known: Known) -> None:
        """Keep what has changed of an agent (the lock is held)."""
        self._changed[known.agent] = known

    def covered(self, agent: str) -> bool:
        """Report whether the log, and so the replica soon, has all that it takes to restore an agent."""
        with self.lock:
            known = self.known(agent)
            return known is not None and known.snapshot != NONE and self.quarantine.why(agent) is None

    def count_wanting(self) -> int:
        """Return how many agents are to get a snapshot."""
        barred = (self.index.get(one.agent) for one in self.quarantine.all())
        return self.index.count_wanting() - sum(
            known.snapshot == NONE and not known.gone for known in barred if known is not None
        )

    @property
    def awake(self) -> int:
        """How many workbooks are open."""
        return len(self._lanes)

    @property
    def clean(self) -> bool:
        """Whether every file is complete without the log."""
        return not self._stuck and not self._lanes

    def lanes(self) -> list[OpenLane]:
        """Return the lanes of all who are awake."""
        with self.lock:
            return list(self._lanes.values())

    def needed(self) -> int:
        """Return the oldest record that some file may lack; the next one where none is."""
        with self.lock:
            lanes = [*self._lanes.values(), *self._stuck]
            return min((lane.first for lane in lanes if lane.first), default=self.log.durable + 1)

    # --- lives that end

    def renew(self, agents: Iterable[str]) -> None:
        """Have new snapshots taken of agents whose copies were not as they should be."""
        with self.lock:
            for agent in agents:
                lane = self._lanes.get(agent)
                if lane is not None:
                    lane.lapse()
                elif (known := self.known(agent)) is not None:
                    known.snapshot, known.life = NONE, 0
                    self.note(known)

    def lapse(self, shipped: int) -> None:
        """Have everybody begin a new life of whom something behind the record `shipped` will never be shipped.

        The log says so of each: a replica that has an older life only must not take it for the newest. And whoever was
        deleted is deleted once more.

        Raises:
            HeartbeatError: the index or the log can't be written.

        """
        self.flush()
        with self.lock:
            for lane in self._lanes.values():
                if lane.known.last > shipped:
                    lane.lapse()
            while page := self.index.behind(shipped, _PAGE):
                for found in page:
                    shipped = found.last
                    if found.agent not in self._lanes:
                        self._lapse_asleep(self.known(found.agent) or found)

    def _lapse_asleep(self, known: Known) -> None:
        """Have one begin a new life who has no lane (the lock is held)."""
        agent, txn, log = known.agent, known.txn, self.log
        known.snapshot, known.at_lsn, known.since = NONE, 0, 0
        if agent == NOBODY:
            known.life = 0  # the next beat begins the ledger's anew
        elif known.gone:
            known.last = log.add(agent, known.life, txn, Kind.GONE, b"")
        else:
            # Of a file that isn't complete by itself, the log still has what it lacks: that life goes on.
            told = msgspec.msgpack.encode(Standing(agent, txn, 0, known.head, known.schema if known.rest else UNKNOWN))
            known.life = known.last = log.add(agent, 0, txn, Kind.LIFE, told)
            if known.rest:
                known.last = log.add(agent, known.life, txn, Kind.LEFT, told)
        self.note(known)

    # --- the index

    def flush(self) -> None:
        """Have the index know all that is durable.

        Raises:
            HeartbeatError: the index or the log can't be written.

        """
        with self.lock:
            durable = self.log.durable
            changed, self._changed = self._changed, {}
            copies = [msgspec.structs.replace(known) for known in changed.values()]
            copies += [known for lane in self._lanes.values() if (known := lane.news()) is not None]
        try:
            # It must not know what a power cut may take from the log.
            self.log.wait(self.log.last)
            self.index.put(copies, through=durable)
            point("keeper.indexed")
        except BaseException:
            with self.lock:
                self._changed = {**changed, **self._changed}
            raise


def goes_on(known: Known, standing: Standing) -> bool:
    """Report whether a workbook stands where its newest record says, so that records may follow it in the same life."""
    return known.life != 0 and (known.txn, known.head, known.schema) == (standing.txn, standing.head, standing.schema)
