"""Exceptions out of nowhere, as signals raise them, in any thread at any place: nothing is lost, nobody is stopped."""

from __future__ import annotations

import ctypes
import itertools
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from tests.unit.heartbeat.log_kit import add, commit, kept, open_log, payload_of

from torpor.heartbeat.log import Log
from torpor.heartbeat.segment import BLOCK_BYTES

THREADS = 6
SIZE = 300


class Interrupted(BaseException):
    """What a signal's handler raises."""


class Crowd:
    """Threads that commit until told to stop, whatever is raised in them."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.numbers = itertools.count(1)
        self.added: dict[int, int] = {}
        self.acknowledged: set[int] = set()
        self.begun: set[int] = set()
        self.raised = 0
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.live) for _ in range(THREADS)]

    def live(self) -> None:
        # One exception may strike between two of the inner blocks, and then this thread is done.
        with suppress(Interrupted):
            self.begun.add(threading.get_ident())
            while not self.over.is_set():
                with suppress(Interrupted):
                    self.commit()

    def commit(self) -> None:
        number = next(self.numbers)
        try:
            self.added[number] = lsn = add(self.log, number, SIZE)
            self.log.wait(lsn)
            self.acknowledged.add(lsn)
        except Interrupted:
            self.raised += 1
            raise

    def strike(self, thread: int) -> None:
        """Raise an exception in a thread, and wait until somebody has committed something after it."""
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(Interrupted))
        seen = len(self.acknowledged)
        while len(self.acknowledged) == seen:
            pass

    def stop(self) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()


def interrupt(folder: Path, times: int) -> None:
    """Strike that often, and insist that all is as it should be."""
    with open_log(folder, segment_bytes=16 * BLOCK_BYTES) as log:
        crowd = Crowd(log)
        for thread in crowd.threads:
            thread.start()
        while len(crowd.begun) < THREADS:
            pass
        for target in itertools.islice(itertools.cycle(sorted(crowd.begun)), times):
            crowd.strike(target)
        crowd.stop()
        assert crowd.raised > times // 4
        commit(log, next(crowd.numbers), SIZE)
        found = kept(log)
    assert {record.lsn for record in found} >= crowd.acknowledged
    assert all(record.payload == payload_of(record.txn, SIZE) for record in found)
    assert len({record.txn for record in found}) == len(found)
    assert all(found[lsn - 1].txn == number for number, lsn in crowd.added.items())


def test_exceptions_at_any_place_lose_nothing_and_stop_nobody(tmp_path: Path) -> None:
    interrupt(tmp_path / "heartbeat", 200)


@pytest.mark.torture
@pytest.mark.timeout(1200)
def test_many_more_exceptions_at_any_place_lose_nothing_and_stop_nobody(tmp_path: Path) -> None:
    interrupt(tmp_path / "heartbeat", 10_000)
