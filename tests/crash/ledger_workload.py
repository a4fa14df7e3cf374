"""What a ledger is killed under: a list of changes of every kind, each of which is one transaction.

    python ledger_workload.py steps|endless FOLDER NAME

What the child was told is done, it notes in FOLDER/NAME, synced line by line. Names, ids and times are always the
same, so after a kill the ledger must say just what it says after so many steps.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
from tests.unit.ledger.kit import HASH, NOW, add, agent, becoming, id_of, leftover, move, note, template

from torpor.ledger import Ledger, SqliteLedger
from torpor.lifecycle import State

Step = Callable[[Ledger], object]


def moved(name: str, state: State, *, made: str = "", left: str = "") -> Step:
    """Return the step that moves an agent, with the leftovers that go and come with it."""

    def step(ledger: Ledger) -> None:
        gone = [leftover(made, id_of(name))] if made else []
        come = [leftover(left, id_of(name))] if left else []
        move(ledger, ledger.agent(name), state, made=gone, left=come)

    return step


def reserved(*places: str, name: str = "ada") -> Step:
    return lambda ledger: ledger.reserve(leftover(place, id_of(name)) for place in places)


def released(*places: str, name: str = "ada") -> Step:
    return lambda ledger: ledger.release(leftover(place, id_of(name)) for place in places)


def touched(name: str, seconds: int) -> Step:
    return lambda ledger: ledger.touch(id_of(name), NOW + seconds * 1_000_000)


def clones(ledger: Ledger) -> None:
    many = [agent(f"clone-{number:02}", template="base", tenant="acme") for number in range(40)]
    add(ledger, *many, made=[leftover("file:clones", id_of("ada"))])


def fork(ledger: Ledger) -> None:
    ada = ledger.agent("ada")
    eve = agent("eve", parent=ada.id, parent_seq=3, seq=3, head=HASH)
    ledger.add([eve], [note(eve.id, "fork"), note(ada.id, "forked", details={"child": eve.id})])


def rewind(ledger: Ledger) -> None:
    ada = ledger.agent("ada")
    ledger.move(ada, msgspec.structs.replace(ada, seq=9, head=HASH, bytes=99), note(ada.id, "rewind"))


def make_template(ledger: Ledger) -> None:
    base = template(parent=id_of("ada"), parent_seq=2)
    ledger.templates.add(base, note(base.id, "template"), made=[leftover("file:templates/base", base.id)])


def drop_template(ledger: Ledger) -> None:
    base = ledger.templates.get("base")
    ledger.templates.drop(base, note(base.id, "drop"), left=[leftover("file:templates/base", base.id)])


STEPS: tuple[Step, ...] = (
    reserved("file:agents/ada"),
    lambda ledger: add(ledger, agent(), made=[leftover("file:agents/ada", id_of("ada"))]),
    moved("ada", "active"),
    touched("ada", 1),
    fork,
    lambda ledger: ledger.schedule(id_of("eve"), NOW),
    reserved("file:templates/base", name="base"),
    make_template,
    rewind,
    touched("ada", 2),
    touched("eve", 3),
    moved("ada", "suspended"),
    reserved("cold:ada/1", "file:clones"),
    clones,
    moved("ada", "frozen", made="cold:ada/1", left="file:agents/ada"),
    released("file:agents/ada"),
    lambda ledger: ledger.note(note(id_of("eve"), "export", why="asked")),
    moved("eve", "active"),
    reserved("archive:eve/1", name="eve"),
    moved("eve", "archived", made="archive:eve/1", left="file:agents/eve"),
    touched("ada", 4),
    drop_template,
    moved("eve", "deleted", left="archive:eve/1"),
    released("archive:eve/1", "file:agents/eve", name="eve"),
)
TOUCHES = frozenset(number for number, step in enumerate(STEPS, 1) if step.__qualname__.startswith("touched"))
"""The steps, counted from 1, that a power cut may take back."""


def acknowledge(path: Path, line: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(descriptor, f"{line}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def endless(ledger: Ledger, name: str, acks: Path) -> None:
    """Move an agent of one's own to and fro until killed, with a leftover that is there while it is suspended."""
    add(ledger, agent(name))
    record = ledger.agent(name)
    print("ready", flush=True)  # noqa: T201  (the parent waits for it)
    for turn in itertools.count(1):
        away = turn % 2 == 0
        place = [leftover("file:away", record.id)]
        record = ledger.move(
            record,
            becoming(record, "suspended" if away else "active"),
            note(record.id, "suspend" if away else "wake", details={"turn": turn}),
            made=[] if away else place,
            left=place if away else [],
        )
        acknowledge(acks, str(turn))


def main(what: str, folder: str, name: str) -> None:
    """Do one workload."""
    with closing(SqliteLedger.open(Path(folder) / "ledger.db")) as ledger:
        if what == "endless":
            endless(ledger, name, Path(folder) / name)
        for number, step in enumerate(STEPS, 1):
            step(ledger)
            acknowledge(Path(folder) / name, str(number))


if __name__ == "__main__":
    main(*sys.argv[1:])
