"""Claims: at most one process, and in it one holder, has a file's lock.

A claim is a POSIX record lock on a small file of its own, whose text says who holds it. The kernel drops the lock with
the process, however it dies, and a forked child does not inherit it. Two properties of these locks need care:

- they vanish when the process closes *any* descriptor of the file, so a table of this process's claims is asked
  before the file is opened a second time;
- the file is removed when the claim ends, so a claim counts only if the locked file is still the one that the name
  leads to.

The lock is never on the file that is claimed: closing a second descriptor of that would drop the lock.
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

_WAIT_S: Final = 0.005
_WAITS_MAX: Final = 200

_claims: dict[str, Claim] = {}
_claims_lock = threading.Lock()


class Holder(msgspec.Struct, frozen=True):
    """Who holds a claim, as written into its file."""

    pid: int
    command: str
    since: str
    passing: bool = False
    """Held for a moment only, to tidy up: worth waiting for."""
    moving: bool = False
    """Held to copy, move or remove what is claimed, not to have it open."""


_holder: Final = msgspec.json.Decoder(Holder).decode


class Claim:
    """A claim that is held; `release` ends it."""

    def __init__(self, path: str, descriptor: int, holder: Holder) -> None:
        self._path = path
        self._descriptor = descriptor
        self.holder = holder

    def release(self) -> None:
        """End the claim and remove its file; nothing where the claim is another's, as in a forked child.

        Raises:
            OSError: the file can't be removed; the claim has ended all the same.

        """
        with _claims_lock:
            if _claims.get(self._path) is not self:
                return
            del _claims[self._path]
            try:
                # Unlinked before the lock goes with the descriptor: whoever is waiting then finds that the name leads
                # elsewhere, and tries again. Where a stranger removed or replaced the file, nothing there is ours.
                if leads_to(self._path, self._descriptor):
                    os.unlink(self._path)
            finally:
                os.close(self._descriptor)


def moment(clock: Clock) -> str:
    """Return the present time in words, as a claim tells it."""
    return f"{datetime.fromtimestamp(clock.now_us() / MICROSECONDS, UTC):%Y-%m-%d %H:%M:%S} UTC"


def claim(path: str, since: str, *, passing: bool = False, moving: bool = False) -> Claim | Holder:
    """Claim the lock file `path` (absolute, links resolved) for this process, or say who holds it.

    Args:
        path: the file of the claim; made here, and removed when the claim ends.
        since: the present time, in words for whoever is refused.
        passing: it is given up in a moment; others wait for that instead of being refused.
        moving: what is claimed is not to be opened, but copied, moved or removed.

    Raises:
        OSError: the file can't be made or written.

    """
    command = " ".join(sys.argv)[:200].encode(errors="replace").decode()  # an argument need not be text
    holder = Holder(os.getpid(), command, since, passing, moving)
    waits = 0
    while isinstance(found := _try(path, holder), Holder):
        if not found.passing or waits == _WAITS_MAX:
            return found
        waits += 1
        time.sleep(_WAIT_S)  # noqa: TID251  (a few milliseconds, in a call that opens a file)
    return found


def _try(path: str, holder: Holder) -> Claim | Holder:
    """Return the claim, or who holds it."""
    with _claims_lock:
        held = _claims.get(path)
        if held is not None:
            return held.holder
        descriptor = _lock(path)
        if isinstance(descriptor, Holder):
            return descriptor
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, msgspec.json.encode(holder), 0)
        except OSError:
            with suppress(OSError):
                os.unlink(path)  # it is the locked one, so nobody else's
            os.close(descriptor)
            raise
        made = _claims[path] = Claim(path, descriptor, holder)
        return made


def _lock(path: str) -> int | Holder:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held = _read(descriptor)
            os.close(descriptor)
            return held
        if leads_to(path, descriptor):
            return descriptor
        os.close(descriptor)


def leads_to(name: str, descriptor: int) -> bool:
    """Report whether a name is still that of the file that a descriptor is open on."""
    try:
        named = os.stat(name)
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(descriptor))


def _read(descriptor: int) -> Holder:
    try:
        return _holder(os.pread(descriptor, 4096, 0))
    except msgspec.DecodeError:
        # The holder has locked the file and not written its name yet.
        return Holder(0, "starting", "a moment ago", passing=True)


def _after_fork() -> None:
    """Forget, in a forked child, what the parent holds: no lock was inherited, and the files name the parent."""
    global _claims_lock  # noqa: PLW0603  (another thread of the parent may have held it, and is not here to give it back)
    _claims_lock = threading.Lock()
    _claims.clear()


os.register_at_fork(after_in_child=_after_fork)
