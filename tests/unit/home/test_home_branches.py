"""Forks, rewinds, exports and imports of agents in a home."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.unit.home.kit import check_tidy, files_of, grown, kept, open_home

from torpor.base.errors import AgentBusy, FileTaken, NameTaken, PointRefused, StorageFailed, WorkbookMissing
from torpor.home import Home
from torpor.testing import fail_at
from torpor.workbook import Workbook

CANARIES = (b"canary-of-memory", b"canary-of-tmp", b"canary-of-what-was-deleted", b"canary-of-an-entry")


# --- fork ---


def test_a_fork_has_its_parents_journal_and_its_own_life(home: Home) -> None:
    grown(home)
    with home.using("ada") as parent:
        journal = [(event.seq, event.hash) for event in parent.events()]
        record = home.fork("ada", new="bob")
        with home.using("bob") as book:
            assert [(event.seq, event.hash) for event in book.events()][: len(journal)] == journal
            assert book.lineage == (parent.agent, len(journal))
            assert (book.agent, record.parent, record.parent_seq) == (record.id, parent.agent, len(journal))
            book.write("workspace", "/a.txt", b"bob's")
            assert book.verify().problems == ()
        assert parent.read("workspace", "/a.txt") == b"ada" * 1000
    assert [child.name for child in home.ledger.children(home.ledger.agent("ada").id)] == ["bob"]
    told = home.ledger.history("ada")[-1]
    assert (told.verb, told.details) == ("forked", {"fork": "bob", "at": len(journal)})
    check_tidy(home)


def test_a_fork_can_begin_at_an_earlier_event_of_an_agent_that_sleeps(home: Home) -> None:
    grown(home, "ada", "suspended")
    record = home.fork("ada", at=2)
    assert record.name.startswith("ada-")
    assert record.parent_seq == 2
    assert home.ledger.agent("ada").state == "suspended"
    with home.using(record.name) as book:
        assert [event.body["number"] for event in book.events() if event.kind == "note.added"] == [0, 1]
        assert book.list("workspace") == []
    check_tidy(home)


def test_a_fork_keeps_tenant_and_thresholds(home: Home) -> None:
    grown(home, "ada", tenant="acme", suspend_after_s=5.0)
    record = home.fork("ada", new="bob")
    assert (record.tenant, record.suspend_after_s, record.freeze_after_s) == ("acme", 5.0, None)


@pytest.mark.parametrize("at", [-1, 10_000])
def test_a_fork_at_no_event_makes_nothing(home: Home, at: int) -> None:
    grown(home)
    before = files_of(Path(home.path))
    with pytest.raises(PointRefused):
        home.fork("ada", at=at, new="bob")
    assert files_of(Path(home.path)) == before
    home.fork("ada", new="bob")
    check_tidy(home)


# --- rewind ---


def test_a_rewound_agent_is_as_it_was_and_its_history_says_so(home: Home) -> None:
    grown(home, "ada", "suspended")
    rewound = home.rewind("ada", 2, why="it went wrong")
    record = home.ledger.agent("ada")
    with home.using("ada") as book:
        assert book.list("workspace") == []
        assert book.head == (record.seq, record.head)
        assert rewound.seq == book.last
        assert len(book.branches()) == 1
        assert book.verify().problems == ()
    row = home.ledger.history("ada")[-1]
    assert (row.verb, row.before, row.after, row.why) == ("rewind", "active", "active", "it went wrong")
    assert row.details == {"to": 2, "event": rewound.seq}


def test_a_rewind_twice_is_one(home: Home) -> None:
    grown(home)
    first = home.rewind("ada", 2)
    again = home.rewind("ada", 2)
    assert (first.skipped, again.seq) == ("", first.seq)
    assert again.skipped
    with home.using("ada") as book:
        book.append("note.added", {})
    assert home.rewind("ada", 2).skipped == ""


def test_a_rewind_to_no_event_changes_nothing(home: Home) -> None:
    grown(home)
    with home.reading("ada") as book:
        before = book.head
    with pytest.raises(PointRefused):
        home.rewind("ada", 10_000)
    with home.reading("ada") as book:
        assert book.head == before


def test_an_agent_in_use_is_not_rewound(home: Home) -> None:
    grown(home)
    with home.using("ada"), pytest.raises(AgentBusy):
        home.rewind("ada", 2)


def test_an_older_copy_than_the_rewind_is_not_taken_for_the_agent(home: Home, folder: Path) -> None:
    grown(home, "ada", "suspended")
    copy = (folder / "agents/ada.workbook").read_bytes()
    home.rewind("ada", 2)
    home.suspend("ada")
    (folder / "agents/ada.workbook").write_bytes(copy)
    with pytest.raises(Exception, match="was left at event"):
        home.wake("ada")


# --- export ---


def with_canaries(home: Home) -> None:
    home.new("ada")
    with home.using("ada") as book:
        book.write("workspace", "/public.txt", b"public")
        book.write("workspace", "/gone.txt", CANARIES[2])
        book.delete("workspace", "/gone.txt")
        book.write("memory", "/m.txt", CANARIES[0])
        book.write("tmp", "/t.txt", CANARIES[1])
        book.memory.remember(CANARIES[3].decode())


@pytest.mark.parametrize("state", ["active", "suspended"])
def test_an_export_holds_the_workspace_and_no_byte_of_the_rest(home: Home, tmp_path: Path, state: str) -> None:
    with_canaries(home)
    if state == "suspended":
        home.suspend("ada")
    found = home.export("ada", tmp_path / "out.workbook")
    content = (tmp_path / "out.workbook").read_bytes()
    assert [canary for canary in CANARIES if canary in content] == []
    assert home.ledger.agent("ada").id.encode() not in content
    with Workbook.open(tmp_path / "out.workbook", readonly=True) as book:
        assert book.agent == found.agent
        assert book.read("workspace", "/public.txt") == b"public"
        assert book.list("workspace", recursive=True)[0].path == "/public.txt"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "out.workbook"]
    assert home.ledger.history("ada")[-1].verb == "export"
    check_tidy(home)


def test_an_export_with_memory_is_the_whole_agent(home: Home, tmp_path: Path) -> None:
    with_canaries(home)
    found = home.export("ada", tmp_path / "out.workbook", with_memory=True)
    assert found.with_memory
    with Workbook.open(tmp_path / "out.workbook", readonly=True) as book:
        assert book.read("memory", "/m.txt") == CANARIES[0]
        assert book.memory.search("canary-of-an-entry")
        assert book.verify().problems == ()
    assert CANARIES[1] not in (tmp_path / "out.workbook").read_bytes()


def test_an_export_replaces_nothing(home: Home, tmp_path: Path) -> None:
    grown(home)
    (tmp_path / "out.workbook").write_bytes(b"mine")
    with pytest.raises(FileTaken):
        home.export("ada", tmp_path / "out.workbook")
    with pytest.raises(WorkbookMissing):
        home.export("ada", tmp_path / "none" / "out.workbook")
    with pytest.raises(WorkbookMissing):
        home.export("ada", "\0")
    assert (tmp_path / "out.workbook").read_bytes() == b"mine"
    check_tidy(home)


@pytest.mark.parametrize("point", ["move.reserved", "fork.copied", "fork.whole", "copy.placed"])
def test_an_export_that_fails_leaves_no_half_of_it(home: Home, tmp_path: Path, point: str) -> None:
    grown(home)
    with pytest.raises(StorageFailed), fail_at(point, StorageFailed(path="disk", reason="the test says so")):
        home.export("ada", tmp_path / "out.workbook")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == (["home", "out.workbook"] if point == "copy.placed" else ["home"])
    check_tidy(home)


# --- import ---


def test_what_one_home_exports_another_takes_in(home: Home, tmp_path: Path) -> None:
    grown(home)
    with home.reading("ada") as book:
        expected = kept(book)
    home.export("ada", tmp_path / "out.workbook", with_memory=True)
    before = (tmp_path / "out.workbook").read_bytes()
    with open_home(tmp_path / "other") as other:
        record = other.import_(tmp_path / "out.workbook", "ada", tenant="acme")
        assert (record.state, record.tenant) == ("created", "acme")
        assert record.parent == home.ledger.agent("ada").id
        assert record.id != record.parent
        with other.using("ada") as book:
            assert kept(book) == expected
            assert book.agent == record.id
            assert book.verify().problems == ()
        check_tidy(other)
    assert (tmp_path / "out.workbook").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "other", "out.workbook"]


def test_a_file_may_be_taken_in_twice_and_is_two_agents(home: Home, tmp_path: Path) -> None:
    grown(home)
    home.export("ada", tmp_path / "out.workbook")
    bob, eve = (home.import_(tmp_path / "out.workbook", name) for name in ("bob", "eve"))
    assert bob.id != eve.id
    with pytest.raises(NameTaken):
        home.import_(tmp_path / "out.workbook", "bob")
    check_tidy(home)


def test_what_a_killed_owner_left_in_the_log_is_imported_too(home: Home, tmp_path: Path) -> None:
    original = tmp_path / "in.workbook"
    with Workbook.open(original) as book:
        book.append("note.added", {"in": "the log"})
        for tail in ("", "-wal"):
            shutil.copyfile(f"{original}{tail}", tmp_path / f"copy.workbook{tail}")
    home.import_(tmp_path / "copy.workbook", "ada")
    with home.using("ada") as book:
        assert next(book.events()).body == {"in": "the log"}


def test_a_template_from_elsewhere_is_imported_as_an_agent(home: Home, tmp_path: Path) -> None:
    grown(home)
    home.templates.create("kind", "ada")
    shutil.copy(Path(home.path) / "templates/kind.workbook", tmp_path / "kind.workbook")
    (tmp_path / "kind.workbook").chmod(0o444)
    home.import_(tmp_path / "kind.workbook", "bob")
    with home.using("bob") as book:
        assert book.read("workspace", "/a.txt") == b"ada" * 1000
    check_tidy(home)
