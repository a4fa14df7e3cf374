"""A hundred thousand sleeping agents: what they cost while nothing happens."""

from __future__ import annotations

import shutil
import tempfile
from functools import partial
from pathlib import Path

from bench.measure import Figures, rounds, turn
from bench.report import Table, gap, verdict

_TARGET_BYTES = 1024
_TARGET_PASS_S = 1.0
_TARGET_OPEN_S = 5.0


def run(home: Path, times: int, *, agents: int = 100_000) -> Table:
    """Measure a home with nobody in it, and one with very many."""
    heads = (
        "",
        "start-up",
        "descriptors",
        "memory",
        "… at most",
        "tick",
        "`next_state` over all",
        "list all",
        "ledger",
    )
    table = Table(
        f"11. {agents:,} sleeping agents",
        f"Suspended, with nothing due. Median of {times} interleaved rounds, each in a fresh process: `Home.open`, the"
        " open descriptors and the memory then, passes of the ladder, and a list of all.",
        heads,
    )
    place = Path(tempfile.mkdtemp(dir=home, prefix="many-"))
    try:
        counts = {"none": 0, "many": agents}
        made = {
            name: turn("crowd.crowd", place, place=f"{place}/{name}", count=count) for name, count in counts.items()
        }
        for name, answer in made.items():
            if "missing" in answer:
                table.rows.append(gap(f"{counts[name]:,} agents", str(answer["missing"]), heads))
                return table
        takes = {
            name: partial(turn, "crowd.asleep", place, place=f"{place}/{name}", count=count)
            for name, count in counts.items()
        }
        figures = rounds(times, takes)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    for name, count in counts.items():
        table.rows.append(
            _row(
                f"{'**' if count else ''}{count:,} agents{'**' if count else ''}",
                figures[name],
                made[name]["bytes"],
                heads,
            )
        )
    if not figures["none"].missing and not figures["many"].missing:
        table.rows.append(_each(figures["none"], figures["many"], agents, made["many"]["bytes"]))
        table.notes += _verdicts(figures["none"], figures["many"], agents)
    table.notes.append(
        "The ledger was filled by its own calls: each agent was registered, woken and suspended. Their files are there"
        " and empty, because nothing here opens one. Memory is the process's resident set, Python and all; “at most” is"
        " after five passes, five walks and the list."
    )
    return table


def _row(title: str, found: Figures, size: int, heads: tuple[str, ...]) -> list[str]:
    if found.missing:
        return gap(title, found.missing, heads)
    return [
        title,
        f"{found.median('open') * 1e3:,.0f} ms",
        f"{found.median('descriptors'):.0f}",
        f"{found.median('memory') / 2**20:,.1f} MiB",
        f"{found.median('peak') / 2**20:,.1f} MiB",
        f"{found.median('tick') * 1e3:,.1f} ms",
        f"{found.median('asked') * 1e3:,.1f} ms",
        f"{found.median('listed') * 1e3:,.1f} ms",
        f"{size / 2**20:,.1f} MiB",
    ]


def _more(none: Figures, many: Figures, name: str) -> float:
    return many.median(name) - none.median(name)


def _each(none: Figures, many: Figures, agents: int, size: int) -> list[str]:
    return [
        "… an agent",
        f"{_more(none, many, 'open') / agents * 1e6:.2f} µs",
        f"{_more(none, many, 'descriptors') / agents:.0f}",
        f"{_more(none, many, 'memory') / agents:,.0f} bytes",
        f"{_more(none, many, 'peak') / agents:,.0f} bytes",
        *[f"{_more(none, many, name) / agents * 1e6:.2f} µs" for name in ("tick", "asked", "listed")],
        f"{size / agents:,.0f} bytes",
    ]


def _verdicts(none: Figures, many: Figures, agents: int) -> list[str]:
    descriptors = _more(none, many, "descriptors")
    memory = max(_more(none, many, "memory"), _more(none, many, "peak")) / agents
    tick, asked, opened = (many.median(name) for name in ("tick", "asked", "open"))
    return [
        verdict("descriptors for all of them", "0", f"{descriptors:.0f}", met=descriptors == 0),
        verdict("memory of an agent, at most", "≤ 1,024 bytes", f"{memory:,.0f} bytes", met=memory <= _TARGET_BYTES),
        verdict("ladder pass (`tick`)", "≤ 1 s", f"{tick:.2f} s", met=tick <= _TARGET_PASS_S),
        verdict("`next_state` over all", "≤ 1 s", f"{asked:.2f} s", met=asked <= _TARGET_PASS_S),
        verdict("start-up (`Home.open`)", "≤ 5 s", f"{opened:.2f} s", met=opened <= _TARGET_OPEN_S),
    ]
