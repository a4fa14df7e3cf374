"""The heartbeat: durable events of one agent and of a thousand, with a sync each and with one that all share."""

from __future__ import annotations

import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Final

from bench.measure import Figures, rounds, turn
from bench.report import Table, gap, micro, verdict
from bench.syncs import count_syncs, per

_ONE_TARGET: Final = 1.0
_MANY_TARGET: Final = 5.0
_RATE_TARGET: Final = 18_000
_TITLES: Final = {
    "raw": "raw apsw, WAL + FULL",
    "file": "Torpor `file`",
    "heartbeat": "**Torpor `heartbeat`**",
    "replicated": "Torpor `replicated`, file://",
}
_TRACED: Final = 1000
_SUSTAINED: Final = 20
"""The longer run has so many times the events."""


def run(home: Path, times: int, *, agents: int = 1000, events: int = 16_000) -> Table:
    """Measure each class with one writer, with eight and with 64."""
    heads = ("", "agents", "writers", "events/s", "of raw", "p50", "p99", "fsyncs/event", "CPU/event")
    table = Table(
        "15. One fsync for a thousand agents",
        f"Messages of 1,024 characters, each durable before its writer goes on; each writer is a thread with agents of"
        f" its own, which take turns. Median of {times} interleaved rounds, each in a fresh process; all agents are"
        " awake, and have written once before.",
        heads,
    )
    cases = [(1, 1, events // 16), (agents, 8, events // 2), (agents, 64, events)]
    place = Path(tempfile.mkdtemp(dir=home, prefix="herd-"))
    try:
        made = turn("beats.herd", place, place=f"{place}/herd", agents=agents)
        if "missing" in made:
            table.rows.append(gap(_TITLES["heartbeat"], str(made["missing"]), heads))
            return table
        figures = [_case(place, times, case) for case in cases]
        for case, found in zip(cases, figures, strict=True):
            for how in found:
                table.rows.append(_row(place, how, case, found, heads))
        longer = (agents, 64, events * _SUSTAINED)
        found = rounds(1, {"heartbeat": _take(place, "heartbeat", longer)})
        seconds = "" if found["heartbeat"].missing else f", {longer[2] / found['heartbeat'].median('rate'):.0f} s long"
        table.rows.append(_row(place, "heartbeat", longer, found, heads, seconds))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    table.notes += [*_verdicts(figures[0], figures[-1]), *_NOTES]
    return table


_NOTES: Final = [
    (
        "“fsyncs/event” is counted by strace in a run of its own, which makes each sync slower: with several writers"
        " more of them then share one than without. In class `replicated` the replica's own syncs are counted too."
    ),
    (
        "“CPU/event” is user and system time of the process, in µs. Raw SQLite does nothing but INSERT; Torpor checks,"
        " names, dates and chains its events, and keeps a second copy of each in the heartbeat."
    ),
    (
        "In the short runs no file of the thousand gets so long a log that SQLite moves it into the file, with any row."
        " In the long one the heartbeat also has the agents settled, by some syncs each, so that its own log stays"
        " short."
    ),
    (
        "A `replicated` event waits until its pack is in the replica. There is a pack each 0.35 s at most, whoever"
        " waits, so its latency hardly depends on how many do, and its rate is their number over it."
    ),
]


def _count(how: str, case: tuple[int, int, int]) -> int:
    _, writers, count = case
    return max(5, 5 * writers) if how == "replicated" else count


def _take(place: Path, how: str, case: tuple[int, int, int]) -> partial[dict[str, object]]:
    agents, writers, _ = case
    return partial(
        turn,
        "beats.appended",
        place,
        place=f"{place}/herd",
        how=how,
        agents=agents,
        writers=writers,
        count=_count(how, case),
    )


def _case(place: Path, times: int, case: tuple[int, int, int]) -> dict[str, Figures]:
    hows = [how for how in _TITLES if how != "replicated" or case[1] != 8]
    return rounds(times, {how: _take(place, how, case) for how in hows})


def _row(
    place: Path,
    how: str,
    case: tuple[int, int, int],
    figures: dict[str, Figures],
    heads: tuple[str, ...],
    note: str = "",
) -> list[str]:
    found = figures[how]
    if found.missing:
        return gap(_TITLES[how], found.missing, heads)
    agents, writers, _ = case
    traced = min(_TRACED if writers == 1 else 4 * _TRACED, _count(how, case))
    syncs = None
    if not note:
        syncs = count_syncs(
            "beats.appended", place, place=f"{place}/herd", how=how, agents=agents, writers=writers, count=traced
        )
    raw = figures.get("raw")
    return [
        _TITLES[how] + note,
        f"{agents:,}",
        str(writers),
        f"{found.median('rate'):,.0f}",
        "" if raw is None or raw.missing else f"{found.ratio('rate', raw):.2f} x",
        micro(found.median("p50")),
        micro(found.median("p99")),
        "" if note else per(syncs, traced),
        f"{found.median('cpu'):,.0f} µs",
    ]


def _verdicts(one: dict[str, Figures], many: dict[str, Figures]) -> list[str]:
    said = []
    if not one["raw"].missing and not one["heartbeat"].missing:
        ratio = one["heartbeat"].ratio("rate", one["raw"])
        said.append(verdict("one agent, heartbeat/raw", "≥ 100%", f"{ratio:.0%}", met=ratio >= _ONE_TARGET))
    if not many["raw"].missing and not many["heartbeat"].missing:
        ratio = many["heartbeat"].ratio("rate", many["raw"])
        rate = many["heartbeat"].median("rate")
        said += [
            verdict("many agents, heartbeat/raw", "≥ 5 x", f"{ratio:.2f} x", met=ratio >= _MANY_TARGET),
            verdict("many agents, heartbeat", "≥ 18,000 events/s", f"{rate:,.0f}/s", met=rate >= _RATE_TARGET),
        ]
    return said
