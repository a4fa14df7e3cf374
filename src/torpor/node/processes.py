"""What the kernel says of single processes, and of the thread that runs the event loop.

A process is known by its id *and* by when it began: an id is given away again.
"""

from __future__ import annotations

import os
import resource
from typing import Final, Literal

import msgspec

from torpor.base.limits import KERNEL_FILE_MAX

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_KIB: Final = 1024

State = Literal["lives", "dead", "gone"]
"""A dead process has ended, and its parent hasn't asked how; one that is gone has left nothing."""


class Usage(msgspec.Struct, frozen=True):
    """What a process has used so far.

    Attributes:
        began: when it began, in clock ticks since the machine did: with its id, who it is.
        cpu_s: processor time, seconds.
        rss: bytes of memory that are its, or that it shares.
        threads: how many it has.
        dead: whether it has ended, and nobody has asked how.

    """

    began: int
    cpu_s: float
    rss: int
    threads: int
    dead: bool


class Memory(msgspec.Struct, frozen=True):
    """What memory of a process is, in bytes: with no file behind it, pages of files, shared."""

    anon: int
    file: int
    shmem: int


def usage(pid: int | Literal["self"]) -> Usage | None:
    """Return what a process has used; None where there is none of that id."""
    text = read(f"/proc/{pid}/stat")
    if not text:
        return None
    # The name may hold anything, also spaces and brackets; what we want is behind its last bracket.
    state, *fields = text.rpartition(")")[2].split()
    return Usage(
        began=int(fields[18]),
        cpu_s=(int(fields[10]) + int(fields[11])) / _TICKS,
        rss=int(fields[20]) * _PAGE,
        threads=int(fields[16]),
        dead=state in "ZX",
    )


def memory() -> Memory | None:
    """Return what this process's memory is made of; None where the kernel doesn't tell."""
    text = read("/proc/self/status") or ""
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    try:
        anon, file, shmem = (int(lines[name].split()[0]) * _KIB for name in ("RssAnon", "RssFile", "RssShmem"))
    except (KeyError, IndexError, ValueError):
        return None
    return Memory(anon, file, shmem)


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    folder = "/proc/self/fd"
    # Linux 6.2 and later say so at once; before, the folder's size is 0.
    return os.stat(folder).st_size or len(os.listdir(folder)) - 1


def descriptors_max() -> int:
    """Return how many descriptors this process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def thread_ran(tid: int) -> tuple[int, int] | None:
    """Return for how long a thread of this process ran, and for how long it waited for a core, in ns.

    None where the kernel doesn't count that, or the thread has ended.
    """
    text = read(f"/proc/self/task/{tid}/schedstat")
    if not text:
        return None
    ran, waited, _ = text.split()
    return int(ran), int(waited)


def read(path: str) -> str | None:
    """Return a file of /proc; None where there is none, or its process has ended meanwhile."""
    try:
        with open(path, "rb", buffering=0) as file:
            return (file.read(KERNEL_FILE_MAX) or b"").decode(errors="replace")
    except OSError:
        return None
