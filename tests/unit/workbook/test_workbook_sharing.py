"""Transactions among threads, tasks and forked children: everybody's facts are whole, or not there at all."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from torpor.base import faults
from torpor.base.errors import (
    FileInTheWay,
    InternalError,
    TransactionEntangled,
    TransactionLost,
    WorkbookClosed,
)
from torpor.workbook import Workbook


class Stop(Exception):
    """Leaves a block."""


def test_many_threads_append_without_a_gap(book: Workbook) -> None:
    def work(name: int) -> None:
        for number in range(40):
            if number % 4 == 0:
                with book.transaction():
                    book.append("a.b", {"thread": name, "number": number})
                    book.write("workspace", f"/{name}", str(number).encode())
            else:
                book.append("a.b", {"thread": name, "number": number}, key=f"{name}-{number}" if number % 3 else None)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = [event for event in book.events() if event.kind == "a.b"]
    for name in range(8):
        assert [event.body["number"] for event in events if event.body["thread"] == name] == list(range(40))
    assert [event.seq for event in book.events()] == list(range(1, book.last + 1))


def test_another_thread_waits_for_a_transaction_to_write_and_to_read(book: Workbook) -> None:
    seen: list[object] = []
    begun = threading.Event()

    def other() -> None:
        begun.set()
        seen.append([event.kind for event in book.events()])
        seen.append(book.append("other.one", {}))

    thread = threading.Thread(target=other)
    with pytest.raises(Stop), book.transaction():
        book.append("never.kept", {})
        thread.start()
        begun.wait()
        thread.join(0.1)
        assert thread.is_alive()
        assert seen == []
        raise Stop
    thread.join()
    assert seen == [[], 1]


def test_an_exception_undoes_everything_and_the_numbers_go_on(book: Workbook) -> None:
    book.append("a.b", {})
    with pytest.raises(Stop), book.transaction():
        book.append("a.b", {})
        book.write("workspace", "/a", b"a")
        book.volumes.keep_value(b"v")
        book.memory.remember("x", source="s")
        book.spend.book(1, "usd", source="a", target="b", key="k")
        book.settings.set("x", 1)
        raise Stop
    assert book.last == 1
    assert book.append("a.b", {}) == 2
    assert book.list("workspace") == []
    assert (book.memory.entries(), book.spend.balances(), book.settings.all()) == ([], {}, {})


def test_a_block_inside_another_is_undone_alone(book: Workbook) -> None:
    with book.transaction():
        book.append("a.b", {"n": 1})
        with pytest.raises(Stop), book.transaction():
            book.append("a.b", {"n": 2})
            with book.transaction():
                book.append("a.b", {"n": 3})
            raise Stop
        with book.transaction():
            book.append("a.b", {"n": 4})
    assert [event.body["n"] for event in book.events()] == [1, 4]


def test_an_operation_that_fails_half_way_leaves_nothing_of_itself(book: Workbook) -> None:
    book.write("workspace", "/dir/a", b"a")
    book.write("workspace", "/other", b"o")
    with book.transaction():
        with pytest.raises(FileInTheWay):
            book.move("workspace", "/other", "/dir/a/b")  # found out when the source has left its place
        book.append("went.on", {})
    assert [file.path for file in book.list("workspace", recursive=True)] == ["/dir/a", "/other"]
    assert book.verify().ok


def test_two_workbooks_may_be_in_transactions_at_once(book: Workbook, tmp_path: Path) -> None:
    with Workbook.open(tmp_path / "b.workbook") as other:
        with book.transaction(), other.transaction():
            book.append("a.b", {})
            other.append("a.b", {})
            with pytest.raises(Stop), book.transaction():
                raise Stop
            book.append("a.b", {})
        with other.transaction():
            book.append("a.b", {})
        assert (book.last, other.last) == (3, 1)


def test_a_block_made_before_another_began_doesnt_undo_it(book: Workbook) -> None:
    first, second = book.transaction(), book.transaction()
    with first:
        book.append("a.b", {})
        with pytest.raises(TransactionEntangled), second:
            pass
        book.append("a.b", {})
    assert book.last == 2
    with second:
        book.append("a.b", {})
    assert book.last == 3


def test_a_transaction_that_does_nothing_isnt_counted(book: Workbook) -> None:
    def count() -> int:
        return book._store.read_head()[2]

    assert count() == 0
    with book.transaction():
        book.read_nothing = None  # type: ignore[attr-defined]
    assert count() == 0
    book.write("tmp", "/a", b"")
    assert count() == 1, "a transaction without events counts in meta"
    book.append("a.b", {})
    with book.transaction():
        book.append("a.b", {})
        book.append("a.b", {})
    rows = book._store.rows("SELECT txn FROM events ORDER BY seq")
    assert rows == [(2,), (3,), (3,)]
    assert count() == 3
    book.write("tmp", "/a", b"")
    assert count() == 4
    assert book._store.row("SELECT txn FROM meta") == (4,)


def test_a_workbook_isnt_closed_under_a_transaction(book: Workbook) -> None:
    writer = book.writer("workspace", "/a")
    with book.transaction():
        book.append("a.b", {})
        with pytest.raises(TransactionEntangled):
            book.close()
        assert not writer.closed
        book.append("a.b", {})
    writer.discard()
    assert book.last == 2


def test_the_numbers_survive_being_interrupted_anywhere(book: Workbook) -> None:
    class Interrupt(BaseException):
        pass

    for name in [point for point in faults.POINTS if point.startswith(("append", "transaction"))]:

        def stop(point: str, name: str = name) -> None:
            if point == name:
                raise Interrupt

        for _ in range(2):
            faults.listen(stop)
            try:
                with pytest.raises(Interrupt):
                    book.append("a.b", {})
                    with book.transaction():
                        book.append("a.b", {})
            finally:
                faults.listen(None)
            book.append("after.it", {"point": name})
    assert [event.seq for event in book.events()] == list(range(1, book.last + 1))


# --- tasks ---


@pytest.mark.anyio
async def test_another_task_that_writes_or_reads_in_a_transaction_is_told_and_nothing_is_lost(book: Workbook) -> None:
    refused = 0

    async def other() -> None:
        nonlocal refused
        await anyio.lowlevel.checkpoint()
        calls = [lambda: book.append("other.one", {}), lambda: list(book.events()), book.transaction, book.verify]
        for call in calls:
            try:
                call()
            except TransactionEntangled as error:
                assert "Don't await inside" in error.next_step  # noqa: PT017  (each of several calls)
                refused += 1

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        with book.transaction():
            book.append("one.two", {})
            await anyio.sleep(0.01)
            book.append("one.three", {})
    assert refused == 4
    assert [event.kind for event in book.events()] == ["one.two", "one.three"]
    book.append("after.all", {})


@pytest.mark.anyio
async def test_a_thread_that_inherits_a_transaction_is_refused_and_doesnt_wait_forever(book: Workbook) -> None:
    with anyio.fail_after(5):
        with book.transaction():
            book.append("a.b", {"n": 1})
            for call in (lambda: book.append("a.b", {"n": 2}), lambda: list(book.events())):
                with pytest.raises(TransactionEntangled):
                    await anyio.to_thread.run_sync(call)
            book.append("a.b", {"n": 3})
        await anyio.to_thread.run_sync(lambda: book.append("a.b", {"n": 4}))
    assert [event.body["n"] for event in book.events()] == [1, 3, 4]


@contextmanager
def in_a_generator(book: Workbook) -> Iterator[None]:
    with book.transaction():
        yield


@pytest.mark.anyio
async def test_a_transaction_may_end_in_another_context_than_it_began(book: Workbook) -> None:
    import contextvars

    block = in_a_generator(book)
    contextvars.copy_context().run(block.__enter__)
    with pytest.raises(TransactionEntangled):
        book.append("a.b", {})
    block.__exit__(None, None, None)
    assert book.append("a.b", {}) == 1


# --- forked children ---

CHILD = """
import os, sys
from torpor.workbook import Workbook
from torpor.base.errors import WorkbookClosed
book = Workbook.open(sys.argv[1])
book.append("a.b", {"n": 1})
writer = book.writer("tmp", "/w")
reader = book.reader("workspace", "/a") if book.list("workspace") else None
def refused(call):
    try:
        call()
    except WorkbookClosed:
        return True
    return False
try:
    with book.transaction():
        book.append("a.b", {"n": 2})
        with book.transaction():
            pid = os.fork()
        if pid == 0:
            ok = True
        book.append("a.b", {"n": 3})
except WorkbookClosed:
    assert pid == 0
if pid == 0:
    calls = [lambda: book.append("a.b", {}), lambda: list(book.events()), book.transaction, book.verify,
             lambda: book.write("tmp", "/a", b""), lambda: writer.write(b"x" * 3_000_000), lambda: book.last]
    ok = all([refused(call) for call in calls])
    book.close()
    sys.exit(0 if ok else 1)
_, status = os.waitpid(pid, 0)
assert status == 0, status
assert os.path.exists(sys.argv[1] + "-owner"), "the child gave the parent's claim away"
assert os.path.exists(sys.argv[1] + "-wal"), "the child closed the parent's connection"
book.append("a.b", {"n": 4})
print([event.body["n"] for event in book.events()])
book.close()
"""


def test_a_forked_child_can_neither_use_nor_end_what_its_parent_holds(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD, str(path)],
        capture_output=True, text=True, check=False, env={"PYTHONPATH": "src", "PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("[1, 2, 3, 4]\n", "")
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with Workbook.open(path, readonly=True) as book:
        assert book.verify().ok


def test_a_transaction_undone_by_sqlite_is_lost_and_says_so(book: Workbook) -> None:
    with pytest.raises(TransactionLost, match="nothing of it is kept"), book.transaction():
        book.append("a.b", {})
        book._store.db.execute("ROLLBACK")
        with pytest.raises(TransactionLost):
            book.write("tmp", "/a", b"")
    assert book.append("a.b", {}) == 1


def test_a_strangers_append_is_never_built_upon_wrongly(book: Workbook) -> None:
    book.append("a.b", {})
    head = book._store.head
    book.append("a.b", {})
    book._store.head = head  # as if somebody else had appended event 2
    with pytest.raises(InternalError, match="no constraint"):
        book.append("a.b", {})
    assert book.append("a.b", {}) == 3


def test_closing_in_the_middle_of_iterating_ends_the_iteration(path: Path) -> None:
    book = Workbook.open(path)
    for _ in range(501):
        book.append("a.b", {})
    events = book.events()
    next(events)
    book.close()
    with pytest.raises(WorkbookClosed):
        list(events)
