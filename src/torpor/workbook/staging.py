"""Files on their way in: what a stream has written so far, before it appears under its name.

The content lies in the tree `staging` and moves, without being copied, in the transaction that closes the stream.
"""

from __future__ import annotations

from torpor.base.errors import QuotaExceeded, TransactionLost
from torpor.workbook.paths import Volume
from torpor.workbook.store import Store
from torpor.workbook.trees import MODE_DEFAULT, Trees, check_mode


class Staging:
    """The staged files of one workbook."""

    def __init__(self, store: Store, trees: Trees) -> None:
        self._store = store
        self._trees = trees
        self._count = 0

    def begin(self, mode: int) -> str:
        """Begin a file and return the name by which it is known until it is placed; no two have the same.

        Raises:
            ContentRefused: the mode is not permission bits.

        """
        check_mode(mode)
        self._count += 1
        name = str(self._count)
        with self._store.writing():
            self._trees.insert("staging", f"/{name}", mode, 0)
        return name

    def add(self, name: str, size: int, data: bytes, volume: Volume, path: str) -> None:
        """Add bytes to a staged file of `size` bytes that is meant for `path` in `volume`."""
        with self._store.writing():
            file = self._staged(name, size)
            usage = self._trees.usage(volume)
            old = self._trees.row(volume, path)
            used = usage.used - (old[1] if old else 0)
            if used + size + len(data) > usage.quota:
                raise QuotaExceeded(volume=volume, used=used, quota=usage.quota, asked=size + len(data))
            self._trees.charge("staging", len(data))
            self._trees.store_chunks(file, size, data)
            self._store.execute("UPDATE files SET size = ? WHERE file = ?", (size + len(data), file))

    def place(self, name: str, part: tuple[int, str], volume: Volume, path: str, span: str | None) -> None:
        """Put a staged file, of that size and digest, where it belongs, in place of what is there."""
        with self._store.writing():
            file = self._staged(name, part[0])
            row = self._store.row("SELECT mode FROM files WHERE file = ?", (file,))
            mode = row[0] if row else MODE_DEFAULT
            event = self._trees.tell("file.written", volume, span, path=path, mode=mode, parts=[part])
            self._trees.make_room(volume, path, event)
            self._trees.charge("staging", -part[0])
            self._trees.charge(volume, part[0])
            self._store.execute(
                "UPDATE files SET volume = ?1, path = ?2, mtime = ?3, born = ?4, grown = ?4 WHERE file = ?5",
                (volume, path, self._store.clock.now_us(), event or None, file),
            )

    def _staged(self, name: str, size: int) -> int:
        # Numbers of rows are given again after a rollback, names of staged files never: what was written in a
        # transaction that is undone is missed here, and never mixed with another file.
        row = self._trees.row("staging", f"/{name}")
        if row is None or row[1] != size:
            raise TransactionLost(path=self._store.path)
        return row[0]

    def drop(self, name: str | None = None) -> None:
        """Remove one staged file, or all that a dead process left."""
        found = self._store.rows(
            "SELECT file, size FROM files WHERE volume = 'staging' AND (path = ? OR ?)",
            (f"/{name}", name is None),
        )
        if not found:
            return
        with self._store.writing():
            for number, size in found:
                self._trees.charge("staging", -min(size, self._trees.usage("staging").used))
                self._store.execute("DELETE FROM files WHERE file = ?", (number,))
