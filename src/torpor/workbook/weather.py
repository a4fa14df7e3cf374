"""What the system and SQLite complain of, said as errors of ours.

One table for each, so that policy can read classes and people can read the words of the layer below.
"""

from __future__ import annotations

import errno
import os

import apsw

from torpor.base.errors import (
    InternalError,
    NotAWorkbook,
    StorageFailed,
    StorageFull,
    TorporError,
    WorkbookDamaged,
    WorkbookMissing,
    WorkbookReadOnly,
)

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_RIGHT = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NO_FILE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP})


def from_system(path: str, error: OSError) -> TorporError:
    """Return our error for what the operating system said about `path`."""
    reason = error.strerror or str(error)
    if error.errno in _NO_ROOM:
        return StorageFull(path=path, reason=reason)
    if error.errno in _NO_RIGHT:
        return WorkbookReadOnly(path=path, reason=reason)
    if error.errno in _NO_FILE:
        return WorkbookMissing(path=path, reason=reason)
    return StorageFailed(path=path, reason=reason)


def from_sqlite(path: str, error: apsw.Error, system: int = 0) -> TorporError:
    """Return our error for what SQLite said about `path`, and the system's errno behind it where that is known."""
    reason = str(error)
    match error:
        case apsw.FullError():
            return StorageFull(path=path, reason=reason)
        case apsw.IOError() if system in _NO_ROOM:
            # SQLite has a word of its own for a full device, and none for a full quota or a file at its limit.
            return StorageFull(path=path, reason=os.strerror(system))
        case apsw.ReadOnlyError() | apsw.PermissionsError():
            return WorkbookReadOnly(path=path, reason=reason)
        case apsw.NotADBError():
            return NotAWorkbook(path=path, reason=reason)
        case apsw.CorruptError():
            return WorkbookDamaged(path=path, reason=reason)
        case apsw.IOError() | apsw.CantOpenError() | apsw.BusyError() | apsw.LockedError() | apsw.ProtocolError():
            return StorageFailed(path=path, reason=reason)
        case apsw.ConstraintError():
            # What a caller can cause is refused before it gets here, so a constraint that bites is a bug, or somebody
            # else's hand in the file.
            return InternalError(promise=f"no constraint of {path} is broken ({reason})")
        case _:
            return InternalError(promise=f"SQLite is used as it allows ({reason})")
