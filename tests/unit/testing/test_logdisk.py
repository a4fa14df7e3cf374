"""The disks for the log do what they say: one tapes every call in its order, one fails as told."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from torpor.testing import Tape
from torpor.testing.logdisk import SHORT_WRITE, BrokenLogDisk, LogFault, TapedDisk
from torpor.testing.power import FolderSynced, Made, Removed, Renamed, Shortened, Synced, Wrote


def test_everything_is_taped_in_its_order(tmp_path: Path) -> None:
    tape = Tape()
    disk = TapedDisk(tape, str(tmp_path))
    descriptor = disk.make(str(tmp_path / "a"), 4096)
    disk.write(descriptor, [b"one", b"two"], 5, 6)
    disk.sync(descriptor)
    disk.rename(str(tmp_path / "a"), str(tmp_path / "b"))
    disk.sync_folder(str(tmp_path))
    disk.sync_folder(str(tmp_path.parent))
    disk.close(disk.make(str(tmp_path / "b"), 0))
    disk.remove(str(tmp_path / "b"))
    disk.close(descriptor)
    assert tape.ops == [
        Made("a", 1), Wrote(1, 0, bytes(4096)), Synced(1),
        Wrote(1, 5, b"onetwo"), Synced(1), Renamed("a", "b", 1), FolderSynced(),
        Shortened(1, 0), Synced(1), Removed("b"),
    ]  # fmt: skip


def test_a_fault_strikes_at_its_call_and_no_other(tmp_path: Path) -> None:
    disk = BrokenLogDisk()
    one, other = (disk.make(str(tmp_path / name), 64) for name in ("a.one", "a.other"))
    disk.set(LogFault("write", 2, errno.ENOSPC, suffix=".one"))
    disk.write(one, [b"first"], 0, 5)
    disk.write(other, [b"first"], 0, 5)
    with pytest.raises(OSError, match="No space left"):
        disk.write(one, [b"sec", b"ond!"], 0, 7)
    assert os.pread(one, 8, 0) == b"secot\0\0\0", "a half is there"
    disk.write(one, [b"third"], 0, 5)
    assert disk.struck == 1
    for descriptor in (one, other):
        disk.close(descriptor)


def test_a_lasting_fault_goes_on_until_it_is_lifted(tmp_path: Path) -> None:
    disk = BrokenLogDisk()
    descriptor = disk.make(str(tmp_path / "a"), 64)
    disk.write(descriptor, [b"x"], 9, 1)
    disk.set(LogFault("sync", 1, lasting=True))
    for _ in range(3):
        with pytest.raises(OSError, match="Input/output"):
            disk.sync(descriptor)
    assert disk.lost == [(str(tmp_path / "a"), 9, 1)]
    disk.lift()
    disk.sync(descriptor)
    disk.close(descriptor)


def test_a_short_write_is_gone_on_with(tmp_path: Path) -> None:
    disk = BrokenLogDisk()
    descriptor = disk.make(str(tmp_path / "a"), 64)
    disk.set(LogFault("write", 1, SHORT_WRITE))
    disk.write(descriptor, [b"one", b"two", b"three"], 3, 11)
    assert os.pread(descriptor, 20, 0) == bytes(3) + b"onetwothree" + bytes(6)
    assert disk.counts["write"] == 2
    disk.close(descriptor)


def test_more_buffers_than_the_system_takes_are_written_all_the_same(tmp_path: Path) -> None:
    disk = BrokenLogDisk()
    descriptor = disk.make(str(tmp_path / "a"), 0)
    parts = [bytes([number % 251]) for number in range(3000)]
    disk.write(descriptor, parts, 0, 3000)
    assert os.pread(descriptor, 4000, 0) == b"".join(parts)
    disk.close(descriptor)
