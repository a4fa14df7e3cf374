"""The calls of the operating system that the log makes: all of them, and nothing else.

A seam, and a narrow one: tests put a disk in its place that tapes every write and sync, or one that breaks, with real
files underneath either. Every method raises the system's own OSError.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from torpor.base.limits import MIB

_ZEROS: Final = bytes(MIB)
_VECTOR_MAX: Final = 1000
"""Buffers in one write; the system takes 1,024."""


class Disk:
    """The system's files."""

    def make_folder(self, path: str) -> None:
        """Make a folder, unless it is there, and make its name certain."""
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            return
        self.sync_folder(os.path.dirname(path))

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted."""
        return sorted(os.listdir(folder))

    def make(self, path: str, size: int) -> int:
        """Make a file of `size` zeros, which are on the disk when this returns, and return its descriptor.

        Bytes that were written once are overwritten at half the price of new ones: no sync then has to note in the
        file system's journal where they are.
        """
        descriptor = self._open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            for offset in range(0, size, len(_ZEROS)):
                self.write(descriptor, [part := _ZEROS[: size - offset]], offset, len(part))
            self.sync_all(descriptor)
        except OSError:
            self.close(descriptor)
            with suppress(OSError):
                self.remove(path)  # a half of it would only take room that may be what is lacking
            raise
        return descriptor

    def open(self, path: str) -> int:
        """Open a file that is there, to read and to write."""
        return self._open(path, os.O_RDWR)

    def _open(self, path: str, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC, 0o600)

    def close(self, descriptor: int) -> None:
        """Close a file."""
        os.close(descriptor)

    def size(self, path: str) -> int:
        """Return the bytes of a file."""
        return os.stat(path).st_size

    def read(self, descriptor: int, size: int, offset: int) -> bytes:
        """Return `size` bytes from `offset` on; fewer only where the file ends."""
        parts: list[bytes] = []
        while size > 0 and (part := os.pread(descriptor, size, offset)):
            parts.append(part)
            size -= len(part)
            offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, descriptor: int, parts: Sequence[bytes], offset: int, size: int) -> None:
        """Write all parts, which have `size` bytes, one behind the other from `offset` on."""
        done = self._write(descriptor, parts, offset) if len(parts) <= _VECTOR_MAX else 0
        if done == size:
            return
        whole = memoryview(b"".join(parts))
        while done < size:
            now = self._write(descriptor, [whole[done:]], offset + done)
            if now == 0:
                raise OSError(errno.EIO, "nothing was written")
            done += now

    def _write(self, descriptor: int, parts: Sequence[bytes | memoryview], offset: int) -> int:
        """Write what the system takes of the parts, and return how many bytes that was."""
        return os.pwritev(descriptor, parts, offset)

    def sync(self, descriptor: int) -> None:
        """Make a file's content certain; its length must have been certain before."""
        os.fdatasync(descriptor)

    def sync_all(self, descriptor: int) -> None:
        """Make a file's content and length certain."""
        os.fsync(descriptor)

    def rename(self, path: str, target: str) -> None:
        """Give a file another name, in the place of whatever had it."""
        os.rename(path, target)

    def remove(self, path: str) -> None:
        """Remove a name, if it is there."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            return

    def sync_folder(self, path: str) -> None:
        """Make the names in a folder certain."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


SYSTEM: Final = Disk()
"""The one that is used in service."""
