"""Putting a workbook in the place of another: the other is kept, whatever state it is in."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.workbook.kit import SetClock, filled

from torpor.base.errors import AgentBusy, FileTaken, WorkbookOwned
from torpor.testing.crash import crash_call
from torpor.workbook import Workbook, as_it_is, put_in_stead

ROOT = Path(__file__).parents[3]


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "replaced").mkdir()
    return tmp_path / "ada.workbook"


def swap(folder: str) -> None:
    """Put the draft in its place; for a process that may die in it."""
    base = Path(folder)
    with as_it_is(base / "ada.workbook", clock=SetClock()) as path:
        put_in_stead(f"{path}-draft", path, str(base / "replaced" / "old.workbook"))


def prepared(place: Path) -> tuple[str, str]:
    """Make an old file and a new one; returns the digests of their bytes."""
    filled(place)
    with Workbook.open(place, clock=SetClock()) as book:
        book.append("note.added", {"old": True})
    draft = filled(place.with_name("new.workbook")).rename(f"{place}-draft")
    return sha(place), sha(draft)


def test_the_new_one_is_in_its_place_and_the_old_one_beside(place: Path, tmp_path: Path) -> None:
    old, new = prepared(place)
    swap(str(tmp_path))
    assert files(tmp_path) == ["ada.workbook", "replaced/old.workbook"]
    assert (sha(place), sha(tmp_path / "replaced/old.workbook")) == (new, old)


def test_where_nothing_was_nothing_is_put_aside(place: Path, tmp_path: Path) -> None:
    _, new = prepared(place)
    place.unlink()
    with as_it_is(place, clock=SetClock()) as path:
        assert not put_in_stead(f"{path}-draft", path, str(tmp_path / "replaced/old.workbook"))
    assert files(tmp_path) == ["ada.workbook"]
    assert sha(place) == new


def test_a_log_without_a_file_is_kept_unless_it_is_empty(place: Path, tmp_path: Path) -> None:
    for content, expected in ((b"", ["ada.workbook"]), (b"log", ["ada.workbook", "replaced/old.workbook-wal"])):
        prepared(place)
        place.unlink()
        place.with_name("ada.workbook-wal").write_bytes(content)
        swap(str(tmp_path))
        assert files(tmp_path) == expected
        place.unlink()


def test_a_log_goes_with_the_file_that_it_belongs_to(place: Path, tmp_path: Path) -> None:
    old, new = prepared(place)
    log = place.with_name("ada.workbook-wal")
    log.write_bytes(b"what a dead owner has left" * 100)
    place.with_name("ada.workbook-shm").write_bytes(b"an index")
    place.with_name("ada.workbook-mark").write_bytes(b'{"boot": "another", "home": "/srv"}')
    swap(str(tmp_path))
    assert files(tmp_path) == ["ada.workbook", "replaced/old.workbook", "replaced/old.workbook-wal"]
    assert (sha(place), sha(tmp_path / "replaced/old.workbook")) == (new, old)
    assert (tmp_path / "replaced/old.workbook-wal").read_bytes() == b"what a dead owner has left" * 100
    with Workbook.open(place, readonly=True) as book:
        assert book.verify().problems == ()


def test_nothing_that_is_aside_already_is_replaced(place: Path, tmp_path: Path) -> None:
    old, new = prepared(place)
    other = tmp_path / "replaced/old.workbook"
    other.write_bytes(b"somebody else's")
    with as_it_is(place, clock=SetClock()) as path, pytest.raises(FileTaken):
        put_in_stead(f"{path}-draft", path, str(other))
    assert other.read_bytes() == b"somebody else's"
    assert (sha(place), sha(place.with_name("ada.workbook-draft"))) == (old, new)


def test_a_file_that_is_no_workbook_can_be_held(place: Path) -> None:
    place.write_bytes(b"no workbook")
    with as_it_is(place, clock=SetClock()) as path:
        assert path == str(place)
        with pytest.raises(WorkbookOwned), as_it_is(place, clock=SetClock()):
            pass
    assert files(place.parent) == ["ada.workbook"]


def test_a_workbook_that_is_open_is_not_held(place: Path) -> None:
    with Workbook.open(place), pytest.raises(WorkbookOwned), as_it_is(place, clock=SetClock()):
        pass
    with Workbook.open(place, readonly=True), pytest.raises(AgentBusy), as_it_is(place, clock=SetClock()):
        pass


@pytest.mark.parametrize(("log", "point"), [(b"", "aside.beside"), (b"", "aside.placed"), (b"log", "aside.moved")])
def test_whoever_is_killed_in_it_leaves_both_whole(place: Path, tmp_path: Path, log: bytes, point: str) -> None:
    old, new = prepared(place)
    if log:
        place.with_name("ada.workbook-wal").write_bytes(log)
    ended = crash_call(
        point,
        1,
        "tests.unit.workbook.test_workbook_aside:swap",
        str(tmp_path),
        env={**os.environ, "PYTHONPATH": _path()},
    )
    assert ended.code == -signal.SIGKILL, ended.err
    found = {sha(tmp_path / name) for name in files(tmp_path) if name.endswith((".workbook", "-draft"))}
    assert found == {old, new}
    if not log:
        assert sha(place) == (old if point == "aside.beside" else new), "the place is never empty"


def test_where_the_file_system_knows_no_exchange_it_goes_in_two_steps(place: Path, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    old, new = prepared(place)
    script = "from tests.unit.workbook.test_workbook_aside import swap; import sys; swap(sys.argv[1])"
    trace = ("strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", "inject=renameat2:error=EINVAL")
    done = subprocess.run(
        [*trace, sys.executable, "-c", script, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": _path()}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "ptrace" in done.stderr.lower():
        pytest.skip(f"strace may not trace here: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    assert "INJECTED" in (tmp_path / "trace").read_text()
    (tmp_path / "trace").unlink()
    assert files(tmp_path) == ["ada.workbook", "replaced/old.workbook"]
    assert (sha(place), sha(tmp_path / "replaced/old.workbook")) == (new, old)


def _path() -> str:
    return os.pathsep.join([str(ROOT / "src"), str(ROOT)])
