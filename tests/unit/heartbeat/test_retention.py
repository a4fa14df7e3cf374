"""Merging, retiring and sweeping change what a replica costs, and never what it holds, wherever they are cut short."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.unit.heartbeat.replica_kit import (
    ADA,
    BOB,
    EVE,
    SECOND,
    Watched,
    agent,
    base_of,
    claimed,
    flipped,
    node,
    objects_in,
    objects_in_memory,
    placed,
    record,
    ship_each,
    story,
    unreachable,
)
from tests.unit.workbook.kit import NOW, SetClock

from torpor.base.errors import HeartbeatFenced, ReplicaDamaged, ReplicaLacks, StoreUnreachable
from torpor.heartbeat.catalog import log_key
from torpor.heartbeat.reading import Reader
from torpor.heartbeat.records import Kind, Record
from torpor.heartbeat.replica import Replica
from torpor.heartbeat.restore import Point, read_agent
from torpor.heartbeat.retention import Done, Pace, Upkeep
from torpor.testing.chance import Seeded

EAGER = Pace(tail_packs=1)
HOUR = 3600 * SECOND


class Killed(BaseException):
    """The process would have ended here."""


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def objects(tmp_path: Path) -> Watched:
    return objects_in(tmp_path / "replica")


def keep(replica: Replica, keep_s: float = 1000.0) -> Done:
    return Upkeep(replica, keep_s=keep_s, pace=EAGER).run(caught_up=True, whole=True)


def lived() -> list[list[Record]]:
    """Return packs of three agents' records: one deleted, one with two lives, one with snapshots, some elsewhere."""
    return [
        [record(1, ADA, Kind.LIFE, life=1), record(2, ADA, Kind.SNAPSHOT, txn=0, payload=b"empty")],
        [record(3, ADA, txn=1), record(4, BOB, Kind.LIFE, life=4), record(5, BOB, Kind.SNAPSHOT, life=4)],
        [record(6, ADA, txn=2), record(7, BOB, life=4, txn=1), record(8, EVE, Kind.SNAPSHOT, life=8, txn=1)],
        [record(9, ADA, Kind.SNAPSHOT_AT, txn=1, payload=placed("snapshots/a/1-1")), record(10, EVE, life=8, txn=2)],
        [record(11, ADA, txn=3), record(12, BOB, Kind.LIFE, life=12), record(13, BOB, Kind.SNAPSHOT, life=12, txn=9)],
        [record(14, EVE, Kind.GONE, life=8), record(15, BOB, life=12, txn=10), record(16, ADA, txn=4)],
        [record(17, ADA, Kind.SNAPSHOT_AT, txn=4, payload=placed("snapshots/a/1-2")), record(18, ADA, txn=5)],
        [record(19, ADA, txn=6), record(20, BOB, life=12, txn=11)],
    ]


def told(objects: Watched, *, at: Point | None = None) -> dict[str, object]:
    """Return what a reader makes of every agent."""
    found: dict[str, object] = {}
    for whose in (ADA, BOB, EVE):
        try:
            found[whose] = story(objects, whose, at)
        except ReplicaLacks as error:
            found[whose] = error.reason
    return found


def without_eve(found: dict[str, object]) -> dict[str, object]:
    """Return what is told of those who live on; of her, either her end is known, or nothing at all."""
    assert found[EVE] in ("it was deleted", "it has nothing of it by then")
    return {whose: story for whose, story in found.items() if whose != EVE}


def ends(objects: Watched, whose: str, at: Point) -> tuple[int, int]:
    found = read_agent(Reader(objects), whose, at)
    return found.life, found.txn


# --- merging ---


def test_merging_leaves_one_block_for_each_agent_life_and_snapshot(objects: Watched, clock: SetClock) -> None:
    replica = claimed(objects, clock=clock)
    ship_each(replica, *lived())
    before = told(objects)
    done = keep(replica)
    assert done.merged == 8
    (source,) = base_of(objects).packs
    blocks = Reader(objects).index(source.key, source.size).blocks
    assert [(block.agent, block.life, block.snapshot) for block in blocks] == [
        (ADA, 1, -1),
        (ADA, 1, 0),
        (ADA, 1, 1),
        (ADA, 1, 4),
        (BOB, 4, -1),
        (BOB, 4, 0),
        (BOB, 12, -1),
        (BOB, 12, 9),
        (EVE, 8, 1),
    ]
    assert told(objects) == before
    assert before[EVE] == "it was deleted"


def test_what_was_merged_is_merged_once(objects: Watched, clock: SetClock) -> None:
    replica = claimed(objects, clock=clock)
    ship_each(replica, *lived())
    keep(replica)
    for _ in range(3):
        keep(replica)
    packs = base_of(objects).packs
    assert [(source.first_lsn, source.last_lsn) for source in packs] == [(1, 18), (19, 20)]
    assert objects.keys("packs") == [source.key for source in packs]


def test_merging_waits_for_enough_packs_or_bytes(objects: Watched, clock: SetClock) -> None:
    replica = claimed(objects, clock=clock)
    ship_each(replica, *lived())
    few = Upkeep(replica, pace=Pace(tail_packs=1, merge_packs=9))
    assert few.run(caught_up=True).merged == 0
    much = Upkeep(replica, pace=Pace(tail_packs=1, merge_packs=9, merge_bytes=300))
    assert much.run(caught_up=True).merged > 0
    assert len(base_of(objects).packs) > 1, "a merge takes no more than that at once"


def test_the_end_of_the_sequence_is_never_merged(objects: Watched, clock: SetClock) -> None:
    """RP-5: the last packs of the sequence stay, so whoever looks for its end finds one."""
    replica = claimed(objects, clock=clock)
    ship_each(replica, *lived())
    Upkeep(replica, pace=Pace(tail_packs=4)).run(caught_up=True, whole=True)
    assert objects.keys("log")[1:5] == [log_key(number) for number in (6, 7, 8, 9)]


def test_a_damaged_block_is_carried_along_and_harms_nobody_else(objects: Watched, clock: SetClock) -> None:
    """RP-8: after merging it is still found by who needs it, and named."""
    replica = claimed(objects, clock=clock)
    ship_each(replica, *lived())
    key = log_key(7)
    bob = next(block for block in Reader(objects).index(key).blocks if block.agent == BOB)
    objects.overwrite(key, flipped(objects.content(key), bob.offset + 2))
    before = told(objects)
    assert keep(replica).damaged == 1
    after = told(objects)
    assert after == before
    assert base_of(objects).packs[0].key in read_agent(Reader(objects), BOB).reason


def test_a_pack_that_can_not_be_read_stops_merging_and_nothing_is_removed(objects: Watched, clock: SetClock) -> None:
    replica = claimed(objects, clock=clock)
    ship_each(replica, *lived())
    objects.overwrite(log_key(5), objects.content(log_key(5))[:-1])
    keys = objects.keys("")
    with pytest.raises(ReplicaDamaged):
        keep(replica)
    assert objects.keys("") == keys


# --- retiring ---


def test_what_is_older_than_the_snapshot_that_is_old_enough_goes(objects: Watched, clock: SetClock) -> None:
    """RP-12: what no moment within the time kept needs is removed, and nothing else."""
    replica = claimed(objects, clock=clock)
    for key in ("snapshots/a/1-1", "snapshots/a/1-2"):
        objects.overwrite(key, b"x")
    ship_each(replica, *lived())
    now = told(objects)
    clock.now = NOW + 20 * SECOND + HOUR
    keep(replica, 3600)  # the newest moment is an hour ago
    keep(replica, 3600)
    assert without_eve(told(objects)) == without_eve(now)
    assert objects.keys("snapshots") == ["snapshots/a/1-2"]
    blocks = [
        block for source in base_of(objects).packs for block in Reader(objects).index(source.key, source.size).blocks
    ]
    assert [(block.agent, block.life, block.first_lsn) for block in blocks if block.agent != EVE] == [
        (ADA, 1, 17),
        (BOB, 12, 13),
        (ADA, 1, 19),
        (BOB, 12, 20),
    ]


@pytest.mark.parametrize("age", range(21))
def test_every_moment_that_is_kept_can_be_restored(objects: Watched, clock: SetClock, age: int) -> None:
    """RP-12: whatever was retired, each moment since then leads to the same transaction as before."""
    replica = claimed(objects, clock=clock)
    ship_each(replica, *lived())
    moments = [Point(time=NOW + second * SECOND) for second in range(20 - age, 21)]
    before = [told(objects, at=moment) for moment in moments]
    clock.now = NOW + 20 * SECOND
    keep(replica, age)
    keep(replica, age)
    assert [ends(objects, BOB, moment) for moment in moments if moment.time and moment.time >= NOW + 5 * SECOND] == [
        (12, 11)
        if second >= 20
        else (12, 10)
        if second >= 15
        else (12, 9)
        if second >= 13
        else (4, 1)
        if second >= 7
        else (4, 0)
        for second in range(max(5, 20 - age), 21)
    ]
    for moment, then in zip(moments, before, strict=True):
        now = told(objects, at=moment)
        for whose in (ADA, BOB):
            assert now[whose] == then[whose]


def test_an_end_is_forgotten_only_after_what_it_ended(objects: Watched, clock: SetClock) -> None:
    """RP-12: a deleted agent never comes back because its end was retired first."""
    replica = claimed(objects, clock=clock)
    large = Seeded(1).token(50_000)
    upkeep = Upkeep(replica, pace=EAGER)
    for records in (
        [record(1, EVE, Kind.SNAPSHOT, txn=1), record(2, ADA, Kind.SNAPSHOT, txn=1, payload=large)],
        [record(4, EVE, Kind.GONE, txn=1), record(5, BOB, Kind.SNAPSHOT, txn=1, payload=large)],
        [record(7, BOB, Kind.SNAPSHOT, txn=1)],
    ):
        replica.ship(records)
        replica.ship([record(replica.shipped + 1, ADA, txn=replica.shipped)])
        upkeep.run(caught_up=True, whole=True)
    assert len(base_of(objects).packs) == 3
    clock.now = NOW + HOUR
    strict = Upkeep(replica, keep_s=60, pace=Pace(tail_packs=1, merge_bytes=100_000))
    assert strict.run(caught_up=True, whole=True).rewritten, "the pack with her end, and not the one before"
    for _ in range(3):
        strict.run(caught_up=True, whole=True)
        for found in objects.keys("manifests"):
            objects.delete(found)
        without_eve(told(objects))
    assert Reader(objects).catalog().pieces[EVE][0].block.has(Kind.GONE), "what it ended is still in a pack"


def test_small_packs_of_old_are_put_together(objects: Watched, clock: SetClock) -> None:
    replica = claimed(objects, clock=clock)
    upkeep = Upkeep(replica, keep_s=1, pace=EAGER)
    lsn = 0
    for _ in range(20):
        for _ in range(2):
            lsn += 1
            replica.ship([record(lsn, agent(lsn), Kind.SNAPSHOT, life=lsn, txn=1)])
        clock.now = NOW + (lsn + 10) * SECOND
        upkeep.run(caught_up=True, whole=True)
    assert len(base_of(objects).packs) <= 8
    assert len(objects.keys("packs")) == len(base_of(objects).packs)
    assert set(Reader(objects).catalog().agents()) == {agent(number) for number in range(1, lsn + 1)}


# --- sweeping ---


def test_snapshots_that_were_uploaded_and_never_recorded_go_when_nothing_can_speak_of_them(
    objects: Watched, clock: SetClock
) -> None:
    """RP-13: those of earlier claims, once everything that was in the log is shipped; never a moment sooner."""
    claimed(objects, 1, clock=clock)
    for name in ("0000000000000001-recorded", "0000000000000001-waiting", "0000000000000001-orphan"):
        objects.overwrite(f"snapshots/{ADA}/{name}", b"x")
    replica = claimed(objects, 2, clock=clock)
    objects.overwrite(f"snapshots/{ADA}/0000000000000002-new", b"x")
    replica.ship([record(1, kind=Kind.SNAPSHOT_AT, payload=placed(f"snapshots/{ADA}/0000000000000001-recorded"))])
    upkeep = Upkeep(replica, pace=EAGER)
    upkeep.run(caught_up=False, whole=True)
    assert len(objects.keys("snapshots")) == 4
    replica.ship([record(2, kind=Kind.SNAPSHOT_AT, payload=placed(f"snapshots/{ADA}/0000000000000001-waiting"))])
    upkeep.run(caught_up=True, whole=True)
    assert [key.rpartition("-")[2] for key in objects.keys("snapshots")] == ["recorded", "waiting", "new"]


def test_a_node_that_was_replaced_removes_nothing_that_counts(objects: Watched, clock: SetClock) -> None:
    """RP-11: what it merged doesn't count, and what others merged it doesn't touch."""
    old = claimed(objects, 1, clock=clock)
    ship_each(old, *lived())
    before = told(objects)
    new = claimed(objects, 2, clock=clock)
    keep(new)
    keys = objects.keys("")
    with pytest.raises((HeartbeatFenced, ReplicaDamaged)):
        keep(old)
    assert set(keys) <= set(objects.keys(""))
    assert told(objects) == before


def test_two_nodes_that_keep_one_replica_at_once_lose_nothing(objects: Watched, clock: SetClock) -> None:
    """RP-11: the old node merged, and was replaced before it could say so."""
    old = claimed(objects, 1, clock=clock)
    ship_each(old, *lived())
    before = told(objects)
    replaced: list[Replica] = []

    def replace(name: str, key: str) -> None:
        if name == "create" and key.startswith("log/") and not replaced:
            replaced.append(node(Watched(objects), 2, clock=clock))
            replaced[0].claim()
            keep(replaced[0])

    objects.harm = replace
    with pytest.raises(HeartbeatFenced):
        keep(old)
    objects.harm = lambda *_: None
    assert told(objects) == before
    last = claimed(objects, 3, clock=clock)
    keep(last)
    assert told(objects) == before
    assert objects.keys("packs") == [source.key for source in base_of(objects).packs]


# --- cut short ---


def writes(objects: Watched) -> int:
    return sum(name in ("create", "put", "delete") for name, _, _ in objects.calls)


def cut_short(objects: Watched, number: int, *, after: bool) -> None:
    """Have the process killed before, or after, a write; from then on it does nothing."""
    left = number

    def strike(name: str, _: str) -> None:
        nonlocal left
        if name in ("create", "put", "delete"):
            left -= 1
            if left <= 0:
                raise Killed

    if after:
        objects.lost = strike
    else:
        objects.harm = strike


def prepared(objects: Watched, clock: SetClock) -> Replica:
    """Return a node that has much to do: to merge, to retire, to sweep, and a manifest to write."""
    replica = claimed(objects, 1, clock=clock)
    for key in ("snapshots/a/1-1", "snapshots/a/1-2"):
        objects.overwrite(key, b"x")
    ship_each(replica, *lived()[:5])
    keep(replica)
    ship_each(replica, *lived()[5:])
    clock.now = NOW + 20 * SECOND + HOUR
    return replica


def steps() -> int:
    clock = SetClock()
    objects = objects_in_memory()
    replica = prepared(objects, clock)
    objects.calls.clear()
    done = keep(replica, 3600)
    assert done.merged
    assert done.rewritten
    assert done.removed
    assert done.manifests
    return writes(objects)


@pytest.mark.parametrize("after", [False, True])
def test_killed_between_any_two_writes_everything_is_as_it_was(after: bool) -> None:  # noqa: FBT001
    """RP-11: at each step, with manifests and without, before its successor and after it, a replica holds the same."""
    total = steps()
    assert total >= 12
    for number in range(1, total + 1):
        clock = SetClock()
        objects = objects_in_memory()
        replica = prepared(objects, clock)
        before = told(objects)
        cut_short(objects, number, after=after)
        with pytest.raises(Killed):
            keep(replica, 3600)
        objects.harm = objects.lost = lambda *_: None
        alive = without_eve(before)
        assert without_eve(told(objects)) == alive, number
        new = claimed(objects, 2, clock=clock)
        assert without_eve(told(objects)) == alive, number
        for found in objects.keys("manifests"):
            objects.delete(found)
        assert without_eve(told(objects)) == alive, number
        keep(new, 3600)
        keep(new, 3600)
        assert without_eve(told(objects)) == alive, number
        assert objects.keys("packs") == [source.key for source in base_of(objects).packs], number
        assert objects.keys("snapshots") == ["snapshots/a/1-2"], number


@pytest.mark.parametrize("name", ["create", "put", "delete", "read", "list", "size"])
def test_weather_at_any_call_changes_nothing_and_passes(name: str) -> None:
    """RP-11: the same node goes on when the store answers again."""
    for number in range(1, 40):
        clock = SetClock()
        objects = objects_in_memory()
        replica = prepared(objects, clock)
        before = told(objects)
        left = number

        def strike(what: str, key: str) -> None:
            nonlocal left
            left -= what == name
            if left == 0 and what == name:
                unreachable()(what, key)

        upkeep = Upkeep(replica, keep_s=3600, pace=EAGER)
        objects.harm = strike
        try:
            upkeep.run(caught_up=True, whole=True)
        except StoreUnreachable:
            assert told(objects)[ADA] == before[ADA]
        objects.harm = lambda *_: None
        upkeep.run(caught_up=True, whole=True)
        upkeep.run(caught_up=True, whole=True)
        assert without_eve(told(objects)) == without_eve(before)
        if left > 0:
            return
    raise AssertionError("there are more calls than were tried")


def test_the_base_forgets_what_was_dropped_once_it_is_removed(objects: Watched, clock: SetClock) -> None:
    replica = prepared(objects, clock)
    upkeep = Upkeep(replica, keep_s=3600, pace=EAGER)
    upkeep.run(caught_up=True, whole=True)
    assert base_of(objects).dropped == ("snapshots/a/1-1",)
    ship_each(replica, [record(21, ADA, txn=7)], [record(22, ADA, txn=8)])
    upkeep.run(caught_up=True, whole=True)
    assert base_of(objects).dropped == ()


def test_a_catalog_that_is_kept_up_to_date_is_the_one_that_is_read(objects: Watched, clock: SetClock) -> None:
    """RP-10: what a node knows of what it shipped, and what a reader finds, is the same."""
    replica = claimed(objects, clock=clock)
    for some in lived():
        replica.ship(some)
        keep(replica, 5)
        clock.now += SECOND
        found = Reader(objects).catalog()
        assert msgspec.structs.replace(found, pieces={}) == replica._known
        objects.hidden = set(objects.keys("manifests"))
        assert Reader(objects).catalog() == found
        objects.hidden = set()
