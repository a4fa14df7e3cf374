"""A process is killed in a rewind or a fork: a workbook is as before or as after, and no half fork stands anywhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from torpor.base import faults
from torpor.testing.crash import crash_call
from torpor.testing.portrait import portrait
from torpor.workbook import Workbook, fork

ENV = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(Path(faults.__file__).parents[2]), str(Path(__file__).parent)]),
}
CALL = Path(__file__).stem
REWINDING = ("rewind.recorded", "rewind.placed", "transaction.begun", "transaction.committing", "transaction.committed")
FORKING = ("transaction.begun", "transaction.committing", "transaction.committed", "fork.copied", "fork.whole")


def lived(path: Path) -> int:
    """Make a workbook with a past and return the event to go back to."""
    with Workbook.open(path) as book:
        book.write("workspace", "/a.txt", b"first" * 20_000)
        book.memory.remember("a fact", source="fact")
        book.settings.set("tone", "kind")
        to = book.last
        book.volumes.append("workspace", "/a.txt", b"second")
        book.write("workspace", "/b.txt", b"b")
        book.delete("workspace", "/a.txt")
        book.memory.remember("another fact", source="fact")
        book.spend.book(5, "usd", source="wallet", target="models", key="k")
    return to


def rewind(path: str, to: str) -> None:
    """Rewind a workbook; called in a child that dies in it."""
    with Workbook.open(path) as book:
        book.rewind(int(to))


def branch(path: str, to: str) -> None:
    """Fork a workbook; called in a child that dies in it."""
    fork(path, f"{path}.fork", agent="the-fork", at=int(to))


@pytest.mark.parametrize("point", REWINDING)
def test_a_rewind_that_is_killed_has_happened_or_not(tmp_path: Path, point: str) -> None:
    path = tmp_path / "ada.workbook"
    to = lived(path)
    with Workbook.open(path) as book:
        before = portrait(book)
    ended = crash_call(point, 1, f"{CALL}:rewind", str(path), str(to), env=ENV)
    assert ended.killed, ended.err
    with Workbook.open(path) as book:
        assert book.verify().problems == ()
        assert (portrait(book) == before) == (point != "transaction.committed")
        if point != "transaction.committed":
            book.rewind(to)
        assert book.read("workspace", "/a.txt") == b"first" * 20_000
        assert [entry.content for entry in book.memory.entries()] == ["a fact"]
        assert book.spend.balances() == {}
        assert book.verify().problems == ()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ada.workbook"]


@pytest.mark.parametrize("point", FORKING)
def test_a_fork_that_is_killed_is_not_there_and_can_be_made_again(tmp_path: Path, point: str) -> None:
    path = tmp_path / "ada.workbook"
    target = tmp_path / "ada.workbook.fork"
    to = lived(path)
    ended = crash_call(point, 1, f"{CALL}:branch", str(path), str(to), env=ENV)
    assert ended.killed, ended.err
    assert not target.exists()
    fork(path, target, agent="the-fork", at=to)
    with Workbook.open(target) as book:
        assert book.verify().problems == ()
        assert book.read("workspace", "/a.txt") == b"first" * 20_000
    with Workbook.open(path) as book:
        assert book.verify().problems == ()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ada.workbook", "ada.workbook.fork"]
