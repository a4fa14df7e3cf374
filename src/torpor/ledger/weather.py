"""What the system and SQLite complain of while the ledger is used, said as errors of ours."""

from __future__ import annotations

import os
from typing import Final

import apsw

from torpor.base.errors import InternalError, LedgerDamaged, LedgerFailed, TorporError

PATIENCE_S: Final = 5.0
"""Seconds for which a call waits for other processes to finish theirs."""


def from_system(path: str, error: OSError) -> LedgerFailed:
    """Return our error for what the operating system said about the ledger at `path`."""
    return LedgerFailed(path=path, reason=error.strerror or str(error))


def from_sqlite(path: str, error: apsw.Error | UnicodeError, system: int = 0) -> TorporError:
    """Return our error for what SQLite said about the ledger at `path`.

    Args:
        path: the ledger.
        error: what SQLite said; or that a text in the file is none.
        system: the system's errno behind it, where that is known.

    """
    reason = str(error)
    match error:
        case UnicodeDecodeError():
            return LedgerDamaged(path=path, reason=f"a text in it is not UTF-8 ({reason})")
        case apsw.NotADBError() | apsw.CorruptError():
            return LedgerDamaged(path=path, reason=reason)
        case apsw.BusyError() | apsw.LockedError():
            return LedgerFailed(path=path, reason=f"another process has kept it busy for {PATIENCE_S:g} seconds")
        case apsw.CantOpenError() | apsw.ReadOnlyError() if not os.access(os.path.dirname(path), os.W_OK):
            return LedgerFailed(path=path, reason=f"its folder can't be written ({reason})")
        case apsw.IOError() | apsw.CantOpenError() if system:
            return LedgerFailed(path=path, reason=f"{reason}: {os.strerror(system)}")
        case (
            apsw.IOError()
            | apsw.CantOpenError()
            | apsw.FullError()
            | apsw.ReadOnlyError()
            | apsw.PermissionsError()
            | apsw.ProtocolError()
            | apsw.NoMemError()
        ):
            return LedgerFailed(path=path, reason=reason)
        case apsw.ConstraintError():
            # What a caller can cause is refused by name before it gets here.
            return InternalError(promise=f"no constraint of {path} is broken ({reason})")
        case _:
            return InternalError(promise=f"SQLite is used as it allows ({reason})")
