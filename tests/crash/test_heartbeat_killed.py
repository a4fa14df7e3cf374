"""A home with a heartbeat and a replica is killed with SIGKILL at every fault point of a commit's way, under load.

The oracle is what the workload has said: what was begun, what was acknowledged, what was acknowledged as replicated.
Each session begins with a look at what the deaths before it have left: nothing acknowledged is missing, nothing is
there that was never begun, every workbook verifies, the replica gives each agent as it lives; and, before the home is
even opened, the replica has all that was acknowledged as replicated. Between sessions the power is cut now and then:
what was never synced goes.

Children are forked from a process that has never used a store over the network.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from tests.crash import beating_workload
from tests.crash.beating_workload import cut_power
from tests.crash.tags import TAGS
from tests.crash.zygote import Warm

from torpor.base import faults
from torpor.testing import Seeded

MEMORY: Final = Path("/dev/shm")  # noqa: S108  (the tests make a folder of their own in it)

FAMILIES: Final = (
    "append", "transaction", "record", "settle", "leave", "replay", "snapshot", "heartbeat", "keeper", "replica",
    "object",
)  # fmt: skip
ALSO: Final = {"recovery.applied", "recovery.indexed"}

SELDOM: Final = {
    "heartbeat.opening": 1, "recovery.applied": 1, "recovery.indexed": 1, "replica.claiming": 1, "replica.claimed": 1,
    "replay.finishing": 1, "replay.finished": 1, "replay.applied": 2, "replay.applying": 3,
    "replica.merged": 1, "replica.based": 1,
    "replica.floored": 1, "replica.sweeping": 2, "replica.manifested": 1, "replica.snapshot": 2, "heartbeat.rolling": 2,
    "heartbeat.rolled": 2, "heartbeat.releasing": 2, "heartbeat.released": 2, "record.marked": 3, "record.broken": 2,
    "leave.closed": 3, "settle.done": 2, "keeper.joined": 3,
}  # fmt: skip
"""The latest reaching of a point that a child is killed at; 12 for the others."""

IN_COMPANY: Final = {"record.broken", "snapshot.copied", "keeper.copied", "keeper.snapped"}
"""Points that sessions of one agent alone don't pass: they change no schema, so they need no snapshot."""

ASKED: Final = {point for point in TAGS if TAGS[point] != "nothing" and not point.startswith("heartbeat")} - IN_COMPANY
"""Points whose tag is asked here, after a death of one who is alone; that of the log's own in test_log_killed.py."""


class Zygote(Warm):
    """The process that forks the children."""

    def run(self, folder: Path, number: int, point: str = "", nth: int = 0, *, lone: bool = False) -> dict[str, Any]:
        return self.ask(folder=str(folder), number=number, point=point, nth=nth, lone=lone)


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    found = Zygote(beating_workload.__file__)
    yield found
    found.close()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder in memory where there is one: a kill loses nothing that was written, synced or not."""
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as found:
        yield Path(found)


class Deaths:
    """Session after session on one home, and a new home now and then.

    Args:
        zygote: forks them.
        folder: for the homes.
        seed: of the chance.

    """

    def __init__(self, zygote: Zygote, folder: Path, seed: int) -> None:
        self.zygote = zygote
        self.folder = folder
        self.chance = Seeded(seed)
        self.session = 0
        self.home = folder / "0"
        self.killed: Counter[str] = Counter()
        self.begin()

    def begin(self) -> None:
        """Begin a new home."""
        shutil.rmtree(self.home, ignore_errors=True)
        self.home = self.folder / str(self.session)
        self.home.mkdir()

    def die(self, point: str, nth: int, *, lone: bool) -> bool:
        """Let a session die; returns whether it got there. Where it worked alone, the power is cut besides."""
        self.session += 1
        ended = self.zygote.run(self.home, self.session, point, nth, lone=lone)
        assert ended["code"] in (0, -signal.SIGKILL), f"session {self.session}, {point} {nth}: {ended['said']}"
        if ended["code"] == 0:
            return False
        self.killed[point] += 1
        if lone:
            cut_power(self.home / "home")
            (self.home / "expected").write_text(f"{self.session} {point} {TAGS[point]}")
        return True

    def end(self) -> None:
        """Insist that a session which nobody kills finds everything right, and leaves everything right."""
        self.session += 1
        ended = self.zygote.run(self.home, self.session)
        assert ended["code"] == 0, ended["said"]

    def die_often(self, count: int, each: int) -> None:
        """Have sessions die until there were `count` deaths, one at each point, and each tag was asked.

        Each point has its turn: where one agent is alone, if it is passed there, and the next time among others. A new
        home after `each`.
        """
        points = sorted(TAGS)
        turn = 0
        while self.killed.total() < count or (points := sorted(set(TAGS) - set(self.killed) | ASKED - self.asked())):
            assert turn < 3 * count, f"nobody reaches {points}"
            point = points[turn % len(points)]
            self.die_at(point, alone=turn // len(points) % 2 == 0 and point not in IN_COMPANY)
            turn += 1
            if turn % each == 0:
                self.end()
                self.begin()
        self.end()

    def asked(self) -> set[str]:
        """Return the points after whose deaths a session has looked whether the tag was right."""
        said = self.folder / "asked"
        return set(said.read_text().split()) if said.exists() else set()

    def die_at(self, point: str, *, alone: bool) -> None:
        """Have a session die at a point, the first time that it is passed or a later one, if it is passed at all."""
        nth = 2 * (1 + self.chance.below(SELDOM.get(point, 12)))
        died = False
        while nth > 1 and not died:
            nth //= 2
            if point.startswith(("replay", "recovery")):  # something must be lacking
                self.die("record.acknowledged", 2 + self.chance.below(6), lone=True)
            died = self.die(point, nth, lone=alone)


def test_every_point_on_the_way_of_a_commit_is_tagged() -> None:
    points = {point for point in faults.POINTS if point.partition(".")[0] in FAMILIES} | ALSO
    assert points == set(TAGS)


def test_kills_at_every_point_lose_nothing_acknowledged(zygote: Zygote, folder: Path) -> None:
    deaths = Deaths(zygote, folder, seed=1)
    deaths.die_often(120, each=30)
    assert set(deaths.killed) == set(TAGS)
    assert deaths.asked() >= ASKED


@pytest.mark.torture
@pytest.mark.timeout(36_000)
def test_ten_thousand_kills_lose_nothing_acknowledged(zygote: Zygote, folder: Path) -> None:
    deaths = Deaths(zygote, folder, seed=2)
    deaths.die_often(10_000, each=60)
    assert min(deaths.killed[point] for point in TAGS) > 10
