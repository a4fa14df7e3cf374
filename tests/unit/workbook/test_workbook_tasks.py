"""Commits by tasks: the same as by threads, but that the event loop goes on while they are made durable."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.workbook.log_kit import MemoryLog, Replica

from torpor.base.errors import DurabilityRefused, EventRefused, HeartbeatFailed, KeyReused
from torpor.workbook import Level, Workbook


@pytest.fixture
def log(tmp_path: Path) -> MemoryLog:
    return MemoryLog(str(tmp_path), reach=Level.REPLICATED)


@pytest.fixture
def book(tmp_path: Path, log: MemoryLog) -> Iterator[Workbook]:
    with Workbook.open(tmp_path / "ada.workbook", durability=log.durability()) as found:
        found.append("note.added", {"n": 0})
        log.waited.clear()
        yield found


def test_an_event_is_appended_and_waited_for(book: Workbook, log: MemoryLog) -> None:
    seq = asyncio.run(book.append_async("note.added", {"n": 1}, span="s", parent=1))
    event = book.journal.event(seq)
    assert event is not None
    assert (event.seq, event.body, event.span, event.parent) == (2, {"n": 1}, "s", 1)
    assert log.waited == [(log.kept[-1].txn, Level.DURABLE)]
    assert book.verify().problems == ()


def test_a_stronger_class_is_waited_for(book: Workbook, log: MemoryLog) -> None:
    asyncio.run(book.append_async("note.added", {}, durability="replicated"))
    asyncio.run(book.append_async("note.added", {}, key="k", durability="replicated"))
    assert [level for _, level in log.waited] == [Level.REPLICATED, Level.REPLICATED]


def test_the_same_event_under_the_same_key_is_appended_once(book: Workbook) -> None:
    first = asyncio.run(book.append_async("note.added", {"n": 1}, key="k"))
    assert asyncio.run(book.append_async("note.added", {"n": 1}, key="k")) == first
    with pytest.raises(KeyReused):
        asyncio.run(book.append_async("note.added", {"n": 2}, key="k"))
    assert [event.seq for event in book.events()] == [1, 2]


def test_what_was_appended_under_a_key_before_is_acknowledged_once_it_is_durable(
    book: Workbook, log: MemoryLog
) -> None:
    first = asyncio.run(book.append_async("note.added", {"n": 1}, key="k"))
    txn = log.kept[-1].txn
    log.waited.clear()
    assert book.append("note.added", {"n": 1}, key="k") == first
    assert asyncio.run(book.append_async("note.added", {"n": 1}, key="k", durability="replicated")) == first
    assert log.waited == [(txn, Level.DURABLE), (txn, Level.REPLICATED)]
    log.waits_fail = True
    with pytest.raises(HeartbeatFailed):
        book.append("note.added", {"n": 1}, key="k")


def test_what_is_refused_is_not_appended(book: Workbook) -> None:
    with pytest.raises(EventRefused):
        asyncio.run(book.append_async("no kind", {}))
    with pytest.raises(EventRefused):
        asyncio.run(book.append_async("note.added", {}, parent=17))
    with pytest.raises(DurabilityRefused):
        asyncio.run(book.append_async("note.added", {}, durability="eternal"))
    assert [event.seq for event in book.events()] == [1]


def test_a_block_is_committed_when_it_ends_and_then_waited_for(book: Workbook, log: MemoryLog) -> None:
    async def main() -> None:
        async with book.transaction(durability="replicated"):
            book.write("workspace", "/a.txt", b"a")
            seq = await book.append_async("note.added", {"n": 1})
            async with book.transaction():
                book.append("note.added", {"n": 2})
            assert log.waited == []
            assert seq == 3

    asyncio.run(main())
    assert log.waited == [(log.kept[-1].txn, Level.REPLICATED)]
    assert [event.body.get("n") for event in book.events()] == [0, None, 1, 2]


def test_a_block_that_fails_leaves_nothing(book: Workbook, log: MemoryLog) -> None:
    async def main() -> None:
        async with book.transaction():
            with pytest.raises(LookupError):
                async with book.transaction():
                    book.append("note.added", {"n": 1})
                    raise LookupError
            book.append("note.added", {"n": 2})
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        asyncio.run(main())
    assert log.waited == []
    assert [event.body for event in book.events()] == [{"n": 0}]


def test_other_tasks_commit_while_one_waits(book: Workbook, log: MemoryLog) -> None:
    async def write(number: int) -> int:
        return await book.append_async("note.added", {"n": number})

    async def main() -> list[int]:
        return await asyncio.gather(*(write(number) for number in range(1, 21)))

    assert asyncio.run(main()) == list(range(2, 22))
    txns = [kept.txn for kept in log.kept]
    assert txns == sorted(txns)
    # All were committed before the first was waited for: none waited with the workbook's lock.
    assert [txn for txn, _ in log.waited] == txns[-20:]


def test_a_log_that_fails_is_told_and_the_event_stands(book: Workbook, log: MemoryLog) -> None:
    log.waits_fail = True
    with pytest.raises(HeartbeatFailed):
        asyncio.run(book.append_async("note.added", {"n": 1}))
    with pytest.raises(HeartbeatFailed):
        asyncio.run(book.append_async("note.added", {"n": 2}, key="k"))
    log.waits_fail = False
    assert [event.body["n"] for event in book.events()] == [0, 1, 2]
    assert book.verify().problems == ()


def test_a_replica_follows(tmp_path: Path, book: Workbook, log: MemoryLog) -> None:
    replica = Replica(tmp_path / "ada.workbook", log)
    replica.taken = len(log.kept)

    async def main() -> None:
        for number in range(5):
            await book.append_async("note.added", {"n": number})
            async with book.transaction():
                book.memory.remember(f"fact {number}")

    asyncio.run(main())
    replica.follow()
    replica.stop()


def test_without_a_log_a_thread_commits_and_the_loop_goes_on(tmp_path: Path) -> None:
    went_on = 0
    where: list[str] = []

    async def tick() -> None:
        nonlocal went_on
        while True:
            went_on += 1
            await asyncio.sleep(0)

    async def main(book: Workbook) -> None:
        ticking = asyncio.create_task(tick())
        for number in range(20):
            assert await book.append_async("note.added", {"n": number}) == number + 1
            where.append(threading.current_thread().name)
        async with book.transaction():
            assert await book.append_async("note.added", {}) == 21
        ticking.cancel()

    with Workbook.open(tmp_path / "ada.workbook") as book:
        asyncio.run(main(book))
        assert went_on > 20
        assert [event.seq for event in book.events()] == list(range(1, 22))
    assert set(where) == {"MainThread"}
