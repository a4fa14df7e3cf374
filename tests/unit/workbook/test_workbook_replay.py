"""Replaying records: in order, once, whole or not at all, and only onto the file that they belong to."""

from __future__ import annotations

import shutil
from pathlib import Path

import apsw
import msgspec
import pytest
import zstandard
from tests.unit.workbook.kit import SetClock
from tests.unit.workbook.log_kit import Kept, MemoryLog

from torpor.base.errors import (
    NotAWorkbook,
    ReplayRefused,
    WorkbookDamaged,
    WorkbookError,
    WorkbookMissing,
    WorkbookOwned,
)
from torpor.testing import fail_at
from torpor.workbook import Replay, Workbook, digest, snapshot
from torpor.workbook.mark import mark_path, put_mark


@pytest.fixture
def log(tmp_path: Path) -> MemoryLog:
    return MemoryLog(str(tmp_path))


@pytest.fixture
def copy(path: Path, log: MemoryLog, clock: SetClock) -> Path:
    """Return a copy of a workbook that has lived on since, by what `log` has kept."""
    copied = path.with_name("copy.workbook")
    with Workbook.open(path, durability=log.durability(), clock=clock) as book:
        book.append("note.added", {"number": 0})
        snapshot(path, str(copied))
        book.append("note.added", {"number": 1})
        book.write("workspace", "/a.txt", b"a" * 100_000)
        with book.transaction():
            book.append("note.added", {"number": 2})
            book.memory.remember("the quick fox", source="fox")
        book.delete("workspace", "/a.txt")
    return copied


def records(log: MemoryLog) -> list[tuple[int, bytes]]:
    return [(kept.txn, kept.payload) for kept in log.kept if kept.payload is not None]


def test_records_lead_to_the_same_workbook(path: Path, copy: Path, log: MemoryLog) -> None:
    with Replay.open(copy) as replay:
        assert replay.standing.txn == 1
        assert [replay.apply(txn, payload) for txn, payload in records(log)] == [False, True, True, True, True]
        assert replay.standing.txn == 5
        standing = replay.finish()
    assert digest(copy) == digest(path)
    assert standing == digest(path)[0]
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, copy.name]


def test_replaying_twice_is_replaying_once(path: Path, copy: Path, log: MemoryLog) -> None:
    for expected in (4, 0):
        with Replay.open(copy) as replay:
            assert replay.apply_many(records(log)) == expected
            assert replay.apply_many(records(log)) == 0
            replay.finish()
    assert digest(copy) == digest(path)


def test_a_gap_is_refused_and_nothing_of_the_batch_is_kept(copy: Path, log: MemoryLog) -> None:
    before = digest(copy)
    first, second, _, *rest = records(log)
    with Replay.open(copy) as replay:
        with pytest.raises(ReplayRefused) as caught:
            replay.apply_many([first, second, *rest])
        assert (caught.value.expected, caught.value.found) == (3, 4)
        assert replay.standing.txn == 1
    assert digest(copy) == before


def bent(log: MemoryLog) -> dict[str, list[tuple[int, bytes]]]:
    """Return the records, each time with one thing wrong."""
    good = records(log)
    first, second, third = good[1:4]

    def changed(record: tuple[int, bytes], rows: object, changes: object) -> tuple[int, bytes]:
        old_rows, old_changes = msgspec.msgpack.decode(record[1])
        rows = old_rows if rows is ... else rows
        return (record[0], msgspec.msgpack.encode([rows, old_changes if changes is ... else changes]))

    (row,), _ = msgspec.msgpack.decode(first[1])
    return {
        "cut short": [(first[0], first[1][:-1])],
        "empty": [(first[0], b"")],
        "something else": [(first[0], msgspec.msgpack.encode({"rows": []}))],
        "another body": [changed(first, [[*row[:5], '{"number":7}', *row[6:]]], ...)],
        "another hash": [changed(first, [[*row[:9], bytes(32), row[10]]], ...)],
        "another number": [changed(first, [[*row[:10], 9]], ...)],
        "another transaction's content": [(first[0], second[1])],
        "no event where one is due": [changed(first, [], ...)],
        "a table that isn't there": [first, changed(second, ..., [["nothing", [], [[1]]]])],
        "rows of another width": [first, changed(second, ..., [["files", [], [[1, 2]]]])],
        "values that are none": [first, changed(second, ..., [["files", [[{"a": 1}]], []]])],
        "keys that are none": [first, changed(second, ..., [["files", [[1, 2, 3]], []]])],
        "a row that is in the way": [
            first,
            second,
            changed(third, ..., [["settings", [], [["a", "1", 1], ["a", "2", 1]]]]),
        ],
    }


@pytest.mark.parametrize("wrong", [
    "cut short", "empty", "something else", "another body", "another hash", "another number",
    "another transaction's content", "no event where one is due", "a table that isn't there", "rows of another width",
    "values that are none", "keys that are none", "a row that is in the way",
])  # fmt: skip
def test_what_does_not_fit_is_damage_and_nothing_of_the_batch_is_kept(copy: Path, log: MemoryLog, wrong: str) -> None:
    before = digest(copy)
    with Replay.open(copy) as replay:
        with pytest.raises(WorkbookDamaged) as caught:
            replay.apply_many(bent(log)[wrong])
        assert "transaction" in caught.value.reason
        assert replay.standing == before[0]
        assert replay.apply_many(records(log)) == 4, "the right ones still fit"


def test_records_of_another_agent_are_refused(copy: Path, tmp_path: Path, log: MemoryLog) -> None:
    other = MemoryLog(str(tmp_path))
    with Workbook.open(tmp_path / "other.workbook", durability=other.durability()) as book:
        for number in range(3):
            book.append("note.added", {"number": number})
    with Replay.open(copy) as replay, pytest.raises(WorkbookDamaged):
        replay.apply_many(records(other))
    assert log.kept[0] == Kept(*log.kept[0].__dict__.values())


def test_an_owner_keeps_a_replay_away_and_a_replay_an_owner(copy: Path) -> None:
    with Workbook.open(copy), pytest.raises(WorkbookOwned):
        Replay.open(copy)
    with Replay.open(copy), pytest.raises(WorkbookOwned):
        Workbook.open(copy)
    with Workbook.open(copy) as book:
        assert book.last == 1


def test_what_is_no_workbook_is_not_recovered(tmp_path: Path) -> None:
    with pytest.raises(WorkbookMissing):
        Replay.open(tmp_path / "none.workbook")
    other = tmp_path / "other.workbook"
    with apsw.Connection(str(other)) as db:
        db.execute("CREATE TABLE t (a)")
    db.close()
    with pytest.raises(NotAWorkbook):
        Replay.open(other)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["other.workbook"]


def test_a_block_left_early_keeps_what_was_applied_and_the_mark(path: Path, copy: Path, log: MemoryLog) -> None:
    put_mark(str(copy), "/srv/home")
    with Replay.open(copy) as replay:
        replay.apply_many(records(log)[:3])
    assert Path(mark_path(str(copy))).exists()
    with Replay.open(copy) as replay:
        assert replay.standing.txn == 3
        replay.apply_many(records(log))
        replay.finish()
    assert not Path(mark_path(str(copy))).exists()
    assert digest(copy) == digest(path)


def test_a_replay_that_fails_at_its_end_leaves_the_mark(copy: Path, log: MemoryLog) -> None:
    put_mark(str(copy), "/srv/home")
    with (
        Replay.open(copy) as replay,
        fail_at("replay.finishing", WorkbookMissing(path="x", reason="told to")),
        pytest.raises(WorkbookMissing),
    ):
        replay.apply_many(records(log))
        replay.finish()
    assert Path(mark_path(str(copy))).exists()


def test_a_closed_replay_takes_nothing(copy: Path, log: MemoryLog) -> None:
    with Replay.open(copy) as replay:
        replay.finish()
        with pytest.raises(WorkbookError):
            replay.apply_many(records(log))
        replay.close()


def test_readers_may_look_while_a_workbook_is_recovered(path: Path, copy: Path, log: MemoryLog) -> None:
    with Workbook.open(copy, readonly=True) as reader, Replay.open(copy) as replay:
        replay.apply_many(records(log))
        assert reader.last == replay.standing.seq
        replay.finish()
    assert digest(copy) == digest(path)


def test_an_older_format_is_recovered_as_it_is(tmp_path: Path) -> None:
    old = tmp_path / "old.workbook"
    packed = Path(__file__).parents[2] / "migrations" / "format_1.workbook.zst"
    old.write_bytes(zstandard.ZstdDecompressor().decompress(packed.read_bytes(), max_output_size=2**26))
    before = shutil.copyfile(old, tmp_path / "before").read_bytes()
    with Replay.open(old) as replay:
        standing = replay.finish()
    assert standing.seq > 0
    db = apsw.Connection(str(old), flags=apsw.SQLITE_OPEN_READONLY)
    assert db.pragma("user_version") == 1
    db.close()
    assert len(before) == len(old.read_bytes())
