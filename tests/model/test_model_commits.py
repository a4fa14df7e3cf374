"""Random lives of a workbook, told to a log: the records alone make another copy of it the same, after each commit."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.model.kit import TORTURE, USUAL, SetClock, Stop
from tests.unit.workbook.log_kit import MemoryLog, Replica

from torpor.base.errors import FileInTheWay, FileMissing, InternalError, KeyReused, PointRefused, QuotaExceeded
from torpor.workbook import Embedding, Workbook

ODD_TABLES = """
CREATE TABLE bare (a, b);
CREATE TABLE named (k TEXT PRIMARY KEY, v, w UNIQUE);
CREATE TABLE packed (k TEXT COLLATE NOCASE, v, n REAL, PRIMARY KEY (k, n)) WITHOUT ROWID;
CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, v UNIQUE);
CREATE TABLE parent (id INTEGER PRIMARY KEY, v);
CREATE TABLE child (p REFERENCES parent (id) ON DELETE CASCADE ON UPDATE CASCADE, v);
CREATE TABLE audit (what, n);
CREATE TABLE made (a, twice AS (a || a) STORED, b, thrice AS (a || a || a) VIRTUAL, c);
CREATE TABLE made_packed (twice AS (k || k) STORED, k PRIMARY KEY, v, thrice AS (v || v) VIRTUAL) WITHOUT ROWID;
CREATE TABLE made_stored (twice AS (k || k) STORED, v, k PRIMARY KEY, thrice AS (v || v) STORED) WITHOUT ROWID;
CREATE TABLE hidden (rowid, _rowid_, v);
CREATE TABLE "odd ""name" ("select" INTEGER, "a ""b", UNIQUE ("select"));
CREATE TABLE backwards (id INTEGER PRIMARY KEY DESC, v);
CREATE INDEX named_v ON named (v) WHERE v IS NOT NULL;
CREATE TRIGGER named_in AFTER INSERT ON named BEGIN
  INSERT INTO audit VALUES ('in', new.k); UPDATE counted SET v = v || 'x' WHERE id = 1; END;
CREATE TRIGGER named_out AFTER DELETE ON named BEGIN INSERT INTO audit VALUES ('out', old.rowid); END;
CREATE VIRTUAL TABLE own_words USING fts5 (words);
CREATE VIRTUAL TABLE named_words USING fts5 (v, content = 'named');
CREATE VIRTUAL TABLE no_words USING fts5 (words, content = '', columnsize = 0);
CREATE VIRTUAL TABLE boxes USING rtree (id, low, high);
"""

WATCHER = "CREATE TRIGGER watched AFTER INSERT ON events BEGIN INSERT INTO audit VALUES (new.kind, new.seq); END"

VALUES = st.one_of(
    st.none(),
    st.integers(-3, 3),
    st.sampled_from([2**63 - 1, -(2**63), 0.0, -0.5, 1e300, float("inf"), "", "a", "A", "ä\0b", "x" * 5000]),
    st.sampled_from([b"", b"\0\xff", b"y" * 9000]),
)

# Statements, each with the number of values that it takes. Many fail half-way, which SQLite then undoes.
STATEMENTS = [
    ("INSERT INTO bare VALUES (?, ?)", 2),
    ("INSERT INTO bare SELECT b, a FROM bare", 0),
    ("UPDATE bare SET a = ? WHERE rowid % 2", 1),
    ("UPDATE bare SET rowid = rowid + 100 WHERE a IS ?", 1),
    ("DELETE FROM bare WHERE a IS ?", 1),
    ("DELETE FROM bare", 0),
    ("INSERT INTO named VALUES (?, ?, ?)", 3),
    ("INSERT OR REPLACE INTO named VALUES (?, ?, ?)", 3),
    ("INSERT OR IGNORE INTO named VALUES (?, ?, ?)", 3),
    ("INSERT INTO named VALUES ('new', 1, NULL), (?, 2, NULL), ('last', 3, 1)", 1),
    ("INSERT INTO named VALUES (?, 1, 2) ON CONFLICT (k) DO UPDATE SET v = excluded.v + 1", 1),
    ("UPDATE OR REPLACE named SET k = ?, w = ?", 2),
    ("UPDATE OR IGNORE named SET w = ?", 1),
    ("UPDATE named SET w = -w", 0),
    ("DELETE FROM named", 0),
    ("INSERT OR REPLACE INTO packed VALUES (?, ?, 1.0), ('A', ?, 2)", 3),
    ("UPDATE OR IGNORE packed SET k = upper(k), v = ?", 1),
    ("UPDATE packed SET k = lower(k), n = n + 1", 0),
    ("DELETE FROM packed WHERE v IS ?", 1),
    ("INSERT INTO counted (v) VALUES (?)", 1),
    ("INSERT OR REPLACE INTO counted (id, v) VALUES (1, ?)", 1),
    ("INSERT OR FAIL INTO counted (v) VALUES (?), (?), (?)", 3),
    ("DELETE FROM counted", 0),
    ("UPDATE sqlite_sequence SET seq = 7", 0),
    ("DELETE FROM sqlite_sequence", 0),
    ("INSERT OR REPLACE INTO parent VALUES (1, ?), (2, ?)", 2),
    ("INSERT INTO child VALUES (1, ?), (2, ?)", 2),
    ("UPDATE parent SET id = id + 10", 0),
    ("DELETE FROM parent WHERE id % 2", 0),
    ("INSERT INTO made (a, b, c) VALUES (?, ?, ?)", 3),
    ("UPDATE made SET a = ?", 1),
    ("INSERT OR REPLACE INTO made_packed (k, v) VALUES (?, ?)", 2),
    ("UPDATE OR REPLACE made_packed SET k = coalesce(v, 1)", 0),
    ("DELETE FROM made_packed WHERE thrice IS NOT NULL", 0),
    ("INSERT OR REPLACE INTO made_stored (k, v) VALUES (?, ?)", 2),
    ("UPDATE OR REPLACE made_stored SET k = coalesce(v, 1)", 0),
    ("DELETE FROM made_stored WHERE thrice IS NOT NULL", 0),
    ("INSERT INTO hidden VALUES (?, ?, ?)", 3),
    ("UPDATE hidden SET oid = -oid, rowid = ?", 1),
    ('INSERT OR REPLACE INTO "odd ""name" VALUES (?, ?)', 2),
    ("INSERT OR REPLACE INTO backwards VALUES (?, ?)", 2),
    ("INSERT INTO own_words VALUES (?), ('the cat')", 1),
    ("DELETE FROM own_words WHERE rowid = (SELECT max(rowid) FROM own_words)", 0),
    ("INSERT INTO own_words (own_words) VALUES ('optimize')", 0),
    ("INSERT INTO named_words (named_words) VALUES ('rebuild')", 0),
    ("INSERT INTO no_words (rowid, words) VALUES (abs(random()) % 1000, 'a dog')", 0),
    ("INSERT OR REPLACE INTO boxes VALUES (abs(random()) % 9, -1.5, 1.5)", 0),
    ("UPDATE boxes SET high = high + 1", 0),
]

SCHEMA = [
    "CREATE TABLE IF NOT EXISTS late (a PRIMARY KEY, b)",
    "INSERT INTO late VALUES (random(), 1)",
    "ALTER TABLE bare ADD COLUMN more DEFAULT 7",
    "ALTER TABLE bare DROP COLUMN more",
    "DROP TABLE late",
    "CREATE INDEX IF NOT EXISTS bare_a ON bare (a)",
    "ANALYZE",
    "REINDEX",
]

PATHS = st.sampled_from(["/a", "/b", "/folder/a", "/folder/b"])
VOLUMES = st.sampled_from(["workspace", "memory", "tmp"])
CONTENT = st.sampled_from([b"", b"a", b"ab" * 3000, b"z" * 150_000])
SOURCES = st.sampled_from(["one", "two", "three", None])


class Lives(RuleBasedStateMachine):
    """A workbook that tells a log of its commits, and a copy that knows nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="torpor-model-"))
        self.path = self.folder / "m.workbook"
        self.log = MemoryLog(str(self.folder))
        self.clock = SetClock()
        self.blocks: list[Any] = []
        self.watched = False
        self.stranger = False
        """Whether somebody else has written since the last commit, of which a record can't know."""

    @initialize(odd=st.booleans(), watched=st.booleans())
    def begin_life(self, *, odd: bool, watched: bool) -> None:
        self.odd = odd
        with Workbook.open(self.path, clock=self.clock) as book:
            book.append("note.added", {"number": 0})
        if odd:
            self.strange(ODD_TABLES, *([WATCHER] if watched else []))
        self.book = self.open()
        self.replica = Replica(self.path, self.log)

    def open(self) -> Workbook:
        return Workbook.open(self.path, durability=self.log.durability(), clock=self.clock)

    def strange(self, *statements: str) -> None:
        db = apsw.Connection(str(self.path))
        try:
            db.pragma("busy_timeout", 5000)
            for statement in statements:
                db.execute(statement)
        finally:
            db.close()

    def do(self, call: Callable[[], object]) -> None:
        self.clock.now += 1_000_000
        with suppress(FileInTheWay, FileMissing, KeyReused, QuotaExceeded, PointRefused):
            call()

    # --- blocks ---

    @precondition(lambda self: len(self.blocks) < 4)
    @rule()
    def begin(self) -> None:
        block = self.book.transaction()
        block.__enter__()
        self.blocks.append(block)

    @precondition(lambda self: self.blocks)
    @rule()
    def end(self) -> None:
        self.blocks.pop().__exit__(None, None, None)

    @precondition(lambda self: self.blocks)
    @rule()
    def undo(self) -> None:
        self.blocks.pop().__exit__(Stop, Stop(), None)

    # --- what agents do ---

    @rule(number=st.integers(0, 3), key=st.sampled_from([None, None, "k1", "k2"]))
    def append(self, number: int, key: str | None) -> None:
        self.do(lambda: self.book.append("note.added", {"number": number}, key=key))

    @rule(volume=VOLUMES, path=PATHS, content=CONTENT)
    def write(self, volume: Any, path: str, content: bytes) -> None:
        self.do(lambda: self.book.write(volume, path, content))

    @rule(volume=VOLUMES, path=PATHS, content=CONTENT)
    def extend(self, volume: Any, path: str, content: bytes) -> None:
        self.do(lambda: self.book.volumes.append(volume, path, content))

    @rule(volume=VOLUMES, path=PATHS, onto=PATHS, replace=st.booleans())
    def move(self, volume: Any, path: str, onto: str, *, replace: bool) -> None:
        if path != onto:
            self.do(lambda: self.book.move(volume, path, onto, replace=replace))

    @rule(volume=VOLUMES, path=st.sampled_from(["/a", "/folder", "/"]))
    def delete(self, volume: Any, path: str) -> None:
        self.do(lambda: self.book.delete(volume, path, recursive=True))

    @rule(volume=VOLUMES, path=PATHS, pieces=st.integers(0, 3), keep=st.booleans())
    def stream(self, volume: Any, path: str, pieces: int, *, keep: bool) -> None:
        def call() -> None:
            writer = self.book.writer(volume, path)
            try:
                for piece in range(pieces):
                    writer.write(bytes([piece]) * 700_000)
                if keep:
                    writer.close()
            finally:
                writer.discard()

        self.do(call)

    @rule(source=SOURCES, words=st.sampled_from(["a cat sat", "a dog ran", "x " * 3000]), vector=st.booleans())
    def remember(self, source: str | None, words: str, *, vector: bool) -> None:
        embedding = Embedding("test", [0.25] * 64) if vector else None
        self.do(lambda: self.book.memory.remember(words, source=source, embedding=embedding, aliases=[f"{source}!"]))

    @rule(entry=st.integers(1, 4))
    def forget(self, entry: int) -> None:
        self.do(lambda: self.book.memory.forget(entry))

    @rule(value=st.integers(0, 2))
    def set(self, value: int) -> None:
        self.do(lambda: self.book.settings.set("speed", value))

    @rule(key=st.sampled_from(["s1", "s2", "s3"]))
    def spend(self, key: str) -> None:
        self.do(lambda: self.book.spend.book(5, "usd", source="wallet", target="models/x", key=key))

    @rule(quota=st.sampled_from([1, 10_000, 10**9]))
    def limit(self, quota: int) -> None:
        self.do(lambda: self.book.volumes.set_quota("workspace", quota))

    @rule(content=CONTENT)
    def value(self, content: bytes) -> None:
        self.do(lambda: self.book.volumes.keep_value(content))

    @precondition(lambda self: not self.blocks)
    @rule(share=st.floats(0, 1))
    def rewind(self, share: float) -> None:
        self.do(lambda: self.book.rewind(int(share * self.book.last)))

    # --- what others do with tables of their own ---

    def run(self, statement: str, values: tuple[Any, ...] = ()) -> None:
        """Run a statement in a transaction; what SQLite refuses is undone by it alone, with what it had done so far."""
        with self.book.transaction():
            self.book._store.write_pending()
            try:
                self.book._store.execute(statement, values)
            except InternalError as error:
                if not isinstance(error.__cause__, (apsw.ConstraintError, apsw.MismatchError, apsw.SQLError)):
                    raise

    @precondition(lambda self: self.odd)
    @rule(which=st.sampled_from(STATEMENTS), values=st.lists(VALUES, min_size=3, max_size=3))
    def odd_rows(self, which: tuple[str, int], values: list[Any]) -> None:
        statement, count = which
        self.run(statement, tuple(values[:count]))

    @precondition(lambda self: self.odd)
    @rule(content=st.binary(min_size=1, max_size=50))
    def write_into_a_blob(self, content: bytes) -> None:
        with self.book.transaction():
            self.book._store.execute("INSERT INTO bare (a) VALUES (zeroblob(50))")
            row = self.book._store.db.last_insert_rowid()
            with (
                suppress(apsw.SQLError),  # not where an index has the column
                self.book._store.db.blob_open("main", "bare", "a", row, writeable=True) as blob,
            ):
                blob.write(content)

    @precondition(lambda self: self.odd)
    @rule(statement=st.sampled_from(SCHEMA))
    def change_the_schema(self, statement: str) -> None:
        self.run(statement)

    @precondition(lambda self: self.odd and not self.blocks)
    @rule(statement=st.sampled_from([*(sql for sql, count in STATEMENTS if not count), *SCHEMA, "VACUUM"]))
    def be_a_stranger(self, statement: str) -> None:
        before = self.content()
        with suppress(apsw.Error):
            self.strange(statement)
        self.stranger = self.stranger or self.content() != before

    def content(self) -> Any:
        return self.replica.look()

    @precondition(lambda self: not self.blocks)
    @rule()
    def reopen(self) -> None:
        self.book.close()
        assert self.log.told_left[-1] is not None
        if self.stranger:  # what was written last was noticed when it was closed
            assert self.log.kept[-1].payload is None
        self.book = self.open()

    @precondition(lambda self: not self.blocks)
    @rule()
    def settle(self) -> None:
        assert self.log.members[-1].settle() == self.log.members[-1].standing().txn

    # --- what must be so ---

    @invariant()
    def the_copy_is_the_same(self) -> None:
        if self.blocks or not hasattr(self, "replica"):
            return
        news = len(self.log.kept) > self.replica.taken
        if self.stranger and news:
            assert any(kept.payload is None for kept in self.log.kept[self.replica.taken :]), "a stranger was noticed"
            self.stranger = False
        if not self.stranger:
            self.replica.follow()

    def teardown(self) -> None:
        try:
            while self.blocks:
                self.end()
            self.book.close()
            self.replica.stop()
            assert sorted(os.listdir(self.folder)) == ["m-replica.workbook", "m.workbook"]
            for name in os.listdir(self.folder):
                db = apsw.Connection(str(self.folder / name))
                assert db.pragma("integrity_check") == "ok"
                db.close()
        finally:
            self.book.close()
            shutil.rmtree(self.folder)


def test_records_make_a_copy_the_same() -> None:
    run_state_machine_as_test(Lives, settings=USUAL)


@pytest.mark.torture
@pytest.mark.timeout(3000)
def test_records_make_a_copy_the_same_for_long() -> None:
    run_state_machine_as_test(Lives, settings=TORTURE)
