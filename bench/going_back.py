"""Forks and rewinds: another life from an earlier point, and the same life from there."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from bench.agents import MIB, size_words
from bench.measure import Figures, percentile, rounds, turn
from bench.peers import FORKING
from bench.report import Table, gap, micro

_SIZES = (MIB, 100 * MIB)
_MESSAGES = 1000
_COUNTS = {True: 5, False: 2}
"""Operations in a turn: with an agent of up to `_BIG` bytes, and with a bigger one."""

_BIG = 10 * MIB


def run(home: Path, times: int, *, sizes: tuple[int, ...] = _SIZES, messages: int = _MESSAGES) -> Table:
    """Measure forks, rewinds and their undoing, and the peers' forks of as many messages."""
    heads = ("", "p50", "worst", "of a plain copy", "bytes added", "bytes written", "of them")
    table = Table(
        "12. Fork, rewind, and back again",
        f"Of an agent that is awake; durable when it returns. {times} interleaved rounds, each in a fresh process; p50"
        " and worst are over all. “Middle” is the last event of the first half. Bytes added are a new file's, or what"
        " the files have more at rest afterwards, as a mean.",
        heads,
    )
    place = Path(tempfile.mkdtemp(dir=home, prefix="back-"))
    try:
        for size in sizes:
            _measure(place, f"{size_words(size)}", times, {"size": size, "messages": 0}, table)
        _measure(place, f"{messages:,} messages", times, {"size": 0, "messages": messages}, table)
        _peers(place, times, messages, table)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    table.notes += [
        (
            "An agent of a size has a hundred files: 60 of the first half; in the second 20 of them are replaced and"
            " 20 added. What was replaced is kept, and counts to its size. A fork is a new workbook, made from the"
            " journal and verified against it, so a fork of the middle is smaller; its floor is a plain copy of the"
            " parent's file with a sync, which gives neither an earlier state nor an identity."
        ),
        (
            "A rewind moves rows and copies no content, unless a file has grown since by appending; but it reads what"
            " it restores and compares it with the journal's digests. Written are the pages that it puts into the log."
            " To go back to the newest is a rewind to the tip of the branch that the first one set aside. Before each"
            " the agent sleeps and is woken; neither is timed."
        ),
        "What a peer's fork is: " + "; ".join(f"{entry.title}: {entry.does}" for entry in FORKING.values()) + ".",
        (
            "The peers' forks are lighter by design: they make another line inside the same file, and no second agent"
            " that can be moved, frozen or deleted by itself. To go back, LangGraph and openai-agents go on from an"
            " older checkpoint or branch and write nothing at that moment. agentfs-sdk has neither."
        ),
    ]
    return table


def _measure(place: Path, what: str, times: int, options: dict[str, Any], table: Table) -> None:
    home = f"{place}/{what.replace(' ', '-')}"
    made = turn("life.travelling", place, place=home, **options)
    if "missing" in made:
        table.rows.append(gap(what, str(made["missing"]), table.heads))
        return
    middle, last = made["middle"], made["last"]
    count = _COUNTS[made["bytes"] <= _BIG]
    # Not in the home itself: rewinding works on a copy of that.
    source = place / f"plain-{what.replace(' ', '-')}" / "workbook"
    source.parent.mkdir()
    shutil.copyfile(Path(home, made["file"]), source)
    figures = rounds(
        times,
        {
            "plain": partial(turn, "life.plain", place, source=str(source), how="copied", count=count),
            "head": partial(turn, "life.forked", place, place=home, at=last, count=count),
            "middle": partial(turn, "life.forked", place, place=home, at=middle, count=count),
            "rewound": partial(turn, "life.rewound", place, place=home, middle=middle, last=last, count=count),
        },
    )
    plain = figures["plain"]
    row = partial(_row, table.heads, plain)
    table.rows.append(row(f"{what}: plain copy of the file, synced", plain, "each", [f"{source.stat().st_size:,}", ""]))
    for name, title in (("head", "fork at the newest event"), ("middle", "fork at the middle")):
        found = figures[name]
        sizes = [f"{found.median('bytes'):,.0f}", ""] if found.turns else []
        table.rows.append(row(f"**{what}: {title}**", found, "each", sizes))
    found = figures["rewound"]
    for way, title in (("back", "rewind to the middle"), ("again", "and back to the newest")):
        sizes = [f"{mean(found.pooled(f'{way} {part}')):,.0f}" for part in ("bytes", "written")] if found.turns else []
        table.rows.append(row(f"**{what}: {title}**", found, way, sizes))


def _row(heads: Sequence[str], plain: Figures, title: str, found: Figures, part: str, sizes: list[str]) -> list[str]:
    if found.missing or plain.missing:
        return gap(title, found.missing or plain.missing, heads)
    each = found.pooled(part)
    p50 = percentile(each, 0.5)
    ratio = p50 / percentile(plain.pooled("each"), 0.5)
    return [title, micro(p50), micro(max(each)), f"{ratio:.0%}", *sizes, f"{len(each):,}"]


def _peers(place: Path, times: int, messages: int, table: Table) -> None:
    count = _COUNTS[True]
    for name, entry in FORKING.items():
        files = f"{place}/{name}"
        made = turn("branching.fill", place, peer=name, count=messages, place=files)
        if "missing" in made:
            table.rows.append(gap(entry.title, str(made["missing"]), table.heads))
            continue
        points = {"newest": messages, "middle": messages // 2}
        take = partial(turn, "branching.forked", place, peer=name, place=files, points=points, count=count)
        found = rounds(times, {name: take})[name]
        if found.missing:
            table.rows.append(gap(entry.title, found.missing, table.heads))
            continue
        for point in points:
            each = found.pooled(point)
            added = f"{found.median(f'{point} bytes'):,.0f}"
            cells = [micro(percentile(each, 0.5)), micro(max(each)), "", added, ""]
            table.rows.append([f"{messages:,} messages: {entry.title}, fork at the {point}", *cells, f"{len(each):,}"])
