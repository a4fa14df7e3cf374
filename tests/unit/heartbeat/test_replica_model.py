"""Random lives, shipped, merged, retired, claimed anew, with and without manifests, against a model of a few lines."""

from __future__ import annotations

import msgspec
import pytest
from tests.unit.heartbeat.replica_kit import SECOND, Watched, agent, claimed, objects_in_memory
from tests.unit.heartbeat.replica_model import AGENTS, Lives, by_then, expected
from tests.unit.workbook.kit import NOW, SetClock

from torpor.base.errors import ReplicaLacks
from torpor.heartbeat.reading import Reader
from torpor.heartbeat.records import Kind
from torpor.heartbeat.restore import NOW as AT_PRESENT
from torpor.heartbeat.restore import Point, read_agent
from torpor.heartbeat.retention import Pace, Upkeep
from torpor.testing.chance import Seeded


def found_in(objects: Watched, whose: str, at: Point = AT_PRESENT) -> tuple[int, int] | None:
    try:
        history = read_agent(Reader(objects), whose, at)
    except ReplicaLacks:
        return None
    for one in history.commits:
        assert one.payload == f"{history.life}/{one.txn}".encode()
        assert one.agent == whose
    if history.snapshot.kind is Kind.SNAPSHOT:
        assert history.snapshot.payload == f"{history.life}/{history.snapshot.txn}".encode()
    assert [one.txn for one in history.commits] == list(range(history.snapshot.txn + 1, history.txn + 1))
    return history.life, history.txn


def require(objects: Watched, lives: Lives) -> None:
    for number in range(AGENTS):
        assert found_in(objects, agent(number)) == expected(lives.records, agent(number)), number


def run(seed: int, steps: int) -> None:
    chance, clock = Seeded(seed), SetClock()
    objects = objects_in_memory()
    lives = Lives(seed)
    keep_s = 20 + chance.below(60)
    nodes = 1
    replica = claimed(objects, nodes, clock=clock)
    upkeep = Upkeep(replica, keep_s=keep_s, pace=Pace(tail_packs=2, merge_packs=6, manifest_packs=5))
    for _ in range(steps):
        replica.ship(lives.pack())
        clock.now = lives.records[-1].time
        what = chance.below(20)
        if what == 0:
            nodes += 1
            replica = claimed(objects, nodes, clock=clock)
            upkeep = Upkeep(replica, keep_s=keep_s, pace=Pace(tail_packs=2, merge_packs=6, manifest_packs=5))
        elif what < 8:
            upkeep.run(caught_up=True, whole=what < 4)
        elif what == 8:
            for key in objects.keys("manifests"):
                objects.delete(key)
        if what % 3 == 0:
            require(objects, lives)
            catalog = Reader(objects).catalog()
            assert msgspec.structs.replace(catalog, pieces={}) == replica._known
            objects.hidden = set(objects.keys("manifests"))
            assert Reader(objects).catalog() == catalog, "a manifest changes nothing"
            objects.hidden = set()
    require(objects, lives)
    last = lives.records[-1].lsn
    for lsn in range(max(1, last - keep_s), last + 1):
        whose = agent(chance.below(AGENTS))
        before = by_then(lives.records, lsn)
        if before[-1].kind is not Kind.GONE:
            assert found_in(objects, whose, Point(time=NOW + lsn * SECOND)) == expected(before, whose), lsn


@pytest.mark.parametrize("seed", range(12))
def test_a_replica_gives_back_what_the_model_says(seed: int) -> None:
    """RP-11, RP-12, RP-18, RP-19: now, and at every second that is kept."""
    run(seed, 50)


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(1000, 1400))
def test_a_replica_gives_back_what_the_model_says_for_long(seed: int) -> None:
    run(seed, 150)
