"""What one connection changes in a transaction, as a record that does the same to another copy of the file.

**A record says how things are, not what was done.** SQLite tells of every row that it is about to touch (the preupdate
hook), whoever caused it: a statement, a trigger, a cascade, a full-text index. Here only the row's key is noted. Right
before the commit, each noted row is read: it is there, and the record has it whole; or it isn't, and the record says
that it is gone. So a record does not depend on what was undone in between (a savepoint, a statement that failed
half-way): a row that was touched and put back is merely said again. And rows keep their rowids, which a declared key
does not, and which full-text indexes over content refer to.

**Events** are not read back: they are the rows that the journal has written, kept here as they pass. That is all there
is in the record of a plain append.

**Full-text indexes** keep words in memory until the commit or a savepoint, so a savepoint is opened and released before
the rows are read. What is still touched afterwards, during the commit itself, spoils the record.

**What can't be recorded is noticed, never missed.** A change of the schema: by its number. Anything committed by
somebody else, or by this connection beside the transactions: by the counter that SQLite keeps of the versions of its
cache, which rises by one for each commit of ours. An event that didn't come from the journal: by counting. More than
the limits, and text that is no Unicode: when it is met. In all of these there is no record, and a snapshot takes its
place. (The statistics of ANALYZE are no content: SQLite doesn't tell of them, and nothing but speed depends on them.)
"""

from __future__ import annotations

from typing import Any, Final, LiteralString, NamedTuple

import apsw
import msgspec

from torpor.base.limits import COMMIT_RECORD_MAX, COMMIT_ROWS_MAX
from torpor.workbook.tables import JOURNAL, SEQUENCE, Table, Tables, tables_of

Row = tuple[Any, ...]
Changes = list[tuple[str, list[Row], list[Row]]]
"""By table: the keys of the rows that are gone, and the rows that are there."""

_encode = msgspec.msgpack.Encoder().encode

_INSERT: Final = apsw.SQLITE_INSERT


class Mark(NamedTuple):
    """A place in the open transaction, to come back to."""

    rows: int
    inserted: int


class Capture:
    """Watches one connection. All methods are called under the store's lock.

    Attributes:
        spoilt: why there can be no record of the open transaction; "" while there can.
        plain: whether an event may be inserted without a transaction around it: nothing else happens with it.
        schema: the number of the schema as of the last transaction.

    """

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._touched: dict[str, set[Any]] = {}
        self._rows: list[Row] = []
        self._bytes = 0
        self._inserted = 0
        self._before = ""
        self.spoilt = ""
        self.refresh()
        # For good, but for `insert`, and not only while there is something to note: a statement that SQLite compiled
        # without the hook may empty a table without a word about its rows.
        db.preupdate_hook(self._touch)

    def refresh(self) -> None:
        """Learn the schema anew, and forget all that was noted: a snapshot will have it.

        Raises:
            apsw.Error, UnicodeError: it can't be read.

        """
        self._version = self._db.data_version()  # before anything is read: what others write meanwhile is noticed later
        self._foreign: int = self._db.pragma("data_version")
        self.schema: int = self._db.pragma("schema_version")
        self._tables = tables_of(self._db)
        self.plain = not self._tables.watched
        self._sequence = self._next_sequence = _sequence_of(self._db, self._tables)
        self._rowids = {name for name, table in self._tables.by_name.items() if table.by_rowid}
        self.forget()

    def forget(self) -> None:
        """Forget what the transaction did: it was recorded, or never was."""
        self._rows = []
        self._bytes = self._inserted = 0
        self._touched.clear()
        self.spoilt = self._before = ""

    def _touch(self, update: apsw.PreUpdate) -> None:
        """Note a row. SQLite calls this for each one that it is about to change."""
        if update.database_name != "main":
            return
        name = update.table_name
        if name == JOURNAL:
            self._inserted += 1 if update.opcode == _INSERT else COMMIT_ROWS_MAX
            return
        try:
            keys = self._touched.get(name)
            if keys is None:
                keys = self._touched[name] = set()
            if name in self._rowids:
                keys.add(update.rowid)
                keys.add(update.rowid_new)
            else:
                self._touch_keyed(name, update, keys)
            if len(keys) > COMMIT_ROWS_MAX:
                self.spoilt = f"more than {COMMIT_ROWS_MAX:,} rows of {name} were changed"
                keys.clear()
        except UnicodeError as error:
            self.spoilt = f"a key of {name} is not UTF-8 ({error})"
        except BaseException as error:
            self.spoilt = f"a row of {name} can't be named ({error})"
            raise

    def _touch_keyed(self, name: str, update: apsw.PreUpdate, keys: set[Any]) -> None:
        table = self._tables.by_name.get(name)
        if table is None:
            self.spoilt = f"{name} is new, or its rows can't be named"
            return
        for row in (update.old, update.new):
            if row is not None:
                keys.add(tuple(row[place] for place in table.key))

    # --- the course of a transaction ---

    def begin(self) -> None:
        """Notice what others have done since the last transaction. One is open now."""
        if self._db.data_version() != self._version:
            self._look_round()
        if self._touched:
            self.spoilt = "something was changed outside of transactions"
        self._before = self.spoilt
        self._next_sequence = self._sequence

    def _look_round(self) -> None:
        foreign = self._db.pragma("data_version")
        if foreign != self._foreign:
            self._foreign = foreign
            self.spoilt = "another connection has written into the file"
        if self._db.pragma("schema_version") != self.schema:
            self.spoilt = "the schema was changed"
        self._version = self._db.data_version()

    def wrote(self, rows: list[Row]) -> None:
        """Keep events that the transaction has written."""
        self._rows += rows
        self._bytes += sum(len(row[5]) for row in rows)
        if self._bytes > COMMIT_RECORD_MAX:
            self.spoilt = f"more than {COMMIT_RECORD_MAX:,} bytes of events were appended"
            self._rows = []

    def mark(self) -> Mark:
        """Return the present place; all events of the transaction so far are written."""
        return Mark(len(self._rows), self._inserted)

    def back(self, mark: Mark) -> None:
        """Forget the events behind a place: they were undone. Other rows are read in the end, whatever they were."""
        del self._rows[mark.rows :]
        self._inserted = mark.inserted

    def undone(self) -> None:
        """Forget the transaction: it was rolled back."""
        before = self._before
        self.forget()
        self.spoilt = before
        self._version = self._db.data_version()

    def changed(self) -> bool:
        """Report whether the open transaction has done anything that a number of its rows changed doesn't tell.

        Raises:
            apsw.Error: the schema can't be read.

        """
        if self._db.execute("PRAGMA schema_version").get != self.schema:
            self.spoilt = "the schema was changed"
        elif self._tables.sequence and _sequence_of(self._db, self._tables) != self._sequence:
            return True
        return bool(self._touched or self.spoilt)

    def payload(self) -> bytes | None:
        """Return the record of the open transaction, all of which is written; None where there can be none.

        Raises:
            apsw.Error: the rows can't be read.

        """
        if self.spoilt:
            return None
        if not self._touched and not self._tables.sequence:
            return self._finish(None)
        self._db.execute("SAVEPOINT record; RELEASE record")
        try:
            return self._finish(self._changes())
        except UnicodeError as error:
            self.spoilt = f"a text is not UTF-8 ({error})"
        return None

    def _finish(self, changes: Changes | None) -> bytes | None:
        if self._inserted != len(self._rows):
            self.spoilt = "the journal's table was changed by something else"
        if self.spoilt:
            return None
        self._touched.clear()
        return _encode((self._rows, changes))

    def insert(self, sql: LiteralString, row: Row) -> bytes | None:
        """Insert one event, a transaction by itself, and return its record; None where there can be none.

        SQLite doesn't tell of the row, which is known, but how many it has changed: one, unless something happened by
        itself. To be told, in the middle of the statement, would take the interpreter's lock once more for each event.

        Raises:
            apsw.Error: it can't be inserted; or it is, and what others did can't be read.

        """
        db = self._db
        before = db.total_changes()
        db.preupdate_hook(None)
        try:
            db.execute(sql, row)
        finally:
            db.preupdate_hook(self._touch)
            self._inserted += db.total_changes() - before
        version = db.data_version()
        if version != self._version + 1:
            self._look_round()
        self._version = version
        inserted, self._inserted = self._inserted, 0
        if inserted == 1 and not self._touched and not self.spoilt:
            return _encode(((row,), None))
        self.spoilt = self.spoilt or "something else was changed with an event"
        return None

    def failed(self) -> None:
        """Forget an event that could not be inserted."""
        if self._inserted == 1:
            self._inserted = 0
        self._look_round()

    def committed(self) -> None:
        """Close the account of a transaction, which is committed now."""
        self._version = self._db.data_version()
        self._sequence = self._next_sequence
        self._rows = []
        self._bytes = self._inserted = 0
        if self._touched:
            self.spoilt = "something was changed during the commit"

    def notice(self) -> bool:
        """Report whether anything was changed since the last transaction. None is open."""
        self._look_round()
        return bool(self._touched or self.spoilt)

    def settled(self) -> None:
        """Take no notice of what settling the file has done."""
        self._touched.pop("meta", None)
        self._look_round()

    # --- reading rows ---

    def _changes(self) -> Changes:
        found: Changes = []
        size = 0
        for name in sorted(self._touched):
            table = self._tables.by_name.get(name)
            if table is None:
                self.spoilt = f"{name} is new, or its rows can't be named"
                return []
            gone, there, bytes_ = _images(self._db, table, self._touched[name], COMMIT_RECORD_MAX - size)
            size += bytes_
            if size > COMMIT_RECORD_MAX:
                self.spoilt = f"more than {COMMIT_RECORD_MAX:,} bytes were changed"
                return []
            found.append((name, gone, there))
        if self._tables.sequence:
            sequence = _sequence_of(self._db, self._tables)
            numbered = any(self._tables.by_name[name].numbered for name in self._touched)
            if numbered or sequence != self._sequence:
                self._next_sequence = sequence
                found.append((SEQUENCE, [], sequence))
        return found


def _images(db: apsw.Connection, table: Table, keys: set[Any], room: int) -> tuple[list[Row], list[Row], int]:
    """Return the keys of rows that are gone, the rows that are there, and about how many bytes these take.

    Args:
        db: the connection, in the transaction.
        table: whose rows.
        keys: which of them.
        room: bytes after which no more is read.

    """
    asked = [(key,) for key in sorted(keys)] if table.by_rowid else sorted(keys, key=_encode)
    # Two keys may lead to one row, where case doesn't count. Of these one may be said to be gone: no harm, for all that
    # is named is deleted before anything is inserted.
    there: dict[Row, Row] = {}
    size = 0
    for row in db.executemany(table.read, asked):
        there[tuple(row[place] for place in table.place)] = row
        size += sum(len(value) if isinstance(value, str | bytes) else 9 for value in row)
        if size > room:
            break
    return [key for key in asked if key not in there], list(there.values()), size


def _sequence_of(db: apsw.Connection, tables: Tables) -> list[Row]:
    """Return the numbers that AUTOINCREMENT has given."""
    return list(db.execute(tables.by_name[SEQUENCE].read_all)) if tables.sequence else []
