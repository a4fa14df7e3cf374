"""Sleeping and waking: what it costs to put an agent away, and to have it back."""

from __future__ import annotations

import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from bench.agents import MIB, size_words
from bench.measure import Figures, percentile, rounds, turn
from bench.report import Table, gap, micro, verdict
from bench.syncs import count_syncs, per

_SIZE = MIB
_SLICES = 5
_TRACED = 50
_SHARES = {"idle": 1, "written": 4, "cold": 5, "raw idle": 4, "raw written": 4}
"""A row takes one agent in so many."""

_RAW_FILES = 500

_TARGET_P50_US = 3_000
_TARGET_P99_US = 6_000
_ROWS = {
    "raw idle": "raw apsw: open, look, close, and two commits elsewhere",
    "idle": "**Torpor, nothing written in between**",
    "raw written": "raw apsw, an event written in between",
    "written": "**Torpor, an event written in between**",
    "cold": "**Torpor, the file not in the page cache**",
}


def run(home: Path, times: int, *, agents: int = 10_000) -> Table:
    """Fill a home with sleeping agents, and wake each and put it to sleep again."""
    wished, agents = agents, _with_room(home, agents)
    heads = ("", "p50", "p99", "worst", "wake p50", "suspend p50", "fsyncs", "pairs")
    table = Table(
        f"7. Suspend and wake, {agents:,} agents of {size_words(_SIZE)}",
        "The pair: an agent that sleeps is woken, and suspended again. All are in one home and taken in an order of"
        f" chance, each once: every one in the first row of ours, some in the others. {_SLICES} turns, which are"
        " processes of their own and interleaved with the other rows'. Percentiles are over all pairs.",
        heads,
    )
    if agents == 0:
        table.rows.append(gap("**Torpor**", "no room on the disk", heads))
        return table
    place = Path(tempfile.mkdtemp(dir=home, prefix="asleep-"))
    try:
        _measure(place, agents, table)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if agents < wished:
        table.notes.append(f"{agents:,} agents instead of {wished:,}, because the disk has no room for more.")
    del times  # each agent is taken once, however many rounds the others have
    return table


def _with_room(home: Path, agents: int) -> int:
    """Return how many agents there is room for; a multiple of the turns."""
    room = shutil.disk_usage(home).free // 2 // (_SIZE + MIB // 8)
    return min(agents, room) // _SLICES * _SLICES


def _measure(place: Path, agents: int, table: Table) -> None:
    each = agents // _SLICES
    first = rounds(
        _SLICES, {"first": partial(turn, "life.populate", place, place=f"{place}/home", size=_SIZE, count=each)}
    )["first"]
    if first.missing:
        table.rows.append(gap("**Torpor**", first.missing, table.heads))
        return
    turn("life.populate_raw", place, place=f"{place}/raw", size=_SIZE, count=_RAW_FILES)
    figures = rounds(_SLICES, {name: _takes(place, name, agents) for name in _ROWS})
    for name, title in _ROWS.items():
        syncs = "" if name in ("cold", "raw idle", "raw written") else _syncs(place, name, min(_TRACED, each))
        table.rows.append(_row(title, figures[name], syncs, table.heads))
    table.rows.append(_row("Torpor, the first wake of a clone", first, "", table.heads))
    for name in ("idle", "written"):
        if not figures[name].missing:
            table.notes += _verdicts(_ROWS[name].strip("*"), figures[name].pooled("pairs"))
    table.notes += [
        (
            "“Wake” is the cached wake: the agent is suspended, nothing of it is open, and its file is on the local"
            " disk. A warm wake, of an agent that is awake already, opens nothing. Files were written some minutes"
            " before, so they are in the page cache as far as there is memory, except in the row that drops them."
        ),
        (
            "The event in between is not timed (table 1 is about that), but its fsyncs are counted, which are three: a"
            " new log has one each for its header, its name and its first commit. The suspend that follows brings the"
            " log into the file, and has two for that."
        ),
        (
            "The floor opens a file of that size in WAL mode, reads one row and closes it, and makes one durable commit"
            " in another file for each of the two moves. It claims nothing, checks nothing, keeps no history."
        ),
        "The first wake of a clone also turns its file from a rollback journal to a log.",
    ]


def _takes(place: Path, name: str, agents: int) -> Any:
    each = agents // _SLICES
    how, count = name.rpartition(" ")[2], each // _SHARES[name]
    if name.startswith("raw"):
        return partial(turn, "life.slept_raw", place, place=f"{place}/raw", files=_RAW_FILES, count=count, how=how)
    turns = iter(range(_SLICES))
    return lambda: turn("life.slept", place, place=f"{place}/home", first=next(turns) * each, count=count, how=how)


def _syncs(place: Path, how: str, count: int) -> str:
    found = count_syncs("life.slept", place, place=f"{place}/home", first=0, count=count, how=how)
    return per(found, count)


def _row(title: str, found: Figures, syncs: str, heads: Any) -> list[str]:
    if found.missing:
        return gap(title, found.missing, heads)
    pairs = found.pooled("pairs")
    parts = [
        micro(percentile(found.pooled(part), 0.5)) if part in found.turns[0] else "" for part in ("wakes", "suspends")
    ]
    return [
        title,
        *[micro(percentile(pairs, share)) for share in (0.5, 0.99)],
        micro(max(pairs)),
        *parts,
        syncs,
        f"{len(pairs):,}",
    ]


def _verdicts(title: str, pairs: list[float]) -> list[str]:
    p50, p99 = percentile(pairs, 0.5), percentile(pairs, 0.99)
    return [
        verdict(f"{title}, p50", "≤ 3 ms", micro(p50), met=p50 <= _TARGET_P50_US),
        verdict(f"{title}, p99", "≤ 6 ms", micro(p99), met=p99 <= _TARGET_P99_US),
    ]
