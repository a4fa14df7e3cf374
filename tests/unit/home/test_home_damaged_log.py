"""A record goes bad in the log before it was shipped: it costs its agent nothing but that, and nobody else anything."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.unit.home.restore_kit import beating, settled
from tests.unit.home.test_home_heartbeat import wait_until
from tests.unit.home.test_home_young import given

from torpor.base.errors import HeartbeatReleased
from torpor.heartbeat import Kind, Record
from torpor.heartbeat.records import HEADER_BYTES, NOBODY, encoded_size
from torpor.heartbeat.segment import BLOCK_BYTES, segment_name
from torpor.home import Home, restore_all
from torpor.testing.portrait import portrait
from torpor.workbook import Workbook

NAMES = ("ada", "bea", "cyd")


@contextmanager
def away(store: Path, home: Home) -> Iterator[None]:
    """Have the store be away: what is done meanwhile waits in the log."""
    assert home.heartbeat is not None
    hidden = store.with_name("hidden")
    store.rename(hidden)
    with home.using("ada") as book:
        book.append("note.added", {"text": "the first that waits"})
    wait_until(lambda: home.heartbeat is not None and home.heartbeat.status().state == "failing")
    yield
    hidden.rename(store)


def spoil(home: Home, folder: Path, agent: str, kind: Kind, offset: int) -> int:
    """Turn a byte of the newest record of an agent and a kind; returns the record's number."""
    assert home.heartbeat is not None
    log = home.heartbeat._log
    assert len(log.segments()) == 1
    place, found = BLOCK_BYTES, None
    for record in log.scan():
        assert isinstance(record, Record)
        if record.agent == agent and record.kind is kind:
            found = place, record.lsn
        place += encoded_size(len(record.payload))
    assert found is not None
    path = folder / "heartbeat" / segment_name(log.segments()[0].number)
    descriptor = os.open(path, os.O_RDWR)
    try:
        byte = os.pread(descriptor, 1, found[0] + offset)
        os.pwrite(descriptor, bytes([byte[0] ^ 0xFF]), found[0] + offset)
    finally:
        os.close(descriptor)
    return found[1]


@pytest.mark.parametrize("offset", [HEADER_BYTES + 20, 12], ids=["payload", "header"])
@pytest.mark.parametrize("whose", ["awake", "asleep", "ledger"])
def test_what_goes_bad_before_it_is_shipped_stops_nobody(
    folder: Path, store: Path, tmp_path: Path, whose: str, offset: int
) -> None:
    """RP-16."""
    with beating(folder, store) as home:
        assert home.heartbeat is not None
        for name in NAMES:
            home.new(name)
        settled(home)
        with away(store, home):
            for name in NAMES:
                with home.using(name) as book:
                    book.append("note.added", {"text": f"{name}, while the store is away"})
            home.new("dan")
            home.heartbeat.beat()
            if whose == "asleep":
                home.suspend("bea")
            agent, kind = (NOBODY, Kind.LEDGER) if whose == "ledger" else (home.ledger.agent("bea").id, Kind.COMMIT)
            spoil(home, folder, agent, kind, offset)
            for name in NAMES:
                if whose != "asleep" or name != "bea":
                    with home.using(name) as book:
                        book.append("note.added", {"text": f"{name}, behind it"})
        wait_until(lambda: home.heartbeat is not None and home.heartbeat.status().state == "shipping")
        settled(home)
        assert home.heartbeat.status().lag_records == 0
        expected = {}
        for name in (*NAMES, "dan"):
            with home.reading(name) as book:
                expected[name] = portrait(book)
            assert given(store, home.ledger.agent(name).id, tmp_path / f"{name}.workbook") == expected[name]
    found = restore_all(tmp_path / "again", store.as_uri())
    assert not found.failed
    with Home.open(tmp_path / "again") as again:
        for name, there in expected.items():
            with again.reading(name) as book:
                assert portrait(book) == there


def test_what_went_bad_is_not_acknowledged_as_replicated(folder: Path, store: Path) -> None:
    """RP-14."""
    told: list[BaseException] = []

    def commit(book: Workbook) -> None:
        try:
            book.append("note.added", {"text": "wanted elsewhere"}, durability="replicated")
        except HeartbeatReleased as error:
            told.append(error)

    with beating(folder, store) as home:
        assert home.heartbeat is not None
        log = home.heartbeat._log
        home.new("ada")
        settled(home)
        with home.using("ada") as book:
            with away(store, home):
                before = log.durable
                thread = threading.Thread(target=commit, args=(book,))
                thread.start()
                wait_until(lambda: log.durable > before)
                lost = spoil(home, folder, home.ledger.agent("ada").id, Kind.COMMIT, HEADER_BYTES + 20)
            thread.join(60)
            assert [type(error) for error in told] == [HeartbeatReleased]
            assert isinstance(told[0], HeartbeatReleased)
            assert told[0].asked == lost
            book.append("note.added", {"text": "the next"}, durability="replicated")
            assert [event.body["text"] for event in book.events()][-2:] == ["wanted elsewhere", "the next"]
