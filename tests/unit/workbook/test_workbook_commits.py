"""What a workbook tells a log of its commits: everything, in order, once, and when to wait for it."""

from __future__ import annotations

import errno
import struct
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
import sqlite_vec
from tests.unit.workbook.kit import SetClock, lived
from tests.unit.workbook.log_kit import MemoryLog, Replica, Slip

from torpor.base.errors import (
    DurabilityRefused,
    HeartbeatFailed,
    InternalError,
    StorageFailed,
    TransactionEntangled,
    WorkbookDamaged,
    WorkbookError,
)
from torpor.testing import fail_at, record
from torpor.testing.disk import BrokenDisk, BrokenSync, Fault
from torpor.workbook import Durability, Joining, Level, Workbook, digest, fork
from torpor.workbook.mark import mark_path


@pytest.fixture
def log(tmp_path: Path) -> MemoryLog:
    return MemoryLog(str(tmp_path))


@pytest.fixture
def told(path: Path, clock: SetClock, log: MemoryLog) -> Iterator[Workbook]:
    """Return a workbook that tells `log` of its commits."""
    with Workbook.open(path, durability=log.durability(), clock=clock) as book:
        yield book


def strange(path: Path, *statements: str) -> None:
    """Run statements on a connection of one's own."""
    with closing(apsw.Connection(str(path))) as db:
        for statement in statements:
            db.execute(statement)


def payload(log: MemoryLog, at: int = -1) -> Any:
    found = log.kept[at].payload
    assert found is not None
    return msgspec.msgpack.decode(found)


# --- records ---


def test_a_plain_append_is_its_row_and_nothing_else(told: Workbook, log: MemoryLog) -> None:
    told.append("note.added", {"text": "hello"}, span="s", parent=None)
    (row,) = told._store.rows("SELECT * FROM events")
    assert payload(log) == [[list(row)], None]
    assert (log.kept[-1].txn, log.kept[-1].head) == (1, row[9])


def test_several_events_of_one_transaction_are_one_record(told: Workbook, log: MemoryLog) -> None:
    with told.transaction():
        for number in range(200):
            told.append("note.added", {"number": number}, key=f"k{number}")
    assert [kept.txn for kept in log.kept] == [1]
    rows, changes = payload(log)
    assert [row[0] for row in rows] == list(range(1, 201))
    assert changes is None


def test_records_are_numbered_without_a_gap(told: Workbook, log: MemoryLog) -> None:
    told.append("note.added", {})
    told.write("tmp", "/scratch", b"leaves no event")
    told.append("note.added", {}, key="k")
    told.append("note.added", {}, key="k")
    with told.transaction():
        pass
    told.write("workspace", "/a.txt", b"a")
    assert [kept.txn for kept in log.kept] == [1, 2, 3, 4]
    assert log.members[0].standing().txn == 4


def test_what_a_savepoint_undid_is_not_in_the_record(told: Workbook, path: Path, log: MemoryLog) -> None:
    replica = Replica(path, log)
    with told.transaction():
        told.append("note.added", {"number": 1})
        with pytest.raises(ZeroDivisionError), told.transaction():
            told.append("note.added", {"number": 2})
            told.write("workspace", "/undone.txt", b"x" * 100_000)
            raise ZeroDivisionError
        told.append("note.added", {"number": 3})
    rows, _ = payload(log)
    assert [msgspec.json.decode(row[5])["number"] for row in rows] == [1, 3]
    assert b"xxxx" not in (log.kept[-1].payload or b"")
    replica.follow()
    replica.stop()


def test_a_transaction_that_is_undone_has_no_record_and_spoils_none(told: Workbook, path: Path, log: MemoryLog) -> None:
    replica = Replica(path, log)
    with pytest.raises(ZeroDivisionError), told.transaction():
        told.write("workspace", "/undone.txt", b"x")
        told._store.execute("CREATE TABLE undone (a)")
        raise ZeroDivisionError
    assert log.kept == []
    told.write("workspace", "/kept.txt", b"x")
    replica.follow()
    assert replica.snapshots == 1
    replica.stop()


CASES = {
    "a table without a key": (
        "CREATE TABLE t (a, b)",
        "INSERT INTO t VALUES (1, 2), (1, 2); DELETE FROM t WHERE rowid = 1; UPDATE t SET b = 3",
    ),
    "NULL in a key": (
        "CREATE TABLE t (k TEXT PRIMARY KEY, v)",
        "INSERT INTO t VALUES (NULL, 1), (NULL, 2), ('a', 3); UPDATE t SET v = 4 WHERE k IS NULL AND v = 1",
    ),
    "rowids beside a key, which an index of words refers to": (
        """CREATE TABLE t (k TEXT PRIMARY KEY, v); CREATE VIRTUAL TABLE w USING fts5 (v, content = 't');
        INSERT INTO t VALUES ('z', 'cat'), ('y', 'dog'), ('x', 'cow'); INSERT INTO w (w) VALUES ('rebuild')""",
        """DELETE FROM t WHERE k = 'y'; INSERT INTO w (w, rowid, v) VALUES ('delete', 2, 'dog');
        INSERT INTO t VALUES ('a', 'owl'); INSERT INTO w (rowid, v) VALUES (last_insert_rowid(), 'owl')""",
    ),
    "AUTOINCREMENT": (
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, v)",
        "INSERT INTO t (v) VALUES (1), (2), (3); DELETE FROM t WHERE id = 3",
    ),
    "a sequence set by hand": (
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, v); INSERT INTO t (v) VALUES (1)",
        "UPDATE sqlite_sequence SET seq = 41 WHERE name = 't'",
    ),
    "triggers": (
        """CREATE TABLE t (a); CREATE TABLE seen (a, n);
        CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO seen VALUES (new.a, random()); END""",
        "INSERT INTO t VALUES (1), (2)",
    ),
    "cascades": (
        """CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p REFERENCES p (id) ON DELETE CASCADE, v);
        CREATE TRIGGER r AFTER DELETE ON c BEGIN INSERT INTO c VALUES (NULL, random()); END;
        INSERT INTO p VALUES (1), (2); INSERT INTO c VALUES (1, 'a'), (1, 'b'), (2, 'c')""",
        "DELETE FROM p WHERE id = 1",
    ),
    "WITHOUT ROWID": (
        "CREATE TABLE t (a COLLATE NOCASE, b, c, PRIMARY KEY (b, a)) WITHOUT ROWID; INSERT INTO t VALUES ('x', 1, 2)",
        "INSERT INTO t VALUES ('A', 1, 1), ('B', 1, 1); UPDATE t SET a = upper(a); DELETE FROM t WHERE a = 'b'",
    ),
    "all rows at once": ("CREATE TABLE t (a); INSERT INTO t VALUES (1), (2)", "DELETE FROM t"),
    "a replaced row": (
        "CREATE TABLE t (a UNIQUE, b UNIQUE); INSERT INTO t VALUES (1, 1), (2, 2)",
        "INSERT OR REPLACE INTO t VALUES (1, 2)",
    ),
    "rows that take each other's places": (
        "CREATE TABLE t (a UNIQUE); INSERT INTO t VALUES (1), (2), (3)",
        "UPDATE t SET a = -a; UPDATE t SET a = 4 + a",
    ),
    "computed columns": (
        "CREATE TABLE t (a, twice AS (a * 2) STORED, b, more AS (a + b) VIRTUAL)",
        "INSERT INTO t (a, b) VALUES (1, 2); UPDATE t SET a = 5",
    ),
    "computed columns without a rowid": (
        "CREATE TABLE t (twice AS (k * 2) STORED, v, k PRIMARY KEY) WITHOUT ROWID; INSERT INTO t (k, v) VALUES (1, 2)",
        "INSERT INTO t (k, v) VALUES (3, 4); UPDATE t SET k = 5 WHERE k = 1",
    ),
    "columns called like the rowid": (
        "CREATE TABLE t (rowid, oid)",
        "INSERT INTO t VALUES (7, 7), (7, 8); UPDATE t SET _rowid_ = 9 WHERE oid = 7",
    ),
    "odd names": (
        'CREATE TABLE "a ""b" ("select" PRIMARY KEY, "x y") WITHOUT ROWID',
        'INSERT INTO "a ""b" VALUES (1, 2)',
    ),
    "words kept in memory until the commit": (
        "CREATE VIRTUAL TABLE w USING fts5 (v, content = '', columnsize = 0)",
        "INSERT INTO w (rowid, v) VALUES (1, 'cat')",
    ),
    "an rtree": ("CREATE VIRTUAL TABLE r USING rtree (id, a, b)", "INSERT INTO r VALUES (1, 0, 1), (2, 3, 4)"),
    "a trigger of one's own on the journal": (
        """CREATE TABLE seen (kind);
        CREATE TRIGGER r AFTER INSERT ON events BEGIN INSERT INTO seen VALUES (new.kind); END""",
        "",
    ),
    "values of all kinds": (
        "CREATE TABLE t (a)",
        """INSERT INTO t VALUES (NULL), (9223372036854775807), (-0.0), (9e999), (''), (char(0) || 'ä'), (x''),
        (x'00ff'), (1.0)""",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_tables_of_ones_own_come_along_by_records_alone(path: Path, log: MemoryLog, case: str) -> None:
    made, changed = CASES[case]
    with Workbook.open(path):
        pass
    strange(path, made)
    with Workbook.open(path, durability=log.durability()) as book:
        replica = Replica(path, log)
        with book.transaction():
            for statement in changed.split(";"):
                book._store.execute(statement)
        book.append("note.added", {})
        replica.follow()
        replica.stop()
        assert (replica.snapshots, len(log.kept)) == (1, 1 + bool(changed))


def test_a_blob_written_piece_by_piece_comes_along(path: Path, log: MemoryLog) -> None:
    with Workbook.open(path):
        pass
    strange(path, "CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(100))")
    with Workbook.open(path, durability=log.durability()) as book:
        replica = Replica(path, log)
        with book.transaction(), book._store.db.blob_open("main", "t", "a", 1, writeable=True) as blob:
            blob.seek(50)
            blob.write(b"middle")
        replica.follow()
        replica.stop()
    assert [kept.txn for kept in log.kept] == [1]


def test_a_table_of_vectors_comes_along(path: Path, log: MemoryLog) -> None:
    def load(db: apsw.Connection) -> None:
        db.enable_load_extension(True)
        db.load_extension(sqlite_vec.loadable_path())
        db.enable_load_extension(False)

    def vector(first: float) -> bytes:
        return struct.pack("<4f", first, 1, 2, 3)

    with Workbook.open(path):
        pass
    with closing(apsw.Connection(str(path))) as db:
        load(db)
        db.execute("CREATE VIRTUAL TABLE x_vectors USING vec0 (e float[4])")
    with Workbook.open(path, durability=log.durability()) as book:
        replica = Replica(path, log)
        load(book._store.db)
        for row in range(5):
            with book.transaction():
                book._store.execute("INSERT INTO x_vectors (rowid, e) VALUES (?, ?)", (row, vector(row)))
        with book.transaction():
            book._store.execute("DELETE FROM x_vectors WHERE rowid = 1")
        replica.follow()
        replica.stop()
        assert replica.snapshots == 1
    with closing(apsw.Connection(str(replica.copy))) as db:
        load(db)
        near = db.execute("SELECT rowid FROM x_vectors WHERE e MATCH ? AND k = 3", (vector(0),))
        assert [row for (row,) in near] == [0, 2, 3]


def test_everything_that_an_agent_does_comes_along(path: Path, log: MemoryLog) -> None:
    with Workbook.open(path):
        pass
    replica = Replica(path, log)
    replica.stop()
    with Workbook.open(path, durability=log.durability(), clock=SetClock()) as book:
        replica.start()
        book.write("workspace", "/a.txt", b"a" * 200_000)
        book.memory.remember("the quick fox", source="fox", aliases=["reynard"])
        then = book.last
        with book.writer("workspace", "/long.bin") as writer:
            writer.write(b"b" * 3_000_000)
        book.memory.forget(1)
        book.rewind(then)
        replica.follow()
        replica.stop()
        assert replica.snapshots == 2
    with Workbook.open(replica.copy, readonly=True) as copy:
        assert copy.verify().problems == ()
        assert [found.entry.content for found in copy.memory.search("quick")] == ["the quick fox"]


# --- what can't be recorded ---


def test_a_changed_schema_is_told_as_broken_and_records_go_on_after_it(
    told: Workbook, path: Path, log: MemoryLog
) -> None:
    replica = Replica(path, log)
    told.append("note.added", {})
    with record() as reached, told.transaction():
        told._store.execute("CREATE TABLE mine (a)")
    assert (log.kept[-1].txn, log.kept[-1].payload) == (2, None)
    assert "record.broken" in reached
    with told.transaction():
        told._store.execute("INSERT INTO mine VALUES (1)")
    told.append("note.added", {})
    assert [kept.payload is None for kept in log.kept] == [False, True, False, False]
    replica.follow()
    replica.stop()


def test_what_is_broken_is_in_the_file_before_the_log_is_told(path: Path, log: MemoryLog) -> None:
    seen: list[int] = []

    class Careful(MemoryLog):
        def broken(self, txn: int, head: bytes) -> Slip:
            seen.append(vfs.count)
            return super().broken(txn, head)

    careful = Careful(str(path.parent))
    with BrokenSync("counted") as vfs:
        durability = Durability("heartbeat", "NORMAL", vfs="counted", log=careful)
        with Workbook.open(path, durability=durability) as book:
            book.append("note.added", {})  # SQLite syncs the head of a new log
            before = vfs.count
            book.append("note.added", {})
            assert vfs.count == before, "a commit of this class doesn't sync"
            with book.transaction():
                book._store.execute("CREATE TABLE mine (a)")
    assert seen
    assert seen[0] > before


@pytest.mark.parametrize("act", ["append", "keyed", "write"])
def test_a_strangers_write_is_noticed_by_the_next_commit(told: Workbook, path: Path, log: MemoryLog, act: str) -> None:
    replica = Replica(path, log)
    told.append("note.added", {})
    strange(path, "INSERT INTO settings VALUES ('theirs', '1', 1)")
    if act == "append":
        told.append("note.added", {})
    elif act == "keyed":
        told.append("note.added", {}, key="k")
    else:
        told.write("tmp", "/a", b"a")
    assert [kept.payload is None for kept in log.kept] == [False, True]
    told.append("note.added", {})
    assert log.kept[-1].payload is not None
    replica.follow()
    replica.stop()


def test_a_strangers_write_that_a_read_has_met_already_is_noticed_too(
    told: Workbook, path: Path, log: MemoryLog
) -> None:
    told.append("note.added", {})
    strange(path, "INSERT INTO settings VALUES ('theirs', '1', 1)")
    assert told.settings.all() == {"theirs": "1"}
    told.append("note.added", {})
    assert log.kept[-1].payload is None


def test_readers_and_checkpoints_of_others_break_nothing(told: Workbook, path: Path, log: MemoryLog) -> None:
    for _ in range(3):
        told.append("note.added", {})
        with Workbook.open(path, readonly=True) as reader:
            assert reader.last == told.last
        strange(path, "PRAGMA wal_checkpoint(PASSIVE)")
        told.write("tmp", "/a", b"a")
    assert all(kept.payload is not None for kept in log.kept)


def test_what_is_changed_outside_of_transactions_is_noticed(told: Workbook, log: MemoryLog) -> None:
    told.append("note.added", {})
    told._store.db.execute("INSERT INTO settings VALUES ('aside', '1', 1)")
    told.append("note.added", {})
    assert log.kept[-1].payload is None
    told._store.db.execute("CREATE TABLE aside (a)")
    told.append("note.added", {})
    assert log.kept[-1].payload is None
    told.append("note.added", {})
    assert log.kept[-1].payload is not None


def test_an_event_that_the_journal_did_not_write_is_noticed(told: Workbook, log: MemoryLog) -> None:
    with told.transaction():
        told._store.execute(
            "INSERT INTO events VALUES (1, randomblob(16), 0, 'a.b', 1, '{}', NULL, NULL, NULL, randomblob(32), 1)"
        )
    assert log.kept[-1].payload is None


def test_text_that_is_not_unicode_is_noticed(path: Path, log: MemoryLog) -> None:
    with Workbook.open(path):
        pass
    strange(path, "CREATE TABLE t (a)")
    with Workbook.open(path, durability=log.durability()) as book:
        with book.transaction():
            book._store.execute("INSERT INTO t VALUES (CAST(x'ff' AS TEXT))")
        assert log.kept[-1].payload is None
        book.append("note.added", {})
        assert log.kept[-1].payload is not None


@pytest.mark.parametrize(
    "table",
    [
        "CREATE TABLE t (rowid, oid, _rowid_)",
        "CREATE TABLE t (rowid PRIMARY KEY, oid, _rowid_, v AS (oid || oid) VIRTUAL) WITHOUT ROWID",
    ],
)
def test_a_table_whose_rows_have_no_name_is_noticed(path: Path, log: MemoryLog, table: str) -> None:
    with Workbook.open(path):
        pass
    strange(path, table)
    with Workbook.open(path, durability=log.durability()) as book:
        with book.transaction():
            book._store.execute("INSERT INTO t VALUES (1, 2, 3)")
        assert log.kept[-1].payload is None
        assert book._store.row("SELECT * FROM t") is not None


def test_more_than_a_record_holds_is_noticed_and_takes_no_memory(told: Workbook, log: MemoryLog) -> None:
    told.write("tmp", "/large", bytes(65 * 2**20))
    assert log.kept[-1].payload is None
    told.write("tmp", "/small", b"a")
    assert log.kept[-1].payload is not None


# --- waiting ---


@pytest.mark.parametrize("act", ["append", "keyed", "transaction", "write"])
def test_whoever_waits_for_the_log_holds_no_lock(path: Path, tmp_path: Path, act: str) -> None:
    class Impatient(Slip):
        def wait(self, level: Level) -> None:
            super().wait(level)
            if threading.current_thread() is threading.main_thread():
                other = threading.Thread(target=book.append, args=("note.added", {"who": "other"}))
                other.start()
                other.join(20)
                assert not other.is_alive(), "another thread can't commit meanwhile"

    class Slow(MemoryLog):
        def add(self, txn: int, head: bytes, payload: bytes) -> Slip:
            super().add(txn, head, payload)
            return Impatient(self, txn)

    log = Slow(str(tmp_path))
    with Workbook.open(path, durability=log.durability()) as book:
        match act:
            case "append":
                book.append("note.added", {})
            case "keyed":
                book.append("note.added", {}, key="k")
            case "transaction":
                with book.transaction(), book.transaction():
                    book.append("note.added", {})
            case _:
                book.write("workspace", "/a", b"a")
        assert [kept.txn for kept in log.kept] == [1, 2]
        assert [txn for txn, _ in log.waited] == [1, 2]


def test_what_changes_nothing_waits_for_nothing(told: Workbook, log: MemoryLog) -> None:
    with told.transaction():
        pass
    with pytest.raises(ZeroDivisionError), told.transaction():
        told.append("note.added", {})
        raise ZeroDivisionError
    assert told.settings.all() == {}
    assert (log.kept, log.waited) == ([], [])


def test_the_strongest_class_asked_within_a_transaction_counts(told: Workbook, log: MemoryLog) -> None:
    log.reach = Level.REPLICATED
    told.append("note.added", {})
    told.append("note.added", {}, durability="replicated")
    told.append("note.added", {}, key="k", durability="replicated")
    with told.transaction():
        told.append("note.added", {}, durability="replicated")
        told.append("note.added", {}, durability="file")
    with told.transaction(durability="heartbeat"), told.transaction(durability="replicated"):
        told.append("note.added", {})
    with told.transaction(durability="file"):
        told.append("note.added", {})
    assert [level for _, level in log.waited] == [1, 2, 2, 2, 2, 1]


def test_a_weaker_class_than_the_nodes_may_be_asked_for(path: Path, tmp_path: Path) -> None:
    log = MemoryLog(str(tmp_path), level=Level.REPLICATED, reach=Level.REPLICATED)
    with Workbook.open(path, durability=log.durability()) as book:
        book.append("note.added", {})
        book.append("note.added", {}, durability="heartbeat")
        with book.transaction():
            book.append("note.added", {}, durability="heartbeat")
        with book.transaction(durability="heartbeat"):
            book.append("note.added", {})
    assert [level for _, level in log.waited] == [2, 1, 2, 1]


@pytest.mark.parametrize("asked", ["replicated", "heartbeats", ""])
def test_a_class_that_is_not_to_be_had_is_refused_and_nothing_is_written(
    book: Workbook, asked: str, tmp_path: Path
) -> None:
    with Workbook.open(tmp_path / "other.workbook", durability=MemoryLog(str(tmp_path)).durability()) as other:
        for each in (book, other):
            with pytest.raises(DurabilityRefused):
                each.append("note.added", {}, durability=asked)
            with pytest.raises(DurabilityRefused):
                each.transaction(durability=asked)
            with each.transaction(), pytest.raises(DurabilityRefused):
                each.append("note.added", {}, durability=asked)
            assert each.last == 0


def test_a_file_of_its_own_gives_the_weaker_classes(path: Path) -> None:
    with Workbook.open(path) as book, book.transaction(durability="heartbeat"):
        book.append("note.added", {}, durability="file")


# --- a log that fails ---


@pytest.mark.parametrize("key", [None, "k"])
def test_a_commit_that_the_log_refuses_stands_and_the_next_is_broken(
    told: Workbook, path: Path, log: MemoryLog, key: str | None
) -> None:
    replica = Replica(path, log)
    log.adds_fail = True
    with pytest.raises(HeartbeatFailed):
        told.append("note.added", {"number": 1}, key=key)
    log.adds_fail = False
    assert told.last == 1
    told.append("note.added", {"number": 2})
    assert [(kept.txn, kept.payload is None) for kept in log.kept] == [(2, True)]
    told.append("note.added", {"number": 3})
    replica.follow()
    replica.stop()
    assert [event.body["number"] for event in told.events()] == [1, 2, 3]


def test_nothing_is_committed_once_the_log_has_failed_for_good(told: Workbook, path: Path, log: MemoryLog) -> None:
    told.append("note.added", {"number": 1})
    before = digest(path)
    log.failed = HeartbeatFailed(path="memory", reason="told to")

    def both() -> None:
        with told.transaction():
            told.append("note.added", {})
            told.write("workspace", "/a.txt", b"a")

    for act in (
        lambda: told.append("note.added", {}),
        lambda: told.append("note.added", {}, key="k"),
        lambda: told.write("workspace", "/a.txt", b"a" * 10_000),
        both,
    ):
        for _ in range(2):
            with pytest.raises(HeartbeatFailed):
                act()
            assert digest(path) == before
    with told.transaction():
        assert told.last == 1, "what changes nothing is no commit"
    assert len(log.kept) == 1
    log.failed = None
    told.append("note.added", {"number": 2})
    assert [(kept.txn, kept.payload is None) for kept in log.kept] == [(1, False), (2, False)]
    assert told.verify().problems == ()


def test_a_wait_that_fails_leaves_the_record_as_it_is(told: Workbook, log: MemoryLog) -> None:
    log.waits_fail = True
    with pytest.raises(HeartbeatFailed):
        told.append("note.added", {})
    with pytest.raises(HeartbeatFailed), told.transaction():
        told.append("note.added", {})
    log.waits_fail = False
    told.append("note.added", {})
    assert [(kept.txn, kept.payload is None) for kept in log.kept] == [(1, False), (2, False), (3, False)]


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("point", ["record.committed", "record.added"])
def test_a_commit_that_is_interrupted_before_it_is_recorded_makes_the_next_broken(
    told: Workbook, path: Path, log: MemoryLog, point: str, key: str | None
) -> None:
    replica = Replica(path, log)
    with fail_at(point, InternalError(promise="not to be interrupted")), pytest.raises(InternalError):
        told.append("note.added", {"number": 1}, key=key)
    told.append("note.added", {"number": 2})
    assert log.kept[-1].txn == 2
    assert (log.kept[-1].payload is None) == (point == "record.committed")
    replica.follow()
    replica.stop()


def test_a_log_that_takes_nobody_in_leaves_the_workbook_free(path: Path, tmp_path: Path) -> None:
    class Closed(MemoryLog):
        def join(self, member: Joining) -> MemoryLog:
            assert member.standing().txn == 0
            raise HeartbeatFailed(path=self.folder, reason="told to")

    with pytest.raises(HeartbeatFailed):
        Workbook.open(path, durability=Closed(str(tmp_path)).durability())
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    with Workbook.open(path) as book:
        book.append("note.added", {})


@pytest.mark.parametrize("act", ["append", "keyed", "write"])
def test_a_commit_that_the_disk_refuses_is_not_recorded_and_breaks_nothing(
    path: Path, log: MemoryLog, act: str
) -> None:
    def commit() -> None:
        match act:
            case "append":
                book.append("note.added", {"text": "x" * 9000})
            case "keyed":
                book.append("note.added", {"text": "x" * 9000}, key="k")
            case _:
                book.write("workspace", "/a.txt", b"x" * 9000)

    with BrokenDisk(path.parent) as disk, Workbook.open(path, durability=log.durability()) as book:
        book.append("note.added", {})
        replica = Replica(path, log)
        disk.set(Fault("write", 1, errno.EIO, suffix="-wal"))
        with pytest.raises(StorageFailed):
            commit()
        assert disk.struck
        disk.lift()
        commit()
        assert [kept.txn for kept in log.kept] == [1, 2]
        replica.taken = 1
        replica.follow()
        replica.stop()
        assert replica.snapshots == 1


# --- settling and leaving ---


def test_a_file_that_nobody_writes_is_settled_at_once(told: Workbook, log: MemoryLog) -> None:
    told.append("note.added", {})
    assert log.members[0].settle() == 1
    assert log.told_settled == []
    told.append("note.added", {})
    assert log.kept[-1].payload is not None


def test_within_a_transaction_settling_is_put_off_to_its_end(told: Workbook, log: MemoryLog) -> None:
    with told.transaction():
        told.append("note.added", {})
        assert log.members[0].settle() is None
    assert log.told_settled == [1]
    told.append("note.added", {})
    assert log.told_settled == [1]


def test_another_thread_is_never_kept_waiting_by_settling(told: Workbook, log: MemoryLog) -> None:
    found: list[int | None] = []
    with told.transaction():
        told.append("note.added", {})
        other = threading.Thread(target=lambda: found.append(log.members[0].settle()))
        other.start()
        other.join(20)
        assert found == [None]
    assert log.told_settled == [1]


def test_a_reader_that_holds_on_to_the_log_does_not_keep_the_file_from_being_settled(
    path: Path, tmp_path: Path
) -> None:
    log = MemoryLog(str(tmp_path))
    with (
        BrokenSync("counted") as vfs,
        Workbook.open(path, durability=Durability("heartbeat", "NORMAL", vfs="counted", log=log)) as book,
    ):
        book.write("workspace", "/a", b"a")
        with book.reader("workspace", "/a"):
            book.append("note.added", {})
            before = vfs.count
            assert log.members[0].settle() == 2
            assert vfs.count > before
            book.append("note.added", {})
            assert log.kept[-1].payload is not None


def test_a_closed_workbook_settles_nothing(path: Path, log: MemoryLog) -> None:
    with Workbook.open(path, durability=log.durability()) as book:
        book.append("note.added", {})
    assert log.members[0].settle() is None


def test_leaving_says_where_the_workbook_stands(path: Path, log: MemoryLog) -> None:
    with Workbook.open(path, durability=log.durability()) as book:
        book.append("note.added", {})
        standing = log.members[0].standing()
        assert (standing.agent, standing.txn, standing.seq, standing.head) == (book.agent, 1, *book.head)
    assert log.told_left == [standing]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_file_that_could_not_be_completed_still_needs_the_log(path: Path, tmp_path: Path) -> None:
    log = MemoryLog(str(tmp_path))
    with BrokenSync("broken") as vfs:
        book = Workbook.open(path, durability=Durability("heartbeat", "NORMAL", vfs="broken", log=log))
        book.append("note.added", {})
        vfs.nth = vfs.count + 1
        with pytest.raises(StorageFailed):
            book.close()
    assert log.told_left == [None]
    assert Path(mark_path(str(path))).exists()
    with Workbook.open(path, durability=log.durability()) as book:
        assert book.last == 1
    assert log.told_left[1] is not None
    assert not Path(mark_path(str(path))).exists()


def test_a_transaction_that_is_open_keeps_the_workbook_open(told: Workbook, log: MemoryLog) -> None:
    with told.transaction(), pytest.raises(TransactionEntangled):
        told.close()
    assert log.told_left == []


def test_a_workbook_with_a_life_behind_it_joins_where_it_stands(path: Path, log: MemoryLog) -> None:
    lived(path)
    with Workbook.open(path, durability=log.durability()) as book:
        standing = log.members[0].standing()
        book.append("note.added", {})
    assert log.kept[0].txn == standing.txn + 1


def test_forks_and_exports_of_a_workbook_tell_its_log_nothing(told: Workbook, tmp_path: Path, log: MemoryLog) -> None:
    told.append("note.added", {})
    fork(told.path, str(tmp_path / "child.workbook"), agent=told.new_id(), durability=log.durability())
    assert len(log.kept) == len(log.members) == 1


def test_a_file_that_is_no_workbook_any_more_is_refused_before_it_joins(path: Path, log: MemoryLog) -> None:
    with Workbook.open(path):
        pass
    strange(path, "PRAGMA writable_schema = 1", "DELETE FROM sqlite_schema WHERE name = 'meta'")
    with pytest.raises((WorkbookDamaged, WorkbookError)):
        Workbook.open(path, durability=log.durability())
    assert log.members == []


def test_a_strangers_write_is_noticed_at_the_latest_when_the_workbook_is_closed(path: Path, log: MemoryLog) -> None:
    with Workbook.open(path, durability=log.durability()) as book:
        book.append("note.added", {})
        strange(path, "INSERT INTO settings VALUES ('theirs', '1', 1)")
    assert [(kept.txn, kept.payload is None) for kept in log.kept] == [(1, False), (1, True)]
    with Workbook.open(path, durability=log.durability()) as book:
        assert book.settings.all() == {"theirs": "1"}
    assert len(log.kept) == 2


def test_a_commit_that_the_log_never_got_is_told_when_the_workbook_is_closed(path: Path, log: MemoryLog) -> None:
    with Workbook.open(path, durability=log.durability()) as book:
        log.adds_fail = True
        with pytest.raises(HeartbeatFailed):
            book.append("note.added", {})
        log.adds_fail = False
    assert [(kept.txn, kept.payload is None) for kept in log.kept] == [(1, True)]


def test_checkpoints_of_sqlites_own_break_nothing(told: Workbook, log: MemoryLog) -> None:
    told._store.db.wal_autocheckpoint(20)
    for number in range(300):
        told.append("note.added", {"text": "x" * 3000}, key=str(number) if number % 3 == 0 else None)
    assert all(kept.payload is not None for kept in log.kept)
    assert len(log.kept) == 300
