"""Reading the log from where the last read ended, while it is written."""

from __future__ import annotations

import threading
from typing import Final

from torpor.base.errors import HeartbeatDamaged, HeartbeatReleased
from torpor.heartbeat.folder import Folder, Stored
from torpor.heartbeat.records import HEADER_BYTES, Flaw, Record, decode, encoded_size, head_at
from torpor.heartbeat.segment import BLOCK_BYTES, Heading, Walk

_READ_BYTES: Final = 1 << 20


class _Place:
    """Where the last read ended.

    Attributes:
        number: the segment.
        descriptor: its file.
        seed: of its records.
        offset: the byte of the next record.
        lsn: its number.

    """

    __slots__ = ("descriptor", "lsn", "number", "offset", "seed")

    def __init__(self, number: int, descriptor: int, heading: Heading) -> None:
        self.number = number
        self.descriptor = descriptor
        self.seed = heading.seed
        self.offset = BLOCK_BYTES
        self.lsn = heading.first


class Cursor:
    """Reads what is certain. For any thread, one at a time.

    Args:
        folder: the files of the log.

    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._place: _Place | None = None
        self._lock = threading.Lock()

    def read(self, after: int, limit_bytes: int) -> list[Record]:
        """Return certain records from the one behind `after` on.

        Args:
            after: a record's number, or 0.
            limit_bytes: how many encoded bytes at most; one record is given all the same.

        Raises:
            HeartbeatReleased: the record behind `after` is no longer kept.
            HeartbeatDamaged: it can't be read.
            OSError: the system refuses.

        """
        found: list[Record] = []
        with self._lock:
            while after < self._folder.durable and limit_bytes > 0:
                if after + 1 < self._folder.first:
                    raise HeartbeatReleased(path=self._folder.path, asked=after + 1, first=self._folder.first)
                some = self._read_some(after + 1, limit_bytes, first=not found)
                if not some:
                    break
                found += some
                after = some[-1].lsn
                limit_bytes -= sum(encoded_size(len(record.payload)) for record in some)
        return found

    def _read_some(self, lsn: int, limit_bytes: int, *, first: bool) -> list[Record]:
        """Return records of one segment, from `lsn` on; none if the first is too large and not wanted at any size."""
        stored, stop = self._folder.locate(lsn)
        place = self._place_at(stored, lsn)
        found: list[Record] = []
        wanted = max(HEADER_BYTES, min(limit_bytes, stored.end - place.offset))
        data = self._folder.disk.read(place.descriptor, wanted, place.offset)
        offset = 0
        while place.lsn < stop:
            head = head_at(data, offset, place.seed)
            size = encoded_size(head.length) if head else 0
            if offset + size > len(data) or (head is None and offset + HEADER_BYTES > len(data)):
                if found or not first:
                    break  # the limit is reached
                data, offset = self._folder.disk.read(place.descriptor, size or HEADER_BYTES, place.offset), 0
                if len(data) < size:
                    head = None
            record = decode(data, offset, place.seed) if head else Flaw("there is no sound header")
            if isinstance(record, Flaw) or record.lsn != place.lsn:
                if found or not first:
                    break  # what is sound is given; the next call says what is not
                raise self._gone(stored, place, record)
            found.append(record)
            offset += size
            place.offset += size
            place.lsn += 1
        return found

    def _gone(self, stored: Stored, place: _Place, found: Record | Flaw) -> HeartbeatDamaged | HeartbeatReleased:
        """Return the error for a record that isn't where it should be."""
        self._drop()
        if place.lsn < self._folder.first:
            return HeartbeatReleased(path=self._folder.path, asked=place.lsn, first=self._folder.first)
        reason = found.reason if isinstance(found, Flaw) else f"record {found.lsn} stands where {place.lsn} is due"
        return HeartbeatDamaged(path=self._folder.path_of(stored), offset=place.offset, reason=reason)

    def _place_at(self, stored: Stored, lsn: int) -> _Place:
        """Return a place at a record: the one that is there, or one from the beginning of the segment."""
        place = self._place
        if place is not None and place.number == stored.number and place.lsn <= lsn:
            return self._advance(stored, place, lsn)
        self._drop()
        if stored.heading is None:
            raise HeartbeatDamaged(path=self._folder.path_of(stored), offset=0, reason=stored.unreadable)
        try:
            descriptor = self._folder.disk.open(self._folder.path_of(stored))
        except FileNotFoundError as error:
            if lsn < self._folder.first:  # it was released a moment ago
                raise HeartbeatReleased(path=self._folder.path, asked=lsn, first=self._folder.first) from error
            raise
        self._place = _Place(stored.number, descriptor, stored.heading)
        return self._advance(stored, self._place, lsn)

    def _advance(self, stored: Stored, place: _Place, lsn: int) -> _Place:
        """Pass over records, by their headers, until `lsn` is the next."""
        data, start = b"", place.offset
        while place.lsn < lsn:
            offset = place.offset - start
            if offset + HEADER_BYTES > len(data):
                data = self._folder.disk.read(place.descriptor, _READ_BYTES, place.offset)
                start, offset = place.offset, 0
            head = head_at(data, offset, place.seed)
            if head is None or head.lsn != place.lsn:
                return self._search(stored, place, lsn)
            place.offset += encoded_size(head.length)
            place.lsn += 1
        return place

    def _search(self, stored: Stored, place: _Place, lsn: int) -> _Place:
        """Find a record that stands behind a header which isn't sound, by going through the whole segment."""
        if stored.heading is not None:
            _, stop = self._folder.locate(lsn)
            walk = Walk(self._folder.disk.read(place.descriptor, stored.size, 0), stored.heading, stop)
            for found in walk:
                if isinstance(found, Record) and found.lsn == lsn:
                    place.offset, place.lsn = walk.offset - encoded_size(len(found.payload)), lsn
                    return place
        raise self._gone(stored, place, Flaw("there is no sound header"))

    def _drop(self) -> None:
        if self._place is not None:
            self._folder.disk.close(self._place.descriptor)
            self._place = None

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            self._drop()
