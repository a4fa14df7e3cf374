"""Reading ahead of what is shipped: the records of the next pack, and what had to be passed over.

A record may be gone before it was shipped: the log has let it go because the store was away for too long, or it can't
be read any more. Then nothing behind it would ever be shipped. What was let go is passed over at once, for whoever let
it go has given everybody concerned a new life. What can't be read is *stuck* until somebody has done so, and says it.
"""

from __future__ import annotations

import threading
from typing import Protocol

from torpor.base.errors import HeartbeatDamaged, HeartbeatReleased
from torpor.heartbeat.records import Record, encoded_size


class Source(Protocol):
    """What is shipped: a log."""

    @property
    def durable(self) -> int:
        """The highest number of a durable record."""
        ...

    @property
    def first(self) -> int:
        """The number of the oldest record that is kept."""
        ...

    def read(self, after: int, limit_bytes: int) -> list[Record]:
        """Return durable records behind a number; at least one, if there is one."""
        ...


class Ahead:
    """What was read of a log and isn't shipped. One thread reads; what it changes it changes under the lock.

    Args:
        log: what is read.
        limit_bytes: how much is read ahead, in bytes of encoded records.
        lock: guards all of this.

    Attributes:
        records: what was read, in order.
        bytes: theirs, encoded.
        read_to: the last record that was read or passed over.
        gaps: how often something was passed over.
        stuck: the record that can't be read; 0 where there is none.

    """

    def __init__(self, log: Source, limit_bytes: int, lock: threading.Lock) -> None:
        self._log = log
        self._limit = limit_bytes
        self._lock = lock
        self.records: list[Record] = []
        self.bytes = 0
        self.read_to = 0
        self.gaps = 0
        self.stuck = 0
        self._lost: list[tuple[int, int]] = []
        """What was passed over: the first of each row, and the next record that was not."""

    def collect(self) -> None:
        """Read ahead, up to the limit.

        Raises:
            HeartbeatDamaged: nothing was read ahead, and the next record can't be.

        """
        while self.bytes < self._limit:
            try:
                found = self._log.read(self.read_to, self._limit - self.bytes)
            except HeartbeatReleased as error:
                with self._lock:
                    self.pass_over(error.first)
                continue
            except HeartbeatDamaged:
                self.stuck = self.read_to + 1
                if self.records:
                    return  # what is sound goes first
                raise
            if not found:
                return
            with self._lock:
                self.stuck = 0
                self.records += found
                self.bytes += sum(encoded_size(len(record.payload)) for record in found)
                self.read_to = found[-1].lsn

    def shipped(self, lsn: int) -> None:
        """Forget what is shipped (the lock is held)."""
        self.records = [record for record in self.records if record.lsn > lsn]
        self.bytes = sum(encoded_size(len(record.payload)) for record in self.records)

    def pass_over(self, until: int) -> None:
        """Go on with the record `until` (the lock is held)."""
        self.stuck = 0
        if until > self.read_to + 1:
            self._lost.append((self.read_to + 1, until))
            self.read_to = until - 1
            self.gaps += 1

    def refuse_lost(self, lsn: int, place: str) -> None:
        """Refuse to count a record as shipped that was passed over.

        Raises:
            HeartbeatReleased: it was.

        """
        for first, until in self._lost:
            if first <= lsn < until:
                raise HeartbeatReleased(path=place, asked=lsn, first=until)
