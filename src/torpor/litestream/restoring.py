"""Bringing a workbook back from what Litestream has sent: to a new file, and proved before it has its name.

Litestream writes a draft beside the target. The draft is opened as a workbook, verified, and made durable; only then is
it given its name, in one step and never over another. Killed before that, it leaves the draft, which the next attempt
removes.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Final

import msgspec

from torpor.base.clock import MICROSECONDS, Clock
from torpor.base.errors import FileTaken, WorkbookMissing
from torpor.litestream import configuration
from torpor.litestream.binary import Litestream
from torpor.litestream.child import Child
from torpor.litestream.targets import Target
from torpor.workbook import Workbook, at_rest
from torpor.workbook.paths import real_path
from torpor.workbook.placing import clear_draft, place, refuse_remains
from torpor.workbook.weather import from_system

_DRAFT: Final = "-draft"
_THEIRS: Final = ".tmp"
"""What Litestream adds to a name until the file is whole."""

_BEAT_S: Final = 1.0


class Restored(msgspec.Struct, frozen=True):
    """A workbook that was brought back."""

    path: str
    agent: str
    """Whose it is."""
    seq: int
    """The number of its newest event."""
    head: str
    """The hash of that, in hexadecimal; "" where there is none."""
    bytes: int


def restore(target: Target, path: str, litestream: Litestream, *, at: int | None = None, clock: Clock) -> Restored:
    """Bring a workbook back to a new file.

    Args:
        target: where it was sent to.
        path: the new file; nothing may be there.
        litestream: the program.
        at: as it was then, in µs since 1970 UTC, to the second; the newest unless given. It must lie within what the
            target has.
        clock: where times come from.

    Raises:
        FileTaken: something is there.
        WorkbookMissing: its folder isn't.
        LitestreamFailed: it can't be fetched, or there is none.
        NotAWorkbook, WorkbookDamaged, NewerFormat: what came is no whole workbook; it is removed.
        AgentBusy, WorkbookOwned: somebody is making that file just now.
        StorageFull, StorageFailed: it can't be written.

    """
    name = real_path(path)
    _refuse_taken(name)
    draft = f"{name}{_DRAFT}"
    with ExitStack() as stay:
        stay.enter_context(at_rest(name, clock=clock))  # the name is ours: nobody makes the file meanwhile
        _refuse_taken(name)
        _clear(draft)
        stay.callback(_clear, draft)
        _fetch(target, draft, litestream, at)
        agent, seq, head = _proved(draft, clock)
        _sync(draft)
        place(draft, name)
        return Restored(name, agent, seq, head, os.stat(name).st_size)


def _refuse_taken(name: str) -> None:
    if os.path.lexists(name):
        raise FileTaken(path=name)
    folder = os.path.dirname(name)
    if not os.path.isdir(folder):
        raise WorkbookMissing(path=name, reason=f"there is no folder {folder}")
    refuse_remains(name)


def _fetch(target: Target, draft: str, litestream: Litestream, at: int | None) -> None:
    with configuration.scratch() as folder:
        config = configuration.write(folder, draft, target)
        words = [litestream.path, "restore", "-no-expand-env", "-config", config, "-o", draft]
        if at is not None:
            words += ["-timestamp", f"{datetime.fromtimestamp(at // MICROSECONDS, UTC):%Y-%m-%dT%H:%M:%SZ}"]
        child = Child([*words, draft], target.environment)
        try:
            while not child.silent:
                child.hear(_BEAT_S)
            code = child.wait()
        except BaseException:
            child.kill()
            raise
        if code != 0 or not os.path.exists(draft):
            raise child.failed(f"restore from {target.url}")


def _proved(draft: str, clock: Clock) -> tuple[str, int, str]:
    """Return whose workbook a draft is and where its journal stands, if it keeps every promise."""
    with Workbook.open(draft, create=False, clock=clock) as book:
        book.verify().require()
        return (book.agent, *book.head)


def _sync(draft: str) -> None:
    """Make the draft durable, and its owner's alone; nobody has it open."""
    try:
        os.chmod(draft, 0o600)
        descriptor = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise from_system(draft, error) from error


def _clear(draft: str) -> None:
    clear_draft(draft)
    clear_draft(f"{draft}{_THEIRS}")
