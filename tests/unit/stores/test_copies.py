"""Copies: by whichever way, whole or not there, in their place without replacing anything."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.hazards.kit import told_by

from torpor.base.errors import CopyDamaged, FileTaken, StorageFailed, WorkbookMissing
from torpor.stores.copies import (
    Step,
    copy_file,
    digest_of,
    place,
    remove_file,
    sync_file,
    sync_folder,
    verified_copy,
)
from torpor.testing.chance import Seeded
from torpor.testing.crash import NEVER, crash_script
from torpor.testing.faults import fail_at, record
from torpor.workbook.placing import rename_by_link

ROOT = Path(__file__).parents[3]
ENV = {"PYTHONPATH": str(ROOT / "src"), "PATH": os.defpath}
SIZES = [0, 1, 4096, 1024 * 1024 + 1, 20 * 1024 * 1024 + 3]

ON_XFS = """
import json, os, sys
from torpor.stores.copies import copy_file, digest_of
folder = sys.argv[1]
source, target = f"{folder}/source", f"{folder}/target"
with open(source, "xb") as file:
    for n in range(64):
        file.write(n.to_bytes(2, "big") * (512 * 1024))
    os.fsync(file.fileno())
def free():
    found = os.statvfs(folder)
    return found.f_bfree * found.f_frsize
before = free()
copied = copy_file(source, target)
taken = before - free()
same = digest_of(target) == digest_of(source)
with open(target, "r+b") as file:
    file.write(b"changed")
with open(source, "rb") as file:
    kept = file.read(7) == bytes(7)
print(json.dumps({"how": copied.how, "bytes": copied.bytes, "taken": taken, "same": same, "kept": kept}))
"""


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "source"
    path.write_bytes(Seeded(1).token(3_000_001))
    return str(path)


def beside(source: str) -> list[str]:
    return sorted(os.listdir(os.path.dirname(source)))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("size", SIZES)
def test_a_copy_is_the_same_and_for_its_owner_only(tmp_path: Path, size: int) -> None:
    content = Seeded(size).token(size)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(content)
    source.chmod(0o444)
    open_before = descriptors()
    copied = copy_file(str(source), str(target))
    assert target.read_bytes() == content
    assert copied.bytes == size
    assert target.stat().st_mode & 0o7777 == 0o600
    assert descriptors() == open_before


def test_between_two_file_systems_the_bytes_are_read_and_written(source: str) -> None:
    other = Path("/dev", "shm")  # memory, on most systems
    if not other.is_dir() or other.stat().st_dev == Path(source).stat().st_dev:
        pytest.skip("there is no second file system here")
    target = str(other / f"torpor-{os.getpid()}")
    try:
        assert copy_file(source, target).how == "copy"
        assert digest_of(target) == digest_of(source)
    finally:
        os.unlink(target)


def test_where_the_file_system_shares_blocks_a_copy_takes_no_room(tmp_path: Path) -> None:
    said = on_xfs(tmp_path, ON_XFS)
    assert said["how"] == "reflink"
    assert said["bytes"] == 64 * 1024 * 1024
    assert said["taken"] < 1024 * 1024
    assert said["same"]
    assert said["kept"]


def on_xfs(tmp_path: Path, script: str) -> Any:
    """Run a script with a new XFS as its argument; mount and loop device go with the child's mount namespace."""
    if shutil.which("mkfs.xfs") is None:
        pytest.skip("mkfs.xfs (xfsprogs) is not installed")
    image, mount = tmp_path / "image", tmp_path / "mount"
    mount.mkdir()
    with image.open("xb") as file:
        file.truncate(400 * 1024 * 1024)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", str(image)], check=True, capture_output=True)
    return told_by(script, mount, around=f"mount -o loop {image} {mount}")


def make_file(path: str) -> None:
    Path(path).write_text("taken")


@pytest.mark.parametrize("make", [make_file, os.mkdir, lambda path: os.symlink("/nowhere", path)])
def test_a_name_that_is_taken_is_left_alone(source: str, make: Callable[[str], None]) -> None:
    target = f"{source}-copy"
    make(target)
    before = os.lstat(target)
    with pytest.raises(FileTaken):
        copy_file(source, target)
    with pytest.raises(FileTaken):
        verified_copy(source, target)
    assert os.lstat(target) == before


def test_what_isnt_there_makes_no_copy(tmp_path: Path) -> None:
    with pytest.raises(WorkbookMissing):
        copy_file(str(tmp_path / "nothing"), str(tmp_path / "copy"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_a_folder_or_a_pipe_is_no_file_and_nobody_waits_for_it(tmp_path: Path, make: Callable[[str], None]) -> None:
    make(str(tmp_path / "strange"))
    with pytest.raises(StorageFailed):
        copy_file(str(tmp_path / "strange"), str(tmp_path / "copy"))
    with pytest.raises(StorageFailed):
        digest_of(str(tmp_path / "strange"))
    assert os.listdir(tmp_path) == ["strange"]


def test_a_copy_into_no_folder_is_an_error_of_ours(source: str) -> None:
    with pytest.raises(WorkbookMissing):
        copy_file(source, f"{source}-folder/copy")


@pytest.mark.parametrize("point", ["copy.written", "copy.synced"])
def test_a_copy_that_fails_is_gone(source: str, point: str) -> None:
    open_before = descriptors()
    with fail_at(point, OSError(5, "the disk is broken")), pytest.raises(StorageFailed):
        copy_file(source, f"{source}-copy")
    with fail_at(point, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        copy_file(source, f"{source}-copy")
    assert beside(source) == ["source"]
    assert descriptors() == open_before


def test_a_watch_hears_of_every_byte(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(20_000_000))
    steps: list[Step] = []
    copy_file(str(source), str(tmp_path / "copy"), watch=steps.append)
    digest_of(str(source), watch=steps.append)
    for stage in ("copy", "verify"):
        heard = [step.done for step in steps if step.stage == stage]
        assert heard == sorted(heard)
        assert heard[-1] == 20_000_000
    assert {step.total for step in steps} == {20_000_000}


def test_a_watch_that_stops_a_copy_leaves_nothing(source: str) -> None:
    def stop(_: Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_file(source, f"{source}-copy", watch=stop)
    with pytest.raises(KeyboardInterrupt):
        verified_copy(source, f"{source}-copy", watch=stop)
    assert beside(source) == ["source"]


@pytest.mark.parametrize("size", SIZES)
def test_a_digest_is_the_sha256(tmp_path: Path, size: int) -> None:
    content = Seeded(size).token(size)
    (tmp_path / "file").write_bytes(content)
    assert digest_of(str(tmp_path / "file")) == hashlib.sha256(content).hexdigest()


def test_a_verified_copy_gives_the_digest(source: str) -> None:
    digest = hashlib.sha256(Path(source).read_bytes()).hexdigest()
    assert verified_copy(source, f"{source}-1") == digest
    assert verified_copy(source, f"{source}-2", digest=digest) == digest
    assert digest_of(f"{source}-2") == digest


def test_a_verified_copy_of_something_else_is_refused_and_gone(source: str) -> None:
    with pytest.raises(CopyDamaged) as refused:
        verified_copy(source, f"{source}-copy", digest="0" * 64)
    assert digest_of(source) in refused.value.reason
    assert beside(source) == ["source"]


def test_a_copy_that_came_out_differently_is_refused_and_gone(source: str) -> None:
    """Between copy and comparison, somebody writes into the copy."""

    def disturb(step: Step) -> None:
        if step.stage == "copy" and step.done == step.total:
            with open(f"{source}-copy", "r+b") as copy:
                copy.write(b"other")

    with pytest.raises(CopyDamaged) as refused:
        verified_copy(source, f"{source}-copy", watch=disturb)
    assert refused.value.place == f"{source}-copy"
    assert beside(source) == ["source"]


# --- into its place ---


def test_a_draft_gets_its_name(source: str) -> None:
    digest = digest_of(source)
    place(source, f"{source}-placed")
    assert beside(source) == ["source-placed"]
    assert digest_of(f"{source}-placed") == digest


@pytest.mark.parametrize("make", [make_file, os.mkdir, lambda path: os.symlink("/nowhere", path)])
@pytest.mark.parametrize("sync", [True, False])
def test_nothing_is_ever_replaced(source: str, make: Callable[[str], None], sync: bool) -> None:  # noqa: FBT001
    target = f"{source}-placed"
    make(target)
    before, digest = os.lstat(target), digest_of(source)
    with pytest.raises(FileTaken):
        place(source, target, sync=sync)
    assert os.lstat(target) == before
    assert digest_of(source) == digest


def test_without_the_newer_call_a_draft_is_placed_by_a_second_name(source: str) -> None:
    rename_by_link(source, f"{source}-placed")
    assert beside(source) == ["source-placed"]
    assert os.stat(f"{source}-placed").st_nlink == 1
    make_file(source)
    with pytest.raises(FileExistsError):
        rename_by_link(source, f"{source}-placed")
    assert beside(source) == ["source", "source-placed"]


def test_a_draft_that_isnt_there_is_an_error_of_ours(source: str) -> None:
    with pytest.raises(WorkbookMissing):
        place(f"{source}-draft", f"{source}-placed")


def test_of_many_drafts_for_one_name_one_gets_it(tmp_path: Path) -> None:
    drafts = [tmp_path / f"draft-{n}" for n in range(16)]
    for draft in drafts:
        draft.write_text(draft.name)
    target = tmp_path / "placed"
    start = threading.Barrier(len(drafts))
    won: list[str] = []
    refused: list[str] = []

    def race(draft: Path) -> None:
        start.wait()
        try:
            place(str(draft), str(target))
        except FileTaken:
            refused.append(draft.name)
        else:
            won.append(draft.name)

    racers = [threading.Thread(target=race, args=(draft,)) for draft in drafts]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [target.read_text()] == won
    assert len(refused) == len(drafts) - 1
    assert sorted(os.listdir(tmp_path)) == sorted([*refused, "placed"])


def test_a_file_is_removed_once(source: str) -> None:
    assert remove_file(source)
    assert not remove_file(source)
    assert not remove_file(f"{source}/below/nothing")


def test_syncing_what_isnt_there_is_an_error_of_ours(source: str) -> None:
    sync_file(source)
    sync_folder(os.path.dirname(source))
    with pytest.raises(WorkbookMissing):
        sync_file(f"{source}-nothing")
    with pytest.raises(WorkbookMissing):
        sync_folder(source)


# --- killed ---

POINTS = ["copy.begun", "copy.written", "copy.synced", "copy.placed"]


COPY_AND_PLACE = """
import sys
from torpor.stores.copies import copy_file, place
source, draft, target = sys.argv[1:]
copy_file(source, draft)
place(draft, target)
"""


def test_the_points_come_in_order(source: str) -> None:
    with record() as reached:
        copy_file(source, f"{source}-draft")
        place(f"{source}-draft", f"{source}-placed")
    assert reached == POINTS


@pytest.mark.parametrize("point", [*POINTS, NEVER])
def test_killed_anywhere_the_name_leads_to_a_whole_copy_or_to_nothing(source: str, point: str) -> None:
    draft, target, script = f"{source}-draft", f"{source}-placed", f"{source}-script"
    Path(script).write_text(COPY_AND_PLACE)
    ended = crash_script(point, 1, script, source, draft, target, env=ENV)
    assert ended.killed == (point != NEVER), ended.err
    placed = point in ("copy.placed", NEVER)
    assert os.path.exists(target) == placed
    assert os.path.exists(draft) == (point in ("copy.written", "copy.synced"))
    if placed:
        assert digest_of(target) == digest_of(source)
