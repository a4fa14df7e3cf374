"""Copies of files: made the cheapest way that the file system offers, verified, and put in their place.

**Making one.** First `FICLONE`: both files share the same blocks until one is written to, so a copy of any size takes
no room and next to no time. XFS, Btrfs and bcachefs can, within one file system. Then `copy_file_range`, which copies
inside the kernel. Then reading and writing. Each is tried only after the one before said that it can't; an error that
isn't about ability, such as a full disk, is an error.

**Placing one.** A copy is made under a draft's name and renamed, so whoever finds the target's name finds a whole file.
The rename never replaces anything: `renameat2` with `RENAME_NOREPLACE`, or where a file system doesn't know that, a
second name and the removal of the first.

**What is durable when.** `copy_file` syncs the bytes, `place` the name, `remove_file` the absence of one. Where many
are made at once, each can leave that to one `sync_folder` at the end.

Nothing here asks whose file it is. Whoever copies a workbook holds it at rest meanwhile: to open one that this process
also has open through SQLite would end SQLite's locks.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Final, Literal

import msgspec

from torpor.base import faults
from torpor.base.errors import CopyDamaged, FileTaken, StorageFailed
from torpor.base.limits import MIB
from torpor.workbook.placing import rename_new
from torpor.workbook.weather import from_system

How = Literal["reflink", "copy_file_range", "copy"]

_FICLONE: Final = 0x4004_9409
"""`_IOW(0x94, 9, int)` of linux/fs.h."""

_STEP: Final = 8 * MIB
"""Bytes copied between two looks of the watch."""

_BUFFER: Final = MIB
"""Bytes read at a time to be hashed: they stay in the processor's cache."""

_CANT: Final = frozenset(
    {errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.ENOTTY, errno.EPERM, errno.EBADF, errno.ETXTBSY}
)
"""How a file system says that a way of copying is not for it, or not for these two files."""


class Step(msgspec.Struct, frozen=True):
    """How far a copy is.

    Attributes:
        stage: what is done: "copy", "verify", "put" or "get".
        done: bytes so far.
        total: bytes in all.

    """

    stage: str
    done: int
    total: int


Watch = Callable[[Step], None]

Told = Callable[[int], None]
"""Is called with the number of bytes that have been done since it was called before."""


class Copied(msgspec.Struct, frozen=True):
    """What a copy took.

    Attributes:
        bytes: its size.
        how: by which way it was made.

    """

    bytes: int
    how: How


def copy_file(source: str, target: str, *, sync: bool = True, watch: Watch | None = None) -> Copied:
    """Copy a file to a name that is not taken. Readable by its owner only; gone again where this fails.

    Args:
        source: a regular file that nobody writes meanwhile.
        target: where to; nothing may be there.
        sync: whether its bytes are on the disk when this returns. Its name never is: see `place` and `sync_folder`.
        watch: is told how far it is.

    Raises:
        FileTaken: something is at `target`; it is left as it is.
        WorkbookMissing, WorkbookReadOnly, StorageFull, StorageFailed: as the system says.

    """
    faults.point("copy.begun")
    with reading(source) as (old, size), writing(target) as new:
        how = fill(old, new, size, telling("copy", size, watch))
        faults.point("copy.written")
        if sync:
            os.fsync(new)
        faults.point("copy.synced")
        copied = os.fstat(new).st_size
    return Copied(copied, how)


def verified_copy(source: str, target: str, *, digest: str | None = None, watch: Watch | None = None) -> str:
    """Copy as `copy_file` does, read both files, and return the SHA-256 that they share.

    Args:
        source: as for `copy_file`.
        target: as for `copy_file`.
        digest: what it should be, where that is known.
        watch: is told how far it is.

    Raises:
        CopyDamaged: the copy is not the source, or the source not what it should be; there is no copy then.
        FileTaken, WorkbookMissing, WorkbookReadOnly, StorageFull, StorageFailed: as for `copy_file`.

    """
    copy_file(source, target, watch=watch)
    try:
        with ThreadPoolExecutor(1) as beside:
            first = beside.submit(digest_of, source)
            copied = digest_of(target, watch=watch)
            found = first.result()
        _require(source, source, found, digest or found)
        _require(source, target, copied, found)
    except BaseException:
        with suppress(OSError):
            os.unlink(target)
        raise
    return found


def digest_of(path: str, *, watch: Watch | None = None) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal digits.

    Raises:
        WorkbookMissing, WorkbookReadOnly, StorageFailed: it can't be read.

    """
    with reading(path) as (descriptor, size), said_of(path):
        return digest_in(descriptor, telling("verify", size, watch))


def place(draft: str, target: str, *, sync: bool = True) -> None:
    """Give a finished draft its name, in the same folder, without ever replacing a file.

    Args:
        draft: a whole file whose bytes are on the disk.
        target: its name from now on.
        sync: whether the name is on the disk when this returns; otherwise `sync_folder` has to follow.

    Raises:
        FileTaken: something is at `target`; it and the draft are left as they are.
        WorkbookMissing, WorkbookReadOnly, StorageFull, StorageFailed: as the system says.

    """
    with said_of(target):
        try:
            rename_new(draft, target)
        except FileExistsError:
            raise FileTaken(path=target) from None
    faults.point("copy.placed")
    if sync:
        sync_folder(os.path.dirname(target))


def remove_file(path: str) -> bool:
    """Remove a file, so that it stays removed after a power cut; returns False where there is none.

    Raises:
        WorkbookReadOnly, StorageFailed: it can't be removed.

    """
    with said_of(path):
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
    sync_folder(os.path.dirname(path))
    return True


def sync_file(path: str) -> None:
    """Bring a file's bytes to the disk.

    Raises:
        WorkbookMissing, StorageFull, StorageFailed: as the system says.

    """
    _sync(path, os.O_RDONLY)


def sync_folder(path: str) -> None:
    """Bring the names in a folder to the disk: which there are, and which are gone.

    Raises:
        WorkbookMissing, StorageFull, StorageFailed: as the system says.

    """
    _sync(path or ".", os.O_RDONLY | os.O_DIRECTORY)


@contextmanager
def reading(path: str) -> Iterator[tuple[int, int]]:
    """Open a regular file for reading; gives its descriptor and its size in bytes.

    Raises:
        WorkbookMissing, WorkbookReadOnly, StorageFailed: there is none that can be read.

    """
    with said_of(path):
        # A pipe of that name would otherwise be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise StorageFailed(path=path, reason="it is no regular file")
        yield descriptor, found.st_size
    finally:
        os.close(descriptor)


@contextmanager
def writing(path: str) -> Iterator[int]:
    """Make a file, readable by its owner only, and give its descriptor; where the block fails, the file is gone again.

    Raises:
        FileTaken: something is there; it is left as it is.
        WorkbookMissing, WorkbookReadOnly, StorageFull, StorageFailed: as the system says of it, in the block too.

    """
    with said_of(path):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise FileTaken(path=path) from None
    try:
        with said_of(path):
            try:
                yield descriptor
            finally:
                os.close(descriptor)
    except BaseException:
        with suppress(OSError):  # the failure is what counts, and start-up removes what is left
            os.unlink(path)
        raise


@contextmanager
def said_of(path: str) -> Iterator[None]:
    """Say an error of the operating system in the block as one of ours, about `path`."""
    try:
        yield
    except OSError as error:
        raise from_system(path, error) from error


def fill(old: int, new: int, size: int, tell: Told) -> How:
    """Bring the `size` bytes of one open file into another, which is empty, by the cheapest way; nothing is synced."""
    if _reflink(old, new):
        tell(size)
        return "reflink"
    done = _copy_in_kernel(old, new, size, tell)
    if done == size:
        return "copy_file_range"
    buffer = memoryview(bytearray(_BUFFER))
    while count := os.readv(old, [buffer]):
        write_all(new, buffer[:count])
        tell(count)
    return "copy"


def digest_in(descriptor: int, tell: Told) -> str:
    """Return the SHA-256 of an open file's bytes, wherever its descriptor stands, which is left there."""
    found = hashlib.sha256()
    buffer = memoryview(bytearray(_BUFFER))
    done = 0
    while count := os.preadv(descriptor, [buffer], done):
        found.update(buffer[:count])
        done += count
        tell(count)
    return found.hexdigest()


def telling(stage: str, total: int, watch: Watch | None) -> Told:
    """Return a function that is called with numbers of bytes, and tells the watch how many they are by now."""
    done = 0

    def tell(more: int) -> None:
        nonlocal done
        done += more
        if watch is not None:
            watch(Step(stage, done, total))

    return tell


def write_all(descriptor: int, piece: bytes | memoryview) -> None:
    """Write every byte of `piece`, however many the system takes at a time."""
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _reflink(old: int, new: int) -> bool:
    try:
        fcntl.ioctl(new, _FICLONE, old)
    except OSError as error:
        if error.errno in _CANT:
            return False
        raise
    return True


def _copy_in_kernel(old: int, new: int, size: int, tell: Told) -> int:
    """Copy as much as the kernel will, from the start; both descriptors stand behind it. Returns the bytes."""
    done = 0
    while done < size:
        try:
            count = os.copy_file_range(old, new, min(_STEP, size - done))
        except OSError as error:
            if error.errno in _CANT:
                return done
            raise
        if count == 0:  # some file systems say that instead of saying no
            return done
        done += count
        tell(count)
    return done


def _require(source: str, path: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise CopyDamaged(name=source, place=path, reason=f"its SHA-256 is {found}, not {wanted}")


def _sync(path: str, flags: int) -> None:
    with said_of(path):
        descriptor = os.open(path, flags | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
