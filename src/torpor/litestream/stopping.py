"""Ending a replication from another process, and asking for one.

The text beside the workbook names Litestream's process. It counts only while the lock is held, that is, while that
process or its owner lives; the process is held by a descriptor (pidfd) before it is signalled, so that no other one
that got its number is hit.
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from typing import Final

from torpor.base.errors import LitestreamFailed, LitestreamIdle
from torpor.litestream.child import STOP_S
from torpor.workbook.attachment import Attached, attached
from torpor.workbook.paths import real_path

_OWNER_S: Final = 10.0
"""Seconds that the owner may take to tidy up after Litestream's end."""

_LOOK_S: Final = 0.05


def replicating(path: str) -> Attached | None:
    """Return by whom and to where a workbook is replicated; None where it isn't.

    Raises:
        WorkbookMissing: no file can have that name.
        WorkbookReadOnly, StorageFailed: that can't be known.

    """
    return attached(real_path(path))


def stop(path: str) -> Attached:
    """End the replication of a workbook, after it has sent what is left; returns what it was.

    Raises:
        LitestreamIdle: it isn't replicated.
        LitestreamFailed: it can't be ended.

    """
    name = real_path(path)
    found = attached(name)
    if found is None:
        raise LitestreamIdle(path=name)
    deadline = time.monotonic() + STOP_S
    while found is not None and found.child == 0:  # it is being started
        _pause()
        found = attached(name)
        if time.monotonic() > deadline:
            raise LitestreamFailed(what=f"be stopped on {name}", reason="it doesn't get started")
    if found is None:
        raise LitestreamIdle(path=name)
    _end(name, found)
    last = found
    deadline = time.monotonic() + _OWNER_S
    while (now := attached(name)) is not None and now.child == found.child:
        last = now
        if time.monotonic() > deadline:
            raise LitestreamFailed(what=f"be stopped on {name}", reason=f"process {found.pid} doesn't let go of it")
        _pause()
    return last


def _end(name: str, found: Attached) -> None:
    try:
        process = os.pidfd_open(found.child)
    except ProcessLookupError:
        return
    try:
        now = attached(name)
        if now is None or now.child != found.child:
            return  # it has ended, and its number may be another's
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if not _ended(process, STOP_S):
            signal.pidfd_send_signal(process, signal.SIGKILL)
            _ended(process, STOP_S)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise LitestreamFailed(
            what=f"be stopped on {name}", reason=f"process {found.child} is another user's"
        ) from error
    finally:
        os.close(process)


def _ended(process: int, wait_s: float) -> bool:
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(wait_s * 1000))


def _pause() -> None:
    with suppress(InterruptedError):
        select.select((), (), (), _LOOK_S)
