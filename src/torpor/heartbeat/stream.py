"""The stream: records of many threads, made durable by one sync after another.

**Group commit.** `add` puts a record into the open batch, in memory; `wait` returns when it is on the disk. Nobody else
does the work, no thread sleeps for it: of those who wait, one *leads*. It takes the batch, writes and syncs it, and
publishes; meanwhile the others fill the next batch. A writer who is alone therefore syncs in its own thread, at the
price of one write and one sync. When the leader is served it hands the lead to the first who waits for the next batch,
before it wakes anybody else, so that the device is never idle for want of a thread; then it wakes the first of those
whom it has served, who wakes the second, and so on. A chain costs each of them one wake-up, where waking all at once
would have them queue for the interpreter's lock, and the next leader among them.

**One group at a time.** A batch is written only after the one before it was synced: how damage and a torn tail are told
apart depends on that (`torpor.heartbeat.segment`).

**After an error.** A sync that failed is never tried again on the same file: the system may have dropped what it could
not write and call the rest clean. What was not acknowledged is sealed anew, for a fresh segment, and written there. If
that fails too the log has *failed*: who waits, and whoever comes, is told so. Only where there is no room for the
fresh segment the log is not lost: the batches stay as they are, and each who waits for one tries again, once.

**Interruptions.** A signal may raise an exception in a thread that adds, leads or waits (Ctrl-C in the main thread).
The interpreter lets that happen at calls and loops only, so what must change together is changed without either. A
batch stays in the queue until it is published, and the lead is given on in `finally`; whoever gets it writes the same
bytes to the same place again, which is harmless because nothing has failed. If the exception comes where the lead is
given on, or those are woken who were served, they find out by themselves: who sleeps looks up each second.
"""

from __future__ import annotations

import errno
import threading
import time
from collections import deque
from itertools import pairwise
from typing import Final, NoReturn

from torpor.base import faults
from torpor.base.clock import Clock
from torpor.base.errors import (
    HeartbeatClosed,
    HeartbeatFailed,
    HeartbeatFull,
    HeartbeatStalled,
    InternalError,
    RecordRefused,
)
from torpor.base.limits import LOG_PENDING_BYTES_MAX, LOG_RECORD_MAX, LOG_STALL_SECONDS
from torpor.heartbeat.folder import Folder
from torpor.heartbeat.records import Kind, agent_bytes, checksum, encoded_size, rest_of, sealed, sealed_up
from torpor.heartbeat.segment import BLOCK_BYTES, Heading, room_for

_GLANCE_S: Final = 1.0
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class _Turn:
    """One call of `wait`."""

    __slots__ = ("batch", "gate", "leads", "next")

    def __init__(self) -> None:
        self.leads = False
        self.batch: _Batch | None = None
        """Where it is enlisted."""
        self.gate: threading.Lock | None = None
        """Held until somebody wakes it."""
        self.next: _Turn | None = None
        """Whom it must wake."""


class _Batch:
    """Records that are written and synced together.

    Attributes:
        heading: of the segment that they go to.
        offset: the byte there at which the first goes.
        end: the byte behind the last.
        group: the lsn of the first.
        last: that of the last.
        entries: the records, encoded.
        turns: who waits for them, and sleeps.

    """

    __slots__ = ("end", "entries", "group", "heading", "last", "offset", "turns")

    def __init__(self, heading: Heading, offset: int, group: int) -> None:
        self.heading = heading
        self.offset = self.end = offset
        self.group = group
        self.last = group - 1
        self.entries: list[bytes] = []
        self.turns: list[_Turn] = []


class Stream:
    """What is added to a log, and how it becomes durable. Safe to use from many threads.

    Args:
        folder: the files; nobody else writes to them.
        clock: what records and segments are dated by.

    """

    def __init__(self, folder: Folder, clock: Clock) -> None:
        self.path = folder.path
        self.durable = folder.durable
        """The highest lsn that is durable; 0 before the first."""
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._batches: deque[_Batch] = deque()
        """What is to be written, in order; the first of them is being written while somebody leads."""
        self._open: _Batch | None = None
        """The last of them, if more may be added to it."""
        self._room = LOG_PENDING_BYTES_MAX
        """Bytes that may still be added to them."""
        self._next = folder.durable + 1
        self._leader: _Turn | None = None
        self._began = 0.0
        """When the leader began what it is doing, in seconds of the monotonic clock."""
        self._failed = ""
        self._closed = False
        self._forked = False

    @property
    def last(self) -> int:
        """The highest lsn that was given; `wait(log.last)` makes all of them durable."""
        return self._next - 1

    @property
    def failed(self) -> str:
        """Why the log has failed for good, in words; empty as long as it works."""
        return self._failed

    def add(self, agent: str, life: int, txn: int, kind: Kind, payload: bytes) -> int:
        """Add a record, and return its lsn. It is durable when `wait` has returned.

        Args:
            agent: its UUID as text, or `NOBODY`.
            life: the lsn of the agent's newest record of kind LIFE; 0 where this is the one.
            txn: the agent's transaction.
            kind: what the record says.
            payload: the rest.

        Raises:
            RecordRefused: the payload is too large.
            HeartbeatFailed, HeartbeatStalled, HeartbeatFull, HeartbeatClosed: nothing was added.

        """
        length = len(payload)
        size = encoded_size(length)
        raw = agent_bytes(agent)
        crc = checksum(payload)
        now = self._clock.now_us()
        faults.point("heartbeat.adding")
        while True:
            with self._lock:
                batch = self._open
                if batch is None or size > batch.heading.size - batch.end or size > self._room:
                    batch = self._open_batch(size)
                if batch is not None:
                    lsn = self._next
                    rest = rest_of(length, crc, lsn, batch.group, raw, life or lsn, txn, now, kind, 0)
                    entry = sealed_up(rest, payload, batch.heading.seed)
                    # From here on nothing is called, so that no signal's handler comes in between.
                    batch.entries += (entry,)
                    batch.end += size
                    batch.last = lsn
                    self._room -= size
                    self._next = lsn + 1
                    return lsn
                oldest = self._batches[0].last
            self.wait(oldest)

    def _open_batch(self, size: int) -> _Batch | None:
        """Return a batch that takes a record of `size` bytes; None as long as too much waits already."""
        if self._failed or self._closed:
            self._refuse()
        if size > LOG_RECORD_MAX:
            raise RecordRefused(path=self.path, size=size, limit=LOG_RECORD_MAX)
        if self._batches:
            if size > self._room:
                return None
            heading, end = self._batches[-1].heading, self._batches[-1].end
        else:
            heading, end = self._folder.active, self._folder.end
        if end + size > heading.size:
            heading, end = self._next_heading(heading.number, self._next, size), BLOCK_BYTES
        batch = _Batch(heading, end, self._next)
        self._batches.append(batch)
        self._open = batch
        return batch

    def _next_heading(self, number: int, first: int, size: int) -> Heading:
        room = max(self._folder.segment_bytes, room_for(size))
        return Heading(number + 1, first, room, self._folder.home, self._clock.now_us())

    def wait(self, lsn: int, timeout_s: float = LOG_STALL_SECONDS) -> None:
        """Return when the record `lsn`, and so every one before it, is durable.

        Args:
            lsn: what `add` returned.
            timeout_s: how long to wait for another thread's sync, in seconds.

        Raises:
            HeartbeatFailed: it could not be written; it may or may not be there after a power loss.
            HeartbeatStalled: the device has not answered in time; it may still become durable.
            HeartbeatFull: there is no room for it; it becomes durable with the next that does.
            HeartbeatClosed: in a forked child.

        """
        if lsn <= self.durable:
            return
        turn = _Turn()
        try:
            gate = self._enlist(turn, lsn)
            if gate is not None:
                self._sleep(turn, gate, lsn, timeout_s)
            while turn.leads:
                self._lead(turn, lsn)
        finally:
            if turn.batch is not None or turn.leads:
                self._leave(turn)
            if turn.next is not None:
                _wake(turn.next)
        if lsn > self.durable:
            self._explain(timeout_s)

    def _enlist(self, turn: _Turn, lsn: int) -> threading.Lock | None:
        """Let a turn lead if nobody does; else enlist it with the batch that it waits for, and return its gate."""
        with self._lock:
            if lsn <= self.durable:
                return None
            if self._failed or self._forked:
                self._refuse()
            if lsn >= self._next:
                raise InternalError(promise=f"nobody waits for record {lsn}, which nobody has added")
            if self._leader is None:
                self._leader = turn
                turn.leads = True
                return None
            gate = turn.gate = threading.Lock()
            gate.acquire()
            for batch in self._batches:
                if lsn <= batch.last:
                    batch.turns.append(turn)
                    turn.batch = batch
                    break
            return gate

    def _sleep(self, turn: _Turn, gate: threading.Lock, lsn: int, timeout_s: float) -> None:
        """Sleep until the record is durable, the log has failed, this turn leads, or the time is over.

        It looks up now and then. Only an exception that a signal raised at the worst of moments, in a thread that was
        about to wake this one, makes that necessary.
        """
        end = time.monotonic() + timeout_s
        while not gate.acquire(timeout=max(0.0, min(_GLANCE_S, end - time.monotonic()))):
            with self._lock:
                if lsn <= self.durable or turn.leads or self._failed:
                    return
                if self._leader is None:
                    self._leader = turn
                    turn.leads = True
                    return
            if time.monotonic() >= end:
                return

    def _lead(self, turn: _Turn, lsn: int) -> None:
        """Write the first batch, sync it, publish it, give the lead on once `lsn` is durable, and wake who must be."""
        self._began = time.monotonic()
        with self._lock:
            batch = self._batches[0]
            if batch is self._open:
                self._open = None  # nothing is added to it any more
        try:
            self._put(batch)
        except OSError:
            self._put_elsewhere(batch)
        faults.point("heartbeat.synced")
        with self._lock:
            self._folder.publish(batch.last, batch.end)
            # As in `add`, nothing is called here.
            self.durable = batch.last
            del self._batches[0]
            self._room += batch.end - batch.offset
            served = batch.turns
            batch.turns = []
            for one, other in pairwise(served):
                one.next = other
            first = served[0] if served else None
            heir = self._resign(turn) if lsn <= batch.last else None
        if heir is not None:
            _wake(heir)
        if first is not None:
            _wake(first)

    def _put(self, batch: _Batch) -> None:
        folder = self._folder
        if batch.heading.number != folder.active.number:
            folder.begin(batch.heading)
        faults.point("heartbeat.writing")
        folder.write(batch.entries, batch.offset, batch.end)
        faults.point("heartbeat.written")
        folder.sync()

    def _put_elsewhere(self, batch: _Batch) -> None:
        """Write a batch that could not be written where it belongs into a fresh segment, and what follows behind it.

        Raises:
            HeartbeatFailed: that can't be done either.
            HeartbeatFull: there is no room for the segment. Whoever leads next tries again.

        """
        with self._lock:
            heading, end = self._folder.active, self._folder.active.size
            for each in self._batches:
                size = each.end - each.offset
                if end + size > heading.size:
                    heading, end = self._next_heading(heading.number, each.group, size), BLOCK_BYTES
                each.entries = [sealed(entry, heading.seed) for entry in each.entries]
                each.heading, each.offset, each.end = heading, end, end + size
                end = each.end
        try:
            self._put(batch)
        except OSError as error:
            if error.errno in _NO_ROOM and batch.heading.number != self._folder.active.number:
                raise HeartbeatFull(path=self.path, reason=_words(error)) from error
            with self._lock:
                self._failed = _words(error)
                self._open = None
            raise failure(self.path, error) from error

    def _resign(self, turn: _Turn) -> _Turn | None:
        """Give the lead on, and return whom to wake for that; where the log has failed, the first of all who wait."""
        turn.leads = False
        self._leader = None
        waiting = [each for batch in self._batches for each in batch.turns]
        if not waiting:
            return None
        heir = waiting[0]
        if self._failed:
            for batch in self._batches:
                batch.turns = []
            for one, other in pairwise(waiting):
                one.next = other
        else:
            self._leader = heir
            heir.leads = True
        return heir

    def _leave(self, turn: _Turn) -> None:
        """End a turn: it sleeps no more, and doesn't lead."""
        heir = None
        with self._lock:
            if turn.batch is not None and turn in turn.batch.turns:
                turn.batch.turns.remove(turn)
            if turn.leads:
                heir = self._resign(turn)
        if heir is not None:
            _wake(heir)

    def _refuse(self) -> NoReturn:
        """Say why nothing can be added, or waited for."""
        if self._failed and not self._forked:
            raise HeartbeatFailed(path=self.path, reason=self._failed)
        raise HeartbeatClosed(path=self.path)

    def _explain(self, timeout_s: float) -> NoReturn:
        """Say why a wait has ended and the record isn't durable."""
        with self._lock:
            if self._failed or self._forked:
                self._refuse()
        raise self.stalled(timeout_s)

    def stalled(self, timeout_s: float) -> HeartbeatStalled:
        """Return what is to be said to who has waited for so many seconds in vain."""
        with self._lock:
            waiting = sum(batch.last - batch.group + 1 for batch in self._batches)
        taken = time.monotonic() - self._began
        return HeartbeatStalled(path=self.path, seconds=taken, limit=timeout_s, waiting=waiting)

    def forget(self) -> None:
        """Be of no use any more: this is a forked child, and the log is its parent's."""
        self._lock = threading.Lock()  # another thread of the parent may have held it, and is not here to give it back
        self._closed = self._forked = True
        self._open, self.durable = None, -1


def _wake(turn: _Turn) -> None:
    if turn.gate is not None:
        turn.gate.release()


def failure(path: str, error: OSError) -> HeartbeatFailed:
    """Return our error for what the system said about the log at `path`."""
    return HeartbeatFailed(path=path, reason=_words(error))


def _words(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
