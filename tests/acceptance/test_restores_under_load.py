"""Fifty restores to moments by chance, while the agents go on: each is, bit for bit, what lived at that transaction."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from torpor.base.clock import SystemClock
from torpor.heartbeat import Settings
from torpor.heartbeat.reading import Reader
from torpor.heartbeat.restore import Point, restore_agent
from torpor.home import Home
from torpor.stores.objects import open_objects
from torpor.testing import Seeded
from torpor.workbook import Workbook, digest

NAMES = ("ada", "bea", "cyd")
RESTORES = 50
BEFORE = 12
"""Transactions of each agent before the first restore."""


class Load:
    """One agent at work in a thread of its own; what it held after each transaction is kept by number."""

    def __init__(self, home: Home, name: str, seed: int) -> None:
        self.home = home
        self.name = name
        self.chance = Seeded(seed)
        self.states: dict[int, str] = {}
        self.begun = threading.Event()
        self.ending = threading.Event()
        self.agent = home.new(name).id
        self.path = Path(home.path) / home.ledger.agent(name).file
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        try:
            turn = 0
            with self.home.using(self.name) as book:
                book.append("note.added", {"turn": 0}, durability="replicated")
            while not self.ending.is_set():
                turn += 1
                with self.home.using(self.name) as book:
                    self.do(book, turn)
                    # Nobody else writes: what is there now is what the last transaction left.
                    standing, found = digest(self.path)
                self.states[standing.txn] = found
                if turn == BEFORE:
                    self.begun.set()
                if turn % 15 == 0:
                    self.home.suspend(self.name)
        except BaseException as error:  # noqa: BLE001  (the test raises it)
            self.error = error
        finally:
            self.begun.set()

    def do(self, book: Workbook, turn: int) -> None:
        match self.chance.below(8):
            case 0:
                book.write("workspace", f"/{turn % 9}.bin", os.urandom(20_000))
            case 1:
                book.memory.remember(f"fact {turn}", source=f"urn:{turn % 5}")
            case 2 if book.last > 4:
                book.rewind(1 + self.chance.below(book.last - 1))
            case 3:
                # No record can say this: from here on there is something to restore once the replica has a snapshot.
                with book.transaction(durability="replicated"):
                    book._store.execute("CREATE TABLE IF NOT EXISTS mine (a)")
                    book._store.execute("ALTER TABLE mine RENAME TO other" if turn % 2 else "CREATE TABLE mine2 (a)")
                    book._store.execute("DROP TABLE IF EXISTS other")
                    book._store.execute("DROP TABLE IF EXISTS mine2")
                    book.append("note.added", {"schema": turn})
            case 4:
                with book.transaction():
                    book.write("tmp", "/scratch", b"t" * turn)
                    book.spend.book(turn, "usd", source="wallet", target="models/x", key=f"k{turn}")
                    book.append("note.added", {"several": turn})
            case _:
                book.append("note.added", {"turn": turn})

    def end(self) -> None:
        self.ending.set()
        self.thread.join(60)
        assert not self.thread.is_alive()
        if self.error is not None:
            raise self.error


@pytest.fixture
def loads(tmp_path: Path) -> Iterator[list[Load]]:
    (tmp_path / "replica").mkdir()
    settings = Settings(replica=(tmp_path / "replica").as_uri(), drill_s=0, beat_s=0.05)
    with Home.open(tmp_path / "home", durability="heartbeat", heartbeat=settings) as home:
        working = [Load(home, name, seed) for seed, name in enumerate(NAMES)]
        try:
            yield working
        finally:
            for load in working:
                load.end()


def test_fifty_restores_under_load_are_bit_exact(loads: list[Load], tmp_path: Path) -> None:
    chance = Seeded(11)
    beating = loads[0].home.heartbeat
    assert beating is not None
    reader = Reader(open_objects((tmp_path / "replica").as_uri(), str(tmp_path)))
    for load in loads:
        assert load.begun.wait(60)
    earlier = 0
    for number in range(RESTORES):
        load = loads[chance.below(len(loads))]
        known = sorted(load.states)
        txn = known[chance.below(len(known))]
        beating.flush()
        target = tmp_path / f"{number}.workbook"
        found = restore_agent(reader, load.agent, str(target), at=Point(txn=txn), clock=SystemClock())
        assert (found.txn, digest(target)[1]) == (txn, load.states[txn]), found
        earlier += txn < max(load.states)
        target.unlink()
    assert earlier > RESTORES // 2, "most were of the past"
