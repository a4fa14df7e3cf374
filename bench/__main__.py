"""`python -m bench [TABLE ...] [--rounds N] [--write] [--quick]`: print the report; keep it in docs/benchmarks.md.

Run it from the root of the repository, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bench import (
    batches,
    beating,
    briefing,
    capture,
    cloning,
    commits,
    floor,
    freezing,
    going_back,
    group_commit,
    importing,
    machine,
    many,
    opening,
    replicating,
    sizes,
    sleeping,
    tenants,
)
from bench.agents import MIB
from bench.report import Table

_ROUNDS: Final = 5
_HOME: Final = Path("build/bench")
_REPORT: Final = Path("docs/benchmarks.md")

TABLES: Final[dict[str, Callable[..., Table]]] = {
    "floor": floor.run,
    "commits": commits.run,
    "batches": batches.run,
    "sizes": sizes.run,
    "opening": opening.run,
    "importing": importing.run,
    "briefing": briefing.run,
    "sleeping": sleeping.run,
    "freezing": freezing.run,
    "cloning": cloning.run,
    "tenants": tenants.run,
    "many": many.run,
    "going_back": going_back.run,
    "capture": capture.run,
    "group": group_commit.run,
    "beating": beating.run,
    "replicating": replicating.run,
}

_QUICK: Final[dict[str, dict[str, Any]]] = {
    "sleeping": {"agents": 50},
    "freezing": {"size": 4 * MIB},
    "cloning": {"sizes": (MIB, 12 * MIB)},
    "tenants": {"clones": 20},
    "many": {"agents": 2000},
    "going_back": {"sizes": (MIB,), "messages": 200},
    "beating": {"agents": 100, "events": 1600},
    "replicating": {"agents": 50, "rate": 50, "seconds": 4, "size": 4 * MIB},
    "group": {"count": 2000},
    "capture": {"count": 20},
}
"""What `--quick` makes smaller, to see that everything runs."""

_TRIAL: Final = "**A trial with few rounds and small numbers: none of these figures is worth anything.**\n"

_LEAD: Final = """\
# Benchmarks

Torpor, its peers and the floor under all of them, measured by `make bench` in one run on one machine. Peers take turns,
so that noise hits all; every figure is the median of at least five rounds (in tables 1 and 2 raw and Torpor take three
turns in each; in tables 7, 9 and 12 percentiles are over all single operations), and each turn is a fresh process.
Peers run with their defaults, and what their connections report of themselves stands beside the figures. fsyncs are
counted by strace in runs of their own. Losses are shown like wins. Tables 7 to 12 are about the lifecycle of agents, 13
to 16 about the heartbeat. Other machines will differ: compare figures within one run only, and read them beside the
floor. No test depends on a timing.
"""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"some of: {', '.join(TABLES)}; all unless given")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help=f"rounds of each figure (default {_ROUNDS})")
    parser.add_argument("--write", action="store_true", help=f"also write the report to {_REPORT}")
    parser.add_argument("--quick", action="store_true", help="one round with small numbers, to see that all runs")
    parser.add_argument(
        "--home", type=Path, default=_HOME, help=f"folder on the file system to measure (default: {_HOME})"
    )
    given = parser.parse_args()
    strange = [name for name in given.tables if name not in TABLES]
    if strange:
        parser.error(f"no table is called {strange[0]}")
    if given.write and (given.tables or given.quick):
        parser.error(f"{_REPORT} is one whole run: with --write, name no tables and be not --quick")
    return given


def main() -> None:
    """Measure and print."""
    given = _arguments()
    begun = time.perf_counter()
    parts = [_LEAD, *([_TRIAL] if given.quick else [])]
    times = 1 if given.quick else given.rounds
    given.home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.home) as folder:
        home = Path(folder).resolve()
        parts.append("\n".join(["## Machine", "", *machine.describe(home), ""]))
        for name in given.tables or TABLES:
            print(f"measuring {name} …", file=sys.stderr, flush=True)
            smaller = _QUICK.get(name, {}) if given.quick else {}
            parts.append(TABLES[name](home, times, **smaller).text())
    minutes = (time.perf_counter() - begun) / 60
    parts.append(f"The run took {minutes:.1f} minutes.\n")
    report = "\n".join(parts)
    print(report)
    if given.write:
        _REPORT.parent.mkdir(parents=True, exist_ok=True)
        _REPORT.write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main()
