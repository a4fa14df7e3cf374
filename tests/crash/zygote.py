"""A warm process from which each request is served by a forked child, and the end of the child that the test keeps.

A workload is a script that calls `serve`. What it has imported once, no child imports again.
"""

from __future__ import annotations

import faulthandler
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torpor.base import faults

WRONG = 70
"""How a child exits that ended by an error."""


def serve(child: Callable[..., list[str]]) -> None:
    """Serve until standard input ends: each line has the arguments of a child, which returns the points it reached."""
    for line in sys.stdin:
        print(json.dumps(_answer(child, json.loads(line))), flush=True)  # noqa: T201  (the protocol)


def _answer(child: Callable[..., list[str]], asked: dict[str, Any]) -> dict[str, Any]:
    """Fork a child for one request, and say how it ended."""
    receiving, sending = os.pipe()
    pid = os.fork()
    if pid == 0:
        faulthandler.enable()
        code = WRONG
        try:
            os.close(receiving)
            os.write(sending, json.dumps(child(**asked)).encode())
            code = 0
        except BaseException:  # noqa: BLE001  (whatever it was, the parent is told, and the child ends here)
            os.write(sending, traceback.format_exc()[-4000:].encode())
        finally:
            os._exit(code)
    os.close(sending)
    with os.fdopen(receiving, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return {"code": code, "reached": json.loads(said) if code == 0 else [], "said": said if code > 0 else ""}


class Warm:
    """A process that serves a workload's script."""

    def __init__(self, script: str) -> None:
        path = os.pathsep.join((str(Path(faults.__file__).parents[2]), str(Path(__file__).parents[2])))
        self._process = subprocess.Popen(
            [sys.executable, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )

    def ask(self, **asked: Any) -> dict[str, Any]:
        """Have a child do something; returns how it ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        self._process.communicate()
