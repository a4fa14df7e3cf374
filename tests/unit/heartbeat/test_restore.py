"""Restoring: what comes back is the agent, to the bit, at any moment; what can't come back is never made up."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from tests.unit.heartbeat.replica_kit import (
    ADA,
    BOB,
    SECOND,
    MemoryLog,
    claimed,
    flipped,
    objects_in,
    opened,
    placed,
    record,
    scratch_copy,
)
from tests.unit.workbook.kit import SetClock

from torpor.base.errors import FileTaken, ReplicaDamaged, ReplicaLacks, StorageFull, StoreUnreachable
from torpor.base.limits import SNAPSHOT_INLINE_MAX
from torpor.heartbeat.catalog import log_key
from torpor.heartbeat.packs import records_of
from torpor.heartbeat.reading import Reader
from torpor.heartbeat.records import NOBODY, Kind
from torpor.heartbeat.restore import Point, Progress, Restored, read_agent, restore_agent, restore_all
from torpor.heartbeat.retention import Pace, Upkeep
from torpor.heartbeat.snapshots import SnapshotAt, claim_of, pack_snapshot, unpack_snapshot
from torpor.testing import fail_at
from torpor.testing.chance import Seeded
from torpor.workbook import Standing, Workbook, digest


class State(msgspec.Struct, frozen=True):
    """How an agent was at one transaction."""

    standing: Standing
    digest: str
    time: int


class World:
    """Agents that live, their log, and their replica."""

    def __init__(self, folder: Path, clock: SetClock) -> None:
        self.folder = folder
        self.clock = clock
        self.objects = objects_in(folder / "replica")
        self.replica = claimed(self.objects, clock=clock)
        self.log = MemoryLog(clock)
        self.states: dict[str, list[State]] = {}
        self.books: dict[str, Workbook] = {}
        self._names: dict[str, Path] = {}

    def born(self, name: str) -> str:
        """Make an agent, and put its first snapshot into the log."""
        path = self.folder / f"{name}.workbook"
        book = opened(path, self.log, self.clock)
        whose = self.log.records[-1].agent
        self.books[whose], self._names[whose] = book, path
        self.states[whose] = []
        self.snapshot(whose)
        self.note(whose)
        return whose

    def snapshot(self, whose: str) -> None:
        path, standing = scratch_copy(self._names[whose])
        kind, payload = pack_snapshot(str(path), self.replica, agent=whose)
        path.unlink()
        life = max(one.life for one in self.log.records if one.agent == whose)
        self.log.add(whose, life, standing.txn, kind, payload)

    def note(self, whose: str) -> None:
        standing, found = digest(str(self._names[whose]))
        self.states[whose].append(State(standing, found, self.clock.now))

    def live(self, whose: str, number: int) -> None:
        """Do something, of a kind that follows from the number."""
        book = self.books[whose]
        self.clock.now += SECOND
        match number % 5:
            case 0 | 1:
                book.append("note.added", {"number": number})
            case 2:
                book.write("workspace", f"/file-{number % 7}", b"content %d " % number * number)
            case 3:
                book.memory.remember(f"what was learned as number {number}", source=f"https://x.example/{number % 4}")
            case _:
                with book.transaction():
                    book.append("note.added", {"part": 1})
                    book.append("note.added", {"part": 2})
        self.note(whose)

    def ship(self) -> None:
        self.replica.ship([one for one in self.log.records if one.lsn > self.replica.shipped])

    def target(self) -> str:
        return str(self.folder / f"restored-{os.urandom(4).hex()}.workbook")

    def close(self) -> None:
        for book in self.books.values():
            book.close()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, SetClock())


@pytest.fixture
def lived(world: World) -> tuple[World, str]:
    """Return an agent with forty transactions, shipped in packs of three, and with three snapshots."""
    ada = world.born("ada")
    for number in range(1, 41):
        world.live(ada, number)
        if number in (15, 30):
            world.snapshot(ada)
        if number % 3 == 0:
            world.ship()
    world.close()
    world.ship()
    return world, ada


def require(restored: Restored, state: State) -> None:
    assert (restored.txn, restored.seq, restored.head) == (
        state.standing.txn,
        state.standing.seq,
        state.standing.head,
    )
    assert digest(restored.path)[1] == state.digest


# --- what comes back ---


def test_the_newest_state_comes_back_to_the_bit(lived: tuple[World, str]) -> None:
    world, ada = lived
    restored = restore_agent(Reader(world.objects), ada, world.target(), clock=world.clock)
    require(restored, world.states[ada][-1])
    assert restored.complete
    assert restored.records == 10, "from the newest snapshot on"
    with Workbook.open(restored.path, clock=world.clock) as book:
        assert book.verify().ok
        assert book.append("note.added", {"goes": "on"}) == restored.seq + 1
    left = [name for name in os.listdir(world.folder) if "restored" in name]
    assert left == [os.path.basename(restored.path)]


def test_every_transaction_comes_back_to_the_bit(lived: tuple[World, str]) -> None:
    """RP-18: at any transaction since the first snapshot, what is restored is what was there."""
    world, ada = lived
    for state in world.states[ada]:
        restored = restore_agent(Reader(world.objects), ada, world.target(), at=Point(txn=state.standing.txn))
        require(restored, state)
        assert restored.complete


def test_every_event_and_every_time_comes_back(lived: tuple[World, str]) -> None:
    """RP-18: likewise by the number of an event, and by the time."""
    world, ada = lived
    states = world.states[ada]
    for at in range(1, len(states)):
        state = states[at]
        require(restore_agent(Reader(world.objects), ada, world.target(), at=Point(time=state.time)), state)
        if state.standing.seq > states[at - 1].standing.seq:
            point = Point(seq=states[at - 1].standing.seq + 1)
            require(restore_agent(Reader(world.objects), ada, world.target(), at=point), state)


def test_merged_and_retired_it_is_the_same(lived: tuple[World, str]) -> None:
    world, ada = lived
    Upkeep(world.replica, keep_s=20, pace=Pace(tail_packs=2)).run(caught_up=True, whole=True)
    for state in world.states[ada][-20:]:
        require(restore_agent(Reader(world.objects), ada, world.target(), at=Point(txn=state.standing.txn)), state)


def test_a_snapshot_that_stands_behind_commits_it_does_not_have(world: World) -> None:
    """RP-19: a snapshot of T is taken beside the writer, so T + 1 may be in the log before it, even as the last."""
    ada = world.born("ada")
    for number in range(1, 4):
        world.live(ada, number)
    path, standing = scratch_copy(world._names[ada])
    kind, payload = pack_snapshot(str(path), world.replica)
    world.live(ada, 4)
    world.ship()
    world.log.add(ada, world.log.records[0].life, standing.txn, kind, payload)
    world.ship()
    world.close()
    last = world.states[ada][-1]
    require(restore_agent(Reader(world.objects), ada, world.target()), last)
    require(restore_agent(Reader(world.objects), ada, world.target(), at=Point(time=world.clock.now)), last)
    Upkeep(world.replica, pace=Pace(tail_packs=1)).run(caught_up=True, whole=True)
    require(restore_agent(Reader(world.objects), ada, world.target()), last)


def test_many_come_back_in_parallel_and_one_that_fails_stops_nobody(world: World) -> None:
    """RP-20: each agent is restored by itself."""
    agents = [world.born(f"agent-{number}") for number in range(12)]
    for number in range(1, 6):
        for whose in agents:
            world.live(whose, number)
    world.close()
    world.ship()
    taken = world.target()
    Path(taken).write_bytes(b"something")
    targets = {whose: world.target() for whose in agents} | {agents[3]: taken, BOB: world.target()}
    seen: list[Progress] = []
    found = restore_all(Reader(world.objects), targets, clock=world.clock, watch=seen.append)
    assert isinstance(found[agents[3]], FileTaken)
    assert isinstance(found[BOB], ReplicaLacks)
    for whose in agents:
        if whose != agents[3]:
            restored = found[whose]
            assert isinstance(restored, Restored)
            require(restored, world.states[whose][-1])
    assert [(one.done, one.total) for one in seen] == [(number, 13) for number in range(1, 14)]
    assert sorted(one.agent for one in seen if one.stage == "failed") == sorted([agents[3], BOB])
    assert Path(taken).read_bytes() == b"something"


def test_for_many_agents_the_newest_packs_are_read_once(world: World) -> None:
    """RP-9: not once for each agent."""
    agents = [world.born(f"agent-{number}") for number in range(8)]
    for number in range(1, 6):
        for whose in agents:
            world.live(whose, number)
        world.ship()
    world.close()
    world.ship()
    world.objects.calls.clear()
    found = restore_all(Reader(world.objects), {whose: world.target() for whose in agents})
    assert all(isinstance(one, Restored) and one.complete for one in found.values())
    blocks = [key for name, key, size in world.objects.calls if name == "read" and key.startswith("log/")]
    packs = world.objects.keys("log")
    assert len(blocks) <= 2 * len(packs), "its index, and all of it"


# --- lives ---


def test_a_new_life_begins_with_its_own_snapshot(world: World) -> None:
    ada = world.born("ada")
    for number in range(1, 6):
        world.live(ada, number)
    world.close()
    world.ship()
    before = world.states[ada][-1]
    book = opened(world._names[ada], world.log, world.clock)  # joins: a new life
    world.books[ada] = book
    book.append("note.added", {"in": "its new life"})
    world.note(ada)
    world.ship()
    restored = restore_agent(Reader(world.objects), ada, world.target())
    require(restored, before)
    assert not restored.complete
    assert "snapshot" in restored.reason
    world.snapshot(ada)
    world.live(ada, 7)
    world.close()
    world.ship()
    restored = restore_agent(Reader(world.objects), ada, world.target())
    require(restored, world.states[ada][-1])
    assert restored.complete


def test_a_life_that_began_elsewhere_and_has_no_snapshot_is_not_taken_for_complete(world: World) -> None:
    """RP-19: records of one life are never applied to the state of another."""
    ada = world.born("ada")
    world.live(ada, 1)
    world.ship()
    standing = world.states[ada][-1].standing
    world.log.add(ada, 0, standing.txn, Kind.LIFE, msgspec.msgpack.encode(standing))
    world.ship()
    assert restore_agent(Reader(world.objects), ada, world.target()).complete, "it goes on where it was"
    elsewhere = msgspec.structs.replace(standing, head="f" * 64)
    world.log.add(ada, 0, standing.txn, Kind.LIFE, msgspec.msgpack.encode(elsewhere))
    world.ship()
    world.close()
    restored = restore_agent(Reader(world.objects), ada, world.target())
    require(restored, world.states[ada][-1])
    assert not restored.complete


def test_a_deleted_agent_comes_back_only_when_asked_for_a_moment_before(lived: tuple[World, str]) -> None:
    world, ada = lived
    world.log.add(ada, world.log.records[0].life, 0, Kind.GONE, b"")
    world.ship()
    with pytest.raises(ReplicaLacks, match="deleted"):
        restore_agent(Reader(world.objects), ada, world.target())
    state = world.states[ada][-1]
    require(restore_agent(Reader(world.objects), ada, world.target(), at=Point(time=state.time)), state)


def test_the_homes_own_records_are_read_likewise(world: World) -> None:
    world.log.add(NOBODY, 0, 0, Kind.LIFE, b"")
    life = world.log.records[-1].lsn
    world.log.add(NOBODY, life, 1, Kind.SNAPSHOT, b"ledger at 1")
    world.log.add(NOBODY, life, 2, Kind.LEDGER, b"second")
    world.log.add(NOBODY, life, 3, Kind.LEDGER, b"third")
    world.ship()
    found = read_agent(Reader(world.objects), NOBODY)
    assert found.snapshot.payload == b"ledger at 1"
    assert [one.payload for one in found.commits] == [b"second", b"third"]


# --- what can't come back ---


def test_a_gap_ends_what_is_restored_and_is_told(world: World) -> None:
    """RP-19: transactions follow each other without a gap, or the restore ends before it and says so."""
    ada = world.born("ada")
    for number in range(1, 9):
        world.live(ada, number)
    world.close()
    missing = next(
        one for one in world.log.records if one.kind is Kind.COMMIT and one.txn == world.states[ada][5].standing.txn
    )
    world.log.records.remove(missing)
    world.ship()
    restored = restore_agent(Reader(world.objects), ada, world.target())
    require(restored, world.states[ada][4])
    assert not restored.complete
    assert str(missing.txn) in restored.reason


def test_moments_that_are_not_there_are_refused(lived: tuple[World, str]) -> None:
    world, ada = lived
    for point in (Point(txn=10_000), Point(seq=10_000), Point(time=1)):
        with pytest.raises(ReplicaLacks):
            restore_agent(Reader(world.objects), ada, world.target(), at=point)
    with pytest.raises(ReplicaLacks):
        restore_agent(Reader(world.objects), BOB, world.target())
    with pytest.raises(ReplicaLacks):
        restore_agent(Reader(objects_in(world.folder / "empty")), ada, world.target())
    assert not [name for name in os.listdir(world.folder) if "restored" in name]


def pack_with(world: World, kind: Kind, txn: int) -> tuple[str, int]:
    """Return in which pack, and where, the block is that has a record of that kind and transaction."""
    reader = Reader(world.objects)
    for key in world.objects.keys("log"):
        for block in reader.index(key).blocks:
            content = world.objects.content(key)[block.offset : block.offset + block.length]
            for one in records_of(key, block, content):
                if one.kind is kind and one.txn == txn:
                    return key, block.offset
    raise AssertionError


def test_a_damaged_snapshot_is_got_round_by_the_one_before(lived: tuple[World, str]) -> None:
    """RP-21: damage costs what can't be had without it: here nothing, by the snapshot before and the commits since."""
    world, ada = lived
    newest = max(one.txn for one in world.log.records if one.kind is Kind.SNAPSHOT)
    key, offset = pack_with(world, Kind.SNAPSHOT, newest)
    world.objects.overwrite(key, flipped(world.objects.content(key), offset + 10))
    restored = restore_agent(Reader(world.objects), ada, world.target())
    require(restored, world.states[ada][-1])
    assert restored.complete
    assert restored.records > 10, "from the snapshot before"


def test_a_damaged_commit_ends_what_is_restored(lived: tuple[World, str]) -> None:
    """RP-21: likewise; and what is missing is told."""
    world, ada = lived
    last = world.states[ada][-1].standing.txn
    key, offset = pack_with(world, Kind.COMMIT, last - 4)
    world.objects.overwrite(key, flipped(world.objects.content(key), offset + 10))
    restored = restore_agent(Reader(world.objects), ada, world.target())
    require(restored, next(state for state in world.states[ada] if state.standing.txn == restored.txn))
    assert restored.txn < last
    assert not restored.complete
    assert key in restored.reason


def test_where_everything_is_damaged_the_error_names_pack_and_offset(world: World) -> None:
    ada = world.born("ada")
    world.ship()
    world.close()
    block = Reader(world.objects).index(log_key(2)).blocks[-1]
    world.objects.overwrite(log_key(2), flipped(world.objects.content(log_key(2)), block.offset + 10))
    with pytest.raises(ReplicaDamaged) as caught:
        restore_agent(Reader(world.objects), ada, world.target())
    assert caught.value.place == world.objects.place(log_key(2))
    assert caught.value.offset == block.offset


def test_a_forged_event_is_found_by_the_chain(world: World) -> None:
    """RP-18: every event's hash is checked against the one before."""
    ada = world.born("ada")
    world.live(ada, 1)
    world.close()
    last = world.log.records.pop()
    assert b'"number":1' in last.payload
    world.log.records.append(msgspec.structs.replace(last, payload=last.payload.replace(b'"number":1', b'"number":9')))
    world.ship()
    with pytest.raises(ReplicaDamaged, match=ada):
        restore_agent(Reader(world.objects), ada, world.target())
    assert not [name for name in os.listdir(world.folder) if "restored" in name]


def test_a_snapshot_of_another_agent_is_refused(world: World) -> None:
    """RP-18: what is restored is the agent's own."""
    ada = world.born("ada")
    world.close()
    snapshot = next(one for one in world.log.records if one.kind is Kind.SNAPSHOT)
    life = world.log.add(BOB, 0, 0, Kind.LIFE, b"")
    world.log.add(BOB, life, snapshot.txn, Kind.SNAPSHOT, snapshot.payload)
    world.ship()
    with pytest.raises(ReplicaDamaged, match=ada):
        restore_agent(Reader(world.objects), BOB, world.target())


@pytest.mark.parametrize("point", ["restore.fetched", "restore.replayed"])
def test_a_restore_that_failed_leaves_nothing_and_can_be_done_again(lived: tuple[World, str], point: str) -> None:
    world, ada = lived
    target = world.target()
    with fail_at(point, StorageFull(path=target, reason="full")), pytest.raises(StorageFull):
        restore_agent(Reader(world.objects), ada, target)
    assert not [name for name in os.listdir(world.folder) if "restored" in name]
    require(restore_agent(Reader(world.objects), ada, target), world.states[ada][-1])


def test_packs_that_are_retired_while_they_are_read_are_looked_for_again(lived: tuple[World, str]) -> None:
    world, ada = lived
    reader = Reader(world.objects)
    catalog = reader.catalog()
    Upkeep(world.replica, pace=Pace(tail_packs=1)).run(caught_up=True, whole=True)
    require(restore_agent(reader, ada, world.target(), catalog=catalog), world.states[ada][-1])


def test_packs_that_are_retired_while_the_past_is_looked_for_are_looked_for_again(lived: tuple[World, str]) -> None:
    world, ada = lived
    upkeep = Upkeep(world.replica, pace=Pace(tail_packs=1))
    done: list[str] = []

    def retire(name: str, key: str) -> None:
        if name == "tail" and not done:
            done.append(key)
            upkeep.run(caught_up=True, whole=True)

    catalog = Reader(world.objects).catalog()
    world.objects.harm = retire
    state = world.states[ada][3]
    at = Point(txn=state.standing.txn)
    require(restore_agent(Reader(world.objects), ada, world.target(), at=at, catalog=catalog), state)
    assert done


# --- snapshots ---


def large(world: World) -> str:
    """Return an agent whose snapshot is no record any more."""
    ada = world.born("ada")
    for number in range(3):
        world.books[ada].write("workspace", f"/{number}", Seeded(number).token(SNAPSHOT_INLINE_MAX // 2))
    world.note(ada)
    world.snapshot(ada)
    world.live(ada, 1)
    world.close()
    world.ship()
    return ada


def test_a_large_snapshot_is_an_object_and_comes_back(world: World) -> None:
    """RP-22: up to 4 MiB a snapshot is a record, above that an object, which is there before the record."""
    ada = large(world)
    assert [one.kind for one in world.log.records if one.kind in (Kind.SNAPSHOT, Kind.SNAPSHOT_AT)] == [
        Kind.SNAPSHOT,
        Kind.SNAPSHOT_AT,
    ]
    (key,) = world.objects.keys("snapshots")
    assert key.startswith(f"snapshots/{ada}/")
    assert claim_of(key) == world.replica.number
    calls = [(name, key) for name, key, _ in world.objects.calls]
    assert calls.index(("put", key)) < len(calls) - 1 - calls[::-1].index(("create", world.objects.keys("log")[-1]))
    restored = restore_agent(Reader(world.objects), ada, world.target())
    require(restored, world.states[ada][-1])
    assert restored.records == 1
    assert restored.bytes > SNAPSHOT_INLINE_MAX


@pytest.mark.parametrize("harm", ["flipped", "cut", "longer", "missing", "another"])
def test_a_large_snapshot_that_is_damaged_is_never_taken(world: World, harm: str) -> None:
    """RP-22: its digest is checked."""
    ada = large(world)
    (key,) = world.objects.keys("snapshots")
    content = world.objects.content(key)
    match harm:
        case "flipped":
            world.objects.overwrite(key, flipped(content, len(content) // 2))
        case "cut":
            world.objects.overwrite(key, content[:-1000])
        case "longer":
            world.objects.overwrite(key, content + b"more")
        case "another":
            small = next(one for one in world.log.records if one.kind is Kind.SNAPSHOT)
            world.objects.overwrite(key, small.payload)
        case _:
            world.objects.delete(key)
    if harm == "longer":
        require(restore_agent(Reader(world.objects), ada, world.target()), world.states[ada][-1])
        return
    with pytest.raises(ReplicaDamaged) as caught:
        restore_agent(Reader(world.objects), ada, world.target())
    assert caught.value.place == world.objects.place(key)
    assert not [name for name in os.listdir(world.folder) if "restored" in name]


def test_a_snapshot_can_not_be_put_before_the_claim_or_while_the_store_is_away(world: World) -> None:
    source = world.folder / "source"
    source.write_bytes(Seeded(1).token(SNAPSHOT_INLINE_MAX + 1))
    world.objects.harm = lambda name, _: (
        (_ for _ in ()).throw(StoreUnreachable(place="x", reason="y")) if name == "put" else None
    )
    with pytest.raises(StoreUnreachable):
        pack_snapshot(str(source), world.replica)
    kind, payload = pack_snapshot(str(source), None)
    assert kind is Kind.SNAPSHOT
    assert len(payload) > SNAPSHOT_INLINE_MAX


def test_a_snapshot_of_any_size_is_unpacked_as_it_was(world: World) -> None:
    for size in (0, 1, 4096, SNAPSHOT_INLINE_MAX - 1000, SNAPSHOT_INLINE_MAX + 1, 3 * SNAPSHOT_INLINE_MAX):
        source, target = world.folder / f"source-{size}", world.folder / f"target-{size}"
        source.write_bytes(Seeded(size).token(size))
        kind, payload = pack_snapshot(str(source), world.replica, agent=ADA)
        unpack_snapshot(world.replica, record(1, kind=kind, payload=payload), str(target))
        assert target.read_bytes() == source.read_bytes()
        assert target.stat().st_mode & 0o777 == 0o600


def test_where_a_snapshot_is_can_be_read_from_its_record() -> None:
    assert msgspec.msgpack.decode(placed("snapshots/a/b"), type=SnapshotAt).key == "snapshots/a/b"
