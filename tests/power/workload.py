"""What the power is cut under: transactions of every kind, each with the state that it leads to."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from torpor.base.errors import TorporError
from torpor.testing import Image, PowerVFS, Seeded, Tape, portrait
from torpor.testing.portrait import Portrait
from torpor.workbook import Durability, Workbook


def fast_folder(tmp_path: Path) -> Path:
    """Return a folder for thousands of short-lived workbooks: in memory where there is such a file system.

    What is tried there is what SQLite makes of a disk's content, and no sync has to reach a real disk for it.
    """
    memory = Path("/dev/shm")  # noqa: S108  (made under a name that nobody else has)
    return Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else tmp_path))


Step = Callable[[Workbook], object]


def append(number: int) -> Step:
    return lambda book: book.append("note.added", {"n": number, "text": "x" * 40 * number})


def several(number: int) -> Step:
    def step(book: Workbook) -> None:
        with book.transaction():
            book.append("note.added", {"several": number})
            book.write("workspace", f"/{number}.txt", b"w" * 3000)
            book.write("memory", "/same.txt", str(number).encode() * 700)
            book.memory.remember(f"fact {number}", source=f"https://example.org/{number}")
            book.spend.book(number + 1, "usd", source="wallet", target="models", key=f"k{number}")
            book.settings.set("interests", f"number {number}")
            book.append("note.added", {"several": number, "end": True})

    return step


def files(book: Workbook) -> None:
    with book.transaction():
        book.write("tmp", "/scratch", b"t" * 5000)
        book.volumes.append("workspace", "/log.txt", b"line\n" * 100)
        book.move("workspace", "/log.txt", "/logs/first.txt")


def stream(book: Workbook) -> None:
    with book.writer("workspace", "/long.bin") as writer:
        for part in range(40):
            writer.write(bytes([part]) * 40_000)


def forget(book: Workbook) -> None:
    entry = book.memory.entries(limit=1)[0]
    book.memory.forget(entry.entry)


def large(number: int) -> Step:
    return lambda book: book.append("note.added", {"n": number, "text": "y" * 200_000})


SMALL: tuple[Step, ...] = (
    append(1),
    several(1),
    append(2),
    lambda book: book.write("workspace", "/a.txt", b"a" * 10_000),
    lambda book: book.volumes.append("workspace", "/a.txt", b"b" * 10_000),
    files,
    lambda book: book.memory.remember("ponds are deep", source="https://example.org/pond"),
    forget,
    lambda book: book.spend.book(7, "usd", source="wallet", target="models", key="lone"),
    lambda book: book.settings.set("interests", "frogs"),
    several(2),
    lambda book: book.delete("workspace", "/logs", recursive=True),
    append(3),
)


@dataclass
class Run:
    """A recorded workload of a workbook: its tape, and the state after each acknowledged transaction."""

    name: str
    tape: Tape = field(default_factory=Tape)
    states: list[Portrait] = field(default_factory=list)

    def litter(self, folder: Path, chance: Seeded) -> None:
        beside = chance.below(3)
        if beside:
            (folder / f"{self.name}-shm").write_bytes(chance.token(32768))
            (folder / f"{self.name}-owner").write_bytes(b'{"pid": 1, "com'[: 20 * (beside - 1)])

    def fault(self, image: Image, folder: Path) -> str | None:
        path = folder / self.name
        if self.name not in image.files:
            return None if image.acknowledged < 0 else "the workbook is gone"
        try:
            with Workbook.open(path) as book:
                verification = book.verify()
                if not verification.ok:
                    return f"verify: {verification.problems[0]}"
                found = portrait(book)
                allowed = self.states[max(0, image.acknowledged) : image.begun + 1]
                if found not in allowed:
                    known = self.states.index(found) if found in self.states else "none of the states"
                    return f"state {known} of {image.acknowledged}..{image.begun}"
                book.append("note.added", {"after": "the cut"})
                book.verify().require()
        except TorporError as error:
            return f"it doesn't open: {error}"
        return None


@contextmanager
def checkpoint_every(pages: int) -> Iterator[None]:
    """Have SQLite move the log into the file after `pages` pages: many checkpoints in a short tape."""

    def lower(db: apsw.Connection) -> None:
        db.wal_autocheckpoint(pages)

    apsw.connection_hooks.append(lower)
    try:
        yield
    finally:
        apsw.connection_hooks.remove(lower)


def record(folder: Path, rounds: tuple[tuple[Step, ...], ...], synchronous: str = "FULL") -> Run:
    """Record a workload: each round opens the workbook, does its steps, and closes it."""
    run = Run("ada.workbook")
    path = folder / run.name
    durability = Durability("taped", synchronous, vfs="power")
    number = 0
    with PowerVFS("power", run.tape):
        for steps in rounds:
            if not run.states:
                run.tape.begun(number)
            with Workbook.open(path, durability=durability) as book:
                if not run.states:
                    run.states.append(portrait(book))
                    run.tape.acknowledged(number)
                for step in steps:
                    number += 1
                    run.tape.begun(number)
                    step(book)
                    run.tape.acknowledged(number)
                    run.states.append(portrait(book))
    return run
