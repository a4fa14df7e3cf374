"""After a power cut a used join token is used, what was revoked is revoked, and the audit's chain holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.crash.access_workload import STEPS, Texts
from tests.crash.test_access_killed import ENDED_BY, MADE_BY, kinds_after
from tests.power.kit import check, leave_out_syncs, losses, main_file
from tests.power.workload import checkpoint_every
from tests.unit.access.kit import Lab, lab
from tests.unit.workbook.kit import SetClock

from torpor.access import Access
from torpor.base.errors import JoinRefused, TorporError
from torpor.ledger import SqliteLedger
from torpor.testing import Image, PowerVFS, Seeded, Tape, images
from torpor.testing.power import FolderSynced, Made, Renamed

NAME = "access.db"
UNSYNCED = frozenset(number for number, (_, kinds) in enumerate(STEPS, 1) if kinds == ("decision.refused",))
"""The steps, counted from 1, that a power cut may take back."""


class AccessTape(Tape):
    """A tape of the file of tokens, and of nothing beside it."""

    def name_of(self, path: str) -> str | None:
        name = super().name_of(path)
        return name if name is not None and name.startswith("access") else None


@dataclass
class Run:
    """A recorded workload: its tape, and the tokens that it gave out."""

    key: bytes
    ledger: SqliteLedger
    tape: Tape = field(default_factory=AccessTape)
    texts: Texts = field(default_factory=dict)
    taken_back: int = 0
    """How many images lacked a refusal that was told to somebody."""

    def litter(self, folder: Path, chance: Seeded) -> None:
        if chance.below(2):
            (folder / f"{NAME}-shm").write_bytes(chance.token(32768))

    def fault(self, image: Image, folder: Path) -> str | None:
        if NAME not in image.files and image.acknowledged >= 0:
            return "the file of tokens is gone"
        (folder / "access").mkdir(mode=0o700)
        for path in list(folder.iterdir()):
            if path.is_file():
                path.rename(folder / "access" / path.name)
        key = folder / "access" / "root.key"
        key.touch(0o600)
        key.write_bytes(self.key)
        certain = image.acknowledged
        while certain in UNSYNCED:
            certain -= 1
        try:
            with Access.open(folder, self.ledger, clock=SetClock()) as access:
                there = Lab(folder, SetClock(), self.ledger, access)
                allowed = {tuple(kinds_after(each)): each for each in range(max(0, certain), max(0, image.begun) + 1)}
                reached = allowed.get(tuple(there.kinds()))
                if reached is None:
                    return f"{there.kinds()[-3:]} after {certain}..{image.begun}"
                self.taken_back += reached < image.acknowledged
                access.audit.verify()
                return self.tokens_fault(there, reached)
        except TorporError as error:
            return f"it doesn't open: {error}"

    def tokens_fault(self, there: Lab, reached: int) -> str | None:
        for name, text in self.texts.items():
            due = MADE_BY[name] <= reached < ENDED_BY[name]
            if name.startswith("join"):
                try:
                    if not due:
                        there.access.desk.join(text, name, label="a replay")
                        return f"{name} counts after {reached}"
                except JoinRefused:
                    continue
            elif there.ask(text, "agents.list", peer=name).allowed != due:
                return f"{name} counts or doesn't, and should not so, after {reached}"
        return None


def record(folder: Path, ledger: SqliteLedger, closings: frozenset[int] = frozenset()) -> Run:
    """Record all steps; after those in `closings` the file is closed and opened again."""
    (folder / "made").mkdir()
    with lab(folder / "made"):
        key = (folder / "made" / "access" / "root.key").read_bytes()
    (folder / "access").mkdir(mode=0o700)
    (folder / "access" / "root.key").touch(0o600)
    (folder / "access" / "root.key").write_bytes(key)
    run = Run(key, ledger)
    steps = dict(enumerate(STEPS, 1))
    with PowerVFS("power", run.tape):
        run.tape.begun(0)
        while steps:
            with lab(folder, vfs="power") as there:
                if len(steps) == len(STEPS):
                    run.tape.acknowledged(0)
                record_some(run, there, steps, closings)
    return run


def record_some(run: Run, there: Lab, steps: dict[int, Any], closings: frozenset[int]) -> None:
    """Do steps, and take them out, up to one after which the file is to be closed."""
    for number in list(steps):
        step, _ = steps.pop(number)
        run.tape.begun(number)
        step(there, run.texts)
        run.tape.acknowledged(number)
        if number in closings:
            return


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    with closing(SqliteLedger.open(tmp_path / "ledger.db")) as ledger:
        yield ledger


def test_no_change_of_tokens_is_lost_or_halved(desk: Path, tmp_path: Path, ledger: SqliteLedger) -> None:
    run = record(desk, ledger)
    assert check(run, tmp_path, 400) > 150
    assert run.taken_back > 0, "refusals were synced: nothing here shows that losing one is harmless"


def test_nothing_is_lost_across_checkpoints_closing_and_opening(
    desk: Path, tmp_path: Path, ledger: SqliteLedger
) -> None:
    with checkpoint_every(8):
        run = record(desk, ledger, frozenset({2, 5, 8}))
    assert check(run, tmp_path, 400) > 150


def test_a_file_of_tokens_is_made_whole_or_not_at_all(desk: Path, tmp_path: Path, ledger: SqliteLedger) -> None:
    run = record(desk, ledger)
    opened = next(at for at, op in enumerate(run.tape.ops) if isinstance(op, Renamed))
    run.tape.ops = run.tape.ops[: opened + 2]  # with the folder's sync
    assert isinstance(run.tape.ops[-1], FolderSynced)
    assert check(run, tmp_path, 200) > 30


def test_without_the_syncs_of_the_log_tokens_come_back(desk: Path, tmp_path: Path, ledger: SqliteLedger) -> None:
    """The proof that these tests can find a loss at all."""
    run = record(desk, ledger)
    log = next(op.file for op in run.tape.ops if isinstance(op, Made) and op.name == f"{NAME}-wal")
    leave_out_syncs(run, log)
    count, found = losses(run, images(run.tape, seed=1, budget=150), tmp_path)
    assert len(found) > count // 4, found


def test_without_the_syncs_of_the_file_checkpoints_lose_tokens(
    desk: Path, tmp_path: Path, ledger: SqliteLedger
) -> None:
    with checkpoint_every(8):
        run = record(desk, ledger)
    leave_out_syncs(run, main_file(run))
    _, found = losses(run, images(run.tape, seed=1, budget=150), tmp_path)
    assert found
