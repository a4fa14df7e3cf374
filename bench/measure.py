"""Timing, in a child process per peer and round, and what is made of the numbers.

Peers take turns, round after round, so noise of the machine hits all of them. Each turn is a fresh process. A figure is
the median over the rounds of that round's figure; a ratio is the median over the rounds of the two neighbours' ratio.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TURN_SECONDS_MAX = 300


def timed(count: int, call: Callable[[], object]) -> list[int]:
    """Call `count` times and return the nanoseconds of each."""
    now = time.perf_counter_ns
    taken = []
    for _ in range(count):
        begun = now()
        call()
        taken.append(now() - begun)
    return taken


async def timed_async(count: int, call: Callable[[], Awaitable[object]]) -> list[int]:
    """Await `count` calls, one after the other, and return the nanoseconds of each."""
    now = time.perf_counter_ns
    taken = []
    for _ in range(count):
        begun = now()
        await call()
        taken.append(now() - begun)
    return taken


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of the values don't exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass
class Figures:
    """What the rounds of one row gave.

    Attributes:
        turns: one dictionary per round, as the worker printed it.
        missing: why there are none.

    """

    turns: list[dict[str, Any]] = field(default_factory=list)
    missing: str = ""

    def median(self, name: str) -> float:
        """Return the median over the rounds."""
        return statistics.median([float(turn[name]) for turn in self.turns])

    def pooled(self, name: str) -> list[float]:
        """Return the single values of all rounds, of a figure that is a list of them."""
        return [float(value) for turn in self.turns for value in turn[name]]

    def ratio(self, name: str, other: Figures, of: str = "") -> float:
        """Return the median over the rounds of this figure over the other's of the same round.

        Args:
            name: the figure.
            other: the row that it is compared with.
            of: the figure of that row; the one of the same name unless given.

        """
        mine, theirs = len(self.turns), len(other.turns)
        each = max(1, theirs // mine)  # of several turns in a round, the last is the nearest
        pairs = zip(self.turns, other.turns[each - 1 :: each], strict=False)
        return statistics.median([float(one[name]) / float(two[of or name]) for one, two in pairs])


def summary(taken: Sequence[int], events: int = 1) -> dict[str, float]:
    """Return a turn's figures: events per second, and p50 and p99 of a call in µs."""
    return {
        "rate": len(taken) * events / (sum(taken) / 1e9),
        "p50": percentile(taken, 0.50) / 1e3,
        "p99": percentile(taken, 0.99) / 1e3,
        "worst": max(taken) / 1e3,
    }


def turn(task: str, home: Path, before: Sequence[str] = (), **options: Any) -> dict[str, Any]:
    """Run one task of `bench.worker` in a fresh process and a fresh folder, and return what it printed.

    Args:
        task: the worker's function.
        home: where the folder is made: the file system that is measured.
        before: words to put before the command, such as strace's.
        options: the task's arguments, as JSON.

    """
    folder = tempfile.mkdtemp(dir=home, prefix=f"{task}-")
    words = [*before, sys.executable, "-m", "bench.worker", task, folder, json.dumps(options)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=TURN_SECONDS_MAX, check=False)
    except subprocess.TimeoutExpired:
        return {"missing": f"no answer in {TURN_SECONDS_MAX} s"}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.sync()  # what this turn wrote and removed is not for the next one to pay
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        complaint = done.stderr.strip().splitlines()
        return {"missing": f"failed: {complaint[-1] if complaint else done.returncode}"}
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def rounds(
    count: int, rows: Mapping[str, Callable[[], dict[str, Any]]], *, thrice: Collection[str] = ()
) -> dict[str, Figures]:
    """Let every row take its turn, `count` times; a row that is missing once is not asked again.

    Args:
        count: how many rounds.
        rows: what takes a turn, by name.
        thrice: rows that take three turns, alternating, in each round, because a target hangs on their ratio.

    """
    figures = {name: Figures() for name in rows}
    order = [*[name for name in rows if name in thrice] * 2, *rows]
    for _ in range(count):
        for name in order:
            if figures[name].missing:
                continue
            answer = rows[name]()
            if "missing" in answer:
                figures[name].missing = str(answer["missing"])
            else:
                figures[name].turns.append(answer)
    return figures
