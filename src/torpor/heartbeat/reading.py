"""Reading a replica: nothing here writes, so anybody may, at any time, beside the node that ships.

What counts follows from the sequence of packs and from the newest base in it. So a reader needs the packs after the
base, and those that the base names; the newest manifest spares most of that, where there is one and it is whole. A list
of the store may be behind: the end of the sequence is looked for beyond it, one key at a time.

Packs may be retired while they are read. What is missing then is not lost but elsewhere: the reader starts again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

import msgspec

from torpor.base.errors import ObjectCut, ObjectMissing, ReplicaDamaged
from torpor.base.limits import MIB
from torpor.heartbeat import manifest
from torpor.heartbeat.catalog import LOG, Catalog, Piece, log_key, number_of, start
from torpor.heartbeat.packs import (
    FOOTER_BYTES,
    HEAD_BYTES,
    TAIL_BYTES,
    Head,
    Index,
    Source,
    index_range,
    read_head,
    read_index,
    records_of,
)
from torpor.heartbeat.records import Record
from torpor.stores.objects import Objects

AT_ONCE: Final = 8
"""Requests under way at the same time."""

GAP: Final = 64 * 1024
"""Bytes that are read for nothing rather than asked around."""

SPAN: Final = 16 * MIB
"""Bytes asked for in one go."""

SHARED_MAX: Final = 256 * MIB
"""Bytes of packs that are kept in memory while many agents are restored."""

TRIES: Final = 4
"""How often a reader starts again when packs are retired under it."""

T = TypeVar("T")


class Reader:
    """What a replica holds. Safe to be used by many threads.

    Args:
        objects: the store, below the replica's URL.

    """

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.url = objects.url

    def catalog(self) -> Catalog:
        """Return what the replica holds now; an empty one where there is none.

        Raises:
            ReplicaDamaged: a pack that counts is missing, or not to be read.
            StoreUnreachable: it can't be known now.

        """
        for left in reversed(range(TRIES)):
            try:
                return self._catalog()
            except (ObjectMissing, ReplicaDamaged):
                if not left:
                    raise
        raise AssertionError  # pragma: no cover  (the last try returns or raises)

    def head(self, key: str) -> Head:
        """Return the head of a pack.

        Raises:
            ObjectMissing: there is no such pack.
            ReplicaDamaged: it is none.
            StoreUnreachable: it can't be known now.

        """
        try:
            content = self.objects.read(key, 0, HEAD_BYTES)
        except ObjectCut as error:
            raise ReplicaDamaged(place=self.objects.place(key), offset=error.size, reason="it ends there") from error
        return read_head(self.objects.place(key), content)

    def index(self, key: str, size: int | None = None) -> Index:
        """Return the index of a pack: one request, where its size is known and the index is not long.

        Raises:
            ObjectMissing: there is no such pack.
            ReplicaDamaged: it is none.
            StoreUnreachable: it can't be known now.

        """
        place = self.objects.place(key)
        try:
            if size is None:
                tail = self.objects.tail(key, TAIL_BYTES)
                size, content = tail.size, tail.content
            else:
                content = self.objects.read(key, max(0, size - TAIL_BYTES), size)
            begin, end = index_range(place, content, size)
            footer = content[-FOOTER_BYTES:]
            at = begin - (size - len(content))
            listed = content[at:-FOOTER_BYTES] if at >= 0 else self.objects.read(key, begin, end)
        except ObjectCut as error:
            raise ReplicaDamaged(place=place, offset=error.size, reason="it ends there") from error
        return read_index(place, listed, footer)

    def whole(self, key: str) -> tuple[Index, bytes]:
        """Return the index of a pack, and all its bytes.

        Raises:
            ObjectMissing, ReplicaDamaged, StoreUnreachable: as for `index`.

        """
        place = self.objects.place(key)
        content = self._all(key)
        begin, end = index_range(place, content, len(content))
        return read_index(place, content[begin:end], content[-FOOTER_BYTES:]), content

    def indexes(self, sources: Sequence[tuple[str, int | None]]) -> dict[str, Index]:
        """Return the indexes of many packs, each given by key and size, some of them read at once.

        Raises:
            ObjectMissing, ReplicaDamaged, StoreUnreachable: as for `index`.

        """
        return dict(zip((key for key, _ in sources), each(lambda one: self.index(*one), sources), strict=True))

    def records(self, pieces: Sequence[Piece]) -> list[Record]:
        """Return the records of some blocks, in the order of their numbers. Blocks that are neighbours come together.

        Raises:
            ObjectMissing: a pack was retired meanwhile.
            ReplicaDamaged: a block is not what the index says.
            StoreUnreachable: they can't be read now.

        """
        found = [record for run in each(self._run, list(runs(pieces))) for record in run]
        found.sort(key=lambda record: record.lsn)
        return found

    def contents(self, pieces: Sequence[Piece]) -> list[tuple[Piece, bytes]]:
        """Return the bytes of some blocks, as they are in their packs, unchecked.

        Raises:
            ObjectMissing, ReplicaDamaged, StoreUnreachable: as for `records`.

        """
        return [pair for run in each(self._span, list(runs(pieces))) for pair in run]

    def newest_first(self, catalog: Catalog, *, until: int | None = None) -> Iterator[tuple[str, Index]]:
        """Yield every pack that counts with its index, the newest first, some of them read ahead.

        Args:
            catalog: of this replica.
            until: µs; merged packs whose records are all later are left out.

        """
        keys: list[tuple[str, int | None]] = [
            (log_key(number), None) for number in range(catalog.through, catalog.base.number, -1)
        ]
        keys += [
            (source.key, source.size)
            for source in reversed(catalog.base.packs)
            if until is None or source.first_time <= until
        ]
        for at in range(0, len(keys), 2 * AT_ONCE):
            yield from self.indexes(keys[at : at + 2 * AT_ONCE]).items()

    def _run(self, run: list[Piece]) -> list[Record]:
        return [
            record
            for piece, content in self._span(run)
            for record in records_of(self.objects.place(piece.pack), piece.block, content)
        ]

    def _span(self, run: list[Piece]) -> list[tuple[Piece, bytes]]:
        key = run[0].pack
        begin, end = run[0].block.offset, run[-1].block.offset + run[-1].block.length
        try:
            content = self._range(key, begin, end)
        except ObjectCut as error:
            place = self.objects.place(key)
            raise ReplicaDamaged(place=place, offset=begin, reason=f"it ends at {error.size:,}") from error
        view = memoryview(content)
        return [
            (piece, bytes(view[piece.block.offset - begin : piece.block.offset - begin + piece.block.length]))
            for piece in run
        ]

    def _range(self, key: str, begin: int, end: int) -> bytes:
        return self.objects.read(key, begin, end)

    def _all(self, key: str) -> bytes:
        size = self.objects.size(key)
        if size is None:
            raise ObjectMissing(place=self.objects.place(key))
        return self.objects.read(key, 0, size)

    def _catalog(self) -> Catalog:
        known = {number_of(found.key): found.size for found in self.objects.list(LOG)}
        known.pop(0, None)
        seen: dict[str, Index] = {}
        for catalog in manifest.load(self.objects):
            if all(number in known for number in range(catalog.through + 1, max(known, default=0) + 1)):
                break
        else:
            catalog, seen = self._from_packs(known)
        self._extend(catalog, known, seen)
        return catalog

    def _from_packs(self, known: dict[int, int]) -> tuple[Catalog, dict[str, Index]]:
        """Return the catalog at the newest base, without any manifest, and the indexes that were read."""
        seen: dict[str, Index] = {}
        for number in range(max(known, default=0), 0, -1):
            key = log_key(number)
            try:
                index = seen[key] = self.index(key, known.get(number))
            except ObjectMissing as error:
                reason = "it is missing, and no base says that it may be"
                raise ReplicaDamaged(place=self.objects.place(key), offset=0, reason=reason) from error
            if index.base is not None:
                merged = self.indexes([(source.key, source.size) for source in index.base.packs])
                return start(index.base, index.head.home, merged), seen
        return Catalog(), seen

    def _extend(self, catalog: Catalog, known: dict[int, int], seen: dict[str, Index]) -> None:
        """Add the packs behind a catalog: those of the list, then those that the list doesn't show yet.

        Of several bases only the newest is minded: what an earlier one names may be gone.
        """
        listed = {log_key(n): known.get(n) for n in range(catalog.through + 1, max(known, default=0) + 1)}
        found = seen | self.indexes([(key, size) for key, size in listed.items() if key not in seen])
        found = {key: found[key] for key in listed}
        number = max(catalog.through, max(known, default=0)) + 1
        while (size := self.objects.size(log_key(number))) is not None:
            found[log_key(number)] = self.index(log_key(number), size)
            number += 1
        newest = max((key for key, index in found.items() if index.base is not None), default="")
        for key, index in found.items():
            minded = index if key == newest else msgspec.structs.replace(index, base=None)
            catalog.add(key, minded, self._of_source)

    def _of_source(self, source: Source) -> Index:
        return self.index(source.key, source.size)


class SharingReader(Reader):
    """A reader for many agents at once: packs of the sequence have a little of each, so these are read whole, and once.

    Args:
        objects: the store, below the replica's URL.

    """

    def __init__(self, objects: Objects) -> None:
        super().__init__(objects)
        self._lock = threading.Lock()
        self._packs: dict[str, Future[bytes]] = {}
        self._bytes = 0

    def _range(self, key: str, begin: int, end: int) -> bytes:
        if not number_of(key):
            return super()._range(key, begin, end)
        with self._lock:
            found = self._packs.get(key)
            first = found is None and self._bytes < SHARED_MAX
            if first:
                found = self._packs[key] = Future()
        if found is None:
            return super()._range(key, begin, end)
        if first:
            self._fetch(key, found)
        content = found.result()
        return content[begin:end] if end <= len(content) else super()._range(key, begin, end)

    def _fetch(self, key: str, found: Future[bytes]) -> None:
        try:
            content = self._all(key)
        except BaseException as error:
            with self._lock:
                del self._packs[key]
            found.set_exception(error)
            raise
        with self._lock:
            self._bytes += len(content)
        found.set_result(content)


def runs(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Group blocks that stand close to each other in one pack, each group to be read in one go."""
    run: list[Piece] = []
    for piece in sorted(pieces, key=lambda piece: (piece.pack, piece.block.offset)):
        block = piece.block
        if run:
            last = run[-1].block
            far = block.offset - (last.offset + last.length) > GAP
            long = block.offset + block.length - run[0].block.offset > SPAN
            if run[-1].pack != piece.pack or far or long:
                yield run
                run = []
        run.append(piece)
    if run:
        yield run


A = TypeVar("A")


def each(function: Callable[[A], T], arguments: Sequence[A]) -> list[T]:
    """Call a function with each argument, some calls at once; returns the results in order."""
    if len(arguments) < 2:  # noqa: PLR2004  (a pool for one call is a waste)
        return [function(argument) for argument in arguments]
    with ThreadPoolExecutor(min(AT_ONCE, len(arguments)), "torpor-replica") as pool:
        return list(pool.map(function, arguments))
