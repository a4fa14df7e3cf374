"""No room, in the store or where an agent is to wake: it is said, nothing is lost, and with room again it goes on.

And syncs that the kernel refuses: what is not on the disk was not put.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.contract.store_kit import COLD, ENV, KEYS, content_of, files, wanted
from tests.hazards.kit import told_by

from torpor.stores.stores import open_store
from torpor.testing.chance import Seeded

FILL = """
import json, os, sys
from pathlib import Path
from tests.hazards.small_disk import limit_files, make_room
from torpor.base.errors import StorageFull
from torpor.stores.copies import copy_file, digest_of, verified_copy
from torpor.stores.stores import Wanted, open_store
small, large, room, limit = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
def files(folder):
    return sorted(os.path.join(at, name) for at, _, names in os.walk(folder) for name in names)
store = open_store(f"{room}/store", room)
os.makedirs(f"{room}/store", exist_ok=True)
puts = {key: store.put(key, small, name="ada") for key in ("ada/1.workbook", "ada/1.workbook.zst")}
elsewhere = open_store(sys.argv[5], room)
far = elsewhere.put("bob/1.workbook", large, name="bob")
archived = elsewhere.put("bob/1.workbook.zst", large, name="bob")
limit_files(limit)
before = files(room)
bob = Wanted(name="bob", digest=far.digest, size=far.size)
full = {}
def refused(what, act):
    for _ in range(2):
        try:
            act()
        except StorageFull as error:
            full[what] = error.path.startswith(room)
        assert files(room) == before, (what, files(room))
refused("put", lambda: store.put("bob/1.workbook", large, name="bob"))
refused("put archive", lambda: store.put("bob/1.workbook.zst", large, name="bob"))
refused("get", lambda: elsewhere.get("bob/1.workbook", f"{room}/target", bob))
refused("get archive", lambda: elsewhere.get("bob/1.workbook.zst", f"{room}/target", bob))
refused("copy", lambda: copy_file(large, f"{room}/target"))
refused("verified copy", lambda: verified_copy(large, f"{room}/target"))
for key, put in puts.items():
    store.get(key, f"{room}/target", Wanted(name="ada", digest=put.digest, size=put.size))
    os.unlink(f"{room}/target")
# Room again.
make_room(limit, Path(room, "ballast"))
store.put("bob/1.workbook", large, name="bob")
elsewhere.get("bob/1.workbook.zst", f"{room}/target", bob)
assert digest_of(f"{room}/target") == far.digest
print(json.dumps(full))
"""

ALL = dict.fromkeys(["put", "put archive", "get", "get archive", "copy", "verified copy"], True)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small"
    path.write_bytes(content_of(50_000))
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file of chance, which no compression makes smaller, of more than one part of an upload."""
    path = tmp_path / "large"
    path.write_bytes(Seeded(1).token(8_000_000))
    return path


def test_a_full_file_system_takes_nothing_and_loses_nothing(tmp_path: Path, small: Path, large: Path) -> None:
    room, elsewhere = tmp_path / "room", tmp_path / "elsewhere"
    room.mkdir()
    elsewhere.mkdir()
    around = f"mount -t tmpfs -o size=20m tmpfs {room} && head -c 14000000 /dev/zero > {room}/ballast"
    assert told_by(FILL, small, large, room, 0, elsewhere, around=around) == ALL


def test_a_limit_on_the_size_of_files_takes_nothing_and_loses_nothing(tmp_path: Path, small: Path, large: Path) -> None:
    room, elsewhere = tmp_path / "room", tmp_path / "elsewhere"
    room.mkdir()
    elsewhere.mkdir()
    assert told_by(FILL, small, large, room, 1_000_000, elsewhere) == ALL


# --- syncs that fail ---

CYCLE = """
import json, sys
from torpor.base.errors import StorageFailed, StoreUnreachable
from torpor.stores.stores import Wanted, open_store
home, key, source, digest, size = sys.argv[1:]
wanted = Wanted(name="ada", digest=digest, size=int(size))
store = open_store("cold", home)
failed = []
try:
    store.put(key, source, name="ada")
except (StorageFailed, StoreUnreachable) as error:
    failed.append("put " + error.code)
    store.put(key, source, name="ada")
try:
    store.get(key, f"{home}/target", wanted)
except StorageFailed as error:
    failed.append("get " + error.code)
    store.get(key, f"{home}/target", wanted)
print(json.dumps(failed))
"""


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("nth", range(1, 7))
def test_a_sync_that_fails_is_said_and_the_next_try_goes_well(tmp_path: Path, small: Path, key: str, nth: int) -> None:
    """A put syncs the object, its folder, the store's and the home's; a get the new file."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    due = wanted(small.read_bytes())
    script = [sys.executable, "-c", CYCLE, str(tmp_path), key, str(small), due.digest, str(due.size)]
    inject = ["-e", "trace=fsync", "-e", f"inject=fsync:error=EIO:when={nth}"]
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), *inject, *script],
        capture_output=True, text=True, check=False, env=ENV,
    )  # fmt: skip
    if "ptrace" in done.stderr.lower():
        pytest.skip(f"strace may not trace here: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    due_failure = ["put TOR-709"] * (nth <= 4) + ["get TOR-209"] * (nth == 5)
    assert json.loads(done.stdout) == due_failure
    assert files(tmp_path / "cold") == [key]
    assert (tmp_path / "target").read_bytes() == small.read_bytes()


PUT = """
import sys
from torpor.stores.stores import open_store
open_store("cold", sys.argv[1]).put(sys.argv[2], sys.argv[3], name="ada")
"""


def test_an_object_gets_its_name_only_when_it_is_on_the_disk(tmp_path: Path, small: Path) -> None:
    """A cold copy is synced under a draft's name, so after a power cut the name leads to all of it or to nothing."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    script = [
        sys.executable, "-c",
        PUT, str(tmp_path), COLD, str(small),
    ]  # fmt: skip
    trace = tmp_path / "trace"
    calls = ["strace", "-f", "-qq", "-y", "-o", str(trace), "-e", "trace=fsync,rename"]
    done = subprocess.run([*calls, *script], capture_output=True, text=True, check=False, env=ENV)
    if "ptrace" in done.stderr.lower():
        pytest.skip(f"strace may not trace here: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    lines = [line for line in trace.read_text().splitlines() if str(tmp_path) in line]
    kinds = [("rename" if "rename(" in line else "sync") for line in lines]
    assert kinds == ["sync", "rename", "sync", "sync", "sync"]
    assert f"{COLD}#0" in lines[0]
    assert open_store("cold", str(tmp_path)).has(COLD)
