"""One connection to one ledger: threads take turns, a change is one transaction, a forked child keeps its hands off.

**fork.** SQLite forbids using or closing an inherited connection. In a forked child every connection is marked and
kept, untouched, until the child ends.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, LiteralString

import apsw

from torpor.base import faults
from torpor.base.errors import LedgerFailed
from torpor.ledger.weather import from_sqlite

Row = tuple[Any, ...]

_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


class Connection:
    """A connection that threads may share.

    Args:
        path: the ledger's file, for errors.
        db: SQLite's connection to it, as `opening.connect` makes it.

    """

    def __init__(self, path: str, db: apsw.Connection) -> None:
        self.path = path
        self._db = db
        self._lock = threading.RLock()
        self._gone = ""
        """Why it can't be used any more."""
        _connections.add(self)

    @contextmanager
    def transaction(self, *, synced: bool = True) -> Iterator[Callable[..., apsw.Cursor]]:
        """Make what is executed inside one transaction; yields what executes a statement.

        Args:
            synced: wait until the disk has it. Without, a power cut may take it back, whole.

        Raises:
            LedgerFailed, LedgerDamaged: as SQLite's own errors translate; all of it is undone.

        """
        with self._lock:
            self._check()
            try:
                if not synced:
                    self._db.execute("PRAGMA synchronous = NORMAL")
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db.execute
                faults.point("ledger.committing")
                self._db.execute("COMMIT")
                faults.point("ledger.committed")
            except (apsw.Error, UnicodeDecodeError) as error:
                raise self._translate(error) from error
            finally:
                self._tidy(synced=synced)

    def rows(self, sql: LiteralString, values: Row | dict[str, Any] = ()) -> list[Row]:
        """Return every row of a query.

        Raises:
            LedgerFailed, LedgerDamaged: as SQLite's own errors translate.

        """
        with self._lock:
            self._check()
            try:
                return list(self._db.execute(sql, values))
            except (apsw.Error, UnicodeDecodeError) as error:
                raise self._translate(error) from error

    @contextmanager
    def one_view(self) -> Iterator[Callable[..., apsw.Cursor]]:
        """Let several queries see one state of the ledger; yields what executes a query.

        Raises:
            LedgerFailed, LedgerDamaged: as SQLite's own errors translate.

        """
        with self._lock:
            self._check()
            try:
                self._db.execute("BEGIN")
                yield self._db.execute
            except (apsw.Error, UnicodeDecodeError) as error:
                raise self._translate(error) from error
            finally:
                self._tidy(synced=True)

    def close(self) -> None:
        """Close it; twice is once."""
        with self._lock:
            if self._gone:
                return
            self._gone = "it was closed"
            try:
                self._db.close()
            except apsw.Error as error:
                raise from_sqlite(self.path, error) from error

    def abandon(self) -> None:
        """Give the connection up without closing it: this process has inherited it by fork."""
        # Python closes what a module holds when it ends. One reference that nobody gives back outlives even that.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._db))
        self._gone = self._gone or "this process has inherited it by fork: open it anew"
        self._lock = threading.RLock()

    def _check(self) -> None:
        if self._gone:
            raise LedgerFailed(path=self.path, reason=self._gone)

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

    def _translate(self, error: apsw.Error | UnicodeDecodeError) -> Exception:
        if self._gone:
            return LedgerFailed(path=self.path, reason=self._gone)
        return from_sqlite(self.path, error, self._db.system_errno)


def _after_fork() -> None:
    for connection in list(_connections):
        connection.abandon()


os.register_at_fork(after_in_child=_after_fork)
