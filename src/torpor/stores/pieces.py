"""Streams of bytes, a piece at a time: read from files, hashed, compressed and back, none of them whole in memory.

Reading, hashing, compressing and writing all release Python's lock, so `ahead` lets two of them run at once: it asks
for the next piece in a thread of its own while its caller is busy with the present one.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Final, cast

import zstandard

from torpor.base.limits import MIB
from torpor.stores.copies import said_of

Pieces = Generator[bytes | memoryview, None, None]

PIECE: Final = MIB
"""Bytes of a workbook in one piece."""

LEVEL: Final = 3
"""zstd's own default: about a quarter of a second for 100 MB, and little is gained above it."""

WINDOW_MAX: Final = 8 * MIB
"""Bytes that decompressing may look back on: four times what our level uses; a frame that asks for more is not ours."""


def ahead(pieces: Iterator[bytes | memoryview]) -> Pieces:
    """Yield the same pieces; the next one is being made while the caller has the present one."""
    with ThreadPoolExecutor(1, "torpor-pieces") as beside:
        coming = beside.submit(next, pieces, None)
        while (piece := coming.result()) is not None:
            coming = beside.submit(next, pieces, None)
            yield piece


def pieces_of(path: str, descriptor: int) -> Pieces:
    """Yield a file's bytes, from where its descriptor stands to its end.

    Raises:
        StorageFailed: it can't be read; `path` is what the error speaks of.

    """
    while True:
        with said_of(path):
            piece = os.read(descriptor, PIECE)
        if not piece:
            return
        yield piece


def compressed(pieces: Iterable[bytes | memoryview], size: int) -> Pieces:
    """Yield one zstd frame of `size` bytes, with a checksum."""
    frame = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).chunker(size=size, chunk_size=PIECE)
    for piece in pieces:
        yield from frame.compress(piece)
    yield from cast("Iterator[bytes]", frame.finish())  # type: ignore[no-untyped-call]  # its stub says nothing


def decompressed(pieces: Iterator[bytes | memoryview]) -> Pieces:
    """Yield what a zstd frame holds, in pieces of bounded size whatever the frame says of itself.

    A frame that is cut short ends early without a word: whoever asks knows how much there should be.

    Raises:
        zstandard.ZstdError: it is none, or its bytes or its checksum are wrong.

    """
    frame = zstandard.ZstdDecompressor(max_window_size=WINDOW_MAX)
    yield from frame.read_to_iter(cast("IO[bytes]", _Source(pieces)), read_size=PIECE, write_size=PIECE)


class _Source:
    """Pieces as zstandard reads them.

    What `read` returns goes into the library unchecked: anything but `bytes`, or more of them than were asked for,
    destroys the process's memory.
    """

    def __init__(self, pieces: Iterator[bytes | memoryview]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; none at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = memoryview(piece)
        taken, self._rest = self._rest[:size], self._rest[size:]
        return bytes(taken)
