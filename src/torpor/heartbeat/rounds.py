"""The rounds: what the heartbeat does at each beat, so that the log stays short and the replica complete.

A beat

- puts what changed in the ledger on its way into the replica;
- passes over what can't be read any more, so that it stops nobody else's records from being shipped;
- takes a snapshot of each agent that the replica could not restore, or only from too many records;
- settles the agents that keep old segments from being reused, and lets those segments go;
- where the store has been away for so long that the log reaches its bound, lets go what isn't shipped either. Each
  agent concerned is given a new life, so that a snapshot takes the place of what was let go.

**What may be let go.** A record is needed until the file of its agent is complete without it, the index knows it, and
the replica has it (where there is one). So three numbers decide, and the least counts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

import msgspec

from torpor.base.limits import LOG_KEEP_BYTES, MIB
from torpor.heartbeat.index import NONE, Known
from torpor.heartbeat.records import NOBODY, Kind
from torpor.heartbeat.roll import Roll
from torpor.heartbeat.shipping import Shipper
from torpor.heartbeat.snapping import Snapper
from torpor.workbook import Standing

LEDGER_MARK: Final = "ledger"
SNAPSHOT_AFTER_BYTES: Final = 4 * MIB
"""Bytes of records after which an agent gets a new snapshot, where it is not itself larger."""

LEDGER_AGAIN_BYTES: Final = 8 * MIB
"""Bytes of changes of the ledger after which all of it is put into the log again, and what was before can go."""

SNAPSHOTS_A_BEAT: Final = 16 * MIB
"""Bytes of snapshots, compressed, that one beat makes at most, or one snapshot."""

SNAPSHOT_SECONDS: Final = 0.5
"""Seconds after which a beat makes no further snapshot: what is new in the ledger waits meanwhile."""

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

    def marked(self) -> Iterator[tuple[str, str]]:
        """Yield the id and the file of each that has a mark beside its file."""
        ...

    def changes(self, since: bytes | None) -> News | None:
        """Return what has changed in the ledger since a mark; None for nothing."""
        ...


class Rounds:
    """The beats of one home.

    Args:
        roll: who is awake, and what is known of the others.
        roster: what the home says of its agents.
        snapper: takes their snapshots.
        shipper: brings the log into the replica; None where there is none.
        backlog_max: bytes that the log takes at most while the replica can't be reached.

    """

    def __init__(
        self, roll: Roll, roster: Roster, snapper: Snapper, *, shipper: Shipper | None, backlog_max: int
    ) -> None:
        self._roll = roll
        self._log = roll.log
        self._roster = roster
        self._snapper = snapper
        self._shipper = shipper
        self._backlog_max = backlog_max
        self._beating = threading.Lock()
        self._wanted = threading.Event()
        self._after = ""
        """Up to this one, sleepers had their turn to get a snapshot."""
        self._given_up = 0
        """Up to this record, what isn't shipped never will be."""

    def hurry(self) -> None:
        """End the waiting for the next beat."""
        self._wanted.set()

    def wait(self, seconds: float) -> None:
        """Wait for the next beat, or until somebody is in a hurry."""
        self._wanted.wait(seconds)
        self._wanted.clear()

    def beat(self) -> None:
        """Do what is to be done now and then.

        Raises:
            TorporError: something of it failed; it is tried again at the next beat.

        """
        with self._beating:
            self._log.prepare()
            if self._shipper is not None and self._shipper.stuck:
                self._pass_over_damage(self._shipper)
            if self._shipper is not None and not self._is_away(self._shipper):
                self._ship_ledger()
                self._snapshot_some()
            self._log.wait(self._log.last)
            self._shorten()
            self._roll.flush()
            self._release()

    # --- for the replica

    def _is_away(self, shipper: Shipper) -> bool:
        """Report whether the store has been away so long that what is only for it would make the log too long."""
        return self._log.size > self._backlog_max // 2 and shipper.lag().state not in ("shipping", "starting")

    def _pass_over_damage(self, shipper: Shipper) -> None:
        """Have shipping go on behind records that can't be read any more.

        Whose they were isn't always known. So everybody with anything there, or behind it, begins a new life.
        """
        stuck = shipper.stuck
        damage = self._log.damage(stuck)
        if damage is None:
            return  # it was let go meanwhile, or can be read after all: shipping tries again
        self._roll.lapse(stuck - 1)
        self._log.wait(self._log.last)
        shipper.skip(damage.until)

    def _ship_ledger(self) -> None:
        known = self._roll.known(NOBODY) or Known(agent=NOBODY)
        mark = begun = self._roll.index.fact(LEDGER_MARK)
        again = known.life == 0 or (known.since > LEDGER_AGAIN_BYTES and known.since > known.full * 2)
        before = known.txn
        if again:
            # All of it anew: an earlier life was given up, or has grown long. The snapshot behind it, which stands
            # before it, lets a replica forget what was until then.
            mark, known.since = None, 0
        if known.life == 0:
            standing = Standing(NOBODY, before, 0, "", 0)
            known.life = self._log.add(NOBODY, 0, before, Kind.LIFE, msgspec.msgpack.encode(standing))
        met: list[Known] = []
        while (found := self._roster.changes(mark)) is not None:
            known.txn += 1
            known.since += len(found.payload)
            known.last = self._log.add(NOBODY, known.life, known.txn, Kind.LEDGER, found.payload)
            met += self._meet(found.there)
            for agent in found.gone:
                self._roll.gone(agent)
            mark = found.mark
        if again:
            known.full, known.since, known.snapshot = known.since, 0, before
            known.at_lsn = known.last = self._log.add(NOBODY, known.life, before, Kind.SNAPSHOT, b"")
        elif mark == begun:
            return
        self._log.wait(self._log.last)  # or a kill would take from the log what the index says is there
        self._roll.index.put([known, *met], facts={} if mark is None else {LEDGER_MARK: mark})

    def _meet(self, agents: Iterable[str]) -> list[Known]:
        """Return those whom the log has never seen: the replica is to have them before they ever wake."""
        with self._roll.lock:
            return [Known(agent=agent) for agent in agents if self._roll.known(agent) is None]

    def _snapshot_some(self) -> None:
        left, end = SNAPSHOTS_A_BEAT, time.monotonic() + SNAPSHOT_SECONDS
        for agent, path in self._wanting():
            left -= self._snapper.attempt(agent, path)
            if left <= 0 or time.monotonic() >= end:
                self.hurry()
                return

    def _wanting(self) -> Iterator[tuple[str, str]]:
        """Yield the id and the file of each agent that needs a snapshot, the awake first.

        Of those who sleep, it goes on where the beat before has stopped: who can't be read keeps nobody from his turn.
        """
        awake = {lane.known.agent: lane for lane in self._roll.lanes()}
        for agent, lane in awake.items():
            if lane.known.snapshot == NONE or lane.known.since > SNAPSHOT_AFTER_BYTES:
                yield agent, lane.member.path
        barred = {one.agent for one in self._roll.quarantine.all()}
        while page := self._roll.index.wanting(_PAGE, self._after):
            for known in page:
                agent = self._after = known.agent
                path = None if agent in awake or agent in barred else self._roster.path(agent)
                if path is not None:
                    yield agent, path
        self._after = ""

    # --- what may be let go

    def _shorten(self) -> None:
        """Settle who keeps old segments; let go of what isn't shipped where the log has grown to its bound."""
        log = self._log
        if log.size <= min(LOG_KEEP_BYTES, self._backlog_max // 2):
            return
        unsettled = sorted((lane for lane in self._roll.lanes() if lane.first), key=lambda lane: lane.first)
        middle = (log.first + log.last) // 2
        for lane in unsettled:
            if lane.first > middle:
                break
            lane.settle()
        if self._shipper is not None and log.size > self._backlog_max:
            self._let_go()

    def _let_go(self) -> None:
        """Give up shipping what waits: each agent concerned begins a new life, which needs no record before it."""
        shipped, until = self._shipped(), self._log.last
        if self._roll.needed() - 1 <= self._given_up:
            return  # nothing would be let go: what was given up before is still needed here
        self._roll.lapse(shipped)
        self._given_up = until

    def _shipped(self) -> int:
        return self._shipper.lag().shipped if self._shipper is not None else self._log.durable

    def _release(self) -> None:
        roll = self._roll
        self._log.release(min(roll.needed() - 1, max(self._shipped(), self._given_up), roll.index.through))
