"""Tasks that wait for the log: they share syncs, hold nobody up, and each hears what became of its record."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from tests.unit.heartbeat.log_kit import add, numbers, open_log

from torpor.base.errors import HeartbeatClosed, HeartbeatFailed, HeartbeatStalled
from torpor.heartbeat import tasks
from torpor.heartbeat.log import Log
from torpor.heartbeat.segment import BLOCK_BYTES
from torpor.testing.logdisk import BrokenLogDisk, LogFault

ROOMY = 256 * BLOCK_BYTES


@pytest.fixture
def disk() -> BrokenLogDisk:
    return BrokenLogDisk()


@pytest.fixture
def log(tmp_path: Path, disk: BrokenLogDisk) -> Iterator[Log]:
    found = open_log(tmp_path / "heartbeat", disk, ROOMY)
    disk.lift()
    yield found
    disk.resume()
    with suppress(HeartbeatFailed):  # a test's own doing
        found.close()


async def commit(log: Log, number: int) -> int:
    lsn = add(log, number, 200)
    await log.arrive(lsn)
    assert log.durable >= lsn
    return lsn


def test_tasks_share_syncs_and_lose_nothing(log: Log, disk: BrokenLogDisk) -> None:
    async def write(writer: int) -> None:
        for turn in range(20):
            await commit(log, writer * 20 + turn)

    async def main() -> None:
        await asyncio.gather(*(write(writer) for writer in range(64)))

    asyncio.run(main())
    assert sorted(numbers(log)) == list(range(64 * 20))
    # 64 go on together, and are sent for twice at most in each of their rounds.
    assert disk.counts["sync"] <= 2 * 20 + 2


def test_the_event_loop_goes_on_while_the_device_stands_still(log: Log, disk: BrokenLogDisk) -> None:
    async def main() -> None:
        disk.stall()
        waiting = asyncio.create_task(commit(log, 1))
        await asyncio.to_thread(disk.stands.wait)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not waiting.done()
        disk.resume()
        assert await waiting == 1

    asyncio.run(main())


def test_what_is_durable_is_not_waited_for(log: Log, disk: BrokenLogDisk) -> None:
    log.wait(add(log, 1))
    counted = disk.counts["sync"]
    asyncio.run(log.arrive(1))
    assert disk.counts["sync"] == counted
    assert "torpor-sync" not in [thread.name for thread in threading.enumerate()]


def test_tasks_and_threads_wait_side_by_side(log: Log) -> None:
    def threads() -> None:
        for number in range(100, 200):
            log.wait(add(log, number))

    async def main() -> None:
        await asyncio.gather(*(commit(log, number) for number in range(100)))

    other = threading.Thread(target=threads)
    other.start()
    asyncio.run(main())
    other.join()
    assert sorted(numbers(log)) == list(range(200))


def test_two_event_loops_wait_side_by_side(log: Log) -> None:
    async def main(first: int) -> None:
        for start in range(first, first + 100, 10):
            await asyncio.gather(*(commit(log, number) for number in range(start, start + 10)))

    threads = [threading.Thread(target=asyncio.run, args=(main(first),)) for first in (0, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers(log)) == list(range(200))


def test_an_event_loop_that_ended_is_forgotten(log: Log, disk: BrokenLogDisk) -> None:
    async def leave() -> None:
        disk.stall()
        waiting = asyncio.create_task(commit(log, 1))
        await asyncio.to_thread(disk.stands.wait)
        waiting.cancel()

    asyncio.run(leave())
    disk.resume()
    assert asyncio.run(commit(log, 2)) == 2
    assert numbers(log) == [1, 2]
    assert len(log._tasks._crowds) == 1


def test_a_cancelled_task_leaves_its_record_on_its_way(log: Log, disk: BrokenLogDisk) -> None:
    async def main() -> None:
        disk.stall()
        both = [asyncio.create_task(commit(log, number)) for number in (1, 2)]
        await asyncio.to_thread(disk.stands.wait)
        both[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await both[0]
        disk.resume()
        assert await both[1] == 2

    asyncio.run(main())
    assert numbers(log) == [1, 2]


def test_each_task_is_told_that_the_log_has_failed(log: Log, disk: BrokenLogDisk) -> None:
    async def main() -> list[int | BaseException]:
        return await asyncio.gather(*(commit(log, number) for number in range(40)), return_exceptions=True)

    disk.set(LogFault("write", 1, errno.EIO, lasting=True))
    told = asyncio.run(main())
    assert {type(one) for one in told} == {HeartbeatFailed}
    assert len({id(one) for one in told}) == len(told)
    assert log.failed
    disk.lift()
    with pytest.raises(HeartbeatFailed):
        asyncio.run(commit(log, 50))


def test_who_was_served_before_the_log_failed_is_not_told_so(log: Log, disk: BrokenLogDisk) -> None:
    async def main() -> None:
        first = await commit(log, 1)
        disk.set(LogFault("write", 1, errno.EIO, lasting=True))
        with pytest.raises(HeartbeatFailed):
            await commit(log, 2)
        await log.arrive(first)

    asyncio.run(main())
    assert numbers(log) == [1]


def test_who_waits_for_too_long_is_sent_away(log: Log, disk: BrokenLogDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "LOG_STALL_SECONDS", 0.02)
    monkeypatch.setattr(tasks, "_GLANCE_S", 0.01)

    async def main() -> None:
        disk.stall()
        with pytest.raises(HeartbeatStalled):
            await commit(log, 1)
        disk.resume()
        assert await commit(log, 2) == 2

    asyncio.run(main())
    assert numbers(log) == [1, 2]


def test_an_interrupted_loop_leaves_the_log_usable(log: Log) -> None:
    async def main() -> None:
        task = asyncio.create_task(commit(log, 1))
        await asyncio.sleep(0)
        task.get_loop().call_soon(_interrupt)
        await asyncio.sleep(3600)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert asyncio.run(commit(log, 2)) == 2
    assert numbers(log) == [1, 2]


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_another_kind_of_event_loop_waits_too(log: Log) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(1, 6):
                nursery.start_soon(commit, log, number)

    trio.run(main)
    assert sorted(numbers(log)) == [1, 2, 3, 4, 5]


def test_a_forked_child_is_told_that_the_log_is_its_parents(log: Log) -> None:
    asyncio.run(commit(log, 1))
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(log.arrive(2))
        except HeartbeatClosed:
            os._exit(7)
        os._exit(1)
    until = time.monotonic() + 30
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(ended[1]) == 7
    assert asyncio.run(commit(log, 2)) == 2


def test_closing_ends_the_thread(tmp_path: Path) -> None:
    with open_log(tmp_path / "heartbeat") as log:
        asyncio.run(commit(log, 1))
        assert "torpor-sync" in [thread.name for thread in threading.enumerate()]
    assert "torpor-sync" not in [thread.name for thread in threading.enumerate()]
