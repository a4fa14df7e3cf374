"""Putting a finished file in its place: in one step, durably, and never over another."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from torpor.base.errors import FileTaken
from torpor.workbook.weather import from_system

_AT_FDCWD: Final = -100
_RENAME_NOREPLACE: Final = 1
_RENAME_EXCHANGE: Final = 2

_CANT: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})
"""How a file system, or a sandbox, says that it doesn't know such a step."""


def refuse_remains(path: str) -> None:
    """Refuse a place beside which the log of a workbook lies that is not there any more.

    SQLite would take the log for that of whatever comes to stand there, and move its pages into it.

    Raises:
        FileTaken: one does.

    """
    for tail in ("-wal", "-journal"):
        with suppress(FileNotFoundError):
            if os.stat(f"{path}{tail}").st_size:
                raise FileTaken(path=f"{path}{tail}")


def clear_draft(draft: str) -> None:
    """Remove a file that is not a workbook yet, with all that may be beside it.

    Raises:
        WorkbookReadOnly, StorageFailed: it can't be removed.

    """
    try:
        for tail in ("", "-wal", "-shm", "-journal"):
            with suppress(FileNotFoundError):
                os.unlink(f"{draft}{tail}")
    except OSError as error:
        raise from_system(draft, error) from error


def place(draft: str, target: str) -> None:
    """Give a finished draft its name, durably, unless something is there.

    Raises:
        FileTaken: something is.
        WorkbookError: the folder can't be written.

    """
    try:
        rename_new(draft, target)
        sync_folder(target)
    except FileExistsError as error:
        raise FileTaken(path=target) from error
    except OSError as error:
        raise from_system(target, error) from error


def rename_new(draft: str, target: str) -> None:
    """Rename a file in one step, without ever replacing another.

    Raises:
        FileExistsError: something is at the target.
        OSError: as the system says.

    """
    rename = _renameat2()
    if rename is not None:
        if rename(_AT_FDCWD, os.fsencode(draft), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) == 0:
            return
        failed = ctypes.get_errno()
        if failed not in _CANT:
            raise OSError(failed, os.strerror(failed), target)
    rename_by_link(draft, target)


def exchange(one: str, other: str) -> bool:
    """Have two files change names in one step; nothing is synced. Returns False where the file system can't.

    Raises:
        OSError: as the system says, such as that one of them isn't there.

    """
    rename = _renameat2()
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    failed = ctypes.get_errno()
    if failed in _CANT:
        return False
    raise OSError(failed, os.strerror(failed), other)


def rename_by_link(draft: str, target: str) -> None:
    """Rename where the file system knows no other way; killed in between, the file has both names.

    Raises:
        FileExistsError: something is at the target.
        OSError: as the system says.

    """
    os.link(draft, target, follow_symlinks=False)
    os.unlink(draft)


def sync_folder(path: str) -> None:
    """Make what happened to the names in a file's folder survive a power cut.

    Raises:
        OSError: as the system says.

    """
    folder = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@cache
def _renameat2() -> Callable[..., int] | None:
    found = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if found is None:
        return None
    found.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    found.restype = ctypes.c_int
    call: Callable[..., int] = found
    return call
