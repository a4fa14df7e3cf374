"""The heartbeat: durable events of one agent and of a thousand, with a sync each and with one that all share."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

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
    "tasks": "**Torpor `heartbeat`, tasks**",
    "replicated": "Torpor `replicated`, file://",
}
_TRACED: Final = 1000
_SUSTAINED: Final = 10
"""The longer run has so many times the events."""


@dataclass(frozen=True)
class _Case:
    """How many write to how many, and how often together."""

    agents: int
    writers: int
    events: int

    def count(self, how: str) -> int:
        """Return how many events are written; few, where each takes a third of a second."""
        return max(5, 5 * self.writers) if how == "replicated" else self.events

    def turn(self, place: Path, how: str) -> dict[str, Any]:
        """Say what a turn of `beats.appended` is to do."""
        return {
            "place": f"{place}/herd",
            "how": "heartbeat" if how == "tasks" else how,
            "agents": self.agents,
            "writers": self.writers,
            "tasks": how == "tasks",
        }


def run(home: Path, times: int, *, agents: int = 1000, events: int = 16_000) -> Table:
    """Measure each class with one writer and with 64."""
    heads = ("", "agents", "writers", "events/s", "of raw", "p50", "p99", "fsyncs/event", "CPU/event")
    table = Table(
        "15. One fsync for a thousand agents",
        "Messages of 1,024 characters, each durable before its writer goes on; each writer has agents of its own, which"
        " take turns, and is a thread, or a task of one event loop where the row says so. Median of"
        f" {times} interleaved rounds, each in a fresh process; all agents are awake, and have written once before.",
        heads,
    )
    cases = [_Case(1, 1, events // 16), _Case(agents, 64, events)]
    place = Path(tempfile.mkdtemp(dir=home, prefix="herd-"))
    try:
        made = turn("beats.herd", place, place=f"{place}/herd", agents=agents)
        if "missing" in made:
            table.rows.append(gap(_TITLES["heartbeat"], str(made["missing"]), heads))
            return table
        figures = [rounds(times, {how: partial(_take, place, how, case) for how in _TITLES}) for case in cases]
        for case, found in zip(cases, figures, strict=True):
            for how in found:
                table.rows.append(_row(place, how, case, found, heads))
        longer = _Case(agents, 64, events * _SUSTAINED)
        found = rounds(1, {"tasks": partial(_take, place, "tasks", longer)})
        seconds = "" if found["tasks"].missing else f", {longer.events / found['tasks'].median('rate'):.0f} s long"
        table.rows.append(_row(place, "tasks", longer, found, heads, seconds))
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


def _take(place: Path, how: str, case: _Case) -> dict[str, Any]:
    return turn("beats.appended", place, count=case.count(how), **case.turn(place, how))


def _row(
    place: Path, how: str, case: _Case, figures: dict[str, Figures], heads: tuple[str, ...], note: str = ""
) -> list[str]:
    found = figures[how]
    if found.missing:
        return gap(_TITLES[how], found.missing, heads)
    traced = min(_TRACED if case.writers == 1 else 4 * _TRACED, case.count(how))
    syncs = None
    if not note:
        syncs = count_syncs("beats.appended", place, count=traced, **case.turn(place, how))
    raw = figures.get("raw")
    return [
        _TITLES[how] + note,
        f"{case.agents:,}",
        str(case.writers),
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
    for how, what in (("tasks", "64 tasks"), ("heartbeat", "64 threads")):
        if not many["raw"].missing and not many[how].missing:
            ratio, rate = many[how].ratio("rate", many["raw"]), many[how].median("rate")
            said += [
                verdict(f"{what}, heartbeat/raw", "≥ 5 x", f"{ratio:.2f} x", met=ratio >= _MANY_TARGET),
                verdict(f"{what}, heartbeat", "≥ 18,000 events/s", f"{rate:,.0f}/s", met=rate >= _RATE_TARGET),
            ]
    return said
