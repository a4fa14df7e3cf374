"""The log: what is added is durable when it says so, can be read from anywhere, and is given up when told."""

from __future__ import annotations

import itertools
import os
import threading
from pathlib import Path

import pytest
from tests.unit.heartbeat.log_kit import AGENTS, HOME, SMALL, add, at_once, commit, kept, numbers, open_log, payload_of

from torpor.base.clock import SystemClock
from torpor.base.errors import (
    HeartbeatClosed,
    HeartbeatDamaged,
    HeartbeatOwned,
    HeartbeatReleased,
    InternalError,
    RecordRefused,
)
from torpor.heartbeat import stream
from torpor.heartbeat.log import Log
from torpor.heartbeat.records import NOBODY, Kind, Record, encoded_size
from torpor.heartbeat.segment import BLOCK_BYTES, segment_name
from torpor.testing import record as record_points
from torpor.testing.logdisk import BrokenLogDisk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "heartbeat"


# --- adding and waiting ---


def test_records_are_numbered_from_one_and_kept_as_they_were_added(folder: Path) -> None:
    with open_log(folder) as log:
        assert (log.first, log.last, log.durable) == (1, 0, 0)
        life = log.add(AGENTS[0], 0, 5, Kind.LIFE, b"standing")
        entry = log.add(NOBODY, 3, 9, Kind.LEDGER, b"")
        assert (log.last, log.durable) == (2, 0)
        log.wait(entry)
        assert log.durable == 2
        one, two = kept(log)
    assert (one.lsn, one.group, one.agent, one.life, one.txn, one.kind, one.payload) == (
        life, 1, AGENTS[0], life, 5, Kind.LIFE, b"standing",
    )  # fmt: skip
    assert (two.lsn, two.group, two.agent, two.life, two.txn, two.kind) == (entry, 1, NOBODY, 3, 9, Kind.LEDGER)


def test_a_log_goes_on_where_it_ended(folder: Path) -> None:
    for session in range(4):
        with open_log(folder) as log:
            assert log.durable == session * 5
            for number in range(session * 5 + 1, session * 5 + 6):
                assert commit(log, number) == number
    with open_log(folder) as log:
        assert numbers(log) == list(range(1, 21))


def test_closing_makes_durable_what_nobody_waited_for(folder: Path) -> None:
    with open_log(folder) as log:
        for number in range(1, 8):
            add(log, number)
    with open_log(folder) as log:
        assert numbers(log) == list(range(1, 8))


def test_a_record_larger_than_a_segment_gets_one_of_its_own(folder: Path) -> None:
    with open_log(folder) as log:
        commit(log, 1, 100)
        commit(log, 2, 10 * SMALL)
        commit(log, 3, 100)
        sizes = [facts.size for facts in log.segments()]
        assert sizes[0] == SMALL < sizes[1]
        assert numbers(log) == [1, 2, 3]
        assert [record.txn for record in log.read(0, 1)] == [1]
        assert [record.txn for record in log.read(1, 1)] == [2]
        log.release(log.durable)
    with open_log(folder) as log:
        assert numbers(log)[-1] == 3


def test_a_full_segment_is_followed_by_the_next(folder: Path) -> None:
    """HB-1."""
    with open_log(folder) as log:
        for number in range(1, 200):
            commit(log, number)
        facts = log.segments()
        assert len(facts) > 5
        assert [each.number for each in facts] == list(range(1, len(facts) + 1))
        assert all(before.last + 1 == after.first for before, after in itertools.pairwise(facts))
        assert facts[-1].last == 199
        assert log.size >= len(facts) * SMALL
        assert numbers(log) == list(range(1, 200))


def test_one_wait_makes_many_records_durable_by_one_sync(folder: Path) -> None:
    disk = BrokenLogDisk()
    with open_log(folder, disk, 64 * BLOCK_BYTES) as log:
        disk.lift()
        for number in range(1, 51):
            add(log, number, 1000)
        log.wait(log.last)
        assert (disk.counts["sync"], disk.counts["write"]) == (1, 1)
        assert log.durable == 50


def test_each_commit_of_a_lone_writer_is_one_write_and_one_sync(folder: Path) -> None:
    disk = BrokenLogDisk()
    with open_log(folder, disk, 64 * BLOCK_BYTES) as log:
        disk.lift()
        for number in range(1, 21):
            commit(log, number, 500)
        assert (disk.counts["sync"], disk.counts["write"]) == (20, 20)


def test_many_writers_share_syncs_and_lose_nothing(folder: Path) -> None:
    disk = BrokenLogDisk()
    each = 40
    with open_log(folder, disk, 16 * BLOCK_BYTES) as log:
        given: list[int] = []

        def write(first: int) -> None:
            for number in range(first, first + each):
                lsn = commit(log, number, 200)
                assert log.durable >= lsn
                given.append(lsn)

        at_once(*(lambda first=first: write(first) for first in range(1, 32 * each, each)))
        assert sorted(given) == list(range(1, 32 * each + 1))
        assert disk.counts["sync"] < len(given)
        assert sorted(numbers(log)) == list(range(1, 32 * each + 1))
    with open_log(folder, disk, 16 * BLOCK_BYTES) as log:
        assert len(kept(log)) == 32 * each


def test_what_one_thread_adds_keeps_its_order(folder: Path) -> None:
    with open_log(folder, segment_bytes=16 * BLOCK_BYTES) as log:

        def write(agent: int) -> None:
            for txn in range(1, 60):
                lsn = log.add(AGENTS[agent], 1, txn, Kind.COMMIT, payload_of(txn))
                if txn % 7 == 0:
                    log.wait(lsn)

        at_once(*(lambda agent=agent: write(agent) for agent in range(5)))
        log.wait(log.last)
        for agent in AGENTS:
            assert [each.txn for each in kept(log) if each.agent == agent] == list(range(1, 60))


def test_waiting_for_what_is_durable_is_free_and_for_what_nobody_added_a_bug(folder: Path) -> None:
    disk = BrokenLogDisk()
    with open_log(folder, disk) as log:
        commit(log, 1)
        disk.lift()
        log.wait(1)
        log.wait(0)
        assert disk.counts["sync"] == 0
        with pytest.raises(InternalError, match="nobody has added"):
            log.wait(2)


def test_a_record_beyond_the_limit_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "LOG_RECORD_MAX", 10_000)
    with open_log(folder) as log:
        with pytest.raises(RecordRefused):
            add(log, 1, 20_000)
        assert commit(log, 1, 9_000) == 1


def test_whoever_adds_more_than_may_wait_has_it_synced_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "LOG_PENDING_BYTES_MAX", 3 * encoded_size(1000))
    with open_log(folder) as log:
        for number in range(1, 4):
            add(log, number, 1000)
        assert log.durable == 0
        add(log, 4, 1000)
        assert log.durable == 3
        add(log, 5, 8000)
        assert log.durable == 4


def test_the_fault_points_of_a_commit_come_in_their_order(folder: Path) -> None:
    with record_points() as reached, open_log(folder) as log:
        commit(log, 1, 100)
    assert reached == [
        "heartbeat.rolling", "heartbeat.rolled",
        "heartbeat.adding", "heartbeat.writing", "heartbeat.written", "heartbeat.synced",
    ]  # fmt: skip


# --- interruptions ---


class Interrupted(BaseException):
    """What a signal handler raises."""


@pytest.mark.parametrize("call", ["write", "sync"])
def test_an_exception_out_of_nowhere_in_the_leader_loses_neither_the_record_nor_the_lead(
    folder: Path, call: str
) -> None:
    class Interrupting(BrokenLogDisk):
        armed = False

        def strike(self) -> None:
            if self.armed:
                self.armed = False
                raise Interrupted

        def sync(self, descriptor: int) -> None:
            if call == "sync":
                self.strike()
            super().sync(descriptor)

        def write(self, descriptor, parts, offset, size):
            super().write(descriptor, parts, offset, size)
            if call == "write":
                self.strike()

    disk = Interrupting()
    with open_log(folder, disk) as log:
        commit(log, 1)
        disk.armed = True
        with pytest.raises(Interrupted):
            commit(log, 2)
        assert log.durable == 1
        commit(log, 3)
        assert numbers(log) == [1, 2, 3]


def test_an_interrupted_leader_gives_the_lead_to_who_waits(folder: Path) -> None:
    class Interrupting(BrokenLogDisk):
        armed = False

        def sync(self, descriptor: int) -> None:
            super().sync(descriptor)
            if self.armed:
                self.armed = False
                raise Interrupted

    disk = Interrupting()
    with open_log(folder, disk) as log:
        disk.armed = True
        disk.stall()

        def lead() -> None:
            with pytest.raises(Interrupted):
                commit(log, 1)

        def follow(number: int) -> None:
            assert disk.stands.wait(30)
            commit(log, number)

        def go_on() -> None:
            assert disk.stands.wait(30)
            while log.last < 4:  # the followers have added, and are about to wait or do
                pass
            disk.resume()

        at_once(lead, lambda: follow(2), lambda: follow(3), lambda: follow(4), go_on)
        assert sorted(numbers(log)) == [1, 2, 3, 4]


# --- reading ---


@pytest.fixture
def log(folder: Path) -> Log:
    """Return a log of 100 records in several segments; the tests that use it close nothing, as a kill would."""
    made = open_log(folder)
    for number in range(1, 101):
        commit(made, number)
    return made


@pytest.mark.parametrize("limit", [1, 500, 5_000, 1_000_000])
def test_reading_gives_all_in_order_whatever_the_limit(log: Log, limit: int) -> None:
    after = 0
    while found := log.read(after, limit):
        assert [record.lsn for record in found] == list(range(after + 1, after + 1 + len(found)))
        assert sum(encoded_size(len(record.payload)) for record in found) <= limit or len(found) == 1
        assert all(record.payload == payload_of(record.txn) for record in found)
        after = found[-1].lsn
    assert after == 100
    log.close()


@pytest.mark.parametrize("after", [0, 1, 37, 98, 99])
def test_reading_may_begin_anywhere_and_go_back(log: Log, after: int) -> None:
    for _ in range(2):
        assert [record.lsn for record in log.read(after, 10_000_000)] == list(range(after + 1, 101))
        assert log.read(100, 1000) == []
    log.close()


def test_reading_sees_what_is_durable_and_no_more(log: Log) -> None:
    assert log.read(100, 1000) == []
    add(log, 101)
    assert log.read(100, 1000) == []
    log.wait(101)
    assert [record.txn for record in log.read(100, 10_000)] == [101]
    log.close()


def test_a_reader_beside_the_writers_sees_every_record_once(folder: Path) -> None:
    with open_log(folder, segment_bytes=8 * BLOCK_BYTES) as log:
        done = threading.Event()
        found: list[Record] = []

        def write() -> None:
            for number in range(1, 300):
                commit(log, number)

        def read() -> None:
            after = 0
            while not (done.is_set() and after == log.durable):
                for record in log.read(after, 3_000):
                    found.append(record)
                    after = record.lsn
                if after > 100:
                    log.release(after - 50)

        def writers() -> None:
            at_once(write, write, write)
            done.set()

        at_once(writers, read)
        assert [record.lsn for record in found] == list(range(1, 898))
        assert all(record.payload == payload_of(record.txn) for record in found)


def test_a_damaged_record_is_not_read(folder: Path, log: Log) -> None:
    path = folder / segment_name(1)
    data = bytearray(path.read_bytes())
    data[BLOCK_BYTES + 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(HeartbeatDamaged) as refused:
        log.read(0, 1000)
    assert (refused.value.path, refused.value.offset) == (str(path), BLOCK_BYTES)
    assert [record.lsn for record in log.read(1, 1_000_000)] == list(range(2, 101))
    log.close()


# --- giving up ---


def test_released_segments_are_used_again_and_the_rest_removed(folder: Path, log: Log) -> None:
    """HB-5."""
    before = log.segments()
    log.release(log.durable)
    assert len(log.segments()) == 1
    assert log.first == before[-1].first
    assert len(list(folder.glob("*.spare"))) == 2
    assert log.size == 3 * SMALL
    for number in range(101, 130):
        commit(log, number)
    assert not list(folder.glob("*.spare"))
    assert numbers(log) == list(range(before[-1].first, 130))
    log.close()


def test_only_whole_segments_below_the_number_are_released(log: Log) -> None:
    before = log.segments()
    log.release(before[2].first)
    assert [facts.number for facts in log.segments()] == [facts.number for facts in before[2:]]
    log.release(before[2].last - 1)
    assert log.first == before[2].first
    log.release(before[2].last)
    assert log.first == before[3].first
    with pytest.raises(HeartbeatReleased) as refused:
        log.read(0, 1000)
    assert (refused.value.asked, refused.value.first) == (1, before[3].first)
    log.close()


def test_what_is_not_durable_is_never_released(folder: Path) -> None:
    with open_log(folder) as log:
        for number in range(1, 40):
            add(log, number, 900)
        log.release(1_000_000)
        log.wait(log.last)
        assert len(log.segments()) > 2
        assert numbers(log) == list(range(1, 40))


def test_the_numbers_go_on_when_everything_was_released(folder: Path, log: Log) -> None:
    log.release(log.durable)
    first = log.first
    log.close()
    with open_log(folder) as again:
        assert (again.first, again.last) == (first, 100)
        assert commit(again, 101) == 101


def test_a_spare_is_made_ahead_and_once(folder: Path) -> None:
    with open_log(folder) as log:
        log.prepare()
        log.prepare()
        assert len(list(folder.glob("*.spare"))) == 1
        assert log.size == 2 * SMALL
        with record_points() as reached:
            for number in range(1, 40):
                commit(log, number, 900)
        assert reached.count("heartbeat.rolled") > 2
        assert not list(folder.glob("*.making"))


def test_leftovers_are_cleared_away_and_strangers_left_alone(folder: Path) -> None:
    open_log(folder).close()
    for name in ("0000000000000009.making", "0000000000000007.spare", "index.db", "x.spare", "1.segment"):
        (folder / name).write_bytes(b"x")
    with open_log(folder) as log:
        assert log.size == SMALL
    assert sorted(each.name for each in folder.iterdir()) == [
        segment_name(1), "1.segment", "index.db", "x.spare",
    ]  # fmt: skip


def test_a_log_may_begin_behind_a_number(folder: Path) -> None:
    with Log.open(str(folder), HOME, SystemClock(), after=41, segment_bytes=SMALL) as log:
        assert (log.first, log.durable) == (42, 41)
        assert commit(log, 42) == 42
    with open_log(folder) as log:
        assert numbers(log) == [42]


# --- owning and closing ---


def test_a_second_owner_is_told_who_holds_it(folder: Path) -> None:
    """HB-6."""
    with open_log(folder):
        with pytest.raises(HeartbeatOwned) as refused:
            open_log(folder)
        assert refused.value.pid == os.getpid()
        assert (folder / "owner").exists()
    assert not (folder / "owner").exists()
    open_log(folder).close()


def test_after_closing_everything_is_refused_and_closing_again_is_nothing(folder: Path, log: Log) -> None:
    log.close()
    log.close()
    for call in (
        lambda: add(log, 1),
        lambda: log.read(0, 1),
        lambda: list(log.scan()),
        lambda: log.release(1),
        log.prepare,
    ):
        with pytest.raises(HeartbeatClosed):
            call()
    log.wait(100)


def test_while_it_is_closed_what_was_added_before_becomes_durable_and_nothing_more_is_taken(folder: Path) -> None:
    disk = BrokenLogDisk()
    log = open_log(folder, disk)
    commit(log, 1)
    disk.stall()
    leader = threading.Thread(target=commit, args=(log, 2))
    leader.start()
    assert disk.stands.wait(30)
    add(log, 3)
    closer = threading.Thread(target=log.close)
    closer.start()
    while not log._closed:  # the closer has begun
        pass
    with pytest.raises(HeartbeatClosed):
        add(log, 4)
    disk.resume()
    closer.join(30)
    leader.join(30)
    with open_log(folder) as again:
        assert numbers(again) == [1, 2, 3]


def test_descriptors_are_given_back(folder: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with open_log(folder) as log:
        for number in range(1, 60):
            commit(log, number)
            log.read(number - 1, 1000)
        list(log.scan())
        log.release(log.durable)
        assert len(os.listdir("/proc/self/fd")) <= before + 3
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("size", [0, BLOCK_BYTES, BLOCK_BYTES * 3 + 1])
def test_a_segment_has_whole_blocks(folder: Path, size: int) -> None:
    with pytest.raises(InternalError):
        open_log(folder, segment_bytes=size)
