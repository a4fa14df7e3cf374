"""The floor under every durable commit: how fast the disk says that it has kept something."""

from __future__ import annotations

from pathlib import Path

from bench.measure import rounds, turn
from bench.report import Table, micro

_COUNT = 500


def run(home: Path, times: int) -> Table:
    """Measure the floor."""
    figures = rounds(times, {"floor": lambda: turn("floor", home, count=_COUNT)})["floor"]
    table = Table(
        "0. The floor: one sync",
        f"Median of {times} rounds of {_COUNT} syncs of 4 KiB, no database involved.",
        ("probe", "p50", "p99", "per second"),
    )
    for name, title in (
        ("over", "overwrite in place + fdatasync"),
        ("behind", "append + fsync"),
    ):
        cells = [micro(figures.median(f"{name} {part}")) for part in ("p50", "p99")]
        table.rows.append([title, *cells, f"{figures.median(f'{name} rate'):,.0f}"])
    return table
