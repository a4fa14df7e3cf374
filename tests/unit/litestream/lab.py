"""What the tests of Litestream share: an owner of it in a process of its own, and a look at what is left of both."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from tests.unit.litestream.program import litestream

from torpor.base.clock import SystemClock
from torpor.litestream import Litestream, Target, find, target_of

ROOT = Path(__file__).parents[3]
ENOUGH_S = 60.0
"""Seconds after which what doesn't happen is taken for a failure; nothing is waited for so long that does."""


def program() -> Litestream:
    return find(litestream(), os.environ)


def target(folder: Path) -> Target:
    folder.mkdir(exist_ok=True)
    return target_of(folder.as_uri(), os.environ, program().version)


def eventually(look: Callable[[], Any]) -> Any:
    """Return what `look` returns as soon as that is true; fails where it never is."""
    deadline = time.monotonic() + ENOUGH_S
    while not (found := look()):
        assert time.monotonic() < deadline, "it never came to that"
        _pause()
    return found


def _pause() -> None:
    select.select((), (), (), 0.02)


def alive(pid: int) -> bool:
    """Report whether any thread of a process lives, so that its files are open: a zombie's aren't."""
    return any(_state(task) not in "ZX" for task in Path("/proc").glob(f"{pid}/task/*/stat"))


def _state(stat: Path) -> str:
    try:
        return stat.read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TORPOR_", "AWS_", "PYTEST"))}
    ours = {
        "PYTHONPATH": str(ROOT / "src"),
        "PYTHONWARNINGS": "error",
        "TORPOR_LITESTREAM": litestream(),
        "TORPOR_HOME": "/nonexistent/home",
    }
    return {**kept, **ours, **(more or {})}


class Replicating:
    """`torpor litestream replicate` in a process of its own, which has begun when the block begins."""

    def __init__(self, workbook: str, url: str, *, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        self._words = [sys.executable, "-m", "torpor", "litestream", "replicate", workbook, url, "--json"]
        self._cwd = cwd
        self._temporary = TemporaryDirectory()  # for what a killed one leaves
        self._env = environment({"TMPDIR": self._temporary.name, **(env or {})})

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._words, cwd=self._cwd, env=self._env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.said: list[dict[str, Any]] = []
        while not any("litestream" in line for line in self.said):
            line = self.process.stdout.readline()
            if not line:
                _, err = self.process.communicate(timeout=ENOUGH_S)
                raise AssertionError(f"it never began: {err}")
            self.said.append(json.loads(line))
        return self

    @property
    def litestream(self) -> int:
        """Litestream's process."""
        return int(self.said[-1]["litestream"])

    def ended(self) -> tuple[int, str]:
        """Wait until it has ended; returns its exit code and what it complained of."""
        out, err = self.process.communicate(timeout=ENOUGH_S)
        self.said += [json.loads(line) for line in out.splitlines()]
        return self.process.returncode, err

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=ENOUGH_S)
        eventually(lambda: not alive(self.litestream))
        self._temporary.cleanup()


CLOCK = SystemClock()
