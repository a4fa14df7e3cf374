"""Several processes share one ledger; a forked child keeps its hands off the one that it inherited."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.hazards.kit import ROOT, in_child
from tests.unit.ledger.kit import NOW, add, agent, bring, content, id_of, leftover, move, note, template

from torpor.base.errors import LedgerFailed
from torpor.ledger import Changes, Mark, SqliteLedger

MOVER = """
import sys
from tests.unit.ledger.kit import leftover, move
from torpor.base.errors import MoveConflict
from torpor.ledger import Changes, Mark, SqliteLedger
ledger = SqliteLedger.open(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    name, state = line.split()
    try:
        # Everybody has read it before anybody moves it: its epoch and state are given, not looked up.
        before = ledger.agent(name)
        print("read", flush=True)
        sys.stdin.readline()
        move(ledger, before, state, left=[leftover(f"file:{name}", sys.argv[2])])
        print("moved", flush=True)
    except MoveConflict as conflict:
        print(conflict.state, flush=True)
ledger.close()
"""

HOLDER = """
import os, signal, sys
from tests.unit.ledger.kit import add, agent
from torpor.ledger import Changes, Mark, SqliteLedger
ledger = SqliteLedger.open(sys.argv[1])
add(ledger, agent("before"))
with ledger._connection.transaction() as execute:
    execute("DELETE FROM leftovers")
    execute("UPDATE agents SET active = 1")
    print("inside", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def process(script: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen(
        [sys.executable, "-c", script, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
    )
    assert started.stdin
    assert started.stdout
    try:
        yield started
    finally:
        started.stdin.close()
        started.wait(30)
        started.stdout.close()


def hear(started: subprocess.Popen[str]) -> str:
    assert started.stdout
    return started.stdout.readline().strip()


def tell(started: subprocess.Popen[str], words: str) -> None:
    assert started.stdin
    started.stdin.write(f"{words}\n")
    started.stdin.flush()


def test_of_two_processes_that_move_one_agent_at_once_one_does(path: Path) -> None:
    with closing(SqliteLedger.open(path)) as ledger:
        for round_ in range(10):
            bring(ledger, "suspended", f"agent-{round_}")
    asked = ("frozen", "active")
    with process(MOVER, str(path), "frozen") as one, process(MOVER, str(path), "active") as two:
        both = (one, two)
        assert [hear(each) for each in both] == ["ready", "ready"]
        for round_ in range(10):
            for each, state in zip(both, asked, strict=True):
                tell(each, f"agent-{round_} {state}")
            assert [hear(each) for each in both] == ["read", "read"]
            for each in both:
                tell(each, "go")
            answers = [hear(each) for each in both]
            winner = asked[answers.index("moved")]
            assert sorted(answers) == sorted(["moved", winner])
            with closing(SqliteLedger.open(path)) as ledger:
                assert ledger.agent(f"agent-{round_}").state == winner
                assert len(ledger.history(f"agent-{round_}")) == 4
                assert [each.agent for each in ledger.leftovers() if each.place == f"file:agent-{round_}"] == [winner]


def test_what_a_killed_process_had_begun_is_undone(path: Path) -> None:
    with closing(SqliteLedger.open(path)) as ledger:
        ada = bring(ledger, "active")
        ledger.reserve([leftover("file:a")])
        with process(HOLDER, str(path)) as holder:
            assert hear(holder) == "inside"
            assert ledger.agent("ada").active == NOW  # nobody sees what is not done
            holder.kill()
            assert holder.wait(30) == -signal.SIGKILL
            move(ledger, ada, "suspended")  # and nobody waits for the dead
        assert [each.place for each in ledger.leftovers()] == ["file:a"]
        assert ledger.agent("before").active == NOW
        before = content(ledger)
    with closing(SqliteLedger.open(path)) as ledger:
        assert content(ledger) == before


# --- fork ---------------------------------------------------------------------------------------------------------


USES: dict[str, Callable[[SqliteLedger], object]] = {
    "add": lambda ledger: add(ledger, agent("child")),
    "agent": lambda ledger: ledger.agent("ada"),
    "agents": lambda ledger: list(ledger.agents()),
    "counts": lambda ledger: ledger.counts(),
    "children": lambda ledger: ledger.children("x"),
    "move": lambda ledger: move(ledger, agent(epoch=1, state="active"), "suspended"),
    "note": lambda ledger: ledger.note(note(id_of("ada"), "export")),
    "history": lambda ledger: ledger.history("ada"),
    "touch": lambda ledger: ledger.touch(id_of("ada"), NOW),
    "schedule": lambda ledger: ledger.schedule(id_of("ada"), NOW),
    "ladder": lambda ledger: list(ledger.ladder()),
    "due": lambda ledger: list(ledger.due(NOW)),
    "changes": lambda ledger: ledger.changes(Mark(), 10),
    "take_over": lambda ledger: ledger.take_over(Changes(mark=Mark())),
    "reserve": lambda ledger: ledger.reserve([leftover("file:child")]),
    "leftovers": lambda ledger: ledger.leftovers(),
    "release": lambda ledger: ledger.release([leftover("file:a")]),
    "templates.add": lambda ledger: ledger.templates.add(template(), note(id_of("base"), "template")),
    "templates.get": lambda ledger: ledger.templates.get("base"),
    "templates.all": lambda ledger: ledger.templates.all(),
    "templates.drop": lambda ledger: ledger.templates.drop(template(), note(id_of("base"), "drop")),
}


@pytest.fixture
def ledger(path: Path) -> Iterator[SqliteLedger]:
    with closing(SqliteLedger.open(path)) as opened:
        bring(opened, "active")
        opened.reserve([leftover("file:a")])
        yield opened


def stays_whole(ledger: SqliteLedger) -> None:
    """Insist that the parent goes on, and that others see what it commits."""
    ledger.touch(id_of("ada"), NOW + 7)
    add(ledger, agent("later"))
    with closing(SqliteLedger.open(ledger.path)) as other:
        assert content(other) == content(ledger)
        assert other.agent("ada").active == NOW + 7


def test_every_use_is_tried(ledger: SqliteLedger) -> None:
    public = {name for name in dir(SqliteLedger) if not name.startswith("_")} - {"open", "close"}
    nested = {f"templates.{name}" for name in dir(ledger.templates) if not name.startswith("_")}
    assert public | nested == set(USES)


@pytest.mark.parametrize("use", USES)
def test_a_forked_child_cannot_use_the_inherited_ledger(use: str, ledger: SqliteLedger) -> None:
    def act() -> None:
        with pytest.raises(LedgerFailed, match="by fork"):
            USES[use](ledger)

    assert in_child(act) == ""
    stays_whole(ledger)


def test_a_forked_child_may_close_the_inherited_ledger_and_open_its_own(ledger: SqliteLedger) -> None:
    def act() -> None:
        ledger.close()
        with closing(SqliteLedger.open(ledger.path)) as own:
            add(own, agent("child"))

    assert in_child(act) == ""
    assert ledger.agent("child").state == "created"
    stays_whole(ledger)


def test_a_child_forked_while_another_thread_writes_is_refused_and_not_stuck(ledger: SqliteLedger) -> None:
    def act() -> None:
        with pytest.raises(LedgerFailed, match="by fork"):
            ledger.agent("ada")

    with ledger._connection.transaction() as execute:
        execute("DELETE FROM leftovers")
        assert in_child(act) == ""
    assert ledger.leftovers() == []
    stays_whole(ledger)


@pytest.mark.parametrize("use", USES)
def test_after_closing_every_use_is_refused(use: str, ledger: SqliteLedger) -> None:
    ledger.close()
    with pytest.raises(LedgerFailed, match="it was closed"):
        USES[use](ledger)
