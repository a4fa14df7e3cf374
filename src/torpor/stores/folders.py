"""A folder as the place behind a store, by plain system calls.

Whatever is put gets its name last. It is written under a draft's name, `KEY#0` or the next that is free, synced, and
renamed; then the names are synced. So whoever finds a key finds all of the object, after a power cut too, and what was
acknowledged is there. A kill leaves a draft at most. Only the owner can read any of it. A copy that isn't compressed is
taken and given by the kernel (`take`, `give`, `copies.fill`), which can share the blocks.

**Adding** (`add`) renames by a call that never replaces: of two that add the same key, one is told no. Where the sync
of the names fails, the object has its name already, and somebody may have seen it, so it stays: it is in doubt until
`confirm` has synced again. That may be asked of a folder, but never of a file: the pages of a file that couldn't be
written are dropped, and the next sync knows nothing of them, whereas a file system whose own journal can't be written
stops, and every later sync fails too.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Final

from torpor.base import faults
from torpor.base.errors import StorageFull, StoreUnreachable
from torpor.stores.copies import Told, fill, write_all
from torpor.stores.shelves import Found, Shelf
from torpor.workbook.placing import rename_new

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_DRAFTS: Final = 8
"""Drafts of one object that are looked for when it is removed: of as many that were killed while adding it at once."""


class FolderShelf(Shelf):
    """A folder on this machine.

    Args:
        url: how people know it.
        folder: its path.
        own: whether it is a part of the home: then it is made when it is needed, and where it is missing, nothing is in
            it. Any other has to be there: where it is missing, its disk may be.

    """

    def __init__(self, url: str, folder: str, *, own: bool) -> None:
        self.url = url
        self.kind = "file"
        self.folder = folder
        self._own = own

    def write(self, key: str, pieces: Iterator[bytes | memoryview], size: int) -> None:  # noqa: ARG002  (others need it)
        """Put an object in place of any that is there; see `Shelf.write`."""
        self._make_room(key)
        path = self._path(key)
        with self._system(key):
            _name(_written(path, pieces), path, os.replace)
            self._sync_names(key)

    def take(self, key: str, descriptor: int, size: int) -> None:
        """Put an open file of `size` bytes as an object, the cheapest way that the file system offers; see `write`."""
        self._make_room(key)
        path = self._path(key)
        draft = f"{path}#0"
        with self._system(key), suppress(FileNotFoundError):
            os.unlink(draft)  # an earlier try's
        with self._system(key):
            new = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                fill(descriptor, new, size, _nobody)
                os.fsync(new)
                os.replace(draft, path)
            except BaseException:
                with suppress(OSError):  # the failure is what counts
                    os.unlink(draft)
                raise
            finally:
                os.close(new)
            self._sync_names(key)

    def add(self, key: str, content: bytes | memoryview) -> bool:
        """Put an object where there is none, whole and durable; see `Shelf.add`."""
        self._make_room(key)
        path = self._path(key)
        with self._system(key):
            if os.path.lexists(path):  # spares the writing: it is the rename that decides
                return False
            draft = _written(path, [content])
            faults.point("object.drafted")
            try:
                _name(draft, path, rename_new)
            except FileExistsError:
                return False
            faults.point("object.placed")
            self._sync_names(key)
            faults.point("object.added")
        return True

    def confirm(self, key: str) -> None:
        """Sync the names that lead to an object; see `Shelf.confirm`."""
        with self._system(key):
            self._sync_names(key)

    def give(self, key: str, descriptor: int, size: int, tell: Told) -> None:
        """Bring an object of `size` bytes into an empty open file, the cheapest way that the file system offers.

        Raises:
            OSError: it can't be written.
            StoreUnreachable: it can't be read.

        """
        with self._system(key):
            old = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
        try:
            fill(old, descriptor, size, tell)
        finally:
            os.close(old)

    def size(self, key: str) -> int | None:
        """Return the bytes of an object; None where there is none; see `Shelf.size`."""
        with self._system(key):
            found = _known(self._path(key)) if self._there(key) else None
        return None if found is None else found.st_size

    def piece(self, key: str, start: int, end: int) -> bytes | memoryview:
        """Return the bytes of an object from `start` up to `end`; see `Shelf.piece`."""
        with self._system(key):
            self._there(key)
            descriptor = _opened(self._path(key))
        if descriptor is None:
            raise FileNotFoundError(self._path(key))
        try:
            with self._system(key):
                return _part(descriptor, start, end)
        finally:
            os.close(descriptor)

    def below(self, folder: str, after: str) -> Iterator[Found]:
        """Yield objects in the order of their keys; see `Shelf.below`."""
        with self._system(folder):
            if not self._there(folder):
                return
        yield from self._walk(f"{folder}/" if folder else "", after)

    def _walk(self, above: str, after: str) -> Iterator[Found]:
        """Yield what is below a folder, given with its slash. Folders are sorted with theirs: "a-b" is before "a/b"."""
        with self._system(above):
            try:
                with os.scandir(self._path(above)) as entries:
                    names = sorted(f"{entry.name}/" if _is_folder(entry) else entry.name for entry in entries)
            except (FileNotFoundError, NotADirectoryError):
                return
        for key in (above + name for name in names):
            if key.endswith("/"):
                if key > after or after.startswith(key):
                    yield from self._walk(key, after)
            elif key > after:
                with self._system(key):
                    found = _known(self._path(key))
                if found is not None:
                    yield Found(key, found.st_size, found.st_mtime_ns // 1_000)

    def remove(self, key: str) -> bool:
        """Remove an object that was added, and drafts of it, for good; see `Shelf.remove`.

        `delete` looks for drafts at every name in the folder, which takes too long where there are many objects.
        """
        path = self._path(key)
        removed = 0
        with self._system(key):
            if not self._there(key):
                return False
            for name in (path, *(f"{path}#{number}" for number in range(_DRAFTS))):
                with suppress(FileNotFoundError, NotADirectoryError):
                    os.unlink(name)
                    removed += 1
            if removed:
                _sync(os.path.dirname(path))
        return removed > 0

    def delete(self, key: str) -> bool:
        """Remove an object and what killed puts left of it, for good; see `Shelf.delete`."""
        above, name = os.path.split(self._path(key))
        ours = re.compile(re.escape(name) + r"(?:#\d+)?")
        with self._system(key):
            if not self._there(key) or not os.path.isdir(above):
                return False
            found = [other for other in os.listdir(above) if ours.fullmatch(other)]
            for other in found:
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(above, other))
            _sync(above)
            with suppress(OSError):  # other copies of the agent may be in it
                os.rmdir(above)
        return bool(found)

    def _make_room(self, key: str) -> None:
        """Make the folders that an object needs."""
        with self._system(key):
            if self._own:
                os.makedirs(self.folder, mode=0o700, exist_ok=True)
            if self._there(key):
                for above in reversed(_above(key)):
                    with suppress(FileExistsError):
                        os.mkdir(self._path(above), mode=0o700)

    def _sync_names(self, key: str) -> None:
        for above in _above(key):
            _sync(self._path(above))
        _sync(self.folder)
        if self._own:
            _sync(os.path.dirname(self.folder))

    def _path(self, key: str) -> str:
        return os.path.join(self.folder, key)

    def _there(self, key: str) -> bool:
        """Report whether the folder is there; where it has to be and isn't, refuse."""
        there = os.path.isdir(self.folder)
        if not there and not self._own:
            reason = f"there is no folder {self.folder}; is its disk mounted?"
            raise StoreUnreachable(place=f"{self.url}#{key}", reason=reason)
        return there

    @contextmanager
    def _system(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            if error.errno in _NO_ROOM:
                raise StorageFull(path=self._path(key), reason=reason) from error
            raise StoreUnreachable(place=f"{self.url}#{key}", reason=reason) from error


def _nobody(_: int) -> None:
    """Watch nothing: whoever hashes the file at the same time tells how far it is."""


def _written(path: str, pieces: Iterable[bytes | memoryview]) -> str:
    """Write a draft of an object beside its name, readable by its owner only, and sync it; returns its name."""
    for number in count():
        draft = f"{path}#{number}"
        try:
            new = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            continue  # somebody's who adds it just now, or was killed
        try:
            for piece in pieces:
                write_all(new, piece)
            os.fsync(new)
        except BaseException:
            with suppress(OSError):  # the failure is what counts
                os.unlink(draft)
            raise
        finally:
            os.close(new)
        break
    return draft


def _name(draft: str, path: str, rename: Callable[[str, str], None]) -> None:
    """Give a draft its name; where that fails, it is gone."""
    try:
        rename(draft, path)
    except BaseException:
        with suppress(OSError):  # the failure is what counts
            os.unlink(draft)
        raise


def _opened(path: str) -> int | None:
    """Return a descriptor of an object's file, to be read; None where there is none."""
    try:
        # A pipe of that name would otherwise be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None


def _known(path: str) -> os.stat_result | None:
    """Return what the system knows of an object's file; None where there is none."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _above(key: str) -> list[str]:
    """Return the folders that a key leads through, the innermost first."""
    found: list[str] = []
    above = os.path.dirname(key)
    while above:
        found.append(above)
        above = os.path.dirname(above)
    return found


def _part(descriptor: int, start: int, end: int) -> bytes:
    """Return the bytes of an open file from `start` up to `end`, or to its end."""
    pieces: list[bytes] = []
    while start < end and (piece := os.pread(descriptor, end - start, start)):
        pieces.append(piece)
        start += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
