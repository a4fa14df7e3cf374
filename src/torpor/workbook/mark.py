"""The mark of a workbook whose commits a node's log keeps: that file alone may lack some, after a power cut.

Commits of class `heartbeat` reach the kernel, and the log's device; the workbook's own device at any later time. As
long as the machine runs, every process sees them. After a power cut the file may be an earlier one, and nothing in it
would say so. So, before the first such commit of an opening is acknowledged, a small file beside the workbook says
which home's log belongs to it and which boot of the machine this is: `NAME.workbook-mark`, synced with its folder. It
goes when the file is complete by itself: on closing, or when the log was replayed. Whoever finds a mark of an earlier
boot leaves the workbook alone: it has to be recovered by its home first.

A mark that can't be read counts as none: it is of an opening that never acknowledged anything.
"""

from __future__ import annotations

import functools
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from torpor.base.errors import NotRecovered
from torpor.workbook.placing import sync_folder
from torpor.workbook.weather import from_system

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Mark(msgspec.Struct, frozen=True):
    """What a mark says."""

    boot: str
    """The machine's boot, as the kernel names it."""
    home: str
    """The folder of the home whose log belongs to the workbook."""


_mark: Final = msgspec.json.Decoder(Mark).decode


_TAIL: Final = "-mark"


def mark_path(path: str) -> str:
    """Return the name of the mark of the workbook at `path`."""
    return f"{path}{_TAIL}"


def marked_in(folder: str) -> list[str]:
    """Return the names of the workbooks in a folder that have marks; a workbook itself may be missing.

    Raises:
        WorkbookError: that can't be known.

    """
    try:
        return [name.removesuffix(_TAIL) for name in os.listdir(folder) if name.endswith(_TAIL)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise from_system(folder, error) from error


@functools.cache
def this_boot() -> str:
    """Return what names the time since the machine was started; where nothing does, the life of this process."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return f"process {os.getpid()}"


def put_mark(path: str, home: str) -> None:
    """Mark a workbook, durably.

    Raises:
        WorkbookError: the mark can't be written.

    """
    try:
        descriptor = os.open(mark_path(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, msgspec.json.encode(Mark(this_boot(), home)))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(path)
    except OSError as error:
        raise from_system(path, error) from error


def read_mark(path: str) -> Mark | None:
    """Return a workbook's mark, if it has one.

    Raises:
        WorkbookError: that can't be known.

    """
    try:
        return _mark(Path(mark_path(path)).read_bytes())
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    except OSError as error:
        raise from_system(path, error) from error


def remove_mark(path: str) -> None:
    """Take a workbook's mark away: the file is complete and durable by itself.

    The folder isn't synced. Where a power cut brings the mark back, the workbook is recovered once more, for nothing.

    Raises:
        WorkbookError: it can't be removed.

    """
    try:
        with suppress(FileNotFoundError):
            os.unlink(mark_path(path))
    except OSError as error:
        raise from_system(path, error) from error


def awaits(path: str) -> str | None:
    """Return the home that has to recover a workbook, in the words of its mark; None where none has to.

    Raises:
        WorkbookError: that can't be known.

    """
    mark = read_mark(path)
    return None if mark is None or mark.boot == this_boot() else mark.home


def refuse_unrecovered(path: str) -> None:
    """Refuse a workbook that its home has to recover first.

    Raises:
        NotRecovered: it has.

    """
    home = awaits(path)
    if home is not None:
        raise NotRecovered(path=path, home=home)
