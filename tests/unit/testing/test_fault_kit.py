"""The fault kit does what it says: it hears points, kills at them, repeats its chances, and cleans up."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from torpor.base import faults
from torpor.base.errors import InternalError
from torpor.testing import (
    Seeded,
    crash_call,
    crash_command,
    crash_script,
    fail_at,
    kill_at,
    portrait,
    record,
)
from torpor.testing.crash import main
from torpor.workbook import Workbook

SCRIPT = """
import sys
from torpor.workbook import Workbook
with Workbook.open(sys.argv[1]) as book:
    for n in range(1, 4):
        with book.transaction():
            book.append("note.added", {"n": n})
            book.write("workspace", f"/{n}.txt", b"x" * 5000)
        print(n, flush=True)
"""


def test_recorded_points_are_those_reached_in_order() -> None:
    with record() as reached:
        faults.point("append.begun")
        faults.point("append.committed")
    faults.point("append.begun")
    assert reached == ["append.begun", "append.committed"]


def test_listeners_may_be_nested_and_each_is_gone_after_its_block() -> None:
    with record() as outer:
        with record() as inner:
            faults.point("run.started")
        faults.point("run.finished")
    assert inner == ["run.started"]
    assert outer == ["run.started", "run.finished"]


def test_an_error_is_raised_the_nth_time_only() -> None:
    with fail_at("append.begun", InternalError(promise="asked for"), nth=2):
        faults.point("append.begun")
        with pytest.raises(InternalError, match="asked for"):
            faults.point("append.begun")
        faults.point("append.begun")


def test_a_listener_is_gone_after_an_error_too() -> None:
    with pytest.raises(InternalError), fail_at("append.begun", InternalError(promise="x")):
        faults.point("append.begun")
    faults.point("append.begun")


@pytest.mark.parametrize(("point", "nth"), [("append.begins", 1), ("append.begun", 0)])
def test_a_point_that_can_never_be_reached_is_refused(point: str, nth: int) -> None:
    with pytest.raises(InternalError), kill_at(point, nth):
        pass


@pytest.mark.parametrize(
    ("point", "kept"),
    [
        ("append.begun", 1),
        ("append.inserted", 1),
        ("transaction.begun", 1),
        ("transaction.committing", 1),
        ("transaction.committed", 2),
    ],
)
def test_a_child_killed_at_a_point_leaves_whole_transactions(point: str, kept: int, tmp_path: Path) -> None:
    script, path = tmp_path / "script.py", tmp_path / "ada.workbook"
    script.write_text(SCRIPT, encoding="utf-8")
    # Writing a file appends an event too, so the fourth append is the second transaction's last.
    nth = 4 if point.startswith("append") else 2
    ended = crash_script(point, nth, str(script), str(path))
    assert ended.killed, ended.err
    with Workbook.open(path) as book:
        book.verify().require()
        assert [stat.path for stat in book.list("workspace")] == [f"/{n}.txt" for n in range(1, kept + 1)]
        assert book.last == 2 * kept
    assert crash_script("never", 1, str(script), str(path)).out.split() == ["1", "2", "3"]


MODULE = """
from torpor.workbook import Workbook

def visit(path):
    with Workbook.open(path) as book:
        book.append("note.added", {})
"""


def test_a_function_may_be_killed_in_a_child(tmp_path: Path) -> None:
    path = str(tmp_path / "ada.workbook")
    (tmp_path / "visiting.py").write_text(MODULE, encoding="utf-8")
    env = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    assert crash_call("transaction.committed", 2, "visiting:visit", path, env=env).code == 0
    assert crash_call("transaction.committed", 1, "visiting:visit", path, env=env).killed
    with Workbook.open(path) as book:
        assert book.last == 2


def test_the_command_line_may_be_run_in_a_child() -> None:
    assert crash_command("never", 1, "--help").code == 0


def test_an_unknown_way_to_start_is_refused() -> None:
    with pytest.raises(SystemExit, match="--elsewhere"):
        main(["never", "1", "--elsewhere"])


def test_the_same_seed_gives_the_same_chances_and_another_gives_others() -> None:
    one, same, other = Seeded(1), Seeded(1), Seeded(2)
    first = [one.token(16), one.below(10**9), one.coins(64)]
    assert first == [same.token(16), same.below(10**9), same.coins(64)]
    assert first != [other.token(16), other.below(10**9), other.coins(64)]


def test_coins_follow_their_odds() -> None:
    assert not any(Seeded(1).coins(500, odds=0))
    assert all(Seeded(1).coins(500, odds=256))
    assert 400 < sum(Seeded(1).coins(1000)) < 600


def test_portraits_tell_workbooks_apart(tmp_path: Path) -> None:
    with Workbook.open(tmp_path / "ada.workbook") as book:
        before = portrait(book)
        assert portrait(book) == before
        book.write("tmp", "/t", b"scratch")
        assert portrait(book) != before
