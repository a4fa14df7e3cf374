"""What the kernel counts for groups of processes: memory by kind, processor time, pressure; cgroup v1, v2 and both.

A process is in one group of each *hierarchy*. Version 2 has a single hierarchy for everything. Version 1 has one for
each controller, or few controllers together, each mounted where the system likes. A *hybrid* machine has version 1 for
what counts memory, and beside it a version 2 that counts nothing but still tells the pressure of its groups.

So nothing is assumed of places. `/proc/PID/mountinfo` says which hierarchy is mounted where, and which of its groups is
at the top of that mount (in a container that isn't its root); `/proc/PID/cgroup` says in which group the process is.
Both together give the folder. [man 7 cgroups; Documentation/admin-guide/cgroup-v1/memory.rst, cgroup-v2.rst, and
accounting/psi.rst of the kernel]

What a kernel doesn't count, doesn't show to us, or has just removed, is None: never a zero that it didn't say. Version
1 tells no kernel stacks and page tables apart; `kernel` has all of it.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from torpor.base.limits import CGROUPS_MAX, KERNEL_FILE_MAX

Layout = Literal["v1", "v2", "hybrid", "none"]
"""Which hierarchies count memory: version 1 alone, version 2, version 1 with a version 2 beside it, none."""

_UNLIMITED: Final = 1 << 62
"""Bytes from which on a limit of version 1 is none: it counts in pages, and the greatest depends on their size."""

_UNIFIED: Final = ""
"""How /proc calls the hierarchy of version 2."""

_OCTAL: Final = re.compile(r"\\([0-7]{3})")
_MOUNT: Final = re.compile(r"\d+ \d+ \S+ (?P<top>/\S*) (?P<point>/\S*) .*- cgroup(?P<version>2?) \S+ (?P<options>\S+)")
_STALL: Final = re.compile(r"(some|full) avg10=([\d.]+) avg60=([\d.]+) avg300=([\d.]+) total=(\d+)")


class Stall(msgspec.Struct, frozen=True):
    """How much of the time somebody, or everybody, waited.

    Attributes:
        avg10: percent of the last 10 seconds.
        avg60: percent of the last minute.
        avg300: percent of the last five minutes.
        total: µs since the group began.

    """

    avg10: float
    avg60: float
    avg300: float
    total: int


class Pressure(msgspec.Struct, frozen=True):
    """Pressure by one resource: while `some` process waited, while all did (`full`)."""

    some: Stall | None = None
    full: Stall | None = None


class Pressures(msgspec.Struct, frozen=True):
    """Pressure by each resource; None where the kernel doesn't tell."""

    cpu: Pressure | None = None
    memory: Pressure | None = None
    io: Pressure | None = None


class Cgroup(msgspec.Struct, frozen=True, kw_only=True):
    """One group, with all that is below it. Sizes are bytes.

    Attributes:
        path: its name in the hierarchy that counts memory.
        version: of that hierarchy.
        current: memory that counts for it now.
        peak: the most that ever did.
        limit: the most that may, by its own limit or one above it; None for no limit.
        swap: what of it is swapped out.
        anon: memory that no file is behind: what processes have really asked for.
        file_active: pages of files, used more than once lately.
        file_inactive: pages of files that go first.
        shmem: shared memory and files of tmpfs.
        kernel: what the kernel has for it.
        kernel_stack: of that, stacks of threads.
        page_tables: of that, tables of pages.
        slab: of that, the kernel's own objects.
        reclaimable: what the kernel takes back before anybody is killed: pages of files, and slab that it can free.
        cpu_us: processor time that was used, µs.
        throttled_us: time for which it was kept from running by a limit, µs.
        oom_kills: how many of its processes were killed for want of memory.
        pressure: who waits in it, and for what.

    """

    path: str
    version: Literal[1, 2]
    current: int | None = None
    peak: int | None = None
    limit: int | None = None
    swap: int | None = None
    anon: int | None = None
    file_active: int | None = None
    file_inactive: int | None = None
    shmem: int | None = None
    kernel: int | None = None
    kernel_stack: int | None = None
    page_tables: int | None = None
    slab: int | None = None
    reclaimable: int | None = None
    cpu_us: int | None = None
    throttled_us: int | None = None
    oom_kills: int | None = None
    pressure: Pressures = Pressures()


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The machine, as far as it can be seen from here.

    Attributes:
        layout: which hierarchies there are.
        pressure: of the whole machine.
        own: the group that this process is in.
        groups: those that were asked for, the upper before the lower.
        more: whether there are groups that were left out.

    """

    layout: Layout
    pressure: Pressures
    own: Cgroup | None
    groups: list[Cgroup]
    more: bool = False


class _Hierarchy:
    """One hierarchy: where it is mounted, what is at the top of that mount, in which of its groups the process is."""

    __slots__ = ("here", "mounts")

    def __init__(self, here: str) -> None:
        self.here = here
        self.mounts: list[tuple[str, str]] = []

    def folder(self, path: str) -> str | None:
        """Return the folder of a group; None where no mount shows it."""
        for point, top in self.mounts:
            inside = _inside(path, top)
            if inside is not None:
                folder = os.path.join(point, inside) if inside else point
                if os.path.isdir(folder):
                    return folder
        return None

    def tops(self) -> list[str]:
        """Return the highest groups that can be seen."""
        return list(dict.fromkeys(top for _, top in self.mounts))


class Cgroups:
    """The groups of one machine.

    Args:
        root: the folder under which `proc` and `sys` are.
        process: whose groups are meant: an id, or "self".

    """

    def __init__(self, root: str = "/", process: str = "self") -> None:
        self._root = root
        self._hierarchies = _hierarchies(root, process)
        unified = self._hierarchies.get(_UNIFIED)
        counting = self._hierarchies.get("memory")
        self._memory = counting or unified
        self._version: Literal[1, 2] = 1 if counting is not None else 2
        self.layout: Layout = "none"
        if counting is not None:
            self.layout = "v1" if unified is None or not unified.mounts else "hybrid"
        elif unified is not None and unified.mounts:
            self.layout = "v2"

    def machine(self, below: str | None = None, limit: int = CGROUPS_MAX) -> Machine:
        """Return the machine's pressure, the own group, and the groups from one downwards.

        Args:
            below: the group to begin with, as `Cgroup.path` has it; all that can be seen unless given.
            limit: how many groups at most; those nearest to the top come first.

        """
        groups: list[Cgroup] = []
        more = False
        for path in self._walk(below):
            if len(groups) == limit:
                more = True
                break
            group = self.group(path)
            if group is not None:
                groups.append(group)
        pressure = _pressures(os.path.join(self._root, "proc/pressure"), "")
        return Machine(layout=self.layout, pressure=pressure, own=self.own(), groups=groups, more=more)

    def own(self) -> Cgroup | None:
        """Return the group that the process is in; None where it can't be seen."""
        return self.group(self._memory.here) if self._memory is not None else None

    def group(self, path: str) -> Cgroup | None:
        """Return one group; None where there is none of that path."""
        folder = self._memory.folder(path) if self._memory is not None else None
        if folder is None:
            return None
        if self._version == 1:
            return self._first(path, folder)
        return self._second(path, folder)

    def _walk(self, below: str | None) -> Iterator[str]:
        """Yield the paths of groups, those nearest to the top first."""
        if self._memory is None:
            return
        waiting = deque(self._memory.tops() if below is None else [below])
        while waiting:
            path = waiting.popleft()
            folder = self._memory.folder(path)
            if folder is None:
                continue
            yield path
            waiting += [f"{path.rstrip('/')}/{name}" for name in _folders(folder)]

    # --- version 2 ------------------------------------------------------------------------------------------------

    def _second(self, path: str, folder: str) -> Cgroup:
        stat = _table(folder, "memory.stat")
        cpu = _table(folder, "cpu.stat")
        return Cgroup(
            path=path,
            version=2,
            current=_number(folder, "memory.current"),
            peak=_number(folder, "memory.peak"),
            limit=self._least_limit(path),
            swap=_number(folder, "memory.swap.current"),
            anon=stat.get("anon"),
            file_active=stat.get("active_file"),
            file_inactive=stat.get("inactive_file"),
            shmem=stat.get("shmem"),
            kernel=stat.get("kernel"),
            kernel_stack=stat.get("kernel_stack"),
            page_tables=stat.get("pagetables"),
            slab=stat.get("slab"),
            reclaimable=_sum(stat, "active_file", "inactive_file", "slab_reclaimable"),
            cpu_us=cpu.get("usage_usec"),
            throttled_us=cpu.get("throttled_usec"),
            oom_kills=_table(folder, "memory.events").get("oom_kill"),
            pressure=_pressures(folder, ".pressure"),
        )

    def _least_limit(self, path: str) -> int | None:
        """Return the least limit of a group and of those above it, as far up as can be seen."""
        found = []
        while self._memory is not None and (folder := self._memory.folder(path)) is not None:
            own = _number(folder, "memory.max")
            if own is not None:
                found.append(own)
            if path == "/":
                break
            path = os.path.dirname(path)
        return min(found, default=None)

    # --- version 1 ------------------------------------------------------------------------------------------------

    def _first(self, path: str, folder: str) -> Cgroup:
        stat = _table(folder, "memory.stat")
        limits = [stat.get("hierarchical_memory_limit"), _number(folder, "memory.limit_in_bytes")]
        beside = self._beside("cpuacct", path)
        used_ns = _number(beside, "cpuacct.usage") if beside else None
        beside = self._beside("cpu", path)
        throttled_ns = _table(beside, "cpu.stat").get("throttled_time") if beside else None
        beside = self._beside(_UNIFIED, path)
        return Cgroup(
            path=path,
            version=1,
            current=_number(folder, "memory.usage_in_bytes"),
            peak=_number(folder, "memory.max_usage_in_bytes"),
            limit=min((limit for limit in limits if limit is not None and limit < _UNLIMITED), default=None),
            swap=stat.get("total_swap"),
            anon=stat.get("total_rss"),
            file_active=stat.get("total_active_file"),
            file_inactive=stat.get("total_inactive_file"),
            shmem=stat.get("total_shmem"),
            kernel=_number(folder, "memory.kmem.usage_in_bytes"),
            reclaimable=_sum(stat, "total_active_file", "total_inactive_file"),
            cpu_us=None if used_ns is None else used_ns // 1000,
            throttled_us=None if throttled_ns is None else throttled_ns // 1000,
            oom_kills=_table(folder, "memory.oom_control").get("oom_kill"),
            pressure=_pressures(beside, ".pressure") if beside else Pressures(),
        )

    def _beside(self, controller: str, path: str) -> str | None:
        """Return the folder of the same group in another hierarchy; None where that has no such group.

        Systemd and container engines keep the hierarchies alike. Where they aren't, a process may be in another group
        there, with other processes, and what that one has used says nothing of this one.
        """
        other = self._hierarchies.get(controller)
        return other.folder(path) if other is not None else None


def _hierarchies(root: str, process: str) -> dict[str, _Hierarchy]:
    """Return the hierarchies by controller."""
    found = {}
    proc = os.path.join(root, "proc", process)
    for line in (_text(proc, "cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = _Hierarchy(path)
    for line in (_text(proc, "mountinfo") or "").splitlines():
        mounted = _MOUNT.fullmatch(line)
        if mounted is None:  # something else, or the line at which we stopped reading
            continue
        names = [_UNIFIED] if mounted["version"] else mounted["options"].split(",")
        place = os.path.join(root, _unescaped(mounted["point"]).lstrip("/"))
        for name in names:
            if name in found:
                found[name].mounts.append((place, _unescaped(mounted["top"])))
    return found


def _unescaped(text: str) -> str:
    r"""Return what mountinfo means: it writes a space as \040."""
    return _OCTAL.sub(lambda byte: chr(int(byte[1], 8)), text)


def _inside(path: str, top: str) -> str | None:
    """Return a path as seen from the top of a mount; None where it isn't inside."""
    if ".." in path.split("/"):  # a group outside of our namespace, or a caller who wants to get out
        return None
    if top == "/":
        return path.lstrip("/")
    if path == top or path.startswith(f"{top}/"):
        return path[len(top) :].lstrip("/")
    return None


def _folders(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:  # it was removed meanwhile, or isn't ours to look into
        return []


def _text(folder: str, name: str) -> str | None:
    """Return what a file of the kernel says; None where it says nothing: missing, refused, switched off or removed."""
    try:
        descriptor = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        parts = []
        left = KERNEL_FILE_MAX
        while left and (part := os.read(descriptor, left)):
            parts.append(part)
            left -= len(part)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return b"".join(parts).decode(errors="replace")


def _number(folder: str, name: str) -> int | None:
    """Return the number in a file; None for "max", and where there is none."""
    text = (_text(folder, name) or "").strip()
    return int(text) if text.isdecimal() else None


def _table(folder: str, name: str) -> dict[str, int]:
    """Return a file of names and numbers."""
    found = {}
    for line in (_text(folder, name) or "").splitlines():
        key, _, value = line.partition(" ")
        if value.isdecimal():
            found[key] = int(value)
    return found


def _sum(table: dict[str, int], *names: str) -> int | None:
    """Return the sum of some numbers; None where none of them is there."""
    found = [table[name] for name in names if name in table]
    return sum(found) if found else None


def _pressures(folder: str, suffix: str) -> Pressures:
    return Pressures(*(_pressure(_text(folder, f"{name}{suffix}")) for name in ("cpu", "memory", "io")))


def _pressure(text: str | None) -> Pressure | None:
    found = {
        which: Stall(float(avg10), float(avg60), float(avg300), int(total))
        for which, avg10, avg60, avg300, total in _STALL.findall(text or "")
    }
    return Pressure(**found) if found else None
