"""The store is away until the log has let records go: what the replica then lacks of the sleeping, it says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.home.restore_kit import beating, settings, settled
from tests.unit.home.test_home_heartbeat import wait_until
from tests.unit.home.test_home_young import held_up, shipped

from torpor.base.clock import SystemClock
from torpor.base.errors import ReplicaLacks
from torpor.heartbeat import Kind, Record
from torpor.heartbeat.reading import Reader
from torpor.heartbeat.restore import Restored, restore_agent
from torpor.home import Home
from torpor.stores.objects import open_objects
from torpor.testing.portrait import portrait
from torpor.workbook import Workbook, digest

ROOT = Path(__file__).parents[3]
BOUND = 48 << 20


def bounded(folder: Path, store: Path, bound: int = BOUND) -> Home:
    """Open a home whose log lets go soon."""
    return Home.open(folder, durability="heartbeat", heartbeat=settings(store, backlog_max=bound, retry_s=0.1))


def before(home: Home) -> str:
    """Have two agents in the replica; returns the id of bea."""
    for name in ("ada", "bea"):
        home.new(name)
    with home.using("bea") as book:
        with book.transaction():
            book._store.execute("CREATE TABLE mine (a)")
        book.append("note.added", {"text": "shipped"})
    home.suspend("bea")
    settled(home)
    return home.ledger.agent("bea").id


def with_an_event(book: Workbook) -> None:
    book.append("note.added", {"text": "not shipped"})


def without_an_event(book: Workbook) -> None:
    with book.transaction():
        book._store.execute("INSERT INTO mine VALUES ('not shipped')")


def one_pack_waits(home: Home) -> None:
    """Have the next pack be full: what comes now waits in the log alone."""
    assert home.heartbeat is not None
    with home.using("ada") as book:
        book.write("workspace", "/large", os.urandom(5 << 20))
    wait_until(lambda: home.heartbeat is not None and home.heartbeat.status().state == "failing")


def fill_the_log(home: Home) -> None:
    """Have ada do so much that the log lets go of what bea did."""
    assert home.heartbeat is not None
    log = home.heartbeat._log
    last = log.last
    with home.using("ada") as book:
        for _ in range(60):
            book.write("workspace", "/large", os.urandom(5 << 20))
            home.heartbeat.beat()
            if log.first > last:
                return
    raise AssertionError("it lets nothing go")


def given(store: Path, agent: str, target: Path) -> Restored:
    target.unlink(missing_ok=True)
    reader = Reader(open_objects(store.as_uri(), str(target.parent)))
    return restore_agent(reader, agent, str(target), clock=SystemClock())


@pytest.mark.parametrize("act", [with_an_event, without_an_event])
def test_a_sleeper_whose_last_deeds_were_let_go_is_never_called_whole_without_them(
    folder: Path, store: Path, tmp_path: Path, act: Callable[[Workbook], None]
) -> None:
    """RP-16."""
    away, target = tmp_path / "away", tmp_path / "bea.workbook"
    with bounded(folder, store) as home:
        agent = before(home)
        store.rename(away)
        one_pack_waits(home)
        with home.using("bea") as book:
            act(book)
            expected = portrait(book)
        home.suspend("bea")
        fill_the_log(home)
        with held_up(home):  # so nobody takes a new snapshot of her yet
            away.rename(store)
            shipped(home)
            found = given(store, agent, target)
            assert not found.complete
            assert "life" in found.reason
        wait_until(lambda: home.heartbeat is not None and home.heartbeat.covered(agent))
        home.heartbeat.flush()  # type: ignore[union-attr]
        found = given(store, agent, target)
        assert found.complete, found.reason
        assert digest(target) == digest(folder / "agents" / "bea.workbook")
        with Workbook.open(target, readonly=True) as book:
            assert portrait(book) == expected


def test_nor_if_the_process_dies_then_and_the_index_is_lost(folder: Path, store: Path, tmp_path: Path) -> None:
    with beating(folder, store) as home:
        agent = before(home)
    away, target = tmp_path / "away", tmp_path / "bea.workbook"
    store.rename(away)
    script = """
import os, signal, sys
from pathlib import Path
from tests.unit.home.test_home_backlog import bounded, fill_the_log, one_pack_waits, with_an_event
with bounded(Path(sys.argv[1]), Path(sys.argv[2])) as home:
    one_pack_waits(home)
    with home.using("bea") as book:
        with_an_event(book)
    home.suspend("bea")
    fill_the_log(home)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    words = [sys.executable, "-c", script, str(folder), str(store)]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode < 0, done.stderr
    for path in (folder / "heartbeat").glob("index.db*"):
        path.unlink()
    with bounded(folder, store) as home:
        assert home.heartbeat is not None
        with held_up(home):
            away.rename(store)
            shipped(home)
            found = given(store, agent, target)
            assert found.complete == (digest(target) == digest(folder / "agents" / "bea.workbook"))
        wait_until(lambda: home.heartbeat is not None and home.heartbeat.covered(agent))
        home.heartbeat.flush()
        assert given(store, agent, target).complete
        assert digest(target) == digest(folder / "agents" / "bea.workbook")


def test_who_was_deleted_meanwhile_stays_deleted(folder: Path, store: Path, tmp_path: Path) -> None:
    """RP-12, RP-16: what said so was let go."""
    away = tmp_path / "away"
    with bounded(folder, store, 80 << 20) as home:
        assert home.heartbeat is not None
        agent = before(home)
        store.rename(away)
        one_pack_waits(home)
        home.freeze("bea")
        home.archive("bea")
        home.delete("bea")
        home.heartbeat.beat()
        assert Kind.GONE in [record.kind for record in home.heartbeat._log.scan() if isinstance(record, Record)]
        fill_the_log(home)
        away.rename(store)
        home.heartbeat.flush()
        home.heartbeat.flush()
        with pytest.raises(ReplicaLacks, match="deleted"):
            given(store, agent, tmp_path / "bea.workbook")
