"""A node that dies at any point leaves a replica that holds what was acknowledged; the next one goes on from there."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.crash.replica_workload import KEEP_S, PACE, packs
from tests.unit.heartbeat.replica_kit import Watched, agent, claimed, objects_in
from tests.unit.heartbeat.replica_model import AGENTS, Lives, by_then, expected
from tests.unit.heartbeat.test_replica_model import found_in
from tests.unit.workbook.kit import SetClock

from torpor.base import faults
from torpor.heartbeat.reading import Reader
from torpor.heartbeat.retention import Upkeep
from torpor.testing import Ended, crash_script

ROOT = Path(__file__).parents[2]
ENV = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PATH": "/usr/bin:/bin"}
SCRIPT = str(Path(__file__).with_name("replica_workload.py"))
POINTS = [point for point in faults.POINTS if point.startswith("replica.") and point != "replica.snapshot"]


def run(point: str, nth: int, folder: Path) -> Ended:
    return crash_script(point, nth, SCRIPT, str(folder), env=ENV)


def require(objects: Watched, lives: Lives, acknowledged: int) -> None:
    """Require what is in the replica to be a beginning of what was shipped, with all that was acknowledged."""
    last = Reader(objects).catalog().last_lsn
    assert last >= acknowledged
    for number in range(AGENTS):
        assert found_in(objects, agent(number)) == expected(by_then(lives.records, last), agent(number))


def go_on(folder: Path, lives: Lives) -> None:
    """Be the next node: ship the rest, and keep the replica."""
    clock = SetClock(lives.records[-1].time)
    objects = objects_in(folder)
    replica = claimed(objects, 9_999, clock=clock)
    require(objects, lives, replica.shipped)
    replica.ship(lives.records)
    Upkeep(replica, keep_s=KEEP_S, pace=PACE).run(caught_up=True, whole=True)
    require(objects, lives, lives.records[-1].lsn)
    live = {source.key for source in replica.base.packs}
    assert set(objects.keys("packs")) == live, "nothing is left over"


def kill(point: str, nth: int, folder: Path) -> bool:
    """Kill a node at a point, and look at what it leaves; returns whether it got there."""
    folder.mkdir()
    lives = packs()
    ended = run(point, nth, folder)
    assert ended.killed or ended.code == 0, ended.err
    acknowledged = max(map(int, ended.out.split()), default=0)
    require(objects_in(folder), lives, acknowledged)
    go_on(folder, lives)
    return ended.killed


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("nth", [1, 3])
def test_a_node_killed_at_a_point_loses_nothing_that_it_acknowledged(tmp_path: Path, point: str, nth: int) -> None:
    """RP-11, RP-14: SIGKILL, a real folder, and the next node."""
    killed = kill(point, nth, tmp_path / "replica")
    assert killed or (point in ("replica.claiming", "replica.claimed") and nth > 1)


@pytest.mark.torture
@pytest.mark.parametrize("point", POINTS)
def test_a_node_killed_at_every_reaching_of_a_point(tmp_path: Path, point: str) -> None:
    nth = 1
    while kill(point, nth, tmp_path / f"replica-{nth}"):
        nth += 1
    assert nth > 1
