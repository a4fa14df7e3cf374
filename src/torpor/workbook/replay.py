"""Bringing a workbook forward by the records of commits that it may lack.

A record says how rows are after its transaction (`capture.py`), so to replay it is: delete every row that it names,
then insert those that it has. In between, rows of one table may take each other's unique values; so all deletions come
first. Nothing may happen by itself meanwhile: what triggers and cascades did is in the record. Records are taken in the
order of their numbers, without a gap, and each event must continue the hash chain: a record that belongs to another
file, or another past of this one, is refused.

What is there already is skipped by its number, so replaying twice is replaying once; and what is replayed in one call
is one transaction of SQLite, so killed in between, some calls are there whole and the others not at all.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, Final, Self

import apsw
import msgspec

from torpor.base import faults
from torpor.base.clock import Clock, SystemClock
from torpor.base.errors import ReplayRefused, WorkbookClosed, WorkbookDamaged
from torpor.workbook.commits import Standing
from torpor.workbook.journal import canonical
from torpor.workbook.mark import remove_mark
from torpor.workbook.opening import BUSY_MS, check_format, look
from torpor.workbook.owner import claim, moment
from torpor.workbook.paths import real_path
from torpor.workbook.presence import arrive, leave
from torpor.workbook.settling import settle
from torpor.workbook.store import GENESIS, INSERT_EVENT
from torpor.workbook.tables import SEQUENCE, Tables, tables_of
from torpor.workbook.weather import from_sqlite

Value = Any
"""What SQLite keeps: an integer, a float, a text, bytes, or nothing."""

EventRow = tuple[
    int, bytes, int, str, int, str, str | None, int | None, str | None, bytes, int
]  # as the table's columns, in their order


class Record(msgspec.Struct, frozen=True, array_like=True):
    """What one transaction did."""

    rows: tuple[EventRow, ...]
    changes: tuple[tuple[str, tuple[tuple[Value, ...], ...], tuple[tuple[Value, ...], ...]], ...] | None
    """By table: the keys of rows that are gone, and the rows that are there."""


_decode: Final = msgspec.msgpack.Decoder(Record).decode


class Replay:
    """A workbook that is being recovered. Made by `Replay.open`; a context manager.

    Leaving the block without `finish` keeps what was applied, and the mark that says that the workbook isn't recovered.

    Attributes:
        path: the file, absolute.
        standing: where it stands now.

    """

    def __init__(self, path: str, db: apsw.Connection) -> None:
        self.path = path
        self._db = db
        self._close = ExitStack()
        self._tables: Tables = tables_of(db)
        self.standing = self._look()

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, clock: Clock | None = None, vfs: str | None = None) -> Replay:
        """Claim a workbook for its recovery. Its format is left as it is: records are of the same.

        Args:
            path: the file, which exists.
            clock: tells whoever is refused meanwhile since when.
            vfs: the SQLite file layer to use; None is the system's.

        Raises:
            WorkbookOwned: somebody has it open for writing; says who.
            WorkbookMissing, NotAWorkbook, NewerFormat, WorkbookDamaged, WorkbookReadOnly, StorageFailed: as found.
            AgentBusy: this process is about to copy, move or remove it.

        """
        name = real_path(path)
        with ExitStack() as undo:
            undo.callback(claim(name, moment(clock or SystemClock())).release)
            arrive(name)
            undo.callback(leave, name)
            look(name, readonly=False)
            try:
                db = apsw.Connection(name, flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
                undo.callback(db.close, force=True)
                _prepare(name, db)
                replay = cls(name, db)
            except apsw.SQLError as error:
                raise WorkbookDamaged(path=name, reason=str(error)) from error
            except apsw.Error as error:
                raise from_sqlite(name, error) from error
            except UnicodeError as error:
                raise WorkbookDamaged(path=name, reason=f"a text is not UTF-8 ({error})") from error
            replay._close = undo.pop_all()
        return replay

    def apply(self, txn: int, payload: bytes) -> bool:
        """Take up one record and report whether the file lacked it; see `apply_many`."""
        return self.apply_many([(txn, payload)]) == 1

    def apply_many(self, records: Iterable[tuple[int, bytes]]) -> int:
        """Take up records in one transaction, or none of them.

        Args:
            records: numbers and payloads, in order; what is there already is skipped.

        Returns:
            How many the file lacked.

        Raises:
            ReplayRefused: there is a gap.
            WorkbookDamaged: a record doesn't fit the file, or is none.
            WorkbookError: it can't be written.

        """
        before, count = self.standing, 0
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for txn, payload in records:
                if txn > self.standing.txn:
                    faults.point("replay.applying")
                    self._take(txn, payload)
                    count += 1
            self._db.execute("COMMIT")
        except BaseException as error:
            self.standing = before
            with suppress(apsw.Error):
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            if isinstance(error, apsw.ConnectionClosedError):
                raise WorkbookClosed(path=self.path) from error
            if isinstance(error, apsw.Error):
                raise from_sqlite(self.path, error, self._db.system_errno) from error
            raise
        faults.point("replay.applied")
        return count

    def _take(self, txn: int, payload: bytes) -> None:
        if txn != self.standing.txn + 1:
            raise ReplayRefused(path=self.path, expected=self.standing.txn + 1, found=txn)
        try:
            record = _decode(payload)
        except msgspec.MsgspecError as error:
            raise self._misfit(txn, f"it can't be read: {error}") from error
        standing = self.standing
        try:
            standing = self._append(standing, txn, record.rows)
            self._change(txn, record)
        except (apsw.ConstraintError, apsw.MismatchError, apsw.SQLError, apsw.BindingsError, TypeError) as error:
            raise self._misfit(txn, str(error)) from error
        found = self._db.execute(
            "SELECT max(txn, coalesce((SELECT txn FROM events ORDER BY seq DESC LIMIT 1), 0)) FROM meta"
        ).get
        if found != txn:
            raise self._misfit(txn, f"after it the file counts {found} transactions")
        self.standing = msgspec.structs.replace(standing, txn=txn)

    def _append(self, standing: Standing, txn: int, rows: tuple[EventRow, ...]) -> Standing:
        if not rows:
            return standing
        seq, digest = standing.seq, bytes.fromhex(standing.head) or GENESIS
        for row in rows:
            seq += 1
            digest = hashlib.sha256(digest + canonical(row)).digest()
            if row[0] != seq or row[9] != digest or row[10] != txn:
                raise self._misfit(txn, f"its event {row[0]} doesn't continue the journal after event {seq - 1}")
        self._db.executemany(INSERT_EVENT, rows)
        return msgspec.structs.replace(standing, seq=seq, head=digest.hex())

    def _change(self, txn: int, record: Record) -> None:
        for name, gone, there in record.changes or ():
            table = self._tables.by_name.get(name)
            if table is None:
                raise self._misfit(txn, f"there is no table {name!r:.80}")
            if name == SEQUENCE:
                self._db.execute(f"DELETE FROM {SEQUENCE}")  # it comes whole
            else:
                self._db.executemany(table.delete, gone)
                self._db.executemany(table.delete, [_key(row, table.place) for row in there])
            self._db.executemany(table.insert, there)

    def _misfit(self, txn: int, reason: str) -> WorkbookDamaged:
        return WorkbookDamaged(path=self.path, reason=f"the record of transaction {txn} doesn't fit it: {reason}")

    def finish(self) -> Standing:
        """Make the file complete and durable, take its mark away, and close it.

        Raises:
            WorkbookError: the storage failed; the mark is still there.

        """
        faults.point("replay.finishing")
        try:
            settle(self._db)
            if self._look() != self.standing:
                raise WorkbookDamaged(path=self.path, reason="the file isn't as the records left it")
            self._db.close()
        except apsw.Error as error:
            raise from_sqlite(self.path, error, self._db.system_errno) from error
        remove_mark(self.path)
        faults.point("replay.finished")
        self.close()
        return self.standing

    def close(self) -> None:
        """Give the workbook up; twice is once."""
        self._close.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _look(self) -> Standing:
        agent, counted = self._db.execute("SELECT agent, txn FROM meta").fetchone() or ("", 0)
        seq, digest, txn = self._db.execute(
            "SELECT seq, hash, txn FROM events ORDER BY seq DESC LIMIT 1"
        ).fetchone() or (
            0,
            b"",
            0,
        )
        schema: int = self._db.pragma("schema_version")
        return Standing(agent, max(counted, txn), seq, digest.hex(), schema)


def _key(row: tuple[Value, ...], place: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(row[position] for position in place)


def _prepare(path: str, db: apsw.Connection) -> None:
    db.set_busy_timeout(BUSY_MS)
    db.pragma("temp_store", "memory")
    check_format(path, db)
    # What is replayed was checked where it was written. What followed from it there is in the record: here nothing may
    # follow, and the tables that an index keeps itself in are tables like others.
    db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
    db.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    db.pragma("foreign_keys", False)
    db.pragma("ignore_check_constraints", True)
    db.pragma("synchronous", "NORMAL")
