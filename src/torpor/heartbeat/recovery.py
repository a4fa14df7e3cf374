"""Recovery: after a death, each agent's file is brought to where the log says that it was.

The log is read once, from its oldest segment. Of each agent that was awake at the end, the records since its file was
last complete by itself are applied, several agents at a time; a transaction that the file has is passed over, so it may
be done twice and may die half-way. An agent of which something is damaged or doesn't fit is *quarantined*
(`quarantine.py`): its file stays as it is, its records are kept beside the log, nobody may open it, and the others go
on.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from torpor.base.clock import Clock
from torpor.base.errors import (
    NewerFormat,
    NotAWorkbook,
    ReplayRefused,
    WorkbookDamaged,
    WorkbookMissing,
    WorkbookOwned,
)
from torpor.base.faults import point
from torpor.base.limits import MIB
from torpor.heartbeat.index import NONE, Index, Known
from torpor.heartbeat.lanes import UNKNOWN
from torpor.heartbeat.log import Log
from torpor.heartbeat.quarantine import Quarantine, Quarantined
from torpor.heartbeat.records import NOBODY, Damage, Kind, Record
from torpor.workbook import Replay, Standing, awaits

_standing: Final = msgspec.msgpack.Decoder(Standing).decode

_HELD_MAX: Final = 256 * MIB
"""Bytes of records in memory at a time."""

_SNAPSHOTS: Final = frozenset({Kind.SNAPSHOT, Kind.SNAPSHOT_AT})


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """What a recovery found and did.

    Attributes:
        records: how many the log had.
        agents: how many files were brought up to date.
        applied: how many transactions they lacked.
        quarantined: whom it could not help.
        damages: spots of the log that can't be read.

    """

    records: int = 0
    agents: int = 0
    applied: int = 0
    quarantined: tuple[Quarantined, ...] = ()
    damages: tuple[Damage, ...] = ()


class _Agent:
    """One agent, as the reading of the log has left it so far."""

    __slots__ = ("damage", "held", "known", "open", "records")

    def __init__(self, known: Known) -> None:
        self.known = known
        self.records: list[Record] = []
        self.held = 0
        self.open = False
        self.damage: Damage | None = None

    def take(self, record: Record) -> None:
        known = self.known
        known.last = record.lsn
        if record.kind is Kind.LIFE:
            standing = _standing(record.payload)
            known.life, known.snapshot, known.at_lsn, known.since = record.lsn, NONE, 0, 0
            known.txn, known.head, known.schema = standing.txn, standing.head, standing.schema
            self.open, known.rest, known.gone = record.agent != NOBODY, False, False
            if record.agent == NOBODY:
                known.snapshot, known.at_lsn = 0, record.lsn  # the ledger's own changes need none
            if standing.schema != UNKNOWN:
                self._complete()
        elif record.kind is Kind.COMMIT:
            known.txn = record.txn
            known.since += len(record.payload)
            self.open, known.rest = True, False
            self.records.append(record)
            self.held += len(record.payload)
        elif record.kind is Kind.LEFT:
            standing = _standing(record.payload)
            self.open = False
            self.left(standing)
            self._complete()
        elif record.kind in _SNAPSHOTS:
            known.snapshot, known.at_lsn, known.since = record.txn, record.lsn, 0
        elif record.kind is Kind.LEDGER:
            known.txn = record.txn
        elif record.kind is Kind.GONE:
            known.gone, known.rest, self.open = True, True, False
            self._complete()

    def left(self, standing: Standing) -> None:
        """Take up where the file stands, complete by itself."""
        known = self.known
        known.rest, known.schema = True, standing.schema
        if standing.txn == known.txn:
            known.head = standing.head
        else:
            # It has a transaction without a record: one that was never acknowledged, or somebody else's. Only a
            # snapshot can bring it to the replica, and it may be long until the agent wakes.
            known.life, known.snapshot = 0, NONE

    def _complete(self) -> None:
        """Drop what the file had when this was recorded."""
        self.records.clear()
        self.held = 0
        self.damage = None


class Recovery:
    """One recovery.

    Args:
        log: the log, which nobody uses yet.
        index: what was known.
        path: returns an agent's file, absolute; None where it has none here.
        clock: where times come from.
        watch: is told how many agents are done, of how many.
        marked: the id and the file of each agent with a mark beside its file.

    Attributes:
        folders: those in which files were recovered, so that marks were taken away.

    """

    def __init__(
        self,
        log: Log,
        index: Index,
        path: Callable[[str], str | None],
        clock: Clock,
        watch: Callable[[int, int], None] | None = None,
        marked: Iterable[tuple[str, str]] = (),
    ) -> None:
        self._log = log
        self._index = index
        self._path = path
        self._clock = clock
        self._watch = watch or (lambda _done, _of: None)
        self._marked = marked
        self.folders: set[str] = set()
        self._agents: dict[str, _Agent] = {}
        self._applied = 0
        self._counting = threading.Lock()
        self._quarantine = Quarantine(log.path)
        self._barred = {one.agent for one in self._quarantine.all()}
        """Who must not be opened: since earlier, and from now on."""
        self._quarantined: list[Quarantined] = []

    def run(self) -> Recovered:
        """Read the log, bring every file up to date, and have the index know all of it.

        Raises:
            HeartbeatError: the log or the index can't be used.

        """
        count, held = 0, 0
        damages: list[Damage] = []
        for item in self._log.scan():
            if isinstance(item, Damage):
                damages.append(item)
                if item.agent is not None:
                    self._agent(item.agent).damage = item
                continue
            count += 1
            agent = self._agent(item.agent)
            before = agent.held
            agent.take(item)
            held += agent.held - before
            if held > _HELD_MAX:
                self._apply_all(finish=False)
                held = 0
        for known, path in self._marked:
            # A mark of another boot, and nothing in the log: its only commits were lost unacknowledged, or it was
            # closed, and the power cut has brought the mark back. The log has nothing for it, but has to say so.
            if awaits(path) is not None:
                self._agent(known).open = True
        mended = self._apply_all(finish=True)
        point("recovery.applied")
        self._log.wait(self._log.last)
        self._index.put((agent.known for agent in self._agents.values()), through=self._log.durable)
        point("recovery.indexed")
        return Recovered(
            records=count,
            agents=mended,
            applied=self._applied,
            quarantined=tuple(self._quarantined),
            damages=tuple(damages),
        )

    def _agent(self, agent: str) -> _Agent:
        if agent not in self._agents:
            self._agents[agent] = _Agent(self._index.get(agent) or Known(agent=agent))
        return self._agents[agent]

    def _apply_all(self, *, finish: bool) -> int:
        work = [agent for agent in self._agents.values() if agent.open and agent.known.agent not in self._barred]
        with ThreadPoolExecutor(max(2, os.cpu_count() or 1), "torpor-recovery") as threads:
            for done, _ in enumerate(threads.map(lambda agent: self._apply(agent, finish=finish), work), 1):
                self._watch(done, len(work))
        for agent in self._agents.values():
            if agent.open and agent.known.agent in self._barred:
                self._keep(agent)  # what has come since it was quarantined, or in this start again
        return len(work)

    def _apply(self, agent: _Agent, *, finish: bool) -> None:
        known = agent.known
        path = self._path(known.agent)
        if path is None:
            known.rest = True  # it was moved away, complete, and died before the log could know
            return
        try:
            if agent.damage is not None:
                where = f"byte {agent.damage.offset:,} of segment {agent.damage.segment:016x}"
                reason = f"its record at {where} of the log can't be read: {agent.damage.reason}"
                self._bar(agent, reason, agent.damage)
                return
            with Replay.open(path, clock=self._clock) as replay:
                applied = replay.apply_many([(record.txn, record.payload) for record in agent.records])
                with self._counting:
                    self._applied += applied
                agent.records.clear()
                agent.held = 0
                if finish:
                    standing = replay.finish()
                    self.folders.add(os.path.dirname(path))
                    if known.life:
                        payload = msgspec.msgpack.encode(standing)
                        known.last = self._log.add(known.agent, known.life, known.txn, Kind.LEFT, payload)
                    agent.left(standing)
        except WorkbookOwned as error:
            if awaits(path) is not None:
                self._bar(agent, error.message)
                return
            # Somebody else has opened it since this machine was started, and so made it durable as it was: it lacks
            # nothing. What they do with it, the log doesn't know.
            known.rest, known.life, known.snapshot = True, 0, NONE
        except WorkbookMissing:
            self._bar(agent, f"its file {path} is not there")
        except (WorkbookDamaged, NotAWorkbook, NewerFormat, ReplayRefused) as error:
            self._bar(agent, error.message)

    def _bar(self, agent: _Agent, reason: str, damage: Damage | None = None) -> None:
        """Quarantine an agent. Its records first: once it is, the log may let them go."""
        self._keep(agent)
        segment = "" if damage is None else f"{damage.segment:016x}.segment"
        found = Quarantined(agent.known.agent, reason, segment, 0 if damage is None else damage.offset)
        self._quarantine.put(found)
        with self._counting:
            self._barred.add(found.agent)
            self._quarantined.append(found)

    def _keep(self, agent: _Agent) -> None:
        """Put an agent's records aside."""
        if agent.records:
            self._quarantine.keep(agent.known.agent, agent.records)
            agent.records.clear()
            agent.held = 0
