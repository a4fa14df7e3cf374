"""Objects in a folder: killed while one is added, without room, with syncs that fail, and with its disk away."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.contract.store_kit import ENV, files
from tests.hazards.kit import told_by

from torpor.base.errors import InternalError, ObjectMissing, StoreUnreachable
from torpor.stores import Objects, open_objects
from torpor.stores.folders import FolderShelf
from torpor.testing.chance import Seeded
from torpor.testing.crash import NEVER, crash_script
from torpor.testing.faults import record

KEY, MINE, HERS = "log/a/1.pack", b"mine " * 20_000, b"hers " * 20_000


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return open_objects("replica", str(tmp_path))


def again(tmp_path: Path) -> Objects:
    return open_objects("replica", str(tmp_path))


# --- killed ---

CREATE = """
import sys
from torpor.stores import open_objects
open_objects("replica", sys.argv[1]).create(sys.argv[2], b"mine " * 20_000)
"""
POINTS = ["object.drafted", "object.placed", "object.added"]


def test_the_points_are_passed_in_this_order(objects: Objects) -> None:
    with record() as reached:
        objects.create(KEY, MINE)
    assert reached == POINTS


@pytest.mark.parametrize("point", [*POINTS, NEVER])
def test_killed_at_a_point_the_object_is_whole_or_not_there(tmp_path: Path, point: str) -> None:
    script = tmp_path / "script"
    script.write_text(CREATE)
    there = point != "object.drafted"
    for _ in range(1 if there else 3):
        ended = crash_script(point, 1, str(script), str(tmp_path), KEY, env=ENV)
        assert ended.killed == (point != NEVER), ended.err
    objects = again(tmp_path)
    assert [found.key for found in objects.list("")] == ([KEY] if there else [])
    assert objects.create(KEY, HERS) == (not there)
    due = MINE if there else HERS
    assert objects.read(KEY, 0, len(due)) == due
    assert objects.delete(KEY)
    assert files(tmp_path / "replica") == [], "drafts of the killed went with it"


def test_a_draft_of_somebody_else_is_left_alone(tmp_path: Path, objects: Objects) -> None:
    (tmp_path / "replica/log/a").mkdir(parents=True)
    (tmp_path / "replica" / f"{KEY}#0").write_bytes(b"under way")
    assert objects.create(KEY, MINE)
    assert files(tmp_path / "replica") == [KEY, f"{KEY}#0"]
    assert [found.key for found in objects.list("log")] == [KEY]
    assert (tmp_path / "replica" / f"{KEY}#0").read_bytes() == b"under way"


# --- what else there may be ---


def test_only_its_owner_can_read_an_object(tmp_path: Path, objects: Objects) -> None:
    before = os.umask(0)
    try:
        objects.create(KEY, MINE)
    finally:
        os.umask(before)
    modes = [(tmp_path / "replica" / path).stat().st_mode & 0o7777 for path in (KEY, "log/a", "log", "")]
    assert modes == [0o600, 0o700, 0o700, 0o700]


def test_a_folder_elsewhere_that_isnt_there_may_be_a_missing_disk(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    objects = open_objects(str(tmp_path / "disk"), str(tmp_path))
    objects.create(KEY, MINE)
    (tmp_path / "disk").rename(tmp_path / "away")
    for use in (
        lambda: objects.create(KEY, MINE),
        lambda: objects.put(KEY, iter([MINE]), len(MINE)),
        lambda: objects.read(KEY, 0, 1),
        lambda: objects.tail(KEY, 1),
        lambda: objects.size(KEY),
        lambda: list(objects.list("log")),
        lambda: objects.delete(KEY),
    ):
        with pytest.raises(StoreUnreachable, match="mounted"):
            use()
    assert not (tmp_path / "disk").exists()
    (tmp_path / "away").rename(tmp_path / "disk")
    assert objects.read(KEY, 0, 4) == b"mine"


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_a_folder_or_a_pipe_is_no_object_and_nobody_waits_for_it(
    tmp_path: Path, objects: Objects, make: Callable[[str], None]
) -> None:
    (tmp_path / "replica/log/a").mkdir(parents=True)
    make(str(tmp_path / "replica" / KEY))
    assert list(objects.list("")) == []
    assert objects.size(KEY) is None
    with pytest.raises(ObjectMissing):
        objects.read(KEY, 0, 1)
    with pytest.raises(StoreUnreachable, match="shows none"):
        objects.create(KEY, MINE)


def test_a_file_where_a_folder_is_due_is_said(tmp_path: Path, objects: Objects) -> None:
    (tmp_path / "replica").mkdir()
    (tmp_path / "replica/log").write_text("in the way")
    with pytest.raises(StoreUnreachable):
        objects.create(KEY, MINE)
    with pytest.raises(ObjectMissing):
        objects.tail(KEY, 1)
    assert objects.size(KEY) is None
    assert not objects.delete(KEY)
    assert list(objects.list("log")) == []


def test_what_strangers_left_in_the_folder_is_not_listed(tmp_path: Path, objects: Objects) -> None:
    objects.create("log/1.pack", MINE)
    for name in (".hidden", "log/2 .pack", "log/ä", "log/1.pack#3"):
        (tmp_path / "replica" / name).write_text("a stranger's")
    (tmp_path / "replica/log/3.pack").symlink_to(tmp_path)
    assert [found.key for found in objects.list("")] == ["log/1.pack"]


def test_two_names_are_enough_where_the_file_system_knows_no_other_way(tmp_path: Path, objects: Objects) -> None:
    """The second way of `rename_new`: a link, and the removal of the first name; killed between, both are there."""
    (tmp_path / "replica/log/a").mkdir(parents=True)
    (tmp_path / "replica" / KEY).write_bytes(MINE)
    os.link(tmp_path / "replica" / KEY, tmp_path / "replica" / f"{KEY}#0")
    assert not objects.create(KEY, HERS)
    assert [found.key for found in objects.list("")] == [KEY]
    assert objects.delete(KEY)
    assert files(tmp_path / "replica") == []


# --- without room ---

FILL = """
import json, os, sys
from pathlib import Path
from tests.hazards.small_disk import limit_files, make_room
from torpor.base.errors import StorageFull
from torpor.stores import open_objects
from torpor.testing.chance import Seeded
room, limit = sys.argv[1], int(sys.argv[2])
def files(folder):
    return sorted(os.path.join(at, name) for at, _, names in os.walk(folder) for name in names)
large = Seeded(1).token(8_000_000)
objects = open_objects("replica", room)
assert objects.create("log/1.pack", b"small")
limit_files(limit)
before = files(room)
full = []
for use in (
    lambda: objects.create("log/2.pack", large),
    lambda: objects.create("log/2.pack", large),
    lambda: objects.put("snapshots/1", iter([large]), len(large)),
):
    try:
        use()
    except StorageFull as error:
        full.append(error.path.startswith(room))
    assert files(room) == before, files(room)
assert not objects.create("log/1.pack", large)
assert objects.read("log/1.pack", 0, 5) == b"small"
assert [found.key for found in objects.list("log")] == ["log/1.pack"]
# Room again.
make_room(limit, Path(room, "ballast"))
first = objects.create("log/2.pack", large)
second = objects.create("log/2.pack", large)
assert objects.read("log/2.pack", 0, len(large)) == large
print(json.dumps([full, first, second]))
"""


def test_a_full_file_system_takes_nothing_and_loses_nothing(tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.mkdir()
    around = f"mount -t tmpfs -o size=20m tmpfs {room} && head -c 14000000 /dev/zero > {room}/ballast"
    assert told_by(FILL, room, 0, around=around) == [[True] * 3, True, False]


def test_a_limit_on_the_size_of_files_takes_nothing_and_loses_nothing(tmp_path: Path) -> None:
    assert told_by(FILL, tmp_path, 1_000_000) == [[True] * 3, True, False]


# --- system calls that fail ---

TWICE = """
import json, sys
from torpor.base.errors import StorageFull, StoreUnreachable
from torpor.stores import open_objects
objects = open_objects("replica", sys.argv[1])
answers = []
for _ in range(4):
    try:
        answers.append(objects.create(sys.argv[2], b"mine " * 20_000))
    except (StorageFull, StoreUnreachable) as error:
        answers.append(error.code)
print(json.dumps(answers))
"""


def traced(tmp_path: Path, *how: str, script: str = "") -> list[str]:
    """Run a script under strace; returns the lines of its trace, and leaves what it printed in `told`."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    command = [sys.executable, "-c", script or TWICE, str(tmp_path), KEY]
    trace, told = tmp_path / "trace", tmp_path / "told"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-y", "-o", str(trace), *how, *command],
        capture_output=True, text=True, check=False, env=ENV,
    )  # fmt: skip
    if "ptrace" in done.stderr.lower():
        pytest.skip(f"strace may not trace here: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    told.write_text(done.stdout)
    return [line for line in trace.read_text().splitlines() if "replica" in line]


FAILING = [
    *(("fsync", nth, "EIO", "TOR-709") for nth in range(1, 6)),
    *(("fsync", nth, "ENOSPC", "TOR-208") for nth in (1, 3)),
    ("renameat2", 1, "EIO", "TOR-709"),
    ("renameat2", 1, "ENOSPC", "TOR-208"),
]


@pytest.mark.parametrize(("call", "nth", "error", "code"), FAILING)
def test_a_call_that_fails_once_is_said_or_made_good_and_it_is_created_once(
    tmp_path: Path, call: str, nth: int, error: str, code: str
) -> None:
    """Before the object has its name, the failure is said. After that, its names are synced again, and it is there."""
    traced(tmp_path, "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={nth}")
    answers = json.loads((tmp_path / "told").read_text())
    before_it_has_its_name = call == "renameat2" or nth == 1
    assert answers == ([code, True, False, False] if before_it_has_its_name else [True, False, False, False])
    assert files(tmp_path / "replica") == [KEY]
    assert (tmp_path / "replica" / KEY).read_bytes() == MINE


@pytest.mark.parametrize(("first", "due"), [(1, []), (2, [KEY])])
def test_while_syncs_fail_nothing_is_acknowledged(tmp_path: Path, first: int, due: list[str]) -> None:
    traced(tmp_path, "-e", "trace=fsync", "-e", f"inject=fsync:error=EIO:when={first}+")
    assert json.loads((tmp_path / "told").read_text()) == ["TOR-709"] * 4
    assert files(tmp_path / "replica") == due
    assert again(tmp_path).create(KEY, HERS) == (not due)


def test_the_name_comes_after_the_bytes_and_every_folder_is_synced_after_it(tmp_path: Path) -> None:
    lines = traced(tmp_path, "-e", "trace=fsync,renameat2")
    calls = ["rename" if "renameat2(" in line else line.split("<")[1].split(">")[0] for line in lines]
    folder = str(tmp_path / "replica")
    own = [f"{folder}/log/a", f"{folder}/log", folder]
    assert calls[:5] == [f"{folder}/{KEY}#0", "rename", *own]


USE = """
import json, sys
from torpor.base.errors import TorporError
from torpor.stores import open_objects
objects, key = open_objects("replica", sys.argv[1]), sys.argv[2]
answers = {}
for name, use in {
    "read": lambda: objects.read(key, 0, 4).decode(),
    "tail": lambda: objects.tail(key, 4).size,
    "size": lambda: objects.size(key),
    "list": lambda: [found.key for found in objects.list("log")],
    "delete": lambda: objects.delete(key),
}.items():
    try:
        answers[name] = use()
    except TorporError as error:
        answers[name] = error.code
print(json.dumps(answers))
"""
RIGHT = {"read": "mine", "tail": len(MINE), "size": len(MINE), "list": [KEY], "delete": True}


@pytest.mark.parametrize(
    ("call", "at", "fail"),
    [
        ("pread64", KEY, {"read", "tail"}),
        ("openat", KEY, {"read", "tail"}),
        ("getdents64", "log/a", {"list"}),
        ("unlink", KEY, {"delete"}),
        ("fsync", "log/a", {"delete"}),
    ],
)
def test_a_disk_that_fails_while_it_is_read_is_said(
    tmp_path: Path, objects: Objects, call: str, at: str, fail: set[str]
) -> None:
    objects.create(KEY, MINE)
    path = str(tmp_path / "replica" / at)
    lines = traced(tmp_path, "-P", path, "-e", f"trace={call}", "-e", f"inject={call}:error=EIO", script=USE)
    assert any("INJECTED" in line for line in lines)
    answers = json.loads((tmp_path / "told").read_text())
    assert answers == {name: "TOR-709" if name in fail else right for name, right in RIGHT.items()}


PUT = """
import sys
from torpor.stores import open_objects
open_objects("replica", sys.argv[1]).put(sys.argv[2], iter([b"mine "] * 3), 15)
"""


def test_what_is_put_in_pieces_gets_its_name_after_its_bytes_too(tmp_path: Path, objects: Objects) -> None:
    """What it replaces is there until then: after a power cut, the key leads to all of the one or all of the other."""
    objects.put(KEY, iter([b"an older one"]), 12)
    lines = traced(tmp_path, "-e", "trace=fsync,rename", script=PUT)
    calls = ["rename" if "rename(" in line else line.split("<")[1].split(">")[0] for line in lines]
    folder = str(tmp_path / "replica")
    assert calls[:5] == [f"{folder}/{KEY}#0", "rename", f"{folder}/log/a", f"{folder}/log", folder]
    assert objects.read(KEY, 0, 15) == b"mine " * 3


def test_a_put_whose_pieces_fail_leaves_what_was_there(tmp_path: Path, objects: Objects) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"a half"
        raise InternalError(promise="there is a second half")

    objects.put(KEY, iter([MINE]), len(MINE))
    with pytest.raises(InternalError):
        objects.put(KEY, pieces(), 100)
    assert files(tmp_path / "replica") == [KEY]
    assert objects.read(KEY, 0, len(MINE)) == MINE


def test_a_part_behind_the_end_is_empty(tmp_path: Path, objects: Objects) -> None:
    objects.create(KEY, Seeded(1).token(10))
    shelf = FolderShelf("replica", str(tmp_path / "replica"), own=True)
    assert [len(shelf.piece(KEY, start, start + 5)) for start in (0, 8, 10, 50)] == [5, 2, 0, 0]
