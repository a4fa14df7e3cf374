"""Agents that were made just now: their records are never in the replica without what they build on.

In all of these the beat is held up, as a long one would do it: only what is done at once is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.unit.home.kit import fill
from tests.unit.home.restore_kit import beating, here, settled
from tests.unit.home.test_home_heartbeat import wait_until

from torpor.base.clock import SystemClock
from torpor.base.errors import HeartbeatFailed
from torpor.heartbeat import Kind, Record, rounds, snapping
from torpor.heartbeat.reading import Reader
from torpor.heartbeat.restore import restore_agent
from torpor.home import Home
from torpor.stores.objects import open_objects
from torpor.testing import fail_at
from torpor.testing.portrait import Portrait, portrait
from torpor.workbook import Workbook

MANY = 300


@contextmanager
def held_up(home: Home) -> Iterator[None]:
    """Have no beat begin."""
    assert home.heartbeat is not None
    with home.heartbeat._rounds._beating:
        yield


def shipped(home: Home) -> None:
    """Wait until the replica has what is durable now, and nothing else."""
    assert home.heartbeat is not None
    shipper = home.heartbeat._shipper
    assert shipper is not None
    shipper.wait(home.heartbeat._log.durable, 60)


def given(store: Path, agent: str, target: Path) -> Portrait:
    """Return what the replica gives of an agent, which must be all that it knows of."""
    reader = Reader(open_objects(store.as_uri(), str(target.parent)))
    restored = restore_agent(reader, agent, str(target), clock=SystemClock())
    assert restored.complete, restored.reason
    with Workbook.open(target, readonly=True) as book:
        assert book.verify().problems == ()
        return portrait(book)


def test_a_burst_of_new_agents_is_in_the_replica_with_all_that_they_did(
    folder: Path, store: Path, tmp_path: Path
) -> None:
    with beating(folder, store) as home:
        home.new("first")
        with home.using("first") as book:
            fill(book)
        home.suspend("first")
        home.templates.create("kind", "first")
        settled(home)
        with held_up(home):
            clones = home.templates.clone("kind", tenant="acme", count=MANY)
            names = [clone.name for clone in clones[: MANY // 2]] + [f"new{number}" for number in range(MANY // 4)]

            def work(name: str) -> None:
                if name.startswith("new"):
                    home.new(name)
                with home.using(name) as book:
                    book.append("note.added", {"by": name})
                home.suspend(name)

            with ThreadPoolExecutor(8) as threads:
                list(threads.map(work, names))
            forked = home.fork("first", new="forked")
            home.export("first", tmp_path / "out.workbook", with_memory=True)
            imported = home.import_(tmp_path / "out.workbook", "imported")
            with home.using("first") as book:
                book.append("note.added", {"makes": "durable what came before it"})
            shipped(home)
            made = [*clones, forked, imported, *(home.ledger.agent(name) for name in names[MANY // 2 :])]
            for number, agent in enumerate(made):
                living = home.ledger.agent(agent.name)
                with Workbook.open(here(home, living.name), readonly=True) as book:
                    expected = portrait(book)
                assert given(store, agent.id, tmp_path / f"{number}.workbook") == expected


def test_a_record_never_comes_before_its_snapshot(folder: Path, store: Path) -> None:
    with beating(folder, store) as home, ThreadPoolExecutor(8) as threads:
        assert home.heartbeat is not None

        def work(number: int) -> None:
            home.new(f"a{number}")
            with home.using(f"a{number}") as book:
                book.append("note.added", {})

        list(threads.map(work, range(40)))
        snapped: set[tuple[str, int]] = set()
        count = 0
        for record in home.heartbeat._log.scan():
            assert isinstance(record, Record)
            if record.kind is Kind.SNAPSHOT:
                snapped.add((record.agent, record.life))
            elif record.kind is Kind.COMMIT:
                count += 1
                assert (record.agent, record.life) in snapped
        assert count == 40


def test_whoever_is_too_large_is_left_to_the_beat(
    folder: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapping, "IMAGE_MAX", 1000)
    with beating(folder, store) as home:
        assert home.heartbeat is not None
        with held_up(home):
            agent = home.new("ada").id
            with home.using("ada") as book:
                book.append("note.added", {"text": "soon"})
                expected = portrait(book)
            assert not home.heartbeat.covered(agent)
        wait_until(lambda: home.heartbeat is not None and home.heartbeat.covered(agent))
        home.heartbeat.flush()
        assert given(store, agent, tmp_path / "ada.workbook") == expected


def test_whoever_cannot_be_copied_just_now_is_made_all_the_same(folder: Path, store: Path) -> None:
    with beating(folder, store) as home:
        assert home.heartbeat is not None
        with fail_at("keeper.copied", HeartbeatFailed(path="", reason="a test")):
            agent = home.new("ada").id
        wait_until(lambda: home.heartbeat is not None and home.heartbeat.covered(agent))


def test_one_who_cannot_be_read_keeps_nobody_from_his_turn(
    folder: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A beat has time for one snapshot; the first in the order of ids is a file that is no workbook."""
    with Home.open(folder) as home:
        agents = sorted((home.new(f"a{number}").id, f"a{number}") for number in range(4))
        here(home, agents[0][1]).write_bytes(b"no workbook" * 1000)
    monkeypatch.setattr(rounds, "SNAPSHOT_SECONDS", 0.0)
    with beating(folder, store) as home:
        for agent, _ in agents[1:]:
            wait_until(lambda agent=agent: home.heartbeat is not None and home.heartbeat.covered(agent))  # type: ignore[misc]
