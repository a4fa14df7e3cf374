"""Small files of the heartbeat's folder: each is there whole and durable, or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def read_small(folder: str, name: str) -> str:
    """Return what a small file says, without blanks around it; "" where there is none.

    Raises:
        OSError: it can't be read.

    """
    try:
        return Path(folder, name).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""


def write_small(folder: str, name: str, text: str, *, first: bool = False) -> None:
    """Write a small file, whole and durable; where it has to be the first, one that is there stays.

    Raises:
        OSError: it can't be written.

    """
    draft = Path(folder, f"{name}-draft-{os.getpid()}" if first else f"{name}-draft")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file)
    if first:
        with suppress(FileExistsError):
            os.link(draft, Path(folder, name))
        draft.unlink()
    else:
        draft.rename(Path(folder, name))
    sync_names(folder)


def sync_names(folder: str) -> None:
    """Make the names in a folder durable.

    Raises:
        OSError: the system refuses.

    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
