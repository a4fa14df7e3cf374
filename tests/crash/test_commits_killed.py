"""SIGKILL where commits, records, replays and snapshots are under way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.crash import commits_workload
from tests.crash.commits_workload import FileLog, live, recover

from torpor.base import faults
from torpor.testing.crash import crash_script
from torpor.workbook import Durability, Replay, Workbook, digest, snapshot
from torpor.workbook.mark import mark_path

SCRIPT = str(Path(commits_workload.__file__))
ENV = {**os.environ, "PYTHONPATH": str(Path(faults.__file__).parents[2])}

# What the log has of the transaction that was under way, when its owner dies at a point.
LIVING = {
    "record.marked": "nothing: SQLite has not committed it",
    "record.committed": "nothing: only the file has it",
    "record.added": "its record",
    "record.broken": "that no record says it",
    "record.acknowledged": "its record",
    "settle.done": "its record",
    "leave.closed": "that the workbook was closed",
}
RECOVERING = ["replay.applying", "replay.applied", "replay.finishing", "replay.finished"]
COPYING = ["snapshot.copied"]
FAMILIES = ("record", "settle", "leave", "replay", "snapshot")
NTH = {"record.marked": (1,), "record.broken": (1,), "leave.closed": (1,)}


def test_every_point_is_visited() -> None:
    points = {point for point in faults.POINTS if point.partition(".")[0] in FAMILIES}
    assert points == {*LIVING, *RECOVERING, *COPYING}


def begin(folder: Path) -> Path:
    """Make a workbook, and a copy of it as it was in the beginning."""
    path = folder / "a.workbook"
    with Workbook.open(path) as book:
        book.append("note.added", {"number": -1})
    snapshot(path, str(folder / "old.workbook"))
    return path


@pytest.mark.parametrize(("point", "nth"), [(point, nth) for point in LIVING for nth in NTH.get(point, (1, 2, 5, 6))])
def test_whenever_an_owner_is_killed_file_and_log_agree(tmp_path: Path, point: str, nth: int) -> None:
    path = begin(tmp_path)
    ended = crash_script(point, nth, SCRIPT, "live", str(tmp_path), env=ENV)
    assert ended.killed == (point != "settle.done" or nth <= 4), ended.err
    log = FileLog(tmp_path)
    told = [(what, txn) for what, txn, _, _ in log.read() if what in ("commit", "broken")]
    in_log = told[-1][1] if told else 1
    assert [txn for _, txn in told] == list(range(2, in_log + 1)), "each transaction once, in order"
    standing, found = digest(path)
    assert standing.txn == in_log + (point == "record.committed")
    with Workbook.open(path, durability=Durability("heartbeat", "NORMAL", log=log)) as book:
        acknowledged = {int(line) for line in (tmp_path / "acks").read_text().split()}
        assert acknowledged <= {event.seq for event in book.events()}
        assert not Path(mark_path(str(path))).exists()
        book.append("note.added", {"after": True})
        book.verify().require()
    assert standing.agent == digest(path)[0].agent
    if ("broken", 6) not in told:
        with Replay.open(tmp_path / "old.workbook") as replay:
            replay.apply_many((txn, payload) for txn, payload in log.records() if txn <= in_log)
            replay.finish()
        if standing.txn == in_log:
            assert digest(tmp_path / "old.workbook") == (standing, found)


@pytest.mark.parametrize("point", RECOVERING)
@pytest.mark.parametrize("nth", [1, 3])
def test_whenever_a_recovery_is_killed_the_next_one_ends_it(tmp_path: Path, point: str, nth: int) -> None:
    path = begin(tmp_path)
    with Workbook.open(path, durability=Durability("heartbeat", "NORMAL", log=FileLog(tmp_path))) as book:
        for number in range(4):
            book.write("workspace", "/a.txt", b"x" * 1000 * number)
    ended = crash_script(point, nth, SCRIPT, "recover", str(tmp_path), env=ENV)
    assert ended.killed == (nth == 1 or point in RECOVERING[:2]), ended.err
    recover(tmp_path)
    assert digest(tmp_path / "old.workbook") == digest(path)


def test_a_snapshot_that_is_killed_changes_nothing(tmp_path: Path) -> None:
    path = begin(tmp_path)
    live(tmp_path)
    before = digest(path)
    assert crash_script("snapshot.copied", 1, SCRIPT, "copy", str(tmp_path), env=ENV).killed
    assert digest(path) == before
    (tmp_path / "copy.workbook").unlink()
    snapshot(path, str(tmp_path / "copy.workbook"))
    assert digest(tmp_path / "copy.workbook") == before
