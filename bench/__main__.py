"""`python -m bench [SUITE|TABLE ...] [--rounds N] [--write] [--quick]`: print a report; keep it in docs/benchmarks.md.

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
from bench.report import Table, report_parts

_ROUNDS: Final = 5
_HOME: Final = Path("build/bench")
_REPORT: Final = Path("docs/benchmarks.md")

SUITES: Final[dict[str, dict[str, Callable[..., Table]]]] = {
    "workbook": {
        "commits": commits.run,
        "batches": batches.run,
        "sizes": sizes.run,
        "opening": opening.run,
        "importing": importing.run,
        "briefing": briefing.run,
    },
    "lifecycle": {
        "sleeping": sleeping.run,
        "freezing": freezing.run,
        "cloning": cloning.run,
        "tenants": tenants.run,
        "many": many.run,
        "going_back": going_back.run,
    },
    "heartbeat": {
        "capture": capture.run,
        "group": group_commit.run,
        "beating": beating.run,
        "replicating": replicating.run,
    },
}
"""What is measured together, each under a floor of its own."""

TABLES: Final = {name: run for suite in SUITES.values() for name, run in suite.items()}

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

Torpor, its peers and the floor under all of them, measured by `make bench`. Each suite is one run on one machine, whose
state stands above its tables. Peers take turns, so that noise hits all; every figure is the median of at least five
rounds, unless the table says otherwise (in tables 1 and 2 raw and Torpor take three turns in each; in tables 7, 9 and
12 percentiles are over all single operations), and each turn is a fresh process. Peers run with their defaults, and
what their connections report of themselves stands beside the figures. fsyncs are counted by strace in runs of their
own. Losses are shown like wins. Other machines will differ: compare figures within one suite only, and read them beside
its floor. No test depends on a timing.
"""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "what",
        nargs="*",
        metavar="SUITE|TABLE",
        help=f"some of the suites {', '.join(SUITES)}, or of the tables {', '.join(TABLES)}; all unless given",
    )
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help=f"rounds of each figure (default {_ROUNDS})")
    parser.add_argument("--write", action="store_true", help=f"also put whole suites into {_REPORT}")
    parser.add_argument("--quick", action="store_true", help="one round with small numbers, to see that all runs")
    parser.add_argument(
        "--home", type=Path, default=_HOME, help=f"folder on the file system to measure (default: {_HOME})"
    )
    given = parser.parse_args()
    strange = [name for name in given.what if name not in TABLES and name not in SUITES]
    if strange:
        parser.error(f"no suite or table is called {strange[0]}")
    if given.write and (given.quick or any(name in TABLES for name in given.what)):
        parser.error(f"{_REPORT} has whole suites: with --write, name no tables and be not --quick")
    return given


def _measured(
    suite: str, tables: dict[str, Callable[..., Table]], home: Path, given: argparse.Namespace, described: str
) -> str:
    """Measure some tables of a suite, and return its part of the report."""
    begun = time.perf_counter()
    times = 1 if given.quick else given.rounds
    parts = [f"## The {suite}\n", *([_TRIAL] if given.quick else []), described]
    for name, run in {"floor": floor.run, **tables}.items():
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        parts.append(run(home, times, **(_QUICK.get(name, {}) if given.quick else {})).text())
    minutes = (time.perf_counter() - begun) / 60
    parts.append(f"The run took {minutes:.1f} minutes.\n")
    return "\n".join(parts)


def main() -> None:
    """Measure and print."""
    given = _arguments()
    given.home.mkdir(parents=True, exist_ok=True)
    measured = {}
    with tempfile.TemporaryDirectory(dir=given.home) as folder:
        home = Path(folder).resolve()
        described = "\n".join([*machine.describe(home), ""])  # once: after a suite the load is our own
        for suite, tables in SUITES.items():
            wanted = {
                name: run for name, run in tables.items() if not given.what or suite in given.what or name in given.what
            }
            if wanted:
                measured[suite] = _measured(suite, wanted, home, given, described)
                print(measured[suite])
    if given.write:
        _REPORT.parent.mkdir(parents=True, exist_ok=True)
        before = _REPORT.read_text(encoding="utf-8") if _REPORT.exists() else ""
        parts = report_parts(before) | {f"## The {suite}": text for suite, text in measured.items()}
        ordered = [parts[f"## The {suite}"] for suite in SUITES if f"## The {suite}" in parts]
        _REPORT.write_text("\n".join([_LEAD, *ordered]), encoding="utf-8")


if __name__ == "__main__":
    main()
