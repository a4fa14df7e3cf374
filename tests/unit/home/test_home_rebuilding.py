"""Bringing back a whole home: everybody comes back, or is told; and there is never half a home."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.home.kit import brought
from tests.unit.home.restore_kit import beating, copy_of, live, seen_in, settled
from tests.unit.workbook.kit import tamper

from torpor.base.claims import claim
from torpor.base.errors import (
    CopyMissing,
    HomeRefused,
    ReplicaLacks,
    StoreRefused,
    StoreUnreachable,
    TorporError,
)
from torpor.heartbeat.catalog import Piece
from torpor.heartbeat.packs import build, chunks_of
from torpor.heartbeat.reading import Reader
from torpor.heartbeat.records import NOBODY
from torpor.home import Home, Rebuilt, Step, restore_all
from torpor.stores.objects import open_objects
from torpor.testing import fail_at
from torpor.testing.portrait import Portrait, portrait
from torpor.workbook import Workbook


@pytest.fixture
def home(folder: Path, store: Path) -> Iterator[Home]:
    with beating(folder, store) as home:
        yield home


def lost(home: Home) -> None:
    """Ship all that there is, and lose the home."""
    settled(home)
    home.close()
    shutil.rmtree(home.path)


def back(home: Home, store: Path) -> Rebuilt:
    lost(home)
    return restore_all(home.path, store.as_uri())


def made(home: Home, name: str, state: str = "active") -> Portrait:
    """Make an agent that has lived, in a state; returns what is in it."""
    home.new(name)
    seen = live(home, name, mark=name)
    if state != "active":
        brought(home, name, state)
    return seen[-1][2]


def failures(done: Rebuilt) -> dict[str, type[TorporError]]:
    return {one.name: type(one.error) for one in done.failed}


# --- who comes back


def test_everybody_comes_back_as_he_was(home: Home, folder: Path, store: Path) -> None:
    expected = {name: made(home, name, state) for name, state in (("ada", "active"), ("bob", "suspended"))}
    home.new("eve", tenant="acme", suspend_after_s=60.0)
    home.schedule("ada", 2**52)
    before = {record.name: record for record in home.ledger.agents()}
    history = [move.verb for move in home.ledger.history("bob")]
    done = back(home, store)
    assert done.failed == ()
    assert sorted(one.name for one in done.came) == ["ada", "bob", "eve"]
    assert [one.complete for one in done.came] == [True] * 3
    with Home.open(folder) as again:
        for name, seen in expected.items():
            record = again.ledger.agent(name)
            assert seen_in(folder / record.file) == seen
            was = before[name]
            assert (record.id, record.state, record.epoch) == (was.id, was.state, was.epoch)
            assert record.seq == seen.last
            with again.using(name) as book:
                assert book.append("note.added", {"after": "the loss"}) == seen.last + 1
        eve = again.ledger.agent("eve")
        assert (eve.state, eve.tenant, eve.suspend_after_s) == ("created", "acme", 60.0)
        assert again.ledger.agent("ada").wake == 2**52
        assert [move.verb for move in again.ledger.history("bob")][: len(history) + 1] == [*history, "restore"]
        assert again.ledger.leftovers() == []


def test_those_in_the_lost_homes_own_stores_are_suspended_now(home: Home, folder: Path, store: Path) -> None:
    expected = {name: made(home, name, state) for name, state in (("ada", "frozen"), ("bob", "archived"))}
    done = back(home, store)
    assert done.failed == ()
    with Home.open(folder) as again:
        for name, seen in expected.items():
            record = again.ledger.agent(name)
            assert (record.state, record.cold, record.archive, record.digest) == ("suspended", None, None, None)
            assert seen_in(folder / record.file) == seen
            again.freeze(name)
            with again.using(name) as book:
                assert portrait(book).last == seen.last


def test_those_in_stores_elsewhere_stay_there(tmp_path: Path, folder: Path, store: Path) -> None:
    (tmp_path / "far").mkdir()
    with beating(folder, store, cold=(tmp_path / "far").as_uri()) as home:
        seen = made(home, "ada", "frozen")
        record = home.ledger.agent("ada")
        done = back(home, store)
    assert (done.elsewhere, done.came, done.failed) == (1, (), ())
    with Home.open(folder) as again:
        assert again.ledger.agent("ada") == record
        assert not (folder / record.file).exists()
        with again.using("ada") as book:
            assert portrait(book) == seen


def test_whose_copy_is_gone_from_a_store_elsewhere_comes_from_the_replica(
    tmp_path: Path, folder: Path, store: Path
) -> None:
    (tmp_path / "far").mkdir()
    with beating(folder, store, cold=(tmp_path / "far").as_uri()) as home:
        seen = made(home, "ada", "frozen")
        lost(home)
    for copy in (tmp_path / "far").rglob("*.workbook"):
        copy.unlink()
    done = restore_all(folder, store.as_uri())
    assert [one.state for one in done.came] == ["suspended"]
    with Home.open(folder) as again, again.using("ada") as book:
        assert portrait(book) == seen


def test_a_store_that_cannot_be_asked_is_told_and_the_agent_stays_where_it_was(
    tmp_path: Path, folder: Path, store: Path
) -> None:
    (tmp_path / "far").mkdir()
    with beating(folder, store, cold=(tmp_path / "far").as_uri()) as home:
        made(home, "ada", "frozen")
        made(home, "bob")
        lost(home)
    (tmp_path / "far").rename(tmp_path / "away")
    done = restore_all(folder, store.as_uri())
    assert failures(done) == {"ada": StoreUnreachable}
    assert [one.name for one in done.came] == ["bob"]
    (tmp_path / "away").rename(tmp_path / "far")
    with Home.open(folder) as again, again.using("ada") as book:
        assert book.verify().problems == ()


def test_templates_come_back_as_templates(home: Home, folder: Path, store: Path) -> None:
    made(home, "ada")
    home.templates.create("kind", "ada", suspend_after_s=30.0)
    clone = home.new("bob", template="kind")
    done = back(home, store)
    assert done.failed == ()
    path = folder / "templates" / "kind.workbook"
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert [name for name in os.listdir(path.parent) if name != path.name] == []
    with Home.open(folder) as again:
        assert again.ledger.agent("bob").template == "kind"
        assert again.ledger.agent("bob").parent == clone.parent
        (new,) = again.templates.clone("kind", tenant="acme")
        assert new.suspend_after_s == 30.0
        with again.using(new.name) as book:
            assert book.verify().problems == ()


def test_the_deleted_stay_deleted_and_their_names_taken(home: Home, folder: Path, store: Path) -> None:
    made(home, "ada", "deleted")
    made(home, "bob")
    done = back(home, store)
    assert (done.deleted, done.failed) == (1, ())
    with Home.open(folder) as again:
        assert again.ledger.agent("ada").state == "deleted"
        with pytest.raises(TorporError):
            again.new("ADA")


def test_the_new_home_goes_on_with_the_same_replica(home: Home, folder: Path, store: Path) -> None:
    made(home, "ada")
    assert home.heartbeat is not None
    identity = (folder / "heartbeat" / "id").read_text().strip()
    done = back(home, store)
    assert done.home == identity
    for round_ in range(2):
        with beating(folder, store) as again:
            assert again.heartbeat is not None
            live(again, "ada", mark=f"round {round_}")
            settled(again)
            status = again.heartbeat.status()
            assert (status.error, status.state) == ("", "shipping")
            assert status.durable > done.lsn
            with again.reading("ada") as book:
                seen = portrait(book)
        shutil.rmtree(folder)
        done = restore_all(folder, store.as_uri())
        assert done.failed == ()
        assert seen_in(folder / "agents" / "ada.workbook") == seen


# --- who doesn't


def test_one_that_cannot_be_restored_is_told_and_keeps_nobody_else(home: Home, folder: Path, store: Path) -> None:
    expected = made(home, "ada")
    made(home, "bob")
    agent = home.ledger.agent("bob").id
    settled(home)
    seq = home.ledger.agent("bob").seq
    lost(home)
    damaged = without(store, agent)
    done = restore_all(folder, damaged.as_uri())
    assert set(failures(done)) == {"bob"}
    with Home.open(folder) as again:
        assert seen_in(folder / "agents" / "ada.workbook") == expected
        record = again.ledger.agent("bob")
        assert (record.state, record.seq) == ("active", seq)
        assert again.ledger.history("bob")[-1].details.keys() == {"failed"}
        with pytest.raises(CopyMissing):
            again.wake("bob")
        again.restore("bob", replica=store.as_uri())
        with again.using("bob") as book:
            assert book.verify().problems == ()


def without(store: Path, agent: str) -> Path:
    """Return a copy of a replica in which everything of one agent is damaged."""
    copy = copy_of(store)
    reader = Reader(open_objects(copy.as_uri(), str(copy)))
    for key, index in list(reader.newest_first(reader.catalog())):
        content = bytearray((copy / key).read_bytes())
        for block in index.blocks:
            if block.agent == agent:
                content[block.offset : block.offset + block.length] = bytes(block.length)
        (copy / key).write_bytes(content)
    return copy


def test_an_agent_that_the_ledger_does_not_know_yet_has_a_name_made_for_it(
    home: Home, folder: Path, store: Path
) -> None:
    made(home, "ada")
    settled(home)
    ledger_ends = len(list((store / "log").iterdir()))
    expected = made(home, "bob")
    agent = home.ledger.agent("bob").id
    settled(home)
    lost(home)
    forget(store, NOBODY, after=ledger_ends)
    done = restore_all(folder, store.as_uri())
    assert done.failed == ()
    with Home.open(folder) as again:
        record = again.ledger.agent(agent)
        assert (record.name, record.state) == (f"restored-{agent}", "suspended")
        assert seen_in(folder / record.file) == expected
        with again.using(record.name) as book:
            assert book.last == expected.last


def forget(store: Path, agent: str, *, after: int = 0) -> None:
    """Take out of a replica what it has of one agent in packs after the first so many, as if it had died before."""
    reader = Reader(open_objects(store.as_uri(), str(store)))
    for path in sorted((store / "log").iterdir())[after:]:
        key = f"log/{path.name}"
        index = reader.index(key)
        kept = reader.records([Piece(key, block) for block in index.blocks if block.agent != agent])
        content, _ = build(index.head, index.node, chunks_of(kept), index.base)
        path.write_bytes(b"".join(content))


def test_one_that_never_lived_and_is_only_in_the_ledger_is_made_anew(home: Home, folder: Path, store: Path) -> None:
    made(home, "ada")
    home.templates.create("kind", "ada")
    agents = [home.new("eve", tenant="acme").id, home.new("bob", template="kind").id]
    lost(home)
    for agent in agents:
        forget(store, agent)
    done = restore_all(folder, store.as_uri())
    assert set(failures(done)) == {"bob"}, "who has something in him is never made up"
    with Home.open(folder) as again:
        assert (again.ledger.agent("eve").id, again.ledger.agent("eve").state) == (agents[0], "created")
        with again.using("eve") as book:
            assert (book.agent, book.last, book.verify().problems) == (agents[0], 0, ())


# --- where to, and how it ends


def test_it_is_brought_into_an_empty_folder_too(home: Home, folder: Path, store: Path) -> None:
    made(home, "ada")
    lost(home)
    folder.mkdir()
    restore_all(folder, store.as_uri())
    assert (folder / "agents" / "ada.workbook").exists()
    assert sorted(path.name for path in folder.parent.iterdir()) == ["home", "replica"]


def test_a_home_that_is_there_is_never_touched(home: Home, folder: Path, store: Path) -> None:
    made(home, "ada")
    settled(home)
    before = sorted(str(path) for path in folder.rglob("*"))
    with pytest.raises(HomeRefused) as caught:
        restore_all(folder, store.as_uri())
    assert "something is there" in caught.value.reason
    assert sorted(str(path) for path in folder.rglob("*")) == before


@pytest.mark.parametrize("what", ["empty", "elsewhere", "of the home"])
def test_a_replica_that_is_none_makes_no_home(tmp_path: Path, folder: Path, what: str) -> None:
    (tmp_path / "empty").mkdir()
    url = {"empty": (tmp_path / "empty").as_uri(), "elsewhere": (tmp_path / "x").as_uri(), "of the home": "replica"}
    error = {"empty": ReplicaLacks, "elsewhere": StoreUnreachable, "of the home": StoreRefused}
    with pytest.raises(error[what]):
        restore_all(folder, url[what])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]


def test_a_failure_leaves_nothing(home: Home, folder: Path, store: Path) -> None:
    made(home, "ada")
    lost(home)
    with (
        pytest.raises(StoreUnreachable),
        fail_at("rebuild.restored", StoreUnreachable(place="x", reason="the test says so")),
    ):
        restore_all(folder, store.as_uri())
    assert sorted(path.name for path in folder.parent.iterdir()) == ["replica"]
    restore_all(folder, store.as_uri())
    assert sorted(path.name for path in folder.parent.iterdir()) == ["home", "replica"]


def test_a_folder_in_the_way_that_is_somebody_elses_is_left_alone(home: Home, folder: Path, store: Path) -> None:
    made(home, "ada")
    lost(home)
    other = folder.with_name("home-draft")
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(HomeRefused) as caught:
        restore_all(folder, store.as_uri())
    assert "in the way" in caught.value.reason
    assert (other / "thesis.txt").read_text() == "years of work"
    assert not folder.exists()


def test_what_an_earlier_try_has_left_is_removed(home: Home, folder: Path, store: Path) -> None:
    made(home, "ada")
    lost(home)
    other = folder.with_name("home-draft")
    (other / "agents").mkdir(parents=True)
    (other / "restoring").touch()
    (other / "agents" / "ada.workbook").write_bytes(b"half")
    folder.with_name("home-draft-owner").write_bytes(b"{}")
    restore_all(folder, store.as_uri())
    assert sorted(path.name for path in folder.parent.iterdir()) == ["home", "replica"]
    assert not (folder / "restoring").exists()


def test_two_at_once_are_one_and_a_refusal(home: Home, folder: Path, store: Path) -> None:
    made(home, "ada")
    lost(home)
    held = claim(str(folder.with_name("home-draft-owner")), "a moment ago")
    with pytest.raises(HomeRefused) as caught:
        restore_all(folder, store.as_uri())
    assert str(os.getpid()) in caught.value.reason
    held.release()  # type: ignore[union-attr]
    restore_all(folder, store.as_uri())


def test_it_tells_how_far_it_is(home: Home, folder: Path, store: Path) -> None:
    for name in ("ada", "bob", "eve"):
        made(home, name)
    lost(home)
    steps: list[Step] = []
    restore_all(folder, store.as_uri(), watch=steps.append)
    for stage in ("restore", "verify"):
        assert [(step.done, step.total) for step in steps if step.stage == stage] == [(1, 3), (2, 3), (3, 3)]


def test_what_came_is_verified_and_what_breaks_a_promise_is_set_aside(home: Home, folder: Path, store: Path) -> None:
    """The home had a workbook that somebody had tampered with, and so has its replica."""
    expected = made(home, "ada")
    made(home, "bob", "suspended")
    tamper(folder / "agents" / "bob.workbook", "UPDATE files SET size = size + 1 WHERE volume = 'workspace'")
    with home.using("bob") as book:
        book.append("note.added", {"on": "top of it"})
    done = back(home, store)
    assert set(failures(done)) == {"bob"}
    assert [path.name for path in (folder / "replaced").iterdir()] == ["bob.workbook"]
    assert seen_in(folder / "agents" / "ada.workbook") == expected
    with Workbook.open(folder / "replaced" / "bob.workbook", readonly=True) as book:
        assert not book.verify().ok
