"""Events of an open transaction wait to be written together; nobody can tell, except by the time it takes."""

from __future__ import annotations

import threading

import apsw
import pytest

from torpor.base.errors import InternalError, TransactionLost
from torpor.workbook import Workbook
from torpor.workbook.store import PENDING_MAX


class Stop(Exception):
    """Leaves a block."""


def test_what_waits_is_seen_by_every_read_of_its_transaction(book: Workbook) -> None:
    with book.transaction():
        for number in range(PENDING_MAX + 10):
            assert book.append("a.b", {"n": number}) == number + 1
            if number % 20 == 0:
                assert book.last == number + 1
        assert [event.body["n"] for event in book.events()] == list(range(PENDING_MAX + 10))


def test_what_waits_in_a_block_that_fails_goes_with_it(book: Workbook) -> None:
    with book.transaction():
        book.append("a.b", {"n": 1})
        with pytest.raises(Stop), book.transaction():
            for _ in range(PENDING_MAX + 5):
                book.append("a.b", {})
            raise Stop
        assert book.append("a.b", {"n": 2}) == 2

    assert [event.body for event in book.events()] == [{"n": 1}, {"n": 2}]
    book.verify().require()


def test_what_waits_in_a_transaction_that_fails_is_never_written(book: Workbook) -> None:
    with pytest.raises(Stop), book.transaction():
        book.append("a.b", {"n": 1})
        raise Stop

    assert book.append("a.b", {"n": 2}) == 1
    book.verify().require()


def test_a_key_is_known_while_its_event_waits(book: Workbook) -> None:
    with book.transaction():
        assert book.append("a.b", {"n": 1}, key="k") == 1
        assert book.append("a.b", {"n": 1}, key="k") == 1
        assert book.append("a.b", {"n": 2}) == 2


def test_other_facts_of_the_transaction_follow_what_waits(book: Workbook) -> None:
    with book.transaction():
        book.append("a.b", {})
        book.write("workspace", "/a.txt", b"a")
        book.append("a.b", {})

    assert [event.kind for event in book.events()] == ["a.b", "file.written", "a.b"]
    book.verify().require()


@pytest.fixture
def refusing(book: Workbook) -> Workbook:
    """Return a workbook that a stranger's trigger keeps from taking events of the kind bad.one."""
    with apsw.Connection(book.path) as stranger:
        stranger.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON events WHEN NEW.kind = 'bad.one'"
            " BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    stranger.close()
    return book


def test_a_refusal_that_comes_with_the_commit_undoes_all(refusing: Workbook) -> None:
    with pytest.raises(InternalError), refusing.transaction():
        refusing.append("a.b", {})
        refusing.append("bad.one", {})

    assert refusing.last == 0
    assert refusing.append("a.b", {}) == 1


def test_a_refusal_that_comes_with_a_read_undoes_all(refusing: Workbook) -> None:
    def use_it_after_the_refusal() -> None:
        with refusing.transaction():
            refusing.append("bad.one", {})
            with pytest.raises(InternalError):
                list(refusing.events())
            with pytest.raises(TransactionLost):
                refusing.append("a.b", {})

    with pytest.raises(TransactionLost):
        use_it_after_the_refusal()

    assert refusing.last == 0


def test_another_thread_sees_what_waits_only_when_it_is_committed(book: Workbook) -> None:
    seen: list[int] = []
    with book.transaction():
        book.append("a.b", {})
        reader = threading.Thread(target=lambda: seen.append(book.last))
        reader.start()
        book.append("a.b", {})
    reader.join()

    assert seen == [2]
