"""What it takes to record a commit: rows as they are now, SQLite's changesets, or the pages of its log."""

from __future__ import annotations

import math
import random
import statistics
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Final

import apsw

from bench.measure import Figures, rounds, turn
from bench.payload import MESSAGE, TEXT, prose
from bench.report import Table, gap
from torpor.workbook import Durability, Embedding, Joining, Level, Standing, Ticket, Workbook
from torpor.workbook.store import INSERT_EVENT

_COUNT: Final = 150
_WARM_UP: Final = 20
_EVENTS: Final = 50
_FRAME_BYTES: Final = 4096 + 24
_WAL_HEAD_BYTES: Final = 32
_WAL_KEEP: Final = 200
"""Frames after which the log is brought in, outside of the measured time."""

WAYS: Final = {
    "none": "nothing is recorded",
    "rows": "**rows as they are** (Torpor)",
    "changeset": "changeset",
    "patchset": "patchset",
    "frames": "pages of the log",
}

KINDS: Final = {
    "plain": "plain append, 1 KiB",
    "keyed": "append with a key",
    "batch": f"{_EVENTS} appends in one transaction",
    "small": "file of 10 KiB",
    "large": "file of 1 MiB",
    "memory": "remember, with words and 256 floats",
    "rewind": f"rewind of {_EVENTS} events and 10 files",
}


class Sink:
    """A log that keeps nothing but the number of bytes."""

    level = Level.DURABLE
    reach = Level.DURABLE
    failed = None

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.bytes = 0

    def join(self, member: Joining) -> Sink:
        """Take anybody in."""
        del member
        return self

    def add(self, txn: int, head: bytes, payload: bytes) -> Sink:
        """Count a record."""
        del txn, head
        self.bytes += len(payload)
        return self

    def broken(self, txn: int, head: bytes) -> Ticket:
        """Refuse: here everything can be recorded."""
        del head
        message = f"transaction {txn} has no record"
        raise RuntimeError(message)

    def wait(self, level: Level) -> None:
        """Return at once."""

    async def arrive(self, level: Level) -> None:
        """Return at once."""

    def settled(self, txn: int) -> None:
        """Do nothing."""

    def leave(self, standing: Standing | None) -> None:
        """Do nothing."""


class Watch:
    """Another way to record, in the place of Torpor's own."""

    plain = True

    def __init__(self, book: Workbook, sink: Sink) -> None:
        self.capture = self
        self.sink = sink
        self.db = book._store.db  # noqa: SLF001  (what is measured is beneath the public door)

    def begin(self) -> None:
        """Begin to watch a transaction."""

    def record(self) -> bytes:
        """Return the record of the open transaction, or of the one before it."""
        return b""

    def insert_event(self, head: object, row: Any) -> Ticket:
        """Record an event by itself."""
        del head
        self.begin()
        self.db.execute(INSERT_EVENT, row)
        self.sink.add(0, b"", self.record())
        return self.sink

    def commit(self, transaction: Any) -> Ticket:
        """Record a transaction."""
        if transaction.store.pending:
            transaction.store.write_pending()
        self.before()
        self.db.execute("COMMIT")
        self.after()
        return self.sink

    def before(self) -> None:
        """Record what can be recorded before the commit."""
        self.db.execute("SAVEPOINT flush")  # the full-text index writes its words
        self.db.execute("RELEASE flush")
        self.sink.add(0, b"", self.record())

    def after(self) -> None:
        """Record what can be recorded after it only."""

    def wrote(self, rows: object) -> None:
        """Do nothing."""

    def mark(self) -> None:
        """Do nothing."""

    def undone(self) -> None:
        """Do nothing."""

    def wait(self, ticket: object, level: object) -> None:
        """Return at once."""

    async def arrive(self, ticket: object, level: object) -> None:
        """Return at once."""

    def finish(self) -> None:
        """Do nothing."""

    def leave(self, standing: object) -> None:
        """Do nothing."""

    def rest(self) -> None:
        """Tidy up between two operations, outside of the measured time."""


class Sessions(Watch):
    """SQLite's session extension: a session for each transaction, over all tables."""

    def __init__(self, book: Workbook, sink: Sink, *, patch: bool) -> None:
        super().__init__(book, sink)
        self.patch = patch

    def begin(self) -> None:
        """Begin a session."""
        self.session = apsw.Session(self.db, "main")
        self.session.config(apsw.SQLITE_SESSION_OBJCONFIG_ROWID, 1)
        self.session.attach()

    def record(self) -> bytes:
        """Return its changes."""
        found: bytes = self.session.patchset() if self.patch else self.session.changeset()
        self.session.close()
        return found


class Frames(Watch):
    """The pages that a commit has put into SQLite's log, read from there."""

    def __init__(self, book: Workbook, sink: Sink) -> None:
        super().__init__(book, sink)
        self.db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        self.known = self.frames = 0
        self.db.set_wal_hook(self._hook)

    def _hook(self, db: object, name: str, frames: int) -> int:
        del db, name
        self.frames = frames
        return apsw.SQLITE_OK

    def record(self) -> bytes:
        """Return the new frames."""
        place, count = _WAL_HEAD_BYTES + self.known * _FRAME_BYTES, self.frames - self.known
        self.known = self.frames
        return self.db.read("main", 1, place, count * _FRAME_BYTES)[1]

    def before(self) -> None:
        """Wait for the commit."""

    def after(self) -> None:
        """Record the pages."""
        self.sink.add(0, b"", self.record())

    def rest(self) -> None:
        """Bring the log in before it grows long."""
        if self.known > _WAL_KEEP:
            self.db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            self.known = self.frames = 0


def measure(folder: Path, *, way: str, kind: str, count: int) -> dict[str, Any]:
    """Do one kind of transaction `count` times, recorded in one way; commits aren't synced."""
    sink = Sink(folder)
    log = sink if way == "rows" else None
    with Workbook.open(folder / "a.workbook", durability=Durability("bench", "NORMAL", log=log)) as book:
        watch: Any = None
        if way in ("changeset", "patchset"):
            watch = Sessions(book, sink, patch=way == "patchset")
        elif way == "frames":
            watch = Frames(book, sink)
        if watch is not None:
            book._store.scribe = watch  # noqa: SLF001  (as above)
        act = _ACTS[kind](book)
        taken, sizes = [], []
        for number in range(count + _WARM_UP):
            if watch is not None:
                watch.rest()
            operation = act(number)
            before, begun = sink.bytes, perf_counter_ns()
            operation()
            taken.append((perf_counter_ns() - begun) / 1000)
            sizes.append(sink.bytes - before)
        # A session must be gone before its connection is; so must whoever has it.
        if isinstance(book._store.scribe, Watch):  # noqa: SLF001  (as above)
            book._store.scribe = None  # noqa: SLF001  (as above)
    return {"us": statistics.median(taken[_WARM_UP:]), "bytes": statistics.mean(sizes[_WARM_UP:])}


Act = Callable[[int], Callable[[], object]]


def _plain(book: Workbook) -> Act:
    return lambda _: partial(book.append, "message.received", MESSAGE)


def _keyed(book: Workbook) -> Act:
    return lambda number: partial(book.append, "message.received", MESSAGE, key=f"key-{number}")


def _batch(book: Workbook) -> Act:
    def fifty() -> None:
        with book.transaction():
            for _ in range(_EVENTS):
                book.append("message.received", MESSAGE)

    return lambda _: fifty


def _file(book: Workbook, size: int) -> Act:
    return lambda number: partial(book.write, "workspace", f"/{number}.txt", prose(size, number * 977))


def _memory(book: Workbook) -> Act:
    def keep(number: int) -> Callable[[], object]:
        chance = random.Random(number)  # noqa: S311  (the same vectors in every run)
        floats = [chance.uniform(-1, 1) for _ in range(256)]
        length = math.sqrt(sum(value * value for value in floats))
        embedding = Embedding("bench", [value / length for value in floats])
        content = prose(len(TEXT), number * 977).decode("utf-8", "replace").replace("\0", "")
        return partial(book.memory.remember, content, source=f"https://example.org/{number}", embedding=embedding)

    return keep


def _rewind(book: Workbook) -> Act:
    def live(number: int) -> Callable[[], object]:
        to = book.last
        with book.transaction():
            for event in range(_EVENTS - 10):
                book.append("message.received", {"number": event})
            for file in range(10):
                book.write("workspace", f"/{file}.txt", struct.pack("<q", number) * 128)
        return partial(book.rewind, to)

    return live


_ACTS: Final[dict[str, Callable[[Workbook], Act]]] = {
    "plain": _plain,
    "keyed": _keyed,
    "batch": _batch,
    "small": partial(_file, size=10 * 1024),
    "large": partial(_file, size=1024 * 1024),
    "memory": _memory,
    "rewind": _rewind,
}


def run(home: Path, times: int, *, count: int = _COUNT) -> Table:
    """Measure each way of recording each kind of transaction."""
    heads = ("", *[f"{kind}" for name in list(WAYS)[1:] for kind in (f"{WAYS[name]}", "µs")], "µs without")
    table = Table(
        "13. What it takes to record a commit",
        f"Bytes of the record, and the µs that making it adds to the transaction. Median of {times} interleaved rounds"
        f" of {count} transactions, each round in a fresh process and file; commits are not synced.",
        heads,
    )
    for kind, title in KINDS.items():
        takes = {way: partial(turn, "capture.measure", home, way=way, kind=kind, count=count) for way in WAYS}
        table.rows.append(_row(title, rounds(times, takes), heads))
    table.notes = [
        (
            "“Rows as they are”: what Torpor records: events as they were written, and of every other row that was"
            " touched what it holds before the commit. “Changeset” and “patchset”: SQLite's session extension, with"
            " rowids, over all tables. “Pages of the log”: the frames of SQLite's write-ahead log, read from it after"
            " the commit."
        ),
        "“µs without” is the whole transaction when nothing is recorded.",
    ]
    return table


def _row(title: str, found: dict[str, Figures], heads: tuple[str, ...]) -> list[str]:
    missing = next((figures.missing for figures in found.values() if figures.missing), "")
    if missing:
        return gap(title, missing, heads)
    without = found["none"].median("us")
    cells = [title]
    for way in list(WAYS)[1:]:
        cells += [f"{found[way].median('bytes'):,.0f}", f"{found[way].median('us') - without:,.0f}"]
    return [*cells, f"{without:,.0f}"]
