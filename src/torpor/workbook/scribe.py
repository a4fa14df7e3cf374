"""The scribe of one open workbook: hands the record of each commit to the log that the workbook has joined.

The order, for every commit: a mark beside the file says that a log belongs to it, once and durably (`mark.py`); the
record is made; SQLite commits; the record goes to the log, still under the store's lock, so records come in the order
of the commits; the lock is released; and only then does whoever committed wait.

Where something breaks off between the commit and the log (an error, an interrupt), the number of the next transaction
shows it: it isn't the one after the last that was recorded. A transaction without a record, for whatever reason, makes
the file itself durable before it is acknowledged, and the log is told that only a snapshot goes on from here.
"""

from __future__ import annotations

from contextlib import suppress

import apsw

from torpor.base import faults
from torpor.base.errors import TorporError
from torpor.workbook.capture import Capture
from torpor.workbook.commits import CommitLog, Committing, Head, Lane, Level, Row, Standing, Ticket
from torpor.workbook.mark import put_mark, remove_mark
from torpor.workbook.settling import settle
from torpor.workbook.store import INSERT_EVENT, Store


def standing_of(store: Store) -> Standing:
    """Read from an open workbook where it stands.

    Raises:
        WorkbookError: it can't be read.

    """
    agent = store.row("SELECT agent FROM meta")
    schema = store.row("PRAGMA schema_version")
    seq, digest, txn = store.read_head()
    return Standing(
        agent=agent[0] if agent else "",
        txn=txn,
        seq=seq,
        head=digest.hex() if seq else "",
        schema=schema[0] if schema else 0,
    )


class Scribe:
    """What a store needs of a log, and the log of a store (`commits.Joining`).

    Args:
        store: the owner's.
        log: what it joins.

    Attributes:
        level: what a commit waits for that asks for nothing.

    """

    def __init__(self, store: Store, log: CommitLog) -> None:
        self.path = store.path
        self.level = log.level
        self.log = log
        self._store = store
        self._marked = False
        """Whether a mark beside the file says that the log belongs to it."""
        self._asked = False
        """Whether the log waits for the file to be settled."""
        self._newest: Ticket | None = None
        """That of the newest commit."""
        try:
            self.capture = Capture(store.db)
        except (apsw.Error, UnicodeError) as error:
            raise store.translate(error) from error
        self._recorded = store.read_head()[2]
        """The number of the last transaction that the log knows."""
        self._lane: Lane = log.join(self)

    # --- commits ---

    @property
    def plain(self) -> bool:
        """Whether an event may be inserted without a transaction around it."""
        return self.capture.plain

    def commit(self, transaction: Committing) -> Ticket | None:
        """Commit the open transaction and return its ticket.

        Where it changed nothing, it is that of the newest commit, None before the first.

        Raises:
            WorkbookError: it can't be committed.
            TorporError: as the log says: it is committed, and not recorded; but not committed where the log is known to
                have failed for good.

        """
        store, capture = self._store, self.capture
        if store.pending:
            store.write_pending()
        try:
            self._count(transaction)
            head = transaction.head
            if head[2] < transaction.number:
                store.db.execute("COMMIT")
                capture.committed()
                # What it has seen may be on its way still: a key that is known is acknowledged once it is durable.
                return self._newest
            if (failed := self._lane.failed) is not None:
                raise failed
            self._claim()
            payload = capture.payload()
            faults.point("transaction.committing")
            store.db.execute("COMMIT")
        except (apsw.Error, UnicodeError) as error:
            raise store.translate(error) from error
        faults.point("transaction.committed")
        capture.committed()
        return self._publish(head, None if capture.spoilt else payload)

    def _count(self, transaction: Committing) -> None:
        """Give the transaction its number, if it has done anything and no event has said so."""
        changed = self.capture.changed()
        if transaction.head[2] < transaction.number:
            db = self._store.db
            if changed or db.total_changes() != transaction.changes:
                db.execute("UPDATE meta SET txn = ?", (transaction.number,))
                transaction.head = (*transaction.head[:2], transaction.number)

    def insert_event(self, head: Head, row: Row) -> Ticket:
        """Write one event, a transaction by itself, after which the journal stands at `head`.

        Only while `plain`.

        Raises:
            WorkbookError: it can't be written.
            TorporError: as the log says: it is written, and not recorded; but not written where the log is known to
                have failed for good.

        """
        if (failed := self._lane.failed) is not None:
            raise failed
        self._claim()
        try:
            payload = self.capture.insert(INSERT_EVENT, row)
        except apsw.Error as error:
            with suppress(apsw.Error):
                self.capture.failed()
            raise self._store.translate(error) from error
        return self._publish(head, payload)

    def _claim(self) -> None:
        if not self._marked:
            put_mark(self.path, self.log.folder)
            self._marked = True
            faults.point("record.marked")

    def _publish(self, head: Head, payload: bytes | None) -> Ticket:
        faults.point("record.committed")
        txn = head[2]
        if payload is not None and txn == self._recorded + 1:
            ticket = self._lane.add(txn, head[1], payload)
            self._recorded = txn
            faults.point("record.added")
        else:
            ticket = self._break(head)
        self._newest = ticket
        if self._asked:
            self._settle_now(txn)
        return ticket

    def _break(self, head: Head) -> Ticket:
        try:
            settle(self._store.db)
            self.capture.refresh()
        except (apsw.Error, UnicodeError) as error:
            raise self._store.translate(error) from error
        ticket = self._lane.broken(head[2], head[1])
        self._recorded = head[2]
        faults.point("record.broken")
        return ticket

    def undone(self) -> None:
        """Forget what a transaction did that was rolled back."""
        self.capture.undone()

    def wait(self, ticket: Ticket, level: Level | None) -> None:
        """Wait until a commit is as safe as asked; the store's lock is released.

        Raises:
            TorporError: as the log says.

        """
        ticket.wait(self.level if level is None else level)
        faults.point("record.acknowledged")

    async def arrive(self, ticket: Ticket, level: Level | None) -> None:
        """Wait, as a task, until a commit is as safe as asked; the store's lock is released.

        Raises:
            TorporError: as the log says.

        """
        await ticket.arrive(self.level if level is None else level)
        faults.point("record.acknowledged")

    # --- what the log asks for ---

    def standing(self) -> Standing:
        """Return where the workbook stands; waits for a transaction that is open."""
        store = self._store
        with store.lock:
            return standing_of(store)

    def settle(self) -> int | None:
        """Make the file complete by itself; see `Joining.settle`."""
        store = self._store
        self._asked = True
        if not store.lock.acquire(blocking=False):
            return None
        try:
            if store.closed or store.transaction is not None or store.db.in_transaction:
                return None
            return self._settle_file()
        finally:
            store.lock.release()

    def _settle_file(self) -> int | None:
        try:
            settle(self._store.db)
        except apsw.Error:
            return None  # the log asks again; whoever writes next meets the same storage, and is told
        self.capture.settled()
        self._asked = False
        faults.point("settle.done")
        return self._recorded

    def _settle_now(self, txn: int) -> None:
        if self._settle_file() is not None:
            self._lane.settled(txn)

    # --- the end ---

    def finish(self) -> Standing | None:
        """Make the file complete, right before it is closed; None where storage or log fail. The lock is held."""
        store = self._store
        with suppress(apsw.Error, UnicodeError, TorporError):
            noticed = self.capture.notice()
            settle(store.db)
            standing = standing_of(store)
            if noticed or standing.txn != self._recorded:
                head = store.read_head()
                self._lane.broken(head[2], head[1])
            return standing
        return None

    def leave(self, standing: Standing | None) -> None:
        """Tell the log that the workbook is closed, and take away the mark where it is complete.

        Raises:
            WorkbookError: the mark can't be removed.

        """
        if standing is not None and self._marked:
            remove_mark(self.path)
        self._lane.leave(standing)
        faults.point("leave.closed")
