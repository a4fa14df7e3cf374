"""Shipping: who waits is told when his record is in the replica, whatever the store does; and packs stay few."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.unit.heartbeat.replica_kit import (
    ADA,
    MemoryLog,
    Watched,
    agent,
    claimed,
    node,
    objects_in,
    record,
    story,
    unreachable,
)
from tests.unit.workbook.kit import SetClock

from torpor.base.errors import (
    HeartbeatClosed,
    HeartbeatFenced,
    HeartbeatStalled,
    InternalError,
    ReplicaAhead,
    StoreUnreachable,
)
from torpor.heartbeat.catalog import log_key
from torpor.heartbeat.packs import PackKind
from torpor.heartbeat.reading import Reader
from torpor.heartbeat.records import Kind, encoded_size
from torpor.heartbeat.retention import Pace, Upkeep
from torpor.heartbeat.shipping import Rhythm, Shipper
from torpor.testing.chance import Seeded

QUICK = Rhythm(beat_s=0.02, apart_s=0.001, backoff_s=0.001, backoff_max_s=0.01, upkeep_s=0.01)
PATIENCE = 30.0
"""Seconds that a test waits for what must come."""


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def objects(tmp_path: Path) -> Watched:
    return objects_in(tmp_path / "replica")


@pytest.fixture
def log(clock: SetClock) -> MemoryLog:
    return MemoryLog(clock)


def shipper_of(
    log: MemoryLog, objects: Watched, clock: SetClock, *, seed: int = 1, rhythm: Rhythm = QUICK, **more: object
) -> Shipper:
    replica = node(objects, seed, clock=clock)
    return Shipper(log, replica, clock=clock, entropy=Seeded(seed), rhythm=rhythm, **more)  # type: ignore[arg-type]


@contextmanager
def running(shipper: Shipper) -> Iterator[Shipper]:
    shipper.start()
    try:
        yield shipper
    finally:
        shipper.stop(flush=False, timeout_s=PATIENCE)


def write(log: MemoryLog, count: int, whose: str = ADA) -> int:
    """Add a snapshot, if it is the first record, and commits; returns the number of the last."""
    for _ in range(count):
        txn = log.durable + 1
        log.add(whose, 1, txn, Kind.SNAPSHOT if txn == 1 else Kind.COMMIT, b"x" * 100)
    return log.durable


def packs(objects: Watched) -> list[int]:
    """Return how many records each pack of records has."""
    reader = Reader(objects)
    indexes = [reader.index(key) for key in objects.keys("log")]
    return [sum(block.count for block in index.blocks) for index in indexes if index.head.kind is PackKind.RECORDS]


def test_who_waits_is_told_when_his_record_is_in(log: MemoryLog, objects: Watched, clock: SetClock) -> None:
    """RP-14: an acknowledgement as replicated is given only for what a restore would find."""
    slow = Rhythm(beat_s=3600, apart_s=0.001)
    with running(shipper_of(log, objects, clock, rhythm=slow)) as shipper:
        for _ in range(5):
            lsn = write(log, 3)
            shipper.wait(lsn, PATIENCE)
            assert story(objects)[-1][0] == lsn
    assert packs(objects) == [3] * 5


def test_without_anybody_waiting_the_beat_ships(log: MemoryLog, objects: Watched, clock: SetClock) -> None:
    told: list[int] = []
    came = threading.Event()

    def tell(lsn: int) -> None:
        told.append(lsn)
        if lsn == 7:
            came.set()

    with running(shipper_of(log, objects, clock, told=tell)):
        write(log, 7)
        assert came.wait(PATIENCE)
    assert told[0] == 0, "the claim"
    assert story(objects)[-1][0] == 7


def test_many_agents_are_one_pack(log: MemoryLog, objects: Watched, clock: SetClock) -> None:
    """RP-15: the number of packs depends on time and bytes, not on the number of agents."""
    for number in range(1000):
        log.add(agent(number), 1, 1, Kind.COMMIT, b"x" * 1000)
    with running(shipper_of(log, objects, clock)) as shipper:
        shipper.wait(1000, PATIENCE)
    assert packs(objects) == [1000]


def test_a_pack_has_no_more_bytes_than_the_rhythm_says(log: MemoryLog, objects: Watched, clock: SetClock) -> None:
    """RP-15: and one record at least, whatever its size."""
    rhythm = Rhythm(beat_s=0.02, apart_s=0.001, pack_bytes=10 * encoded_size(100))
    write(log, 95)
    log.add(ADA, 1, 96, Kind.COMMIT, b"y" * 50_000)
    with running(shipper_of(log, objects, clock, rhythm=rhythm)) as shipper:
        shipper.wait(96, PATIENCE)
    assert packs(objects)[:9] == [10] * 9
    assert sum(packs(objects)) == 96
    assert max(packs(objects)) == 10


def test_packs_are_apart_even_if_somebody_waits(log: MemoryLog, objects: Watched, clock: SetClock) -> None:
    """RP-15: those who come while the last pack is too fresh share the next one."""
    rhythm = Rhythm(beat_s=3600, apart_s=0.3)
    with running(shipper_of(log, objects, clock, rhythm=rhythm)) as shipper:
        shipper.wait(write(log, 1), PATIENCE)
        waiters = []
        for _ in range(20):
            waiters.append(threading.Thread(target=shipper.wait, args=(write(log, 1), PATIENCE)))
            waiters[-1].start()
        for waiter in waiters:
            waiter.join()
    assert packs(objects)[0] == 1
    assert sum(packs(objects)) == 21
    assert len(packs(objects)) <= 4, "twenty waiters did not make twenty packs"


# --- weather ---


def failing(times: int, *names: str) -> Callable[[str, str], None]:
    left = times

    def harm(name: str, key: str) -> None:
        nonlocal left
        if name in names and left > 0:
            left -= 1
            raise StoreUnreachable(place=key, reason="the test says so")

    return harm


def reached(shipper: Shipper, state: str) -> bool:
    """Wait until the shipper is in a state."""
    pause = threading.Event()
    for _ in range(3000):
        if shipper.lag().state == state:
            return True
        pause.wait(0.01)
    return False


def test_a_store_that_is_away_at_the_start_is_waited_for(log: MemoryLog, objects: Watched, clock: SetClock) -> None:
    objects.harm = unreachable()
    write(log, 3)
    with running(shipper_of(log, objects, clock)) as shipper:
        assert reached(shipper, "failing")
        lag = shipper.lag()
        assert (lag.records, lag.shipped, lag.failing_since) == (3, 0, clock.now)
        assert "the test says so" in lag.error
        objects.harm = lambda *_: None
        shipper.wait(3, PATIENCE)
        assert (shipper.lag().state, shipper.lag().error, shipper.lag().records) == ("shipping", "", 0)
    assert story(objects)[-1][0] == 3


def test_while_the_store_is_away_the_lag_is_told_and_then_all_is_shipped(
    log: MemoryLog, objects: Watched, clock: SetClock
) -> None:
    with running(shipper_of(log, objects, clock)) as shipper:
        shipper.wait(write(log, 3), PATIENCE)
        objects.harm = unreachable()
        write(log, 200)
        assert reached(shipper, "failing")
        clock.now += 3_600_000_000
        lag = shipper.lag()
        assert lag.records == 200
        assert 3600 <= lag.seconds < 3601
        assert lag.bytes == pytest.approx(200 * encoded_size(100))
        with pytest.raises(HeartbeatStalled):
            shipper.wait(203, 0.01)
        objects.harm = lambda *_: None
        shipper.wait(203, PATIENCE)
        assert shipper.lag().seconds == 0
    assert [txn for txn, _, _ in story(objects)] == list(range(1, 204))


@pytest.mark.parametrize("name", ["create", "size", "list", "read"])
@pytest.mark.parametrize("lost", [False, True])
def test_any_failure_and_any_lost_answer_is_passed(
    log: MemoryLog,
    objects: Watched,
    clock: SetClock,
    name: str,
    lost: bool,  # noqa: FBT001
) -> None:
    """RP-3: no record is lost, none is twice."""
    with running(shipper_of(log, objects, clock)) as shipper:
        for _ in range(10):
            if lost:
                objects.lost = failing(3, name)
            else:
                objects.harm = failing(3, name)
            shipper.wait(write(log, 2), PATIENCE)
    objects.harm = objects.lost = lambda *_: None
    assert [txn for txn, _, _ in story(objects)] == list(range(1, 21))
    assert sum(packs(objects)) == 20


def test_records_that_the_log_let_go_are_passed_over(log: MemoryLog, objects: Watched, clock: SetClock) -> None:
    """RP-16: a gap in the records' numbers ends nothing; what can be restored is what has a snapshot behind it."""
    with running(shipper_of(log, objects, clock)) as shipper:
        shipper.wait(write(log, 3), PATIENCE)
        objects.harm = unreachable()
        write(log, 20_000)
        assert reached(shipper, "failing")
        log.release(15_000)
        objects.harm = lambda *_: None
        shipper.wait(20_003, PATIENCE)
        assert shipper.lag().gaps <= 1
        if shipper.lag().gaps:
            assert story(objects)[-1][0] < 20_003, "there is a gap, and nothing behind it yet"
        log.add(ADA, 1, 20_003, Kind.SNAPSHOT, b"new")
        log.add(ADA, 1, 20_004, Kind.COMMIT, b"and on")
        shipper.wait(20_005, PATIENCE)
    assert [(txn, kind) for txn, kind, _ in story(objects)] == [(20_003, Kind.SNAPSHOT), (20_004, Kind.COMMIT)]


def test_no_more_than_one_packs_records_are_read_ahead(log: MemoryLog, objects: Watched, clock: SetClock) -> None:
    """RP-16: while the store is away, what waits is in the log and not in memory."""
    objects.harm = failing(10**9, "create")
    rhythm = Rhythm(beat_s=0.02, apart_s=0.001, backoff_s=0.001, backoff_max_s=0.002, pack_bytes=20 * encoded_size(100))
    claimed(Watched(objects), 9, clock=clock)
    objects.harm = lambda *_: None
    with running(shipper_of(log, objects, clock, rhythm=rhythm)) as shipper:
        shipper.wait(write(log, 1), PATIENCE)
        objects.harm = failing(10**9, "create")
        write(log, 5_000)
        assert reached(shipper, "failing")
        assert len(shipper._ahead.records) <= 20
        objects.harm = lambda *_: None
        shipper.wait(5_001, PATIENCE)
    assert max(packs(objects)) <= 20


# --- the end ---


def test_a_node_that_was_replaced_tells_everybody_who_waits(log: MemoryLog, objects: Watched, clock: SetClock) -> None:
    """RP-2: nothing is acknowledged any more."""
    slow = Rhythm(beat_s=3600, apart_s=0.001)
    with running(shipper_of(log, objects, clock, rhythm=slow)) as shipper:
        shipper.wait(write(log, 3), PATIENCE)
        claimed(objects, 2, clock=clock)
        lsn = write(log, 2)
        errors: list[BaseException] = []

        def wait() -> None:
            try:
                shipper.wait(lsn, PATIENCE)
            except HeartbeatFenced as error:
                errors.append(error)

        waiters = [threading.Thread(target=wait) for _ in range(8)]
        for waiter in waiters:
            waiter.start()
        for waiter in waiters:
            waiter.join()
        assert len(errors) == 8
        assert shipper.lag().state == "ended"
        with pytest.raises(HeartbeatFenced):
            shipper.wait(lsn, PATIENCE)
        shipper.wait(3, PATIENCE)  # that one is in
        assert shipper.stop(timeout_s=PATIENCE) is False
    assert story(objects)[-1][0] == 3


def test_a_home_that_is_an_older_copy_of_itself_ships_nothing(objects: Watched, clock: SetClock) -> None:
    """RP-17: a log that ends before the replica does would give other records the same numbers."""
    claimed(objects, 1, clock=clock).ship([record(lsn, txn=lsn) for lsn in range(1, 9)])
    log = MemoryLog(clock)
    write(log, 5)
    with running(shipper_of(log, objects, clock, seed=2)) as shipper, pytest.raises(ReplicaAhead) as caught:
        shipper.wait(5, PATIENCE)
    assert (caught.value.replica, caught.value.log) == (8, 5)
    assert packs(objects) == [8]


def test_a_new_log_that_begins_behind_the_replica_goes_on(objects: Watched, clock: SetClock) -> None:
    claimed(objects, 1, clock=clock).ship([record(1, kind=Kind.SNAPSHOT, txn=1), record(2, txn=2)])
    log = MemoryLog(clock, begin=2)
    with running(shipper_of(log, objects, clock, seed=2)) as shipper:
        log.add(ADA, 1, 3, Kind.COMMIT, b"on")
        shipper.wait(3, PATIENCE)
    assert [txn for txn, _, _ in story(objects)] == [1, 2, 3]


def test_stopping_ships_what_is_durable(log: MemoryLog, objects: Watched, clock: SetClock) -> None:
    shipper = shipper_of(log, objects, clock, rhythm=Rhythm(beat_s=3600, apart_s=3600))
    shipper.start()
    shipper.wait(write(log, 1), PATIENCE)
    write(log, 50)
    assert shipper.stop(timeout_s=PATIENCE) is True
    assert story(objects)[-1][0] == 51
    with pytest.raises(HeartbeatClosed):
        shipper.wait(52, PATIENCE)
    assert shipper.lag().state == "stopped"


def test_stopping_without_a_store_ends_in_time_and_says_so(log: MemoryLog, objects: Watched, clock: SetClock) -> None:
    objects.harm = unreachable()
    write(log, 3)
    shipper = shipper_of(log, objects, clock)
    shipper.start()
    assert reached(shipper, "failing")
    assert shipper.stop(timeout_s=0.05) is False
    for thread in shipper._threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_an_error_that_nobody_foresaw_is_told_to_those_who_wait(
    log: MemoryLog, objects: Watched, clock: SetClock
) -> None:
    def surprise(_: str, __: str) -> None:
        raise ZeroDivisionError

    objects.harm = surprise
    write(log, 1)
    told = pytest.raises(InternalError, match="ZeroDivisionError")
    with running(shipper_of(log, objects, clock)) as shipper, told:
        shipper.wait(1, PATIENCE)


def test_the_replica_is_kept_beside_the_shipping(log: MemoryLog, objects: Watched, clock: SetClock) -> None:
    replica = node(objects, 1, clock=clock)
    upkeep = Upkeep(replica, pace=Pace(tail_packs=2, merge_packs=8, manifest_packs=4))
    shipper = Shipper(log, replica, clock=clock, entropy=Seeded(1), rhythm=QUICK, upkeep=upkeep)
    with running(shipper):
        pause = threading.Event()
        for _ in range(3000):
            shipper.wait(write(log, 1), PATIENCE)
            if log_key(2) not in objects.keys("log") and objects.keys("manifests"):
                break
            pause.wait(0.002)
        assert shipper.lag().upkeep == ""
    assert log_key(2) not in objects.keys("log")
    assert [txn for txn, _, _ in story(objects)] == list(range(1, log.durable + 1))
