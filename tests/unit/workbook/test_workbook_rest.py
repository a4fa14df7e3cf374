"""Workbooks at rest: who may have a file as bytes, and what becomes of it there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.unit.workbook.kit import NOW, SetClock, filled, see, tamper

from torpor.base.errors import (
    AgentBusy,
    NewerFormat,
    NotAWorkbook,
    WorkbookDamaged,
    WorkbookMissing,
    WorkbookOwned,
    WorkbookReadOnly,
)
from torpor.workbook import Look, Workbook, adopt, at_rest, fork, is_sealed, seal

ROOT = Path(__file__).parents[3]
ENV = {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}

OWNER = """
import sys
from torpor.workbook import Workbook
with Workbook.open(sys.argv[1]) as book:
    book.append("note.added", {"by": "another process"})
    print("ready", flush=True)
    sys.stdin.readline()
"""

READER = """
import sys
from torpor.workbook import Workbook
with Workbook.open(sys.argv[1], readonly=True) as book:
    reader = book.reader("workspace", "/a/one.txt") if sys.argv[2:] else None
    book.last
    print("ready", flush=True)
    for line in sys.stdin:
        print(book.last, flush=True)
"""

DYING = """
import os, signal, sys
from torpor.workbook import Workbook
book = Workbook.open(sys.argv[1])
for number in range(50):
    book.append("note.added", {"number": number})
os.kill(os.getpid(), signal.SIGKILL)
"""


@contextmanager
def process(script: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-c", script, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENV
    )
    assert child.stdin
    assert child.stdout
    assert child.stdout.readline() == "ready\n"
    try:
        yield child
    finally:
        child.stdin.close()
        child.wait(20)
        child.stdout.close()


def died(path: Path) -> None:
    """Have an owner die with 50 events in its log."""
    ended = subprocess.run([sys.executable, "-c", DYING, str(path)], check=False, env=ENV)
    assert ended.returncode == -signal.SIGKILL
    assert Path(f"{path}-wal").stat().st_size > 10_000


def names(path: Path) -> list[str]:
    return sorted(found.name for found in path.parent.iterdir())


# --- at rest ---


def test_at_rest_a_file_is_bytes(path: Path, tmp_path: Path) -> None:
    filled(path)
    with at_rest(path, clock=SetClock()) as rest:
        assert rest.path == str(path)
        shutil.copyfile(rest.path, tmp_path / "copy.workbook")
        assert names(path) == ["ada.workbook", "ada.workbook-owner", "copy.workbook"]
    assert names(path) == ["ada.workbook", "copy.workbook"]
    with Workbook.open(path) as book, Workbook.open(tmp_path / "copy.workbook") as copy:
        assert see(book) == see(copy)


def test_a_look_says_whose_it_is_and_leaves_nothing_beside_it(path: Path, tmp_path: Path) -> None:
    made = fork(filled(path), tmp_path / "fork.workbook", agent="the-fork")
    with at_rest(tmp_path / "fork.workbook") as rest:
        assert rest.look() == Look("the-fork", made.seq, made.head, made.parent, 17)
        assert names(path) == ["ada.workbook", "fork.workbook", "fork.workbook-owner"]
        assert rest.extends(made.seq, made.head)
        assert not rest.extends(made.seq, made.head[:-1])
        with Workbook.open(rest.path, readonly=True) as book:
            assert book.extends(made.seq, made.head)
        assert names(path) == ["ada.workbook", "fork.workbook", "fork.workbook-owner"]
    with Workbook.open(tmp_path / "empty.workbook", clock=SetClock()) as book:
        agent = book.agent
    with at_rest(tmp_path / "empty.workbook") as rest:
        assert rest.look() == Look(agent, 0, "", None, None)
    assert names(path) == ["ada.workbook", "empty.workbook", "fork.workbook"]


def test_there_need_not_be_a_file(path: Path) -> None:
    with at_rest(path) as rest:
        with pytest.raises(WorkbookMissing):
            rest.look()
        with pytest.raises(WorkbookOwned):
            Workbook.open(path)
        assert names(path) == ["ada.workbook-owner"]
    assert names(path) == []


def test_an_owner_in_this_process_is_in_the_way(path: Path) -> None:
    with Workbook.open(path) as book:
        with pytest.raises(WorkbookOwned, match=f"process {os.getpid()}"), at_rest(path):
            pass
        book.append("note.added", {})
    with at_rest(path):
        pass


def test_an_owner_in_another_process_is_in_the_way(path: Path) -> None:
    with process(OWNER, str(path)) as child, pytest.raises(WorkbookOwned, match=f"process {child.pid}"), at_rest(path):
        pass
    with at_rest(path) as rest:
        assert rest.look().seq == 1


def test_a_reader_in_this_process_is_in_the_way(path: Path) -> None:
    filled(path)
    with Workbook.open(path, readonly=True) as book:
        stream = book.reader("workspace", "/a/one.txt")
        with pytest.raises(AgentBusy, match="this process has it open"), at_rest(path):
            pass
        stream.close()
        with pytest.raises(AgentBusy), at_rest(path):
            pass
    with at_rest(path):
        pass
    assert names(path) == ["ada.workbook"]


def test_nobody_in_this_process_opens_it_meanwhile(path: Path) -> None:
    """A descriptor closed by the holder would take a reader's locks away."""
    filled(path)
    refused: list[type[Exception]] = []

    def try_it() -> None:
        for readonly in (True, False):
            try:
                Workbook.open(path, readonly=readonly).close()
            except (AgentBusy, WorkbookOwned) as error:
                refused.append(type(error))
        try:
            fork(path, path.with_name("fork.workbook"), agent="x")
        except AgentBusy as error:
            refused.append(type(error))

    with at_rest(path) as rest:
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
        assert rest.look().seq == 17
        fork(path, path.with_name("mine.workbook"), agent="mine")
    assert refused == [AgentBusy, WorkbookOwned, AgentBusy]
    assert names(path) == ["ada.workbook", "mine.workbook"]
    try_it()
    assert len(refused) == 3
    assert "fork.workbook" in names(path)


def test_the_claim_is_held_inside_against_other_processes(path: Path) -> None:
    filled(path)
    script = "import sys; from torpor.workbook import Workbook; Workbook.open(sys.argv[1])"
    with at_rest(path):
        done = subprocess.run(
            [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False, env=ENV
        )
    assert f"process {os.getpid()}" in done.stderr
    with pytest.raises(ZeroDivisionError), at_rest(path):
        raise ZeroDivisionError
    Workbook.open(path).close()


def test_what_a_dead_owner_left_in_a_log_is_brought_into_the_file(path: Path, tmp_path: Path) -> None:
    died(path)
    with at_rest(path) as rest:
        assert names(path) == ["ada.workbook", "ada.workbook-owner"]
        assert rest.look().seq == 50
        shutil.copyfile(path, tmp_path / "copy.workbook")
    with Workbook.open(tmp_path / "copy.workbook") as book:
        assert book.last == 50
        assert book.verify().problems == ()


@pytest.mark.parametrize("streaming", [False, True])
def test_a_reader_elsewhere_that_needs_the_log_keeps_it_from_rest(path: Path, tmp_path: Path, streaming: bool) -> None:  # noqa: FBT001
    filled(path)
    died(path)
    with process(READER, str(path), *(["stream"] if streaming else [])) as child:
        if streaming:
            with pytest.raises(AgentBusy, match="reading what its log still holds"), at_rest(path):
                pass
        else:
            with at_rest(path) as rest:
                assert rest.look().seq == 67
                assert Path(f"{path}-wal").stat().st_size == 0, "nothing that a later file would take for its own"
                shutil.copyfile(path, tmp_path / "copy.workbook")
        assert child.stdin
        assert child.stdout
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "67\n", "the reader sees what it saw"
    with at_rest(path) as rest:
        assert rest.look().seq == 67
    assert not Path(f"{path}-wal").exists()


def test_a_file_with_two_names_is_not_at_rest(path: Path) -> None:
    filled(path)
    path.with_name("twin.workbook").hardlink_to(path)
    with pytest.raises(WorkbookReadOnly, match="2 names"), at_rest(path):
        pass
    assert names(path) == ["ada.workbook", "twin.workbook"]


def test_what_is_no_workbook_is_held_and_not_read(path: Path) -> None:
    path.write_bytes(b"something else" * 100)
    with at_rest(path) as rest, pytest.raises(NotAWorkbook):
        rest.look()
    assert path.read_bytes() == b"something else" * 100
    path.unlink()
    tamper(filled(path), "PRAGMA user_version = 99")
    with at_rest(path) as rest, pytest.raises(NewerFormat):
        rest.look()


def test_a_reader_that_is_refused_leaves_nothing_beside_the_file(path: Path) -> None:
    tamper(filled(path), "PRAGMA user_version = 99")
    with pytest.raises(NewerFormat):
        Workbook.open(path, readonly=True)
    assert names(path) == ["ada.workbook"]


# --- adopting ---


def test_an_adopted_copy_is_another_agent(path: Path, tmp_path: Path) -> None:
    filled(path)
    copy = tmp_path / "copy.workbook"
    with at_rest(path) as rest:
        shutil.copyfile(path, copy)
        parent = rest.look()
    made = adopt(
        str(copy), agent="the-clone", parent="the-template", parent_seq=17, how="clone", clock=SetClock(NOW + 9)
    )
    assert (made.agent, made.parent, made.parent_seq) == ("the-clone", "the-template", 17)
    assert made.bytes == copy.stat().st_size
    assert names(path) == ["ada.workbook", "copy.workbook"]
    with Workbook.open(copy, clock=SetClock()) as book, Workbook.open(path, clock=SetClock()) as old:
        assert book.verify().problems == ()
        assert (book.agent, book.lineage) == ("the-clone", ("the-template", 17))
        assert (made.seq, made.head) == book.head == (18, list(book.events())[-1].hash.hex())
        assert see(book) == see(old)
        assert book.extends(parent.seq, parent.head)
        assert old.agent == parent.agent
        assert book._store.row("SELECT created, horizon FROM meta") == (NOW + 9, 0)
        assert [event.body["how"] for event in book.events(17)] == ["clone"]
        book.rewind(10)
        assert book.agent == "the-clone", "a rewind doesn't change who it is"
        assert book.verify().problems == ()


def test_what_is_no_workbook_is_not_adopted(path: Path) -> None:
    for content, error in ((b"something else" * 100, NotAWorkbook), (b"", NotAWorkbook)):
        path.write_bytes(content)
        with pytest.raises(error):
            adopt(str(path), agent="a", parent="b", parent_seq=0, how="clone")
        assert path.read_bytes() == content
    path.unlink()
    whole = filled(path).read_bytes()
    path.write_bytes(whole[:-4096])
    with pytest.raises(WorkbookDamaged):
        adopt(str(path), agent="a", parent="b", parent_seq=0, how="clone")
    path.unlink()
    with pytest.raises(WorkbookMissing):
        adopt(str(path), agent="a", parent="b", parent_seq=0, how="clone")


# --- templates ---


def test_a_sealed_file_can_be_read_by_all_and_written_by_nobody(path: Path) -> None:
    filled(path)
    assert not is_sealed(str(path))
    seal(str(path))
    assert is_sealed(str(path))
    before = path.read_bytes()
    assert before[18:20] == b"\1\1", "a rollback journal"
    assert names(path) == ["ada.workbook"]
    for _ in range(2):
        with pytest.raises(WorkbookReadOnly, match="as that of a template"):
            Workbook.open(path)  # this test may well be run by root, whom the mode wouldn't stop
    with pytest.raises(WorkbookReadOnly):
        adopt(str(path), agent="a", parent="b", parent_seq=0, how="clone")
    with Workbook.open(path, readonly=True) as book:
        assert names(path) == ["ada.workbook"], "reading it leaves nothing beside it"
        assert book.verify().problems == ()
        assert book.read("workspace", "/a/one.txt") == b"one" * 50_000 + b"two"
        with book.reader("workspace", "/a/one.txt") as reader:
            assert reader.read(3) == b"one"
    with at_rest(path) as rest:
        assert rest.look().seq == 17
    assert names(path) == ["ada.workbook"]
    assert path.read_bytes() == before


def test_a_copy_of_a_sealed_file_is_adopted_and_gets_a_log_with_its_first_owner(path: Path, tmp_path: Path) -> None:
    seal(str(filled(path)))
    copy = tmp_path / "copy.workbook"
    shutil.copyfile(path, copy)
    adopt(str(copy), agent="the-clone", parent="the-template", parent_seq=17, how="clone")
    assert names(path) == ["ada.workbook", "copy.workbook"]
    assert copy.read_bytes()[18:20] == b"\1\1"
    with Workbook.open(copy, readonly=True) as book:
        assert book.agent == "the-clone"
    with Workbook.open(copy) as book:
        assert book.verify().problems == ()
        book.append("note.added", {})
    assert copy.read_bytes()[18:20] == b"\2\2"
    assert names(path) == ["ada.workbook", "copy.workbook"]


def test_what_is_no_workbook_is_not_sealed(path: Path) -> None:
    path.write_bytes(b"something else" * 100)
    with pytest.raises(NotAWorkbook):
        seal(str(path))
    assert not is_sealed(str(path))


# --- what a journal extends ---


def test_a_journal_extends_its_own_past_only(book: Workbook) -> None:
    heads = [(0, "")]
    for number in range(3):
        book.append("note.added", {"number": number})
        heads.append(book.head)
    assert all(book.extends(*head) for head in heads)
    assert not book.extends(2, heads[3][1])
    assert not book.extends(0, heads[1][1])
    assert not book.extends(9, "")
    assert not book.extends(9, heads[3][1])


def test_leaving_no_descriptor_open(path: Path) -> None:
    filled(path)
    before = os.listdir("/proc/self/fd")
    for _ in range(5):
        with at_rest(path) as rest:
            rest.look()
        fork(path, path.with_name("fork.workbook"), agent="x")
        path.with_name("fork.workbook").unlink()
    assert len(os.listdir("/proc/self/fd")) == len(before)
    with closing(Workbook.open(path)) as book:
        assert book.verify().problems == ()
