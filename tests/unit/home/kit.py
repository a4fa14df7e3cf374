"""What the tests of homes share: homes with a clock set by hand, agents with something in them, and a look at files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.unit.workbook.kit import SetClock

from torpor.home import Home
from torpor.ledger import AgentRecord
from torpor.testing import portrait
from torpor.testing.portrait import Portrait
from torpor.workbook import Workbook

HOUR = 3_600_000_000
"""µs."""

DAY = 24 * HOUR


def open_home(folder: Path, clock: SetClock | None = None, **settings: Any) -> Home:
    """Open the home in a folder, with a clock that stands still unless one is given."""
    return Home.open(folder, clock=clock or SetClock(), **settings)


def fill(book: Workbook, mark: str = "ada") -> None:
    """Put something of everything into a workbook."""
    for number in range(3):
        book.append("note.added", {"number": number, "mark": mark})
    book.write("workspace", "/a.txt", mark.encode() * 1000)
    book.write("memory", "/m.txt", b"mine")
    book.write("tmp", "/t.txt", b"scratch")
    book.memory.remember(f"{mark} likes durable systems", source=f"urn:{mark}")
    book.spend.book(7, "usd", source="wallet", target="models/local", key="call-1")
    book.settings.set("interests", "durable systems")


def grown(home: Home, name: str = "ada", state: str = "active", **settings: Any) -> AgentRecord:
    """Make an agent, fill it, and bring it into a state."""
    home.new(name, **settings)
    with home.using(name) as book:
        fill(book, name)
    return brought(home, name, state)


def brought(home: Home, name: str, state: str) -> AgentRecord:
    """Bring an active agent into a state."""
    steps = {
        "active": (),
        "suspended": (home.suspend,),
        "frozen": (home.suspend, home.freeze),
        "archived": (home.archive,),
        "deleted": (home.archive, home.delete),
    }
    for step in steps[state]:
        step(name)
    return home.ledger.agent(name)


def kept(book: Workbook) -> Portrait:
    """Return what has to outlast every sleep: all but scratch, and without the events that clearing it added."""
    found = portrait(book)
    found.files.pop("tmp:/t.txt", None)
    found.files.pop("tmp:/", None)
    return Portrait(
        last=0,
        events="",
        files=found.files,
        memory=found.memory,
        spend=found.spend,
        settings=found.settings,
    )


def files_of(folder: Path) -> set[str]:
    """Return every file below a folder, but those of an open ledger."""
    return {
        os.path.relpath(Path(where) / name, folder)
        for where, _, names in os.walk(folder)
        for name in names
        if not name.startswith("ledger.db-")
    }


def expected_files(home: Home) -> set[str]:
    """Return the files that there have to be in a home with folders as stores.

    They are those that the ledger names, and those that are beside a workbook for as long as it is open here.
    """
    found = {"ledger.db"}
    for agent in home._site.activations.ids():
        found |= {f"{home.ledger.agent(agent).file}-{tail}" for tail in ("owner", "wal", "shm")}
    for record in home.ledger.agents():
        if record.state in ("created", "active", "suspended"):
            found.add(record.file)
        found |= {place.replace("#", "/") for place in (record.cold, record.archive) if place is not None}
    return found | {template.file for template in home.ledger.templates.all()}


def check_tidy(home: Home, *, also: frozenset[str] = frozenset()) -> None:
    """Insist that a home has no file but what the ledger names, and no leftovers."""
    assert home.ledger.leftovers() == []
    found, expected = files_of(Path(home.path)), expected_files(home)
    assert sorted(found - expected - also) == [], "files that nobody knows"
    assert sorted(expected - found - also) == [], "files that are gone"


def append_one(folder: str) -> None:
    """Wake an agent and append to it; for a process that is killed then."""
    with open_home(Path(folder)) as home, home.using("ada") as book:
        book.append("note.added", {"by": "a process that was killed"})
