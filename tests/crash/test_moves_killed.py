"""A process is killed with SIGKILL at every fault point of every move; the next start finishes it or undoes it.

For each move: it is done once, to learn which points it reaches. Then, for each of those and each time that it is
reached, a process begins the same move in the same home and dies there. Whatever is found afterwards has to be the
agent before the move or after it, whole, with no file or object that the ledger doesn't name; and the move can be made.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from tests.crash import moves_workload
from tests.crash.moves_workload import MOVES
from tests.crash.zygote import Warm
from tests.unit.home.kit import check_tidy, grown
from tests.unit.workbook.kit import NOW, SetClock

from torpor.base import faults
from torpor.base.errors import AgentBusy, AgentUnknown, FileTaken, NameTaken, TorporError
from torpor.home import Home
from torpor.lifecycle import State
from torpor.testing import fail_at
from torpor.workbook import Workbook

MEMORY: Final = "/dev/shm"  # noqa: S108  (the tests make a folder of their own in it)

ROOMS: Final = ("move.", "wake.", "clone.", "copy.", "store.", "ledger.", "recovery.removed")
"""The points that every move is killed at, each time that it reaches them; at others only the first time."""


class Zygote(Warm):
    """The process that forks the children."""

    def run(self, folder: Path, move: str, point: str = "", nth: int = 1) -> dict[str, Any]:
        return self.ask(folder=str(folder / "home"), move=move, point=point, nth=nth)


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    found = Zygote(moves_workload.__file__)
    yield found
    found.close()


def active(home: Home) -> None:
    grown(home)


def suspended(home: Home) -> None:
    grown(home, state="suspended")


def frozen(home: Home) -> None:
    grown(home, state="frozen")


def prefetched(home: Home) -> None:
    grown(home, state="frozen")
    home.prefetch("ada")


def archived(home: Home) -> None:
    grown(home, state="archived")


def fetched_archived(home: Home) -> None:
    """Make a home as a wake out of the archive leaves it that fails when the file is in its place."""
    grown(home, state="archived")
    with pytest.raises(AgentBusy), fail_at("move.copied", AgentBusy(name="ada", reason="the test says so")):
        home.wake("ada")


def created(home: Home) -> None:
    home.new("ada")


def template(home: Home) -> None:
    grown(home, state="suspended")
    home.templates.create("kind", "ada")


def arriving(home: Home) -> None:
    grown(home, state="suspended")
    home.export("ada", Path(home.path).parent / "in.workbook", with_memory=True)


def several(home: Home) -> None:
    """Make an active agent, a suspended one, and a frozen one whose time will have come."""
    grown(home, "ada", freeze_after_s=1e9)
    grown(home, "bob", "suspended")
    grown(home, "eve", "frozen")
    home.schedule("eve", NOW + 1)


@dataclass(frozen=True)
class Case:
    """One move, from one beginning."""

    move: str
    prepare: Callable[[Home], None]
    states: dict[str, tuple[State, ...]]
    """The states that each agent may be in: before the move, on the way, and last after it."""
    also: frozenset[str] = frozenset()
    """Files that may be there besides those that the ledger names: fetched copies."""
    refused: type[TorporError] | None = None
    """What doing it again raises where it was done."""
    made: int = 0
    """How many agents or templates it makes, or drops."""
    movable: bool = True
    """Whether the prepared home may be copied: a template in it may not."""


ADA: Final[dict[str, tuple[State, ...]]] = {"ada": ("suspended",)}
FETCHED: Final = frozenset({"agents/ada.workbook"})

CASES: Final = {
    "new": Case("new", suspended, ADA, refused=NameTaken, made=1),
    "new from template": Case("new from template", template, ADA, refused=NameTaken, made=1, movable=False),
    "clone": Case("clone", template, ADA, made=3, movable=False),
    "template": Case("template", suspended, ADA, refused=NameTaken, made=1),
    "drop": Case("drop", template, ADA, refused=AgentUnknown, made=-1, movable=False),
    "wake created": Case("wake", created, {"ada": ("created", "active")}),
    "wake suspended": Case("wake", suspended, {"ada": ("suspended", "active")}),
    "wake frozen": Case("wake", frozen, {"ada": ("frozen", "active")}, FETCHED),
    "wake prefetched": Case("wake", prefetched, {"ada": ("frozen", "active")}, FETCHED),
    "wake archived": Case("wake", archived, {"ada": ("archived", "active")}, FETCHED),
    "wake archived and fetched": Case("wake", fetched_archived, {"ada": ("archived", "active")}, FETCHED),
    "wake active": Case("wake", active, {"ada": ("active",)}),
    "work": Case("work", suspended, {"ada": ("suspended", "active", "suspended")}),
    "suspend": Case("suspend", active, {"ada": ("active", "suspended")}),
    "freeze": Case("freeze", suspended, {"ada": ("suspended", "frozen")}),
    "freeze prefetched": Case("freeze", prefetched, {"ada": ("frozen",)}, FETCHED),
    "prefetch": Case("prefetch", frozen, {"ada": ("frozen",)}, FETCHED),
    "archive active": Case("archive", active, {"ada": ("active", "archived")}),
    "archive frozen": Case("archive", frozen, {"ada": ("frozen", "archived")}),
    "archive prefetched": Case("archive", prefetched, {"ada": ("frozen", "archived")}, FETCHED),
    "delete": Case("delete", archived, {"ada": ("archived", "deleted")}),
    "delete fetched": Case("delete", fetched_archived, {"ada": ("archived", "deleted")}, FETCHED),
    "fork": Case("fork", active, {"ada": ("active",)}, refused=NameTaken, made=1),
    "rewind": Case("rewind", suspended, {"ada": ("suspended", "active")}),
    "export": Case("export", suspended, ADA, refused=FileTaken),
    "import": Case("import", arriving, ADA, refused=NameTaken, made=1),
    "tick": Case(
        "tick",
        several,
        {"ada": ("active", "suspended"), "bob": ("suspended", "frozen"), "eve": ("frozen", "active")},
        frozenset({"agents/eve.workbook"}),
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder in memory where there is one: a kill loses nothing that was written, synced or not."""
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as found:
        yield Path(found)


class Beginnings:
    """Makes folders in which a case's home is as it was before the move."""

    def __init__(self, folder: Path, case: Case) -> None:
        self._folder = folder
        self._case = case
        self._count = 0
        if case.movable:
            self._prepare(folder / "first")

    def one(self) -> Path:
        self._count += 1
        folder = self._folder / str(self._count)
        if self._case.movable:
            return shutil.copytree(self._folder / "first", folder)
        return self._prepare(folder)

    def _prepare(self, folder: Path) -> Path:
        folder.mkdir(parents=True)
        with Home.open(folder / "home", clock=SetClock()) as home:
            self._case.prepare(home)
        return folder


def points_of(reached: Sequence[str]) -> list[tuple[str, int]]:
    """Return the points to be killed at, and at which reaching."""
    return [
        (point, nth)
        for point, most in Counter(reached).items()
        for nth in range(1, (most if point.startswith(ROOMS) else 1) + 1)
    ]


def opened(folder: Path) -> Home:
    return Home.open(folder / "home", clock=SetClock())


def things(home: Home) -> set[str]:
    """Return the names of all agents and templates, the deleted agents included."""
    agents = {record.name for state in (None, "deleted") for record in home.ledger.agents(state=state)}
    return agents | {template.name for template in home.ledger.templates.all()}


def check_whole(home: Home) -> None:
    """Wake every agent, and insist that each has all that it had."""
    for record in home.ledger.agents():
        with home.using(record.name) as book:
            assert book.verify().problems == ()
            assert book.agent == record.id
            assert book.extends(record.seq, record.head)
            if record.template or record.name in ("ada", "eve"):
                check_content(book, record.name if record.name == "eve" else "ada")


def check_content(book: Workbook, mark: str) -> None:
    if book.last == 0:
        return  # just created
    notes = [event.body for event in book.events() if event.kind == "note.added"]
    assert [note["number"] for note in notes if "number" in note] == [0, 1, 2]
    assert book.list("tmp") == []
    if not book.branches():
        assert book.read("workspace", "/a.txt") == mark.encode() * 1000
        assert book.read("memory", "/m.txt") == b"mine"
        assert [entry.source for entry in book.memory.entries()] == [f"urn:{mark}"]


def check_export(folder: Path) -> bool:
    """Insist that an export is whole or not there; returns whether it is there."""
    target = folder / "out.workbook"
    if not target.exists():
        return False
    with Workbook.open(target, readonly=True) as book:
        assert book.verify().problems == ()
        assert book.read("workspace", "/a.txt") == b"ada" * 1000
        assert book.list("memory") == []
    return True


def check_after(folder: Path, case: Case, before: set[str]) -> None:
    """Insist that a home is as it was before the move, or as it is after it, and that the move can be made."""
    with opened(folder) as home:
        # The claim on a file from elsewhere is left to whoever opens that file next.
        beside = {"in.workbook", "in.workbook-owner", "out.workbook"} & set(os.listdir(folder))
        assert set(os.listdir(folder)) == {"home", *beside}
        done = check_export(folder)
        check_tidy(home, also=case.also)
        for name, states in case.states.items():
            assert home.ledger.agent(name).state in states
        changed = things(home) ^ before
        assert len(changed) in (0, abs(case.made))
        done = done or bool(changed)
    copy = shutil.copytree(folder, folder.with_suffix(".copy"))
    with opened(copy) as home:
        check_whole(home)
    with opened(folder) as home:
        if done and case.refused is not None:
            with pytest.raises(case.refused):
                MOVES[case.move](home)
        else:
            MOVES[case.move](home)
        for name, states in case.states.items():
            assert home.ledger.agent(name).state == states[-1]
    with opened(folder) as home:
        assert home.recovered == ()
        check_tidy(home, also=case.also)
        check_whole(home)


def killed(zygote: Zygote, folder: Path, move: str, point: str, nth: int) -> None:
    ended = zygote.run(folder, move, point, nth)
    assert ended["code"] == -signal.SIGKILL, ended


def learnt(zygote: Zygote, beginnings: Beginnings, case: Case) -> tuple[list[str], set[str]]:
    """Do the move once, and return the points that it reaches, and what there was before it."""
    folder = beginnings.one()
    with opened(folder) as home:
        before = things(home)
    ended = zygote.run(folder, case.move)
    assert ended["code"] == 0, ended["said"]
    check_after(folder, case, before)
    return ended["reached"], before


@pytest.mark.parametrize("name", CASES)
def test_after_a_kill_an_agent_is_as_before_the_move_or_as_after_it(zygote: Zygote, folder: Path, name: str) -> None:
    case = CASES[name]
    beginnings = Beginnings(folder, case)
    reached, before = learnt(zygote, beginnings, case)
    visited = points_of(reached)
    assert visited
    for point, nth in visited:
        home = beginnings.one()
        killed(zygote, home, case.move, point, nth)
        check_after(home, case, before)


@pytest.mark.parametrize("name", ["freeze", "clone", "archive frozen", "wake frozen", "delete", "import"])
def test_a_recovery_that_is_killed_is_finished_by_the_next(zygote: Zygote, folder: Path, name: str) -> None:
    case = CASES[name]
    beginnings = Beginnings(folder, case)
    reached, before = learnt(zygote, beginnings, case)
    last = Counter(reached)["ledger.committed"] - 1
    recovered = 0
    for point, nth in (("move.copied", 1), ("clone.copied", 2), ("store.got", 1), ("ledger.committed", max(last, 1))):
        if Counter(reached)[point] < nth:
            continue
        again = 1
        while True:
            home = beginnings.one()
            killed(zygote, home, case.move, point, nth)
            if zygote.run(home, "recover", "recovery.removed", again)["code"] == 0:
                break  # there was no more to remove
            recovered += 1
            check_after(home, case, before)
            again += 1
    assert recovered


def test_every_point_of_the_moves_is_visited(zygote: Zygote, folder: Path) -> None:
    visited: set[str] = set()
    for name in ("clone", "wake frozen", "archive frozen"):
        beginnings = Beginnings(folder / name, CASES[name])
        visited.update(learnt(zygote, beginnings, CASES[name])[0])
    assert {point for point in faults.POINTS if point.startswith(ROOMS)} <= visited
