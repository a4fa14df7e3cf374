"""Single ownership: at most one process, and in it one `Workbook`, writes a workbook.

The claim is a POSIX record lock on a small file beside the workbook, `NAME.workbook-owner`, whose text says who holds
it. The kernel drops the lock with the process, however it dies, and a forked child does not inherit it. Two
properties of these locks need care:

- they vanish when the process closes *any* descriptor of the file, so a table of this process's claims is asked
  before the file is opened a second time;
- the file is removed when the claim ends (at rest an agent is one file), so a claim counts only if the locked file
  is still the one that the name leads to.

The lock is never on the workbook itself: nothing but SQLite may open that.
"""

from __future__ import annotations

import fcntl
import os
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import msgspec

from torpor.base.clock import MICROSECONDS, Clock
from torpor.base.errors import WorkbookOwned
from torpor.workbook.weather import from_system

_WAIT_S: Final = 0.005
_WAITS_MAX: Final = 200

_claims: dict[str, Owner] = {}
_claims_lock = threading.Lock()


class OwnerRecord(msgspec.Struct, frozen=True):
    """Who owns a workbook, as written beside it."""

    pid: int
    command: str
    since: str
    passing: bool = False
    """Held for a moment only, to tidy up: worth waiting for."""


class Owner:
    """A claim on a workbook; `release` ends it."""

    def __init__(self, path: str, descriptor: int, record: OwnerRecord) -> None:
        self._path = path
        self._descriptor = descriptor
        self.record = record

    def release(self) -> None:
        """End the claim and remove its file; nothing where the claim is another's, as in a forked child.

        Raises:
            WorkbookReadOnly, StorageFailed: the file can't be removed; the claim has ended all the same.

        """
        with _claims_lock:
            if _claims.get(self._path) is not self:
                return
            del _claims[self._path]
            try:
                # Unlinked before the lock goes with the descriptor: whoever is waiting then finds that the name leads
                # elsewhere, and tries again. Where a stranger removed or replaced the file, nothing there is ours.
                if _leads_to(owner_path(self._path), self._descriptor):
                    os.unlink(owner_path(self._path))
            except OSError as error:
                raise from_system(self._path, error) from error
            finally:
                os.close(self._descriptor)


def owner_path(path: str) -> str:
    """Return the name of the file that tells who owns the workbook at `path`."""
    return f"{path}-owner"


def moment(clock: Clock) -> str:
    """Return the present time in words, as a claim tells it."""
    return f"{datetime.fromtimestamp(clock.now_us() / MICROSECONDS, UTC):%Y-%m-%d %H:%M:%S} UTC"


def claim(path: str, since: str, *, passing: bool = False) -> Owner:
    """Claim the workbook at `path` (absolute, links resolved) for this process.

    Args:
        path: the workbook, which need not exist yet.
        since: the present time, in words for whoever is refused.
        passing: it is given up in a moment; others wait for that instead of being refused.

    Raises:
        WorkbookOwned: somebody holds it.
        WorkbookMissing, WorkbookReadOnly, StorageFull, StorageFailed: the claim's file can't be made.

    """
    command = " ".join(sys.argv)[:200].encode(errors="replace").decode()  # an argument need not be text
    record = OwnerRecord(os.getpid(), command, since, passing)
    waits = 0
    while isinstance(found := _try(path, record), OwnerRecord):
        if not found.passing or waits == _WAITS_MAX:
            raise WorkbookOwned(path=path, pid=found.pid, command=found.command, since=found.since)
        waits += 1
        time.sleep(_WAIT_S)  # noqa: TID251  (a few milliseconds, in a call that opens a file)
    return found


def _try(path: str, record: OwnerRecord) -> Owner | OwnerRecord:
    """Return the claim, or who holds it."""
    with _claims_lock:
        held = _claims.get(path)
        if held is not None:
            return held.record
        descriptor = _lock(path)
        if isinstance(descriptor, OwnerRecord):
            return descriptor
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, msgspec.json.encode(record), 0)
        except OSError as error:
            with suppress(OSError):
                os.unlink(owner_path(path))  # it is the locked one, so nobody else's
            os.close(descriptor)
            raise from_system(path, error) from error
        owner = _claims[path] = Owner(path, descriptor, record)
        return owner


def _lock(path: str) -> int | OwnerRecord:
    name = owner_path(path)
    while True:
        try:
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise from_system(path, error) from error
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held = _read(descriptor)
            os.close(descriptor)
            return held
        if _leads_to(name, descriptor):
            return descriptor
        os.close(descriptor)


def _leads_to(name: str, descriptor: int) -> bool:
    try:
        named = os.stat(name)
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(descriptor))


def _read(descriptor: int) -> OwnerRecord:
    try:
        return msgspec.json.decode(os.pread(descriptor, 4096, 0), type=OwnerRecord)
    except msgspec.DecodeError:
        # The holder has locked the file and not written its name yet.
        return OwnerRecord(0, "starting", "a moment ago", passing=True)


def _after_fork() -> None:
    """Forget, in a forked child, what the parent owns: no lock was inherited, and the file names the parent."""
    global _claims_lock  # noqa: PLW0603  (another thread of the parent may have held it, and is not here to give it back)
    _claims_lock = threading.Lock()
    _claims.clear()


os.register_at_fork(after_in_child=_after_fork)
