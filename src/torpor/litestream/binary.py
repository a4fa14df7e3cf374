"""Where Litestream is, and which version of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import Final

import msgspec

from torpor.base.errors import LitestreamFailed, LitestreamMissing

PROGRAM: Final = "litestream"

NEWEST: Final = (999, 0, 0)
"""What a version counts as that doesn't say which it is, as a build of one's own."""

_ANSWER_S: Final = 20.0
_VERSION: Final = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")


class Litestream(msgspec.Struct, frozen=True):
    """One installed Litestream."""

    path: str
    text: str
    """Its version as it says it."""
    version: tuple[int, int, int]

    @property
    def name(self) -> str:
        """What to call it: "Litestream v0.3.13"."""
        return f"Litestream {self.text}"


def find(named: str, environment: Mapping[str, str]) -> Litestream:
    """Return the Litestream of this machine.

    Args:
        named: its path, or its name on PATH; "" for the usual one.
        environment: where PATH is.

    Raises:
        LitestreamMissing: there is none.
        LitestreamFailed: it can't be run.

    """
    path = shutil.which(named or PROGRAM, path=environment.get("PATH", os.defpath))
    if path is None:
        raise LitestreamMissing(reason=f"{named} is no program" if named else "`litestream` is not on PATH")
    path = os.path.abspath(path)
    try:
        done = subprocess.run(  # noqa: S603  (the program that the user named or installed)
            [path, "version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ANSWER_S,
            check=True,
            env=dict(environment),
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise LitestreamFailed(what=f"be run from {path}", reason=str(error)) from error
    text = done.stdout.decode(errors="replace").strip()[:100]
    found = _VERSION.search(text)
    version = (int(found[1]), int(found[2]), int(found[3])) if found else NEWEST
    return Litestream(path, text, version)
