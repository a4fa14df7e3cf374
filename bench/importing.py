"""What `import` costs in a fresh process: it is paid by every command and every script."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from bench.measure import rounds
from bench.report import Table, gap, micro, verdict

_TIMES_MIN = 10
_TARGET_US = 80_000
_ROWS = {
    "nothing": ("Python itself", "pass"),
    "torpor": ("**`import torpor`**", "import torpor"),
    "workbook": ("**… and `torpor.Workbook`**", "import torpor; torpor.Workbook"),
    "langgraph": ("LangGraph SqliteSaver", "from langgraph.checkpoint.sqlite import SqliteSaver"),
    "openai": ("openai-agents SQLiteSession", "from agents import SQLiteSession"),
    "agentfs": ("agentfs-sdk", "import agentfs_sdk"),
    "dbos": ("DBOS", "import dbos"),
}
_PROGRAM = """
import time
begun = time.perf_counter_ns()
{what}
took = time.perf_counter_ns() - begun
import json, sys
print(json.dumps({{"took": took / 1000, "modules": len(sys.modules)}}))
"""


def _take(what: str) -> dict[str, Any]:
    begun = time.perf_counter_ns()
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(what=what)], capture_output=True, text=True, check=False
    )
    whole = (time.perf_counter_ns() - begun) / 1000
    if done.returncode:
        return {"missing": f"failed: {done.stderr.strip().splitlines()[-1]}"}
    answer: dict[str, Any] = json.loads(done.stdout)
    return {**answer, "whole": whole}


def run(home: Path, times: int) -> Table:
    """Measure each import."""
    del home
    count = max(times, _TIMES_MIN)
    figures = rounds(count, {name: partial(_take, what) for name, (_, what) in _ROWS.items()})
    heads = ("", "import", "whole process", "modules")
    table = Table(
        "5. Import in a fresh process",
        f"Median of {count} interleaved processes, compiled and in the page cache.",
        heads,
    )
    for name, (title, _) in _ROWS.items():
        found = figures[name]
        if found.missing:
            table.rows.append(gap(title, found.missing, heads))
            continue
        cells = [micro(found.median("took")), micro(found.median("whole"))]
        table.rows.append([title, *cells, f"{found.median('modules'):.0f}"])
    for name in ("torpor", "workbook"):
        took = figures[name].median("took")
        title = _ROWS[name][0].strip("*")
        table.notes.append(verdict(title, "≤ 80 ms", micro(took), met=took <= _TARGET_US))
    return table
