"""After a power cut the log has every record that was acknowledged, and none by halves; and again after a second cut.

The tape is of everything that the log writes, syncs, makes, renames and removes, and of nothing else: it has no other
file. What a cut may leave is said in `torpor.testing.power`.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.power.kit import check, losses
from tests.power.workload import fast_folder
from tests.unit.heartbeat.log_kit import SMALL, add, at_once, numbers, open_log

from torpor.base.errors import TorporError
from torpor.heartbeat.log import Log
from torpor.heartbeat.records import Record
from torpor.testing import Image, Seeded, Tape, fail_at, images
from torpor.testing.logdisk import TapedDisk
from torpor.testing.power import FolderSynced, Synced, Wrote

Step = Callable[["Run", Log], None]


@dataclass
class Run:
    """A recorded workload: its tape, what may have been released, and what each record is.

    A record is also the transaction that is begun when it is added, and acknowledged when it is durable.
    """

    tape: Tape = field(default_factory=Tape)
    releases: list[tuple[int, int]] = field(default_factory=list)
    """How many operations of the tape there were when records up to a number were given up."""
    base: tuple[int, ...] = ()
    """Which records of the workload the log begins with."""
    added: list[int] = field(default_factory=list)
    """Which record of the workload each lsn is, from `base` on."""

    def litter(self, folder: Path, chance: Seeded) -> None:
        if chance.below(2):
            (folder / "owner").write_bytes(b'{"pid": 1, "com'[: chance.below(16)])
        if chance.below(2):
            (folder / "0000000000000009.making").write_bytes(chance.token(5000))

    def expected(self) -> list[int]:
        return [*self.base, *self.added]

    def fault(self, image: Image, folder: Path) -> str | None:
        try:
            with open_log(folder) as log:
                wrong = self.difference(image, log)
                if wrong:
                    return wrong
                found = numbers(log)
                log.wait(add(log, 777, 600))
            with open_log(folder) as log:
                if numbers(log) != [*found, 777]:
                    return "after the cut it doesn't go on where it ended"
        except (TorporError, AssertionError) as error:
            return f"{type(error).__name__}: {str(error)[:300]}"
        return None

    def difference(self, image: Image, log: Log) -> str | None:
        """Return what is wrong with what is kept."""
        if not max(0, image.acknowledged) <= log.durable <= max(0, image.begun):
            return f"{log.durable} records of {image.acknowledged}..{image.begun}"
        gone = max((lsn for at, lsn in self.releases if at <= image.at), default=0)
        if log.first > gone + 1:
            return f"it begins with {log.first}, and only {gone} may be gone"
        found = numbers(log)
        if found != self.expected()[log.first - 1 : log.durable]:
            return f"it has {found}"
        return None


def adding(count: int, size: int | None = None) -> Step:
    """Return the step that adds some records and waits for all of them: one group, or one for each segment."""

    def step(run: Run, log: Log) -> None:
        for _ in range(count):
            number = len(run.expected()) + 1
            run.tape.begun(number)
            assert add(log, number, size) == number
            run.added.append(number)
        log.wait(log.last)
        run.tape.acknowledged(log.last)

    return step


def released(run: Run, log: Log) -> None:
    run.releases.append((len(run.tape.ops), log.segments()[-1].first - 1))
    log.release(log.durable)


def prepared(_run: Run, log: Log) -> None:
    log.prepare()


FEW: tuple[Step, ...] = (adding(1), adding(3), adding(1, 0), adding(2, 300), adding(5), adding(1, 2000), adding(1))
ROLLING: tuple[Step, ...] = (
    adding(2, 900),
    adding(12, 900),
    prepared,
    adding(1, 3 * SMALL),
    adding(20, 700),
    adding(1),
)
RELEASING: tuple[Step, ...] = (
    adding(25, 900), released, adding(9, 900), adding(1, 5000), prepared, adding(30, 500), released, adding(3, 900),
    adding(14, 900), adding(1),
)  # fmt: skip


def record(desk: Path, rounds: Iterable[Iterable[Step]], run: Run | None = None) -> Run:
    """Record a workload: each round opens the log, does its steps, and closes it."""
    run = run or Run()
    disk = TapedDisk(run.tape, str(desk))
    for steps in rounds:
        with closing(open_log(desk, disk)) as log:
            for step in steps:
                step(run, log)
    return run


def test_no_record_is_lost_or_halved(desk: Path, tmp_path: Path) -> None:
    """HB-11."""
    assert check(record(desk, (FEW,)), tmp_path, 600) > 200


def test_nor_across_segments(desk: Path, tmp_path: Path) -> None:
    assert check(record(desk, (ROLLING,)), tmp_path, 500) > 200


def test_nor_when_segments_are_used_again(desk: Path, tmp_path: Path) -> None:
    run = record(desk, (RELEASING,))
    assert max(lsn for _, lsn in run.releases) > 25
    assert check(run, tmp_path, 500) > 200


def test_nor_across_closing_and_opening(desk: Path, tmp_path: Path) -> None:
    assert check(record(desk, (FEW[:3], (), FEW[3:5], RELEASING[:3], FEW[5:])), tmp_path, 400) > 150


def test_a_log_is_made_whole_or_begins_anew(desk: Path, tmp_path: Path) -> None:
    assert check(record(desk, ((),)), tmp_path, 200) > 10


def test_nor_with_many_writers_at_once(desk: Path, tmp_path: Path) -> None:
    run = Run()
    order = threading.Lock()

    def write(log: Log) -> None:
        for size in (300, 900, 0, 500, 1200):
            with order:
                number = len(run.added) + 1
                run.tape.begun(number)
                lsn = add(log, number, size)
                assert lsn == number
                run.added.append(number)
            log.wait(lsn)
            with order:
                run.tape.acknowledged(log.durable)

    with closing(open_log(desk, TapedDisk(run.tape, str(desk)))) as log:
        at_once(*([lambda: write(log)] * 8))
    one_group_at_a_time(run)
    assert check(run, tmp_path, 500) > 200


def one_group_at_a_time(run: Run) -> None:
    """Insist that between two writes to segments there is a sync of the first: HB-13."""
    loose = None
    for op in run.tape.ops:
        if isinstance(op, Wrote) and any(op.data):
            assert loose is None, "a group was written before the one before it was synced"
            loose = op.file
        elif isinstance(op, Synced) and op.file == loose:
            loose = None


def test_what_a_killed_process_never_synced_is_certain_before_it_is_told(desk: Path, tmp_path: Path) -> None:
    """HB-12: what it wrote is in the system's cache, where the next process finds it, and is gone after a cut."""
    run = Run()
    disk = TapedDisk(run.tape, str(desk))
    log = open_log(desk, disk)
    adding(2, 300)(run, log)
    with fail_at("heartbeat.written", KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        adding(3, 300)(run, log)
    log._give_up()  # as the kernel does it for a process that was killed
    with closing(open_log(desk, disk)) as log:
        assert log.durable == 5
        run.tape.acknowledged(5)
        adding(2, 300)(run, log)
    assert check(run, tmp_path, 300) > 30


def second(image: Image, folder: Path, first: Run) -> tuple[Run, int]:
    """Go on after a cut, recorded, and return that with how many records the second session found."""
    image.lay_out(folder)
    run = Run(Tape.of(image), [(0, max((lsn for at, lsn in first.releases if at <= image.at), default=0))])
    disk = TapedDisk(run.tape, str(folder))
    with closing(open_log(folder, disk)) as log:
        kept = log.durable
        run.base = tuple(first.expected()[:kept])
        # What an opening has found is told to others from now on: it is as good as acknowledged.
        run.tape.begun(max(kept, image.begun))
        run.tape.acknowledged(kept)
        for number in range(500, 504):
            run.tape.begun(log.last + 1)
            add(log, number, 300)
            run.added.append(number)
            if number != 502:
                log.wait(log.last)
                run.tape.acknowledged(log.last)
    return run, kept


def check_second(first: Run, cuts: Iterable[Image], tmp_path: Path, budget: int) -> int:
    """Cut the power, go on, cut it again, and return how many disks were tried."""
    tried = 0
    fast = fast_folder(tmp_path)
    for image in cuts:
        folder = fast / "second"
        folder.mkdir()
        run, kept = second(image, folder, first)
        shutil.rmtree(folder)
        assert kept >= image.acknowledged
        tried += check(run, tmp_path, budget)
    fast.rmdir()
    return tried


@pytest.mark.parametrize(("steps", "every"), [(FEW, 9), (RELEASING, 14)])
def test_after_two_cuts_nothing_is_lost_and_nothing_comes_back(
    desk: Path, tmp_path: Path, steps: tuple[Step, ...], every: int
) -> None:
    first = record(desk, (steps,))
    cuts = [image for number, image in enumerate(images(first.tape, seed=3, budget=300)) if number % every == 0]
    assert check_second(first, cuts, tmp_path, 25) > 200


# --- the proof that these tests can find a loss at all ---


def test_without_the_syncs_of_the_segments_records_are_lost(desk: Path, tmp_path: Path) -> None:
    run = record(desk, (FEW,))
    made = [at for at, op in enumerate(run.tape.ops) if isinstance(op, FolderSynced)]
    run.tape.ops = [op for at, op in enumerate(run.tape.ops) if not (isinstance(op, Synced) and at > made[0])]
    count, found = losses(run, images(run.tape, seed=1, budget=120), tmp_path)
    assert len(found) > count // 4, found


def test_without_the_syncs_of_the_folder_segments_are_lost(desk: Path, tmp_path: Path) -> None:
    run = record(desk, (ROLLING,))
    run.tape.ops = [op for op in run.tape.ops if not isinstance(op, FolderSynced)]
    _, found = losses(run, images(run.tape, seed=1, budget=120), tmp_path)
    assert found


def test_without_the_sync_of_a_heading_a_segment_is_lost(desk: Path, tmp_path: Path) -> None:
    run = record(desk, (ROLLING,))
    ops = run.tape.ops
    named = [at for at, op in enumerate(ops) if isinstance(op, FolderSynced)]
    before = {max(at for at in range(place) if isinstance(ops[at], Synced)) for place in named}
    run.tape.ops = [op for at, op in enumerate(ops) if at not in before]
    _, found = losses(run, images(run.tape, seed=1, budget=300), tmp_path)
    assert found


@pytest.mark.torture
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("steps", [FEW, ROLLING, RELEASING])
def test_no_record_is_lost_in_many_more_images(desk: Path, tmp_path: Path, steps: tuple[Step, ...], seed: int) -> None:
    run = record(desk, (steps[:4], steps[4:]))
    check(run, tmp_path, 4000, seed)
    cuts = [image for number, image in enumerate(images(run.tape, seed=seed, budget=1200)) if number % 12 == 0]
    check_second(run, cuts, tmp_path, 40)


def test_every_record_says_which_it_is(desk: Path) -> None:
    record(desk, (FEW,))
    with open_log(desk) as log:
        assert [each.txn for each in log.scan() if isinstance(each, Record)] == list(range(1, 15))
