"""The folder of the log: its segments, the spares, and what happens to them.

    heartbeat/owner                      who holds the log (`torpor.base.claims`)
    heartbeat/%016x.segment              the segments, numbered without a gap; the last one is written to
    heartbeat/%016x.spare                old content that nobody needs: the next segments
    heartbeat/….making                   zeros being written; of no use after a crash

A segment gets its heading, synced, before it gets its name, and its name, synced, before its first record. So a name
that ends in `.segment` always leads to a sound heading, and one that isn't sound is damage. Segments go oldest first,
each with a sync of the folder, so that none is missing between two others after a power cut, and a spare was certainly
no segment any more when it becomes one again. The last one never goes: its heading keeps the count of numbers.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections.abc import Iterator
from itertools import zip_longest
from typing import Final

import msgspec

from torpor.base import faults
from torpor.base.clock import Clock
from torpor.base.errors import HeartbeatDamaged, InternalError
from torpor.base.limits import LOG_SPARES
from torpor.heartbeat.disk import Disk
from torpor.heartbeat.records import Damage, Record
from torpor.heartbeat.segment import (
    BLOCK_BYTES,
    Heading,
    Walk,
    number_in,
    read_heading,
    segment_name,
)

_SPARE: Final = ".spare"
_MAKING: Final = ".making"


class SegmentFacts(msgspec.Struct, frozen=True):
    """One segment, for whoever looks.

    Attributes:
        number: its number.
        first: the lsn of its first record.
        last: that of its last durable one; `first` - 1 where it has none.
        size: its bytes on the disk.
        used: bytes of it that hold records.
        created: when it was begun, in µs since 1970 UTC; 0 where its heading can't be read.

    """

    number: int
    first: int
    last: int
    size: int
    used: int
    created: int


class Stored:
    """A segment that is there."""

    __slots__ = ("end", "first", "heading", "number", "size", "unreadable")

    def __init__(self, number: int, heading: Heading | None, size: int, unreadable: str = "") -> None:
        self.number = number
        self.heading = heading
        self.first = heading.first if heading else 0
        self.size = size
        self.end = size
        """The byte behind its last durable record; its length, where that was never looked for."""
        self.unreadable = unreadable


class Folder:
    """The files of one log. `begin`, `write` and `sync` are for one thread at a time, the rest for any.

    Args:
        path: the folder, which this process has claimed.
        home: the UUID of the home that it belongs to.
        segment_bytes: the length of a usual segment.
        disk: the system's files.

    """

    def __init__(self, path: str, home: str, segment_bytes: int, disk: Disk) -> None:
        self.path = path
        self.home = home
        self.segment_bytes = segment_bytes
        self.disk = disk
        self.durable = 0
        """The last record that is certain."""
        self.active = Heading(0, 0, 0, home, 0)
        """The heading of the segment that is written to."""
        self._segments: list[Stored] = []
        self._spares: list[str] = []
        self._made = 0
        self._descriptor = -1
        self._lock = threading.Lock()
        """Guards the lists. Nothing is done to the disk under it, for a commit may wait for it."""
        self._making = threading.Lock()
        self._giving = threading.Lock()

    # --- opening --------------------------------------------------------------------------------------------------

    def open(self, clock: Clock, after: int) -> None:
        """Find the segments and the end of the log, make that end certain, and get ready to go on.

        Args:
            clock: what segments are dated by.
            after: the number that the records of a new log come after.

        Raises:
            HeartbeatDamaged: a segment is another home's, or the last one has no sound heading.
            OSError: the system refuses.

        """
        self._look_round()
        if not self._segments:
            self.durable = after
            self.begin(Heading(1, after + 1, self.segment_bytes, self.home, clock.now_us()))
            return
        last = self._segments[-1]
        if last.heading is None:
            raise HeartbeatDamaged(path=self.path_of(last), offset=0, reason=last.unreadable)
        self._descriptor = self.disk.open(self.path_of(last))
        data = self.disk.read(self._descriptor, last.size, 0)
        walk = Walk(data, last.heading, None)
        for _ in walk:
            pass
        faults.point("heartbeat.opening")
        # A former process may have written the last group and died, or failed, before it was synced. What is in the
        # system's cache only would be read now and be gone after a power loss; and after a failed sync the cache calls
        # it clean, so that only writing it again brings it to the disk.
        if walk.offset > walk.group_offset:
            self.write([data[walk.group_offset : walk.offset]], walk.group_offset, walk.offset)
        self.sync()
        self.active, last.end = last.heading, walk.offset
        self.durable = walk.lsn - 1
        if walk.litter():
            self.begin(Heading(last.number + 1, walk.lsn, self.segment_bytes, self.home, clock.now_us()))

    def _look_round(self) -> None:
        """Read the names and the headings."""
        for name in self.disk.names(self.path):
            path = os.path.join(self.path, name)
            if name.endswith(_MAKING):
                self.disk.remove(path)
            elif (number := number_in(name, _SPARE)) is not None:
                self._made = max(self._made, number)
                if self.disk.size(path) == self.segment_bytes:
                    self._spares.append(path)
                else:
                    self.disk.remove(path)
            elif (number := number_in(name)) is not None:
                self._segments.append(self._found(number, path))
        self._segments.sort(key=lambda stored: stored.number)
        due = 0
        for stored in reversed(self._segments):
            due = stored.first = stored.first if stored.heading else due

    def _found(self, number: int, path: str) -> Stored:
        size = self.disk.size(path)
        heading = read_heading(_begin(self.disk, path, BLOCK_BYTES))
        if isinstance(heading, str):
            return Stored(number, None, size, heading)
        if heading.home != self.home:
            raise HeartbeatDamaged(path=path, offset=0, reason=f"it belongs to another home, {heading.home}")
        if heading.number != number:
            return Stored(number, None, size, f"it says that it is segment {heading.number}")
        return Stored(number, heading, size)

    # --- writing --------------------------------------------------------------------------------------------------

    @property
    def end(self) -> int:
        """The byte of the active segment at which the next record goes."""
        return self._segments[-1].end

    def begin(self, heading: Heading) -> None:
        """Make a new segment, and write to it from now on.

        Raises:
            OSError: the system refuses; the segment before is the active one still.

        """
        if heading.number != self.active.number + 1:
            raise InternalError(promise=f"segment {heading.number} of a heartbeat follows {self.active.number}")
        faults.point("heartbeat.rolling")
        with self._lock:
            spare = self._spares.pop() if self._spares and heading.size == self.segment_bytes else None
        if spare is None:
            spare = os.path.join(self.path, f"{heading.number:016x}{_MAKING}")
            descriptor = self.disk.make(spare, heading.size)
        else:
            descriptor = self.disk.open(spare)
        try:
            self.disk.write(descriptor, [heading.block()], 0, BLOCK_BYTES)
            self.disk.sync(descriptor)
            self.disk.rename(spare, os.path.join(self.path, segment_name(heading.number)))
            self.disk.sync_folder(self.path)
        except OSError:
            self.disk.close(descriptor)
            raise
        stored = Stored(heading.number, heading, heading.size)
        stored.end = BLOCK_BYTES
        with self._lock:
            # Nothing is called here, so that no signal's handler comes in between.
            before, self._descriptor = self._descriptor, descriptor
            self._segments += (stored,)
            self.active = heading
        if before != -1:
            self.disk.close(before)
        faults.point("heartbeat.rolled")

    def write(self, parts: list[bytes], offset: int, end: int) -> None:
        """Write records to the active segment, from `offset` to `end`, and zeros up to the end of the last block.

        A block that is written as a whole need not be read from the disk first, and behind the last record then stand
        zeros and not old content.

        Raises:
            OSError: the system refuses; some of it may have been written.

        """
        fill = -end % BLOCK_BYTES
        self.disk.write(self._descriptor, [*parts, _ZEROS[:fill]], offset, end + fill - offset)

    def sync(self) -> None:
        """Make what was written certain.

        Raises:
            OSError: the system refuses, or the device failed: nothing that was written since the last sync may be
                counted on, nor a second sync.

        """
        self.disk.sync(self._descriptor)

    def publish(self, last: int, end: int) -> None:
        """Note that records up to `last`, which end at byte `end` of the active segment, are certain."""
        self._segments[-1].end = end
        self.durable = last

    # --- reading --------------------------------------------------------------------------------------------------

    @property
    def first(self) -> int:
        """The oldest record that is kept; the next one, where none is."""
        return self._segments[0].first

    def scan(self) -> Iterator[Record | Damage]:
        """Yield all certain records, and what is missing between them.

        Raises:
            OSError: the system refuses to read.

        """
        with self._lock:
            segments = list(self._segments)
            stop = self.durable + 1
        due = segments[0].first
        for stored, follower in zip_longest(segments, segments[1:]):
            behind = min(stop, follower.first) if follower else stop
            if stored.heading is None:
                if due < behind or stored is segments[0]:
                    yield Damage(stored.number, 0, due, behind, None, stored.unreadable)
                due = behind
                continue
            if stored.first > due:
                yield Damage(stored.number - 1, 0, due, stored.first, None, "a segment is missing")
            # Where the next segment is missing or unreadable, only what this one has itself says where it ends.
            known = follower is None or (follower.heading is not None and follower.number == stored.number + 1)
            walk = Walk(_begin(self.disk, self.path_of(stored), stored.size), stored.heading, behind if known else None)
            yield from walk
            due = max(due, walk.lsn)

    def locate(self, lsn: int) -> tuple[Stored, int]:
        """Return the segment that has the record `lsn`, and the first record that it doesn't have."""
        with self._lock:
            at = bisect_right(self._segments, lsn, key=lambda stored: stored.first) - 1
            stop = self._segments[at + 1].first if at + 1 < len(self._segments) else self.durable + 1
            return self._segments[at], stop

    # --- what is no longer needed ---------------------------------------------------------------------------------

    def release(self, lsn: int) -> None:
        """Give up the segments that have no record behind `lsn`.

        Raises:
            OSError: the system refuses; what was given up before stays so.

        """
        with self._giving:
            while (oldest := self._to_give(lsn)) is not None:
                faults.point("heartbeat.releasing")
                spare = ""
                try:
                    if oldest.size == self.segment_bytes and len(self._spares) < LOG_SPARES:
                        spare = self._spare_path()
                        self.disk.rename(self.path_of(oldest), spare)
                    else:
                        self.disk.remove(self.path_of(oldest))
                except OSError:
                    with self._lock:
                        self._segments.insert(0, oldest)
                    raise
                self.disk.sync_folder(self.path)
                if spare:
                    with self._lock:
                        self._spares.append(spare)  # only now: it certainly was no segment any more before it is one
                faults.point("heartbeat.released")

    def _to_give(self, lsn: int) -> Stored | None:
        """Take the oldest segment off the list, if it has no record behind `lsn`."""
        with self._lock:
            if len(self._segments) > 1 and self._segments[1].first <= min(lsn, self.durable) + 1:
                return self._segments.pop(0)
            return None

    def _spare_path(self) -> str:
        with self._lock:
            self._made += 1
            return os.path.join(self.path, f"{self._made:016x}{_SPARE}")

    def prepare(self) -> None:
        """Make a spare, if there is none, so that no commit has to wait for that.

        Raises:
            OSError: the system refuses.

        """
        with self._making:
            if self._spares:
                return
            spare = self._spare_path()
            making = f"{spare}{_MAKING}"
            self.disk.close(self.disk.make(making, self.segment_bytes))
            self.disk.rename(making, spare)
            with self._lock:
                self._spares.append(spare)

    # --- looking, and the end -------------------------------------------------------------------------------------

    def facts(self) -> list[SegmentFacts]:
        """Return what can be said of each segment, oldest first."""
        with self._lock:
            segments = list(self._segments)
            durable = self.durable
        firsts = [*(stored.first for stored in segments[1:]), durable + 1]
        return [
            SegmentFacts(
                stored.number,
                stored.first,
                behind - 1,
                stored.size,
                stored.end - BLOCK_BYTES,
                stored.heading.created if stored.heading else 0,
            )
            for stored, behind in zip(segments, firsts, strict=True)
        ]

    @property
    def size(self) -> int:
        """Bytes on the disk: segments and spares."""
        with self._lock:
            return sum(stored.size for stored in self._segments) + self.segment_bytes * len(self._spares)

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            if self._descriptor != -1:
                self.disk.close(self._descriptor)
                self._descriptor = -1

    def path_of(self, stored: Stored) -> str:
        """Return the file of a segment."""
        return os.path.join(self.path, segment_name(stored.number))


_ZEROS: Final = bytes(BLOCK_BYTES)


def _begin(disk: Disk, path: str, size: int) -> bytes:
    """Return the first `size` bytes of a file."""
    descriptor = disk.open(path)
    try:
        return disk.read(descriptor, size, 0)
    finally:
        disk.close(descriptor)
