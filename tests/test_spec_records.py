"""SPEC.md, «Records of commits», is true: replayed by its words, with another SQLite and none of our code."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import apsw
import msgspec
from tests.unit.workbook.kit import SetClock
from tests.unit.workbook.log_kit import MemoryLog

from torpor.workbook import Embedding, Workbook, digest, snapshot

ROOT = Path(__file__).parents[1]
SPEC = (ROOT / "SPEC.md").read_text(encoding="utf-8")

THEIRS = """
CREATE TABLE x_named (k TEXT PRIMARY KEY, v);
CREATE TABLE x_packed (b, a, v, more AS (v || v) STORED, PRIMARY KEY (a, b)) WITHOUT ROWID;
CREATE TABLE x_counted (id INTEGER PRIMARY KEY AUTOINCREMENT, v);
CREATE TRIGGER x_seen AFTER INSERT ON x_named BEGIN INSERT INTO x_counted (v) VALUES (new.k); END;
"""


def replay(db: sqlite3.Connection, payload: bytes) -> None:
    """Do what the page says."""
    events, changes = msgspec.msgpack.decode(payload)
    for name, of in db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall():
        assert of
        db.execute(f"DROP TRIGGER {name}")  # this module of Python's has no switch for them
    db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", events)
    for table, gone, rows in changes or ():
        columns, key = described(db, table)
        where = " AND ".join(f'"{column}" = ?' for column in key)
        if table == "sqlite_sequence":
            db.execute("DELETE FROM sqlite_sequence")
        keys = [*gone, *([row[columns.index(column)] for column in key] for row in rows)]
        db.executemany(f'DELETE FROM "{table}" WHERE {where}', keys)  # noqa: S608  (names from the schema)
        names, marks = ", ".join(f'"{column}"' for column in columns), ", ".join("?" * len(columns))
        db.executemany(f'INSERT INTO "{table}" ({names}) VALUES ({marks})', rows)  # noqa: S608  (as above)


def described(db: sqlite3.Connection, table: str) -> tuple[list[str], list[str]]:
    """Return the columns of a row and of its key."""
    info = db.execute(f"PRAGMA table_xinfo({table})").fetchall()
    columns = [row[1] for row in info if row[6] not in (2, 3)]
    declared = [row[1] for row in sorted(info, key=lambda row: row[5]) if row[5]]
    without = db.execute("SELECT wr FROM pragma_table_list WHERE name = ?", (table,)).fetchone()[0]
    whole = [row[1] for row in info if row[5] and row[2].upper() == "INTEGER"]
    if without:
        return columns, declared
    if len(declared) == 1 and whole:
        return columns, declared
    return ["rowid", *columns], ["rowid"]


def test_records_replayed_by_the_page_lead_to_the_same_workbook(tmp_path: Path) -> None:
    path, copy = tmp_path / "a.workbook", tmp_path / "b.workbook"
    log = MemoryLog(str(tmp_path))
    with Workbook.open(path) as book:
        book.append("note.added", {})
    db = apsw.Connection(str(path))
    db.execute(THEIRS)
    db.close()
    snapshot(path, str(copy))
    with Workbook.open(path, durability=log.durability(), clock=SetClock()) as book:
        live(book)
    assert all(kept.payload for kept in log.kept)
    before = triggers(copy)
    other = sqlite3.connect(copy, isolation_level=None)
    version = other.execute("PRAGMA schema_version").fetchone()[0]
    for kept in log.kept:
        other.execute("BEGIN")
        replay(other, kept.payload or b"")
        other.execute("COMMIT")
    for sql in before:
        other.execute(sql)
    other.execute(f"PRAGMA schema_version = {version}")
    other.close()
    assert digest(copy) == digest(path)


def triggers(path: Path) -> list[str]:
    db = sqlite3.connect(path)
    found = [row[0] for row in db.execute("SELECT sql FROM sqlite_schema WHERE type = 'trigger'")]
    db.close()
    return found


def live(book: Workbook) -> None:
    book.append("note.added", {"text": "Zürich"}, key="k")
    book.write("workspace", "/a.txt", b"a" * 100_000)
    book.memory.remember("a pond is deep", source="pond", aliases=["lake"], embedding=Embedding("test", [0.5, 1.0]))
    book.settings.set("interests", "frogs")
    book.spend.book(5, "usd", source="wallet", target="models", key="first")
    with book.transaction():
        run: Any = book._store.execute
        run("INSERT INTO x_named VALUES ('z', 1), (NULL, 2.5), (NULL, x'00')")
        run("INSERT INTO x_packed (a, b, v) VALUES (1, 2, 'v'), (2, 1, NULL)")
        run("DELETE FROM x_counted WHERE id = 3")
    book.memory.forget(1)
    book.delete("workspace", "/a.txt")
    book.rewind(3)
    with book.transaction():
        run("DELETE FROM x_packed WHERE a = 1")
        run("UPDATE x_named SET v = NULL WHERE k IS NULL")


def test_the_invariants_of_records_are_numbered_and_say_what_must_be() -> None:
    listed = re.findall(r"^- \*\*REC-(\d+)\*\* (.*(?:\n  .*)*)", SPEC, re.MULTILINE)
    assert [int(number) for number, _ in listed] == list(range(1, len(listed) + 1))
    assert all("MUST" in text for _, text in listed)
