"""Two processes, or many threads, move one agent at once: one does, the others are told so, and nothing is lost."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest
from tests.unit.home.kit import check_tidy, grown, kept, open_home

from torpor.base.errors import AgentBusy, MoveConflict, MoveRefused, TorporError
from torpor.home import Home, Moved
from torpor.lifecycle import State
from torpor.testing.chance import Seeded
from torpor.workbook import Workbook

ROOT: Final = Path(__file__).parents[2]

STOP: Final = """
import sys
from torpor.base import faults
from torpor.home import Home
folder, move, point = sys.argv[1:]
def stop(reached):
    if reached == point:
        faults.listen(None)
        print("stopped", flush=True)
        sys.stdin.readline()
with Home.open(folder) as home:
    faults.listen(stop)
    result = getattr(home, move)("ada")
    print(type(result).__name__, flush=True)
"""
"""Makes a move, and stops at a fault point until it is told to go on."""

RACE: Final = """
import sys
from torpor.base.errors import TorporError
from torpor.home import Home
folder, move = sys.argv[1:]
with Home.open(folder) as home:
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        result = getattr(home, move)("ada")
        print("skipped" if getattr(result, "skipped", "") else "done", flush=True)
    except TorporError as error:
        print(type(error).__name__, flush=True)
    sys.stdin.readline()
"""
"""Waits for the start, makes a move, says what became of it, and stays until it is told to end."""

WANDER: Final = """
import json, sys
from torpor.base.errors import TorporError
from torpor.home import Home
from torpor.testing.chance import Seeded
folder, mark, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
chance, said, refused = Seeded(int(mark)), [], {}
with Home.open(folder) as home:
    print("ready", flush=True)
    sys.stdin.readline()
    for step in range(steps):
        move = ("using", "using", "suspend", "freeze", "freeze", "prefetch", "archive", "tick")[chance.below(8)]
        try:
            if move == "using":
                with home.using("ada") as book:
                    seq = book.append("note.added", {"mark": mark, "step": step})
                said.append([seq, mark, step])
            elif move == "tick":
                home.tick()
            else:
                getattr(home, move)("ada")
        except TorporError as error:
            refused[type(error).__name__] = refused.get(type(error).__name__, 0) + 1
        try:
            home.suspend("ada")
        except TorporError as error:
            refused[type(error).__name__] = refused.get(type(error).__name__, 0) + 1
print(json.dumps({"said": said, "refused": refused}), flush=True)
"""
"""Moves an agent about at random, and says which of its appends were acknowledged."""


@contextmanager
def process(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run a script beside this process."""
    child = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT / "src")},
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def tell(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    with suppress(BrokenPipeError):
        child.stdin.write("go\n")
        child.stdin.flush()


def prepared(folder: Path, state: str) -> Any:
    """Make a home with an agent in a state, and return what has to last."""
    with open_home(folder) as home:
        grown(home)
        with home.reading("ada") as book:
            lasting = kept(book)
        if state == "suspended":
            home.suspend("ada")
        elif state in ("frozen", "prefetched"):
            home.suspend("ada")
            home.freeze("ada")
            if state == "prefetched":
                home.prefetch("ada")
        elif state == "archived":
            home.archive("ada")
    return lasting


def check_lasting(home: Home, lasting: Any) -> None:
    with home.using("ada") as book:
        assert book.verify().problems == ()
        assert kept(book) == lasting


ALL: Final[dict[str, Callable[[Home], Any]]] = {
    "wake": lambda home: home.wake("ada"),
    "suspend": lambda home: home.suspend("ada"),
    "freeze": lambda home: home.freeze("ada"),
    "prefetch": lambda home: home.prefetch("ada"),
    "archive": lambda home: home.archive("ada"),
    "delete": lambda home: home.delete("ada"),
    "rewind": lambda home: home.rewind("ada", 2),
}

HELD: Final[list[tuple[str, str, str, State]]] = [
    ("suspended", "freeze", "move.reserved", "frozen"),
    ("suspended", "freeze", "store.put", "frozen"),
    ("suspended", "freeze", "move.copied", "frozen"),
    ("suspended", "freeze", "move.committed", "frozen"),
    ("suspended", "wake", "wake.opened", "active"),
    ("suspended", "wake", "move.committed", "active"),
    ("frozen", "wake", "move.reserved", "active"),
    ("frozen", "wake", "store.got", "active"),
    ("frozen", "wake", "wake.restored", "active"),
    ("frozen", "wake", "wake.opened", "active"),
    ("frozen", "prefetch", "wake.restored", "frozen"),
    ("prefetched", "freeze", "move.committed", "frozen"),
    ("active", "archive", "move.copied", "archived"),
    ("frozen", "archive", "store.got", "archived"),
    ("archived", "wake", "wake.restored", "active"),
    ("active", "suspend", "ledger.committing", "suspended"),
]


@pytest.mark.parametrize(("state", "move", "point", "after"), HELD)
def test_while_one_process_moves_an_agent_another_is_told_so(
    tmp_path: Path, state: str, move: str, point: str, after: State
) -> None:
    lasting = prepared(tmp_path, state)
    with open_home(tmp_path) as home, process(STOP, tmp_path, move, point) as mover:
        assert line(mover) == "stopped"
        before = home.ledger.agent("ada")
        for other in ALL.values():
            refused: list[type[TorporError]] = [AgentBusy, MoveConflict, MoveRefused]
            try:
                found = other(home)
            except tuple(refused):
                continue
            assert isinstance(found, Moved)
            assert found.skipped
        assert home.tick().failed == ()
        assert home.ledger.agent("ada") == before
        tell(mover)
        assert line(mover) in ("Moved", "Woken")
        assert mover.wait() == 0
        assert home.ledger.agent("ada").state == after
    with open_home(tmp_path) as home:
        check_tidy(home, also=frozenset({"agents/ada.workbook"}) if move == "prefetch" else frozenset())
        check_lasting(home, lasting)


@pytest.mark.parametrize(
    ("state", "move"),
    [
        ("active", "suspend"),
        ("suspended", "freeze"),
        ("suspended", "wake"),
        ("frozen", "wake"),
        ("frozen", "prefetch"),
        ("prefetched", "freeze"),
        ("prefetched", "archive"),
        ("active", "archive"),
        ("archived", "delete"),
    ],
)
def test_of_four_processes_making_one_move_at_once_one_makes_it(tmp_path: Path, state: str, move: str) -> None:
    lasting = prepared(tmp_path, state)
    with (
        process(RACE, tmp_path, move) as first,
        process(RACE, tmp_path, move) as second,
        process(RACE, tmp_path, move) as third,
        process(RACE, tmp_path, move) as fourth,
    ):
        racers = (first, second, third, fourth)
        for racer in racers:
            assert line(racer) == "ready"
        for racer in racers:
            tell(racer)
        answers = Counter(line(racer) for racer in racers)
        for racer in racers:
            tell(racer)
            assert racer.wait() == 0
    assert answers["done"] == 1, answers
    assert set(answers) <= {"done", "skipped", "AgentBusy", "MoveConflict"}
    with open_home(tmp_path) as home:
        check_tidy(home, also=frozenset({"agents/ada.workbook"}) if move == "prefetch" else frozenset())
        moves = [row for row in home.ledger.history("ada") if row.verb == move]
        assert sum(row.who == "library" for row in moves[-1:]) == 1
        if move != "delete":
            check_lasting(home, lasting)


@pytest.mark.parametrize("seed", [1, 2])
def test_processes_that_move_an_agent_about_at_random_lose_nothing(tmp_path: Path, seed: int) -> None:
    prepared(tmp_path, "suspended")
    with (
        process(WANDER, tmp_path, seed * 10, 25) as first,
        process(WANDER, tmp_path, seed * 10 + 1, 25) as second,
        process(WANDER, tmp_path, seed * 10 + 2, 25) as third,
    ):
        wanderers = (first, second, third)
        for wanderer in wanderers:
            assert line(wanderer) == "ready"
        for wanderer in wanderers:
            tell(wanderer)
        told = [json.loads(line(wanderer)) for wanderer in wanderers]
    acknowledged = {tuple(said) for one in told for said in one["said"]}
    kinds = {kind for one in told for kind in one["refused"]}
    assert kinds <= {"AgentBusy", "MoveConflict", "MoveRefused"}
    assert acknowledged
    with open_home(tmp_path) as home:
        check_tidy(home, also=frozenset({"agents/ada.workbook"}))
        with home.using("ada") as book:
            assert book.verify().problems == ()
            found = {
                (event.seq, event.body["mark"], event.body["step"])
                for event in book.events()
                if event.kind == "note.added" and "step" in event.body
            }
        assert acknowledged == found


def test_many_threads_that_wake_an_agent_at_once_share_one_wake(tmp_path: Path) -> None:
    prepared(tmp_path, "frozen")
    with open_home(tmp_path) as home:
        ready = threading.Barrier(8)
        found: list[str] = []

        def wake() -> None:
            ready.wait()
            found.append(home.wake("ada").how)

        threads = [threading.Thread(target=wake) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Counter(found) == {"cold": 1, "warm": 7}
        assert home.ledger.agent("ada").epoch == 2
        assert [row.verb for row in home.ledger.history("ada")].count("wake") == 2


def test_threads_that_use_and_move_an_agent_at_once_lose_nothing(tmp_path: Path) -> None:
    prepared(tmp_path, "suspended")
    with open_home(tmp_path) as home:
        acknowledged: list[int] = []
        unexpected: list[BaseException] = []

        def use(mark: int) -> None:
            chance = Seeded(mark)
            for step in range(30):
                try:
                    if chance.below(2):
                        with home.using("ada") as book:
                            acknowledged.append(book.append("note.added", {"mark": mark, "step": step}))
                    else:
                        (home.suspend, home.freeze, home.prefetch)[chance.below(3)]("ada")
                except (AgentBusy, MoveRefused):
                    continue
                except BaseException as error:
                    unexpected.append(error)
                    raise

        threads = [threading.Thread(target=use, args=(mark,)) for mark in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert unexpected == []
        with home.using("ada") as book:
            assert book.verify().problems == ()
            found = [event.seq for event in book.events() if "step" in event.body]
        assert sorted(acknowledged) == found


def test_a_workbook_that_a_stranger_has_open_is_not_moved(tmp_path: Path) -> None:
    lasting = prepared(tmp_path, "suspended")
    hold = "import sys; from torpor import Workbook\nbook = Workbook.open(sys.argv[1]); print('held', flush=True)\n"
    with open_home(tmp_path) as home, process(hold + "sys.stdin.readline()", tmp_path / "agents/ada.workbook") as other:
        assert line(other) == "held"
        for move in (home.freeze, home.wake):
            with pytest.raises(AgentBusy, match=f"process {other.pid}"):
                move("ada")
        tell(other)
        assert other.wait() == 0
        home.freeze("ada")
        check_tidy(home)
        check_lasting(home, lasting)


def test_a_stranger_that_reads_does_not_see_the_file_vanish_under_it(tmp_path: Path) -> None:
    prepared(tmp_path, "suspended")
    with open_home(tmp_path) as home:
        home.wake("ada")
        look = "import sys; from torpor import Workbook\nbook = Workbook.open(sys.argv[1], readonly=True)\n"
        look += "print(book.last, flush=True)\nsys.stdin.readline()\nprint(book.last, book.verify().ok, flush=True)"
        with process(look, tmp_path / "agents/ada.workbook") as reader:
            last = line(reader)
            home.suspend("ada")
            with suppress(AgentBusy):
                home.freeze("ada")
            tell(reader)
            assert line(reader) == f"{last} True"
    with open_home(tmp_path) as home, home.using("ada") as book:
        assert book.verify().problems == ()
        assert isinstance(book, Workbook)
