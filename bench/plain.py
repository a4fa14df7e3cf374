"""What a plain script does with a file, and what the file system does with it: the floors under every copy."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

_FICLONE: Final = 0x4004_9409
_PIECE: Final = 2**20


def copied(source: Path, target: Path) -> None:
    """Copy a file by the standard library's fastest way, and sync it and its name."""
    shutil.copyfile(source, target)
    _sync(target)
    _sync(target.parent)


def reflinked(source: Path, target: Path) -> None:
    """Have a new file share another's blocks, as `cp --reflink` does, and sync it and its name.

    Raises:
        OSError: the file system can't.

    """
    with source.open("rb") as old, target.open("xb") as new:
        fcntl.ioctl(new, _FICLONE, old.fileno())
        os.fsync(new)
    _sync(target.parent)


def verified(source: Path, target: Path) -> None:
    """Read, hash and write, a piece at a time; sync; read back, hash and compare."""
    found = hashlib.sha256()
    with source.open("rb") as old, target.open("xb", buffering=0) as new:
        while piece := old.read(_PIECE):
            found.update(piece)
            new.write(piece)
        os.fsync(new)
    _sync(target.parent)
    _compare(found.hexdigest(), _digest(target))


def verified_beside(source: Path, target: Path) -> None:
    """Do the same with two threads: one hashes the source, while the other copies it inside the kernel."""
    with ThreadPoolExecutor(1) as beside:
        found = beside.submit(_digest, source)
        copied(source, target)
        _compare(found.result(), _digest(target))


WAYS: Final[dict[str, Callable[[Path, Path], None]]] = {
    "copied": copied,
    "reflinked": reflinked,
    "verified": verified,
    "verified beside": verified_beside,
}


def can_reflink(folder: Path) -> bool:
    """Report whether the file system of a folder lets files share blocks."""
    source, target = folder / "reflink-from", folder / "reflink-to"
    try:
        source.write_bytes(bytes(_PIECE))
        reflinked(source, target)
    except OSError:
        return False
    finally:
        source.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
    return True


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _compare(one: str, other: str) -> None:
    if one != other:
        message = "the copy is not the source"
        raise RuntimeError(message)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
