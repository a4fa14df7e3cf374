"""What the tests of the log share: small segments, records that say what they are, and looking at all that is kept."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

from torpor.base.clock import SystemClock
from torpor.heartbeat.disk import SYSTEM, Disk
from torpor.heartbeat.log import Log
from torpor.heartbeat.records import Damage, Kind, Record
from torpor.heartbeat.segment import BLOCK_BYTES

HOME = "0198b7a0-0000-7000-8000-00000000c0de"
AGENTS = tuple(f"0198b7a0-0000-7000-8000-{number:012x}" for number in range(5))
SMALL = 4 * BLOCK_BYTES
"""Bytes in a segment that a few records fill."""


def open_log(folder: Path, disk: Disk = SYSTEM, segment_bytes: int = SMALL) -> Log:
    return Log.open(str(folder), HOME, SystemClock(), segment_bytes=segment_bytes, disk=disk)


def payload_of(number: int, size: int | None = None) -> bytes:
    """Return what the `number`th payload of a workload is: of many sizes, and never the same twice."""
    some = hashlib.sha256(str(number).encode()).digest()
    length = int.from_bytes(some[:2], "little") % 1500 if size is None else size
    return (some * (length // len(some) + 1))[:length]


def add(log: Log, number: int, size: int | None = None) -> int:
    """Add the `number`th record of a workload."""
    return log.add(AGENTS[number % len(AGENTS)], 1, number, Kind.COMMIT, payload_of(number, size))


def commit(log: Log, number: int, size: int | None = None) -> int:
    """Add the `number`th record of a workload, and wait for it."""
    lsn = add(log, number, size)
    log.wait(lsn)
    return lsn


def kept(log: Log) -> list[Record]:
    """Return all that is durable, and insist that nothing is damaged and no number left out."""
    found = []
    for each in log.scan():
        assert isinstance(each, Record), each
        found.append(each)
    if found:
        assert [record.lsn for record in found] == list(range(log.first, log.durable + 1))
    else:
        assert log.first == log.durable + 1
    return found


def numbers(log: Log) -> list[int]:
    """Return which records of a workload are kept, each checked to be what it was."""
    found = kept(log)
    for record in found:
        assert record.payload == payload_of(record.txn, len(record.payload))
        assert record.agent == AGENTS[record.txn % len(AGENTS)]
        assert record.group <= record.lsn
    return [record.txn for record in found]


def damage(log: Log) -> list[Damage]:
    return [each for each in log.scan() if isinstance(each, Damage)]


def at_once(*calls: Callable[[], object]) -> None:
    """Do several things in threads of their own, and raise the first error of any."""
    errors: list[BaseException] = []

    def run(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001  (it is raised below, where the test sees it)
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if errors:
        raise errors[0]
