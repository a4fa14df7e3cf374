"""A disk that breaks on purpose.

`BrokenDisk` stands between SQLite and the kernel: it replaces the system calls of SQLite's Unix layer (`xSetSystemCall`
of the VFS) by ones that do the same until a `Fault` says otherwise. So SQLite meets a real failing call, with its
errno, and not an exception of Python's, which apsw would carry past places where SQLite itself swallows an error: a
checkpoint that fails after a commit must not make the commit fail.

Syncs can't be replaced that way. `BrokenSync` is a file layer whose nth sync of a log fails; it leaves the main file
alone for the reason above.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

import apsw

from torpor.base.errors import InternalError

Call = Literal["write", "truncate", "read", "open", "delete"]

SHORT: Final = 0
"""In place of an errno: the call does half of what was asked, rounded up, as the kernel may."""

_int, _void, _size, _long = ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_longlong
_SYSTEM_NAMES: Final = {
    "write": "pwrite64",
    "truncate": "ftruncate",
    "read": "pread64",
    "open": "open",
    "delete": "unlink",
}
_TRANSFER = ctypes.CFUNCTYPE(ctypes.c_ssize_t, _int, _void, _size, _long, use_errno=True)
_TRUNCATE = ctypes.CFUNCTYPE(_int, _int, _long, use_errno=True)
_OPEN = ctypes.CFUNCTYPE(_int, ctypes.c_char_p, _int, _int, use_errno=True)
_UNLINK = ctypes.CFUNCTYPE(_int, ctypes.c_char_p, use_errno=True)


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong.

    Attributes:
        call: the kind of system call that fails.
        nth: the first one that fails, counted from when the fault was set; from 1.
        error: the errno, such as `errno.ENOSPC`; or `SHORT`.
        lasting: every later call of this kind fails too, until the fault is lifted.
        suffix: only calls on files whose names end so, such as "-wal".

    """

    call: Call
    nth: int
    error: int = errno.EIO
    lasting: bool = False
    suffix: str = ""


class BrokenDisk:
    """The disk under one folder, which fails as told. A context manager; one at a time in a process.

    Args:
        folder: calls on files outside it are never touched.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = f"{folder.resolve()}/"
        self._fault: Fault | None = None
        self._awake = True
        self._vfs = apsw.VFS("torpor-broken-disk", "unix")
        self._real: dict[Call, Any] = {}
        self._fakes: list[Any] = []
        self.counts: Counter[Call] = Counter()
        """Calls since the fault was set or lifted."""
        self.struck = 0
        """How often the fault has struck since it was set."""

    def set(self, fault: Fault) -> None:
        """Let `fault` strike from now on."""
        self._fault = fault
        self.counts.clear()
        self.struck = 0

    def lift(self) -> None:
        """Let the disk work again."""
        self._fault = None
        self.counts.clear()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Neither count nor strike inside the block."""
        self._awake = False
        try:
            yield
        finally:
            self._awake = True

    def __enter__(self) -> Self:
        self._replace("write", _TRANSFER, self._transfer("write"))
        self._replace("read", _TRANSFER, self._transfer("read"))
        self._replace("truncate", _TRUNCATE, self._truncate)
        self._replace("open", _OPEN, self._open)
        self._replace("delete", _UNLINK, self._delete)
        return self

    def __exit__(self, *error: object) -> None:
        for call, real in self._real.items():
            self._vfs.xSetSystemCall(_SYSTEM_NAMES[call], _address(real))
        self._vfs.unregister()

    def _replace(self, call: Call, shape: Any, fake: Callable[..., int]) -> None:
        pointer = self._vfs.xGetSystemCall(_SYSTEM_NAMES[call])
        if pointer is None:
            raise InternalError(promise=f"SQLite calls {_SYSTEM_NAMES[call]} on this system")
        self._real[call] = shape(pointer)
        self._fakes.append(shape(fake))
        self._vfs.xSetSystemCall(_SYSTEM_NAMES[call], _address(self._fakes[-1]))

    def _strikes(self, call: Call, path: str) -> Fault | None:
        """Count a call and return the fault if it strikes now."""
        fault = self._fault
        if not self._awake or not path.startswith(self._folder):
            return None
        if fault is not None and (fault.call != call or not path.endswith(fault.suffix)):
            return None
        self.counts[call] += 1
        count = self.counts[call]
        if fault is None or count < fault.nth or (count > fault.nth and not fault.lasting):
            return None
        self.struck += 1
        return fault

    def _transfer(self, call: Literal["read", "write"]) -> Callable[[int, int, int, int], int]:
        def transfer(descriptor: int, buffer: int, size: int, offset: int) -> int:
            fault = self._strikes(call, _path(descriptor))
            if fault is None:
                return int(self._real[call](descriptor, buffer, size, offset))
            # What fails has often done a part: half of a write is on the disk although the call says no.
            done = 0
            if call == "write" or fault.error == SHORT:
                done = int(self._real[call](descriptor, buffer, (size + 1) // 2, offset))
            return done if fault.error == SHORT else _fail(fault)

        return transfer

    def _truncate(self, descriptor: int, size: int) -> int:
        fault = self._strikes("truncate", _path(descriptor))
        return _fail(fault) if fault else int(self._real["truncate"](descriptor, size))

    def _open(self, path: bytes, flags: int, mode: int) -> int:
        fault = self._strikes("open", path.decode())
        return _fail(fault) if fault else int(self._real["open"](path, flags, mode))

    def _delete(self, path: bytes) -> int:
        fault = self._strikes("delete", path.decode())
        return _fail(fault) if fault else int(self._real["delete"](path))


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _path(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")


def _fail(fault: Fault) -> int:
    ctypes.set_errno(fault.error)
    return -1


class _SyncFile(apsw.VFSFile):  # type: ignore[misc,unused-ignore]  # apsw has stubs or not by version
    def __init__(self, vfs: BrokenSync, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._vfs = vfs
        self._log = bool(flags[0] & apsw.SQLITE_OPEN_WAL)

    def xSync(self, flags: int) -> None:  # noqa: N802  (apsw's name)
        if self._log:
            self._vfs.count += 1
            if self._vfs.count == self._vfs.nth:
                raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)
        super().xSync(flags)


class BrokenSync(apsw.VFS):  # type: ignore[misc,unused-ignore]  # as above
    """A file layer whose nth sync of a log fails with EIO. A context manager.

    Args:
        name: for `Durability(vfs=…)`.

    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        """Syncs of logs since the start, or since you set it to 0."""
        self.nth = 0
        """The one that fails; 0 for none."""
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802  (apsw's name)
        """Open a file."""
        return _SyncFile(self, name, flags)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.unregister()
