"""The connections to one file of tokens: one to write, one to read. Threads take turns, a forked child stays away.

The rules are those of a ledger (`ledger/connection.py`). The second connection is for decisions, of which there are
thousands a second: in a write-ahead log who reads never waits for who writes, and so not for the disk either.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, LiteralString

import apsw

from torpor.base.errors import AccessDamaged, AccessFailed, InternalError, TorporError
from torpor.base.faults import point

Execute = Callable[..., apsw.Cursor]
Row = tuple[Any, ...]

PATIENCE_S: Final = 5.0
"""Seconds for which a call waits for other processes to finish theirs."""

_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


class Connection:
    """What threads share.

    Args:
        path: the file, for errors.
        db: SQLite's connection to it for writing, as `opening.connect` makes it.
        reader: another one, for reading.

    """

    def __init__(self, path: str, db: apsw.Connection, reader: apsw.Connection) -> None:
        self.path = path
        self._db = db
        self._reader = reader
        self._lock = threading.RLock()
        self._reading = threading.Lock()
        self._gone = ""
        """Why it can't be used any more."""
        _connections.add(self)

    @contextmanager
    def transaction(self, *, synced: bool = True) -> Iterator[Execute]:
        """Make what is executed inside one transaction; yields what executes a statement.

        Args:
            synced: wait until the disk has it. Without, a power cut may take it back, whole; a kill can't.

        Raises:
            AccessFailed, AccessDamaged: as SQLite's own errors translate; all of it is undone.

        """
        with self._lock:
            self._check()
            try:
                if not synced:
                    self._db.execute("PRAGMA synchronous = NORMAL")
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db.execute
                point("access.committing")
                self._db.execute("COMMIT")
                point("access.committed")
            except (apsw.Error, UnicodeError) as error:
                raise self._translate(error) from error
            finally:
                self._tidy(synced=synced)

    def rows(self, sql: LiteralString, values: Row | dict[str, Any] = ()) -> list[Row]:
        """Return every row of a query, of what is committed.

        Raises:
            AccessFailed, AccessDamaged: as SQLite's own errors translate.

        """
        with self._reading:
            self._check()
            try:
                return list(self._reader.execute(sql, values))
            except (apsw.Error, UnicodeError) as error:
                raise from_sqlite(self.path, error, self._reader.system_errno) from error

    def close(self) -> None:
        """Close it; twice is once."""
        with self._lock, self._reading:
            if self._gone:
                return
            self._gone = "it was closed"
            try:
                self._reader.close()
                self._db.close()
            except apsw.Error as error:
                raise from_sqlite(self.path, error) from error

    def abandon(self) -> None:
        """Give the connections up without closing it: this process has inherited it by fork."""
        # Python closes what a module holds when it ends. One reference that nobody gives back outlives even that.
        for db in (self._db, self._reader):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(db))
        self._gone = self._gone or "this process has inherited it by fork: open it anew"
        self._lock = threading.RLock()
        self._reading = threading.Lock()

    def _check(self) -> None:
        if self._gone:
            raise AccessFailed(path=self.path, reason=self._gone)

    def _tidy(self, *, synced: bool) -> None:
        """Undo a transaction that is still open, and sync again from now on."""
        if self._gone:
            return  # in a forked child: the transaction is the parent's
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if not synced:
                self._db.execute("PRAGMA synchronous = FULL")
        except apsw.Error as error:
            raise self._translate(error) from error

    def _translate(self, error: apsw.Error | UnicodeError) -> TorporError:
        if self._gone:
            return AccessFailed(path=self.path, reason=self._gone)
        return from_sqlite(self.path, error, self._db.system_errno)


def from_sqlite(path: str, error: apsw.Error | UnicodeError, system: int = 0) -> TorporError:
    """Return our error for what SQLite said about the file at `path`.

    Args:
        path: the file.
        error: what SQLite said; or that a text in the file is none.
        system: the system's errno behind it, where that is known.

    """
    reason = str(error)
    match error:
        case UnicodeError():
            return AccessDamaged(path=path, reason=f"a text in it is not UTF-8 ({reason})")
        case apsw.NotADBError() | apsw.CorruptError():
            return AccessDamaged(path=path, reason=reason)
        case apsw.BusyError() | apsw.LockedError():
            return AccessFailed(path=path, reason=f"another process has kept it busy for {PATIENCE_S:g} seconds")
        case apsw.IOError() | apsw.CantOpenError() if system:
            return AccessFailed(path=path, reason=f"{reason}: {os.strerror(system)}")
        case (
            apsw.IOError()
            | apsw.CantOpenError()
            | apsw.FullError()
            | apsw.ReadOnlyError()
            | apsw.PermissionsError()
            | apsw.ProtocolError()
            | apsw.NoMemError()
        ):
            return AccessFailed(path=path, reason=reason)
        case apsw.ConstraintError():
            # What a caller can cause is refused by name before it gets here.
            return InternalError(promise=f"no constraint of {path} is broken ({reason})")
        case _:
            return InternalError(promise=f"SQLite is used as it allows ({reason})")


def _after_fork() -> None:
    for connection in list(_connections):
        connection.abandon()


os.register_at_fork(after_in_child=_after_fork)
