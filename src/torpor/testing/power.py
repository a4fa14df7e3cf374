"""Power cuts: a tape of everything written to the disk, and the disks that a power cut could leave.

Killing a process proves little: what it wrote is in the kernel's page cache and survives it. A power cut loses the
page cache. This module records every operation on a workbook's files (`PowerVFS`, a file layer under SQLite, plus the
few calls of the operating system that creating a workbook makes itself) and then plays the tape up to any moment, to
build disks that a power cut *at that moment* could have left (`images`).

**The model.** What is certain after a cut is only what was asked for:

- Content. After a sync of a file its content at that time is certain. Each write since then is there or isn't,
  independently of every other, of the same file or another, and of their order. A write is torn at multiples of 512
  bytes: each sector is there or isn't. The length of a file is there without the content: where a write was lost that
  would have made the file longer, zeros or garbage stand. A truncation since the last sync is there or isn't.
- Names. Making, removing and renaming are certain after a sync of the folder. Until then each is there or isn't,
  independently of the others and of the content of the file. A rename is atomic.

**Why that is conservative.** It permits more than ext4, xfs or btrfs do: they order changes of names, write 4 KiB
pages, and with their usual settings show no garbage (Pillai et al., «All File Systems Are Not Created Equal»,
OSDI 2014, found reordered names on btrfs only, and garbage only with data=writeback). It assumes three things. A
sector of 512 bytes is written whole or not at all, and writing it harms no other (SQLite's «powersafe overwrite»). A
sync doesn't lie. And the first sync of a log opened by SQLite's Unix layer syncs its folder too, which
tests/power/test_model.py checks by the system calls.

The index that SQLite shares between processes (`-shm`) is never trusted after a cut, so it isn't recorded; images come
with a garbage one.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import apsw

from torpor.base.errors import InternalError
from torpor.testing.chance import Seeded

SECTOR_BYTES: Final = 512


@dataclass(frozen=True, slots=True)
class Made:
    """A name came to be, for a new file."""

    name: str
    file: int


@dataclass(frozen=True, slots=True)
class Renamed:
    """A file got another name."""

    name: str
    target: str
    file: int


@dataclass(frozen=True, slots=True)
class Removed:
    """A name went."""

    name: str


@dataclass(frozen=True, slots=True)
class Wrote:
    """Bytes were written."""

    file: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Shortened:
    """A file was truncated, or made longer, to `size` bytes."""

    file: int
    size: int


@dataclass(frozen=True, slots=True)
class Synced:
    """The content of a file was made certain."""

    file: int


@dataclass(frozen=True, slots=True)
class FolderSynced:
    """The names in a folder were made certain."""

    folder: str | None = None
    """Which one, where the tape is of several."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The workload was told that its transaction `number` is durable."""

    number: int


@dataclass(frozen=True, slots=True)
class Begun:
    """The workload began its transaction `number`."""

    number: int


Op = Made | Renamed | Removed | Wrote | Shortened | Synced | FolderSynced | Acknowledged | Begun


@dataclass
class Tape:
    """What was done to the files of one folder, in order. A subclass may tape a tree of folders."""

    ops: list[Op] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    """The file that each name leads to now."""
    certain_names: dict[str, int] = field(default_factory=dict)
    """Names that were there before the tape began."""
    contents: dict[int, bytes] = field(default_factory=dict)
    """Files that were there before the tape began, which are certain."""
    marks: tuple[int, int] = (-1, -1)
    """The transactions acknowledged and begun before the tape began."""
    _files: int = 0

    @classmethod
    def of(cls, image: Image) -> Self:
        """Return a tape that begins on the disk of `image`, to cut the power a second time."""
        tape = cls()
        for name, content in image.files.items():
            tape._files += 1
            tape.names[name] = tape._files
            tape.certain_names[name] = tape._files
            tape.contents[tape._files] = content
        tape.marks = (image.acknowledged, image.begun)
        return tape

    def begun(self, number: int) -> None:
        """Mark that transaction `number` of the workload begins."""
        self.ops.append(Begun(number))

    def acknowledged(self, number: int) -> None:
        """Mark that transaction `number` of the workload was acknowledged."""
        self.ops.append(Acknowledged(number))

    def name_of(self, path: str) -> str | None:
        """Return what a file is called here; None where it isn't taped."""
        return Path(path).name

    def synced_folder(self, path: str) -> None:
        """Note that the names in a folder were made certain."""
        if self.name_of(path) is not None:
            self.ops.append(FolderSynced())

    def opened(self, path: str) -> int:
        """Return the file that `path` leads to, which is new, known, or older than the tape."""
        name = self.name_of(path)
        if name is None:
            raise InternalError(promise=f"{path} is taped")
        if name not in self.names:
            self._files += 1
            self.names[name] = self._files
            self.ops.append(Made(name, self._files))
        return self.names[name]

    def removed(self, path: str) -> None:
        """Note that a name went."""
        name = self.name_of(path)
        if name is not None and self.names.pop(name, None) is not None:
            self.ops.append(Removed(name))

    def renamed(self, path: str, target: str) -> None:
        """Note that a file got another name."""
        name, new = self.name_of(path), self.name_of(target)
        if name is None or new is None:
            return
        if name not in self.names:
            raise InternalError(promise=f"the tape saw how {name} came to be")
        file = self.names[new] = self.names.pop(name)
        self.ops.append(Renamed(name, new, file))


class _PowerFile(apsw.VFSFile):  # type: ignore[misc,unused-ignore]  # apsw's stubs come and go with its versions
    """One open file, recorded."""

    def __init__(self, tape: Tape, path: str, name: Any, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._tape = tape
        self._folder = os.path.dirname(path)
        self._file = tape.opened(path)
        kinds = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL
        self._first = bool(flags[0] & kinds) and bool(flags[0] & apsw.SQLITE_OPEN_CREATE)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802  (apsw's name)
        super().xWrite(data, offset)
        self._tape.ops.append(Wrote(self._file, offset, bytes(data)))

    def xTruncate(self, size: int) -> None:  # noqa: N802  (apsw's name)
        super().xTruncate(size)
        self._tape.ops.append(Shortened(self._file, size))

    def xSync(self, flags: int) -> None:  # noqa: N802  (apsw's name)
        super().xSync(flags)
        self._tape.ops.append(Synced(self._file))
        if self._first:
            self._first = False
            self._tape.synced_folder(self._folder)


class PowerVFS(apsw.VFS):  # type: ignore[misc,unused-ignore]  # as above
    """A file layer that does what the system's does and records it on a tape.

    Use it as a context manager; give `name` to `Durability(vfs=…)`. Inside the block the calls of `os` that change
    names or sync folders are recorded too. One at a time.

    Args:
        name: the name under which SQLite finds it.
        tape: what to record on.

    """

    def __init__(self, name: str, tape: Tape) -> None:
        self.name = name
        self.tape = tape
        super().__init__(name, "unix")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802  (apsw's name)
        """Open a file, recorded unless it is a temporary one."""
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        # A temporary file of SQLite's own, or what isn't taped: nobody looks for it after a cut.
        if path is None or self.tape.name_of(path) is None:
            return super().xOpen(name, flags)
        return _PowerFile(self.tape, path, name, flags)

    def xDelete(self, name: str, sync: bool) -> None:  # noqa: N802, FBT001  (apsw's name and argument)
        """Remove a name."""
        super().xDelete(name, sync)
        self.tape.removed(name)
        if sync:
            self.tape.synced_folder(os.path.dirname(name))

    def __enter__(self) -> Self:
        self._calls = _recorded_calls(self.tape)
        self._calls.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._calls.__exit__(None, None, None)
        self.unregister()


@contextmanager
def _recorded_calls(tape: Tape) -> Iterator[None]:
    """Record, after they were done, the calls of `os` that creating a workbook makes itself."""
    real = {name: getattr(os, name) for name in ("rename", "replace", "unlink", "remove", "fsync")}

    def rename(source: str, target: str, **more: Any) -> None:
        real["rename"](source, target, **more)
        tape.renamed(os.fspath(source), os.fspath(target))

    def unlink(path: str, **more: Any) -> None:
        real["unlink"](path, **more)
        tape.removed(os.fspath(path))

    def fsync(descriptor: int) -> None:
        real["fsync"](descriptor)
        where = os.readlink(f"/proc/self/fd/{descriptor}")
        if Path(where).is_dir():
            tape.synced_folder(where)
        elif tape.name_of(where) is not None:
            tape.ops.append(Synced(tape.opened(where)))

    fakes: dict[str, Callable[..., None]] = {
        "rename": rename, "replace": rename, "unlink": unlink, "remove": unlink, "fsync": fsync,
    }  # fmt: skip
    try:
        for name, fake in fakes.items():
            setattr(os, name, fake)
        yield
    finally:
        for name, call in real.items():
            setattr(os, name, call)


# --- the disks that a cut could leave -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Image:
    """A disk after a power cut.

    Attributes:
        files: the content of each file in the folder.
        at: how many operations of the tape had been asked for.
        acknowledged: the workload's last acknowledged transaction; -1 before the first.
        begun: the last transaction that had begun.
        how: in words, what was kept of what was not certain.

    """

    files: dict[str, bytes]
    at: int
    acknowledged: int
    begun: int
    how: str

    def lay_out(self, folder: Path) -> None:
        """Write the files into an empty folder."""
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)


NameOp = Made | Renamed | Removed
DataOp = Wrote | Shortened


class _Disk:
    """What is certain, and what is not, at one moment of the tape."""

    def __init__(self, tape: Tape) -> None:
        self.content: dict[int, bytearray] = {}
        self.names = dict(tape.certain_names)
        self.loose: list[DataOp] = []
        self.loose_names: list[NameOp] = []
        self.acknowledged, self.begun = tape.marks
        for file, data in tape.contents.items():
            self.content[file] = bytearray(data)

    def take(self, op: Op) -> None:
        match op:
            case Wrote() | Shortened():
                self.loose.append(op)
            case Synced():
                content = self.content.setdefault(op.file, bytearray())
                for loose in self.loose:
                    if loose.file == op.file:
                        _apply(content, loose)
                self.loose = [loose for loose in self.loose if loose.file != op.file]
            case FolderSynced():
                certain = [op.folder in (None, _folder_of(change)) for change in self.loose_names]
                for change in itertools.compress(self.loose_names, certain):
                    _change(self.names, change)
                self.loose_names = [*itertools.compress(self.loose_names, (not sure for sure in certain))]
            case Acknowledged():
                self.acknowledged = op.number
            case Begun():
                self.begun = op.number
            case _:
                self.loose_names.append(op)

    def image(self, at: int, how: str, names: list[NameOp], data: list[DataOp]) -> Image:
        """Return the disk on which, of what is loose, just this was kept."""
        leads = dict(self.names)
        for change in names:
            _change(leads, change)
        contents = {file: bytearray(self.content.get(file, b"")) for file in leads.values()}
        for op in data:
            if op.file in contents:
                _apply(contents[op.file], op)
        files = {name: bytes(contents[file]) for name, file in leads.items()}
        return Image(files, at, self.acknowledged, self.begun, how)


def images(tape: Tape, *, seed: int, budget: int) -> Iterator[Image]:
    """Yield disks that a power cut could have left, each different from all before it.

    A cut is made before every sync (what was asked for since the last one is then loose), after every acknowledgement,
    and at the end. At each: nothing loose was kept; all of it; that of one file only; the beginning of it, the last
    write torn; then choices by chance.

    Args:
        tape: what was recorded.
        seed: for the choices; the same seed gives the same images.
        budget: about how many images to make; at least two for each cut.

    """
    places = [at for at, op in enumerate(tape.ops) if isinstance(op, Synced | FolderSynced | Begun)] + [
        at + 1 for at, op in enumerate(tape.ops) if isinstance(op, Acknowledged)
    ]
    cuts = sorted({*places, len(tape.ops)})
    chance = Seeded(seed)
    disk = _Disk(tape)
    seen: set[bytes] = set()
    done = 0
    for left, at in zip(range(len(cuts), 0, -1), cuts, strict=True):
        for op in tape.ops[done:at]:
            disk.take(op)
        done = at
        each = max(2, (budget - len(seen)) // left)
        # Small moments have few images: look four times as often as images are wanted, and no longer.
        wanted = len(seen) + each
        for image in itertools.islice(_left(disk, at, chance), 4 * each):
            mark = _digest(image)
            if mark not in seen:
                seen.add(mark)
                yield image
            if len(seen) >= wanted:
                break


def _left(disk: _Disk, at: int, chance: Seeded) -> Iterator[Image]:
    """Yield images of one moment, without end where there is a choice."""
    names, data = disk.loose_names, disk.loose
    yield disk.image(at, "nothing loose", [], [])
    if not names and not data:
        return
    yield disk.image(at, "everything loose", names, data)
    files = sorted({op.file for op in data})
    if len(files) > 1 or names:
        for file in files:
            yield disk.image(at, f"file {file} only", names, [op for op in data if op.file == file])
            yield disk.image(at, f"file {file} only, no names", [], [op for op in data if op.file == file])
    while True:
        some = [op for op, keep in zip(names, chance.coins(len(names)), strict=True) if keep]
        if chance.below(3) == 0:
            end = chance.below(len(data) + 1)
            torn = _torn(data[end : end + 1], chance, 128)
            yield disk.image(at, f"the first {end} writes, the next torn", some, [*data[:end], *torn])
        else:
            odds = (16, 128, 240)[chance.below(3)]
            yield disk.image(at, f"sectors by chance, {odds} in 256", some, _torn(data, chance, odds))


def _torn(data: list[DataOp], chance: Seeded, odds: int) -> list[DataOp]:
    """Return what is kept of some writes where each sector is kept by chance."""
    kept: list[DataOp] = []
    whole = chance.coins(1)[0]
    for op in data:
        if isinstance(op, Shortened) or whole:
            kept += [op] if chance.coins(1, odds)[0] else []
            continue
        first = -(op.offset % SECTOR_BYTES)
        starts = range(first, len(op.data), SECTOR_BYTES)
        for start, keep in zip(starts, chance.coins(len(starts), odds), strict=True):
            begin, end = max(0, start), min(start + SECTOR_BYTES, len(op.data))
            if keep:
                kept.append(Wrote(op.file, op.offset + begin, op.data[begin:end]))
    if chance.below(2):
        kept = [*_garbage(data, chance), *kept]
    return kept


def _garbage(data: list[DataOp], chance: Seeded) -> list[DataOp]:
    """Return what stands where a file became longer and its content was lost: it shows only past the certain end."""
    return [
        _Longer(op.file, op.offset, chance.token(len(op.data)))
        for op in data
        if isinstance(op, Wrote) and chance.below(4) == 0
    ]


class _Longer(Wrote):
    """Garbage that a file shows past what it certainly has."""


def _apply(content: bytearray, op: DataOp) -> None:
    if isinstance(op, Shortened):
        content[op.size :] = bytes(max(0, op.size - len(content)))
        return
    offset, data = op.offset, op.data
    if isinstance(op, _Longer):
        data = data[max(0, len(content) - offset) :]
        offset = max(offset, len(content))
    if data:
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data


def _change(names: dict[str, int], op: NameOp) -> None:
    match op:
        case Made():
            names[op.name] = op.file
        case Removed():
            names.pop(op.name, None)
        case Renamed():
            if names.get(op.name) == op.file:
                del names[op.name]
            names[op.target] = op.file


def _folder_of(op: NameOp) -> str:
    return os.path.dirname(op.target if isinstance(op, Renamed) else op.name)


def _digest(image: Image) -> bytes:
    digest = hashlib.sha256(f"{image.acknowledged} {image.begun}".encode())
    for name in sorted(image.files):
        digest.update(f"\n{name} {len(image.files[name])}\n".encode())
        digest.update(image.files[name])
    return digest.digest()
