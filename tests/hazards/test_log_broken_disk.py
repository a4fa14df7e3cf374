"""A disk that fails, is full, writes by halves or stands still: nothing acknowledged is lost, and who waits is told."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest
from tests.unit.heartbeat.log_kit import SMALL, add, at_once, commit, numbers, open_log

from torpor.base.errors import HeartbeatFailed, HeartbeatFull, HeartbeatOwned, HeartbeatStalled
from torpor.heartbeat.log import Log
from torpor.heartbeat.segment import segment_name
from torpor.testing.logdisk import SHORT_WRITE, BrokenLogDisk, LogCall, LogFault


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "heartbeat"


@pytest.fixture
def disk() -> BrokenLogDisk:
    return BrokenLogDisk()


def lose(disk: BrokenLogDisk) -> int:
    """Take from the disk what no sync made certain, as a power loss after a failed sync may; return how much."""
    for path, offset, size in disk.lost:
        if Path(path).exists():
            with Path(path).open("r+b") as file:
                file.seek(offset)
                file.write(b"\xee" * size)
    return len(disk.lost)


def failing(log: Log) -> None:
    """Insist that the log has failed and says so to everybody."""
    assert log.failed
    with pytest.raises(HeartbeatFailed):
        add(log, 99)
    with pytest.raises(HeartbeatFailed):
        log.wait(log.last)


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EDQUOT, SHORT_WRITE])
@pytest.mark.parametrize("nth", [1, 3])
def test_a_write_that_fails_once_costs_nothing(folder: Path, disk: BrokenLogDisk, error: int, nth: int) -> None:
    with open_log(folder, disk) as log:
        commit(log, 1)
        disk.set(LogFault("write", nth, error, suffix=".segment"))
        for number in range(2, 8):
            commit(log, number)
        assert disk.struck == 1
        assert numbers(log) == list(range(1, 8))
        assert len(log.segments()) == (1 if error == SHORT_WRITE else 2)
    with open_log(folder) as log:
        assert numbers(log) == list(range(1, 8))


@pytest.mark.parametrize("nth", [1, 2, 5])
def test_a_failed_sync_is_never_tried_again_on_the_same_file(folder: Path, disk: BrokenLogDisk, nth: int) -> None:
    """HB-10: what the system dropped after the failed sync is not missed."""
    with open_log(folder, disk) as log:
        disk.set(LogFault("sync", nth, suffix=".segment"))
        for number in range(1, 8):
            add(log, 2 * number)
            commit(log, 2 * number + 1)
        assert disk.struck == 1
        assert len(log.segments()) == 2
        assert lose(disk) == 1
        assert numbers(log) == list(range(2, 16))
    with open_log(folder) as log:
        assert numbers(log) == list(range(2, 16))


def test_what_a_failed_sync_has_left_is_not_read_twice(folder: Path, disk: BrokenLogDisk) -> None:
    """HB-1: the segment ends where the next begins, although more of it can be read."""
    with open_log(folder, disk) as log:
        commit(log, 1)
        disk.set(LogFault("sync", 1))
        for number in range(2, 6):
            add(log, number, 300)
        log.wait(log.last)
        assert disk.struck == 1
    with open_log(folder) as log:
        assert [facts.first for facts in log.segments()] == [1, 2]
        assert numbers(log) == [1, 2, 3, 4, 5]
        assert [record.lsn for record in log.read(0, 1_000_000)] == [1, 2, 3, 4, 5]


def test_what_waits_behind_a_failed_sync_follows_into_fresh_segments(folder: Path, disk: BrokenLogDisk) -> None:
    with open_log(folder, disk) as log:
        commit(log, 1)
        disk.stall()
        disk.set(LogFault("sync", 1))
        leader = threading.Thread(target=commit, args=(log, 2))
        leader.start()
        assert disk.stands.wait(30)
        for number in range(3, 40):
            add(log, number, 900)
        disk.resume()
        leader.join(30)
        log.wait(log.last)
        assert disk.struck == 1
        lose(disk)
        assert numbers(log) == list(range(1, 40))
        numbered = [facts.number for facts in log.segments()]
        assert numbered == list(range(1, len(numbered) + 1))
    with open_log(folder) as log:
        assert numbers(log) == list(range(1, 40))


@pytest.mark.parametrize("call", ["write", "sync"])
def test_a_disk_that_goes_on_failing_fails_the_log_for_good(folder: Path, disk: BrokenLogDisk, call: LogCall) -> None:
    with open_log(folder, disk) as log:
        commit(log, 1)
        commit(log, 2)
        disk.set(LogFault(call, 1, lasting=True))
        with pytest.raises(HeartbeatFailed):
            commit(log, 3)
        disk.lift()
        failing(log)
        assert numbers(log) == [1, 2], "what was durable can still be read"
        with pytest.raises(HeartbeatFailed):
            log.close()
    assert not (folder / "owner").exists()
    lose(disk)
    with open_log(folder) as log:
        assert numbers(log) in ([1, 2], [1, 2, 3])
        commit(log, 4)
        assert numbers(log)[:2] == [1, 2]
        assert numbers(log)[-1] == 4


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_holds_commits_up_until_there_is_room(folder: Path, disk: BrokenLogDisk, error: int) -> None:
    with open_log(folder, disk) as log:
        done = 0
        disk.set(LogFault("write", 1, error, lasting=True, suffix=".making"))
        with pytest.raises(HeartbeatFull):
            for number in range(1, 60):
                done = commit(log, number, 900)
        assert 0 < done == log.durable == log.last - 1
        told = []

        def write(number: int) -> None:
            try:
                commit(log, number, 900)
            except HeartbeatFull as full:
                told.append(full.reason)

        at_once(*(lambda number=number: write(number) for number in range(done + 2, done + 10)))
        assert len(told) == 8
        assert log.durable == done
        assert not log.failed
        assert not list(folder.glob("*.making"))
        disk.lift()
        log.wait(log.last)
        assert sorted(numbers(log)) == list(range(1, done + 10))
        commit(log, 100)
    with open_log(folder) as log:
        assert len(numbers(log)) == done + 10


@pytest.mark.parametrize("call", ["open", "write", "sync", "sync_all", "rename", "sync_folder"])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("how", ["once", "for good"])
def test_a_new_segment_that_cannot_be_made_fails_whole_or_is_made_again(
    folder: Path, disk: BrokenLogDisk, call: LogCall, error: int, how: str
) -> None:
    lasting = how == "for good"
    log = open_log(folder, disk)
    done = 0
    disk.set(LogFault(call, 1, error, lasting=lasting, suffix="" if call == "sync_folder" else ".making"))
    try:
        for number in range(1, 60):
            done = commit(log, number, 900)
    except HeartbeatFull:
        assert lasting
        assert error == errno.ENOSPC
        disk.lift()
        log.close()
        done = log.durable
        assert done == log.last
    except HeartbeatFailed:
        assert lasting
        disk.lift()
        failing(log)
        with pytest.raises(HeartbeatFailed):
            log.close()
    else:
        assert not lasting
        log.close()
    assert disk.struck
    lose(disk)
    with open_log(folder) as log:
        found = numbers(log)
        assert found[:done] == list(range(1, done + 1))
        assert len(found) <= done + 1
        commit(log, 100)


def test_all_who_wait_are_told_when_the_log_fails(folder: Path, disk: BrokenLogDisk) -> None:
    told = []
    log = open_log(folder, disk)
    commit(log, 1)
    disk.stall()
    disk.set(LogFault("sync", 1, lasting=True))

    def write(number: int) -> None:
        try:
            commit(log, number)
        except HeartbeatFailed as error:
            told.append(error.reason)

    def go_on() -> None:
        assert disk.stands.wait(30)
        while log.last < 9:
            pass
        disk.resume()

    at_once(*(lambda number=number: write(number) for number in range(2, 10)), go_on)
    assert told == ["Input/output error"] * 8
    assert log.durable == 1
    with pytest.raises(HeartbeatFailed):
        log.close()


def test_a_disk_that_stands_still_stalls_those_who_wait_and_loses_nothing(folder: Path, disk: BrokenLogDisk) -> None:
    with open_log(folder, disk) as log:
        commit(log, 1)
        disk.stall()
        leader = threading.Thread(target=commit, args=(log, 2))
        leader.start()
        assert disk.stands.wait(30)
        lsn = add(log, 3)
        with pytest.raises(HeartbeatStalled) as told:
            log.wait(lsn, 0.01)
        assert told.value.waiting == 2
        assert not log.failed
        disk.resume()
        leader.join(30)
        log.wait(lsn)
        assert numbers(log) == [1, 2, 3]


def test_a_log_that_stands_still_is_not_given_up_at_its_end(
    folder: Path, disk: BrokenLogDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(folder, disk)
    disk.stall()
    leader = threading.Thread(target=commit, args=(log, 1))
    leader.start()
    assert disk.stands.wait(30)
    monkeypatch.setattr(Log.wait, "__defaults__", (0.01,))
    with pytest.raises(HeartbeatStalled):
        log.close()
    with pytest.raises(HeartbeatOwned):
        open_log(folder)
    disk.resume()
    leader.join(30)
    assert log.durable == 1
    log._give_up()  # the process would end here, and the claim with it


@pytest.mark.parametrize("call", ["names", "open", "read", "write", "sync"])
def test_a_log_that_cannot_be_opened_says_so_and_can_be_opened_later(
    folder: Path, disk: BrokenLogDisk, call: LogCall
) -> None:
    with open_log(folder) as log:
        for number in range(1, 6):
            commit(log, number)
    disk.set(LogFault(call, 1))
    with pytest.raises(HeartbeatFailed):
        open_log(folder, disk)
    assert disk.struck == 1
    assert not (folder / "owner").exists()
    with open_log(folder) as log:
        assert numbers(log) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("call", ["rename", "remove", "sync_folder"])
def test_segments_that_cannot_be_given_up_stay_and_the_log_goes_on(
    folder: Path, disk: BrokenLogDisk, call: LogCall
) -> None:
    with open_log(folder, disk) as log:
        for number in range(1, 60):
            commit(log, number, 900)
        disk.set(LogFault(call, 1, errno.EIO))
        with pytest.raises(HeartbeatFailed):
            log.release(log.durable)
        assert not log.failed
        disk.lift()
        commit(log, 60)
        log.release(log.durable)
        assert len(log.segments()) == 1
    with open_log(folder) as log:
        assert commit(log, 61) == 61
        assert numbers(log)[-1] == 61


def test_a_spare_that_cannot_be_made_leaves_nothing_behind(folder: Path, disk: BrokenLogDisk) -> None:
    with open_log(folder, disk) as log:
        disk.set(LogFault("write", 1, errno.ENOSPC))
        with pytest.raises(HeartbeatFailed, match="No space left"):
            log.prepare()
        assert log.size == SMALL
        assert not list(folder.glob("*.making"))
        log.prepare()
        commit(log, 1)
        assert log.size == 2 * SMALL


def test_what_a_failed_sync_left_in_the_cache_is_written_again_when_the_log_is_opened(
    folder: Path, disk: BrokenLogDisk
) -> None:
    """HB-12: the next process reads it from the cache, which may call it clean although the disk never had it."""
    log = open_log(folder, disk)
    commit(log, 1)
    disk.set(LogFault("sync", 1, lasting=True))
    for number in (2, 3):
        add(log, number, 500)
    with pytest.raises(HeartbeatFailed):
        log.wait(log.last)
    with pytest.raises(HeartbeatFailed):
        log.close()
    for left in folder.glob("*.making"):
        left.unlink()
    written = BrokenLogDisk()
    with open_log(folder, written) as log:
        assert numbers(log) == [1, 2, 3]
        assert (written.counts["write"], written.counts["sync"]) == (1, 1)
        data = (folder / segment_name(1)).read_bytes()
    lose(disk)
    assert (folder / segment_name(1)).read_bytes() != data, "the disk had it: this shows nothing"
