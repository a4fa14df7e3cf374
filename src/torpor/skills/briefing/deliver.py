"""Putting a briefing where people find it: two files, named by the run, both there whole or none.

Each file is written under a name of its own and made durable; then both are renamed. The names and the content depend
on the run alone, so doing it again after a crash puts the same bytes in the same place; `delivered` asks the folder
whether that is needed. A file of that name with other content is somebody's: it is never replaced.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from torpor.base import faults
from torpor.base.errors import DeliveryFailed


def file_names(run: str) -> tuple[str, str]:
    """Return the names of a run's Markdown and HTML file."""
    return f"briefing-{run}.md", f"briefing-{run}.html"


def deliver(folder: str, run: str, markdown: str, html: str) -> list[str]:
    """Write a briefing into a folder, which is made if need be, and return the two paths.

    Raises:
        DeliveryFailed: the folder can't be written, or holds another file of that name; nothing half-written is left.

    """
    faults.point("delivery.begun")
    contents = _contents(folder, run, markdown, html)
    ours: list[Path] = []
    try:
        _make_folder(Path(folder))
        missing = {path: data for path, data in contents.items() if not _holds(path, data)}
        for path, data in missing.items():
            ours.append(_draft(path))
            _write(_draft(path), data)
            faults.point("delivery.staged")
        for path in contents:
            if path in missing:
                ours.append(path)
                _draft(path).rename(path)
            if path.suffix == ".md":
                faults.point("delivery.half")
        _sync_folder(Path(folder))
    except OSError as error:
        for path in ours:
            with suppress(OSError):  # the device that failed may not let us tidy up either
                path.unlink(missing_ok=True)
        raise DeliveryFailed(path=folder, reason=_said(error)) from error
    faults.point("delivery.placed")
    return [str(path) for path in contents]


def delivered(folder: str, run: str, markdown: str, html: str) -> list[str] | None:
    """Return the paths of a run's briefing if it is in the folder already, whole; else None.

    Where the folder can't be read the answer is None as well: delivering again does no harm, and says what is wrong.
    """
    contents = _contents(folder, run, markdown, html)
    try:
        if any(path.read_bytes() != data for path, data in contents.items()):
            return None
    except OSError:
        return None
    return [str(path) for path in contents]


def _contents(folder: str, run: str, markdown: str, html: str) -> dict[Path, bytes]:
    names = file_names(run)
    return {Path(folder) / name: text.encode() for name, text in zip(names, (markdown, html), strict=True)}


def _make_folder(folder: Path) -> None:
    """Make a folder, and durable what names it: a folder that was new is gone with the power otherwise."""
    new = [folder, *folder.parents]
    new = [path for path in new if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in new:
        _sync_folder(path.parent)


def _holds(path: Path, data: bytes) -> bool:
    if not os.path.lexists(path):
        return False
    if path.read_bytes() == data:
        return True
    raise DeliveryFailed(path=str(path.parent), reason=f"another file of the name {path.name} is there")


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _said(error: OSError) -> str:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "there is a file where the folder should be"
    return (error.strerror or str(error)).lower()
