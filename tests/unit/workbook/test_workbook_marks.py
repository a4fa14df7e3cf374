"""The mark of a workbook that a log belongs to: after a power cut, nobody takes it for complete."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.unit.workbook import marks_workload
from tests.unit.workbook.log_kit import MemoryLog

from torpor.base import faults
from torpor.base.errors import NotRecovered, StorageFailed, TorporError
from torpor.testing.crash import crash_script
from torpor.testing.disk import BrokenSync
from torpor.workbook import Durability, Replay, Workbook, at_rest, awaits, digest, fork, snapshot
from torpor.workbook.mark import Mark, mark_path, read_mark, this_boot

SCRIPT = str(Path(marks_workload.__file__))
ENV = {**os.environ, "PYTHONPATH": str(Path(faults.__file__).parents[2])}
HOME = "/srv/home"


def names(path: Path) -> list[str]:
    return sorted(file.name.removeprefix(path.name) for file in path.parent.iterdir())


def cut_the_power(path: Path) -> None:
    """Make the mark one of an earlier boot of the machine."""
    Path(mark_path(str(path))).write_bytes(msgspec.json.encode(Mark("an earlier boot", HOME)))


@pytest.fixture
def dead(path: Path) -> Path:
    """Return a workbook whose owner, which had a log, was killed after a commit."""
    with Workbook.open(path) as book:
        book.append("note.added", {"number": 0})
    assert crash_script("record.acknowledged", 1, SCRIPT, str(path), env=ENV).killed
    assert {"", "-mark", "-wal"} <= set(names(path))
    return path


def test_the_mark_comes_with_the_first_commit_and_goes_when_the_workbook_is_closed(path: Path) -> None:
    log = MemoryLog(HOME)
    with Workbook.open(path, durability=log.durability()) as book:
        assert read_mark(str(path)) is None
        assert "-mark" not in names(path)
        with book.transaction():
            pass
        assert "-mark" not in names(path), "nothing was committed"
        book.append("note.added", {})
        assert read_mark(str(path)) == Mark(this_boot(), HOME)
    assert names(path) == [""]


def test_a_workbook_without_a_log_has_no_mark(path: Path) -> None:
    with Workbook.open(path) as book:
        book.append("note.added", {})
        assert "-mark" not in names(path)


def test_a_mark_that_cannot_be_made_durable_lets_nothing_be_committed(path: Path) -> None:
    log = MemoryLog(HOME)
    with Workbook.open(path, durability=log.durability()) as book:
        os.mkdir(mark_path(str(path)))
        for key in (None, "k"):
            with pytest.raises(TorporError):
                book.append("note.added", {}, key=key)
        assert (book.last, log.kept) == (0, [])
        os.rmdir(mark_path(str(path)))
        assert book.append("note.added", {}) == 1


OPENINGS: dict[str, Callable[[Path], object]] = {
    "an owner": Workbook.open,
    "an owner with a log": lambda path: Workbook.open(path, durability=MemoryLog(HOME).durability()),
    "a reader": lambda path: Workbook.open(path, readonly=True),
    "somebody who moves it": lambda path: at_rest(path).__enter__(),
    "a snapshot": lambda path: snapshot(path, f"{path}-copy"),
    "a digest": digest,
    "a fork": lambda path: fork(str(path), f"{path}-child", agent="01890000-0000-7000-8000-000000000000"),
}


@pytest.mark.parametrize("who", OPENINGS)
def test_after_a_power_cut_nobody_opens_it_before_its_home_has(dead: Path, who: str) -> None:
    cut_the_power(dead)
    before = names(dead)
    with pytest.raises(NotRecovered) as caught:
        OPENINGS[who](dead)
    assert (caught.value.path, caught.value.home) == (str(dead), HOME)
    assert set(names(dead)) <= {*before, "-owner"}
    assert awaits(str(dead)) == HOME


def test_a_replay_opens_it_and_takes_the_mark_away(dead: Path) -> None:
    cut_the_power(dead)
    with Replay.open(dead) as replay:
        assert replay.finish().seq == 2
    assert awaits(str(dead)) is None
    with Workbook.open(dead) as book:
        assert book.last == 2


def test_while_the_machine_runs_an_owner_syncs_the_file_and_takes_the_mark_away(dead: Path) -> None:
    assert awaits(str(dead)) is None
    with Workbook.open(dead, readonly=True) as reader:
        assert reader.last == 2
    assert "-mark" in names(dead), "a reader proves nothing"
    with (
        BrokenSync("counted") as vfs,
        Workbook.open(dead, durability=Durability("file", "FULL", vfs="counted")) as book,
    ):
        assert vfs.count
        assert "-mark" not in names(dead)
        assert book.last == 2
    assert names(dead) == [""]


def test_an_owner_that_cannot_sync_it_leaves_the_mark(dead: Path) -> None:
    with BrokenSync("broken") as vfs:
        vfs.nth = 1
        with pytest.raises(StorageFailed):
            Workbook.open(dead, durability=Durability("file", "FULL", vfs="broken"))
    assert "-mark" in names(dead)
    with Workbook.open(dead) as book:
        assert book.last == 2


def test_whoever_moves_it_completes_it_first(dead: Path) -> None:
    with at_rest(dead) as rest:
        assert {"-mark", "-wal"}.isdisjoint(names(dead))
        assert rest.look().seq == 2
    assert names(dead) == [""]


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"\xff{", b'{"boot": "an earl'])
def test_a_mark_that_never_became_durable_counts_as_none(dead: Path, content: bytes) -> None:
    Path(mark_path(str(dead))).write_bytes(content)
    assert awaits(str(dead)) is None
    with Workbook.open(dead) as book:
        assert book.last == 2


def test_a_mark_in_another_home_is_put_anew(dead: Path) -> None:
    log = MemoryLog("/srv/another")
    with Workbook.open(dead, durability=log.durability()) as book:
        book.append("note.added", {})
        assert read_mark(str(dead)) == Mark(this_boot(), "/srv/another")
    assert names(dead) == [""]
