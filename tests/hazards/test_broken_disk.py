"""Whatever call to the disk fails, and whenever: a typed error, nothing lost, nothing by halves, and on it goes."""

from __future__ import annotations

import contextlib
import errno
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.power.workload import SMALL, Step, append, checkpoint_every, fast_folder, large, stream

from torpor.base.errors import (
    StorageFailed,
    StorageFull,
    TorporError,
    WorkbookDamaged,
    WorkbookReadOnly,
)
from torpor.testing import BrokenDisk, BrokenSync, Fault, portrait
from torpor.testing.disk import SHORT, Call
from torpor.testing.portrait import Portrait
from torpor.workbook import Durability, Workbook

STEPS: tuple[Step, ...] = (*SMALL, stream, append(4))

EXPECTED: dict[int, tuple[type[TorporError], ...]] = {
    errno.ENOSPC: (StorageFull, StorageFailed),
    errno.EIO: (StorageFailed, WorkbookDamaged),
    errno.EMFILE: (StorageFailed,),
    SHORT: (),
    errno.EACCES: (StorageFailed, WorkbookReadOnly),
}
"""SQLite itself says «disk I/O error» for some calls that fail for want of room, so both are right there.
And it says «malformed» where a read fails with EIO: those bytes are gone."""


@pytest.fixture(autouse=True)
def many_checkpoints() -> Iterator[None]:
    with checkpoint_every(10):
        yield


def outline(state: Portrait) -> tuple[object, ...]:
    """Return what of a state doesn't depend on when and under which ids it was reached."""
    return (
        state.last,
        state.files,
        [entry[1:] for entry in state.memory],
        state.spend,
        state.settings,
    )


@pytest.fixture(scope="module")
def goal(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """Return what the workload leads to on a disk that works."""
    with Workbook.open(tmp_path_factory.mktemp("goal") / "ada.workbook") as book:
        for step in STEPS:
            step(book)
        return outline(portrait(book))


def failure(act: Callable[[], object]) -> TorporError | None:
    """Return the error that `act` ends with, if it is one of ours."""
    try:
        act()
    except TorporError as error:
        return error
    return None


def expect(error: TorporError | None, fault: Fault) -> None:
    """Insist that an error, if there was one, is of the class that the fault must have."""
    assert error is None or isinstance(error, EXPECTED[fault.error]), f"{fault}: {error!r}"


def do(book: Workbook, step: Step, disk: BrokenDisk, fault: Fault) -> None:
    """Do a step; where it fails, insist that it failed well, and do it again on a disk that works."""
    with disk.paused():
        before = portrait(book)
    error = failure(lambda: step(book))
    if error is not None:
        expect(error, fault)
        assert disk.struck, f"{fault}: {error}"
        disk.lift()
        assert portrait(book) == before, f"{fault}: not undone"
        step(book)


def strike(folder: Path, fault: Fault, goal: tuple[object, ...]) -> bool:
    """Do the whole workload with one fault in it; returns whether it struck."""
    folder.mkdir()
    with BrokenDisk(folder) as disk:
        book = Workbook.open(folder / "ada.workbook")
        disk.set(fault)
        for step in STEPS:
            do(book, step, disk, fault)
        with disk.paused():
            assert outline(portrait(book)) == goal, f"{fault}: something is lost"
            book.verify().require()
        expect(failure(book.close), fault)
        struck = disk.struck > 0
        disk.lift()
        with Workbook.open(folder / "ada.workbook") as book:
            assert outline(portrait(book)) == goal, f"{fault}: something is lost after closing"
            book.verify().require()
    shutil.rmtree(folder)
    return struck


def strike_all(tmp_path: Path, goal: tuple[object, ...], fault: Fault, start: int, stride: int) -> int:
    fast = fast_folder(tmp_path)
    for count, nth in enumerate(itertools.count(start, stride)):
        now = Fault(fault.call, nth, fault.error, fault.lasting, fault.suffix)
        if not strike(fast / "disk", now, goal):
            fast.rmdir()
            return count
    return 0


CALLS: list[tuple[Call, int, bool, int]] = [
    ("write", errno.ENOSPC, False, 97),
    ("write", errno.ENOSPC, True, 101),
    ("write", errno.EIO, False, 103),
    ("truncate", errno.EIO, False, 1),
    ("delete", errno.EIO, False, 1),
    ("read", errno.EIO, False, 29),
    ("read", SHORT, True, 100_000),
    ("write", SHORT, True, 100_000),
]


@pytest.mark.parametrize(("call", "error", "lasting", "stride"), CALLS)
def test_a_failing_call_loses_nothing_and_halves_nothing(
    call: Call,
    error: int,
    lasting: bool,  # noqa: FBT001  (a parameter of the test)
    stride: int,
    tmp_path: Path,
    goal: tuple[object, ...],
) -> None:
    strike_all(tmp_path, goal, Fault(call, 1, error, lasting), 1, stride)


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["write", "truncate", "read", "delete"])
def test_each_failing_call_in_turn_loses_nothing(
    call: Call,
    error: int,
    lasting: bool,  # noqa: FBT001  (a parameter of the test)
    tmp_path: Path,
    goal: tuple[object, ...],
) -> None:
    strike_all(tmp_path, goal, Fault(call, 1, error, lasting), 1, 1)


def test_the_writes_of_the_workload_are_struck(tmp_path: Path, goal: tuple[object, ...]) -> None:
    """The proof that the faults above happen."""
    assert strike(tmp_path / "disk", Fault("write", 200, errno.ENOSPC), goal)
    assert not strike(tmp_path / "disk", Fault("write", 1_000_000, errno.ENOSPC), goal)


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["write", "truncate", "read", "open", "delete"])
def test_a_workbook_that_cannot_be_made_is_not_there_and_can_be_made_later(
    call: Call,
    error: int,
    lasting: bool,  # noqa: FBT001  (a parameter of the test)
    tmp_path: Path,
) -> None:
    path = tmp_path / "ada.workbook"
    for nth in itertools.count(1, 1 if call != "write" else 3):
        with BrokenDisk(tmp_path) as disk:
            fault = Fault(call, nth, error, lasting)
            disk.set(fault)
            expect(failure(lambda: Workbook.open(path).close()), fault)
            struck = disk.struck
            disk.lift()
            assert not Path(f"{path}-owner").exists(), f"{nth}: the claim outlived the failure"
            with Workbook.open(path) as book:
                assert book.last == 0
                assert book.append("note.added", {}) == 1
                book.verify().require()
            path.unlink()
        if not struck:
            return


def visit(path: Path) -> None:
    with Workbook.open(path) as book:
        book.append("note.added", {"may": "fail"})


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EMFILE, errno.EACCES])
@pytest.mark.parametrize("call", ["write", "read", "open"])
def test_a_workbook_that_cannot_be_opened_is_left_as_it_is(call: Call, error: int, tmp_path: Path) -> None:
    path = tmp_path / "ada.workbook"
    with Workbook.open(path) as book:
        for step in SMALL:
            step(book)
        before = portrait(book)
    for nth in itertools.count(1):
        with BrokenDisk(tmp_path) as disk:
            fault = Fault(call, nth, error, lasting=True)
            disk.set(fault)
            expect(failure(lambda: visit(path)), fault)
            struck = disk.struck
            disk.lift()
            with Workbook.open(path) as book:
                assert book.last >= before.last
                assert portrait(book).files == before.files
                book.verify().require()
        if not struck:
            return


def test_reading_goes_on_while_nothing_can_be_written(tmp_path: Path) -> None:
    with BrokenDisk(tmp_path) as disk, Workbook.open(tmp_path / "ada.workbook") as book:
        for step in SMALL:
            step(book)
        before = portrait(book)
        disk.set(Fault("write", 1, errno.ENOSPC, lasting=True))
        for step in (append(1), stream, large(1), *SMALL[:3]):
            with pytest.raises(StorageFull):
                step(book)
            assert portrait(book) == before
            book.verify().require()
        disk.lift()
        assert book.append("note.added", {}) == before.last + 1


def test_an_error_that_is_caught_inside_a_transaction_cannot_commit_half_of_it(tmp_path: Path) -> None:
    """SQLite may have undone everything already: going on would commit the second half alone."""
    with BrokenDisk(tmp_path) as disk, Workbook.open(tmp_path / "ada.workbook") as book:
        book.append("note.added", {})
        before = portrait(book)
        for nth in range(1, 400, 23):
            disk.set(Fault("write", nth, errno.ENOSPC))
            try:
                with book.transaction():
                    book.write("workspace", "/first", b"1" * 300_000)
                    with contextlib.suppress(StorageFull):  # what a careless caller does
                        book.write("workspace", "/second", b"2" * 3_000_000)
                    book.write("workspace", "/third", b"3")
            except TorporError:
                disk.lift()
                assert portrait(book) == before, nth
            else:
                disk.lift()
                found = {stat.path for stat in book.list("workspace")}
                assert found in ({"/first", "/third"}, {"/first", "/second", "/third"})
                with book.transaction():
                    for path in found:
                        book.delete("workspace", path)
                before = portrait(book)
            book.verify().require()


def test_a_failing_sync_undoes_the_transaction_and_the_next_one_holds(tmp_path: Path) -> None:
    durability = Durability("broken", "FULL", vfs="broken-sync")
    with (
        BrokenSync("broken-sync") as disk,
        Workbook.open(tmp_path / "ada.workbook", durability=durability) as book,
    ):
        # A checkpoint syncs the log as well, and apsw would carry its error further than SQLite does.
        book._store.db.wal_autocheckpoint(0)
        for number, step in enumerate(SMALL):
            before = portrait(book)
            for nth in (1, 2):
                disk.count, disk.nth = 0, nth
                try:
                    step(book)
                except StorageFailed:
                    disk.nth = 0
                    assert portrait(book) == before, number
                else:
                    assert disk.count < nth
                    break
            disk.nth = 0
            if portrait(book) == before:
                step(book)
            book.verify().require()
        state = portrait(book)
    with Workbook.open(tmp_path / "ada.workbook") as book:
        assert portrait(book) == state
