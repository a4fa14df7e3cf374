"""The lane of one open workbook: its commits on their way into the log, and how far its file can do without.

SQLite has committed when a record comes here, so the log never holds what the file refused. The caller is told that its
commit is durable only when the record is.

**What a file needs of the log.** From the first commit after a settling on, the workbook's file may lack, after a power
cut, what the log has. Such a lane is *unsettled*, and the log keeps its records. A settling brings the file to where it
stands (SQLite's checkpoint, which syncs); closing the workbook is one too.

**Lives.** The transactions of an agent count within a life. One begins where the log can't say by records how the file
came to be as it is: it is new to the log, somebody else has written it, its tables have changed. It begins with a
record
that says where the file stands, and whoever restores needs a snapshot of that life.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from torpor.base.errors import HeartbeatError, HeartbeatFailed
from torpor.heartbeat.index import NONE, Known
from torpor.heartbeat.records import Kind
from torpor.workbook import Joining, Level, Standing

if TYPE_CHECKING:
    from torpor.heartbeat.log import Log

UNKNOWN: Final = 0
"""The version of a workbook's tables, where nobody has asked."""


class Owner(Protocol):
    """What a lane needs of the keeper."""

    log: Log

    def refuse_fenced(self) -> None:
        """Refuse to acknowledge anything once another node has taken over."""
        ...

    def replicated(self, lane: OpenLane, lsn: int) -> None:
        """Wait until a record, and the snapshot that it builds on, are in the replica."""
        ...

    async def shipped(self, lane: OpenLane, lsn: int) -> None:
        """Do the same as a task."""
        ...

    def left(self, lane: OpenLane, *, clean: bool) -> None:
        """Note that a lane has ended."""
        ...


class OpenLane:
    """A `workbook.Lane`.

    Attributes:
        member: the workbook.
        known: what is known of the agent, up to date.
        first: the oldest record that the file may lack; 0 for none.

    """

    __slots__ = ("_lock", "_log", "_owner", "_told", "first", "known", "member")

    def __init__(self, owner: Owner, member: Joining, known: Known) -> None:
        self._owner = owner
        self._log = owner.log
        self._lock = threading.Lock()
        self.member = member
        self.known = known
        self.first = 0
        self._told = 0

    @property
    def failed(self) -> HeartbeatFailed | None:
        """Why the log takes nothing any more; see `workbook.Lane`."""
        reason = self._log.failed
        return HeartbeatFailed(path=self._log.path, reason=reason) if reason else None

    def news(self) -> Known | None:
        """Return what is known now, if there is a record since this was last asked."""
        with self._lock:
            if self.known.last == self._told:
                return None
            self._told = self.known.last
            return msgspec.structs.replace(self.known)

    def begin(self, standing: Standing) -> None:
        """Begin a life where the workbook stands.

        A standing with the version of the tables is that of a file which was opened just now, and is on the disk: what
        the log has of earlier lives is not for it. Without, the life goes on from the record before.
        """
        known = self.known
        lsn = self._log.add(known.agent, 0, standing.txn, Kind.LIFE, msgspec.msgpack.encode(standing))
        known.life, known.txn, known.head, known.schema = lsn, standing.txn, standing.head, standing.schema
        known.snapshot, known.at_lsn, known.since, known.last = NONE, 0, 0, lsn

    def add(self, txn: int, head: bytes, payload: bytes) -> LaneTicket:
        """Put a commit's record on its way; see `workbook.Lane`."""
        known = self.known
        with self._lock:
            lsn = self._log.add(known.agent, known.life, txn, Kind.COMMIT, payload)
            known.txn, known.head = txn, head_text(head)
            known.since += len(payload)
            known.last = lsn
            if not self.first:
                self.first = lsn
        return LaneTicket(self._owner, self, lsn)

    def broken(self, txn: int, head: bytes) -> LaneTicket:
        """Begin a new life, because no record can say what was committed; the file is on the disk."""
        with self._lock:
            self.begin(Standing(self.known.agent, txn, 0, head_text(head), UNKNOWN))
            self.first = 0
            return LaneTicket(self._owner, self, self.known.last)

    def snapped(self, life: int, txn: int, kind: Kind, payload: bytes) -> bool:
        """Put a snapshot into the log, unless the life that it was taken in is over; returns whether it was."""
        with self._lock:
            known = self.known
            if known.life != life:
                return False
            known.at_lsn = known.last = self._log.add(known.agent, life, txn, kind, payload)
            known.snapshot, known.since = txn, 0
        return True

    def lapse(self) -> None:
        """Begin a new life at the last record: those before it will not be shipped."""
        with self._lock:
            self.begin(Standing(self.known.agent, self.known.txn, 0, self.known.head, UNKNOWN))

    def settled(self, txn: int) -> None:
        """Note that the file needs no record up to a transaction; see `workbook.Lane`."""
        with self._lock:
            if txn >= self.known.txn:
                self.first = 0

    def settle(self) -> bool:
        """Have the file brought to where it stands; returns whether it was, for all that was committed before."""
        with self._lock:
            before, asked = self.known.last, self.known.txn
        done = self.member.settle()
        if done is None or done < asked:
            return False
        with self._lock:
            if self.first:
                self.first = 0 if self.known.last == before else before + 1
        return True

    def leave(self, standing: Standing | None) -> None:
        """End the lane: the workbook is closed; see `workbook.Lane`."""
        known = self.known
        if standing is not None:
            # A log that takes nothing any more loses nothing here: a recovery will find the file complete.
            with suppress(HeartbeatError):
                payload = msgspec.msgpack.encode(standing)
                known.last = self._log.add(known.agent, known.life, known.txn, Kind.LEFT, payload)
            # Where it stands elsewhere than the last record, somebody else has written it: that is noticed when it is
            # opened next.
            known.schema = standing.schema
            known.rest = True
            self.first = 0
        self._owner.left(self, clean=standing is not None)


class LaneTicket:
    """A `workbook.Ticket`: one commit on its way."""

    __slots__ = ("_lane", "_lsn", "_owner")

    def __init__(self, owner: Owner, lane: OpenLane, lsn: int) -> None:
        self._owner = owner
        self._lane = lane
        self._lsn = lsn

    def wait(self, level: Level) -> None:
        """Wait until the commit is as safe as asked; see `workbook.Ticket`."""
        self._owner.log.wait(self._lsn)
        self._owner.refuse_fenced()
        if level >= Level.REPLICATED:
            self._owner.replicated(self._lane, self._lsn)

    async def arrive(self, level: Level) -> None:
        """Wait, as a task, until the commit is as safe as asked; see `workbook.Ticket`."""
        await self._owner.log.arrive(self._lsn)
        self._owner.refuse_fenced()
        if level >= Level.REPLICATED:
            await self._owner.shipped(self._lane, self._lsn)


def head_text(head: bytes) -> str:
    """Return how a standing writes the hash of the newest event."""
    return head.hex() if any(head) else ""
