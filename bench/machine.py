"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import apsw


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def file_system(folder: Path) -> str:
    """Return type, options and device of the file system that a folder is on."""
    best = ("", "unknown")
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        device, place, kind, options = line.split()[:4]
        if folder.is_relative_to(place) and len(place) >= len(best[0]):
            best = (place, f"{kind} on {device} ({options})")
    return best[1]


def describe(folder: Path) -> list[str]:
    """Return the machine as Markdown lines."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    warning = "" if load < cores / 2 else " — **the machine is busy: these figures are not worth keeping**"
    return [
        f"- {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; load before the run {load:.2f}{warning}",
        f"- {_cpu()}, {cores} cores, {memory:.0f} GiB; Linux {platform.release()}",
        f"- {file_system(folder)}",
        (
            f"- Python {platform.python_version()}; SQLite {apsw.sqlite_lib_version()} in apsw {apsw.apsw_version()},"
            f" {sqlite3.sqlite_version} in the standard library"
        ),
    ]
