"""A forked child can neither use, nor close, nor outlive to the harm of the workbook that it inherited."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.hazards.kit import in_child

from torpor.base.errors import WorkbookClosed, WorkbookOwned
from torpor.workbook import Workbook

USES: dict[str, Callable[[Workbook], object]] = {
    "append": lambda book: book.append("note.added", {}),
    "last": lambda book: book.last,
    "events": lambda book: list(book.events()),
    "read": lambda book: book.read("workspace", "/a.txt"),
    "write": lambda book: book.write("workspace", "/a.txt", b"child"),
    "transaction": lambda book: book.transaction().__enter__(),
    "reader": lambda book: book.reader("workspace", "/a.txt"),
    "writer": lambda book: book.writer("workspace", "/a.txt"),
    "remember": lambda book: book.memory.remember("x"),
    "search": lambda book: book.memory.search("x"),
    "verify": lambda book: book.verify(),
    "balances": lambda book: book.spend.balances(),
    "settings": lambda book: book.settings.all(),
}


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Workbook]:
    with Workbook.open(tmp_path / "ada.workbook") as opened:
        opened.write("workspace", "/a.txt", b"parent")
        yield opened


def stays_whole(book: Workbook) -> None:
    """Insist that the parent goes on, owns the workbook, and others see what it commits."""
    seq = book.append("note.added", {"by": "parent"})
    with Workbook.open(book.path, readonly=True) as other:
        assert other.last == seq
    with pytest.raises(WorkbookOwned):
        Workbook.open(book.path)
    assert Path(f"{book.path}-owner").exists()
    book.verify().require()


@pytest.mark.parametrize("use", USES)
def test_a_forked_child_cannot_use_the_inherited_workbook(use: str, book: Workbook) -> None:
    def act() -> None:
        with pytest.raises(WorkbookClosed):
            USES[use](book)

    assert in_child(act) == ""
    stays_whole(book)


def test_a_forked_child_cannot_close_the_inherited_workbook(book: Workbook) -> None:
    assert in_child(book.close) == ""
    stays_whole(book)


def test_a_forked_child_cannot_close_it_with_open_streams_either(book: Workbook) -> None:
    def discard() -> None:
        with contextlib.suppress(WorkbookClosed):  # refused or passed over, as long as nothing is done
            writer.discard()

    with book.reader("workspace", "/a.txt") as reader, book.writer("workspace", "/b.txt") as writer:
        writer.write(b"b" * 2_000_000)
        assert in_child(book.close) == ""
        assert in_child(reader.close) == ""
        assert in_child(discard) == ""
        stays_whole(book)
        assert reader.read() == b"parent"
    assert book.read("workspace", "/b.txt") == b"b" * 2_000_000


def test_a_child_forked_in_a_transaction_cannot_commit_it(book: Workbook) -> None:
    def act() -> None:
        with pytest.raises(WorkbookClosed):
            transaction.__exit__(None, None, None)

    transaction = book.transaction()
    with transaction:
        book.append("note.added", {"by": "parent"})
        assert in_child(act) == ""
        book.append("note.added", {"by": "parent"})
    stays_whole(book)


def test_a_child_forked_in_a_transaction_cannot_roll_it_back(book: Workbook) -> None:
    def act() -> None:
        transaction.__exit__(ValueError, ValueError(), None)

    transaction = book.transaction()
    with transaction:
        book.append("note.added", {"by": "parent"})
        assert in_child(act) == ""
    assert [event.body for event in book.events()][-1] == {"by": "parent"}
    stays_whole(book)


def test_a_forked_child_may_have_a_workbook_of_its_own(book: Workbook, tmp_path: Path) -> None:
    def act() -> None:
        with Workbook.open(tmp_path / "child.workbook") as own:
            own.append("note.added", {"by": "child"})
            own.verify().require()

    assert in_child(act) == ""
    stays_whole(book)
    with Workbook.open(tmp_path / "child.workbook") as own:
        assert own.last == 1


def test_a_forked_child_is_refused_the_parents_workbook_by_name(book: Workbook) -> None:
    parent = os.getpid()

    def act() -> None:
        with pytest.raises(WorkbookOwned) as refused:
            Workbook.open(book.path)
        assert refused.value.pid == parent

    assert in_child(act) == ""
    stays_whole(book)


ORPHAN = """
import os, sys
from torpor.workbook import Workbook
book = Workbook.open(sys.argv[1])
book.write("workspace", "/a.txt", b"old")
for n in range(20):
    book.append("note.added", {"n": n})
if os.fork() == 0:
    print("forked", flush=True)
    sys.stdin.readline()
    with Workbook.open(sys.argv[1]) as own:
        print(own.append("note.added", {"by": "orphan"}), flush=True)
    sys.exit(0)  # as a Python program ends: modules are torn down, objects are freed
sys.stdout.flush()
os.kill(os.getpid(), 9)
"""


def test_an_orphaned_child_keeps_no_claim_may_open_anew_and_does_no_harm_when_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "ada.workbook"
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdin
    assert parent.stdout
    with parent.stdin, parent.stdout:
        assert parent.stdout.readline() == b"forked\n"
        assert parent.wait(10) == -signal.SIGKILL
        with Workbook.open(path) as book:
            for n in range(200):
                book.append("note.added", {"n": n, "text": "x" * 300})
            book.write("workspace", "/a.txt", b"new")
            last = book.last
        parent.stdin.write(b"end\n")
        parent.stdin.close()
        assert int(parent.stdout.read()) == last + 1  # and then the orphan has ended
    with Workbook.open(path) as book:
        assert book.last == last + 1
        assert book.read("workspace", "/a.txt") == b"new"
        book.verify().require()
