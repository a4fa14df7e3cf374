"""Real limits of a real system: a full file system, a file size limit, a read-only mount, a folder that isn't ours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tests.hazards.kit import told_by

from torpor.workbook import Workbook

FILL = """
import json, sys
from pathlib import Path
from tests.hazards.small_disk import limit_files, make_room
from torpor.base.errors import StorageFull
from torpor.testing import portrait
from torpor.workbook import Workbook
path, limit = Path(sys.argv[1]), int(sys.argv[2])
limit_files(limit)
book = Workbook.open(path)
appended = written = full = 0
while full < 3:
    before = portrait(book)
    try:
        if full % 2:
            book.write("workspace", f"/{written}.bin", b"w" * 50_000)
            written += 1
        else:
            book.append("note.added", {"n": appended, "text": "x" * 3000})
            appended += 1
    except StorageFull as error:
        full += 1
        assert portrait(book) == before, "not undone"
        book.verify().require()
# No room at all: then reading goes on, and closing and opening lose nothing.
state = portrait(book)
book.close()
with Workbook.open(path, readonly=True) as reader:
    assert portrait(reader) == state
try:
    again = Workbook.open(path)
except StorageFull:
    opened = False
else:
    opened = True
    assert portrait(again) == state
    again.close()
# Room again.
make_room(limit, path.with_name("ballast"))
with Workbook.open(path) as book:
    assert portrait(book) == state
    assert book.append("note.added", {"after": "it was full"}) == state.last + 1
    book.verify().require()
print(json.dumps({"appended": appended, "written": written, "opened": opened}))
"""

READ_ONLY = """
import json, os, sys
from pathlib import Path
from torpor.base.errors import TorporError
from torpor.workbook import Workbook
path, user = Path(sys.argv[1]), int(sys.argv[2])
if user:
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
said = {"log": Path(f"{path}-wal").exists()}
with Workbook.open(path, readonly=True) as book:
    book.verify().require()
    said["last"] = book.last
    said["content"] = book.read("workspace", "/a.txt").decode()
    with book.reader("workspace", "/a.txt") as reader:
        said["streamed"] = reader.read().decode()
    try:
        book.append("note.added", {})
    except TorporError as error:
        said["append"] = error.code
for name, target in (("owned", path), ("made", path.with_name("new.workbook"))):
    try:
        Workbook.open(target)
    except TorporError as error:
        said[name] = error.code
said["beside"] = sorted(found.name for found in path.parent.iterdir())
print(json.dumps(said))
"""


def test_a_full_file_system_loses_nothing(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=3m tmpfs {tmp_path} && head -c 1000000 /dev/zero > {tmp_path}/ballast"
    said = told_by(FILL, tmp_path / "ada.workbook", 0, around=mount)
    assert said["appended"] > 10


def test_a_limit_on_the_size_of_files_loses_nothing(tmp_path: Path) -> None:
    said = told_by(FILL, tmp_path / "ada.workbook", 2_000_000)
    assert said["appended"] > 10


@pytest.fixture
def made(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    with Workbook.open(folder / "ada.workbook") as book:
        book.write("workspace", "/a.txt", b"content")
    return folder / "ada.workbook"


def check_read_only(said: dict[str, Any]) -> None:
    assert said["last"] == 1
    assert said["content"] == said["streamed"] == "content"
    assert said["append"] == "TOR-204"
    assert said["owned"] == "TOR-204"
    assert said["made"] == "TOR-204"
    assert said["beside"] == ["ada.workbook"]


def test_a_read_only_mount_can_be_read_and_says_why_it_cant_be_written(made: Path) -> None:
    folder = made.parent
    mount = f"mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}"
    check_read_only(told_by(READ_ONLY, made, 0, around=mount))


def test_a_folder_that_is_not_ours_can_be_read_and_says_why_it_cant_be_written(made: Path) -> None:
    if os.getuid() == 0:
        # The rights of root bind nobody, so the child becomes somebody: whoever may not reach the file can't read it.
        made.chmod(0o644)
        mount = f"mount -t tmpfs -o mode=755 tmpfs /mnt && cp {made} /mnt/ && chmod 644 /mnt/ada.workbook"
        check_read_only(told_by(READ_ONLY, "/mnt/ada.workbook", 65534, around=mount))
        return
    made.parent.chmod(0o555)
    try:
        check_read_only(told_by(READ_ONLY, made, 0))
    finally:
        made.parent.chmod(0o755)


def test_reading_in_a_read_only_folder_leaves_the_file_as_it_is(made: Path) -> None:
    before = made.read_bytes()
    folder = made.parent
    mount = f"mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}"
    told_by(READ_ONLY, made, 0, around=mount)
    assert made.read_bytes() == before
