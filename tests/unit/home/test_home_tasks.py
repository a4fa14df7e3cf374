"""Many agents of one event loop: their commits share syncs and packs, and hold nobody up."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from torpor.base.clock import SystemClock
from torpor.base.errors import HeartbeatClosed, HeartbeatError
from torpor.heartbeat import Settings
from torpor.heartbeat.reading import Reader
from torpor.heartbeat.restore import restore_agent
from torpor.home import Home
from torpor.stores.objects import open_objects
from torpor.testing.portrait import portrait
from torpor.workbook import Workbook

AGENTS = [f"agent-{number}" for number in range(12)]


@pytest.fixture
def home(tmp_path: Path, store: Path) -> Iterator[Home]:
    settings = Settings(replica=store.as_uri(), drill_s=0, beat_s=0.05)
    with Home.open(tmp_path / "home", durability="heartbeat", heartbeat=settings) as found:
        for name in AGENTS:
            found.new(name)
        yield found


async def work(book: Workbook, number: int, *, durability: str | None = None) -> None:
    await book.append_async("note.added", {"number": number}, durability=durability)
    async with book.transaction(durability=durability):
        book.write("workspace", f"/{number}.bin", os.urandom(3000))
        book.memory.remember(f"fact {number}", source=f"urn:{number}")


def test_what_tasks_committed_as_replicated_is_in_the_replica(home: Home, store: Path, tmp_path: Path) -> None:
    packs = len(list(store.glob("log/*.pack")))

    async def main(books: list[Workbook]) -> None:
        await asyncio.gather(*(work(book, number, durability="replicated") for number, book in enumerate(books)))

    with ExitStack() as stack:
        books = [stack.enter_context(home.using(name)) for name in AGENTS]
        asyncio.run(main(books))
        reader = Reader(open_objects(store.as_uri(), str(tmp_path)))
        for name, book in zip(AGENTS, books, strict=True):
            target = tmp_path / f"{name}.workbook"
            restore_agent(reader, home.ledger.agent(name).id, str(target), clock=SystemClock())
            with Workbook.open(target, readonly=True) as restored:
                assert portrait(restored) == portrait(book)
    # Two commits of each of the twelve share a few packs.
    assert len(list(store.glob("log/*.pack"))) - packs < len(AGENTS)


def test_threads_and_tasks_write_to_the_same_agents(home: Home) -> None:
    async def main(books: list[Workbook]) -> None:
        for number in range(10):
            await asyncio.gather(*(work(book, number) for book in books))

    def also(books: list[Workbook]) -> None:
        for number in range(100, 150):
            books[number % len(books)].append("note.added", {"number": number})

    with ExitStack() as stack:
        books = [stack.enter_context(home.using(name)) for name in AGENTS[:4]]
        thread = threading.Thread(target=also, args=(books,))
        thread.start()
        asyncio.run(main(books))
        thread.join()
        for book in books:
            assert book.verify().problems == ()
        told = sum(event.kind == "note.added" for book in books for event in book.events())
    assert told == 4 * 10 + 50


def test_an_agent_can_sleep_while_others_commit(home: Home) -> None:
    async def busy(book: Workbook) -> None:
        for number in range(30):
            await work(book, number)

    async def sleepy() -> None:
        for number in range(5):
            with home.using("agent-1") as book:
                await work(book, number)
            await asyncio.to_thread(home.suspend, "agent-1")

    async def main(book: Workbook) -> None:
        await asyncio.gather(busy(book), sleepy())

    with home.using("agent-0") as book:
        asyncio.run(main(book))
        assert book.verify().problems == ()
    with home.using("agent-1") as book:
        assert book.verify().problems == ()
        assert sum(event.kind == "note.added" for event in book.events()) == 5


def test_closing_the_replica_tells_tasks_that_wait(tmp_path: Path) -> None:
    nowhere = tmp_path / "away"
    nowhere.mkdir()
    settings = Settings(replica=nowhere.as_uri(), drill_s=0, beat_s=0.05, retry_s=0.05)
    home = Home.open(tmp_path / "home", durability="heartbeat", heartbeat=settings)
    home.new("ada")
    beating = home.heartbeat
    assert beating is not None

    async def main(book: Workbook) -> None:
        await book.append_async("note.added", {"number": 1}, durability="replicated")
        nowhere.rename(tmp_path / "gone")  # the store is away from now on
        waiting = asyncio.create_task(book.append_async("note.added", {"number": 2}, durability="replicated"))
        while book.last < 2:  # noqa: ASYNC110  (it is committed at once, and then waits)
            await asyncio.sleep(0.01)
        shipper = beating._shipper
        assert shipper is not None
        await asyncio.to_thread(shipper.stop, flush=False)
        with pytest.raises(HeartbeatError) as told:
            await waiting
        assert isinstance(told.value, HeartbeatClosed)

    with home.using("ada") as book:
        asyncio.run(main(book))
    home.close()
