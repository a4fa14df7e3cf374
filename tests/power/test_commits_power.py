"""Power cuts where commits aren't synced: the file and the records together have everything, the file alone says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from tests.power.kit import check, losses
from tests.power.workload import SMALL, Run, append, checkpoint_every, several, stream
from tests.unit.workbook.log_kit import MemoryLog

from torpor.base.errors import NotRecovered, TorporError
from torpor.testing import Image, PowerVFS, Tape, images, portrait
from torpor.workbook import Durability, Replay, Workbook
from torpor.workbook.mark import Mark

HOME = "/srv/home"


@dataclass
class Told(Run):
    """A recorded workload of a workbook with a log, whose records are there after a cut once they are acknowledged."""

    log: MemoryLog = field(default_factory=lambda: MemoryLog(HOME))
    lengths: list[int] = field(default_factory=list)
    """How many records the log had when each transaction was acknowledged."""
    heeds_marks: bool = True
    recovered: int = 0
    """How many images had to be recovered."""
    lacking: int = 0
    """In how many of them the file lacked something."""

    def fault(self, image: Image, folder: Path) -> str | None:
        path = folder / self.name
        mark = folder / f"{self.name}-mark"
        if mark.exists():
            # Its content is synced with its name, or it counts as none: the tape knows the name only.
            mark.write_bytes(msgspec.json.encode(Mark("an earlier boot", HOME)))
        if not self.heeds_marks:
            mark.unlink(missing_ok=True)
        try:
            return self.wrong(image, path, marked=mark.exists())
        except TorporError as error:
            return f"it can't be recovered: {error}"

    def wrong(self, image: Image, path: Path, *, marked: bool) -> str | None:
        if marked:
            try:
                Workbook.open(path).close()
            except NotRecovered:
                self.recovered += 1
            else:
                return "it was opened without having been recovered"
            known = self.log.kept[: self.lengths[max(0, image.acknowledged)]]
            with Replay.open(path) as replay:
                self.lacking += replay.apply_many((kept.txn, kept.payload) for kept in known if kept.payload) > 0
                replay.finish()
        return super().fault(image, path.parent)


def tell(folder: Path, rounds: tuple[tuple[Callable[[Workbook], object], ...], ...]) -> Told:
    """Record a workload: each round opens the workbook, does its steps, and closes it."""
    run = Told("ada.workbook")
    durability = Durability("taped", "NORMAL", vfs="power", log=run.log)
    number = 0
    with PowerVFS("power", run.tape):
        for steps in rounds:
            if not run.states:
                run.tape.begun(number)
            with Workbook.open(folder / run.name, durability=durability) as book:
                if not run.states:
                    run.states.append(portrait(book))
                    run.lengths.append(0)
                    run.tape.acknowledged(number)
                for step in steps:
                    number += 1
                    run.tape.begun(number)
                    step(book)
                    run.lengths.append(len(run.log.kept))
                    run.tape.acknowledged(number)
                    run.states.append(portrait(book))
    return run


def change_the_schema(book: Workbook) -> None:
    with book.transaction():
        book._store.execute("CREATE TABLE IF NOT EXISTS mine (a)")
        book._store.execute("CREATE INDEX IF NOT EXISTS mine_a ON mine (a)")
        book.append("note.added", {"schema": True})


def settle(book: Workbook) -> None:
    assert book._store.scribe is not None
    assert book._store.scribe.settle()


def test_file_and_records_have_everything_and_nothing_by_halves(desk: Path, tmp_path: Path) -> None:
    run = tell(desk, (SMALL,))
    assert check(run, tmp_path, 200) > 70
    assert run.lacking > 50, "most files lacked something"


def test_nothing_is_lost_across_checkpoints_openings_and_changes_of_the_schema(desk: Path, tmp_path: Path) -> None:
    with checkpoint_every(8):
        run = tell(
            desk,
            (
                (*SMALL[:6], change_the_schema, append(1), several(4), append(2)),
                (),
                (append(4), settle, append(5), change_the_schema, append(6), stream, append(7)),
            ),
        )
    check(run, tmp_path, 180)
    assert run.recovered
    assert run.lacking


def test_without_the_mark_an_old_file_would_pass_for_the_present_one(desk: Path, tmp_path: Path) -> None:
    """The proof that these tests can find a loss, and what the mark is for."""
    run = tell(desk, (SMALL,))
    run.heeds_marks = False
    count, found = losses(run, images(run.tape, seed=1, budget=120), tmp_path)
    assert len(found) > count // 4
    assert any("state 0 of" in line for line in found)


def test_without_the_records_acknowledged_transactions_are_lost(desk: Path, tmp_path: Path) -> None:
    run = tell(desk, (SMALL,))
    run.lengths = [0] * len(run.lengths)
    _, found = losses(run, images(run.tape, seed=1, budget=80), tmp_path)
    assert any("state" in line for line in found)


def test_a_change_of_the_schema_that_was_not_synced_would_be_lost(desk: Path, tmp_path: Path) -> None:
    """Records can't say it: so the file must be durable before it is acknowledged."""
    run = tell(desk, ((append(1), change_the_schema, append(2)),))
    assert [kept.payload is None for kept in run.log.kept] == [False, True, False]
    check(run, tmp_path, 150)


def recovered_again(run: Told, image: Image, folder: Path) -> Told:
    """Recover an image under the recorder, and return the tape of that."""
    tape = Tape.of(image)
    path = folder / run.name
    known = run.lengths[max(0, image.acknowledged)]
    records = [(kept.txn, kept.payload) for kept in run.log.kept[:known] if kept.payload]
    with PowerVFS("power", tape), Replay.open(path, vfs="power") as replay:
        for record in records:
            replay.apply(*record)
        replay.finish()
    return Told(run.name, tape, run.states, run.log, run.lengths)


def test_the_power_may_fail_again_while_a_file_is_recovered(desk: Path, tmp_path: Path) -> None:
    with checkpoint_every(8):
        run = tell(desk, (SMALL,))
        marked = [image for image in images(run.tape, seed=3, budget=200) if f"{run.name}-mark" in image.files]
        tried = 0
        for number, image in enumerate(marked[::8]):
            folder = tmp_path / f"again-{number}"
            folder.mkdir()
            image.lay_out(folder)
            tried += check(recovered_again(run, image, folder), tmp_path, 20)
    assert tried > 60


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("pages", [3, 8, 1000])
def test_nothing_is_lost_in_many_more_images(desk: Path, tmp_path: Path, pages: int, seed: int) -> None:
    with checkpoint_every(pages):
        run = tell(desk, ((*SMALL, change_the_schema, stream), (several(3), settle, append(1)), (), SMALL[3:5]))
    check(run, tmp_path, 1500, seed)
