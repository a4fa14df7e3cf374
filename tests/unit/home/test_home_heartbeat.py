"""A home whose agents share one log: what survives a kill and a power cut, who has the log, who is quarantined."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.unit.home.kit import fill

from torpor.base.clock import SystemClock
from torpor.base.errors import AgentQuarantined, DurabilityRefused, HeartbeatFailed, NotRecovered, StoreRefused
from torpor.heartbeat import Log, Settings, heartbeat, read_status, recovery
from torpor.heartbeat.reading import Reader
from torpor.heartbeat.restore import NOW, Point, restore_agent
from torpor.home import Home
from torpor.home.beating import LedgerRoster
from torpor.ledger import SqliteLedger
from torpor.stores.objects import open_objects
from torpor.testing.logdisk import BrokenLogDisk, LogFault
from torpor.testing.portrait import Portrait, portrait
from torpor.workbook import Workbook, awaits

ROOT = Path(__file__).parents[3]
QUIET = Settings(drill_s=0)

WRITER = """
import os, signal, sys
from torpor.home import Home
from torpor.home.beating import LedgerRoster
from tests.unit.home.kit import fill

home = Home.open(sys.argv[1], durability="heartbeat")
for name in sys.argv[2:]:
    home.new(name)
    with home.using(name) as book:
        fill(book, name)
        for number in range(20):
            book.append("note.added", {"number": number})
            book.write("workspace", f"/{number}.txt", os.urandom(3000))
        print(name, book.last, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(folder: Path, *names: str) -> dict[str, int]:
    """Have a process write agents in class `heartbeat` and die; returns the last acknowledged event of each."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    words = [sys.executable, "-c", WRITER, str(folder), *names]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return {name: int(last) for name, last in (line.split() for line in done.stdout.splitlines())}


def cut_power(folder: Path) -> None:
    """Take from the agents' files what was never synced, and make it another boot."""
    for path in (folder / "agents").iterdir():
        if path.name.endswith(("-wal", "-shm")):
            path.unlink()
        elif path.name.endswith("-mark"):
            path.write_text(json.dumps({**json.loads(path.read_text()), "boot": "another"}))


@pytest.fixture
def beating(folder: Path) -> Iterator[Home]:
    with Home.open(folder, durability="heartbeat", heartbeat=QUIET) as home:
        yield home


def whole(home: Home, name: str, last: int) -> None:
    with home.reading(name) as book:
        assert book.last == last
        assert book.verify().problems == ()
        assert len(book.read("workspace", "/19.txt")) == 3000


def test_what_was_acknowledged_survives_a_kill(folder: Path) -> None:
    written = killed(folder, "ada", "bea")
    with Home.open(folder, durability="heartbeat", heartbeat=QUIET) as home:
        assert home.heartbeat is not None
        for name, last in written.items():
            whole(home, name, last)


@pytest.mark.parametrize("durability", ["heartbeat", "file"])
def test_what_was_acknowledged_survives_a_power_cut(folder: Path, durability: str) -> None:
    written = killed(folder, "ada", "bea")
    cut_power(folder)
    settings = QUIET if durability == "heartbeat" else None
    with Home.open(folder, durability=durability, heartbeat=settings) as home:
        for name, last in written.items():
            whole(home, name, last)
            with home.using(name) as book:
                assert book.append("note.added", {"after": "the cut"}) == last + 1
    assert sorted(path.name for path in (folder / "agents").iterdir()) == ["ada.workbook", "bea.workbook"]
    with Home.open(folder) as home:
        for name, last in written.items():
            whole(home, name, last + 1)


def test_nobody_reads_what_a_power_cut_has_set_back(folder: Path) -> None:
    killed(folder, "ada")
    cut_power(folder)
    path = folder / "agents" / "ada.workbook"
    for readonly in (True, False):
        with pytest.raises(NotRecovered) as caught:
            Workbook.open(path, readonly=readonly)
        assert caught.value.home == str(folder)


def test_recovering_twice_is_recovering_once(folder: Path) -> None:
    written = killed(folder, "ada")
    cut_power(folder)
    with Home.open(folder, durability="heartbeat", heartbeat=QUIET) as home:
        assert home.heartbeat is not None
        assert home.heartbeat.recovered.applied > 0
    with Home.open(folder, durability="heartbeat", heartbeat=QUIET) as home:
        assert home.heartbeat is not None
        assert (home.heartbeat.recovered.applied, home.heartbeat.recovered.agents) == (0, 0)
        whole(home, "ada", written["ada"])


def test_one_damaged_agent_is_quarantined_and_the_others_go_on(folder: Path) -> None:
    written = killed(folder, "ada", "bea", "cyd")
    cut_power(folder)
    file = folder / "agents" / "bea.workbook"
    file.write_bytes(file.read_bytes()[:4096] + b"x" * 4096 + file.read_bytes()[8192:])
    before = file.read_bytes()
    with Home.open(folder, durability="heartbeat", heartbeat=QUIET) as home:
        assert home.heartbeat is not None
        (found,) = home.heartbeat.recovered.quarantined
        assert found.agent == home.ledger.agent("bea").id
        assert file.read_bytes() == before
        for name in ("ada", "cyd"):
            whole(home, name, written[name])
        with pytest.raises(AgentQuarantined):
            home.wake("bea")
        assert [one.agent for one in home.heartbeat.status().quarantined] == [found.agent]
        (kept,) = (folder / "heartbeat" / "quarantined").glob(f"{found.agent}-*.records")
        assert kept.stat().st_size > 60_000
    told = read_status(str(folder))
    assert told is not None
    assert [one.agent for one in told.quarantined] == [found.agent]
    with (
        Home.open(folder, durability="heartbeat", heartbeat=QUIET) as home,
        pytest.raises(AgentQuarantined),
    ):
        home.wake("bea")


def test_a_damaged_record_is_named_and_costs_one_agent_only(folder: Path) -> None:
    written = killed(folder, "ada", "bea", "cyd")
    with closing(SqliteLedger.open(folder / "ledger.db")) as ledger:
        agent = ledger.agent("bea").id
    cut_power(folder)
    (segment,) = (folder / "heartbeat").glob("*.segment")
    content = segment.read_bytes()
    at = content.index(b"note.added", content.index(b"bea" * 100))
    segment.write_bytes(content[:at] + b"X" + content[at + 1 :])
    with Home.open(folder, durability="heartbeat", heartbeat=QUIET) as home:
        assert home.heartbeat is not None
        (found,) = home.heartbeat.recovered.quarantined
        assert (found.agent, found.segment) == (agent, segment.name)
        assert found.offset < at
        assert [damage.offset for damage in home.heartbeat.recovered.damages] == [found.offset]
        with pytest.raises(AgentQuarantined, match=f"byte {found.offset:,} of segment"):
            home.wake("bea")
        for name in ("ada", "cyd"):
            whole(home, name, written[name])


def test_a_lost_index_costs_nothing_but_time(folder: Path) -> None:
    written = killed(folder, "ada")
    cut_power(folder)
    index = folder / "heartbeat" / "index.db"
    index.write_bytes(b"no index at all" * 500)
    with Home.open(folder, durability="heartbeat", heartbeat=QUIET) as home:
        whole(home, "ada", written["ada"])
    index.unlink()
    with Home.open(folder, durability="heartbeat", heartbeat=QUIET) as home:
        with home.using("ada") as book:
            book.append("note.added", {"after": "all"})
        whole(home, "ada", written["ada"] + 1)


def test_a_second_process_works_beside_it_in_class_file(folder: Path, beating: Home) -> None:
    beating.new("ada")
    with beating.using("ada") as book:
        fill(book)
    beating.suspend("ada")
    script = """
import sys
from torpor.home import Home
from torpor.home.beating import LedgerRoster
with Home.open(sys.argv[1], durability="heartbeat") as home:
    assert home.heartbeat is None
    with home.using("ada") as book:
        print(book.append("note.added", {"by": "another"}))
    home.suspend("ada")
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    words = [sys.executable, "-c", script, str(folder)]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    with beating.using("ada") as book:
        assert book.last == int(done.stdout)
        book.append("note.added", {"by": "us"})
        assert book.verify().problems == ()


def test_a_clean_end_leaves_nothing_to_recover(folder: Path) -> None:
    with Home.open(folder, durability="heartbeat", heartbeat=QUIET) as home:
        home.new("ada")
        with home.using("ada") as book:
            fill(book)
            expected = portrait(book)
        assert (folder / "heartbeat" / "running").exists()
    assert not (folder / "heartbeat" / "running").exists()
    assert [path.name for path in (folder / "agents").iterdir()] == ["ada.workbook"]
    with Workbook.open(folder / "agents" / "ada.workbook", readonly=True) as book:
        assert portrait(book) == expected
    told = read_status(str(folder))
    assert told is not None
    assert (told.awake, told.lag_records) == (0, 0)


def test_the_log_is_short_again_once_the_agents_are_settled(folder: Path) -> None:
    with Home.open(folder, durability="heartbeat", heartbeat=QUIET) as home:
        assert home.heartbeat is not None
        for name in ("ada", "bea"):
            home.new(name)
        with home.using("ada") as ada, home.using("bea") as bea:
            bea.append("note.added", {"only": "one, at the beginning"})
            for number in range(12):
                ada.write("workspace", f"/{number}", os.urandom(8 << 20))
            for _ in range(3):
                home.heartbeat.beat()
            assert home.heartbeat.status().backlog < 80 << 20
        assert len(list((folder / "heartbeat").glob("*.segment"))) < 6


@pytest.mark.parametrize("durability", ["", "none", "replicated"])
def test_a_class_that_cannot_be_given_is_refused(folder: Path, durability: str) -> None:
    with pytest.raises(DurabilityRefused):
        Home.open(folder, durability=durability)
    assert not folder.exists()


def test_a_replica_needs_a_heartbeat_and_an_address(folder: Path) -> None:
    with pytest.raises(DurabilityRefused):
        Home.open(folder, heartbeat=Settings(replica="file:///srv"))
    with pytest.raises(StoreRefused):
        Home.open(folder, durability="heartbeat", heartbeat=Settings(replica="ftp://x"))
    with Home.open(folder, durability="heartbeat", heartbeat=QUIET) as home:
        home.new("ada")


# --- the replica


def shipping(store: Path, **more: Any) -> Settings:
    return Settings(replica=store.as_uri(), drill_s=0, beat_s=0.05, **more)


def given(store: Path, home: Home, name: str, target: Path, at: Point = NOW) -> Portrait:
    """Return what the replica gives of an agent."""
    assert home.heartbeat is not None
    reader = Reader(open_objects(store.as_uri(), home.path))
    restore_agent(reader, home.ledger.agent(name).id, str(target), at=at, clock=SystemClock())
    with Workbook.open(target, readonly=True) as book:
        assert book.verify().problems == ()
        return portrait(book)


def test_the_replica_gives_back_what_was_shipped(folder: Path, store: Path, tmp_path: Path) -> None:
    with Home.open(folder, durability="heartbeat", heartbeat=shipping(store)) as home:
        assert home.heartbeat is not None
        home.new("ada")
        seen = []
        with home.using("ada") as book:
            book.append("note.added", {"from": "here on the replica has everything"}, durability="replicated")
            for number in range(5):
                fill_more(book, number)
                seen.append((book.last, portrait(book)))
            book.rewind(seen[1][0])
            seen.append((book.last, portrait(book)))
            home.heartbeat.flush()
            for at, expected in seen:
                assert given(store, home, "ada", tmp_path / f"{at}.workbook", Point(seq=at)) == expected
        found = home.heartbeat.drill(5)
        assert found is not None
        assert [one.reason for one in found.agents] == [""]


def fill_more(book: Workbook, number: int) -> None:
    """Do something of several kinds; the last thing is one of the journal, by which the moment can be named."""
    book.write("tmp", "/scratch", b"x" * number)
    book.append("note.added", {"number": number})
    book.write("workspace", f"/{number}.bin", os.urandom(5000))
    book.memory.remember(f"fact {number}", source=f"urn:{number}")


def test_a_replicated_commit_is_in_the_replica_when_it_returns(folder: Path, store: Path, tmp_path: Path) -> None:
    with Home.open(folder, durability="replicated", heartbeat=shipping(store)) as home:
        home.new("ada")
        with home.using("ada") as book:
            for number in range(3):
                fill_more(book, number)
                expected = portrait(book)
                assert given(store, home, "ada", tmp_path / f"{number}.workbook") == expected


def test_an_agent_from_before_the_heartbeat_gets_into_the_replica(folder: Path, store: Path, tmp_path: Path) -> None:
    with Home.open(folder) as home:
        home.new("ada")
        with home.using("ada") as book:
            fill(book)
            expected = portrait(book)
        home.suspend("ada")
    with Home.open(folder, durability="heartbeat", heartbeat=shipping(store)) as home:
        assert home.heartbeat is not None
        agent = home.ledger.agent("ada").id
        wait_until(lambda: home.heartbeat is not None and home.heartbeat.covered(agent))
        home.heartbeat.flush()
        assert given(store, home, "ada", tmp_path / "ada.workbook") == expected


def test_what_others_did_to_a_sleeping_agent_is_noticed(folder: Path, store: Path, tmp_path: Path) -> None:
    with Home.open(folder, durability="heartbeat", heartbeat=shipping(store)) as home:
        assert home.heartbeat is not None
        home.new("ada")
        with home.using("ada") as book:
            fill(book)
        home.suspend("ada")
        with Workbook.open(folder / "agents" / "ada.workbook") as book:
            book.append("note.added", {"by": "a stranger"})
        with home.using("ada") as book:
            book.append("note.added", {"by": "us"}, durability="replicated")
            assert given(store, home, "ada", tmp_path / "ada.workbook") == portrait(book)


def test_what_leaves_the_home_is_in_the_replica_first(folder: Path, store: Path, tmp_path: Path) -> None:
    with Home.open(folder) as home:
        home.new("ada")
        with home.using("ada") as book:
            fill(book)
            expected = portrait(book)
        home.suspend("ada")
    with Home.open(folder, durability="heartbeat", heartbeat=shipping(store)) as home:
        assert home.heartbeat is not None
        home.freeze("ada")
        home.heartbeat.flush()
        assert given(store, home, "ada", tmp_path / "ada.workbook") == expected


def test_a_store_that_is_away_for_long_bounds_the_log_and_gets_all_in_the_end(
    folder: Path, store: Path, tmp_path: Path
) -> None:
    away = tmp_path / "away"
    store.rename(away)
    with Home.open(
        folder, durability="heartbeat", heartbeat=shipping(store, backlog_max=48 << 20, retry_s=0.2)
    ) as home:
        assert home.heartbeat is not None
        for name in ("ada", "bea"):
            home.new(name)
        with home.using("bea") as bea:
            fill(bea, "bea")
            other = portrait(bea)
        home.suspend("bea")
        with home.using("ada") as book:
            for number in range(30):
                book.write("workspace", "/large", os.urandom(4 << 20))
                book.append("note.added", {"number": number})
                home.heartbeat.beat()
            told = home.heartbeat.status()
            assert told.state == "failing"
            assert told.error
            assert told.backlog <= 96 << 20
            away.rename(store)
            wait_until(lambda: (now := home.heartbeat.status()).lag_records == 0 and now.wanting == 0)  # type: ignore[union-attr]
            book.append("note.added", {"number": 60}, durability="replicated")
            assert given(store, home, "ada", tmp_path / "ada.workbook") == portrait(book)
        assert given(store, home, "bea", tmp_path / "bea.workbook") == other


def wait_until(so: Callable[[], bool]) -> None:
    """Wait for other threads' work; half a minute is far more than it takes."""
    end = time.monotonic() + 30
    while not so():
        assert time.monotonic() < end, "it never came"
        threading.Event().wait(0.02)


# --- marks


def test_only_files_with_a_mark_are_looked_at_when_a_home_is_opened(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Home.open(folder) as home:
        for number in range(20):
            home.new(f"sleeper{number}")
        home.templates.create("kind", "sleeper0")
    killed(folder, "ada", "bea")
    cut_power(folder)
    (folder / "agents" / "stranger.workbook-mark").write_bytes(b"beside nothing")
    (folder / "agents" / "another-mark").write_bytes(b"{}")
    looked: list[str] = []

    def look(path: str) -> str | None:
        looked.append(Path(path).name)
        return awaits(path)

    monkeypatch.setattr(recovery, "awaits", look)
    with Home.open(folder, durability="heartbeat", heartbeat=QUIET) as home:
        assert home.heartbeat is not None
        assert home.heartbeat.recovered.agents == 2
    assert sorted(looked) == ["ada.workbook", "bea.workbook"]


def test_a_marked_file_is_found_by_the_ledger_whatever_it_is_called(folder: Path) -> None:
    with Home.open(folder) as home:
        agents = {home.new(name).id: name for name in ("ada", "bea", "cyd")}
        kind = home.templates.create("kind", "ada")
        (folder / "agents" / "ada.workbook-mark").touch()
        (folder / "templates" / "kind.workbook-mark").touch()
        found = {Path(path).name: agent for agent, path in LedgerRoster(home.path, home.ledger).marked()}
        assert found == {"ada.workbook": next(iter(agents)), "kind.workbook": kind.id}


def test_a_mark_of_another_boot_is_enough_to_be_recovered(folder: Path) -> None:
    """The log knows nothing of it: it was closed, and the power cut has brought the mark back."""
    with Home.open(folder, durability="heartbeat", heartbeat=QUIET) as home:
        home.new("ada")
    mark = folder / "agents" / "ada.workbook-mark"
    mark.write_text(json.dumps({"boot": "another", "home": str(folder)}))
    with Home.open(folder, durability="heartbeat", heartbeat=QUIET) as home:
        assert not mark.exists()
        assert home.wake("ada").record.state == "active"


# --- a log that has failed for good


def test_no_file_gets_a_commit_that_the_log_can_no_longer_keep(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = BrokenLogDisk()

    class BrokenLog(Log):
        @classmethod
        def open(cls, *args: Any, **more: Any) -> Any:
            return super().open(*args, **more, disk=disk)

    monkeypatch.setattr(heartbeat, "Log", BrokenLog)
    with suppress(HeartbeatFailed), Home.open(folder, durability="heartbeat", heartbeat=QUIET) as home:
        home.new("ada")
        with home.using("ada") as book:
            first = book.append("note.added", {"text": "acknowledged"})
            disk.set(LogFault("sync", 1, lasting=True))
            with pytest.raises(HeartbeatFailed):
                book.append("note.added", {"text": "this one learns of it, and may or may not be there"})
            learnt = book.last
            for durability in (None, "file"):
                with pytest.raises(HeartbeatFailed):
                    book.append("note.added", {"text": "not written"}, durability=durability)
            with pytest.raises(HeartbeatFailed), book.transaction():
                book.write("workspace", "/a.txt", b"not written")
            assert book.last == learnt
            assert not list(book.list("workspace", "/"))
        disk.lift()
    with Home.open(folder, durability="file") as home, home.using("ada") as book:
        assert first <= book.last <= learnt
        assert book.verify().problems == ()
