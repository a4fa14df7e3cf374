"""Down the ladder and back up: what each move leaves, says and writes into the history."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.home.kit import check_tidy, files_of, grown, kept, open_home
from tests.unit.workbook.kit import NOW, SetClock

from torpor.base.errors import AgentBusy, AgentUnknown, LedgerFailed, StorageFailed
from torpor.home import Home, Step
from torpor.lifecycle import State
from torpor.testing import fail_at, record
from torpor.testing.crash import crash_call
from torpor.workbook import Workbook


def descriptors() -> set[str]:
    """Return the files of homes that this process has open, the ledger's left out."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue
        if "workbook" in name:
            found.add(name)
    return found


def residue(home: Home) -> tuple[int, int, int]:
    activations = home._site.activations
    return (len(activations._turns), len(activations._open), len(activations._readers))


# --- new ---


def test_a_new_agent_is_created_and_has_an_empty_workbook(home: Home, folder: Path) -> None:
    made = home.new("ada", tenant="acme", suspend_after_s=60.0)
    assert (made.state, made.tenant, made.suspend_after_s, made.seq, made.head) == ("created", "acme", 60.0, 0, "")
    assert files_of(folder) == {"ledger.db", "agents/ada.workbook"}
    with home.reading("ada") as book:
        assert book.agent == made.id
        assert book.last == 0
    assert [row.verb for row in home.ledger.history("ada")] == ["new"]
    check_tidy(home)


# --- suspend and wake ---


def test_a_suspended_agent_is_one_file_and_holds_nothing(home: Home, folder: Path) -> None:
    before = descriptors()
    grown(home)
    assert len(descriptors() - before) >= 3
    with home.reading("ada") as book:
        head = book.head
    moved = home.suspend("ada")
    assert (moved.before, moved.after, moved.skipped, moved.left) == ("active", "suspended", "", ())
    assert descriptors() == before
    assert residue(home) == (0, 0, 0)
    assert files_of(folder) == {"ledger.db", "agents/ada.workbook"}
    found = home.ledger.agent("ada")
    assert (found.seq, found.head) == head
    assert found.bytes == moved.bytes == (folder / "agents/ada.workbook").stat().st_size


def test_a_thousand_sleepers_cost_no_descriptor_and_no_entry(home: Home) -> None:
    grown(home)
    home.templates.create("kind", "ada")
    home.suspend("ada")
    before = len(os.listdir("/proc/self/fd"))
    clones = home.templates.clone("kind", tenant="acme", count=100)
    for clone in clones:
        home.wake(clone.name)
    assert residue(home) == (0, 100, 0)
    for clone in clones:
        home.suspend(clone.name)
    assert len(os.listdir("/proc/self/fd")) == before
    assert residue(home) == (0, 0, 0)


def test_an_agent_that_no_process_has_open_is_suspended_too(folder: Path, clock: SetClock) -> None:
    with open_home(folder, clock) as home:
        grown(home)
        with home.reading("ada") as book:
            head = book.head
    with open_home(folder, clock) as home:
        assert home.ledger.agent("ada").state == "active"
        home.suspend("ada")
        found = home.ledger.agent("ada")
        assert (found.state, found.seq, found.head) == ("suspended", *head)
        check_tidy(home)


def test_what_a_killed_owner_left_in_the_log_is_in_every_copy(folder: Path) -> None:
    with open_home(folder) as home:
        grown(home)
    ended = crash_call("append.committed", 1, "tests.unit.home.kit:append_one", str(folder))
    assert ended.killed, ended.err
    assert (folder / "agents/ada.workbook-wal").stat().st_size > 0
    with open_home(folder) as home:
        check_tidy(home)
        home.suspend("ada")
        home.freeze("ada")
        with home.using("ada") as book:
            assert [event.body for event in book.events()][-1] == {"by": "a process that was killed"}


def test_waking_is_warm_cached_or_cold_and_counts_all_but_the_warm(home: Home) -> None:
    home.new("ada")
    assert [home.wake("ada").how, home.wake("ada").how] == ["cached", "warm"]
    home.suspend("ada")
    assert home.wake("ada").how == "cached"
    home.suspend("ada")
    home.freeze("ada")
    assert home.wake("ada").how == "cold"
    home.suspend("ada")
    home.freeze("ada")
    home.prefetch("ada")
    assert home.wake("ada").how == "cached"
    home.archive("ada")
    assert home.wake("ada").how == "cold"
    assert home.ledger.agent("ada").epoch == 5
    check_tidy(home)


@pytest.mark.parametrize("state", ["active", "suspended", "frozen", "prefetched", "archived"])
def test_scratch_is_cleared_by_every_wake_that_is_not_warm(folder: Path, state: str) -> None:
    with open_home(folder) as home:
        grown(home, "ada", "frozen" if state == "prefetched" else state)
        if state == "prefetched":
            home.prefetch("ada")
    with open_home(folder) as home:
        home.wake("ada")
        with home.using("ada") as book:
            assert book.list("tmp") == []
            book.write("tmp", "/warm.txt", b"kept")
        home.wake("ada")
        with home.using("ada") as book:
            assert book.read("tmp", "/warm.txt") == b"kept"


@pytest.mark.parametrize("state", ["suspended", "frozen", "archived"])
def test_everything_lasts_but_scratch(home: Home, state: State) -> None:
    grown(home)
    with home.reading("ada") as book:
        before, head = kept(book), book.head
    for step in {"suspended": "suspend", "frozen": "suspend freeze", "archived": "archive"}[state].split():
        getattr(home, step)("ada")
    with home.using("ada") as book:
        assert kept(book) == before
        assert book.extends(*head)
        assert book.verify().problems == ()
    check_tidy(home)


def test_a_cold_wake_is_not_repeated_over_newer_data(home: Home) -> None:
    grown(home, "ada", "frozen")
    with home.using("ada") as book:
        newer = book.append("note.added", {"newer": True})
    assert home.ledger.agent("ada").cold is None
    home.suspend("ada")
    assert home.wake("ada").how == "cached"
    with home.using("ada") as book:
        assert book.last >= newer


def test_the_history_says_who_why_when_and_how_long(folder: Path, clock: SetClock) -> None:
    with Home.open(folder, clock=clock, who="tests") as home:
        home.new("ada")
        clock.now += 1
        home.wake("ada", why="a message came")
        clock.now += 1
        home.suspend("ada", why="it is late")
        rows = home.ledger.history("ada")
    assert [(row.verb, row.before, row.after, row.why, row.time) for row in rows] == [
        ("new", None, "created", "asked", NOW),
        ("wake", "created", "active", "a message came", NOW + 1),
        ("suspend", "active", "suspended", "it is late", NOW + 2),
    ]
    assert all(row.who == "tests" and row.ms > 0 for row in rows)
    assert [row.epoch for row in rows] == [0, 1, 1]
    assert rows[2].bytes > 0


def test_using_an_agent_is_activity(home: Home, clock: SetClock) -> None:
    home.new("ada")
    clock.now += 1000
    with home.using("ada"):
        clock.now += 1000
    assert home.ledger.agent("ada").active == NOW + 2000
    clock.now += 1000
    home.wake("ada")
    assert home.ledger.agent("ada").active == NOW + 3000


def test_an_activity_that_the_ledger_did_not_take_is_not_forgotten(home: Home, clock: SetClock) -> None:
    home.new("ada")
    with home.using("ada"):
        clock.now += 1000
        home.ledger.touch = unwilling  # type: ignore[method-assign]
    assert home.ledger.agent("ada").active == NOW
    home.suspend("ada")
    assert home.ledger.agent("ada").active == NOW + 1000


def unwilling(agent: str, now: int) -> None:
    raise LedgerFailed(path="ledger.db", reason="somebody holds it")


def test_closing_a_home_leaves_active_agents_active_and_their_files_whole(folder: Path) -> None:
    with open_home(folder) as home:
        grown(home)
    with open_home(folder) as home:
        assert home.recovered == ()
        assert home.ledger.agent("ada").state == "active"
        assert files_of(folder) == {"ledger.db", "agents/ada.workbook"}
        assert home.wake("ada").how == "cached"


def test_a_workbook_that_its_user_closed_is_opened_again(home: Home) -> None:
    home.new("ada")
    with home.using("ada") as book:
        book.close()
    with home.using("ada") as book:
        book.append("note.added", {})
    assert home.ledger.agent("ada").epoch == 2
    with home.using("ada") as book:
        book.close()
    home.suspend("ada")
    check_tidy(home)


def test_a_transaction_that_nobody_counts_for_makes_an_agent_busy(home: Home) -> None:
    home.new("ada")
    with home.using("ada") as book:
        leaked = book
    with leaked.transaction():
        for move in (home.suspend, home.archive):
            with pytest.raises(AgentBusy, match="a transaction"):
                move("ada")
        leaked.append("note.added", {})
    home.suspend("ada")
    assert home.ledger.agent("ada").seq == 1


# --- freeze, prefetch, archive, delete ---


def test_a_frozen_agent_is_in_the_cold_store_and_nowhere_else(home: Home, folder: Path) -> None:
    grown(home, "ada", "frozen")
    found = home.ledger.agent("ada")
    assert files_of(folder) == {"ledger.db", f"cold/{found.id}/1.workbook"}
    assert found.cold == f"cold#{found.id}/1.workbook"
    assert found.bytes == (folder / f"cold/{found.id}/1.workbook").stat().st_size
    assert found.seq > 0


def test_prefetching_brings_the_file_and_changes_no_state(home: Home, folder: Path) -> None:
    grown(home, "ada", "frozen")
    before = home.ledger.agent("ada")
    moved = home.prefetch("ada")
    assert (moved.before, moved.after, moved.skipped) == ("frozen", "frozen", "")
    assert home.ledger.agent("ada") == before
    assert (folder / "agents/ada.workbook").exists()
    with home.reading("ada") as book:
        assert book.read("workspace", "/a.txt") == b"ada" * 1000
        assert book.read("tmp", "/t.txt") == b"scratch"
    assert residue(home) == (0, 0, 0)
    assert home.ledger.history("ada")[-1].verb == "prefetch"
    dropped = home.freeze("ada")
    assert dropped.skipped == ""
    assert home.ledger.agent("ada") == before
    check_tidy(home)


@pytest.mark.parametrize("state", ["created", "active", "suspended", "archived"])
def test_only_a_frozen_agent_is_prefetched(home: Home, state: State) -> None:
    if state == "created":
        home.new("ada")
    else:
        grown(home, "ada", state)
    before = files_of(Path(home.path))
    assert home.prefetch("ada").skipped
    assert files_of(Path(home.path)) == before
    assert home.ledger.history("ada")[-1].verb != "prefetch"


@pytest.mark.parametrize(
    ("move", "state"),
    [("suspend", "suspended"), ("freeze", "frozen"), ("archive", "archived"), ("delete", "deleted")],
)
def test_twice_is_once_and_says_so(home: Home, move: str, state: State) -> None:
    grown(home, "ada", state)
    before, files, rows = home.ledger.agent("ada"), files_of(Path(home.path)), home.ledger.history("ada")
    again = getattr(home, move)("ada")
    assert again.skipped == f"it is {state} already"
    assert (again.before, again.after) == (state, state)
    assert (home.ledger.agent("ada"), files_of(Path(home.path)), home.ledger.history("ada")) == (before, files, rows)


def test_an_archived_agent_is_compressed(home: Home, folder: Path) -> None:
    home.new("ada")
    with home.using("ada") as book:
        book.write("workspace", "/a.txt", b"again and again " * 50_000)
    moved = home.archive("ada")
    found = home.ledger.agent("ada")
    (copy,) = (folder / "archive").rglob("*.zst")
    assert copy.stat().st_size < moved.bytes / 10
    assert (found.archive, found.cold) == (f"archive#{found.id}/1.workbook.zst", None)
    assert files_of(folder) == {"ledger.db", str(copy.relative_to(folder))}


def test_a_deleted_agent_leaves_a_tombstone_and_no_byte(home: Home, folder: Path) -> None:
    grown(home)
    home.fork("ada", new="child")
    home.suspend("ada")
    home.freeze("ada")
    home.archive("ada")
    assert home.delete("ada").bytes > 0
    assert files_of(folder) == {"ledger.db", "agents/child.workbook"}
    stone = home.ledger.agent("ada")
    assert (stone.state, stone.file, stone.cold, stone.archive, stone.bytes) == ("deleted", "", None, None, 0)
    assert home.ledger.history("ada")[-1].after == "deleted"
    with home.using("child") as book:
        assert book.lineage is not None
        assert book.lineage[0] == stone.id


def test_archiving_forgets_a_timer_and_freezing_does_not(home: Home) -> None:
    grown(home, "ada", "suspended")
    home.schedule("ada", NOW + 10)
    home.freeze("ada")
    assert home.ledger.agent("ada").wake == NOW + 10
    home.archive("ada")
    assert home.ledger.agent("ada").wake is None


@pytest.mark.parametrize("verb", ["wake", "suspend", "freeze", "prefetch", "archive", "delete"])
def test_nobody_is_unknown(home: Home, verb: str) -> None:
    with pytest.raises(AgentUnknown):
        getattr(home, verb)("nobody")
    assert residue(home) == (0, 0, 0)


def test_an_agent_is_known_by_its_id_too(home: Home) -> None:
    made = home.new("ada")
    assert home.wake(made.id).record.name == "ada"
    assert home.suspend("ADA").agent == made.id


def test_whoever_watches_is_told_of_the_bytes(home: Home) -> None:
    home.new("ada")
    with home.using("ada") as book:
        book.write("workspace", "/big.bin", os.urandom(3_000_000))
    home.suspend("ada")
    steps: list[Step] = []
    size = home.freeze("ada", watch=steps.append).bytes
    home.wake("ada", watch=steps.append)
    assert {step.stage for step in steps} == {"put", "verify", "get"}
    assert all(0 <= step.done <= step.total == size for step in steps)
    assert [step.done for step in steps if step.stage == "get"][-1] == size


def test_stores_may_change_without_losing_who_is_in_the_old_ones(folder: Path, tmp_path: Path) -> None:
    with open_home(folder) as home:
        grown(home, "ada", "frozen")
        grown(home, "bob", "archived")
    (tmp_path / "other").mkdir()
    with open_home(folder, cold=f"file://{tmp_path}/other", archive="vault") as home:
        home.wake("ada")
        home.wake("bob")
        check_tidy(home)
        home.suspend("ada")
        home.freeze("ada")
        home.archive("bob")
        assert len(files_of(tmp_path / "other")) == 1
        assert len(files_of(folder / "vault")) == 1
        assert home.ledger.leftovers() == []
    with open_home(folder) as home:
        for name in ("ada", "bob"):
            with home.using(name) as book:
                assert book.read("workspace", "/a.txt") == name.encode() * 1000
        assert files_of(tmp_path / "other") == files_of(folder / "vault") == set()


# --- moves that fail ---


def frozen(home: Home) -> None:
    grown(home, "ada", "frozen")


def suspended(home: Home) -> None:
    grown(home, "ada", "suspended")


def active(home: Home) -> None:
    grown(home)


def archived(home: Home) -> None:
    grown(home, "ada", "archived")


def template(home: Home) -> None:
    grown(home)
    home.templates.create("kind", "ada")


FAILING: list[tuple[Callable[[Home], Any], Callable[[Home], Any]]] = [
    (suspended, lambda home: home.freeze("ada")),
    (suspended, lambda home: home.wake("ada")),
    (frozen, lambda home: home.wake("ada")),
    (frozen, lambda home: home.prefetch("ada")),
    (frozen, lambda home: home.archive("ada")),
    (active, lambda home: home.suspend("ada")),
    (active, lambda home: home.archive("ada")),
    (archived, lambda home: home.wake("ada")),
    (archived, lambda home: home.delete("ada")),
    (active, lambda home: home.new("bob")),
    (active, lambda home: home.fork("ada", new="bob")),
    (template, lambda home: home.templates.clone("kind", tenant="acme", count=2)),
    (active, lambda home: home.templates.create("kind", "ada")),
]


@pytest.mark.parametrize(("prepare", "move"), FAILING)
def test_a_move_that_fails_is_undone_at_once(
    tmp_path: Path, prepare: Callable[[Home], Any], move: Callable[[Home], Any]
) -> None:
    with open_home(tmp_path / "first") as home:
        prepare(home)
        with record() as reached:
            move(home)
    before_commit = reached[: len(reached) - reached[::-1].index("ledger.committing")]
    for point in sorted(
        {point for point in before_commit if point.startswith(("move.r", "store.", "wake.r", "copy."))}
    ):
        with open_home(tmp_path / point) as home:
            prepare(home)
            before = {found.name: found for found in home.ledger.agents()}
            files = files_of(tmp_path / point)
            trouble = StorageFailed(path="disk", reason="the test says so")
            with pytest.raises(StorageFailed), fail_at(point, trouble):
                move(home)
            assert {found.name: found for found in home.ledger.agents()} == before
            assert home.ledger.leftovers() == []
            assert files_of(tmp_path / point) - files <= {"agents/ada.workbook"}
            move(home)


def test_a_ledger_that_fails_at_the_commit_leaves_the_agent_where_it_was_or_moves_it(tmp_path: Path) -> None:
    for nth, after in ((1, "suspended"), (2, "suspended")):
        with open_home(tmp_path / str(nth)) as home:
            suspended(home)
            trouble = LedgerFailed(path="ledger.db", reason="the test says so")
            with pytest.raises(LedgerFailed), fail_at("ledger.committing", trouble, nth):
                home.freeze("ada")
            assert home.ledger.agent("ada").state == after
            check_tidy(home)
            home.freeze("ada")
            check_tidy(home)


# --- many times ---


def cycles(home: Home, count: int) -> None:
    home.new("ada")
    for number in range(count):
        with home.using("ada") as book:
            book.append("note.added", {"number": number})
            book.write("workspace", "/count.txt", str(number).encode())
            book.write("tmp", "/scratch.txt", b"scratch")
        home.suspend("ada")
        home.freeze("ada")
    with home.using("ada") as book:
        assert book.verify().problems == ()
        assert [event.body["number"] for event in book.events() if event.kind == "note.added"] == list(range(count))
        assert book.read("workspace", "/count.txt") == str(count - 1).encode()
    check_tidy(home)


def test_thirty_freezes_and_wakes_keep_the_chain_whole(home: Home) -> None:
    cycles(home, 30)


@pytest.mark.torture
def test_a_thousand_freezes_and_wakes_keep_the_chain_whole(home: Home) -> None:
    cycles(home, 1000)


def test_an_agent_can_be_used_beside_the_home_while_it_sleeps(home: Home, folder: Path) -> None:
    grown(home, "ada", "suspended")
    with Workbook.open(folder / "agents/ada.workbook") as book:
        book.append("note.added", {"by": "hand"})
    home.freeze("ada")
    with home.using("ada") as book:
        assert [event.body for event in book.events()][-1] == {"by": "hand"}
