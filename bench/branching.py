"""Turns of the peers that can fork: `bench.going_back` asks for them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from bench.measure import timed
from bench.peers import FORKING


def fill(folder: Path, *, peer: str, count: int, place: str) -> dict[str, Any]:
    """Store `count` messages, and leave the files at `place`."""
    subject = FORKING[peer].make()
    subject.setup(folder)
    subject.operate(count)
    subject.close()
    folder.rename(place)
    folder.mkdir()
    return {"count": count}


def forked(folder: Path, *, peer: str, place: str, points: dict[str, int], count: int) -> dict[str, Any]:
    """Fork what is at `place` at each of some messages, `count` times.

    Returns:
        By the names of the points, what each fork took; and under "NAME bytes", how many one adds to the files.

    """
    del folder
    subject = FORKING[peer].make()
    subject.setup(Path(place))
    subject.fork(subject.point(min(points.values())))  # imports, and fills caches
    subject.close()
    found: dict[str, Any] = {}
    for name, at in points.items():
        before = _bytes(place)
        subject.setup(Path(place))
        taken = []
        for _ in range(count):
            point = subject.point(at)
            taken += timed(1, partial(subject.fork, point))
        subject.close()
        found[name] = [took / 1e3 for took in taken]
        found[f"{name} bytes"] = (_bytes(place) - before) / count
    return found


def _bytes(place: str) -> int:
    return sum(path.stat().st_size for path in Path(place).rglob("*") if path.is_file())
