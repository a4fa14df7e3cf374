"""Disks for the heartbeat's log: one that tapes what is written and synced, and one that breaks.

Both do everything with real files; give them to `Log.open(disk=…)`. What `TapedDisk` tapes is for the power cuts of
`torpor.testing.power.images`. `BrokenLogDisk` fails at the call that a `LogFault` names.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from torpor.heartbeat.disk import Disk
from torpor.testing.power import Shortened, Synced, Tape, Wrote

LogCall = Literal["write", "read", "sync", "sync_all", "open", "rename", "remove", "sync_folder", "names"]

SHORT_WRITE: Final = 0
"""In place of an errno: a write takes half of what was asked, rounded up, as the kernel may."""


class TapedDisk(Disk):
    """A disk that does what the system's does, and tapes it.

    Args:
        tape: what to record on.
        folder: the log's; a sync of another folder makes nothing in it certain.

    """

    def __init__(self, tape: Tape, folder: str) -> None:
        self._tape = tape
        self._folder = folder
        self._files: dict[int, int] = {}

    def _open(self, path: str, flags: int) -> int:
        known = self._tape.name_of(path) in self._tape.names
        descriptor = super()._open(path, flags)
        file = self._files[descriptor] = self._tape.opened(path)
        if known and flags & os.O_TRUNC:
            self._tape.ops.append(Shortened(file, 0))
        return descriptor

    def _write(self, descriptor: int, parts: Sequence[bytes | memoryview], offset: int) -> int:
        # What is asked for may reach the disk from the moment that it is asked for.
        self._tape.ops.append(Wrote(self._files[descriptor], offset, b"".join(parts)))
        return super()._write(descriptor, parts, offset)

    def sync(self, descriptor: int) -> None:
        """Make a file's content certain."""
        super().sync(descriptor)
        self._tape.ops.append(Synced(self._files[descriptor]))

    def sync_all(self, descriptor: int) -> None:
        """Make a file's content and length certain."""
        super().sync_all(descriptor)
        self._tape.ops.append(Synced(self._files[descriptor]))

    def rename(self, path: str, target: str) -> None:
        """Give a file another name."""
        super().rename(path, target)
        self._tape.renamed(path, target)

    def remove(self, path: str) -> None:
        """Remove a name."""
        super().remove(path)
        self._tape.removed(path)

    def sync_folder(self, path: str) -> None:
        """Make the names in a folder certain."""
        super().sync_folder(path)
        if path == self._folder:
            self._tape.synced_folder(path)


@dataclass(frozen=True, slots=True)
class LogFault:
    """What goes wrong.

    Attributes:
        call: the kind of call that fails.
        nth: the first one that fails, counted from when the fault was set; from 1.
        error: the errno, or `SHORT_WRITE`.
        lasting: every later call of this kind fails too, until the fault is lifted.
        suffix: only calls on files whose names end so, such as ".segment".

    """

    call: LogCall
    nth: int
    error: int = errno.EIO
    lasting: bool = False
    suffix: str = ""


class BrokenLogDisk(Disk):
    """A disk that fails as told, or stands still.

    A failing write has written a half of what was asked. A failing sync has synced nothing, and what was written since
    the last one may be gone: `lost` lists its places, so that a test can take it away.
    """

    def __init__(self) -> None:
        self._fault: LogFault | None = None
        self.counts: Counter[str] = Counter()
        """Calls since the fault was set or lifted."""
        self.struck = 0
        """How often the fault has struck since it was set."""
        self.lost: list[tuple[str, int, int]] = []
        """Path, offset and size of each write that a failed sync did not make certain."""
        self._loose: list[tuple[str, int, int]] = []
        self._moves = threading.Event()
        self._moves.set()
        self.stands = threading.Event()
        """Set when a sync has begun to wait on a disk that stands still."""

    def set(self, fault: LogFault) -> None:
        """Let `fault` strike from now on."""
        self._fault = fault
        self.counts.clear()
        self.struck = 0

    def lift(self) -> None:
        """Let the disk work again."""
        self._fault = None
        self.counts.clear()

    def stall(self) -> None:
        """Let every sync wait from now on, until `resume`."""
        self._moves.clear()

    def resume(self) -> None:
        """Let syncs go on."""
        self._moves.set()
        self.stands.clear()

    def _strikes(self, call: LogCall, path: str) -> LogFault | None:
        fault = self._fault
        if fault is not None and (fault.call != call or not path.endswith(fault.suffix)):
            return None
        self.counts[call] += 1
        count = self.counts[call]
        if fault is None or count < fault.nth or (count > fault.nth and not fault.lasting):
            return None
        self.struck += 1
        return fault

    def _check(self, call: LogCall, path: str) -> None:
        fault = self._strikes(call, path)
        if fault is not None:
            raise OSError(fault.error, os.strerror(fault.error), path)

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder."""
        self._check("names", folder)
        return super().names(folder)

    def _open(self, path: str, flags: int) -> int:
        self._check("open", path)
        return super()._open(path, flags)

    def read(self, descriptor: int, size: int, offset: int) -> bytes:
        """Return bytes of a file."""
        self._check("read", _path(descriptor))
        return super().read(descriptor, size, offset)

    def _write(self, descriptor: int, parts: Sequence[bytes | memoryview], offset: int) -> int:
        fault = self._strikes("write", _path(descriptor))
        if fault is None:
            done = super()._write(descriptor, parts, offset)
            self._loose.append((_path(descriptor), offset, done))
            return done
        whole = b"".join(parts)
        half = super()._write(descriptor, [whole[: (len(whole) + 1) // 2]], offset)
        self._loose.append((_path(descriptor), offset, half))
        if fault.error == SHORT_WRITE:
            return half
        raise OSError(fault.error, os.strerror(fault.error))

    def sync(self, descriptor: int) -> None:
        """Make a file's content certain."""
        self._wait()
        self._synced("sync", _path(descriptor))
        super().sync(descriptor)

    def sync_all(self, descriptor: int) -> None:
        """Make a file's content and length certain."""
        self._synced("sync_all", _path(descriptor))
        super().sync_all(descriptor)

    def _wait(self) -> None:
        if not self._moves.is_set():
            self.stands.set()
            self._moves.wait()

    def _synced(self, call: LogCall, path: str) -> None:
        loose = [each for each in self._loose if each[0] == path]
        self._loose = [each for each in self._loose if each[0] != path]
        fault = self._strikes(call, path)
        if fault is not None:
            self.lost += loose
            raise OSError(fault.error, os.strerror(fault.error), path)

    def rename(self, path: str, target: str) -> None:
        """Give a file another name."""
        self._check("rename", path)
        super().rename(path, target)

    def remove(self, path: str) -> None:
        """Remove a name."""
        self._check("remove", path)
        super().remove(path)

    def sync_folder(self, path: str) -> None:
        """Make the names in a folder certain."""
        self._check("sync_folder", path)
        super().sync_folder(path)


def _path(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")
