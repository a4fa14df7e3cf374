"""Freezing, archiving and waking from there, beside plain verified copies of the same bytes."""

from __future__ import annotations

import shutil
import tempfile
from functools import partial
from pathlib import Path

from bench.agents import MIB, size_words
from bench.measure import Figures, rounds, turn
from bench.report import Table, gap, micro, verdict

_TARGET = 1.20
_CONTENTS = {"noise": "bytes of chance", "text": "text"}


def run(home: Path, times: int, *, size: int = 100 * MIB) -> Table:
    """Measure freezing and cold wakes beside plain copies, and archiving."""
    heads = ("", "time", "MB/s", "of one thread", "of two threads", "stored")
    table = Table(
        f"8. Freeze and cold wake of {size_words(size)}",
        f"Into a folder on the same disk and out of it again. Median of {times} interleaved rounds, each in a fresh"
        " process; the page cache is warm for all. The plain copies are of the same file.",
        heads,
    )
    place = Path(tempfile.mkdtemp(dir=home, prefix="frozen-"))
    try:
        _measure(place, times, size, table)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return table


def _measure(place: Path, times: int, size: int, table: Table) -> None:
    made = {name: turn("life.sized", place, place=f"{place}/{name}", size=size, content=name) for name in _CONTENTS}
    for name, answer in made.items():
        if "missing" in answer:
            table.rows.append(gap(f"an agent of {_CONTENTS[name]}", str(answer["missing"]), table.heads))
            return
    source = place / "plain"
    shutil.copyfile(place / "noise" / made["noise"]["file"], source)
    floors = {
        "one": partial(turn, "life.plain", place, source=str(source), how="verified", count=1),
        "two": partial(turn, "life.plain", place, source=str(source), how="verified beside", count=1),
    }
    frozen = {"frozen": partial(turn, "life.frozen", place, place=f"{place}/noise")}
    archived = {
        f"archived {name}": partial(turn, "life.archived", place, place=f"{place}/{name}") for name in _CONTENTS
    }
    figures = rounds(times, {**floors, **frozen, **archived}, thrice=("one", "two", "frozen"))
    rows = _Rows(table, figures, made["noise"]["bytes"])
    rows.add("plain verified copy, one thread", "one", "took")
    rows.add("plain verified copy, hashed beside", "two", "took")
    rows.add("**Torpor freeze**", "frozen", "freeze")
    rows.add("**Torpor cold wake**", "frozen", "wake")
    for name, what in _CONTENTS.items():
        rows.add(f"**Torpor archive**, {what}", f"archived {name}", "archive", made[name]["bytes"])
        rows.add(f"**Torpor wake from the archive**, {what}", f"archived {name}", "wake", made[name]["bytes"])
    for title, part in (("freeze", "freeze"), ("cold wake", "wake")):
        if not figures["frozen"].missing and not figures["one"].missing:
            ratio = figures["frozen"].ratio(part, figures["one"], of="took")
            table.notes.append(
                verdict(
                    f"{title} within 20% of the plain verified copy", "≤ 120%", f"{ratio:.0%}", met=ratio <= _TARGET
                )
            )
    table.notes += [
        (
            "The plain verified copy with one thread reads a MiB, hashes and writes it, and so on; syncs file and"
            " folder; reads the copy back, hashes it and compares. The other hashes the source while the kernel copies"
            " it. The target hangs on the first."
        ),
        (
            "Freezing is such a copy, a check that the file is the agent as it was left, two durable commits of the"
            " ledger, and the removal of the live file. A cold wake is one the other way, and opens the workbook."
        ),
        (
            "An archive is compressed by zstd (level 3) and read back through the decompressor. Text is the source of"
            " Python's own library, over and over, further apart than that level looks back; the bytes of chance are"
            " the worst case. MB/s is of the workbook's bytes."
        ),
    ]


class _Rows:
    """Adds rows that are compared with the two plain copies."""

    def __init__(self, table: Table, figures: dict[str, Figures], size: int) -> None:
        self._table = table
        self._figures = figures
        self._size = size

    def add(self, title: str, name: str, part: str, size: int | None = None) -> None:
        found = self._figures[name]
        size = size or self._size
        if found.missing:
            self._table.rows.append(gap(title, found.missing, self._table.heads))
            return
        took = found.median(part)
        floors = [self._figures[floor] for floor in ("one", "two")]
        ratios = ["" if floor.missing else f"{found.ratio(part, floor, of='took'):.0%}" for floor in floors]
        stored = f"{found.median('stored') / size:.0%}" if part == "archive" else ""
        self._table.rows.append([title, micro(took), f"{size / took:,.0f}", *ratios, stored])
