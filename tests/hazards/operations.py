"""Every public operation of a workbook, each as a case that can be run.

`public_names` finds them by reflection, so an operation added later without a case here fails a test.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torpor.workbook import (
    Embedding,
    FileReader,
    FileWriter,
    Journal,
    Memory,
    Settings,
    Spend,
    Volumes,
    Workbook,
)

Case = Callable[[Workbook], object]

ROOMS: tuple[type, ...] = (
    Workbook,
    Journal,
    Volumes,
    Memory,
    Spend,
    Settings,
    FileReader,
    FileWriter,
)

OWN_TESTS = {"Workbook.close"}
"""What can't be done while the owner goes on; test_ownership.py has it."""

VECTOR = Embedding("test", [1.0, 0.0, 0.5])


def public_names() -> set[str]:
    """Return Class.name for each public method and property of the workbook's rooms."""
    return {
        f"{room.__name__}.{name}"
        for room in ROOMS
        for name, member in vars(room).items()
        if not name.startswith("_") and (callable(member) or isinstance(member, property | classmethod))
    }


def furnish(book: Workbook) -> None:
    """Put something of each kind into a new workbook, for the cases to find."""
    with book.transaction():
        book.append("note.added", {"text": "hello"}, key="hello", span="s")
        book.write("workspace", "/a.txt", b"content")
        book.write("memory", "/b/c.txt", b"more")
        book.memory.remember("a pond is deep", source="https://example.org/pond", aliases=["pond"], embedding=VECTOR)
        book.spend.book(5, "usd", source="wallet", target="models", key="first")
        book.settings.set("interests", "frogs")
        book.volumes.keep_value(b"a value")


def _transaction(book: Workbook) -> None:
    with book.transaction():
        book.append("note.added", {})
        with book.transaction():
            book.write("tmp", "/t", b"t")


def _clear_tmp(book: Workbook) -> None:
    book.write("tmp", "/t", b"t")
    book.clear_tmp()


def _upcoming(book: Workbook) -> int:
    with book.transaction():
        return book.journal.upcoming()


def _fold(names: Any) -> list[Any]:
    return list(names)


def _value(book: Workbook) -> bytes:
    return book.volumes.value(book.volumes.keep_value(b"a value"))


def _reading(act: Callable[[FileReader], object]) -> Case:
    def case(book: Workbook) -> None:
        with book.reader("workspace", "/a.txt") as reader:
            act(reader)

    return case


def _writing(act: Callable[[FileWriter], object]) -> Case:
    def case(book: Workbook) -> None:
        with book.writer("workspace", "/w.bin") as writer:
            act(writer)

    return case


def _open_beside(book: Workbook) -> None:
    with Workbook.open(book.path, readonly=True) as other:
        other.verify().require()
    other_path = Path(book.path).with_name("other.workbook")
    with Workbook.open(other_path) as another:
        another.append("note.added", {})
    other_path.unlink()


CASES: dict[str, Case] = {
    "Workbook.open": _open_beside,
    "Workbook.path": lambda book: book.path,
    "Workbook.agent": lambda book: book.agent,
    "Workbook.last": lambda book: book.last,
    "Workbook.new_id": lambda book: book.new_id(),
    "Workbook.transaction": _transaction,
    "Workbook.append": lambda book: book.append("note.added", {"n": 1}, parent=1, key="k", span="s"),
    "Workbook.events": lambda book: _fold(book.events(span="s")),
    "Workbook.read": lambda book: book.read("workspace", "/a.txt"),
    "Workbook.write": lambda book: book.write("workspace", "/a.txt", b"x" * 200_000),
    "Workbook.list": lambda book: book.list("memory", "/", recursive=True),
    "Workbook.stat": lambda book: book.stat("memory", "/b"),
    "Workbook.move": lambda book: book.move("memory", "/b", "/d"),
    "Workbook.delete": lambda book: book.delete("memory", "/b", recursive=True),
    "Workbook.reader": lambda book: book.reader("workspace", "/a.txt"),
    "Workbook.writer": lambda book: book.writer("workspace", "/w.bin").write(b"x" * 2_000_000),
    "Workbook.head": lambda book: book.head,
    "Workbook.lineage": lambda book: book.lineage,
    "Workbook.extends": lambda book: book.extends(*book.head),
    "Workbook.clear_tmp": _clear_tmp,
    "Workbook.rewind": lambda book: book.rewind(2),
    "Workbook.branches": lambda book: book.rewind(2) and book.branches(),
    "Workbook.verify": lambda book: book.verify().require(),
    "Workbook.append_async": lambda book: asyncio.run(book.append_async("note.added", {"n": 1})),
    "Journal.append_async": lambda book: asyncio.run(book.journal.append_async("note.added", {}, key="as a task")),
    "Journal.append": lambda book: book.journal.append("note.added", {}),
    "Journal.events": lambda book: _fold(book.journal.events(1, limit=2)),
    "Journal.upcoming": _upcoming,
    "Journal.event": lambda book: book.journal.event(1),
    "Journal.by_key": lambda book: book.journal.by_key("hello"),
    "Journal.runs": lambda book: book.journal.runs(),
    "Volumes.read": lambda book: book.volumes.read("workspace", "/a.txt"),
    "Volumes.stat": lambda book: book.volumes.stat("workspace", "/"),
    "Volumes.list": lambda book: book.volumes.list("memory"),
    "Volumes.usage": lambda book: book.volumes.usage("workspace"),
    "Volumes.write": lambda book: book.volumes.write("tmp", "/t", b"t"),
    "Volumes.create": lambda book: book.volumes.create("workspace", "/new"),
    "Volumes.append": lambda book: book.volumes.append("workspace", "/a.txt", b"more"),
    "Volumes.move": lambda book: book.volumes.move("workspace", "/a.txt", "/z.txt"),
    "Volumes.delete": lambda book: book.volumes.delete("workspace", "/a.txt"),
    "Volumes.set_quota": lambda book: book.volumes.set_quota("tmp", 1_000_000),
    "Volumes.keep_value": lambda book: book.volumes.keep_value(b"v" * 300_000),
    "Volumes.value": _value,
    "Volumes.find": lambda book: book.volumes.find("workspace", "/a.txt"),
    "Memory.remember": lambda book: book.memory.remember(
        "frogs sleep", source="https://example.org/frog", embedding=VECTOR, expires=1
    ),
    "Memory.forget": lambda book: book.memory.forget(1),
    "Memory.get": lambda book: book.memory.get("pond"),
    "Memory.unseen": lambda book: book.memory.unseen(["pond", "lake"]),
    "Memory.entries": lambda book: book.memory.entries(),
    "Memory.search": lambda book: book.memory.search("ponds"),
    "Memory.nearest": lambda book: book.memory.nearest(VECTOR),
    "Spend.book": lambda book: book.spend.book(1, "usd", source="wallet", target="m", key="two"),
    "Spend.balances": lambda book: book.spend.balances(),
    "Spend.bookings": lambda book: _fold(book.spend.bookings()),
    "Settings.get": lambda book: book.settings.get("interests"),
    "Settings.set": lambda book: book.settings.set("interests", ["toads"]),
    "Settings.all": lambda book: book.settings.all(),
    "FileReader.readable": _reading(lambda reader: reader.readable()),
    "FileReader.seekable": _reading(lambda reader: reader.seekable()),
    "FileReader.seek": _reading(lambda reader: reader.seek(-2, io.SEEK_END)),
    "FileReader.tell": _reading(lambda reader: reader.tell()),
    "FileReader.readinto": _reading(lambda reader: reader.read()),
    "FileReader.close": _reading(lambda reader: reader.close()),
    "FileWriter.write": _writing(lambda writer: writer.write(b"y" * 1_500_000)),
    "FileWriter.close": _writing(lambda writer: writer.close()),
    "FileWriter.discard": _writing(lambda writer: writer.discard()),
}
