"""Child processes that die at a fault point.

::

    python -m torpor.testing.crash POINT NTH -- ARGS…             the torpor command line
    python -m torpor.testing.crash POINT NTH --script FILE ARGS…  a Python file
    python -m torpor.testing.crash POINT NTH --call MODULE:NAME ARGS…

The child kills itself with SIGKILL when it reaches POINT for the NTH time; if it never does, it ends as usual. POINT
may be `never`. `crash_command`, `crash_script` and `crash_call` start such a child and wait for it.
"""

from __future__ import annotations

import importlib
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass

from torpor.testing.faults import kill_at

SECONDS_MAX = 60.0
"""How long a child may take."""

NEVER = "never"
"""The point that is never reached: the child runs to its end."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended.

    Attributes:
        code: its exit status; minus the signal's number if a signal ended it.
        out: what it wrote to its standard output.
        err: what it wrote to its standard error.

    """

    code: int
    out: str
    err: str

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it: the point was reached."""
        return self.code == -signal.SIGKILL


def crash_command(
    point: str, nth: int, *args: str, env: Mapping[str, str] | None = None, cwd: str | None = None
) -> Ended:
    """Run the torpor command line in a child that dies at the `nth` reaching of `point`.

    Args:
        point: a fault point, or "never".
        nth: from 1.
        args: the command line after `torpor`.
        env: the child's whole environment; this process's unless given.
        cwd: the child's folder.

    """
    return _run(point, nth, ["--", *args], env, cwd)


def crash_script(point: str, nth: int, script: str, *args: str, env: Mapping[str, str] | None = None) -> Ended:
    """Run a Python file in a child that dies at the `nth` reaching of `point`."""
    return _run(point, nth, ["--script", script, *args], env, None)


def crash_call(point: str, nth: int, function: str, *args: str, env: Mapping[str, str] | None = None) -> Ended:
    """Call `module:name` with strings in a child that dies at the `nth` reaching of `point`."""
    return _run(point, nth, ["--call", function, *args], env, None)


def _run(point: str, nth: int, rest: list[str], env: Mapping[str, str] | None, cwd: str | None) -> Ended:
    command = [sys.executable, "-m", "torpor.testing.crash", point, str(nth), *rest]
    done = subprocess.run(  # noqa: S603  (our own interpreter, our own module)
        command,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
        env=env,
        cwd=cwd,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def main(argv: list[str]) -> None:
    """Do what the command line of this module asks; see the module's text."""
    point, nth, how, *rest = argv
    with nullcontext() if point == NEVER else kill_at(point, int(nth)):
        match how:
            case "--":
                from torpor.main import main as torpor  # noqa: PLC0415  (only this mode needs all of Torpor)

                torpor(rest)
            case "--script":
                sys.argv = rest
                runpy.run_path(rest[0], run_name="__main__")
            case "--call":
                module, _, name = rest[0].partition(":")
                getattr(importlib.import_module(module), name)(*rest[1:])
            case _:
                sys.exit(f"{how} is not --, --script or --call")


if __name__ == "__main__":
    main(sys.argv[1:])
