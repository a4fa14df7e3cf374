"""What the tests of the workbook share: a clock that is set by hand, and a way into a closed file past our own code."""

from pathlib import Path

import apsw

from torpor.workbook import Workbook

NOW = 1_800_000_000_000_000


class SetClock:
    """A clock that stands still until it is set."""

    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def now_us(self) -> int:
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
