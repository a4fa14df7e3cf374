"""After a power cut a ledger has everything that was acknowledged and nothing by halves; touches may be taken back."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.crash.ledger_workload import STEPS, TOUCHES
from tests.power.kit import check, is_lost, leave_out_syncs, losses, main_file
from tests.power.workload import checkpoint_every
from tests.unit.ledger.kit import add, agent, content

from torpor.base.errors import TorporError
from torpor.ledger import SqliteLedger
from torpor.testing import Image, PowerVFS, Seeded, Tape, images
from torpor.testing.power import FolderSynced, Made, Renamed

NAME = "ledger.db"


@dataclass
class Run:
    """A recorded workload: its tape, and what the ledger says after each number of steps."""

    tape: Tape = field(default_factory=Tape)
    states: list[Any] = field(default_factory=list)
    taken_back: int = 0
    """How many images lacked touches that were acknowledged."""

    def litter(self, folder: Path, chance: Seeded) -> None:
        if chance.below(2):
            (folder / f"{NAME}-shm").write_bytes(chance.token(32768))

    def fault(self, image: Image, folder: Path) -> str | None:
        if NAME not in image.files and image.acknowledged >= 0:
            return "the ledger is gone"
        certain = image.acknowledged
        while certain in TOUCHES:
            certain -= 1
        try:
            with closing(SqliteLedger.open(folder / NAME)) as ledger:
                found = content(ledger)
                allowed = self.states[max(0, certain) : max(0, image.begun) + 1]
                if found not in allowed:
                    known = self.states.index(found) if found in self.states else "none of the states"
                    return f"state {known} of {certain}..{image.begun}"
                self.taken_back += allowed.index(found) < image.acknowledged - max(0, certain)
                add(ledger, agent("after-the-cut"))
            with closing(SqliteLedger.open(folder / NAME)) as ledger:
                ledger.agent("after-the-cut")
        except TorporError as error:
            return f"it doesn't open: {error}"
        return None


def record(folder: Path, closings: frozenset[int] = frozenset()) -> Run:
    """Record all steps; after those in `closings` the ledger is closed and opened again."""
    run = Run()
    with closing(SqliteLedger.open(folder / "dry.db")) as ledger:
        run.states.append(content(ledger))
        for step in STEPS:
            step(ledger)
            run.states.append(content(ledger))
    with PowerVFS("power", run.tape):
        run.tape.begun(0)
        ledger = SqliteLedger.open(folder / NAME, vfs="power")
        run.tape.acknowledged(0)
        for number, step in enumerate(STEPS, 1):
            run.tape.begun(number)
            step(ledger)
            run.tape.acknowledged(number)
            if number in closings:
                ledger.close()
                ledger = SqliteLedger.open(folder / NAME, vfs="power")
        ledger.close()
    return run


def test_no_change_is_lost_or_halved(desk: Path, tmp_path: Path) -> None:
    run = record(desk)
    assert check(run, tmp_path, 300) > 150
    assert run.taken_back > 0, "touches were synced: nothing here shows that losing one is harmless"


def test_nothing_is_lost_across_checkpoints_closing_and_opening(desk: Path, tmp_path: Path) -> None:
    with checkpoint_every(8):
        run = record(desk, frozenset({4, 10, 15}))
    assert check(run, tmp_path, 300) > 150


def test_a_ledger_is_made_whole_or_not_at_all(desk: Path, tmp_path: Path) -> None:
    run = record(desk)
    opened = next(at for at, op in enumerate(run.tape.ops) if isinstance(op, Renamed))
    run.tape.ops = run.tape.ops[: opened + 2]  # with the folder's sync
    assert isinstance(run.tape.ops[-1], FolderSynced)
    assert check(run, tmp_path, 300) > 60


def test_without_the_syncs_of_the_log_changes_are_lost(desk: Path, tmp_path: Path) -> None:
    """The proof that these tests can find a loss at all."""
    run = record(desk)
    log = next(op.file for op in run.tape.ops if isinstance(op, Made) and op.name == f"{NAME}-wal")
    leave_out_syncs(run, log)
    count, found = losses(run, images(run.tape, seed=1, budget=200), tmp_path)
    assert len(found) > count // 4, found


def test_without_the_syncs_of_the_folder_the_ledger_may_be_gone(desk: Path, tmp_path: Path) -> None:
    run = record(desk)
    run.tape.ops = [op for op in run.tape.ops if not isinstance(op, FolderSynced)]
    assert is_lost(run, images(run.tape, seed=1, budget=60), tmp_path, "the ledger is gone")


def test_without_the_syncs_of_the_file_checkpoints_lose_changes(desk: Path, tmp_path: Path) -> None:
    with checkpoint_every(8):
        run = record(desk)
    leave_out_syncs(run, main_file(run))
    assert is_lost(run, images(run.tape, seed=1, budget=200), tmp_path)


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("pages", [3, 8, 1000])
def test_nothing_is_lost_in_many_more_images(desk: Path, tmp_path: Path, pages: int, seed: int) -> None:
    with checkpoint_every(pages):
        run = record(desk, frozenset({2, 9, 14, 20}))
    check(run, tmp_path, 2000, seed)
