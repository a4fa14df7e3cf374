"""Feeds that are files: regular ones only, at most the limit, and never a workbook.

The kernel drops all POSIX locks that a process has on a file when the process closes *any*
descriptor of it. Opening a live workbook here, even to read, would so take away the locks under
SQLite and could lose committed data. So a file that is, or looks like, a workbook is refused before
it is opened.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from torpor.base.errors import SourceMissing, SourceTooLarge

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_WORKBOOK = (".workbook", ".workbook-wal", ".workbook-shm", ".workbook-journal")
_COMPANIONS = ("-owner", "-wal", "-shm", "-journal")


def read_file(source: str, path: Path, limit: int) -> bytes:
    """Return the content of a regular file.

    Blocks; call it in a thread.

    Args:
        source: the file, as the user named it.
        path: where it is.
        limit: bytes; not one more is kept.

    Raises:
        SourceMissing: it isn't there, can't be read, or is no regular file.
        SourceTooLarge: it has more than `limit` bytes.

    """
    try:
        real = path.resolve(strict=True)
        _refuse_odd(source, real, os.stat(real))
        # Not blocking, in case it became a pipe since; not as this process's terminal, in case it
        # became one.
        descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            found = os.fstat(descriptor)
            _refuse_odd(source, real, found)
            if found.st_size > limit:
                raise SourceTooLarge(source=source, limit=limit)
            # A file that grows meanwhile, or whose size is not told (/proc), is read to the limit
            # and one byte.
            data = bytearray()
            while len(data) <= limit and (piece := file.read(min(1 << 20, limit + 1 - len(data)))):
                data += piece
    except FileNotFoundError:
        raise SourceMissing(source=source, reason=_absent(source)) from None
    except (OSError, ValueError, RuntimeError) as error:
        # ValueError: a NUL in the path; RuntimeError: a loop of links (before Python 3.13).
        raise SourceMissing(source=source, reason=_said(error)) from None
    if len(data) > limit:
        raise SourceTooLarge(source=source, limit=limit)
    return bytes(data)


def _refuse_odd(source: str, real: Path, found: os.stat_result) -> None:
    for is_kind, name in _KINDS:
        if is_kind(found.st_mode):
            raise SourceMissing(source=source, reason=f"it is {name}, not a file")
    owner = str(real)
    for companion in _COMPANIONS:
        owner = owner.removesuffix(companion)
    live = any(os.path.lexists(f"{owner}{companion}") for companion in _COMPANIONS)
    if real.name.endswith(_WORKBOOK) or live:
        raise SourceMissing(source=source, reason="it is a workbook or another live database, not a feed")


def _absent(source: str) -> str:
    first = source.partition("/")[0]
    if not source.startswith(("/", ".", "file:")) and "." in first and "/" in source:
        return f"there is no such file (for a page of the web, write https://{source})"
    return "there is no such file"


def _said(error: OSError | ValueError | RuntimeError) -> str:
    if isinstance(error, PermissionError):
        return "you may not read it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)
