"""The configuration that Litestream is run with, in a folder that only its owner can read, removed with it.

It is JSON, which YAML takes. Litestream's own state (its shadow of the log) is kept in that folder too, not beside the
workbook: at rest an agent is one file, and after the log was brought into it the state is of no use any more.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from torpor.litestream.targets import Target
from torpor.workbook.attachment import folder_for_attached

_FILE: Final = "litestream.yml"
_STATE: Final = "state"


@contextmanager
def scratch() -> Iterator[str]:
    """Give a new folder for Litestream's configuration and state, until the block ends."""
    folder = folder_for_attached()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write(folder: str, path: str, target: Target) -> str:
    """Write the configuration for one workbook and return its path.

    Args:
        folder: where to.
        path: the workbook.
        target: where it is sent to, or fetched from.

    """
    database: dict[str, Any] = {
        "path": path,
        "meta-path": os.path.join(folder, _STATE),
        "replicas": [{**target.settings, "sync-interval": "1s"}],
    }
    config = {"logging": {"level": "info", "type": "json", "stderr": True}, "dbs": [database]}
    name = os.path.join(folder, _FILE)
    with open(name, "xb") as file:
        file.write(msgspec.json.encode(config))
    return name
