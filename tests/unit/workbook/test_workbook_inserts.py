"""A plain append, of whose row SQLite tells nothing: what else happens is noticed all the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.workbook.kit import SetClock
from tests.unit.workbook.log_kit import MemoryLog, Replica

from torpor.base.errors import InternalError
from torpor.workbook import Workbook


@pytest.fixture
def log(tmp_path: Path) -> MemoryLog:
    return MemoryLog(str(tmp_path))


@pytest.fixture
def told(path: Path, clock: SetClock, log: MemoryLog) -> Iterator[Workbook]:
    """Return a workbook that tells `log` of its commits, with a table of one's own."""
    with Workbook.open(path, durability=log.durability(), clock=clock) as book:
        with book.transaction():
            book._store.execute("CREATE TABLE mine (a)")
        with book.transaction():
            book._store.execute("INSERT INTO mine VALUES (1), (2)")
        book.append("note.added", {})
        yield book


def missing(log: MemoryLog) -> list[bool]:
    return [kept.payload is None for kept in log.kept]


@pytest.mark.parametrize(
    "done",
    [
        "INSERT INTO mine VALUES (new.seq)",
        "UPDATE mine SET a = a + 1",
        "DELETE FROM mine",
        "INSERT INTO mine VALUES (7); DELETE FROM mine WHERE a = 7",
    ],
)
def test_what_a_temporary_trigger_does_with_an_append_is_never_missed(
    told: Workbook, path: Path, log: MemoryLog, done: str
) -> None:
    replica = Replica(path, log)
    replica.taken = len(log.kept)
    told._store.execute(f"CREATE TEMP TRIGGER beside AFTER INSERT ON main.events BEGIN {done}; END")
    told.append("note.added", {"text": "and more"})
    assert missing(log)[-1]
    replica.follow()
    told._store.execute("DROP TRIGGER beside")
    told.append("note.added", {"text": "alone"})
    assert not missing(log)[-1]
    replica.follow()
    replica.stop()


def test_what_follows_an_append_is_told_row_by_row_again(told: Workbook, path: Path, log: MemoryLog) -> None:
    replica = Replica(path, log)
    replica.taken = before = len(log.kept)
    told.append("note.added", {})
    told.write("workspace", "/a.txt", b"a")
    told.append("note.added", {})
    with told.transaction():
        told._store.execute("DELETE FROM mine")
    assert missing(log)[before:] == [False] * 4
    replica.follow()
    replica.stop()


def test_an_append_that_fails_leaves_nothing_behind(told: Workbook, path: Path, log: MemoryLog) -> None:
    replica = Replica(path, log)
    replica.taken = before = len(log.kept)
    told._store.execute("CREATE TEMP TRIGGER never BEFORE INSERT ON main.events BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(InternalError):
        told.append("note.added", {})
    told._store.execute("DROP TRIGGER never")
    assert len(log.kept) == before
    told.append("note.added", {})
    told.write("workspace", "/a.txt", b"a")
    assert missing(log)[before:] == [False] * 2
    replica.follow()
    replica.stop()
