"""A folder as a store: for its owner only, whole after a kill, and missing when its disk is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.contract.store_kit import (
    COLD,
    ENV,
    KEYS,
    content_of,
    files,
    wanted,
)

from torpor.base.errors import (
    CopyMissing,
    StoreUnreachable,
)
from torpor.stores.shelves import PART
from torpor.stores.stores import open_store
from torpor.testing.chance import Seeded
from torpor.testing.crash import NEVER, crash_script


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(content_of(300_001))
    return path


@pytest.mark.parametrize("key", KEYS)
def test_only_its_owner_can_read_what_is_in_a_folder(tmp_path: Path, source: Path, key: str) -> None:
    before = os.umask(0)
    try:
        open_store("cold", str(tmp_path)).put(key, str(source), name="ada")
    finally:
        os.umask(before)
    assert (tmp_path / "cold" / key).stat().st_mode & 0o7777 == 0o600
    assert (tmp_path / "cold" / "ada").stat().st_mode & 0o7777 == 0o700
    assert (tmp_path / "cold").stat().st_mode & 0o7777 == 0o700


def test_in_a_folder_of_the_home_that_isnt_there_nothing_is(tmp_path: Path) -> None:
    store = open_store("cold", str(tmp_path))
    assert not store.has(COLD)
    assert not store.delete(COLD)
    with pytest.raises(CopyMissing):
        store.get(COLD, str(tmp_path / "target"), wanted(b"x"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", KEYS)
def test_a_folder_elsewhere_that_isnt_there_may_be_a_missing_disk(tmp_path: Path, source: Path, key: str) -> None:
    (tmp_path / "disk").mkdir()
    store = open_store(str(tmp_path / "disk"), str(tmp_path))
    store.put(key, str(source), name="ada")
    (tmp_path / "disk").rename(tmp_path / "away")
    for use in (
        lambda: store.put(key, str(source), name="ada"),
        lambda: store.get(key, str(tmp_path / "target"), wanted(source.read_bytes())),
        lambda: store.delete(key),
        lambda: store.has(key),
    ):
        with pytest.raises(StoreUnreachable, match="mounted"):
            use()
    assert not (tmp_path / "disk").exists()
    (tmp_path / "away").rename(tmp_path / "disk")
    store.get(key, str(tmp_path / "target"), wanted(source.read_bytes()))


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_a_folder_or_a_pipe_is_no_copy_and_nobody_waits_for_it(tmp_path: Path, make: Callable[[str], None]) -> None:
    (tmp_path / "cold" / "ada").mkdir(parents=True)
    make(str(tmp_path / "cold" / COLD))
    store = open_store("cold", str(tmp_path))
    assert not store.has(COLD)
    with pytest.raises(CopyMissing):
        store.get(COLD, str(tmp_path / "target"), wanted(b"x"))


def test_a_file_where_a_folder_is_due_is_said(tmp_path: Path, source: Path) -> None:
    (tmp_path / "cold").mkdir()
    (tmp_path / "cold" / "ada").write_text("in the way")
    store = open_store("cold", str(tmp_path))
    for key in KEYS:
        with pytest.raises(StoreUnreachable):
            store.put(key, str(source), name="ada")
        assert not store.has(key)
        assert not store.delete(key)


PUT_AND_DIE = """
import os, signal, sys
from torpor.stores.stores import open_store
def die(step):
    if step.stage == sys.argv[4] and step.done >= step.total // 2:
        os.kill(os.getpid(), signal.SIGKILL)
open_store("cold", sys.argv[1]).put(sys.argv[2], sys.argv[3], name="ada", watch=die)
"""


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("stage", ["put", "verify"])
def test_what_killed_puts_left_goes_with_the_key(tmp_path: Path, key: str, stage: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(Seeded(9).token(4 * PART))
    command = [sys.executable, "-c", PUT_AND_DIE, str(tmp_path), key, str(source), stage]
    for _ in range(3):
        died = subprocess.run(command, env=ENV, capture_output=True, check=False)
        assert died.returncode == -signal.SIGKILL, died.stderr
    store = open_store("cold", str(tmp_path))
    (tmp_path / "cold" / "ada" / "2.workbook").write_text("another")
    store.put(key, str(source), name="ada")
    store.get(key, str(tmp_path / "target"), wanted(source.read_bytes()))
    assert store.delete(key)
    assert files(tmp_path / "cold") == ["ada/2.workbook"]


def test_an_empty_folder_of_an_agent_doesnt_stay(tmp_path: Path, source: Path) -> None:
    store = open_store("cold", str(tmp_path))
    store.put(COLD, str(source), name="ada")
    store.delete(COLD)
    assert list((tmp_path / "cold").iterdir()) == []


# --- killed ---

CYCLE = """
import sys
from torpor.stores.stores import Wanted, open_store
home, key, source, target, digest, size = sys.argv[1:]
store = open_store("cold", home)
store.put(key, source, name="ada")
store.get(key, target, Wanted(name="ada", digest=digest, size=int(size)))
"""
POINTS = ["store.put", "store.verified", "store.got"]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("point", [*POINTS, NEVER])
def test_killed_at_a_point_the_copy_is_whole(tmp_path: Path, source: Path, key: str, point: str) -> None:
    script, target, content = tmp_path / "script", tmp_path / "target", source.read_bytes()
    script.write_text(CYCLE)
    due = wanted(content)
    ended = crash_script(
        point, 1, str(script), str(tmp_path), key, str(source), str(target), due.digest, str(due.size), env=ENV
    )
    assert ended.killed == (point != NEVER), ended.err
    assert files(tmp_path / "cold") == [key]
    assert target.exists() == (point in ("store.got", NEVER))
    target.unlink(missing_ok=True)
    open_store("cold", str(tmp_path)).get(key, str(target), due)
    assert target.read_bytes() == content
