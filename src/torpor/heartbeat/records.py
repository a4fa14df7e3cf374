"""Records: what one commit of one agent, or one fact about an agent, is in the heartbeat and in its replica.

A record is 80 bytes of header, the payload, and zeros up to a multiple of eight. All numbers are little-endian.

    magic u32 | header's CRC u32 | payload's length u32 | payload's CRC u32 | lsn u64 | group u64 | agent 16 bytes
    | life u64 | txn u64 | time i64 | kind u8 | flags u8 (0) | 6 zeros

CRCs are CRC-32C (Castagnoli, RFC 3720 appendix B.4). The header's covers all of the header behind itself and continues
a *seed*: within a segment that is the CRC of the segment's own heading (`torpor.heartbeat.segment`), so a record that
an earlier use of the same file has left is never taken for one of the present, nor is a copy of a record that some
payload happens to hold. In packs of the replica the seed is 0.
"""

from __future__ import annotations

import enum
import functools
import struct
import uuid
from typing import Final, NamedTuple

import google_crc32c
import msgspec

MAGIC: Final = b"\xd7TRB"
HEADER_BYTES: Final = 80
ALIGNMENT: Final = 8

NOBODY: Final = "00000000-0000-0000-0000-000000000000"
"""The agent of records that are the home's own."""

_START: Final = struct.Struct("<4sI")
_REST: Final = struct.Struct("<IIQQ16sQQqBB6x")
_PADDING: Final = tuple(bytes(count) for count in range(ALIGNMENT))


class Kind(enum.IntEnum):
    """What a record says."""

    COMMIT = 1
    """A transaction was committed; the payload is what it changed."""
    LIFE = 2
    """An agent's life begins, or goes on elsewhere; the payload says where its workbook stands."""
    SNAPSHOT = 3
    """The payload is a whole workbook, compressed."""
    SNAPSHOT_AT = 4
    """There is a snapshot elsewhere; the payload says where."""
    LEFT = 5
    """The workbook was closed cleanly: it is complete and durable by itself."""
    GONE = 6
    """The agent was deleted."""
    LEDGER = 7
    """Something of the ledger's; the heartbeat doesn't look into it."""


class Record(msgspec.Struct, frozen=True):
    """One record.

    Attributes:
        lsn: its number; gap-free over the whole life of a home, from 1.
        group: the lsn of the first record of the same write.
        agent: a UUID as text; `NOBODY` for the home itself.
        life: the lsn of the agent's newest record of kind LIFE when this was added.
        txn: the number of the agent's transaction, which counts within a life.
        time: when it was added, in µs since 1970 UTC.
        kind: what it says.
        payload: the rest, in bytes.

    """

    lsn: int
    group: int
    agent: str
    life: int
    txn: int
    time: int
    kind: Kind
    payload: bytes


class Head(NamedTuple):
    """A header that was found sound."""

    length: int
    payload_crc: int
    lsn: int
    group: int
    agent: bytes
    life: int
    txn: int
    time: int
    kind: int
    flags: int


class Flaw(msgspec.Struct, frozen=True):
    """Why there is no record at a place.

    Attributes:
        reason: in words.
        head: the header, where only the payload is not as it should be.

    """

    reason: str
    head: Head | None = None


class Damage(msgspec.Struct, frozen=True):
    """Records that were there and can't be read any more.

    Attributes:
        segment: the number of the segment.
        offset: the first byte of it that can't be understood.
        lsn: the first record that is missing.
        until: the next one that isn't.
        agent: whose record it is, if only its payload is damaged.
        reason: in words.

    """

    segment: int
    offset: int
    lsn: int
    until: int
    agent: str | None
    reason: str


@functools.lru_cache(maxsize=1 << 16)
def agent_bytes(agent: str) -> bytes:
    """Return the sixteen bytes of an agent's id.

    Raises:
        ValueError: it is no UUID.

    """
    return uuid.UUID(agent).bytes


@functools.lru_cache(maxsize=1 << 16)
def agent_text(raw: bytes) -> str:
    """Return an agent's id as text."""
    return str(uuid.UUID(bytes=raw))


def encoded_size(payload: int) -> int:
    """Return the bytes of a record whose payload has `payload` bytes."""
    return (HEADER_BYTES + payload + ALIGNMENT - 1) & -ALIGNMENT


def encode(record: Record, seed: int = 0) -> bytes:
    """Return a record's bytes.

    Args:
        record: what to say.
        seed: the CRC that its header's continues: that of the segment's heading; 0 outside segments.

    """
    payload = record.payload
    return sealed_up(
        rest_of(
            len(payload),
            google_crc32c.value(payload),
            record.lsn,
            record.group,
            agent_bytes(record.agent),
            record.life,
            record.txn,
            record.time,
            record.kind,
            0,
        ),
        payload,
        seed,
    )


checksum: Final = google_crc32c.value
"""CRC-32C of some bytes."""

rest_of: Final = _REST.pack
"""Packs all of a header but its first eight bytes."""


def sealed_up(rest: bytes, payload: bytes, seed: int) -> bytes:
    """Return an encoded record of the rest of its header and its payload."""
    start = _START.pack(MAGIC, google_crc32c.extend(seed, rest))
    return start + rest + payload + _PADDING[-len(payload) % ALIGNMENT]


def sealed(encoded: bytes, seed: int) -> bytes:
    """Return an encoded record for another seed: as it must be in another segment."""
    return sealed_up(encoded[_START.size : HEADER_BYTES], encoded[HEADER_BYTES:], seed)


def head_at(data: bytes, offset: int, seed: int = 0) -> Head | None:
    """Return the header at `offset` of `data`, or None where there is no sound one."""
    if data[offset : offset + 4] != MAGIC or offset + HEADER_BYTES > len(data):
        return None
    rest = data[offset + _START.size : offset + HEADER_BYTES]
    if google_crc32c.extend(seed, rest) != int.from_bytes(data[offset + 4 : offset + 8], "little"):
        return None
    return Head._make(_REST.unpack(rest))


def decode(data: bytes, offset: int = 0, seed: int = 0) -> Record | Flaw:
    """Return the record at `offset` of `data`, or why there is none.

    Args:
        data: what was read.
        offset: where the record begins.
        seed: as for `encode`.

    """
    head = head_at(data, offset, seed)
    if head is None:
        return Flaw("there is no sound header")
    begin = offset + HEADER_BYTES
    payload = data[begin : begin + head.length]
    if len(payload) != head.length:
        return Flaw(f"the payload has {head.length:,} bytes, and only {len(payload):,} are there", head)
    if google_crc32c.value(payload) != head.payload_crc:
        return Flaw("the payload is not what its checksum says", head)
    try:
        kind = Kind(head.kind)
    except ValueError:
        return Flaw(f"the kind {head.kind} is unknown", head)
    return Record(head.lsn, head.group, agent_text(head.agent), head.life, head.txn, head.time, kind, payload)


def decode_all(data: bytes, seed: int = 0) -> list[Record] | Flaw:
    """Return the records that stand back to back in `data`, or what is wrong with the first that is none."""
    found = []
    offset = 0
    while offset < len(data):
        record = decode(data, offset, seed)
        if isinstance(record, Flaw):
            return record
        found.append(record)
        offset += encoded_size(len(record.payload))
    return found
