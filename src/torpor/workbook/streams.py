"""Files read and written piece by piece, in bounded memory.

A `FileReader` sees the file as it was when it was opened, whatever is written meanwhile: it holds a read transaction
on a connection of its own. (While it is open SQLite can't shorten the write-ahead log, so close it.) A `FileWriter`
fills a staged file; the file appears under its name, whole, when the writer is closed without an error, and not at
all otherwise.

Both belong to their workbook and are closed with it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from torpor.base.errors import ContentRefused, TransactionLost, WorkbookClosed
from torpor.base.limits import CHUNK_MAX
from torpor.workbook.paths import Volume
from torpor.workbook.store import Store
from torpor.workbook.trees import Bytes, as_bytes, torn
from torpor.workbook.volumes import Volumes

_FLUSH_BYTES: Final = 16 * CHUNK_MAX


class FileReader(io.RawIOBase):
    """A file opened for reading; a binary stream that can seek."""

    def __init__(self, store: Store, volumes: Volumes, place: tuple[Volume, str]) -> None:
        super().__init__()
        file, size = volumes.find(*place)
        self._store = store
        self._where = place
        self._file = file
        self._size = size
        self._place = 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can seek."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a place in the file and return it."""
        self._check()
        if whence not in (io.SEEK_SET, io.SEEK_CUR, io.SEEK_END):
            raise ContentRefused(reason=f"{whence!r} is no place to seek from")
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def tell(self) -> int:
        """Return the present place."""
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any writable buffer in typeshed
        """Read into a buffer and return how many bytes it took; 0 at the end."""
        self._check()
        if self._place >= self._size:
            return 0
        row = self._store.row(
            "SELECT start, data FROM chunks WHERE file = ? AND start <= ? ORDER BY start DESC LIMIT 1",
            (self._file, self._place),
        )
        piece = row[1][self._place - row[0] :][: len(buffer)] if row else b""
        if not piece and len(buffer):
            raise torn(self._store, self._where, self._size, self._place)
        buffer[: len(piece)] = piece
        self._place += len(piece)
        return len(piece)

    def close(self) -> None:
        """End the reading; twice is once."""
        if not self.closed:
            self._store.close()
        super().close()

    def _check(self) -> None:
        if self.closed:
            raise WorkbookClosed(path=self._store.path)


class FileWriter:
    """A file opened for writing; made by `Workbook.writer`, best used in a `with` block."""

    def __init__(self, store: Store, volumes: Volumes, place: tuple[Volume, str], name: str, span: str | None) -> None:
        self._store = store
        self._volumes = volumes
        self._place = place
        self._name = name
        self._span = span
        self._size = 0
        self._digest = hashlib.sha256()
        self._buffer = bytearray()
        self.closed = False

    def write(self, data: Bytes) -> int:
        """Add bytes to the file and return how many.

        Raises:
            QuotaExceeded: the volume can't hold them; leave the `with` block and nothing is kept.
            TransactionLost: what was written before, in a transaction, was undone with it.
            WorkbookClosed: the writer is closed.

        """
        if self.closed:
            raise WorkbookClosed(path=self._store.path)
        piece = as_bytes(data)
        self._buffer += piece
        while len(self._buffer) >= _FLUSH_BYTES:
            self._flush(_FLUSH_BYTES)
        return len(piece)

    def close(self) -> None:
        """Put the file in its place; twice is once.

        Raises:
            FileInTheWay, QuotaExceeded: it can't stand there.
            TransactionLost: what was written before, in a transaction, was undone with it.

        """
        if self.closed:
            return
        if self._buffer:
            self._flush(len(self._buffer))
        part = (self._size, self._digest.hexdigest())
        self._volumes.staging.place(self._name, part, *self._place, self._span)
        self.closed = True

    def discard(self) -> None:
        """Forget what was written; what stood under the name stays."""
        if not self.closed:
            self.closed = True
            with suppress(TransactionLost):  # what was written went with the transaction
                self._volumes.staging.drop(self._name)

    def _flush(self, size: int) -> None:
        piece = bytes(self._buffer[:size])
        self._volumes.staging.add(self._name, self._size, piece, *self._place)
        del self._buffer[:size]
        self._digest.update(piece)
        self._size += size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.discard()
            return
        try:
            self.close()
        finally:
            self.discard()


def open_reader(
    connect: Callable[[], Store], volumes: Callable[[Store], Volumes], place: tuple[Volume, str]
) -> FileReader:
    """Open a reader on a connection of its own, at the state of the file as it is now."""
    store = connect()
    try:
        store.execute("BEGIN")
        return FileReader(store, volumes(store), place)
    except BaseException:
        store.close()
        raise
