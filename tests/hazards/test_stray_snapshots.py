"""What reads an open workbook for a log or a replica leaves its owner's locks in place."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.hazards.operations import furnish
from tests.hazards.test_stray_descriptors import locks
from tests.unit.workbook.log_kit import MemoryLog

from torpor.workbook import Workbook, awaits, digest, snapshot

READINGS: dict[str, Callable[[Workbook, MemoryLog], object]] = {
    "a snapshot": lambda book, _: snapshot(book.path, f"{book.path}-copy"),
    "a digest": lambda book, _: digest(book.path),
    "settling": lambda _, log: log.members[0].settle(),
    "where it stands": lambda _, log: log.members[0].standing(),
    "its mark": lambda book, _: awaits(book.path),
}


@pytest.mark.parametrize("what", READINGS)
def test_it_leaves_every_lock_in_place(tmp_path: Path, what: str) -> None:
    log = MemoryLog(str(tmp_path))
    with Workbook.open(tmp_path / "ada.workbook", durability=log.durability()) as book:
        furnish(book)
        before = locks(book)
        assert {lock[0] for lock in before} >= {"ada.workbook", "ada.workbook-shm", "ada.workbook-owner"}
        READINGS[what](book, log)
        gc.collect()
        assert locks(book) >= before
        book.append("note.added", {})
        assert log.kept[-1].payload is not None
