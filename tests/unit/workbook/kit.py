"""What the tests of the workbook share: a clock that is set by hand, and a way into a closed file past our own code."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from torpor.workbook import Embedding, Workbook

NOW = 1_800_000_000_000_000


class SetClock:
    """A clock that stands still until it is set."""

    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def now_us(self) -> int:
        return self.now


class TickingClock(SetClock):
    """A clock that goes on by a second whenever somebody looks at it."""

    def now_us(self) -> int:
        self.now += 1_000_000
        return self.now


def tamper(path: Path, *statements: str, checks: bool = False) -> None:
    """Change a closed workbook behind its back, as somebody with an SQLite shell would."""
    db = apsw.Connection(str(path))
    try:
        db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
        db.pragma("ignore_check_constraints", not checks)
        db.pragma("foreign_keys", False)
        for trigger in ("events_are_final", "events_are_kept", "spend_is_final", "spend_is_kept"):
            row = db.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (trigger,)).fetchone()
            assert row
            db.execute(f"DROP TRIGGER {trigger}")
            statements = (*statements, row[0])
        for statement in statements:
            db.execute(statement)
    finally:
        db.close()


def filled(path: Path) -> Path:
    """Make a workbook with something of everything in it, and close it."""
    with Workbook.open(path, clock=SetClock()) as book:
        for number in range(5):
            book.append("note.added", {"number": number}, span="s-1", key=f"note-{number}")
        intent = book.append("step.intended", {"name": "look"}, span="s-1")
        book.append("step.completed", {"result": 1}, span="s-1", parent=intent)
        book.append("run.started", {"message": "brief"}, span="r-1")
        book.append("run.completed", {}, span="r-1")
        book.write("workspace", "/a/one.txt", b"one" * 50_000)
        book.volumes.append("workspace", "/a/one.txt", b"two")
        book.write("memory", "/m.txt", b"mine")
        book.write("tmp", "/t.txt", b"scratch")
        book.volumes.keep_value(b"a big value")
        book.volumes.set_quota("memory", 1_000_000)
        book.memory.remember("the lazy dog", source="dog", aliases=["hound"], metadata={"legs": 4})
        book.memory.remember("the quick fox", source="fox")
        book.spend.book(7, "usd", source="wallet", target="models/local", key="call-1")
        book.settings.set("interests", "durable systems")
    return path


def lived(path: Path) -> Path:
    """Make a workbook as `filled` does, that went on, was rewound to where it was then, and went another way."""
    with Workbook.open(filled(path), clock=SetClock()) as book:
        then = book.last
        book.write("workspace", "/a/one.txt", b"another")
        book.volumes.append("workspace", "/a/one.txt", b" one")
        book.memory.remember("the lazy cat", source="dog", embedding=Embedding("test", [0.5, 1.0]))
        book.memory.forget(2)
        book.spend.book(9, "usd", source="wallet", target="models/local", key="call-2")
        book.settings.set("interests", "cats")
        book.append("note.added", {"number": 9}, key="note-9")
        book.rewind(then, why="it was no good")
        book.write("memory", "/m.txt", b"mine still")
        book.memory.remember("the quick hare", source="fox")
        book.append("note.added", {"number": 10}, key="note-9")
    return path


@dataclass(frozen=True)
class Seen:
    """Everything that a rewind brings back and a fork takes along."""

    files: dict[tuple[str, str], tuple[int, int, str]]
    """Mode, time and digest of each file."""
    memory: list[Any]
    aliases: list[Any]
    words: list[Any]
    """Which entries have certain words, by the index."""
    settings: dict[str, str]
    balances: dict[tuple[str, str], int]
    runs: list[Any]
    volumes: list[Any]
    """Quotas and bytes used."""


def see(book: Workbook) -> Seen:
    """Return what a workbook is now, with all that can be read of it, straight from its tables."""
    rows = book._store.rows
    files = {
        (volume, found.path): (found.mode, found.mtime, hashlib.sha256(book.read(volume, found.path)).hexdigest())
        for volume in ("workspace", "memory")
        for found in book.list(volume, recursive=True)
    }
    columns = "entry, kind, content, source, metadata, model, embedding, created, expires"
    return Seen(
        files=files,
        memory=rows(f"SELECT {columns} FROM memory ORDER BY entry"),  # noqa: S608  (the line above)
        aliases=rows("SELECT alias, entry FROM memory_aliases ORDER BY alias"),
        words=rows("SELECT rowid FROM memory_text WHERE memory_text MATCH 'pond OR dog OR a' ORDER BY rowid"),
        settings=book.settings.all(),
        balances=book.spend.balances(),
        runs=book.journal.runs(),
        volumes=rows("SELECT volume, quota, used FROM volumes WHERE volume IN ('workspace', 'memory') ORDER BY volume"),
    )
