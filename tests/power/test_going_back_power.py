"""After a power cut in a rewind a workbook is as before or as after it, and nothing kept for going back is lost."""

from __future__ import annotations

from pathlib import Path

from tests.power.kit import check
from tests.power.workload import append, checkpoint_every, record, several

from torpor.workbook import Workbook


def back(to: int) -> object:
    """Return a step that rewinds, and makes sure that it can be undone."""

    def step(book: Workbook) -> None:
        book.rewind(to)

    return step


def again(book: Workbook) -> None:
    """Take up the newest branch again."""
    book.rewind(book.branches()[-1].tip)


STEPS = (
    several(1),
    lambda book: book.volumes.append("workspace", "/1.txt", b"more" * 2000),
    lambda book: book.write("workspace", "/1.txt", b"other" * 2000),
    lambda book: book.memory.forget(1),
    back(7),
    append(1),
    again,
    back(0),
    several(2),
)


def test_a_rewind_is_whole_or_not_at_all_and_loses_nothing(desk: Path, tmp_path: Path) -> None:
    run = record(desk, (STEPS,))  # type: ignore[arg-type]  # steps are calls with a workbook
    assert check(run, tmp_path, 250) > 100


def test_nor_across_checkpoints_and_openings(desk: Path, tmp_path: Path) -> None:
    with checkpoint_every(8):
        run = record(desk, (STEPS[:4], STEPS[4:7], STEPS[7:]))  # type: ignore[arg-type]  # as above
    assert check(run, tmp_path, 250) > 100
