"""After a power cut a workbook has everything that was acknowledged and nothing by halves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.power.kit import check, is_lost, leave_out_syncs, losses, main_file
from tests.power.workload import SMALL, Run, append, checkpoint_every, large, record, several, stream

from torpor.testing import Image, PowerVFS, Tape, images, portrait
from torpor.testing.power import Acknowledged, FolderSynced, Renamed, Wrote
from torpor.workbook import Durability, Workbook


def test_no_transaction_is_lost_or_halved(desk: Path, tmp_path: Path) -> None:
    run = record(desk, (SMALL,))
    assert check(run, tmp_path, 300) > 150


def test_nothing_is_lost_across_checkpoints(desk: Path, tmp_path: Path) -> None:
    with checkpoint_every(8):
        run = record(desk, ((*SMALL, *(append(n) for n in range(8))),))
    assert check(run, tmp_path, 300) > 150


def test_nothing_is_lost_across_closing_and_opening(desk: Path, tmp_path: Path) -> None:
    run = record(desk, ((append(1), several(1)), (), (several(2),), (append(2), append(3))))
    assert check(run, tmp_path, 250) > 100


def test_a_file_written_as_a_stream_is_there_whole_or_not_at_all(desk: Path, tmp_path: Path) -> None:
    run = record(desk, ((append(1), stream, append(2)),))
    check(run, tmp_path, 120)


def test_nothing_is_lost_when_large_events_pass_the_usual_checkpoint(desk: Path, tmp_path: Path) -> None:
    run = record(desk, ((*(large(n) for n in range(24)), append(1)),))
    opened = next(at for at, op in enumerate(run.tape.ops) if isinstance(op, Renamed))
    closing = max(at for at, op in enumerate(run.tape.ops) if isinstance(op, Acknowledged))
    main = main_file(run)
    written = [op for op in run.tape.ops[opened:closing] if isinstance(op, Wrote) and op.file == main]
    assert written, "no checkpoint happened while the workbook was open"
    check(run, tmp_path, 60)


def test_a_workbook_is_created_whole_or_not_at_all(desk: Path, tmp_path: Path) -> None:
    run = record(desk, ((),))
    assert check(run, tmp_path, 400) > 60


def test_a_class_without_syncs_at_commit_loses_acknowledged_transactions(desk: Path, tmp_path: Path) -> None:
    """The proof that these tests can find a loss at all."""
    run = record(desk, (SMALL,), synchronous="NORMAL")
    count, found = losses(run, images(run.tape, seed=1, budget=120), tmp_path)
    assert len(found) > count // 4, found
    assert any("state 0 of" in line for line in found), found


def test_without_the_syncs_of_the_folder_the_workbook_may_be_gone(desk: Path, tmp_path: Path) -> None:
    """Leaving out one kind of sync must be found: it shows that each is needed, and that the test sees it."""
    run = record(desk, ((append(1), append(2)),))
    run.tape.ops = [op for op in run.tape.ops if not isinstance(op, FolderSynced)]
    assert is_lost(run, images(run.tape, seed=1, budget=60), tmp_path, "the workbook is gone")


def test_without_the_syncs_of_the_file_checkpoints_lose_transactions(desk: Path, tmp_path: Path) -> None:
    with checkpoint_every(8):
        run = record(desk, (SMALL,))
    leave_out_syncs(run, main_file(run))
    assert is_lost(run, images(run.tape, seed=1, budget=200), tmp_path)


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("pages", [3, 8, 1000])
def test_nothing_is_lost_in_many_more_images(desk: Path, tmp_path: Path, pages: int, seed: int) -> None:
    with checkpoint_every(pages):
        run = record(desk, ((*SMALL, stream), (several(3), large(1)), (), (append(1), *SMALL[3:5])))
    check(run, tmp_path, 2000, seed)


def repair(run: Run, image: Image, folder: Path) -> Run:
    """Open an image once more under the recorder, and return the tape of its repair."""
    tape = Tape.of(image)
    durability = Durability("taped", "FULL", vfs="power")
    with PowerVFS("power", tape), Workbook.open(folder / run.name, durability=durability) as book:
        at = run.states.index(portrait(book))
    return Run(run.name, tape, run.states[: at + 1])


def cut_twice(run: Run, tmp_path: Path, every: int, budget: int) -> int:
    count = 0
    for image in list(images(run.tape, seed=3, budget=400))[::every]:
        if run.name not in image.files:
            continue
        again = tmp_path / "again"
        again.mkdir()
        image.lay_out(again)
        repaired = repair(run, image, again)
        shutil.rmtree(again)
        count += check(repaired, tmp_path, budget)
    return count


def test_the_power_may_fail_again_while_a_cut_is_repaired(desk: Path, tmp_path: Path) -> None:
    with checkpoint_every(8):
        run = record(desk, (SMALL,))
    assert cut_twice(run, tmp_path, 12, 20) > 80


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_the_power_may_fail_again_in_every_repair(desk: Path, tmp_path: Path) -> None:
    with checkpoint_every(5):
        run = record(desk, ((*SMALL, stream), SMALL[:5]))
    cut_twice(run, tmp_path, 1, 60)
