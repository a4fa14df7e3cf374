"""Where disk, folder or workbook say no: a typed error, nothing half-written, and all of it after the cure."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.acceptance.kit import Ended, Zygote, environment, left_in, pages, rss, stories

from torpor.workbook import Workbook

WORDS = ("brief", "f.xml", "--workbook", "x.workbook", "--out", "out")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """Mount a small file system of its own for the time of a block."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"can't mount here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "f.xml").write_bytes(rss(stories(4)))
    return tmp_path


def assert_refused(ended: Ended, code: str, *said: str) -> None:
    assert ended.code == 1, ended
    assert ended.error["code"] == code, ended.err
    for words in said:
        assert words in ended.error["message"], ended.err
    assert ended.error["next_step"]
    assert ended.out == ""


def assert_all_delivered(run: Zygote, home: Path, out: Path) -> None:
    ended = run(*WORDS, "--json", cwd=home)
    assert ended.code == 0, ended.err
    assert (ended.json["new"], ended.json["already_read"]) == (4, 0)
    assert "Story s3" in pages(out)[0]


def test_a_file_where_the_folder_should_be_is_refused_and_kept(run: Zygote, home: Path) -> None:
    (home / "out").write_text("mine")
    assert_refused(run(*WORDS, "--json", cwd=home), "TOR-601", "there is a file where the folder should be")
    words = run(*WORDS, cwd=home)
    assert "error: The briefing can't be delivered to" in words.err
    assert "next: Make the folder writable or choose another --out" in words.err
    assert (home / "out").read_text() == "mine"
    (home / "out").unlink()
    assert_all_delivered(run, home, home / "out")


@needs_root
def test_a_folder_that_cannot_be_written_delivers_nothing_until_it_can(run: Zygote, home: Path) -> None:
    with mounted(home / "out", "size=1m,ro") as out:
        assert_refused(run(*WORDS, "--json", cwd=home), "TOR-601", "read-only file system")
        assert left_in(out) == []
        subprocess.run(["mount", "-o", "remount,rw", out], check=True)
        assert_all_delivered(run, home, out)


@needs_root
@pytest.mark.parametrize("pages_left", [0, 1], ids=["no room", "room for the first file"])
def test_a_full_disk_leaves_nothing_half_written(run: Zygote, home: Path, pages_left: int) -> None:
    with mounted(home / "out", "size=64k") as out:
        filler = out / "filler"
        filler.write_bytes(bytes(65536 - 4096 * pages_left))
        assert_refused(run(*WORDS, "--json", cwd=home), "TOR-601", "no space left on device")
        assert left_in(out) == ["filler"]
        filler.unlink()
        assert_all_delivered(run, home, out)


@needs_root
def test_a_workbook_on_a_full_disk_is_said_to_be_so_and_goes_on_when_there_is_room(run: Zygote, home: Path) -> None:
    with mounted(home / "disk", "size=400k") as disk:
        words = ("brief", "f.xml", "--workbook", "disk/x.workbook", "--out", "out")
        filler = disk / "filler"
        filler.write_bytes(bytes(300 * 1024))
        ended = run(*words, "--json", cwd=home)
        assert_refused(ended, "TOR-208")
        assert left_in(home / "out") == []
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
        again = run(*words, "--json", cwd=home)
        assert again.code == 0, again.err
        assert again.json["new"] == 4
        assert run("verify", "disk/x.workbook", cwd=home).code == 0


@needs_root
def test_a_workbook_in_a_folder_that_cannot_be_written_is_refused_and_untouched(run: Zygote, home: Path) -> None:
    with mounted(home / "disk", "size=4m") as disk:
        words = ("brief", "f.xml", "--workbook", "disk/x.workbook", "--out", "out", "--json")
        assert run(*words, cwd=home).code == 0
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        before = (disk / "x.workbook").read_bytes()
        assert_refused(run(*words, cwd=home), "TOR-204", "disk/x.workbook")
        read = run("runs", "disk/x.workbook", cwd=home)
        assert (read.code, "completed" in read.out) == (0, True), read.err
        assert (disk / "x.workbook").read_bytes() == before


def test_a_workbook_in_a_folder_that_is_not_there_is_refused(run: Zygote, home: Path) -> None:
    words = ("brief", "f.xml", "--workbook", "no/such/x.workbook", "--out", "out", "--json")
    assert_refused(run(*words, cwd=home), "TOR-201", "no/such/x.workbook")
    assert left_in(home) == ["f.xml"]


HOLDER = """
import sys
from torpor.workbook import Workbook
with Workbook.open(sys.argv[1]) as book:
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_workbook_owned_by_another_process_names_that_process(run: Zygote, home: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home / "x.workbook")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    with holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert_refused(run(*WORDS, "--json", cwd=home), "TOR-202", f"process {holder.pid} ")
        put = run("files", "put", "x.workbook", "/a", "f.xml", cwd=home)
        assert (put.code, f"process {holder.pid} " in put.err) == (1, True)
        assert run("events", "x.workbook", cwd=home).code == 0, "reading is for everybody"
        holder.stdin.write(b"\n")
        holder.stdin.close()
        assert holder.wait(10) == 0
    assert run(*WORDS, cwd=home).code == 0


def strange_workbooks(home: Path, run: Zygote) -> dict[str, tuple[Path, str]]:
    """Return files that are no good as a workbook, with the error that each must give."""
    assert run(*WORDS, cwd=home).code == 0
    whole = home / "x.workbook"
    newer, truncated, foreign, text, empty = (
        home / f"{name}.workbook" for name in ("new", "cut", "db", "txt", "empty")
    )
    shutil.copyfile(whole, newer)
    with sqlite3.connect(newer) as database:
        database.execute("PRAGMA journal_mode=DELETE")
        database.execute("PRAGMA user_version=99")
    database.close()
    truncated.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2 + 100])
    with sqlite3.connect(foreign) as database:
        database.execute("CREATE TABLE other (x)")
    database.close()
    text.write_text("Dear diary, " * 1000)
    empty.write_bytes(b"")
    return {
        "newer": (newer, "TOR-206"),
        "truncated": (truncated, "TOR-207"),
        "foreign": (foreign, "TOR-205"),
        "text": (text, "TOR-205"),
        "empty": (empty, "TOR-205"),
    }


def test_files_that_are_no_workbook_of_ours_are_refused_and_left_as_they_are(run: Zygote, home: Path) -> None:
    for name, (path, code) in strange_workbooks(home, run).items():
        before = hashlib.sha256(path.read_bytes()).digest()
        for words in (("brief", "f.xml", "--workbook", str(path), "--out", "other"), ("events", str(path))):
            ended = run(*words, "--json", cwd=home)
            assert ended.code == 1, (name, words[0], ended)
            assert ended.error["code"] == code, (name, words[0], ended.err)
            assert path.name in ended.error["message"]
            assert hashlib.sha256(path.read_bytes()).digest() == before, (name, words[0])
    assert left_in(home / "other") == []
    beside = [name for name in left_in(home) if name.endswith(("-wal", "-shm", "-owner", "-journal"))]
    # What reading has put beside a file that breaks off, nobody can remove safely: it may hold the only good pages.
    assert [name for name in beside if not name.startswith("cut.")] == []


def test_a_damaged_workbook_fails_verification_with_the_invariant_named(run: Zygote, home: Path) -> None:
    assert run(*WORDS, cwd=home).code == 0
    ok = run("verify", "x.workbook", "--json", cwd=home)
    assert (ok.code, ok.json["ok"], ok.json["problems"]) == (0, True, [])
    with sqlite3.connect(home / "x.workbook") as database:
        triggers = [row[0] for row in database.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")]
        for trigger in triggers:
            database.execute(f'DROP TRIGGER "{trigger}"')
        database.execute("UPDATE events SET kind = 'step.invented' WHERE seq = 3")
    database.close()
    bad = run("verify", "x.workbook", cwd=home)
    assert bad.code == 1
    assert "INV-" in bad.out
    assert "DAMAGED" in bad.out
    machine = run("verify", "x.workbook", "--json", cwd=home)
    assert (machine.code, machine.json["ok"]) == (1, False)
    assert machine.json["problems"][0]["invariant"].startswith("INV-")


def test_reading_a_workbook_at_rest_leaves_nothing_beside_it(run: Zygote, home: Path) -> None:
    assert run(*WORDS, cwd=home).code == 0
    with Workbook.open(home / "x.workbook") as book:
        book.write("workspace", "/a.txt", b"a")
    readers = (
        ("events", "x.workbook"),
        ("verify", "x.workbook"),
        ("runs", "x.workbook"),
        ("files", "ls", "x.workbook"),
        ("files", "cat", "x.workbook", "/a.txt"),
        ("memory", "search", "x.workbook", "cats"),
    )
    for words in readers:
        assert run(*words, cwd=home).code == 0
        assert left_in(home) == ["f.xml", "out", "x.workbook"], words
