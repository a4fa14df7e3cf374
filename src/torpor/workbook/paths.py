"""Paths: inside a volume (absolute, normalised, one spelling for each file), and of workbooks themselves."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from typing import Final, Literal, get_args

from torpor.base.errors import PathRefused, VolumeUnknown, WorkbookMissing
from torpor.base.limits import PATH_MAX, SEGMENT_MAX
from torpor.workbook.weather import from_system

Volume = Literal["workspace", "memory", "tmp"]
VOLUMES: Final = get_args(Volume)

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


def check_volume(volume: str) -> None:
    """Refuse what is no volume.

    Raises:
        VolumeUnknown: it isn't.

    """
    if volume not in VOLUMES:
        raise VolumeUnknown(volume=volume)


def normal_path(path: str) -> str:
    """Return the one spelling of a file's path (Unicode NFC, so that what looks the same is the same).

    Raises:
        PathRefused: relative, climbing, empty in a part, over-long, or with characters that no name should have.

    """
    reason = _objection(path)
    if reason:
        raise PathRefused(path=path, reason=reason)
    return unicodedata.normalize("NFC", path)


def normal_folder(path: str) -> str:
    """Return a folder's path without its last slash: "" for the root. A slash at the end is allowed here.

    Raises:
        PathRefused: as for `normal_path`.

    """
    if not isinstance(path, str):
        raise PathRefused(path=path, reason=_objection(path))
    bare = path.removesuffix("/")
    return normal_path(bare) if bare or not path else ""


def ancestors(path: str) -> list[str]:
    """Return the folders above a path, without the root."""
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(2, len(parts))]


def below(folder: str) -> tuple[str, str]:
    """Return the bounds [low, high) of all paths below a folder: "0" is the character after "/"."""
    return f"{folder}/", f"{folder}0"


def real_path(path: str | os.PathLike[str]) -> str:
    """Return a workbook's path with its links resolved, so that each file has one name.

    Raises:
        WorkbookMissing, WorkbookReadOnly: no file can have that name, or none that this process may look at.

    """
    try:
        name = str(Path(path).resolve())
        name.encode()
        Path(f"{name}-owner").exists()  # raises where the name is too long for those of the files beside it
    except OSError as error:
        raise from_system(os.fspath(path), error) from error
    except (RuntimeError, ValueError) as error:  # RuntimeError: links that lead in a circle
        reason = "its name is not UTF-8" if isinstance(error, UnicodeError) else str(error)
        raise WorkbookMissing(path=os.fspath(path), reason=reason) from error
    return name


def _objection(path: str) -> str:
    if not isinstance(path, str):
        return f"{type(path).__name__} is not text"
    if not path.startswith("/"):
        return "it is not absolute"
    try:
        parts = [part.encode() for part in unicodedata.normalize("NFC", path).split("/")]
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if sum(map(len, parts)) + len(parts) - 1 > PATH_MAX:
        return f"it takes more than {PATH_MAX} bytes"
    for part in parts[1:]:
        if part in (b"", b".", b".."):
            return f"it has the part {part.decode()!r}"
        if len(part) > SEGMENT_MAX:
            return f"a part takes more than {SEGMENT_MAX} bytes"
    if _CONTROL.search(path):
        return "it has control characters"
    return ""
