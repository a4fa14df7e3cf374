"""Segments: the files that the log is written to, and what can be read of one after anything may have happened to it.

A segment is a file of fixed length, made of zeros once and then written from front to back, and later again under
another name and number. Its first block (4,096 bytes) holds its *heading*, twice, so that one bad byte there doesn't
cost the whole segment; records follow, each begins where the one before ends.

**Where the log ends.** Records are written in groups, and a group is written only when the one before it was synced.
So at a place where no sound record with the number that is due can be read:

- if behind it stands a record of a *later group*, one that begins with a higher number than the one that is due, then
  the place had been synced before that was written: what was there is lost, and this is **damage**;
- likewise if a later segment begins with a higher number;
- otherwise the write of the last group was cut short. It was acknowledged to nobody. This is the **torn tail**, and the
  log ends there.

A group that was torn may leave sound records behind the tear. They are no proof, as their group is not a later one; and
they can't be taken for records of the present later, for the log never goes on in a segment with such a tail, but in a
new one (`Walk.litter`). A segment ends where the next begins, by number: what it has beyond that was never acknowledged
there.

What can't be told from a torn tail is damage to the very last group, while nothing was written behind it.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator
from typing import Final

import google_crc32c
import msgspec
from msgspec.structs import force_setattr

from torpor.heartbeat.records import (
    ALIGNMENT,
    HEADER_BYTES,
    MAGIC,
    Damage,
    Flaw,
    Head,
    Record,
    agent_text,
    decode,
    encoded_size,
    head_at,
)

FORMAT: Final = 1
BLOCK_BYTES: Final = 4096
"""The first block of a segment, and the unit in which the file is written."""

_MAGIC: Final = b"TORPORHB"
_HEADING: Final = struct.Struct("<8sIIQQQ16sq")
_CRC: Final = struct.Struct("<I")
_PLACES: Final = (0, BLOCK_BYTES // 2)
SUFFIX: Final = ".segment"
_DIGITS: Final = 16


class Heading(msgspec.Struct, frozen=True):
    """What a segment says about itself.

    Attributes:
        number: its number, one more than that of the segment before.
        first: the lsn of its first record.
        size: its bytes, this block among them.
        home: the UUID of the home it belongs to.
        created: when it was begun, in µs since 1970 UTC.
        seed: the CRC of all this, which the headers of its records continue; follows from the rest.

    """

    number: int
    first: int
    size: int
    home: str
    created: int
    seed: int = 0

    def __post_init__(self) -> None:
        force_setattr(self, "seed", google_crc32c.value(self._packed()))

    def _packed(self) -> bytes:
        home = uuid.UUID(self.home).bytes
        return _HEADING.pack(_MAGIC, FORMAT, 0, self.number, self.first, self.size, home, self.created)

    def block(self) -> bytes:
        """Return the first block of the segment."""
        half = (self._packed() + _CRC.pack(self.seed)).ljust(BLOCK_BYTES // 2, b"\0")
        return half + half


def read_heading(block: bytes) -> Heading | str:
    """Return what the first block of a segment says, or why it says nothing, in words."""
    reason = "it has no heading"
    for place in _PLACES:
        packed = block[place : place + _HEADING.size]
        crc = block[place + _HEADING.size : place + _HEADING.size + _CRC.size]
        if packed[: len(_MAGIC)] != _MAGIC or crc != _CRC.pack(google_crc32c.value(packed)):
            continue
        _, version, _, number, first, size, home, created = _HEADING.unpack(packed)
        if version != FORMAT:
            reason = f"it has format {version}, and this Torpor knows {FORMAT}"
            continue
        return Heading(number, first, size, str(uuid.UUID(bytes=home)), created)
    return reason


def segment_name(number: int) -> str:
    """Return the name of a segment's file."""
    return f"{number:0{_DIGITS}x}{SUFFIX}"


def number_in(name: str, suffix: str = SUFFIX) -> int | None:
    """Return the number in a segment's name, or in one with another suffix; None where the name is something else's."""
    digits = name.removesuffix(suffix)
    if digits == name or len(digits) != _DIGITS or set(digits) - set("0123456789abcdef"):
        return None
    return int(digits, 16)


def room_for(size: int) -> int:
    """Return the size of a segment that has room for `size` bytes of records."""
    return BLOCK_BYTES + -(-size // BLOCK_BYTES) * BLOCK_BYTES


class Walk:
    """Goes through the records of one segment, once.

    Args:
        data: all of the segment.
        heading: what it says about itself.
        stop: the number of the first record that is not this segment's: what is before it was acknowledged here. None
            for the last segment, whose end is looked for.

    Attributes:
        offset: where the records read so far end.
        lsn: the number that is due there.
        group: the group of the last record.
        group_offset: where that group begins.

    """

    def __init__(self, data: bytes, heading: Heading, stop: int | None) -> None:
        self._data = data
        self._heading = heading
        self._seed = heading.seed
        self._stop = stop
        self.offset = BLOCK_BYTES
        self.lsn = heading.first
        self.group = 0
        self.group_offset = BLOCK_BYTES

    def __iter__(self) -> Iterator[Record | Damage]:
        while self._stop is None or self.lsn < self._stop:
            found = decode(self._data, self.offset, self._seed)
            if isinstance(found, Record) and self._is_due(found):
                self._pass(found.group, self.offset, len(found.payload))
                yield found
                continue
            damage = self._beyond(found)
            if damage is None:
                return
            yield damage

    def litter(self) -> bool:
        """Report whether a sound header stands behind the end: what a torn write left."""
        return next(self._heads(self.offset), None) is not None

    def _is_due(self, found: Record | Head) -> bool:
        return found.lsn == self.lsn and found.group in (self.group, self.lsn)

    def _pass(self, group: int, offset: int, length: int) -> None:
        if group != self.group:
            self.group, self.group_offset = group, offset
        self.lsn += 1
        self.offset = offset + encoded_size(length)

    def _beyond(self, found: Record | Flaw) -> Damage | None:
        """Return the damage at a place where no record is as it should be, and go on behind it; None at a torn tail."""
        here, due = self.offset, self.lsn
        proof = self._stop if self._stop is not None else self._proof()
        if proof is None:
            return None
        if isinstance(found, Flaw) and found.head is not None and self._is_due(found.head):
            head = found.head
            self._pass(head.group, here, head.length)
            return Damage(self._heading.number, here, due, due + 1, agent_text(head.agent), found.reason)
        reason = found.reason if isinstance(found, Flaw) else f"record {found.lsn:,} stands where {due:,} is due"
        for offset, head in self._heads(here):
            if due < head.lsn <= proof and head.lsn != self._stop:
                self.offset, self.lsn, self.group, self.group_offset = offset, head.lsn, head.group, offset
                break
        else:
            self.lsn = proof  # only where a later segment is the proof: nothing more can be read in this one
        return Damage(self._heading.number, here, due, self.lsn, None, reason)

    def _proof(self) -> int | None:
        """Return the number of a record behind here that was written after what is due had been synced."""
        return next((head.lsn for _, head in self._heads(self.offset) if head.group > self.lsn), None)

    def _heads(self, offset: int) -> Iterator[tuple[int, Head]]:
        """Yield the sound headers from `offset` on, with their places."""
        while (offset := self._data.find(MAGIC, offset)) != -1:
            head = head_at(self._data, offset, self._seed) if offset % ALIGNMENT == 0 else None
            if head is not None:
                yield offset, head
            offset += HEADER_BYTES if head is not None else 1
