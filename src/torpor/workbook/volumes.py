"""Volumes: three trees of files inside the workbook.

A file is a row of `files` and its content, in `chunks` of up to 64 KiB, each placed by the offset at which it starts;
chunks need not be full, so an append adds a row and rewrites at most a small last one. Folders are not stored: a
folder is there as long as a file is below it.

Every change of `workspace` and `memory` is an event with the digest of what was written, in the same transaction, so
the journal vouches for the files (`verify` folds it and compares). `tmp` is scratch and leaves no trace.

Three more trees share the tables and no public door. `staging` holds what a streaming write has written so far: the
content moves under its real name in the transaction that closes the stream, and what a dead process left there is
removed at the next open. `values` holds values too big for an event, named by their SHA-256. `past` holds the files
that were replaced or deleted, so that a rewind or a fork can have them back (`past.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Literal

import msgspec

from torpor.base.errors import (
    ContentRefused,
    FileInTheWay,
    FileMissing,
    PathRefused,
    QuotaExceeded,
)
from torpor.workbook.journal import Journal
from torpor.workbook.paths import Volume, below, check_volume, normal_folder, normal_path
from torpor.workbook.staging import Staging
from torpor.workbook.store import Store
from torpor.workbook.trees import MODE_DEFAULT, Bytes, Trees, Usage, as_bytes, check_mode
from torpor.workbook.view import one_view


class FileStat(msgspec.Struct, frozen=True):
    """What is known of a file or folder without reading it. A folder's size and times are those of what is below it."""

    volume: str
    path: str
    kind: Literal["file", "folder"]
    size: int
    """Bytes."""
    mode: int
    """Permission bits, as in chmod."""
    mtime: int
    """Microseconds since 1970 UTC."""


class Volumes:
    """The files of one workbook.

    Attributes:
        staging: files that streams are writing.

    """

    def __init__(self, store: Store, journal: Journal) -> None:
        self._store = store
        self._journal = journal
        self._trees = Trees(store, journal)
        self.staging = Staging(store, self._trees)

    # --- reading ---

    def read(self, volume: Volume, path: str) -> bytes:
        """Return a file's content.

        Raises:
            FileMissing: there is no such file.

        """
        check_volume(volume)
        return self._trees.read(volume, normal_path(path))

    def stat(self, volume: Volume, path: str) -> FileStat:
        """Return what is known of a file or folder.

        Raises:
            FileMissing: there is neither.

        """
        check_volume(volume)
        path = normal_folder(path)
        with one_view(self._store):
            row = self._store.row("SELECT size, mode, mtime FROM files WHERE volume = ? AND path = ?", (volume, path))
            if row is not None:
                return FileStat(volume, path, "file", *row)
            return self._folder(volume, path)

    def _folder(self, volume: str, path: str) -> FileStat:
        row = self._store.row(
            "SELECT count(*), sum(size), max(mtime) FROM files WHERE volume = ? AND path >= ? AND path < ?",
            (volume, *below(path)),
        )
        count, size, mtime = row or (0, None, None)
        if not count and path:
            raise FileMissing(volume=volume, path=path)
        return FileStat(volume, path or "/", "folder", size or 0, 0o755, mtime or 0)

    def list(self, volume: Volume, folder: str = "/", *, recursive: bool = False) -> list[FileStat]:
        """Return what is directly in a folder, or all files below it, in the order of their paths' bytes.

        Raises:
            FileMissing: there is no such folder.

        """
        check_volume(volume)
        folder = normal_folder(folder)
        with one_view(self._store):
            found = list(self._below(volume, folder) if recursive else self._within(volume, folder))
        # A folder was found where the first file below it stands, which is behind names such as "folder.txt".
        found.sort(key=lambda file: file.path)
        if not found and folder:
            raise FileMissing(volume=volume, path=folder)
        return found

    def _below(self, volume: str, folder: str) -> Iterator[FileStat]:
        for row in self._store.rows(
            "SELECT path, size, mode, mtime FROM files WHERE volume = ? AND path >= ? AND path < ? ORDER BY path",
            (volume, *below(folder)),
        ):
            yield FileStat(volume, row[0], "file", *row[1:])

    def _within(self, volume: str, folder: str) -> Iterator[FileStat]:
        low, high = below(folder)
        while True:
            row = self._store.row(
                "SELECT path, size, mode, mtime FROM files"
                " WHERE volume = ? AND path >= ? AND path < ? ORDER BY path LIMIT 1",
                (volume, low, high),
            )
            if row is None:
                return
            path: str = row[0]
            name, slash, _ = path[len(folder) + 1 :].partition("/")
            if slash:
                # Jump behind everything in the subfolder: the cost is that of what is listed, not of what is below.
                yield self._folder(volume, f"{folder}/{name}")
                low = below(f"{folder}/{name}")[1]
            else:
                yield FileStat(volume, path, "file", *row[1:])
                low = f"{path}\0"

    def find(self, volume: Volume, path: str) -> tuple[int, int]:
        """Return a file's row number and size.

        Raises:
            FileMissing: there is no such file.

        """
        check_volume(volume)
        return self._trees.find(volume, path)

    def usage(self, volume: Volume) -> Usage:
        """Return how full a volume is."""
        check_volume(volume)
        return self._trees.usage(volume)

    # --- changing ---

    def write(
        self,
        volume: Volume,
        path: str,
        data: Bytes,
        *,
        mode: int = MODE_DEFAULT,
        span: str | None = None,
    ) -> None:
        """Make a file, or replace it whole.

        Args:
            volume: "workspace", "memory" or "tmp".
            path: absolute path in it; folders need not be made first.
            data: the content.
            mode: permission bits.
            span: the unit of work that the change belongs to.

        Raises:
            PathRefused, VolumeUnknown, FileInTheWay, QuotaExceeded: nothing was changed.
            WorkbookError: it can't be written; nothing was.

        """
        self._put(volume, path, data, mode=mode, span=span, fresh=False)

    def create(
        self,
        volume: Volume,
        path: str,
        data: Bytes = b"",
        *,
        mode: int = MODE_DEFAULT,
        span: str | None = None,
    ) -> None:
        """Make a file that isn't there yet.

        Raises:
            FileInTheWay: it is there already; otherwise as for `write`.

        """
        self._put(volume, path, data, mode=mode, span=span, fresh=True)

    def _put(self, volume: Volume, path: str, data: Bytes, *, mode: int, span: str | None, fresh: bool) -> None:
        check_volume(volume)
        path = normal_path(path)
        check_mode(mode)
        content = as_bytes(data)
        with self._store.writing():
            if fresh and self._trees.row(volume, path) is not None:
                raise FileInTheWay(volume=volume, path=path, other=path)
            parts = [(len(content), hashlib.sha256(content).hexdigest())]
            event = self._trees.tell("file.written", volume, span, path=path, mode=mode, parts=parts)
            self._trees.make_room(volume, path, event)
            file = self._trees.insert(volume, path, mode, len(content), (event, event) if event else None)
            self._trees.store_chunks(file, 0, content)
            self._trees.charge(volume, len(content))

    def append(self, volume: Volume, path: str, data: Bytes, *, span: str | None = None) -> None:
        """Add bytes to the end of a file, which is made where there is none.

        Raises:
            PathRefused, VolumeUnknown, FileInTheWay, QuotaExceeded: nothing was changed.
            WorkbookError: it can't be written; nothing was.

        """
        check_volume(volume)
        path = normal_path(path)
        content = as_bytes(data)
        with self._store.writing():
            row = self._trees.row(volume, path)
            if row is None:
                self.write(volume, path, content, span=span)
                return
            if not content:
                return
            file, size = row
            self._trees.charge(volume, len(content))
            self._trees.extend(file, size, content)
            parts = [(len(content), hashlib.sha256(content).hexdigest())]
            event = self._trees.tell("file.appended", volume, span, path=path, parts=parts)
            self._store.execute(
                "UPDATE files SET size = ?, mtime = ?, grown = ? WHERE file = ?",
                (size + len(content), self._store.clock.now_us(), event or None, file),
            )

    def move(self, volume: Volume, path: str, target: str, *, replace: bool = False, span: str | None = None) -> None:
        """Give a file, or a folder with all below it, another path in the same volume.

        Args:
            volume: where it is and stays: nothing moves from `memory` to `workspace` by name.
            path: what to move.
            target: its new path.
            replace: a file (never a folder) at the target gives way.
            span: the unit of work that the change belongs to.

        Raises:
            FileMissing: there is nothing at `path`.
            FileInTheWay: there is something at `target`, or a file where it needs a folder.
            PathRefused: a folder can't go into itself.

        """
        check_volume(volume)
        path, target = normal_path(path), normal_path(target)
        if target == path or target.startswith(f"{path}/"):
            raise PathRefused(path=target, reason=f"it is {path} itself or inside it")
        with self._store.writing():
            source = self.stat(volume, path)
            if self._trees.row(volume, target) is not None and not (replace and source.kind == "file"):
                raise FileInTheWay(volume=volume, path=target, other=target)
            # A file that stands where the target needs a folder may be the very file that moves away, which the
            # check below then doesn't see: the source leaves its place first.
            event = self._trees.tell("file.moved", volume, span, path=path, target=target)
            self._trees.rename(volume, path, f"/\x01{path[1:]}")
            self._trees.make_room(volume, target, event)
            self._trees.rename(volume, f"/\x01{path[1:]}", target)
            self._check_lengths(volume, target)

    def delete(self, volume: Volume, path: str, *, recursive: bool = False, span: str | None = None) -> None:
        """Remove a file, or with `recursive` a folder and all below it.

        Raises:
            FileMissing: there is nothing there.
            FileInTheWay: it is a folder, and `recursive` was not asked for.

        """
        check_volume(volume)
        path = normal_folder(path)
        with self._store.writing():
            found = self.stat(volume, path or "/")
            if found.kind == "folder" and not recursive:
                raise FileInTheWay(volume=volume, path=path or "/", other="what is below it")
            event = self._trees.tell("file.deleted", volume, span, path=path or "/")
            self._trees.remove(volume, path, event)

    def set_quota(self, volume: Volume, quota: int) -> None:
        """Set how many bytes a volume may hold.

        Raises:
            QuotaExceeded: it holds more already.
            ContentRefused: that is no number of bytes.

        """
        check_volume(volume)
        if type(quota) is not int or not 0 <= quota < 2**63:
            raise ContentRefused(reason=f"the quota {quota!r:.80} is not a number of bytes")
        with self._store.writing():
            used = self._trees.usage(volume).used
            if quota < used:
                raise QuotaExceeded(volume=volume, used=used, quota=quota, asked=0)
            self._store.execute("UPDATE volumes SET quota = ? WHERE volume = ?", (quota, volume))
            self._journal.append("volume.limited", {"volume": volume, "quota": quota})

    # --- values too big for an event ---

    def keep_value(self, data: bytes) -> str:
        """Keep a value outside the events and return its name, the SHA-256 in hexadecimal; keeping twice is once."""
        name = hashlib.sha256(data).hexdigest()
        with self._store.writing():
            if self._trees.row("values", f"/{name}") is None:
                file = self._trees.insert("values", f"/{name}", 0o600, len(data))
                self._trees.store_chunks(file, 0, data)
                self._trees.charge("values", len(data))
        return name

    def value(self, name: str) -> bytes:
        """Return a value kept outside the events.

        Raises:
            FileMissing: there is none of that name.

        """
        return self._trees.read("values", f"/{name}")

    # --- the pieces ---

    def _check_lengths(self, volume: str, folder: str) -> None:
        for (path,) in self._store.rows(
            "SELECT path FROM files WHERE volume = ? AND path >= ? AND path < ?",
            (volume, *below(folder)),
        ):
            normal_path(path)
