"""One connection to one workbook: how it is opened, and how anything gets into it.

**Opening.** A workbook is created under another name, made complete and durable, and renamed into place, so a file
with the workbook's name is always a whole workbook: an empty or truncated one is damage, never a new agent. A
connection is one of two kinds: the owner's, which holds the claim of `owner.py`, or a reader's, which SQLite itself
keeps from writing.

**Writing.** Every change goes through `writing()`. The outermost block is one SQLite transaction, which also counts
itself; a block inside another is a savepoint, so an operation that fails half-way leaves nothing behind
even where its caller catches the error and goes on. When the outermost block ends without an error, the commit is on
the disk (durability class `file`: write-ahead log, `synchronous=FULL`).

**Pending events.** Inside a transaction, an event that is appended waits in `Store.pending`. Whatever is done next,
a savepoint's borders and the commit included, writes the pending events first, in one go, so no statement can
tell the difference. Nothing pending is older than the innermost savepoint: undoing that one drops all of it. Where
the writing fails, the whole transaction is rolled back, because part of the events may stand.

**Records.** With a log (`commits.py`), a store has a scribe (`scribe.py`), which hands the record of each commit to it.
Whoever commits then waits for the log after the lock was released, so others can commit meanwhile.

**Who may write in a transaction.** A transaction belongs to the thread and context (PEP 567) that began it. Another
thread waits. Another task of the same thread cannot wait without a deadlock, so it is refused: that happens only
where somebody awaits inside a transaction. The same holds for reading, which would see what may never be committed.

**fork.** SQLite forbids using or closing an inherited connection. In a forked child every store is marked and its
connection is kept, untouched, until the child ends.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from contextlib import ExitStack
from contextvars import ContextVar
from types import TracebackType
from typing import Final, LiteralString, Self

import apsw

from torpor.base import faults
from torpor.base.clock import Clock
from torpor.base.errors import (
    InternalError,
    StorageFailed,
    TransactionEntangled,
    TransactionLost,
    WorkbookClosed,
    WorkbookDamaged,
    WorkbookReadOnly,
)
from torpor.base.ids import IdSource
from torpor.workbook.commits import Head, Level, Recorder, Row, Ticket, level_of
from torpor.workbook.presence import leave
from torpor.workbook.schema import strange_schema
from torpor.workbook.settling import settle
from torpor.workbook.weather import from_sqlite

APPLICATION_ID: Final = 0x54525052
"""«TRPR» in the file's header, where `file` and SQLite's tools find it."""

FORMAT: Final = 2
"""The newest format that this code reads and writes; `user_version` in the header."""

GENESIS: Final = bytes(32)
"""What stands for the hash before the first event."""

PAGE_BYTES: Final = 4096

PENDING_MAX: Final = 64
"""Events that wait at most; more would gain nothing."""

_inside: ContextVar[tuple[Transaction, ...]] = ContextVar("torpor_transactions", default=())
"""The transactions that are open around the caller, at most one for each workbook."""

_stores: weakref.WeakSet[Store] = weakref.WeakSet()


INSERT_EVENT: Final = (
    "INSERT INTO events (seq, id, time, kind, version, body, span, parent, key, hash, txn)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class Transaction:
    """One outermost transaction and what is known inside it.

    A transaction has a number, one more than the one before. Its events carry it; only a transaction without events
    writes it into `meta`, because a second page in each commit would cost a tenth of the commit's time.
    """

    __slots__ = ("changes", "head", "level", "number", "store", "thread", "ticket")

    def __init__(self, store: Store, level: Level | None = None) -> None:
        self.store = store
        self.level = level
        """What was asked for: how safe the commit is to be when the block ends."""
        self.ticket: Ticket | None = None

    def __enter__(self) -> Self:
        store = self.store
        store.lock.acquire()
        with ExitStack() as undo:
            undo.callback(store.lock.release)
            store.refuse_second()
            store.execute("BEGIN IMMEDIATE")
            undo.callback(store.roll_back)
            self.head = store.head or store.read_head()
            self.number = self.head[2] + 1
            self.changes = store.db.total_changes()
            if store.scribe is not None:
                store.scribe.capture.begin()
            faults.point("transaction.begun")
            undo.pop_all()
        self.thread = threading.get_ident()
        store.transaction = self
        _inside.set((*_inside.get(), self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(committing=kind is None)
        if self.ticket is not None and self.store.scribe is not None:
            self.store.scribe.wait(self.ticket, self.level)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(committing=kind is None)
        if self.ticket is not None and self.store.scribe is not None:
            await self.store.scribe.arrive(self.ticket, self.level)

    def _end(self, *, committing: bool) -> None:
        store = self.store
        if store.transaction is not self:
            # In a forked child: the transaction is the parent's, which alone may end it.
            if committing:
                raise WorkbookClosed(path=store.path)
            return
        store.head = None
        try:
            if committing:
                self._commit()
                store.head = self.head
        finally:
            store.transaction = None
            _inside.set(tuple(other for other in _inside.get() if other is not self))
            try:
                store.roll_back()
                if store.scribe is not None and store.head is None:
                    store.scribe.undone()
            finally:
                store.lock.release()

    def raise_level(self, level: Level | None) -> None:
        """Have the commit be at least as safe as a part of the transaction asks."""
        if level is not None and self.store.scribe is not None:
            self.level = max(level, self.store.scribe.level if self.level is None else self.level)

    def _commit(self) -> None:
        store = self.store
        if not store.db.in_transaction:
            raise TransactionLost(path=store.path)
        if store.scribe is not None:
            self.ticket = store.scribe.commit(self)
            return
        if self.head[2] < self.number and store.db.total_changes() != self.changes:
            store.execute("UPDATE meta SET txn = ?", (self.number,))
            self.head = (*self.head[:2], self.number)
        faults.point("transaction.committing")
        store.execute("COMMIT")
        faults.point("transaction.committed")


class Savepoint:
    """A block inside a transaction, undone alone if it fails."""

    __slots__ = ("head", "mark", "store", "transaction")

    def __init__(self, store: Store, transaction: Transaction) -> None:
        self.store = store
        self.transaction = transaction
        self.head = transaction.head

    def __enter__(self) -> Transaction:
        self.head = self.transaction.head
        self.store.execute("SAVEPOINT part")
        if self.store.scribe is not None:
            self.mark = self.store.scribe.capture.mark()
        return self.transaction

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        forked = self.store.transaction is not self.transaction
        if kind is not None:
            if not forked and self.store.db.in_transaction:
                self.store.pending.clear()
                self.store.execute("ROLLBACK TO part")
                self.store.execute("RELEASE part")
                self.transaction.head = self.head
                if self.store.scribe is not None:
                    self.store.scribe.capture.back(self.mark)
            return
        if forked:
            raise WorkbookClosed(path=self.store.path)
        if not self.store.db.in_transaction:
            raise TransactionLost(path=self.store.path)
        self.store.execute("RELEASE part")

    async def __aenter__(self) -> Transaction:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


class Store:
    """One open connection, which `presence.arrive` has counted. Made by `opening.open_store`.

    Attributes:
        path: the workbook, absolute, links resolved.
        clock: where times come from.
        ids: where event ids come from.
        transaction: the outermost transaction that is open, if any.

    """

    def __init__(self, path: str, db: apsw.Connection, *, readonly: bool, clock: Clock, ids: IdSource) -> None:
        self.path = path
        self.db = db
        self.readonly = readonly
        self.clock = clock
        self.ids = ids
        self.lock = threading.RLock()
        self.transaction: Transaction | None = None
        self.head: Head | None = None
        """Where the journal stands, where the last transaction left that known; the owner alone moves it."""
        self.pending: list[Row] = []
        """Events of the open transaction that are not written yet."""
        self.closed = False
        self.scribe: Recorder | None = None
        """Who tells a log of each commit, where there is a log."""
        _stores.add(self)

    def settle(self) -> None:
        """Have all that is committed survive a power loss, whatever the commits themselves did for it.

        Raises:
            WorkbookError: the storage failed.

        """
        try:
            settle(self.db)
        except apsw.Error as error:
            raise self.translate(error) from error

    def execute(self, sql: LiteralString, values: Row = ()) -> apsw.Cursor:
        """Run one statement.

        Raises:
            WorkbookError: as SQLite's own error translates.

        """
        if self.pending:
            self.write_pending()
        try:
            return self.db.execute(sql, values)
        except apsw.Error as error:
            raise self.translate(error) from error

    def rows(self, sql: LiteralString, values: Row = ()) -> list[Row]:
        """Return every row of a query."""
        self.current()
        with self.lock:  # another thread's transaction is waited for: what it wrote is not yet so
            if self.pending:
                self.write_pending()
            try:
                return list(self.db.execute(sql, values))
            except (apsw.Error, UnicodeError) as error:
                raise self.translate(error) from error

    def row(self, sql: LiteralString, values: Row = ()) -> Row | None:
        """Return the first row of a query, if it has one."""
        self.current()
        with self.lock:
            if self.pending:
                self.write_pending()
            try:
                found: Row | None = self.db.execute(sql, values).fetchone()
            except (apsw.Error, UnicodeError) as error:
                raise self.translate(error) from error
            return found

    def insert_event(self, head: Head, row: Row) -> Ticket | None:
        """Write one event, a transaction by itself, after which the journal stands at `head`.

        Returns:
            What to wait for, where there is a log, when the lock is released.

        Raises:
            WorkbookError: as SQLite's own error translates.

        """
        if self.scribe is not None:
            return self.scribe.insert_event(head, row)
        try:
            self.db.execute(INSERT_EVENT, row)
        except apsw.Error as error:
            raise self.translate(error) from error
        return None

    def defer_event(self, row: Row) -> None:
        """Have one event of the open transaction written before whatever its next statement is.

        Raises:
            WorkbookError: as for `write_pending`.

        """
        self.pending.append(row)
        if len(self.pending) >= PENDING_MAX:
            self.write_pending()

    def write_pending(self) -> None:
        """Write the events that wait.

        Raises:
            WorkbookError: as SQLite's own error translates; the transaction is rolled back.

        """
        try:
            self.db.executemany(INSERT_EVENT, self.pending)
            if self.scribe is not None:
                self.scribe.capture.wrote(self.pending)
            self.pending.clear()
        except BaseException as error:
            self.roll_back()
            if isinstance(error, apsw.Error):
                raise self.translate(error) from error
            raise

    def translate(self, error: apsw.Error | UnicodeError) -> Exception:
        """Return our error for what SQLite said, or for text in the file that is none."""
        if isinstance(error, apsw.ConnectionClosedError) or self.closed:
            return WorkbookClosed(path=self.path)
        if isinstance(error, UnicodeDecodeError):
            return WorkbookDamaged(path=self.path, reason=f"a text is not UTF-8 ({error})")
        if isinstance(error, UnicodeError):
            return InternalError(promise=f"what is not valid Unicode is refused ({error})")
        if isinstance(error, apsw.SQLError) and strange_schema(self.db):
            return WorkbookDamaged(path=self.path, reason=f"its tables are not those of the format ({error})")
        return from_sqlite(self.path, error, self.db.system_errno)

    def roll_back(self) -> None:
        """Undo the open transaction, if SQLite hasn't done so already."""
        self.pending.clear()
        if self.db.in_transaction:
            self.execute("ROLLBACK")

    def read_head(self) -> Head:
        """Read from the file where the journal stands."""
        row = self.row("SELECT seq, hash, max(txn, (SELECT txn FROM meta)) FROM events ORDER BY seq DESC LIMIT 1")
        if row is not None:
            return (row[0], row[1], row[2])
        found = self.row("SELECT txn FROM meta")
        return (0, GENESIS, found[0] if found else 0)

    def current(self) -> Transaction | None:
        """Return the transaction that is open around the caller, if one is.

        Raises:
            TransactionEntangled: one is open in this thread, and it is another task's; or it was handed on to
                another thread, which would wait for it forever.
            TransactionLost: it is open no more, by an earlier error inside it.
            WorkbookClosed: the workbook was closed, or this process has inherited it by fork.

        """
        if self.closed:
            raise WorkbookClosed(path=self.path)
        transaction = self.transaction
        if transaction is None:
            return None
        if transaction in _inside.get():
            if transaction.thread != threading.get_ident():
                raise TransactionEntangled(path=self.path)
            if not self.db.in_transaction:
                raise TransactionLost(path=self.path)
            return transaction
        with self.lock:  # another thread's transaction is waited for
            if self.transaction is not None:
                raise TransactionEntangled(path=self.path)
            return None

    def refuse_second(self) -> None:
        """Refuse a transaction while one is open.

        Raises:
            TransactionEntangled: one was begun since the block for this one was made.

        """
        if self.transaction is not None:
            raise TransactionEntangled(path=self.path)

    def writing(self, asked: str | None = None) -> Transaction | Savepoint:
        """Return the block in which a change is made: a transaction, or a savepoint of the one that is open.

        Args:
            asked: the class of durability that the commit is to have, if it isn't the workbook's own. Of all that is
                asked within one transaction, the strongest counts.

        Raises:
            DurabilityRefused: there is no such class here.
            TransactionEntangled, TransactionLost: as for `current`.
            WorkbookReadOnly, WorkbookClosed: nothing can be written.

        """
        level = None if asked is None else self.level(asked)
        transaction = self.current()
        if transaction is not None:
            transaction.raise_level(level)
            return Savepoint(self, transaction)
        if self.readonly:
            raise WorkbookReadOnly(path=self.path, reason="it was opened read-only")
        return Transaction(self, level)

    def level(self, asked: str | None) -> Level | None:
        """Return what a class of durability means here; None for whatever commits have anyway.

        Raises:
            DurabilityRefused: there is no such class, or it needs a replica, and there is none.

        """
        return level_of(self.path, asked, None if self.scribe is None else self.scribe.log)

    def close(self) -> None:
        """Close the connection; twice is once.

        Raises:
            TransactionEntangled: a transaction is open.
            StorageFailed: with a log: the file could not be made complete, so it still needs the log.

        """
        with self.lock:
            if self.closed:
                return
            if self.transaction is not None:
                raise TransactionEntangled(path=self.path)
            scribe = self.scribe
            standing = None if scribe is None else scribe.finish()
            self.closed = True
            self.head = None
            try:
                self.db.close()
            except apsw.Error as error:
                raise from_sqlite(self.path, error) from error
            finally:
                leave(self.path)
        if scribe is not None:
            scribe.leave(standing)
            if standing is None:
                raise StorageFailed(path=self.path, reason="it could not be made complete when it was closed")

    def abandon(self) -> None:
        """Give the connection up without closing it: this process has inherited it by fork."""
        # Python closes what a module holds when it ends. One reference that nobody gives back outlives even that.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.db))
        self.closed = True
        self.scribe = None
        self.head = None
        self.pending = []
        self.lock = threading.RLock()
        self.transaction = None


def _after_fork() -> None:
    for store in list(_stores):
        store.abandon()


os.register_at_fork(after_in_child=_after_fork)
