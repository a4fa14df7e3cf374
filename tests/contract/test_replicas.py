"""What a replica promises on every kind of store: one node writes it, and whoever was replaced finds out."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.store_kit import new_bucket, numbers, serving_s3, speaking_to
from tests.unit.heartbeat.replica_kit import (
    ADA,
    BOB,
    HOME,
    Watched,
    claimed,
    flipped,
    node,
    record,
    ship_each,
    story,
    unreachable,
)

from torpor.base.errors import (
    HeartbeatFenced,
    ReplicaDamaged,
    ReplicaTaken,
    StoreUnreachable,
)
from torpor.heartbeat import manifest
from torpor.heartbeat.catalog import log_key
from torpor.heartbeat.floor import FLOOR, read_floor
from torpor.heartbeat.packs import Base, PackKind
from torpor.heartbeat.reading import Reader
from torpor.heartbeat.records import Kind, Record
from torpor.heartbeat.replica import Replica
from torpor.heartbeat.retention import Pace, Upkeep
from torpor.stores.objects import open_objects
from torpor.stores.shelves import Options

EAGER = Pace(tail_packs=1)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with serving_s3() as address:
        yield address


@pytest.fixture(params=["file", "s3", "memory"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Watched:
    options = Options()
    match request.param:
        case "file":
            (tmp_path / "replica").mkdir()
            url = (tmp_path / "replica").as_uri()
        case "s3":
            address = request.getfixturevalue("s3")
            options = speaking_to(address)
            url = f"s3://{new_bucket(address)}/some/replica"
        case _:
            url = f"memory://replica-{next(numbers)}"
    return Watched(open_objects(url, str(tmp_path), options=options))


def commits(first: int, last: int, whose: str = ADA) -> list[Record]:
    """Return a snapshot and commits, numbered so."""
    made = [record(lsn, whose, txn=lsn) for lsn in range(first, last + 1)]
    if first == 1:
        made[0] = record(1, whose, Kind.SNAPSHOT, txn=1)
    return made


def lsns(objects: Watched, whose: str = ADA) -> list[int]:
    return [txn for txn, _, _ in story(objects, whose)]


# --- one node ---


def test_a_claim_is_the_first_pack_and_records_follow(objects: Watched) -> None:
    """RP-1: the packs of the sequence are numbered from 1 without a gap, and each is created, never replaced."""
    replica = node(objects)
    assert replica.claim().number == 1
    assert replica.ship(commits(1, 3)) == 2
    assert replica.ship(commits(4, 5)) == 3
    assert replica.shipped == 5
    assert objects.keys("log") == [log_key(1), log_key(2), log_key(3)]
    assert [Reader(objects).head(log_key(number)).kind for number in (1, 2)] == [PackKind.CLAIM, PackKind.RECORDS]
    assert lsns(objects) == [1, 2, 3, 4, 5]
    assert [name for name, key, _ in objects.calls if key.startswith("log/") and name == "put"] == []


def test_records_that_are_in_are_passed_over(objects: Watched) -> None:
    replica = claimed(objects)
    replica.ship(commits(1, 3))
    assert replica.ship(commits(1, 3)) == 2
    replica.ship(commits(1, 5))
    assert [block.first_lsn for block in Reader(objects).index(log_key(3)).blocks] == [4]


def test_nothing_is_shipped_before_the_claim_stands(objects: Watched) -> None:
    with pytest.raises(StoreUnreachable, match="claimed"):
        node(objects).ship(commits(1, 2))
    assert objects.keys("") == []


def test_the_replica_of_another_home_is_refused(objects: Watched) -> None:
    claimed(objects)
    with pytest.raises(ReplicaTaken) as caught:
        node(objects, 2, home=HOME.replace("a", "b")).claim()
    assert caught.value.home == HOME
    assert len(objects.keys("log")) == 1


def test_a_node_that_begins_again_goes_on_where_it_was(objects: Watched) -> None:
    claimed(objects, 1).ship(commits(1, 3))
    again = node(objects, 2)
    found = again.claim()
    assert (found.number, found.last_lsn) == (3, 3)
    again.ship(commits(1, 5))
    assert lsns(objects) == [1, 2, 3, 4, 5]


# --- two nodes ---


def test_the_node_that_was_replaced_is_fenced_for_good(objects: Watched) -> None:
    """RP-2: after a claim, no pack of an earlier node is added."""
    old = claimed(objects, 1)
    old.ship(commits(1, 3))
    new = claimed(objects, 2)
    for _ in range(2):
        with pytest.raises(HeartbeatFenced):
            old.ship([record(4, txn=4, payload=b"old")])
    assert old.shipped == 3
    assert old.fenced is not None
    new.ship([record(4, txn=4, payload=b"new")])
    with pytest.raises(HeartbeatFenced):
        old.rebase(old.base, Base(2))
    with pytest.raises(HeartbeatFenced):
        old.claim()
    assert story(objects)[-1] == (4, Kind.COMMIT, b"new")


def test_of_many_that_claim_at_once_one_is_left(objects: Watched) -> None:
    """RP-2: each gets a number of its own, and only the last may ship."""
    nodes = [node(objects, seed) for seed in range(1, 6)]
    begin = threading.Barrier(len(nodes))
    fenced: list[Replica] = []

    def claim(replica: Replica) -> None:
        begin.wait()
        try:
            replica.claim()
        except HeartbeatFenced:
            fenced.append(replica)

    threads = [threading.Thread(target=claim, args=(replica,)) for replica in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(replica.number for replica in nodes) == [1, 2, 3, 4, 5]
    shipped = []
    for replica in nodes:
        try:
            replica.ship(commits(1, 2))
            shipped.append(replica.number)
        except HeartbeatFenced:
            fenced.append(replica)
    assert shipped == [5]
    assert len(set(map(id, fenced))) == 4


def test_a_node_that_ships_while_another_claims_is_in_or_fenced_and_never_both(objects: Watched) -> None:
    """RP-2: what a node was told is in, its successor has."""
    old = claimed(objects, 1)
    old.ship(commits(1, 1))
    told = [1]

    def ship() -> None:
        try:
            for lsn in range(2, 40):
                old.ship([record(lsn, txn=lsn)])
                told.append(lsn)
        except HeartbeatFenced:
            pass

    thread = threading.Thread(target=ship)
    thread.start()
    new = node(objects, 2)
    found = new.claim()
    thread.join()
    assert found.last_lsn >= told[-1]
    assert lsns(objects) == list(range(1, found.last_lsn + 1))
    assert found.last_lsn == told[-1]


# --- lost answers ---


def test_a_pack_whose_answer_was_lost_is_there_once(objects: Watched) -> None:
    """RP-3: a node that finds its own pack under its next number goes on behind it."""
    replica = claimed(objects)
    objects.lost = unreachable("create")
    with pytest.raises(StoreUnreachable):
        replica.ship(commits(1, 3))
    assert replica.shipped == 0
    objects.lost = lambda *_: None
    assert replica.ship(commits(1, 5)) == 3
    assert lsns(objects) == [1, 2, 3, 4, 5]
    assert [len(Reader(objects).index(log_key(number)).blocks) for number in (2, 3)] == [1, 1]
    assert Reader(objects).head(log_key(2)).last_lsn == 3, "the same bytes were tried again"


def test_a_pack_that_did_not_arrive_is_tried_with_the_same_bytes(objects: Watched) -> None:
    """RP-3: until it is known what became of a pack, no other of its number is made."""
    replica = claimed(objects)
    objects.harm = unreachable("create")
    with pytest.raises(StoreUnreachable):
        replica.ship(commits(1, 3))
    objects.harm = lambda *_: None
    replica.ship(commits(1, 5))
    assert Reader(objects).head(log_key(2)).last_lsn == 3
    assert lsns(objects) == [1, 2, 3, 4, 5]


def test_a_lost_answer_and_a_successor_the_pack_counts_and_the_node_is_fenced(objects: Watched) -> None:
    replica = claimed(objects)
    objects.lost = unreachable("create")
    with pytest.raises(StoreUnreachable):
        replica.ship(commits(1, 3))
    objects.lost = lambda *_: None
    assert claimed(objects, 2).shipped == 3
    replica.finish()
    assert replica.shipped == 3, "it is in, whoever writes now"
    with pytest.raises(HeartbeatFenced):
        replica.ship(commits(4, 5))


def test_a_pack_that_never_arrived_and_a_successor_nothing_is_acknowledged(objects: Watched) -> None:
    replica = claimed(objects)
    objects.harm = unreachable("create")
    with pytest.raises(StoreUnreachable):
        replica.ship(commits(1, 3))
    objects.harm = lambda *_: None
    claimed(objects, 2)
    with pytest.raises(HeartbeatFenced):
        replica.ship(commits(1, 3))
    assert replica.shipped == 0


def test_a_claim_whose_answer_was_lost_is_claimed_again(objects: Watched) -> None:
    replica = node(objects)
    objects.lost = lambda name, key: unreachable()(name, key) if key.startswith("log/") else None
    with pytest.raises(StoreUnreachable):
        replica.claim()
    objects.lost = lambda *_: None
    replica.claim()
    replica.ship(commits(1, 2))
    assert lsns(objects) == [1, 2]


# --- stale lists ---


def test_a_claim_by_a_stale_list_comes_behind_what_is_there(objects: Watched) -> None:
    """RP-4: a list may be behind; the end of the sequence is where a create succeeds."""
    old = claimed(objects, 1)
    ship_each(old, commits(1, 2), commits(3, 4), commits(5, 5))
    objects.hidden = {log_key(3), log_key(4)}
    new = node(objects, 2)
    found = new.claim()
    assert (found.number, found.last_lsn) == (5, 5)
    objects.hidden = {log_key(2), log_key(3)}
    assert lsns(objects) == [1, 2, 3, 4, 5]


def retired(objects: Watched, seed: int = 1) -> Replica:
    """Return a node whose oldest packs are gone: of 1 to 8, only the claim and the last are left, and the base."""
    replica = claimed(objects, seed)
    ship_each(replica, *(commits(lsn, lsn) for lsn in range(1, 7)))
    Upkeep(replica, pace=EAGER).run(caught_up=True, whole=True)
    assert objects.keys("log") == [log_key(1), log_key(7), log_key(8)]
    return replica


def test_a_node_that_slept_until_its_successors_packs_were_removed_is_fenced(objects: Watched) -> None:
    """RP-5: claims are never removed, so the number behind a node's last pack is taken for ever."""
    asleep = claimed(objects, 1)
    new = claimed(objects, 2)
    ship_each(new, *(commits(lsn, lsn) for lsn in range(1, 7)))
    Upkeep(new, pace=EAGER).run(caught_up=True, whole=True)
    assert objects.keys("log") == [log_key(1), log_key(2), log_key(8), log_key(9)]
    with pytest.raises(HeartbeatFenced):
        asleep.ship(commits(1, 2))


def test_a_claim_by_a_list_from_before_the_removal_is_void_and_made_again(objects: Watched) -> None:
    """RP-6: a claim counts only above the floor, which is raised before anything is removed."""
    retired(objects)
    objects.hidden = {log_key(7), log_key(8), *objects.keys("manifests")}
    new = node(objects, 2)
    new.claim()
    assert new.number == 9
    assert log_key(2) in objects.keys("log"), "the void one"
    objects.hidden = set()
    new.ship([record(7, txn=7)])
    assert lsns(objects) == [1, 2, 3, 4, 5, 6, 7]
    Upkeep(new, pace=EAGER).run(caught_up=True, whole=True)
    assert log_key(2) not in objects.keys("log"), "the void claim is swept"
    assert lsns(objects) == [1, 2, 3, 4, 5, 6, 7]


def test_the_floor_is_raised_before_anything_is_removed(objects: Watched) -> None:
    """RP-6: it says the base already when the first pack goes."""
    retired(objects)
    names = [(name, key) for name, key, _ in objects.calls]
    first = next(at for at, (name, key) in enumerate(names) if name == "delete" and key.startswith("log/"))
    assert ("put", FLOOR) in names[:first]
    assert read_floor(objects) == 6


def test_a_floor_that_can_not_be_read_stops_a_claim(objects: Watched) -> None:
    retired(objects)
    objects.overwrite(FLOOR, b"nonsense")
    with pytest.raises(ReplicaDamaged):
        node(objects, 2).claim()


def test_a_store_that_replaces_what_it_should_not_is_refused(objects: Watched) -> None:
    """The trial is made before the claim; what it leaves is nothing."""
    claimed(objects)
    assert objects.keys("trials") == []
    assert objects.calls.index(next(call for call in objects.calls if call[1].startswith("trials/"))) < next(
        at for at, call in enumerate(objects.calls) if call[:2] == ("create", log_key(1))
    )


# --- readers ---


def test_a_reader_reads_only_the_ranges_of_its_agent(objects: Watched) -> None:
    """RP-9: one agent of two hundred costs a few requests and its own bytes, whatever the others have."""
    replica = claimed(objects)
    noise = [
        record(lsn, f"{lsn:08x}-0000-7000-8000-000000000000", txn=1, payload=bytes(5_000)) for lsn in range(1, 200)
    ]
    replica.ship([*noise, record(200, ADA, Kind.SNAPSHOT, txn=1), record(201, BOB, txn=1)])
    replica.ship([record(202, ADA, txn=2)])
    catalog = Reader(objects).catalog()
    objects.calls.clear()
    pieces = catalog.pieces[ADA]
    assert [one.lsn for one in Reader(objects).records(pieces)] == [200, 202]
    assert [name for name, _, _ in objects.calls] == ["read", "read"]
    assert sum(size for _, _, size in objects.calls) == sum(piece.block.length for piece in pieces)


def test_a_manifest_spares_reading_the_packs_before_it(objects: Watched) -> None:
    """RP-10: with a manifest the footers after it are read, and no others."""
    replica = claimed(objects)
    ship_each(replica, *(commits(lsn, lsn) for lsn in range(1, 9)))
    assert manifest.save(objects, replica.catalog()) == 9
    replica.ship(commits(9, 9))
    objects.calls.clear()
    catalog = Reader(objects).catalog()
    assert [key for name, key, _ in objects.calls if name == "read"] == ["manifests/0000000000000009", log_key(10)]
    assert catalog.last_lsn == 9
    assert lsns(objects) == list(range(1, 10))


@pytest.mark.parametrize("harm", ["missing", "stale", "damaged", "cut", "empty", "misnamed"])
def test_whatever_is_wrong_with_a_manifest_the_result_is_the_same(objects: Watched, harm: str) -> None:
    """RP-10: a manifest is a cache."""
    replica = claimed(objects)
    ship_each(replica, *(commits(lsn, lsn) for lsn in range(1, 4)))
    manifest.save(objects, replica.catalog())
    key = objects.keys("manifests")[0]
    content = objects.content(key)
    ship_each(replica, *(commits(lsn, lsn) for lsn in range(4, 7)))
    Upkeep(replica, pace=EAGER).run(caught_up=True, whole=True)
    objects.delete("manifests/0000000000000008")
    whole = Reader(objects).catalog()
    for found in objects.keys("manifests"):
        objects.delete(found)
    match harm:
        case "stale":
            objects.overwrite(key, content)
        case "damaged":
            objects.overwrite(key, flipped(content, len(content) // 2))
        case "cut":
            objects.overwrite(key, content[:-3])
        case "empty":
            objects.overwrite(key, b"")
        case "misnamed":
            objects.overwrite("manifests/000000000000ffff", content)
        case _:
            pass
    assert Reader(objects).catalog() == whole
    assert lsns(objects) == [1, 2, 3, 4, 5, 6]
