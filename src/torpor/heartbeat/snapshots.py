"""Snapshots on their way into the replica and back: a whole workbook, compressed.

One that compresses to `SNAPSHOT_INLINE_MAX` or less is the payload of a record. A larger one becomes an object of its
own, streamed from the file to the store and back and never whole in memory; the record says which object, and the
SHA-256 of the workbook. The object is there, whole, before the record is made.

The key has the number of the claim that it was made under. What was uploaded and never recorded is found by that:
once a later claim stands and everything older was shipped, nothing new can speak of it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing
from typing import Final

import msgspec
import zstandard

from torpor.base import faults
from torpor.base.errors import ObjectCut, ObjectMissing, ReplicaDamaged, StorageFailed, StoreUnreachable
from torpor.base.limits import MIB, SNAPSHOT_INLINE_MAX
from torpor.heartbeat.reading import Reader
from torpor.heartbeat.records import NOBODY, Kind, Record
from torpor.heartbeat.replica import Replica
from torpor.stores.copies import reading, write_all, writing
from torpor.stores.pieces import Pieces, ahead, compressed, decompressed, pieces_of

FOLDER: Final = "snapshots"

_RANGE: Final = 8 * MIB
"""Bytes of a snapshot's object that are asked for at a time."""


class SnapshotAt(msgspec.Struct, frozen=True):
    """Where a snapshot is.

    Attributes:
        key: the object's, below the replica's URL.
        digest: SHA-256 of the workbook, in hexadecimal.
        size: its bytes.
        stored: bytes of the object.

    """

    key: str
    digest: str
    size: int
    stored: int


_at: Final = msgspec.msgpack.Decoder(SnapshotAt).decode


def pack_snapshot(path: str, replica: Replica | None, *, agent: str = NOBODY) -> tuple[Kind, bytes]:
    """Return kind and payload of the record of a snapshot; a large one is put into the replica first.

    Args:
        path: a whole workbook that nobody has open, nor will: a file that `workbook.snapshot` has made.
        replica: where large ones go; without one they become records too.
        agent: whose it is, for people who look at the store.

    Raises:
        StoreUnreachable, StorageFull: it can't be put now.
        WorkbookMissing, WorkbookReadOnly, StorageFailed: the file can't be read.

    """
    with reading(path) as (descriptor, size):
        packed = _packed(path, descriptor, size, SNAPSHOT_INLINE_MAX if replica is not None else size + MIB)
        if packed is not None or replica is None:
            return Kind.SNAPSHOT, packed or b""
        os.lseek(descriptor, 0, os.SEEK_SET)
        placed = _put(path, descriptor, size, replica, f"{agent}/{replica.number:016x}")
    return Kind.SNAPSHOT_AT, msgspec.msgpack.encode(placed)


def pack_image(content: bytes) -> tuple[Kind, bytes] | None:
    """Return kind and payload of the record of a snapshot that is in memory; None where that is too large for one."""
    packed = b"".join(compressed([content], len(content)))
    return (Kind.SNAPSHOT, packed) if len(packed) <= SNAPSHOT_INLINE_MAX else None


def unpack_snapshot(reader: Reader, record: Record, target: str) -> int:
    """Write the workbook of a snapshot's record to a new file, which is durable when this returns.

    Returns:
        Bytes that were read from the store for it.

    Raises:
        ReplicaDamaged: what is there is not the snapshot.
        StoreUnreachable: it can't be read now.
        FileTaken: something is at `target`.
        WorkbookReadOnly, StorageFull, StorageFailed: `target` can't be written.

    """
    if record.kind is Kind.SNAPSHOT:
        place = reader.objects.place(f"record {record.lsn}")
        _write(target, iter((record.payload,)), place)
        return 0
    placed = _at(record.payload)
    place = reader.objects.place(placed.key)
    try:
        digest, size = _write(target, _content(reader, placed), place)
    except (ObjectMissing, ObjectCut) as error:
        raise ReplicaDamaged(place=place, offset=getattr(error, "size", 0), reason=error.message) from error
    if (digest, size) != (placed.digest, placed.size):
        os.unlink(target)
        raise ReplicaDamaged(place=place, offset=0, reason=f"its SHA-256 is {digest}, not {placed.digest}")
    return placed.stored


def claim_of(key: str) -> int:
    """Return the number of the claim under which a snapshot's object was made; 0 where the key is none's."""
    try:
        return int(key.rpartition("/")[2].partition("-")[0], 16)
    except ValueError:
        return 0


def _packed(path: str, descriptor: int, size: int, most: int) -> bytes | None:
    """Return the compressed workbook, if that has no more than `most` bytes."""
    pieces: list[bytes | memoryview] = []
    taken = 0
    try:
        with closing(compressed(pieces_of(path, descriptor), size)) as packed:
            for piece in packed:
                taken += len(piece)
                if taken > most:
                    return None
                pieces.append(piece)
    except zstandard.ZstdError as error:  # the size was promised, and isn't kept
        raise StorageFailed(path=path, reason="it changed while it was read") from error
    return b"".join(pieces)


def _put(path: str, descriptor: int, size: int, replica: Replica, name: str) -> SnapshotAt:
    if not replica.number:
        raise StoreUnreachable(place=replica.url, reason="this node has not claimed it yet")
    found = hashlib.sha256()
    stored = 0

    def hashed() -> Pieces:
        for piece in pieces_of(path, descriptor):
            found.update(piece)
            yield piece

    def counted(pieces: Iterator[bytes | memoryview]) -> Pieces:
        nonlocal stored
        for piece in pieces:
            stored += len(piece)
            yield piece

    key = f"{FOLDER}/{name}-{replica.token()}"
    with closing(ahead(hashed())) as plain, closing(ahead(compressed(plain, size))) as packed:
        try:
            replica.objects.put(key, counted(packed), size + MIB)
        except zstandard.ZstdError as error:
            raise StorageFailed(path=path, reason="it changed while it was read") from error
    if (there := replica.objects.size(key)) != stored:
        reason = f"{stored:,} bytes were put, {there} are there"
        raise StoreUnreachable(place=replica.objects.place(key), reason=reason)
    faults.point("replica.snapshot")
    return SnapshotAt(key, found.hexdigest(), size, stored)


def _content(reader: Reader, placed: SnapshotAt) -> Pieces:
    """Yield an object, a range at a time."""
    for start in range(0, placed.stored, _RANGE):
        yield reader.objects.read(placed.key, start, min(placed.stored, start + _RANGE))


def _write(target: str, packed: Iterator[bytes | memoryview], place: str) -> tuple[str, int]:
    """Unpack into a new file; returns the SHA-256 of what is in it, and its size."""
    found = hashlib.sha256()
    size = 0
    with writing(target) as descriptor:
        try:
            with closing(ahead(packed)) as coming, closing(ahead(decompressed(coming))) as plain:
                for piece in plain:
                    write_all(descriptor, piece)
                    found.update(piece)
                    size += len(piece)
        except zstandard.ZstdError as error:
            raise ReplicaDamaged(place=place, offset=size, reason=str(error)) from error
        os.fsync(descriptor)
    return found.hexdigest(), size
