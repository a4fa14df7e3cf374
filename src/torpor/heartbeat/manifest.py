"""Manifests: catalogs, kept so that a reader needn't make them from the packs.

A manifest is a cache and nothing else. It says what follows from the packs through its number, so a missing one costs
reading more packs, a stale one a few more, and a damaged one is passed over.

::

    magic (8) | CRC-32C of the rest (4) | zstd(msgpack(catalog))
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
import zstandard

from torpor.base import faults
from torpor.base.errors import ObjectCut, ObjectMissing
from torpor.heartbeat.catalog import Catalog
from torpor.heartbeat.packs import crc32c
from torpor.stores.objects import Objects

FOLDER: Final = "manifests"
MAGIC: Final = b"TORPORM1"
KEPT: Final = 2
"""Manifests that stay: the newest, and the one before for whoever is reading it."""

_HEAD_BYTES: Final = len(MAGIC) + 4

_catalog: Final = msgspec.msgpack.Decoder(Catalog).decode


def key_of(number: int) -> str:
    """Return the key of the manifest through a pack."""
    return f"{FOLDER}/{number:016x}"


def encode(catalog: Catalog) -> bytes:
    """Return the bytes of a manifest."""
    packed = zstandard.ZstdCompressor(level=3).compress(msgspec.msgpack.encode(catalog))
    return MAGIC + crc32c(packed).to_bytes(4, "little") + packed


def decode(content: bytes) -> Catalog | None:
    """Return the catalog of a manifest; None where these bytes are none."""
    packed = content[_HEAD_BYTES:]
    if content[: len(MAGIC)] != MAGIC or content[len(MAGIC) : _HEAD_BYTES] != crc32c(packed).to_bytes(4, "little"):
        return None
    try:
        return _catalog(zstandard.ZstdDecompressor().decompress(packed))
    except (zstandard.ZstdError, msgspec.DecodeError):
        return None


def load(objects: Objects) -> Iterator[Catalog]:
    """Yield the manifests that can be read, the newest first.

    Raises:
        StoreUnreachable: it can't be known now which there are.

    """
    for found in sorted(objects.list(FOLDER), key=lambda found: found.key, reverse=True):
        try:
            catalog = decode(objects.read(found.key, 0, found.size))
        except (ObjectMissing, ObjectCut):
            continue
        if catalog is not None and found.key == key_of(catalog.through):
            yield catalog


def save(objects: Objects, catalog: Catalog) -> int:
    """Write the manifest of a catalog; returns through which pack.

    A catalog is made from the manifest before and the packs since, so these have to be there: nothing is removed that
    was retired after the last manifest.

    Raises:
        StoreUnreachable, StorageFull: it may not be there, which harms nothing.

    """
    objects.create(key_of(catalog.through), encode(catalog))  # where one is there, it says the same
    faults.point("replica.manifested")
    return catalog.through


def tidy(objects: Objects) -> int:
    """Remove all manifests but the newest; returns how many.

    Raises:
        StoreUnreachable: not all are removed.

    """
    old = sorted(found.key for found in objects.list(FOLDER))[:-KEPT]
    for key in old:
        objects.delete(key)
    return len(old)
