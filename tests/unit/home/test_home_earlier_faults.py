"""What an earlier engine of this kind got wrong about the lives of its agents, case by case: here it can't happen.

Its faults are named in the tests. What is harmed beforehand, and who is killed, is in tests/hazards and tests/crash.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.unit.home.kit import DAY, check_tidy, files_of, grown, open_home
from tests.unit.workbook.kit import NOW, SetClock

from torpor.base.errors import (
    AgentAsleep,
    AgentBusy,
    AgentUnknown,
    CopyMissing,
    FileTaken,
    LedgerFailed,
    MoveRefused,
    NameRefused,
    NameTaken,
    WorkbookReadOnly,
)
from torpor.home import Home
from torpor.lifecycle import STATES
from torpor.workbook import Workbook


def test_states_are_a_closed_set_and_nobody_writes_another(home: Home) -> None:
    grown(home)
    record = home.ledger.agent("ada")
    assert record.state in STATES
    with pytest.raises(MoveRefused):
        home.freeze("ada")
    assert home.ledger.agent("ada") == record


def test_an_unknown_id_is_an_error_and_makes_no_row(home: Home) -> None:
    for act in (home.wake, home.suspend, home.freeze, home.prefetch, home.archive, home.delete):
        with pytest.raises(AgentUnknown):
            act("nobody")
    assert sum(home.ledger.counts().values()) == 0


def test_registering_again_does_not_reset_a_living_agent(home: Home) -> None:
    grown(home)
    before = home.ledger.agent("ada")
    with pytest.raises(NameTaken):
        home.new("ada")
    assert home.ledger.agent("ada") == before


def test_a_freeze_includes_what_is_still_in_the_write_ahead_log(home: Home, folder: Path) -> None:
    home.new("ada")
    with home.using("ada") as book:
        book.append("note.added", {"in": "the log"})
        assert (folder / "agents/ada.workbook-wal").stat().st_size > 0
    home.suspend("ada")
    home.freeze("ada")
    (copy,) = (folder / "cold").rglob("*.workbook")
    assert b"the log" in copy.read_bytes()


def test_a_freeze_during_a_write_is_refused_and_never_torn(home: Home) -> None:
    home.new("ada")
    with home.using("ada") as book, book.transaction():
        book.append("note.added", {})
        for move in (home.suspend, home.archive):
            with pytest.raises(AgentBusy):
                move("ada")


def test_a_freeze_stops_the_agent_removes_its_file_and_tells_the_ledger(home: Home, folder: Path) -> None:
    grown(home, "ada", "frozen")
    assert home._site.activations.ids() == []
    assert not (folder / "agents/ada.workbook").exists()
    assert home.ledger.agent("ada").state == "frozen"
    assert home.ledger.history("ada")[-1].after == "frozen"


def test_scratch_is_cleared_by_a_wake_from_the_local_file_too(home: Home) -> None:
    grown(home, "ada", "suspended")
    assert home.wake("ada").how == "cached"
    with home.using("ada") as book:
        assert book.list("tmp") == []


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "a/../../b", "/etc/passwd"])
def test_neither_names_nor_tenants_become_paths(home: Home, tmp_path: Path, name: str) -> None:
    with pytest.raises(NameRefused):
        home.new(name)
    grown(home)
    home.templates.create("kind", "ada")
    (clone,) = home.templates.clone("kind", tenant=name)
    assert os.path.dirname(clone.file) == "agents"
    assert {found for found in files_of(tmp_path) if not found.startswith("home/")} == set()


def test_names_of_clones_are_unique_over_restarts_and_with_a_clock_set_back(folder: Path) -> None:
    names: list[str] = []
    for _ in range(3):
        with open_home(folder, SetClock(NOW)) as home:
            if not names:
                grown(home)
                home.templates.create("kind", "ada")
            names += [clone.name for clone in home.templates.clone("kind", tenant="acme", count=5)]
    assert len(set(names)) == 15


def test_a_clone_never_overwrites_a_file(home: Home, folder: Path) -> None:
    grown(home)
    home.templates.create("kind", "ada")
    (folder / "agents/bob.workbook").write_bytes(b"somebody's")
    with pytest.raises(FileTaken):
        home.new("bob", template="kind")
    assert (folder / "agents/bob.workbook").read_bytes() == b"somebody's"


def test_a_template_is_read_only_by_more_than_custom(home: Home, folder: Path) -> None:
    grown(home)
    home.templates.create("kind", "ada")
    with pytest.raises(WorkbookReadOnly):
        Workbook.open(folder / "templates/kind.workbook")


def test_a_missing_cold_file_is_an_error_and_not_a_path(home: Home, folder: Path) -> None:
    grown(home, "ada", "frozen")
    for copy in (folder / "cold").rglob("*.workbook"):
        copy.unlink()
    with pytest.raises(CopyMissing):
        home.wake("ada")
    assert not (folder / "agents/ada.workbook").exists()
    assert home.ledger.agent("ada").state == "frozen"


def test_a_wake_tells_the_ledger_where_the_file_is_so_that_no_wake_brings_back_an_older_one(home: Home) -> None:
    grown(home, "ada", "frozen")
    with home.using("ada") as book:
        newest = book.append("note.added", {"newest": True})
    for _ in range(3):
        home.suspend("ada")
        assert home.wake("ada").how == "cached"
        with home.using("ada") as book:
            assert book.last == newest


def test_no_agent_starts_without_its_data(home: Home) -> None:
    grown(home, "ada", "frozen")
    with pytest.raises(AgentAsleep), home.reading("ada"):
        pass
    with home.using("ada") as book:
        assert book.path.endswith("agents/ada.workbook")
        assert book.read("workspace", "/a.txt") == b"ada" * 1000


def test_prefetching_is_a_move_that_can_be_asked_for_and_says_what_it_did(home: Home) -> None:
    grown(home, "ada", "frozen")
    assert home.prefetch("ada").skipped == ""
    assert home.prefetch("ada").skipped == "its file is here already"
    with pytest.raises(AgentUnknown):
        home.prefetch("nobody")


def test_idleness_is_known_from_the_ledger_alone(folder: Path, clock: SetClock) -> None:
    with open_home(folder, clock) as home:
        grown(home)
        clock.now += 500
        with home.using("ada"):
            pass
    with open_home(folder, clock) as home:
        assert home.ledger.agent("ada").active == clock.now
        clock.now += DAY
        assert [moved.after for moved in home.tick().moved] == ["suspended"]


def test_every_move_is_in_a_history_that_outlives_the_agent(home: Home) -> None:
    grown(home, "ada", "suspended")
    for move in ("freeze", "prefetch", "wake", "archive", "delete"):
        getattr(home, move)("ada")
    assert [(row.before, row.after) for row in home.ledger.history("ada")] == [
        (None, "created"),
        ("created", "active"),
        ("active", "suspended"),
        ("suspended", "frozen"),
        ("frozen", "frozen"),
        ("frozen", "active"),
        ("active", "archived"),
        ("archived", "deleted"),
    ]


def test_archived_and_deleted_mean_something(home: Home, folder: Path) -> None:
    grown(home, "ada", "archived")
    assert [path.suffix for path in (folder / "archive").rglob("*") if path.is_file()] == [".zst"]
    home.delete("ada")
    assert files_of(folder) == {"ledger.db"}
    with pytest.raises(MoveRefused):
        home.wake("ada")
    with pytest.raises(NameTaken):
        home.new("ada")
    check_tidy(home)


def test_a_forked_child_is_told_no_and_its_parent_goes_on(home: Home) -> None:
    grown(home)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            home.wake("ada")
        except LedgerFailed:
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with home.using("ada") as book:
        book.append("note.added", {"still": "here"})
    home.suspend("ada")
    check_tidy(home)
