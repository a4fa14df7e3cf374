"""`python -m bench [TABLE ...] [--rounds N] [--write]`: print the report, and keep it in docs/benchmarks.md.

Run it from the root of the repository, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench import batches, briefing, commits, floor, importing, machine, opening, sizes
from bench.report import Table

_ROUNDS: Final = 5
_HOME: Final = Path("build/bench")
_REPORT: Final = Path("docs/benchmarks.md")

TABLES: Final[dict[str, Callable[[Path, int], Table]]] = {
    "floor": floor.run,
    "commits": commits.run,
    "batches": batches.run,
    "sizes": sizes.run,
    "opening": opening.run,
    "importing": importing.run,
    "briefing": briefing.run,
}

_LEAD: Final = """\
# Benchmarks

Torpor, its peers and the floor under all of them, measured by `make bench` in one run on one machine. Peers take turns,
so that noise hits all; every figure is the median of at least five rounds (in tables 1 and 2 raw and Torpor take three
turns in each), and each turn is a fresh process. Peers run with their defaults, and what their connections report of
themselves stands beside the figures. fsyncs are counted by strace in runs of their own. Losses are shown like wins.
Other machines will differ: compare figures within one run only, and read them beside the floor. No test depends on a
timing.
"""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"some of: {', '.join(TABLES)}; all unless given")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help=f"rounds of each figure (default {_ROUNDS})")
    parser.add_argument("--write", action="store_true", help=f"also write the report to {_REPORT}")
    parser.add_argument(
        "--home", type=Path, default=_HOME, help=f"folder on the file system to measure (default: {_HOME})"
    )
    given = parser.parse_args()
    strange = [name for name in given.tables if name not in TABLES]
    if strange:
        parser.error(f"no table is called {strange[0]}")
    return given


def main() -> None:
    """Measure and print."""
    given = _arguments()
    begun = time.perf_counter()
    parts = [_LEAD]
    given.home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.home) as folder:
        home = Path(folder).resolve()
        parts.append("\n".join(["## Machine", "", *machine.describe(home), ""]))
        for name in given.tables or TABLES:
            print(f"measuring {name} …", file=sys.stderr, flush=True)
            parts.append(TABLES[name](home, given.rounds).text())
    minutes = (time.perf_counter() - begun) / 60
    parts.append(f"The run took {minutes:.1f} minutes.\n")
    report = "\n".join(parts)
    print(report)
    if given.write:
        _REPORT.parent.mkdir(parents=True, exist_ok=True)
        _REPORT.write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main()
