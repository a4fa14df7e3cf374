"""A process is killed with SIGKILL at every fault point of the log, again and again on the same log.

The oracle is a list: which record each number is. A child says on a pipe what it has added and what it was told is
durable; after its death the log must have everything that was acknowledged, nothing that was never added, and nothing
by halves. What the fault point says about the group under way, before its durability, after it, or ambiguous, must be
so. Children are forked, not started: the death is the same, and ten thousand take minutes.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio
import pytest
from tests.unit.heartbeat.log_kit import add, numbers, open_log

from torpor.base import faults
from torpor.heartbeat.log import Log
from torpor.testing import Seeded, kill_at

BEFORE: Final = "before"
AMBIGUOUS: Final = "ambiguous"
AFTER: Final = "after"
NOTHING: Final = "nothing under way"

TAGS: Final = {
    "heartbeat.opening": NOTHING,
    "heartbeat.adding": BEFORE,
    "heartbeat.rolling": BEFORE,
    "heartbeat.rolled": BEFORE,
    "heartbeat.writing": BEFORE,
    "heartbeat.written": AMBIGUOUS,
    "heartbeat.synced": AFTER,
    "heartbeat.releasing": NOTHING,
    "heartbeat.released": NOTHING,
}
"""What a death at a point means for the group that is being written."""

OFTEN: Final = {
    "heartbeat.opening": 1,
    "heartbeat.rolling": 6,
    "heartbeat.rolled": 6,
    "heartbeat.releasing": 3,
    "heartbeat.released": 3,
}
"""The latest reaching of a point that a child is killed at; 30 for the others."""

SESSION: Final = 1_000_000


@dataclass
class Told:
    """What a child has said before its end.

    Attributes:
        added: the last record that it has added.
        acknowledged: the last that it was told is durable.
        status: how it ended.

    """

    added: int
    acknowledged: int
    status: int


@dataclass
class Oracle:
    """Which record each number is."""

    folder: Path
    rows: list[int] = field(default_factory=list)
    sessions: int = 0

    def told_by(self, work: str, point: str = "", nth: int = 0, after_s: float | None = None) -> Told:
        """Let a child work until it is killed, and return what it said."""
        self.sessions += 1
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(reading)
                Child(self.folder, self.sessions, writing).live(work, point, nth)
                code = 0
            finally:
                os._exit(code)
        os.close(writing)
        if after_s is not None:
            os.read(reading, 1)  # it works
            anyio.run(anyio.sleep, after_s)
            os.kill(child, signal.SIGKILL)
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read().decode().split()
        _, status = os.waitpid(child, 0)
        told = Told(len(self.rows), len(self.rows), os.waitstatus_to_exitcode(status))
        for word in said:
            number = int(word[1:] or 0)
            if word[0] == "+":
                told.added = max(told.added, number)
            elif word[0] == "!":
                told.acknowledged = max(told.acknowledged, number)
        return told

    def check(self, told: Told, *, spare: int = 0) -> int:
        """Insist that the log has what it must have, take that over, and return how many records it has."""
        with open_log(self.folder) as log:
            durable = log.durable
            assert told.acknowledged <= durable <= told.added + spare
            self.rows += [self.sessions * SESSION + lsn for lsn in range(len(self.rows) + 1, durable + 1)]
            assert numbers(log) == self.rows[log.first - 1 :]
            return durable


class Child:
    """The process that is killed."""

    def __init__(self, folder: Path, session: int, pipe: int) -> None:
        self.folder = folder
        self.session = session
        self.pipe = pipe
        self.order = threading.Lock()

    def say(self, word: str) -> None:
        os.write(self.pipe, f"{word} ".encode())

    def live(self, work: str, point: str, nth: int) -> None:
        if work == "crowd":
            with open_log(self.folder) as log:
                self.say("=")
                threads = [threading.Thread(target=self.crowd, args=(log, number)) for number in range(6)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            return
        with kill_at(point, nth), open_log(self.folder) as log:
            for step in range(25):
                self.group(log, 1 + (self.session + step) % 4)
                if step % 6 == 5:
                    log.release(log.durable - self.session % 20)
                if step % 9 == 8:
                    log.prepare()

    def add(self, log: Log, size: int | None = None) -> int:
        with self.order:
            lsn = add(log, self.session * SESSION + log.last + 1, size)
            self.say(f"+{lsn}")
            return lsn

    def group(self, log: Log, count: int) -> None:
        for _ in range(count):
            lsn = self.add(log)
        log.wait(lsn)
        self.say(f"!{lsn}")

    def crowd(self, log: Log, number: int) -> None:
        for turn in range(10_000):
            lsn = self.add(log, 50 * (number + turn % 7))
            log.wait(lsn)
            self.say(f"!{lsn}")
            if number == 0 and turn % 10 == 9:
                log.release(log.durable - 30)


def kill(oracle: Oracle, point: str, nth: int) -> bool:
    """Kill a child at a point, check what it left, and return whether it got there."""
    told = oracle.told_by("alone", point, nth)
    durable = oracle.check(told)
    if told.status == 0:
        return False
    assert told.status == -signal.SIGKILL, told.status
    match TAGS[point]:
        case "before":
            assert told.acknowledged <= durable
            assert durable < told.added or durable == told.acknowledged
        case "after":
            assert told.acknowledged < durable <= told.added
        case "nothing under way":
            assert told.acknowledged == durable == told.added
        case _:
            assert told.acknowledged <= durable <= told.added
    return True


def many_kills(folder: Path, count: int, seed: int) -> Counter[str]:
    """Kill that many children at points by chance, and return how often each point was reached."""
    chance = Seeded(seed)
    oracle = Oracle(folder)
    reached: Counter[str] = Counter()
    points = list(TAGS)
    while reached.total() < count:
        point = points[(reached.total() + chance.below(2)) % len(points)]
        nth = 1 + chance.below(OFTEN.get(point, 30))
        reached[point] += kill(oracle, point, nth)
    assert len(oracle.rows) > count
    return reached


def kills_at_random_moments(folder: Path, count: int, seed: int) -> None:
    chance = Seeded(seed)
    oracle = Oracle(folder)
    for _ in range(count):
        told = oracle.told_by("crowd", after_s=chance.below(60) / 1000)
        assert told.status == -signal.SIGKILL
        oracle.check(told, spare=6)  # each thread may have added one and not said so yet
    assert len(oracle.rows) > 10 * count


def test_every_point_of_the_log_is_tagged() -> None:
    room = Path(faults.__file__).parents[1] / "heartbeat"
    said = "".join((room / name).read_text(encoding="utf-8") for name in ("stream.py", "folder.py", "log.py"))
    assert set(re.findall(r"faults\.point\(\"([a-z.]+)\"\)", said)) == set(TAGS) <= set(faults.POINTS)


def test_hundreds_of_kills_at_the_fault_points_lose_nothing_acknowledged(tmp_path: Path) -> None:
    """HB-11."""
    reached = many_kills(tmp_path / "heartbeat", 300, seed=1)
    assert set(reached) == set(TAGS)
    assert min(reached.values()) >= 5, reached


def test_kills_at_random_moments_among_many_writers_lose_nothing_acknowledged(tmp_path: Path) -> None:
    kills_at_random_moments(tmp_path / "heartbeat", 25, seed=2)


def test_left_alone_a_child_ends_by_itself(tmp_path: Path) -> None:
    oracle = Oracle(tmp_path / "heartbeat")
    told = oracle.told_by("alone", "heartbeat.adding", 10_000)
    assert told.status == 0
    assert oracle.check(told) == told.added == told.acknowledged


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_ten_thousand_kills_lose_nothing_acknowledged(tmp_path: Path) -> None:
    reached = many_kills(tmp_path / "heartbeat", 9_700, seed=3)
    assert min(reached.values()) >= 100, reached
    kills_at_random_moments(tmp_path / "crowd", 300, seed=4)
