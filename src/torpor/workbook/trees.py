"""The tables under the volumes: rows of files, chunks of content, and how full each tree is.

Everything here works inside the transaction of its caller (`Volumes` for whole files, `Staging` for streams) and takes
paths that are normal already.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from torpor.base.errors import (
    ContentRefused,
    FileInTheWay,
    FileMissing,
    QuotaExceeded,
    WorkbookDamaged,
)
from torpor.base.limits import CHUNK_MAX, CHUNK_MERGE_MAX
from torpor.workbook.fold import Content
from torpor.workbook.journal import Journal
from torpor.workbook.paths import Volume, ancestors, below
from torpor.workbook.store import Store

Bytes = bytes | bytearray | memoryview

MODE_DEFAULT = 0o644
MODE_MAX = 0o777

_WITHIN: Final = "WHERE volume = ?2 AND path >= ?3 AND path < ?4"

RETIRED: Final = "SET volume = 'past', path = '/' || ?1 || '/' || born || '/' || grown"
"""What becomes of the row of a file that event ?1 retires."""


class Usage(msgspec.Struct, frozen=True):
    """How full a volume is, in bytes."""

    used: int
    quota: int


class Trees:
    """The rows of the volumes, and of the trees `staging`, `values` and `past`."""

    def __init__(self, store: Store, journal: Journal) -> None:
        self._store = store
        self._journal = journal

    def row(self, volume: str, path: str) -> tuple[int, int] | None:
        """Return the row number and size of the file at a path."""
        row = self._store.row("SELECT file, size FROM files WHERE volume = ? AND path = ?", (volume, path))
        return (row[0], row[1]) if row else None

    def make_room(self, volume: Volume, path: str, event: int) -> None:
        """Have the file that stands at a path give way to another.

        Args:
            volume: the tree.
            path: the place.
            event: number of the event that records the change; 0 in `tmp`, which has none.

        Raises:
            FileInTheWay: a folder stands there, or a file where the path needs a folder.

        """
        folders = ancestors(path)
        for folder in folders:
            if self.row(volume, folder) is not None:
                raise FileInTheWay(volume=volume, path=path, other=folder)
        inside = self._store.row(
            "SELECT path FROM files WHERE volume = ? AND path >= ? AND path < ? LIMIT 1",
            (volume, *below(path)),
        )
        if inside is not None:
            raise FileInTheWay(volume=volume, path=path, other=inside[0])
        if self.row(volume, path) is not None:
            self.remove(volume, path, event)

    def remove(self, volume: Volume, path: str, event: int) -> None:
        """Take a file, or all below a folder, out of a volume.

        What leaves `tmp` is deleted. What leaves another volume is kept in the tree `past`, where a rewind finds it:
        only the row changes, the content stays where it is.
        """
        here = (event, volume, *self._bounds(volume, path))
        size = self._store.row(f"SELECT coalesce(sum(size), 0) FROM files {_WITHIN}", here)
        gone = size[0] if size else 0
        if volume == "tmp":
            self.charge("tmp", -gone)
            self._store.execute(f"DELETE FROM files {_WITHIN}", here)
            return
        self._store.execute(
            "UPDATE volumes SET used = used + iif(volume = 'past', ?2, -?2) WHERE volume IN (?1, 'past')",
            (volume, gone),
        )
        self._store.execute(f"UPDATE files {RETIRED} {_WITHIN}", here)

    def _bounds(self, volume: str, path: str) -> tuple[str, str]:
        """Return the bounds [low, high) of what a path leads to: a file, or all below a folder."""
        # One range, for SQLite finds the rows of a range to change by the index, and those of two, joined by OR, not.
        return below(path) if self.row(volume, path) is None else (path, f"{path}\0")

    def insert(
        self,
        volume: str,
        path: str,
        mode: int,
        size: int,
        content: Content | None = None,
        *,
        mtime: int | None = None,
    ) -> int:
        """Add a file without its content and return its row number.

        Args:
            volume: the tree.
            path: its place.
            mode: permission bits.
            size: bytes of the content that will follow.
            content: the events that made it and that last added to it, where the tree has events.
            mtime: the time of its last change, unless that is now.

        """
        born, grown = content or (None, None)
        self._store.execute(
            "INSERT INTO files (volume, path, mode, size, mtime, born, grown) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (volume, path, mode, size, self._store.clock.now_us() if mtime is None else mtime, born, grown),
        )
        return int(self._store.db.last_insert_rowid())

    def store_chunks(self, file: int, start: int, data: bytes) -> None:
        """Add content that begins at the offset `start`."""
        for offset in range(0, len(data), CHUNK_MAX):
            self._store.execute(
                "INSERT INTO chunks (file, start, data) VALUES (?, ?, ?)",
                (file, start + offset, data[offset : offset + CHUNK_MAX]),
            )

    def extend(self, file: int, size: int, data: bytes) -> None:
        """Add content behind the `size` bytes that a file has; a small last chunk is filled up."""
        last = self._store.row("SELECT start, data FROM chunks WHERE file = ? ORDER BY start DESC LIMIT 1", (file,))
        if last is not None and len(last[1]) <= CHUNK_MERGE_MAX:
            self._store.execute("DELETE FROM chunks WHERE file = ? AND start = ?", (file, last[0]))
            size, data = last[0], last[1] + data
        self.store_chunks(file, size, data)

    def charge(self, volume: str, size: int) -> None:
        """Count bytes that a tree gains, or loses where `size` is negative.

        Raises:
            QuotaExceeded: they don't fit.

        """
        if size > 0:
            row = self._store.row("SELECT used, quota FROM volumes WHERE volume = ?", (volume,))
            used, quota = row or (0, 0)
            if used + size > quota:
                raise QuotaExceeded(volume=volume, used=used, quota=quota, asked=size)
        self._store.execute("UPDATE volumes SET used = used + ? WHERE volume = ?", (size, volume))

    def rename(self, volume: str, path: str, target: str) -> None:
        """Give a file, or all below a folder, another path; nothing may be there."""
        # substr counts characters, as len does.
        self._store.execute(
            f"UPDATE files SET path = ?5 || substr(path, ?1) {_WITHIN}",
            (len(path) + 1, volume, *self._bounds(volume, path), target),
        )

    def find(self, volume: str, path: str) -> tuple[int, int]:
        """Return a file's row number and size.

        Raises:
            FileMissing: there is no such file.

        """
        row = self.row(volume, path)
        if row is None:
            raise FileMissing(volume=volume, path=path)
        return row

    def read(self, volume: str, path: str) -> bytes:
        """Return a file's content.

        Raises:
            FileMissing: there is no such file.
            WorkbookDamaged: its content isn't all there.

        """
        # One statement sees one state of the file, whoever replaces what it reads meanwhile.
        found = self._store.rows(
            "SELECT data, size FROM files LEFT JOIN chunks USING (file) WHERE volume = ? AND path = ? ORDER BY start",
            (volume, path),
        )
        if not found:
            raise FileMissing(volume=volume, path=path)
        content = b"".join(row[0] or b"" for row in found)
        if len(content) != found[0][1]:
            raise torn(self._store, (volume, path), found[0][1], len(content))
        return content

    def copy(self, source: Trees, kept: int, file: int, size: int) -> None:
        """Give a file without content the first `size` bytes of the row `kept` in a workbook, be it this one."""
        start = 0
        for piece in source.pieces(kept, size):
            self.store_chunks(file, start, piece)
            start += len(piece)

    def pieces(self, file: int, size: int) -> Iterator[bytes]:
        """Yield the first `size` bytes of the file in a row, or as many as there are, in pieces."""
        place = 0
        while place < size:
            row = self._store.row("SELECT data FROM chunks WHERE file = ? AND start = ?", (file, place))
            if row is None:
                return
            piece: bytes = row[0][: size - place]
            yield piece
            place += len(piece)

    def usage(self, volume: str) -> Usage:
        """Return how full a volume is."""
        row = self._store.row("SELECT used, quota FROM volumes WHERE volume = ?", (volume,))
        used, quota = row or (0, 0)
        return Usage(used, quota)

    def tell(self, kind: str, volume: Volume, span: str | None, **facts: Any) -> int:
        """Record a change and return its event's number; `tmp` leaves no trace, so there it is 0."""
        if volume == "tmp":
            return 0
        return self._journal.append(kind, {"volume": volume, **facts}, span=span)


def torn(store: Store, place: tuple[str, str], size: int, found: int) -> WorkbookDamaged:
    """Return the error for a file of `size` bytes of which only some were found."""
    reason = f"{place[0]}:{place[1]} has {found:,} of its {size:,} bytes"
    return WorkbookDamaged(path=store.path, reason=reason)


def as_bytes(data: Bytes) -> bytes:
    """Return content as bytes.

    Raises:
        ContentRefused: it is something else.

    """
    if isinstance(data, bytes):
        return data
    if isinstance(data, bytearray | memoryview):
        return bytes(data)
    raise ContentRefused(reason=f"{type(data).__name__} is not bytes")


def check_mode(mode: int) -> None:
    """Refuse what is no permission bits.

    Raises:
        ContentRefused: it isn't.

    """
    if type(mode) is not int or not 0 <= mode <= MODE_MAX:
        raise ContentRefused(reason=f"the mode {mode!r} is not permission bits")
