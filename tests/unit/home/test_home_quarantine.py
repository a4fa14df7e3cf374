"""An agent whose records could not be brought into its file: nobody opens it, whatever else is lost."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.unit.home.restore_kit import beating, live, settled
from tests.unit.home.test_home_heartbeat import cut_power, killed

from torpor.base.errors import AgentQuarantined, HeartbeatFailed, RestoreRefused
from torpor.heartbeat import Quarantine, Quarantined, Record, recovery
from torpor.heartbeat.records import decode_all
from torpor.home import Home
from torpor.ledger import Note, SqliteLedger
from torpor.testing import fail_at


def id_of(folder: Path, name: str) -> str:
    with closing(SqliteLedger.open(folder / "ledger.db")) as ledger:
        return ledger.agent(name).id


def with_a_damaged_record(folder: Path) -> str:
    """Make a home whose agent bea has a sound file, an older one than her log, of which a record is damaged."""
    killed(folder, "ada", "bea")
    cut_power(folder)
    (segment,) = (folder / "heartbeat").glob("*.segment")
    content = segment.read_bytes()
    at = content.index(b"note.added", content.index(b"bea" * 100))
    segment.write_bytes(content[:at] + b"X" + content[at + 1 :])
    return id_of(folder, "bea")


def lose_the_index(folder: Path) -> None:
    for path in (folder / "heartbeat").glob("index.db*"):
        path.unlink()


def refused(folder: Path, durability: str = "heartbeat") -> None:
    """Insist that bea is in quarantine."""
    with Home.open(folder, durability=durability) as home, pytest.raises(AgentQuarantined):
        home.wake("bea")


def test_neither_a_lost_index_nor_a_log_that_was_let_go_ends_it(folder: Path) -> None:
    """HB-14: the machine is started anew besides, so nothing but the quarantine itself says that bea lacks records."""
    agent = with_a_damaged_record(folder)
    with beating(folder, None) as home, home.using("ada") as book:
        for _ in range(2):
            book.write("workspace", "/large", os.urandom(9 << 20))
    assert not (folder / "heartbeat" / "0000000000000001.segment").exists(), "her records were let go"
    before = (folder / "agents" / "bea.workbook").read_bytes()
    lose_the_index(folder)
    cut_power(folder)
    refused(folder)
    with beating(folder, None) as home:
        assert home.heartbeat is not None
        assert [one.agent for one in home.heartbeat.status().quarantined] == [agent]
    assert (folder / "agents" / "bea.workbook").read_bytes() == before


def test_who_has_no_heartbeat_refuses_it_too(folder: Path) -> None:
    """HB-14: the process that died didn't take the machine with it, so no mark keeps anybody off."""
    with_a_damaged_record(folder)
    refused(folder)
    for mark in (folder / "agents").glob("*-mark"):
        mark.unlink()
    refused(folder, "file")


def test_a_quarantine_that_cannot_be_read_is_one(folder: Path) -> None:
    """HB-14."""
    agent = with_a_damaged_record(folder)
    refused(folder)
    why = folder / "heartbeat" / "quarantined" / agent
    for content in (b"", b"no JSON", b"{}"):
        why.write_bytes(content)
        for durability in ("heartbeat", "file"):
            refused(folder, durability)


def test_all_of_its_records_are_kept_however_many_there_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HB-14: also those that are read only after it was found out, and each of them once."""
    with beating(folder, None) as home:
        home.new("ada")
    killed_again = killed(folder, "bea")
    cut_power(folder)
    agent = id_of(folder, "bea")
    file = folder / "agents" / "bea.workbook"
    file.write_bytes(file.read_bytes()[:4096] + b"x" * 4096 + file.read_bytes()[8192:])
    monkeypatch.setattr(recovery, "_HELD_MAX", 20_000)
    for _ in range(2):
        refused(folder)
        kept = sorted((folder / "heartbeat" / "quarantined").glob(f"{agent}-*.records"))
        assert len(kept) > 1
        records = [record for path in kept for record in found_in(path)]
        numbers = [record.txn for record in records]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert len(numbers) > killed_again["bea"] - 10


def found_in(path: Path) -> list[Record]:
    found = decode_all(path.read_bytes())
    assert isinstance(found, list)
    return found


def test_it_ends_with_a_restore_and_not_before(folder: Path, store: Path) -> None:
    """HB-15: where the restored file's beginning can't be brought into the log, the agent stays in quarantine."""
    ids = in_quarantine(folder, store)
    quarantine = Quarantine(str(folder / "heartbeat"))
    failing = fail_at("keeper.joined", HeartbeatFailed(path="", reason="a test"))
    with beating(folder, store) as home, failing, pytest.raises(HeartbeatFailed):
        home.restore("ada")
    assert quarantine.why(ids["ada"]) is not None
    with beating(folder, store) as home:
        with pytest.raises(AgentQuarantined):
            home.wake("ada")
        home.restore("ada")
        assert home.wake("ada").record.state == "active"
    assert [one.agent for one in quarantine.all()] == [ids["bea"]]


def test_without_the_heartbeat_nobody_puts_a_file_in_its_place(folder: Path, store: Path) -> None:
    """HB-15: the log has records of before, and only who has it can say that they are not for that file."""
    in_quarantine(folder, store)
    with Home.open(folder) as home, pytest.raises(RestoreRefused, match="quarantined"):
        home.restore("bea", replica=store.as_uri())


def in_quarantine(folder: Path, store: Path) -> dict[str, str]:
    """Make a home of which two agents are in the replica and in quarantine; returns their ids."""
    with beating(folder, store) as home:
        for name in ("ada", "bea"):
            home.new(name)
            live(home, name, mark=name)
            home.suspend(name)
        settled(home)
        ids = {name: home.ledger.agent(name).id for name in ("ada", "bea")}
    for agent in ids.values():
        Quarantine(str(folder / "heartbeat")).put(Quarantined(agent, "a test says so"))
    return ids


def test_nothing_of_an_agent_that_was_deleted_stays(folder: Path, store: Path) -> None:
    """HB-15."""
    ids = in_quarantine(folder, store)
    kept = folder / "heartbeat" / "quarantined"
    for agent in ids.values():
        (kept / f"{agent}-{1:016x}-{9:016x}.records").write_bytes(b"what it knew")
    with Home.open(folder) as home:
        for name in ids:
            home.freeze(name)
            home.archive(name)
        home.delete("ada")
        assert {path.name[:36] for path in kept.iterdir()} == {ids["bea"]}
    with closing(SqliteLedger.open(folder / "ledger.db")) as ledger:
        bea = ledger.agent("bea")
        gone = replace(bea, state="deleted", file="", cold=None, archive=None, digest=None, wake=None)
        note = Note(agent=bea.id, verb="delete", who="test", why="as if killed then", time=bea.active)
        ledger.move(bea, gone, note)
    with Home.open(folder):
        assert list(kept.iterdir()) == []
