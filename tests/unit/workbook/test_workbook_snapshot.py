"""Snapshots and digests: one state of the file, while its owner goes on."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest
from tests.unit.workbook.kit import SetClock, lived, tamper
from tests.unit.workbook.log_kit import MemoryLog

from torpor.base import faults
from torpor.base.errors import AgentBusy, FileTaken, WorkbookError, WorkbookMissing
from torpor.testing import fail_at
from torpor.workbook import Replay, Workbook, at_rest, digest, image, snapshot


def test_a_snapshot_of_a_sleeping_workbook_is_the_same(path: Path) -> None:
    lived(path)
    before = path.read_bytes()
    target = path.with_name("copy.workbook")
    standing = snapshot(path, str(target))
    assert digest(target) == digest(path) == (standing, digest(path)[1])
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, target.name]
    assert path.read_bytes() == before
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with Workbook.open(target) as copy:
        assert copy.verify().problems == ()


@pytest.mark.parametrize("awake", [False, True])
def test_an_image_is_a_snapshot_without_a_file(path: Path, *, awake: bool) -> None:
    lived(path)
    other, target = path.with_name("image.workbook"), path.with_name("copy.workbook")
    with Workbook.open(path, readonly=not awake) as book:
        if awake:  # so there is something in the log, and what is under way is no part of it
            book.append("note.added", {"only": "in the log"})
        standing, content = image(path)
        assert snapshot(path, str(target)) == standing
    other.write_bytes(content)
    assert digest(other) == digest(target) == digest(path)
    assert digest(other)[0] == standing
    with Workbook.open(other) as copy:
        assert copy.verify().problems == ()


def test_snapshots_are_of_one_transaction_while_another_thread_writes(path: Path, clock: SetClock) -> None:
    log = MemoryLog(str(path.parent))
    first = path.with_name("first.workbook")
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with book.transaction():
                book.append("note.added", {"number": number})
                book.write("workspace", f"/{number % 7}.txt", bytes([number % 256]) * 20_000)

    with Workbook.open(path, durability=log.durability(), clock=clock) as book:
        snapshot(path, str(first))
        writer = threading.Thread(target=write)
        writer.start()
        copies = []
        try:
            for number in range(8):
                target = path.with_name(f"{number}.workbook")
                copies.append((snapshot(path, str(target)), target))
        finally:
            stop.set()
            writer.join()
    assert copies[0][0].txn < copies[-1][0].txn
    with Replay.open(first) as replay:
        for standing, target in copies:
            replay.apply_many((kept.txn, kept.payload or b"") for kept in log.kept if kept.txn <= standing.txn)
            assert digest(first) == digest(target) == (standing, digest(target)[1])


def test_records_go_on_from_a_snapshot(path: Path, clock: SetClock) -> None:
    log = MemoryLog(str(path.parent))
    target = path.with_name("copy.workbook")
    with Workbook.open(path, durability=log.durability(), clock=clock) as book:
        for number in range(6):
            book.write("workspace", f"/{number}", b"x" * number)
            if number == 2:
                standing = snapshot(path, str(target))
    assert standing.txn == 3
    with Replay.open(target) as replay:
        assert replay.apply_many((kept.txn, kept.payload or b"") for kept in log.kept) == 3
        replay.finish()
    assert digest(target) == digest(path)


def test_nothing_is_overwritten_and_a_failed_copy_leaves_nothing(path: Path) -> None:
    lived(path)
    target = path.with_name("copy.workbook")
    target.write_bytes(b"mine")
    with pytest.raises(FileTaken):
        snapshot(path, str(target))
    assert target.read_bytes() == b"mine"
    target.unlink()
    with (
        fail_at("snapshot.copied", WorkbookMissing(path="x", reason="told to")),
        pytest.raises(WorkbookMissing),
    ):
        snapshot(path, str(target))
    with pytest.raises(WorkbookError):
        snapshot(path, str(path.parent / "nowhere" / "copy.workbook"))
    with pytest.raises(WorkbookMissing):
        snapshot(path.with_name("none.workbook"), str(target))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE files SET mode = 0 WHERE volume = 'memory'",
        "UPDATE chunks SET data = x'00' WHERE rowid = (SELECT max(rowid) FROM chunks)",
        "UPDATE chunks SET rowid = rowid + 1000",
        "UPDATE memory SET metadata = '{}'",
        "UPDATE memory_text_data SET block = block || x'00'",
        "UPDATE events SET txn = txn + 1 WHERE seq = 1",
        "UPDATE meta SET created = 0",
        "DELETE FROM settings",
        "CREATE TABLE mine (a)",
        "CREATE INDEX mine ON spend (amount)",
    ],
)
def test_a_digest_tells_every_change_of_content(path: Path, change: str) -> None:
    lived(path)
    before = digest(path)[1]
    assert digest(path)[1] == before
    tamper(path, change)
    assert digest(path)[1] != before


def test_a_digest_does_not_tell_how_pages_lie(path: Path) -> None:
    lived(path)
    before = digest(path)[1]
    tamper(path, "ANALYZE", "CREATE TABLE t AS SELECT randomblob(100000)", "DROP TABLE t")
    assert digest(path)[1] == before


def test_who_moves_a_workbook_waits_for_its_snapshot_and_for_no_reader(path: Path, tmp_path: Path) -> None:
    lived(path)
    copied, go_on, seen = threading.Event(), threading.Event(), []

    def hear(name: str) -> None:
        if name == "snapshot.copied":
            copied.set()
            assert go_on.wait(30)

    def move() -> None:
        with at_rest(path) as rest:
            seen.append(rest.look().seq)

    faults.listen(hear)
    try:
        copying = threading.Thread(target=snapshot, args=(path, str(tmp_path / "copy")))
        copying.start()
        assert copied.wait(30)
        moving = threading.Thread(target=move)
        moving.start()
        moving.join(0.05)
        assert (moving.is_alive(), seen) == (True, [])
        go_on.set()
        copying.join()
        moving.join()
    finally:
        faults.listen(None)
    assert len(seen) == 1
    with Workbook.open(path, readonly=True), pytest.raises(AgentBusy), at_rest(path):
        pass
