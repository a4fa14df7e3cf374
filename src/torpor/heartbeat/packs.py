"""Packs: the objects that a replica is made of.

A pack holds the records of many agents, and an index from which a reader learns where those of one agent are. It is
read from its end: the last bytes give the index, and the index gives the ranges that are wanted. So restoring one
agent of ten thousand costs a few requests, and no more bytes than the agent has.

::

    head (128 bytes) | block | block | … | index | footer (32 bytes)

A **block** is one zstd stream (one frame or several, one after the other) of whole records, in the order of their
numbers: those of one agent, in one life. A snapshot is only ever the first record of a block, so whoever has a newer
snapshot never reads what is before it, and blocks of one agent and life can be put together by putting their bytes
together, without unpacking them.

The **index** says of each block whose it is, where, and how far it reaches; it repeats the head. Everything has a
CRC-32C: the head its own, the index one in the footer, each block one in the index, each record its own. A block that
is not what its index says is an error that names pack and offset; it is never taken for another agent's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from functools import cache
from typing import Final, NamedTuple
from uuid import UUID

import google_crc32c
import msgspec
import zstandard

from torpor.base.errors import ReplicaDamaged
from torpor.base.limits import GIB, KIB
from torpor.heartbeat.records import Flaw, Kind, Record, decode_all, encode

MAGIC: Final = b"TORPORPK"
FORMAT: Final = 1
HEAD_BYTES: Final = 128
FOOTER_BYTES: Final = 32

TAIL_BYTES: Final = 64 * KIB
"""Bytes read of a pack's end, in the hope that the whole index is in them."""

LEVEL: Final = 1
"""zstd's level for blocks: they are small, and made each second."""

RAW_MAX: Final = 2 * GIB
"""Bytes that one block may unpack to."""

NO_SNAPSHOT: Final = -1

_HEAD: Final = struct.Struct("<8sII16s16sQQQQqq28x")
_FOOTER: Final = struct.Struct("<QIIQ8s")
_CRC: Final = struct.Struct("<I")
_SNAPSHOTS: Final = frozenset({Kind.SNAPSHOT, Kind.SNAPSHOT_AT})
_COMMITS: Final = frozenset({Kind.COMMIT, Kind.LEDGER})


class PackKind(IntEnum):
    """What a pack is for."""

    RECORDS = 1
    """It has records that no pack before it has."""
    CLAIM = 2
    """It says that from here on another node writes; no records."""
    BASE = 3
    """It says which packs count from here on; no records."""
    MERGED = 4
    """It has records of earlier packs, and stands in their place; never in the sequence."""


class Head(msgspec.Struct, frozen=True, array_like=True):
    """What the first bytes of a pack say.

    Attributes:
        kind: what it is for.
        home: the id of the home that it is of.
        nonce: what only the node that made it has: 32 hexadecimal digits.
        number: its own, in the sequence; of a merged pack the number of the claim that it was made under.
        claim: the number of the claim that it was made under.
        first_lsn: the number of its first record; 0 where it has none.
        last_lsn: the number of its last record.
        first_time: µs, of its earliest record; of a pack without records, when it was made.
        last_time: µs, of its latest.

    """

    kind: PackKind
    home: str
    nonce: str
    number: int
    claim: int
    first_lsn: int
    last_lsn: int
    first_time: int
    last_time: int


class Block(msgspec.Struct, frozen=True, array_like=True):
    """What an index says of one block.

    Attributes:
        agent: whose records these are.
        life: in which of its lives.
        offset: where the block begins in the pack.
        length: bytes that it takes there.
        crc: the CRC-32C of these.
        raw: bytes that it unpacks to.
        count: records in it.
        first_lsn: the number of the first.
        last_lsn: the number of the last.
        first_txn: the lowest transaction that it brings, as a commit; 0 where it has none.
        last_txn: the highest.
        first_time: µs, of its earliest record.
        last_time: µs, of its latest.
        kinds: the kinds of records in it: the sum of 1 << kind.
        snapshot: the transaction at which its snapshot stands; -1 where its first record is none.
        at: the key of the object that holds this snapshot; "" where it is in the record.

    """

    agent: str
    life: int
    offset: int
    length: int
    crc: int
    raw: int
    count: int
    first_lsn: int
    last_lsn: int
    first_txn: int
    last_txn: int
    first_time: int
    last_time: int
    kinds: int
    snapshot: int = NO_SNAPSHOT
    at: str = ""

    def has(self, kind: Kind) -> bool:
        """Report whether a record of that kind is in it."""
        return bool(self.kinds & 1 << kind)


class Source(msgspec.Struct, frozen=True, array_like=True):
    """A merged pack that counts."""

    key: str
    size: int
    first_lsn: int
    last_lsn: int
    first_time: int
    last_time: int


class Base(msgspec.Struct, frozen=True, array_like=True):
    """Which packs count, besides those of the sequence after `number`.

    Attributes:
        number: packs of the sequence up to this one don't count any more.
        packs: those that stand in their place, in the order of their records; no two overlap.
        claims: the numbers of the claims among the packs that don't count: these stay for ever.
        dropped: keys of snapshots that nothing refers to any more.

    """

    number: int = 0
    packs: tuple[Source, ...] = ()
    claims: tuple[int, ...] = ()
    dropped: tuple[str, ...] = ()


class Index(msgspec.Struct, frozen=True, array_like=True):
    """What the end of a pack says of it."""

    head: Head
    node: str
    """How people know the node that made it."""
    blocks: tuple[Block, ...]
    base: Base | None = None


_index: Final = msgspec.msgpack.Decoder(Index).decode


class Chunk(NamedTuple):
    """A block that is not in a pack yet: its offset means nothing."""

    block: Block
    content: bytes


class Place(NamedTuple):
    """Where bytes came from, for errors."""

    pack: str
    offset: int


def crc32c(content: bytes | memoryview) -> int:
    """Return the CRC-32C (Castagnoli) of some bytes."""
    return int(google_crc32c.value(bytes(content)))


# --- making -------------------------------------------------------------------------------------------------------


def chunks_of(records: Iterable[Record]) -> list[Chunk]:
    """Cut records into blocks: one for each agent, life and snapshot, sorted by agent, then by number."""
    by_agent: dict[str, list[Record]] = {}
    for record in records:
        by_agent.setdefault(record.agent, []).append(record)
    pack = _compressor()
    return [_chunk(run, pack) for agent in sorted(by_agent) for run in _runs(by_agent[agent])]


def join(chunks: Sequence[Chunk]) -> Chunk:
    """Put blocks of one agent and life together, of which at most the first begins with a snapshot."""
    blocks = [chunk.block for chunk in chunks]
    content = b"".join(chunk.content for chunk in chunks)
    committed = [block for block in blocks if block.last_txn]
    kinds = 0
    for block in blocks:
        kinds |= block.kinds
    joined = msgspec.structs.replace(
        blocks[0],
        length=len(content),
        crc=crc32c(content),
        raw=sum(block.raw for block in blocks),
        count=sum(block.count for block in blocks),
        last_lsn=blocks[-1].last_lsn,
        first_txn=min((block.first_txn for block in committed), default=0),
        last_txn=max((block.last_txn for block in committed), default=0),
        first_time=min(block.first_time for block in blocks),
        last_time=max(block.last_time for block in blocks),
        kinds=kinds,
    )
    return Chunk(joined, content)


def build(head: Head, node: str, chunks: Sequence[Chunk], base: Base | None = None) -> tuple[list[bytes], Index]:
    """Return the bytes of a pack, in pieces, and its index.

    Args:
        head: as it is to be; what it says of records is taken from these.
        node: how people know the node that makes it.
        chunks: its blocks, in the order in which they are to stand.
        base: what it says about which packs count.

    """
    if chunks:
        blocks = [chunk.block for chunk in chunks]
        head = msgspec.structs.replace(
            head,
            first_lsn=min(block.first_lsn for block in blocks),
            last_lsn=max(block.last_lsn for block in blocks),
            first_time=min(block.first_time for block in blocks),
            last_time=max(block.last_time for block in blocks),
        )
    offset, placed = HEAD_BYTES, []
    for block, content in chunks:
        placed.append(msgspec.structs.replace(block, offset=offset))
        offset += len(content)
    index = Index(head, node, tuple(placed), base)
    listed = _compressor().compress(msgspec.msgpack.encode(index))
    size = offset + len(listed) + FOOTER_BYTES
    footer = _FOOTER.pack(offset, len(listed), crc32c(listed), size, MAGIC)
    return [_head_bytes(head), *(chunk.content for chunk in chunks), listed, footer], index


def _runs(records: list[Record]) -> Iterator[list[Record]]:
    """Cut one agent's records before each snapshot, and where a life ends."""
    run: list[Record] = []
    for record in records:
        if run and (record.life != run[0].life or record.kind in _SNAPSHOTS):
            yield run
            run = []
        run.append(record)
    yield run


def _chunk(run: list[Record], pack: zstandard.ZstdCompressor) -> Chunk:
    raw = b"".join(map(encode, run))
    content = pack.compress(raw)
    first = run[0]
    txns = [record.txn for record in run if record.kind in _COMMITS]
    times = [record.time for record in run]
    kinds = 0
    for record in run:
        kinds |= 1 << record.kind
    block = Block(
        agent=first.agent,
        life=first.life,
        offset=0,
        length=len(content),
        crc=crc32c(content),
        raw=len(raw),
        count=len(run),
        first_lsn=first.lsn,
        last_lsn=run[-1].lsn,
        first_txn=min(txns, default=0),
        last_txn=max(txns, default=0),
        first_time=min(times),
        last_time=max(times),
        kinds=kinds,
        snapshot=first.txn if first.kind in _SNAPSHOTS else NO_SNAPSHOT,
        at=_named(first.payload).key if first.kind is Kind.SNAPSHOT_AT else "",
    )
    return Chunk(block, content)


def _head_bytes(head: Head) -> bytes:
    fields = (head.number, head.claim, head.first_lsn, head.last_lsn, head.first_time, head.last_time)
    raw = _HEAD.pack(MAGIC, FORMAT, head.kind, UUID(head.home).bytes, bytes.fromhex(head.nonce), *fields)
    return raw + _CRC.pack(crc32c(raw))


class _Named(msgspec.Struct):
    """The one field of a snapshot's whereabouts that an index repeats."""

    key: str


_named: Final = msgspec.msgpack.Decoder(_Named).decode


@cache
def _compressor() -> zstandard.ZstdCompressor:
    return zstandard.ZstdCompressor(level=LEVEL)


# --- reading ------------------------------------------------------------------------------------------------------


def read_head(place: str, content: bytes) -> Head:
    """Return what a pack's first `HEAD_BYTES` say.

    Raises:
        ReplicaDamaged: they are no head.

    """
    if len(content) < HEAD_BYTES or content[:8] != MAGIC:
        raise ReplicaDamaged(place=place, offset=0, reason="it doesn't begin like a pack")
    if _CRC.unpack_from(content, HEAD_BYTES - 4)[0] != crc32c(content[: HEAD_BYTES - 4]):
        raise ReplicaDamaged(place=place, offset=0, reason="the checksum of its head is wrong")
    _, written, kind, home, nonce, *rest = _HEAD.unpack(content[: HEAD_BYTES - 4])
    if written != FORMAT or kind not in iter(PackKind):
        reason = f"it has format {written} and kind {kind}, which this Torpor doesn't know"
        raise ReplicaDamaged(place=place, offset=8, reason=reason)
    return Head(PackKind(kind), str(UUID(bytes=home)), nonce.hex(), *rest)


def index_range(place: str, tail: bytes, size: int) -> tuple[int, int]:
    """Return where the index of a pack of `size` bytes begins and ends, from its last bytes.

    Raises:
        ReplicaDamaged: they are no end of a pack, or of another size.

    """
    if len(tail) < FOOTER_BYTES:
        raise ReplicaDamaged(place=place, offset=0, reason=f"it has {size} bytes, which is no pack")
    at = size - FOOTER_BYTES
    offset, length, _, told, magic = _FOOTER.unpack(tail[-FOOTER_BYTES:])
    if magic != MAGIC:
        raise ReplicaDamaged(place=place, offset=at, reason="it doesn't end like a pack")
    if told != size or offset < HEAD_BYTES or offset + length != at:
        raise ReplicaDamaged(place=place, offset=at, reason=f"it has {size:,} bytes and says {told:,}")
    return offset, at


def read_index(place: str, content: bytes, footer: bytes) -> Index:
    """Return the index of a pack from its bytes and those of the footer.

    Raises:
        ReplicaDamaged: it is none.

    """
    offset, _, crc, size, _ = _FOOTER.unpack(footer)
    if crc32c(content) != crc:
        raise ReplicaDamaged(place=place, offset=offset, reason="the checksum of its index is wrong")
    try:
        index = _index(zstandard.ZstdDecompressor().decompress(content))
    except (zstandard.ZstdError, msgspec.DecodeError) as error:
        raise ReplicaDamaged(place=place, offset=offset, reason=f"its index can't be read: {error}") from error
    for block in index.blocks:
        if not HEAD_BYTES <= block.offset <= block.offset + block.length <= size or block.raw > RAW_MAX:
            raise ReplicaDamaged(place=place, offset=offset, reason=f"its index puts a block at {block.offset:,}")
    return index


def records_of(place: str, block: Block, content: bytes) -> list[Record]:
    """Return the records of a block: all of them, and nobody else's.

    Raises:
        ReplicaDamaged: its bytes are not what the index says.

    """
    raw = _unpacked(place, block, content)
    records = decode_all(raw)
    if isinstance(records, Flaw):
        raise ReplicaDamaged(place=place, offset=block.offset, reason=f"a record can't be read: {records.reason}")
    ends = (records[0].lsn, records[-1].lsn, len(records)) if records else (0, 0, 0)
    if ends != (block.first_lsn, block.last_lsn, block.count):
        raise ReplicaDamaged(place=place, offset=block.offset, reason="it has other records than its index says")
    if any((record.agent, record.life) != (block.agent, block.life) for record in records):
        raise ReplicaDamaged(place=place, offset=block.offset, reason=f"not all its records are of {block.agent}")
    return records


def check(place: str, block: Block, content: bytes) -> None:
    """Require the bytes of a block to be those that the index means.

    Raises:
        ReplicaDamaged: they aren't.

    """
    if len(content) != block.length or crc32c(content) != block.crc:
        raise ReplicaDamaged(place=place, offset=block.offset, reason=f"the checksum of {block.agent}'s block is wrong")


def _unpacked(place: str, block: Block, content: bytes) -> bytes:
    check(place, block, content)
    try:
        with zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True) as reader:
            raw = reader.read(block.raw + 1)
    except zstandard.ZstdError as error:
        raise ReplicaDamaged(place=place, offset=block.offset, reason=str(error)) from error
    if len(raw) != block.raw:
        reason = f"it unpacks to {len(raw):,} bytes, not {block.raw:,}"
        raise ReplicaDamaged(place=place, offset=block.offset, reason=reason)
    return bytes(raw)
