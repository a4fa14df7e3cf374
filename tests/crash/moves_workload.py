"""Moves that are to be killed: a process that forks a child for each, and the moves themselves.

    python moves_workload.py

Requests come as lines of JSON on standard input: the home's folder, the move, the fault point and at which of its
reachings the child dies there. The answer is a line: how the child ended, and, where it was not killed, the points that
it reached. Nothing of Torpor is used before the fork: no ledger is open, no store's thread runs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

from tests.crash.zygote import serve
from tests.unit.home.kit import DAY
from tests.unit.workbook.kit import NOW, SetClock

from torpor.home import Home
from torpor.testing.faults import kill_at, record

LATER: Final = NOW + 3 * DAY
"""When the tick goes by: everybody is idle enough by then."""


def work(home: Home) -> None:
    """Wake an agent, do something with it, and put it to sleep."""
    with home.using("ada") as book:
        book.append("note.added", {"work": "done"})
    home.suspend("ada")


def recover(home: Home) -> None:
    """Do nothing but what opening has done."""


def outside(home: Home) -> Path:
    """Return the folder beside the home for what comes and goes."""
    return Path(home.path).parent


MOVES: Final[dict[str, Callable[[Home], Any]]] = {
    "new": lambda home: home.new("bob"),
    "new from template": lambda home: home.new("bob", template="kind"),
    "clone": lambda home: home.templates.clone("kind", tenant="acme", count=3),
    "template": lambda home: home.templates.create("other", "ada"),
    "drop": lambda home: home.templates.drop("kind"),
    "wake": lambda home: home.wake("ada"),
    "work": work,
    "suspend": lambda home: home.suspend("ada"),
    "freeze": lambda home: home.freeze("ada"),
    "prefetch": lambda home: home.prefetch("ada"),
    "archive": lambda home: home.archive("ada"),
    "delete": lambda home: home.delete("ada"),
    "fork": lambda home: home.fork("ada", at=2, new="bob"),
    "rewind": lambda home: home.rewind("ada", 2),
    "export": lambda home: home.export("ada", outside(home) / "out.workbook"),
    "import": lambda home: home.import_(outside(home) / "in.workbook", "bob"),
    "tick": lambda home: home.tick(LATER),
    "recover": recover,
}


def child(folder: str, move: str, point: str, nth: int) -> list[str]:
    """Do the move; returns the points that were reached, unless it dies."""
    dying = kill_at(point, nth) if point else nullcontext()
    with record() as reached, dying, Home.open(folder, clock=SetClock()) as home:
        MOVES[move](home)
    return reached


if __name__ == "__main__":
    serve(child)
