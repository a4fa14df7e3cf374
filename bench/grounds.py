"""The file systems that clones are measured on: the machine's own, and an XFS in a file of it, mounted by a loop."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.agents import MIB
from bench.machine import file_system
from bench.plain import can_reflink

_LEAST: Final = 320 * MIB
"""Bytes of the smallest XFS that there is."""

_PIECE: Final = bytes(8 * MIB)
_SECONDS_MAX: Final = 120


@dataclass(frozen=True)
class Ground:
    """A folder to measure in.

    Attributes:
        name: what its file system is called.
        folder: where it is.
        reflinks: whether files can share blocks there.
        missing: why there is none.

    """

    name: str
    folder: Path
    reflinks: bool = False
    missing: str = ""


@contextmanager
def grounds(home: Path, size: int) -> Iterator[list[Ground]]:
    """Give the machine's own file system, and an XFS with room for `size` bytes; both are gone after the block.

    The XFS needs root, `mkfs.xfs` and a loop device. Its file is written full before it is made, so that no block has
    to be found for it while something is measured.
    """
    folder = Path(tempfile.mkdtemp(dir=home, prefix="ground-"))
    image, mounted = folder / "xfs.image", folder / "xfs"
    own = folder / "own"
    own.mkdir()
    mounted.mkdir()
    try:
        reason = _mount(image, mounted, max(size, _LEAST))
        yield [
            Ground("XFS", mounted, reflinks=not reason and can_reflink(mounted), missing=reason),
            Ground(file_system(own).split()[0], own, reflinks=can_reflink(own)),
        ]
    finally:
        if mounted.is_mount():
            _umount(mounted)
        shutil.rmtree(folder, ignore_errors=True)


def _mount(image: Path, mounted: Path, size: int) -> str:
    """Make an XFS and mount it; returns why that can't be, or nothing."""
    if shutil.disk_usage(image.parent).free < 2 * size:
        return f"no room for an XFS of {size / MIB:,.0f} MiB"
    with image.open("wb") as file:
        for _ in range(-(-size // len(_PIECE))):
            file.write(_PIECE)
        os.fsync(file)
    # -K: without it the file would be emptied again.
    for words in (
        ["mkfs.xfs", "-q", "-K", "-m", "reflink=1", str(image)],
        ["mount", "-o", "loop", str(image), str(mounted)],
    ):
        if complaint := _complaint(words):
            return complaint
    return ""


def _umount(mounted: Path) -> None:
    if _complaint(["umount", str(mounted)]):
        _complaint(["umount", "--lazy", str(mounted)])


def _complaint(words: list[str]) -> str:
    """Run a command of the system; returns what it complained of, or nothing."""
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    command = shutil.which(words[0], path=places)
    if command is None:
        return f"there is no {words[0]} here"
    try:
        done = subprocess.run([command, *words[1:]], capture_output=True, text=True, timeout=_SECONDS_MAX, check=False)
    except subprocess.TimeoutExpired:
        return f"{words[0]}: no answer in {_SECONDS_MAX} s"
    if done.returncode == 0:
        return ""
    said = (done.stderr or done.stdout).strip().splitlines()
    return said[0] if said else f"{words[0]} failed"
