"""What the tests of hazards share: a forked child, and scripts in processes of their own, on disks of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]


def in_child(act: Callable[[], object]) -> str:
    """Fork, do `act` in the child, and return what went wrong there; "" for nothing."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 0
        try:
            act()
        except BaseException:  # noqa: BLE001  (the child must end here whatever happens, and say what)
            os.write(writing, traceback.format_exc().encode())
            code = 1
        os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    return said or ("" if status == 0 else f"status {status}")


def printed_by(script: str, *args: object, around: str = "") -> str:
    """Run a Python script in a process, and return what it printed.

    Args:
        script: its text.
        args: its arguments, each made a string.
        around: a shell command to be done before, in a mount namespace of the process's own: mounts end with it. The
            test is skipped where nobody may mount.

    """
    if around and (os.getuid() != 0 or shutil.which("unshare") is None):
        pytest.skip("only root may mount, with unshare(1)")
    command = [sys.executable, "-c", script, *map(str, args)]
    if around:
        command = ["unshare", "-m", "sh", "-c", f'{around} || exit 77; exec "$@"', "sh", *command]
    env = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PATH": os.defpath}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if around and done.returncode in (1, 77) and "mount" in done.stderr + done.stdout:
        pytest.skip(f"mounting isn't allowed here: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def told_by(script: str, *args: object, around: str = "") -> Any:
    """Run a Python script as `printed_by` does, and return the JSON that it printed."""
    return json.loads(printed_by(script, *args, around=around))
