"""Restoring one agent: what comes back, what is kept of before, and what is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.home.kit import brought
from tests.unit.home.restore_kit import (
    beating,
    copy_of,
    forsake,
    here,
    live,
    replaced,
    seen_in,
    settled,
    sha,
    spoil,
)
from tests.unit.home.test_home_heartbeat import cut_power

from torpor.base.errors import (
    AgentBusy,
    AgentQuarantined,
    AgentUnknown,
    MoveRefused,
    ReplicaDamaged,
    ReplicaLacks,
    RestoreRefused,
    StoreRefused,
    StoreUnreachable,
    TorporError,
)
from torpor.heartbeat.restore import Point
from torpor.home import Home
from torpor.testing.portrait import portrait

ROOT = Path(__file__).parents[3]


@pytest.fixture
def home(folder: Path, store: Path) -> Iterator[Home]:
    with beating(folder, store) as home:
        home.new("ada")
        settled(home)
        yield home


def tidy(home: Home) -> None:
    """Insist that nothing is left of a restore but what it has made."""
    assert home.ledger.leftovers() == []
    names = os.listdir(Path(home.path) / "agents")
    assert [name for name in names if "-draft" in name] == []


# --- which state


def test_an_agent_is_put_back_to_an_event(home: Home) -> None:
    seen = live(home, "ada")
    seq, _, expected = seen[0]
    done = home.restore("ada", at=Point(seq=seq))
    assert (done.before, done.after, done.seq, done.complete, done.lost) == ("active", "suspended", seq, True, 0)
    assert seen_in(here(home, "ada")) == expected
    record = home.ledger.agent("ada")
    assert (record.state, record.seq, record.bytes) == ("suspended", seq, here(home, "ada").stat().st_size)
    assert seen_in(Path(done.replaced)) == seen[-1][2], "what was replaced is whole"
    told = home.ledger.history("ada")[-1]
    assert (told.verb, told.before, told.after) == ("restore", "active", "suspended")
    assert told.details["event"] == seq
    assert os.path.join(home.path, told.details["replaced"]) == done.replaced
    tidy(home)
    with home.using("ada") as book:
        assert book.append("note.added", {"after": "the restore"}) == seq + 1


def test_an_agent_is_put_back_to_a_time(home: Home) -> None:
    seen = live(home, "ada")
    for _, time, expected in seen[:2]:
        home.restore("ada", at=Point(time=time))
        assert seen_in(here(home, "ada")) == expected


def test_it_goes_on_from_where_it_was_put_back_and_can_be_restored_from_there(home: Home) -> None:
    seen = live(home, "ada")
    home.restore("ada", at=Point(seq=seen[0][0]))
    more = live(home, "ada", 2, mark="second")
    home.suspend("ada")
    settled(home)
    here(home, "ada").unlink()
    done = home.restore("ada")
    assert seen_in(here(home, "ada")) == more[-1][2]
    assert (done.seq, done.lost, done.replaced) == (more[-1][0], 0, "")


def test_a_file_that_is_gone_comes_back_as_it_was(home: Home) -> None:
    seen = live(home, "ada")
    home.suspend("ada")
    settled(home)
    here(home, "ada").unlink()
    done = home.restore("ada")
    assert seen_in(here(home, "ada")) == seen[-1][2]
    assert (done.before, done.after, done.replaced, done.skipped, done.lost) == ("suspended", "suspended", "", "", 0)
    tidy(home)


def test_a_damaged_file_is_replaced_and_kept_as_it_is(home: Home) -> None:
    seen = live(home, "ada")
    home.suspend("ada")
    settled(home)
    spoil(here(home, "ada"))
    before = sha(here(home, "ada"))
    done = home.restore("ada")
    assert seen_in(here(home, "ada")) == seen[-1][2]
    assert sha(Path(done.replaced)) == before
    tidy(home)


def test_an_older_file_in_its_place_is_replaced(home: Home, tmp_path: Path) -> None:
    live(home, "ada", 1)
    home.suspend("ada")
    shutil.copy(here(home, "ada"), tmp_path / "older.workbook")
    seen = live(home, "ada", 2, mark="more")
    home.suspend("ada")
    settled(home)
    shutil.copy(tmp_path / "older.workbook", here(home, "ada"))
    done = home.restore("ada")
    assert seen_in(here(home, "ada")) == seen[-1][2]
    assert len(replaced(home)) == 1
    assert done.lost == 0


def test_a_file_with_the_same_content_stays(home: Home) -> None:
    live(home, "ada")
    home.suspend("ada")
    before = os.stat(here(home, "ada")).st_ino
    done = home.restore("ada")
    assert done.skipped
    assert os.stat(here(home, "ada")).st_ino == before
    assert replaced(home) == []
    tidy(home)


def test_restoring_twice_replaces_once(home: Home) -> None:
    seen = live(home, "ada")
    for _ in range(2):
        done = home.restore("ada", at=Point(seq=seen[1][0]))
    assert done.skipped
    assert len(replaced(home)) == 1
    assert seen_in(here(home, "ada")) == seen[1][2]


def test_each_file_that_is_replaced_has_a_name_of_its_own(home: Home) -> None:
    seen = live(home, "ada")
    for seq, _, _ in reversed(seen[:2]):
        home.restore("ada", at=Point(seq=seq))
    assert len(replaced(home)) == 2
    assert sorted(seen_in(path).last for path in replaced(home)) == [seen[1][0], seen[2][0]]


def test_a_log_that_cannot_be_brought_into_its_file_is_kept_with_it(home: Home) -> None:
    seen = live(home, "ada")
    home.suspend("ada")
    settled(home)
    forsake(here(home, "ada"))
    log = Path(f"{here(home, 'ada')}-wal")
    before = (sha(here(home, "ada")), sha(log))
    done = home.restore("ada")
    assert seen_in(here(home, "ada")) == seen[-1][2]
    assert (sha(Path(done.replaced)), sha(Path(f"{done.replaced}-wal"))) == before
    assert not log.exists() or sha(log) != before[1]
    tidy(home)


# --- what is refused


def test_a_sound_file_that_goes_further_is_not_given_up_unasked(home: Home, store: Path) -> None:
    live(home, "ada", 1)
    settled(home)
    old = copy_of(store)
    seen = live(home, "ada", 2, mark="more")
    home.suspend("ada")
    before = sha(here(home, "ada"))
    with pytest.raises(RestoreRefused) as caught:
        home.restore("ada", replica=old.as_uri())
    assert f"goes on to event {seen[-1][0]}" in caught.value.reason
    assert "--at" in caught.value.advice
    assert (sha(here(home, "ada")), replaced(home)) == (before, [])
    assert home.ledger.agent("ada").seq == seen[-1][0]
    tidy(home)
    done = home.restore("ada", at=Point(time=2**60), replica=old.as_uri())
    assert done.seq < seen[-1][0]
    assert seen_in(Path(done.replaced)) == seen[-1][2]


def test_what_is_in_no_copy_is_said(home: Home, store: Path) -> None:
    live(home, "ada", 1)
    settled(home)
    old = copy_of(store)
    live(home, "ada", 2, mark="more")
    home.suspend("ada")
    last = home.ledger.agent("ada").seq
    here(home, "ada").unlink()
    done = home.restore("ada", replica=old.as_uri())
    assert done.lost == last - done.seq > 0


def test_an_agent_that_somebody_uses_is_left_alone(home: Home) -> None:
    seen = live(home, "ada")
    with home.using("ada") as book:
        with pytest.raises(AgentBusy):
            home.restore("ada", at=Point(seq=seen[0][0]))
        book.append("note.added", {"still": "here"})
    with home.reading("ada"), pytest.raises(AgentBusy):
        home.restore("ada", at=Point(seq=seen[0][0]))
    assert replaced(home) == []
    tidy(home)


def test_an_agent_that_another_process_has_is_left_alone(home: Home) -> None:
    live(home, "ada")
    home.suspend("ada")
    settled(home)
    script = "import sys; from torpor import Workbook; b = Workbook.open(sys.argv[1]); print(1, flush=True); input()"
    words = [sys.executable, "-c", script, str(here(home, "ada"))]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(AgentBusy) as caught:
            home.restore("ada")
        assert str(other.pid) in caught.value.reason
        other.communicate(b"\n")
    assert home.restore("ada").skipped


def test_a_stranger_is_unknown(home: Home) -> None:
    settled(home)
    with pytest.raises(AgentUnknown):
        home.restore("nobody")


def test_an_agent_that_only_the_replica_knows_is_named(home: Home, tmp_path: Path, store: Path) -> None:
    live(home, "ada")
    settled(home)
    agent = home.ledger.agent("ada").id
    with Home.open(tmp_path / "another") as other, pytest.raises(RestoreRefused) as caught:
        other.restore("ada", replica=store.as_uri())
    assert agent in caught.value.reason
    assert "--all" in caught.value.advice


def test_a_deleted_agent_stays_deleted(home: Home) -> None:
    live(home, "ada")
    brought(home, "ada", "deleted")
    with pytest.raises(MoveRefused):
        home.restore("ada")
    assert not here(home, "ada").is_file()


def test_without_a_replica_there_is_nothing_to_restore_from(folder: Path) -> None:
    with Home.open(folder) as home:
        home.new("ada")
        with pytest.raises(StoreRefused):
            home.restore("ada")


def refused(home: Home, url: str, error: type[TorporError]) -> None:
    """Insist that a replica gives nothing, and that nothing was changed."""
    before = (sha(here(home, "ada")), home.ledger.agent("ada"))
    with pytest.raises(error):
        home.restore("ada", at=Point(seq=1), replica=url)
    assert (sha(here(home, "ada")), home.ledger.agent("ada")) == before
    assert replaced(home) == []
    tidy(home)


def test_a_replica_that_does_not_have_it_changes_nothing(home: Home, tmp_path: Path) -> None:
    live(home, "ada")
    home.suspend("ada")
    (tmp_path / "empty").mkdir()
    refused(home, (tmp_path / "empty").as_uri(), ReplicaLacks)


def test_a_replica_that_cannot_be_reached_changes_nothing(home: Home, tmp_path: Path) -> None:
    live(home, "ada")
    home.suspend("ada")
    refused(home, (tmp_path / "nothing" / "there").as_uri(), StoreUnreachable)


def test_a_damaged_replica_changes_nothing(home: Home, store: Path) -> None:
    live(home, "ada")
    home.suspend("ada")
    settled(home)
    old = copy_of(store)
    for pack in old.glob("log/*.pack"):
        content = bytearray(pack.read_bytes())
        content[128 : len(content) // 2] = bytes(len(content) // 2 - 128)
        pack.write_bytes(content)
    refused(home, old.as_uri(), ReplicaDamaged)


# --- agents in every state


def test_a_created_agent_stays_created(home: Home) -> None:
    settled(home)
    here(home, "ada").unlink()
    done = home.restore("ada")
    assert (done.before, done.after, done.seq) == ("created", "created", 0)
    with home.using("ada") as book:
        assert book.last == 0


@pytest.mark.parametrize("state", ["frozen", "archived"])
def test_a_stored_agent_gets_its_file_and_stays_what_it_is(home: Home, state: str) -> None:
    seen = live(home, "ada")
    record = brought(home, "ada", state)
    assert not here(home, "ada").exists()
    done = home.restore("ada")
    assert (done.before, done.after, done.replaced) == (state, state, "")
    assert home.ledger.agent("ada") == record
    with home.reading("ada") as book:
        assert portrait(book) == seen[-1][2]
    tidy(home)
    store, key = home._site.stores.at(record.cold or record.archive or "")
    assert store.has(key), "the copy in the store is the agent still"
    home.wake("ada")
    assert home.ledger.agent("ada").state == "active"


@pytest.mark.parametrize("state", ["frozen", "archived"])
def test_a_stored_agent_whose_copy_is_lost_wakes_from_what_was_restored(home: Home, state: str) -> None:
    seen = live(home, "ada")
    brought(home, "ada", state)
    shutil.rmtree(Path(home.path) / {"frozen": "cold", "archived": "archive"}[state])
    home.restore("ada")
    with home.using("ada") as book:
        assert portrait(book) == seen[-1][2]


@pytest.mark.parametrize("state", ["frozen", "archived"])
def test_a_stored_agent_is_not_put_back(home: Home, state: str) -> None:
    seen = live(home, "ada")
    brought(home, "ada", state)
    with pytest.raises(RestoreRefused) as caught:
        home.restore("ada", at=Point(seq=seen[0][0]))
    assert "torpor wake ada" in caught.value.advice
    assert not here(home, "ada").exists()


# --- quarantine, and records of before


def test_a_quarantined_agent_comes_back_and_stays_back(folder: Path, store: Path) -> None:
    with beating(folder, store) as home:
        home.new("ada")
        settled(home)
        seen = live(home, "ada")
        settled(home)
    with_damage(folder, store)
    with beating(folder, store) as home:
        assert home.heartbeat is not None
        assert [one.agent for one in home.heartbeat.recovered.quarantined] == [home.ledger.agent("ada").id]
        with pytest.raises(AgentQuarantined):
            home.wake("ada")
        home.restore("ada", at=Point(seq=seen[0][0]))
        assert home.heartbeat.status().quarantined == ()
    for _ in range(2):
        with beating(folder, store) as home, home.using("ada") as book:
            assert portrait(book).files == seen[0][2].files
            assert book.append("note.added", {"after": "the restore"}) > seen[0][0]


def with_damage(folder: Path, store: Path) -> None:
    """Have a process write more and die, then the machine, and damage the agent's file."""
    script = """
import os, signal, sys
from pathlib import Path
from tests.unit.home.restore_kit import beating, live, settled
with beating(Path(sys.argv[1]), Path(sys.argv[2])) as home:
    live(home, "ada", mark="late")
    settled(home)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    subprocess.run([sys.executable, "-c", script, str(folder), str(store)], env=env, check=False, timeout=60)
    cut_power(folder)
    spoil(folder / "agents" / "ada.workbook")


def test_no_record_of_before_is_applied_to_what_was_restored(folder: Path, store: Path) -> None:
    """The agent was open when its node was killed, so its records are in the log without an end."""
    with beating(folder, store) as home:
        home.new("ada")
        settled(home)
        seen = live(home, "ada")
        settled(home)
    with_damage(folder, store)
    with beating(folder, store) as home:
        home.restore("ada", at=Point(seq=seen[1][0]))
        here_now = sha(here(home, "ada"))
    with beating(folder, store) as home:
        assert home.heartbeat is not None
        assert home.heartbeat.recovered.quarantined == ()
        assert sha(here(home, "ada")) == here_now
    with beating(folder, store) as home:
        assert seen_in(here(home, "ada")) == seen[1][2]


def test_after_a_heartbeat_was_killed_beside_it_a_home_is_opened_anew_before_anything_is_restored(
    folder: Path, store: Path
) -> None:
    with beating(folder, store) as home:
        home.new("ada")
        settled(home)
        seen = live(home, "ada")
        settled(home)
    script = """
import sys
from pathlib import Path
from tests.unit.home.restore_kit import beating, live
with beating(Path(sys.argv[1]), Path(sys.argv[2])) as home:
    live(home, "ada", mark="late")
    print("ready", flush=True)
    input()
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    words = [sys.executable, "-c", script, str(folder), str(store)]
    with subprocess.Popen(words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as node:
        assert node.stdout is not None
        assert node.stdout.readline() == b"ready\n"
        with Home.open(folder) as home:
            node.kill()
            node.wait()
            with pytest.raises(RestoreRefused) as caught:
                home.restore("ada", at=Point(seq=seen[0][0]), replica=store.as_uri())
            assert "anew" in caught.value.advice
    with Home.open(folder) as home:
        home.restore("ada", at=Point(seq=seen[0][0]), replica=store.as_uri())
    with beating(folder, store) as home:
        assert seen_in(here(home, "ada")) == seen[0][2]
