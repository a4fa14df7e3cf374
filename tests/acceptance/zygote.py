"""A process that has Torpor imported and forks a child for each command line.

A `torpor` command of its own spends nine tenths of its time on imports. Tests that start hundreds take a child of this
process instead: it runs `torpor.main.main` with its own arguments, streams, folder and environment, and can be killed
as any other. Nothing of Torpor is *used* before the fork: no workbook is open, no thread runs, no model is loaded.
Everything is imported, though: also what a command line would import only when it needs it.

Requests come as lines of JSON on standard input; answers go to standard output: the child's pid, then how it ended.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import sys
from contextlib import nullcontext, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import torpor
import torpor.main
from torpor.testing.faults import kill_at, record


def warm() -> None:
    """Import all that a child may need."""
    for module in pkgutil.walk_packages(torpor.__path__, "torpor."):
        if not module.name.startswith("torpor.testing") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for late in ("anyio._backends._asyncio", "typer._adapters"):  # what libraries import when they are used
        importlib.import_module(late)
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), suppress(SystemExit):
        torpor.main.main(["--help"])  # and what they import to show something
    assert len(os.listdir("/proc/self/task")) == 1, "a child has only the thread that forks"


def child(asked: dict[str, Any]) -> int:
    """Run the command line; returns its exit code."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    os.dup2(os.open(asked["stdin"], os.O_RDONLY), 0)
    os.dup2(os.open(asked["stdout"], flags, 0o600), 1)
    os.dup2(os.open(asked["stderr"], flags, 0o600), 2)
    os.chdir(asked["cwd"])
    os.environ.update(asked["env"])
    listening = kill_at(asked["point"], asked["nth"]) if asked["point"] else nullcontext()
    code = 0
    with record() as reached, listening:
        try:
            torpor.main.main(asked["words"])
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
        sys.stdout.flush()
    if asked["reached"]:
        Path(asked["reached"]).write_text(json.dumps(reached))
    return code


def main() -> None:
    """Serve until standard input ends."""
    warm()
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 70  # what is left where the command line raised: a traceback is on its standard error
            try:
                code = child(asked)
            except BaseException:
                sys.excepthook(*sys.exc_info())
                raise
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(pid, flush=True)  # noqa: T201  (the protocol)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
