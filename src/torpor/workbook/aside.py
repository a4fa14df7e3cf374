"""Putting a workbook in the place of another, which is kept: what a restore does at its end.

What is in the place may be damaged, may wait for a recovery that can't be done, or may be sound and simply not wanted
any more. It is never opened here, never changed and never removed: it goes to another name, with the log that belongs
to it, and whoever wants to can look into it there.

**In one step, where that can be.** The new file gets the name that the old one is to have, and then the two change
names (`RENAME_EXCHANGE`): at any moment the place has one whole workbook. Killed in between, a copy of the new one
remains under the other name, for nothing.

Where the old one has a log beside it, it and its log can't move in one step; and some file systems don't know the
exchange. Then the log goes first, the old one second, and the new one comes third. Killed in between, there is no
file in the place, or one without its log: nothing is lost, all of it stands under the other name, and the same is to
be done again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from torpor.base.clock import Clock
from torpor.base.errors import FileTaken
from torpor.base.faults import point
from torpor.workbook.attachment import refuse_attached
from torpor.workbook.mark import remove_mark
from torpor.workbook.owner import claim, moment
from torpor.workbook.paths import real_path
from torpor.workbook.placing import exchange, rename_new, sync_folder
from torpor.workbook.presence import held
from torpor.workbook.weather import from_system

_LOGS: Final = ("-wal", "-journal")


@contextmanager
def as_it_is(path: str | os.PathLike[str], *, clock: Clock) -> Iterator[str]:
    """Hold a workbook that nobody has open, or its name, whatever state the file is in; yields its real path.

    Unlike `at_rest` this brings nothing to rest: what a dead owner has left in a log stays there, and a workbook that
    has to be recovered first is held too. So it is good for nothing but to be moved away.

    Raises:
        WorkbookOwned: somebody has it open for writing; says who.
        AgentBusy: this process has it open, or a program is attached to it.
        WorkbookError: the claim can't be made.

    """
    name = real_path(path)
    with ExitStack() as stay:
        stay.callback(claim(name, moment(clock), moving=True).release)
        stay.enter_context(held(name))
        refuse_attached(name)
        yield name


def has_log(path: str) -> bool:
    """Report whether there is a log beside a workbook, which may hold what the file lacks."""
    for tail in _LOGS:
        with suppress(FileNotFoundError):
            if os.stat(f"{path}{tail}").st_size:
                return True
    return False


def put_in_stead(new: str, path: str, aside: str) -> bool:
    """Put a workbook in its place, and what is there under another name. The caller holds the place.

    Args:
        new: a whole workbook at rest, its bytes on the disk, in the folder of `path`.
        path: the place; there need not be a file.
        aside: the other name, in a folder of the same file system.

    Returns:
        Whether something was there, and is under the other name now.

    Raises:
        FileTaken: something else is under the other name; nothing was changed.
        WorkbookError: the system refuses.

    """
    try:
        logged = has_log(path)
        there = logged or os.path.lexists(path)
        if logged or not there or not _swapped(new, path, aside):
            if there:
                _move_away(path, aside)
            rename_new(new, path)
        for tail in ("-shm", *_LOGS):  # SQLite's index of the old log, and what is left of one that is empty
            with suppress(FileNotFoundError):
                os.unlink(f"{path}{tail}")
        remove_mark(path)
        if there:
            sync_folder(aside)
        sync_folder(path)
    except FileExistsError as error:
        raise FileTaken(path=aside) from error
    except OSError as error:
        raise from_system(path, error) from error
    point("aside.placed")
    return there


def _swapped(new: str, path: str, aside: str) -> bool:
    """Have the new file and the old one change places in one step; False where the file system can't."""
    rename_new(new, aside)
    point("aside.beside")
    if exchange(aside, path):
        return True
    rename_new(aside, new)
    return False


def _move_away(path: str, aside: str) -> None:
    """Give a workbook its other name, with the log that belongs to it: the log first, so that it meets no other."""
    for tail in (*_LOGS, ""):
        with suppress(FileNotFoundError):
            rename_new(f"{path}{tail}", f"{aside}{tail}")
    sync_folder(aside)
    sync_folder(path)
    point("aside.moved")
