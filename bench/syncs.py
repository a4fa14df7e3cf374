"""How often a peer makes the disk keep its word: fsyncs, counted by strace in a run of its own."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.measure import turn

_CALLS = "fsync,fdatasync,sync_file_range,msync,syncfs"
_MARK = re.compile(r"\bfsync\(1000000\)")
_NO_FILE = 1_000_000
"""A descriptor that no process has."""
_SYNC = re.compile(r"\b(fsync|fdatasync|msync|syncfs|sync_file_range)\(")


def mark() -> None:
    """Leave a mark that strace shows, and nothing else notices: a sync of no file."""
    with suppress(OSError):
        os.fsync(_NO_FILE)


def count_syncs(task: str, home: Path, **options: Any) -> float | None:
    """Return the syncs of a task between its two marks; None where strace isn't there or sees nothing.

    The worker marks the beginning and the end of what is counted by a sync of a descriptor that no process has.
    """
    if shutil.which("strace") is None:
        return None
    with tempfile.TemporaryDirectory(dir=home) as folder:
        log = Path(folder) / "log"
        before = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", str(log), "-e", f"trace={_CALLS}"]
        answer = turn(task, home, before, **options)
        if "missing" in answer or not log.exists():
            return None
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    marks = [number for number, line in enumerate(lines) if _MARK.search(line)]
    if len(marks) != 2:
        return None
    between = lines[marks[0] + 1 : marks[1]]
    return sum(1 for line in between if _SYNC.search(line) and "<... " not in line)


def per(found: float | None, operations: int) -> str:
    """Return syncs per operation as a cell."""
    return "not counted (no strace)" if found is None else f"{found / operations:.2f}"
