"""The briefing: what a user waits for, from feeds on disk to Markdown and HTML, with the local model."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from bench.feeds import write_feeds
from bench.measure import rounds, turn
from bench.report import Table, gap, verdict

_TARGET_S = 2.0
_ITEMS = 24
_COUNT = 10
_SECONDS_MAX = 120


def _whole(home: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=home) as folder:
        place = Path(folder)
        sources = write_feeds(place)
        words = [sys.executable, "-m", "torpor", *arguments(place, sources)]
        begun = time.perf_counter()
        done = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS_MAX, check=False)
        took = time.perf_counter() - begun
    if done.returncode or not is_whole(done.stdout):
        complaint = (done.stderr.strip() or done.stdout.strip()).splitlines()
        return {"missing": f"failed: {complaint[-1] if complaint else done.returncode}"}
    return {"seconds": took}


def is_whole(answer: str) -> bool:
    """Report whether the command's JSON tells of every item: a briefing on fewer is no measurement."""
    found: dict[str, Any] = json.loads(answer)
    return found["new"] == _ITEMS and len(found["chosen"]) == _COUNT


def arguments(place: Path, sources: list[str]) -> list[str]:
    """Return the command's arguments: a new workbook, so that every item is new."""
    book, out = str(place / "briefing.workbook"), str(place / "briefings")
    return ["brief", *sources, "--workbook", book, "--out", out, "--count", str(_COUNT), "--json"]


def run(home: Path, times: int) -> Table:
    """Measure the command in a process that has run it before, and as a process of its own."""
    figures = rounds(
        times,
        {"warm": partial(turn, "briefed", home), "whole": partial(_whole, home)},
    )
    heads = ("", "seconds")
    table = Table(
        f"6. A briefing on {_ITEMS} new items",
        f"`torpor brief` on three local feeds of eight items each into a new workbook: read, rank, summarise {_COUNT},"
        f" write Markdown and HTML, every step recorded. Local model, no network. Median of {times} interleaved"
        " rounds.",
        heads,
    )
    titles = {"warm": "**in process, after one run**", "whole": "**as a whole process**"}
    for name, title in titles.items():
        found = figures[name]
        if found.missing:
            table.rows.append(gap(title, found.missing, heads))
            continue
        took = found.median("seconds")
        table.rows.append([title, f"{took:.2f}"])
        said = title.strip("*")
        table.notes.append(verdict(said, f"≤ {_TARGET_S:.0f} s", f"{took:.2f} s", met=took <= _TARGET_S))
    return table
