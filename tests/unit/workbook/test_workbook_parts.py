"""Streams, memory, spend, settings and the public names: what each promises beyond refusing what is wrong."""

# ruff: noqa: E501  (one plan a line: a table is easier to read than to wrap)

import io
from pathlib import Path

import apsw
import numpy as np
import pytest
from tests.unit.workbook.kit import NOW, SetClock, filled

import torpor.workbook
from torpor.base.errors import (
    ContentRefused,
    FileInTheWay,
    QuotaExceeded,
    TransactionLost,
    WorkbookClosed,
)
from torpor.base.limits import CHUNK_MAX
from torpor.workbook import Embedding, Usage, Workbook


class Stop(Exception):
    """Leaves a block."""


def test_the_public_names_are_these() -> None:
    assert torpor.workbook.__all__ == [
        "FILE", "MICRO", "VOLUMES", "Booking", "Branch", "CommitLog", "Difference", "Durability", "Embedding", "Entry",
        "Event", "FileReader", "FileStat", "FileWriter", "Found", "Joining", "Journal", "Lane", "Level", "Look", "Made",
        "Memory", "Past", "Problem", "Replay", "Rest", "Settings", "Spend", "Standing", "Ticket", "Usage",
        "Verification", "Volume", "Volumes", "Workbook",
        "adopt", "as_it_is", "at_rest", "awaits", "create", "diff", "digest", "export", "fork", "image", "is_sealed",
        "marked_in", "put_in_stead", "seal", "snapshot",
    ]  # fmt: skip
    for name in torpor.workbook.__all__:
        assert hasattr(torpor.workbook, name)


# --- files ---


def test_a_file_appears_whole_when_its_writer_closes(book: Workbook) -> None:
    book.write("workspace", "/a", b"before")
    with book.writer("workspace", "/a", mode=0o600) as writer:
        for _ in range(5):
            assert writer.write(b"x" * 700_000) == 700_000
        assert book.read("workspace", "/a") == b"before"
        assert book.verify().ok
    assert book.read("workspace", "/a") == b"x" * 3_500_000
    assert book.stat("workspace", "/a").mode == 0o600
    assert book.volumes.usage("workspace").used == 3_500_000
    writer.close()
    with pytest.raises(WorkbookClosed):
        writer.write(b"x")


def test_a_writer_that_is_left_by_an_error_keeps_nothing(book: Workbook) -> None:
    before = book.last
    with pytest.raises(Stop), book.writer("workspace", "/a") as writer:
        writer.write(b"x" * 3_000_000)
        raise Stop
    assert book.list("workspace") == []
    assert book.last == before
    assert book._store.row("SELECT used FROM volumes WHERE volume = 'staging'") == (0,)


def test_what_a_dead_writer_left_is_removed_at_the_next_open(path: Path) -> None:
    book = Workbook.open(path)
    writer = book.writer("workspace", "/a")
    writer.write(b"x" * 3_000_000)
    writer.closed = True  # as if the process had died: nobody discards it
    book.close()
    with Workbook.open(path) as book:
        assert book._store.rows("SELECT * FROM files") == []
        assert book._store.rows("SELECT * FROM chunks") == []
        assert book.verify().ok


def test_writers_at_the_same_time_dont_mix(book: Workbook) -> None:
    writers = [book.writer("workspace", f"/{name}") for name in "abc"]
    for turn in range(3):
        for number, writer in enumerate(writers):
            writer.write(bytes([number]) * (CHUNK_MAX * 16 + turn))
    writers[1].discard()
    writers[2].close()
    writers[0].close()
    assert [file.path for file in book.list("workspace")] == ["/a", "/c"]
    assert set(book.read("workspace", "/c")) == {2}


def test_a_write_that_was_undone_with_its_transaction_is_missed_at_the_next(book: Workbook) -> None:
    book.write("workspace", "/other", b"other")
    outside = book.writer("workspace", "/outside")
    outside.write(b"x" * 1_100_000)
    with pytest.raises(Stop), book.transaction():
        outside.write(b"y" * 1_100_000)
        inside = book.writer("workspace", "/inside")
        inside.write(b"z" * 1_100_000)
        raise Stop
    book.write("workspace", "/new", b"new")  # takes the row number that was given to `inside`
    for writer in (outside, inside):
        with pytest.raises(TransactionLost):
            writer.write(b"!" * 1_100_000)
        with pytest.raises(TransactionLost):
            writer.close()
        writer.discard()
    assert [file.path for file in book.list("workspace")] == ["/new", "/other"]
    assert book.read("workspace", "/new") == b"new"


def test_bytes_of_other_shapes_are_counted_as_bytes(book: Workbook) -> None:
    numbers = memoryview(np.arange(4, dtype=np.int32).data)
    with book.writer("tmp", "/a") as writer:
        assert writer.write(numbers) == 16
        assert writer.write(bytearray(b"x")) == 1
        with pytest.raises(ContentRefused):
            writer.write("text")  # type: ignore[arg-type]
    book.write("tmp", "/b", numbers)
    assert book.read("tmp", "/a") == numbers.tobytes() + b"x"
    assert book.read("tmp", "/b") == numbers.tobytes()


def test_a_reader_sees_the_file_as_it_was_whatever_comes(book: Workbook) -> None:
    book.write("workspace", "/a", b"old" * 100_000)
    with book.reader("workspace", "/a") as reader, io.BufferedReader(reader) as buffered:
        assert buffered.read(3) == b"old"
        book.write("workspace", "/a", b"new")
        book.delete("workspace", "/a")
        assert buffered.read() == b"old" * 99_999
        assert buffered.seek(-3, io.SEEK_END) == 299_997
        assert buffered.read() == b"old"
        assert buffered.seek(10**9) == 10**9
        assert buffered.read() == b""
    with pytest.raises(WorkbookClosed):
        reader.readinto(memoryview(bytearray(1)))
    book.write("tmp", "/e", b"")
    with book.reader("tmp", "/e") as reader:
        assert reader.readall() == b""
        assert (reader.readable(), reader.seekable(), reader.tell()) == (True, True, 0)
        with pytest.raises(ContentRefused):
            reader.seek(0, 9)


def test_a_read_beside_another_process_is_of_one_state(path: Path) -> None:
    with Workbook.open(path) as book:
        book.write("workspace", "/a/b", b"1" * 200_000)
        with Workbook.open(path, readonly=True) as reader:
            store = reader._store
            first: list[bool] = []
            rows = store.rows

            def between(sql, values=()):
                found = rows(sql, values)
                if not first:
                    first.append(True)
                    book.write("workspace", "/a/b", b"2" * 200_000)
                return found

            store.rows = between  # type: ignore[method-assign]
            assert reader.read("workspace", "/a/b") == b"1" * 200_000
            assert reader.read("workspace", "/a/b") == b"2" * 200_000


def test_quotas_count_what_gives_way(book: Workbook) -> None:
    book.volumes.set_quota("workspace", 3_000_000)
    book.write("workspace", "/a", b"x" * 2_500_000)
    book.write("workspace", "/a", b"y" * 3_000_000)
    with book.writer("workspace", "/a") as writer:
        writer.write(b"z" * 2_900_000)
    with pytest.raises(QuotaExceeded, match="holds 2,900,000 of 3,000,000 bytes; 100,001 more don't fit"):
        book.volumes.append("workspace", "/a", b"x" * 100_001)
    with pytest.raises(QuotaExceeded), book.writer("workspace", "/b") as writer:
        writer.write(b"x" * 1_100_000)
    one, two = book.writer("workspace", "/1"), book.writer("workspace", "/2")
    one.write(b"x" * 60_000)
    two.write(b"x" * 60_000)
    one.close()
    with pytest.raises(QuotaExceeded):
        two.close()
    two.discard()
    assert book.volumes.usage("workspace") == Usage(2_960_000, 3_000_000)
    book.delete("workspace", "/", recursive=True)
    assert book.volumes.usage("workspace") == Usage(0, 3_000_000)
    book.volumes.set_quota("workspace", 0)
    with pytest.raises(QuotaExceeded):
        book.write("workspace", "/a", b"x")


def test_moves_reach_every_place_that_is_free_when_the_source_has_left(book: Workbook) -> None:
    book.write("workspace", "/a/b/c", b"c")
    book.move("workspace", "/a/b/c", "/a/b2")
    book.move("workspace", "/a/b2", "/a")  # its own folder
    assert book.read("workspace", "/a") == b"c"
    book.write("workspace", "/x", b"x")
    book.move("workspace", "/x", "/x2/x")
    book.move("workspace", "/a", "/x2/x", replace=True)
    assert [file.path for file in book.list("workspace", recursive=True)] == ["/x2/x"]
    book.write("workspace", "/x3/b/c", b"deep")
    book.move("workspace", "/x3/b", "/x3b")
    book.move("workspace", "/x3b", "/b/b")
    with pytest.raises(FileInTheWay):
        book.move("workspace", "/b", "/x2")
    assert [file.path for file in book.list("workspace", recursive=True)] == ["/b/b/c", "/x2/x"]
    assert book.list("workspace")[0].kind == "folder"


def test_many_small_appends_stay_few_chunks(book: Workbook) -> None:
    for number in range(300):
        book.volumes.append("tmp", "/log", f"{number:04}\n".encode() * 10)
    assert book.read("tmp", "/log") == b"".join(f"{number:04}\n".encode() * 10 for number in range(300))
    row = book._store.row("SELECT count(*) FROM chunks")
    assert row
    assert row[0] <= 4


def test_scratch_leaves_no_trace(book: Workbook) -> None:
    book.write("tmp", "/a", b"a")
    book.volumes.append("tmp", "/a", b"a")
    book.move("tmp", "/a", "/b")
    book.delete("tmp", "/b")
    assert book.last == 0


def test_a_value_is_kept_once_under_its_digest(book: Workbook) -> None:
    name = book.volumes.keep_value(b"x" * 300_000)
    assert book.volumes.keep_value(b"x" * 300_000) == name
    assert book.volumes.value(name) == b"x" * 300_000
    assert book.volumes.value(book.volumes.keep_value(b"")) == b""


# --- memory ---


def test_an_expired_entry_is_gone_at_its_hour_and_removed_by_the_next_change(book: Workbook, clock: SetClock) -> None:
    book.memory.remember("soon gone", source="a", aliases=["b"], expires=NOW + 10, embedding=Embedding("m", [1.0]))
    clock.now = NOW + 9
    assert book.memory.get("b") is not None
    clock.now = NOW + 10
    assert book.memory.get("a") is None
    assert book.memory.unseen(["b", "a", "b"]) == ["b", "a"]
    assert book.memory.search("gone") == []
    assert book.memory.nearest(Embedding("m", [1.0])) == []
    assert book.memory.entries() == []
    assert book.verify().memories == 1
    entry = book.memory.remember("other", source="b", aliases=["a"])
    assert book.verify().memories == 1
    assert [event.body.get("why") for event in book.events()] == [None, "expired", None]
    assert not book.memory.forget(entry + 1)
    assert book.memory.forget(entry)
    assert not book.memory.forget(2**70)


def test_an_entry_that_expires_between_two_looks_is_one_thing_or_the_other(path: Path) -> None:
    class Running(SetClock):
        def now_us(self) -> int:
            self.now += 1
            return self.now

    for wait in range(1, 12):
        file = path.with_name(f"{wait}.workbook")
        clock = Running()
        with Workbook.open(file, clock=clock) as book:
            book.memory.remember("old", source="a", aliases=["b"], expires=clock.now + wait + 2)
            book.memory.remember("new", source="a", aliases=["b"])
            entry = book.memory.get("b")
            assert entry is not None
            assert entry.content == "new"
            assert book.verify().ok


def test_an_entry_that_expired_before_it_was_kept_is_never_seen(book: Workbook) -> None:
    book.memory.remember("past", source="a", expires=NOW - 1)
    assert book.memory.get("a") is None
    book.memory.remember("present", source="a")
    assert [entry.content for entry in book.memory.entries()] == ["present"]


def test_what_replaces_an_entry_takes_its_number_its_words_and_its_names(book: Workbook) -> None:
    first = book.memory.remember("about sloths", source="s", aliases=["t"])
    again = book.memory.remember("about snails", source="s")
    assert again == first
    assert book.memory.search("sloths") == []
    assert [found.entry.content for found in book.memory.search("snails")] == ["about snails"]
    assert book.memory.get("t") is None
    by_alias = book.memory.remember("about slugs", source="u", aliases=["v"])
    assert book.memory.remember("about newts", source="v") == by_alias
    assert book.memory.get("u") is None


@pytest.mark.parametrize(
    "words", ["", "   ", "_", "!?*\"'", "AND", "NOT x", 'a"b', "content:dog", "dog*", "(dog", "^dog", "dog + cat", "NEAR(a b)", "-", "\0", "😀"]
)  # fmt: skip
def test_whatever_is_searched_for_is_only_words(book: Workbook, words: str) -> None:
    book.memory.remember("the dog and the cat are not near a b x content")
    for found in book.memory.search(words):
        assert found.entry.entry == 1


def test_other_writings_are_found_by_their_words(book: Workbook) -> None:
    for text in ("हिन्दी भाषा", "Ünïcödé wörds", "русский язык", "日本語 テキスト", "ελληνικά"):
        book.memory.remember(text)
    for word, entry in (("हिन्दी", 1), ("unicode", 2), ("ЯЗЫК", 3), ("テキスト", 4), ("ΕΛΛΗΝΙΚΆ", 5)):
        assert [found.entry.entry for found in book.memory.search(word)] == [entry]


def test_vectors_of_other_models_are_never_compared(book: Workbook) -> None:
    book.memory.remember("a", embedding=Embedding("m", [1.0, 0.0]))
    book.memory.remember("b", embedding=Embedding("n", [1.0, 0.0, 0.0]))
    book.memory.remember("c")
    book.memory.remember("z", embedding=Embedding("m", [0.0, 0.0]))
    found = book.memory.nearest(Embedding("m", [1.0, 0.0]))
    assert [(each.entry.content, round(each.score, 6)) for each in found] == [("a", 1.0), ("z", 0.0)]


# --- spend and settings ---


def test_a_booking_is_made_once_under_its_key(book: Workbook) -> None:
    first = book.spend.book(5, "usd", source="wallet", target="models/x", key="k")
    assert book.spend.book(5, "usd", source="wallet", target="models/x", key="k") == first
    book.spend.book(2, "usd", source="models/x", target="wallet", key="back")
    assert book.spend.balances() == {("models/x", "usd"): 3, ("wallet", "usd"): -3}
    assert [booking.key for booking in book.spend.bookings()] == ["k", "back"]


def test_a_setting_that_stays_as_it_is_is_no_event(book: Workbook) -> None:
    book.settings.set("x", {"a": [1, None]})
    book.settings.set("x", {"a": [1, None]})
    assert (book.last, book.settings.get("x"), book.settings.get("y")) == (1, '{"a":[1,null]}', None)
    book.settings.set("x", None)
    assert book.settings.all() == {"x": "null"}
    assert book.verify().ok


# --- plans ---


PLANS = [
    ("SELECT * FROM events WHERE seq > 5 ORDER BY seq LIMIT 9", "SEARCH events USING INTEGER PRIMARY KEY (rowid>?)"),
    ("SELECT * FROM events WHERE span = 's' AND seq > 5 ORDER BY seq LIMIT 9", "SEARCH events USING INDEX events_span (span=? AND seq>?)"),
    ("SELECT * FROM events WHERE key = 'k'", "SEARCH events USING INDEX events_key (key=?)"),
    ("SELECT seq, hash, max(txn, (SELECT txn FROM meta)) FROM events ORDER BY seq DESC LIMIT 1", "SCAN events | SCALAR SUBQUERY 1 | SCAN meta"),
    ("SELECT path FROM files WHERE volume = 'tmp' AND path >= '/a/' AND path < '/a0' ORDER BY path LIMIT 1", "SEARCH files USING"),
    ("SELECT data, size FROM files LEFT JOIN chunks USING (file) WHERE volume = 'tmp' AND path = '/a' ORDER BY start", "SEARCH chunks USING INDEX sqlite_autoindex_chunks_1 (file=?)"),
    ("SELECT entry FROM memory WHERE expires <= 5", "SEARCH memory USING COVERING INDEX memory_expiry"),
    ("SELECT event FROM spend WHERE key = 'k'", "SEARCH spend USING"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "expected"), PLANS)
def test_the_hot_queries_use_their_indexes(path: Path, sql: str, expected: str) -> None:
    filled(path)
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        found = " | ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}"))
        assert expected in found
        assert "TEMP B-TREE" not in found
    finally:
        db.close()


def test_the_view_of_runs_reads_what_belongs_to_runs_only(path: Path) -> None:
    filled(path)
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        found = [row[3] for row in db.execute("EXPLAIN QUERY PLAN SELECT * FROM runs ORDER BY started")]
        assert "SCAN events USING INDEX events_run" in found
        assert any(line.startswith("SEARCH events USING") and "events_span (span=?" in line for line in found)
        assert not any("TEMP B-TREE" in line for line in found)
    finally:
        db.close()
