"""A workbook that the first release wrote is brought up to date by its owner's opening, in one step."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
import zstandard

from torpor.base import faults
from torpor.base.errors import OlderFormat, PointRefused, WorkbookDamaged
from torpor.base.ids import IdSource
from torpor.testing.chance import Seeded
from torpor.testing.crash import crash_call
from torpor.workbook import Workbook, store
from torpor.workbook.journal import canonical

ROOM = Path(store.__file__).parent
FIRST = ROOM / "migrations" / "0001_first_format.sql"
NOW = 1_763_600_000_000_000
RELEASED = Path(__file__).with_name("format_1.workbook.zst")  # written by release 0.1.0 itself
RELEASED_MAX = 1 << 22  # bytes, unpacked
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOM.parents[1]), str(Path(__file__).parents[2])])}


class Written:
    """A workbook of format 1, written row by row as the first release did."""

    def __init__(self, path: Path) -> None:
        self.db = apsw.Connection(str(path))
        self.db.pragma("page_size", 4096)
        self.db.pragma("journal_mode", "wal")
        self.db.execute("BEGIN")
        self.db.execute(FIRST.read_text(encoding="utf-8"))
        agent = "019a9f3e-7c01-752f-a3b1-c2d3e4f50617"
        self.db.execute("INSERT INTO meta (one, format, agent, created) VALUES (1, 1, ?, ?)", (agent, NOW))
        self.db.execute(f"PRAGMA application_id = {store.APPLICATION_ID}; PRAGMA user_version = 1")
        self.db.execute("COMMIT")
        self.ids = IdSource(self, Seeded(1))
        self.seq, self.digest = 0, bytes(32)

    def now_us(self) -> int:
        return NOW + self.seq

    def event(self, kind: str, body: dict[str, Any], *, span: str | None = None, key: str | None = None) -> int:
        self.seq += 1
        text = msgspec.json.encode(body).decode()
        row = (self.seq, self.ids.next(self.now_us()), self.now_us(), kind, 1, text, span, None, key)
        self.digest = hashlib.sha256(self.digest + canonical(row)).digest()
        self.db.execute("INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?,?,?)", (*row, self.digest, self.seq))
        return self.seq

    def file(self, volume: str, path: str, *pieces: bytes) -> None:
        content = b"".join(pieces)
        for number, piece in enumerate(pieces):
            facts = {"volume": volume, "path": path, "parts": [(len(piece), hashlib.sha256(piece).hexdigest())]}
            if volume not in ("workspace", "memory"):
                continue
            if number == 0:
                self.event("file.written", {**facts, "mode": 0o644})
            else:
                self.event("file.appended", facts)
        self.db.execute(
            "INSERT INTO files (volume, path, mode, size, mtime) VALUES (?, ?, ?, ?, ?)",
            (volume, path, 0o644, len(content), NOW),
        )
        row = self.db.last_insert_rowid()
        for start in range(0, len(content), 65536):
            self.db.execute("INSERT INTO chunks VALUES (?, ?, ?)", (row, start, content[start : start + 65536]))
        self.db.execute("UPDATE volumes SET used = used + ? WHERE volume = ?", (len(content), volume))

    def memory(self, entry: int, text: str, source: str, alias: str) -> None:
        facts = {"entry": entry, "kind": "note", "source": source, "aliases": [alias], "metadata": {"n": entry}}
        self.event("memory.kept", {**facts, "sha256": hashlib.sha256(text.encode()).hexdigest(), "expires": None})
        metadata = f'{{"n":{entry}}}'
        self.db.execute(
            "INSERT INTO memory (entry, kind, content, source, metadata, created) VALUES (?, 'note', ?, ?, ?, ?)",
            (entry, text, source, metadata, NOW),
        )
        self.db.execute("INSERT INTO memory_text (rowid, content) VALUES (?, ?)", (entry, text))
        self.db.execute("INSERT INTO memory_aliases VALUES (?, ?)", (alias, entry))


def old_workbook(path: Path) -> Path:
    written = Written(path)
    written.event("note.added", {"text": "hello"}, key="hello")
    written.file("workspace", "/a.txt", b"one" * 40_000, b"two")
    written.file("memory", "/deep/b.txt", b"mine")
    written.file("tmp", "/scratch", b"scratch")
    written.file("staging", "/1", b"half")
    written.file("values", "/" + hashlib.sha256(b"a value").hexdigest(), b"a value")
    written.memory(1, "the lazy dog", "dog", "hound")
    written.memory(2, "the quick fox", "fox", "reynard")
    event = written.event("setting.changed", {"name": "tone", "value": "kind"})
    written.db.execute("INSERT INTO settings VALUES ('tone', '\"kind\"', ?)", (event,))
    facts = {"source": "wallet", "target": "models", "unit": "usd", "amount": 5, "key": "k"}
    event = written.event("spend.booked", facts)
    written.db.execute("INSERT INTO spend VALUES (?, 'wallet', 'models', 'usd', 5, 'k')", (event,))
    written.event("run.started", {"message": "go"}, span="r")
    written.db.close()
    return path


def test_what_was_there_is_there_and_can_be_gone_back_to_from_then_on(tmp_path: Path) -> None:
    path = old_workbook(tmp_path / "old.workbook")
    with Workbook.open(path) as book:
        assert book.verify().problems == ()
        head = book.last
        assert book.past.horizon == head
        assert book.read("workspace", "/a.txt") == b"one" * 40_000 + b"two"
        assert book.read("memory", "/deep/b.txt") == b"mine"
        assert book.read("tmp", "/scratch") == b"scratch"
        assert [entry.content for entry in book.memory.entries()] == ["the quick fox", "the lazy dog"]
        assert book.memory.search("lazy dog")[0].entry.source == "dog"
        assert book.memory.get("reynard") is not None
        assert book.settings.all() == {"tone": '"kind"'}
        assert book.spend.balances() == {("models", "usd"): 5, ("wallet", "usd"): -5}
        assert book.journal.runs()[0][2] == "started"
        assert book.append("note.added", {"text": "hello"}, key="hello") == 1
        book.delete("workspace", "/a.txt")
        book.memory.forget(1)
        book.rewind(head)
        assert book.read("workspace", "/a.txt") == b"one" * 40_000 + b"two"
        assert book.memory.get("dog") is not None
        with pytest.raises(PointRefused) as caught:
            book.rewind(head - 1)
        assert caught.value.first == head
        assert book.verify().problems == ()


def test_what_the_first_release_itself_wrote_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "released.workbook"
    path.write_bytes(zstandard.ZstdDecompressor().decompress(RELEASED.read_bytes(), max_output_size=RELEASED_MAX))
    with Workbook.open(path) as book:
        assert book.verify().problems == ()
        assert (book.last, book.past.horizon, book.under_way) == (32, 32, set())
        assert [(file.path, file.mode) for file in book.list("workspace", recursive=True) if file.kind == "file"] == [
            ("/a/one.txt", 0o640),
            ("/replaced.txt", 0o644),
            ("/to/here.txt", 0o644),
            ("/together.txt", 0o644),
        ]
        assert (book.read("memory", "/m.txt"), len(book.read("memory", "/streamed.bin"))) == (b"mine", 100_000)
        assert book.memory.get("hound") is not None
        assert book.memory.get("cur") is None
        assert book.settings.all() == {"interests": '"ponds"', "tone": '"dry"'}
        assert book.spend.balances() == {("models/local", "usd"): 7, ("wallet", "usd"): -7}
        book.write("workspace", "/replaced.txt", b"once more")
        book.memory.forget(1)
        book.rewind(32)
        assert book.memory.get("dog") is not None
        assert book.verify().problems == ()
    with Workbook.open(path, readonly=True) as reader:
        assert reader.verify().problems == ()


def test_a_reader_is_told_and_changes_nothing(tmp_path: Path) -> None:
    path = old_workbook(tmp_path / "old.workbook")
    before = path.read_bytes()
    with pytest.raises(OlderFormat) as caught:
        Workbook.open(path, readonly=True)
    assert (caught.value.found, caught.value.known) == (1, store.FORMAT)
    assert path.read_bytes() == before
    with Workbook.open(path), Workbook.open(path, readonly=True) as reader:
        assert reader.verify().problems == ()


def test_a_journal_that_makes_no_sense_is_left_as_it_is(tmp_path: Path) -> None:
    path = old_workbook(tmp_path / "old.workbook")
    db = apsw.Connection(str(path))
    trigger = db.execute("SELECT sql FROM sqlite_schema WHERE name = 'events_are_final'").get
    db.execute("DROP TRIGGER events_are_final")
    db.execute("UPDATE events SET body = '{}' WHERE kind = 'file.written'")
    db.execute(trigger)
    db.close()
    with pytest.raises(WorkbookDamaged, match="can't be folded"):
        Workbook.open(path)
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        assert db.pragma("user_version") == 1
        assert db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'memory_past'").get == 0
    finally:
        db.close()


def open_it(path: str) -> None:
    """Open and close a workbook; called in a child that dies in between."""
    Workbook.open(path).close()


def test_killed_in_the_middle_it_is_of_the_old_format_and_whole(tmp_path: Path) -> None:
    assert "workbook.migrating" in faults.POINTS
    path = old_workbook(tmp_path / "old.workbook")
    name = f"{Path(__file__).stem}:open_it"
    env = {**ENV, "PYTHONPATH": os.pathsep.join([ENV["PYTHONPATH"], str(Path(__file__).parent)])}
    ended = crash_call("workbook.migrating", 1, name, str(path), env=env)
    assert ended.killed, ended.err
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        assert db.pragma("user_version") == 1
        assert db.execute("SELECT format FROM meta").get == 1
    finally:
        db.close()
    with Workbook.open(path) as book:
        assert book.verify().problems == ()
