"""Rewinding: everything is as it was, nothing is lost, and what can't be had back changes nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.unit.workbook.kit import NOW, Seen, SetClock, TickingClock, filled, lived, see, tamper

import torpor
from torpor.base.errors import (
    FileMissing,
    KeyReused,
    PointRefused,
    TorporError,
    TransactionEntangled,
    WorkbookDamaged,
    WorkbookReadOnly,
)
from torpor.testing.chance import Seeded
from torpor.workbook import Branch, Embedding, Workbook, fork

VECTOR = Embedding("test", [1.0, 0.5])


def furnish(book: Workbook) -> None:
    """Put something of everything into a workbook."""
    book.write("workspace", "/a.txt", b"first", mode=0o600)
    book.volumes.append("workspace", "/a.txt", b" second")
    book.write("workspace", "/folder/deep/b.txt", b"b" * 100_000)
    book.write("workspace", "/folder/c.txt", b"c")
    book.write("memory", "/m.txt", b"mine")
    book.volumes.set_quota("workspace", 5_000_000)
    book.memory.remember("a pond is deep", source="pond", aliases=["lake", "tarn"], metadata={"depth": 2**70})
    book.memory.remember("a dog is warm", source="dog", embedding=VECTOR, expires=NOW + 1_000_000_000)
    book.memory.remember("a nameless note")
    book.spend.book(5, "usd", source="wallet", target="models", key="first")
    book.settings.set("tone", "dry")
    book.append("run.started", {"message": "go"}, span="run")


def write_in_steps(book: Workbook) -> None:
    with book.writer("workspace", "/a.txt", mode=0o755) as writer:
        for _ in range(3):
            writer.write(b"piece" * 30_000)


def forget_everything(book: Workbook) -> None:
    for entry in book.memory.entries():
        book.memory.forget(entry.entry)


Change = Callable[[Workbook], object]

CHANGES: dict[str, tuple[Change, ...]] = {
    "replaced": (lambda book: book.write("workspace", "/a.txt", b"other"),),
    "replaced by the same": (lambda book: book.write("workspace", "/a.txt", b"first second", mode=0o600),),
    "replaced twice": (
        lambda book: book.write("workspace", "/a.txt", b"one"),
        lambda book: book.write("workspace", "/a.txt", b"two"),
    ),
    "replaced by a stream": (write_in_steps,),
    "another mode": (lambda book: book.write("workspace", "/a.txt", b"first second", mode=0o644),),
    "appended": (lambda book: book.volumes.append("workspace", "/a.txt", b" third"),),
    "appended often": (lambda book: book.volumes.append("workspace", "/a.txt", b"x" * 3000),) * 60,
    "appended to a full chunk": (lambda book: book.volumes.append("workspace", "/folder/deep/b.txt", b"x" * 70_000),),
    "appended and replaced": (
        lambda book: book.volumes.append("memory", "/m.txt", b"!"),
        lambda book: book.write("memory", "/m.txt", b"yours"),
    ),
    "moved": (lambda book: book.move("workspace", "/a.txt", "/z.txt"),),
    "moved over another": (lambda book: book.move("workspace", "/a.txt", "/folder/c.txt", replace=True),),
    "a folder moved": (lambda book: book.move("workspace", "/folder", "/other"),),
    "names exchanged": (
        lambda book: book.move("workspace", "/a.txt", "/hold.txt"),
        lambda book: book.move("workspace", "/folder/c.txt", "/a.txt"),
        lambda book: book.move("workspace", "/hold.txt", "/folder/c.txt"),
    ),
    "a file where a folder was": (
        lambda book: book.delete("workspace", "/folder", recursive=True),
        lambda book: book.write("workspace", "/folder", b"a file now"),
    ),
    "a folder where a file was": (
        lambda book: book.delete("workspace", "/a.txt"),
        lambda book: book.write("workspace", "/a.txt/inside", b"deeper"),
    ),
    "deleted": (lambda book: book.delete("workspace", "/a.txt"),),
    "all deleted": (
        lambda book: book.delete("workspace", "/", recursive=True),
        lambda book: book.delete("memory", "/", recursive=True),
    ),
    "deleted and made again": (
        lambda book: book.delete("memory", "/m.txt"),
        lambda book: book.write("memory", "/m.txt", b"mine"),
    ),
    "a new file": (lambda book: book.write("workspace", "/new", b""),),
    "less room": (
        lambda book: book.delete("workspace", "/folder", recursive=True),
        lambda book: book.volumes.set_quota("workspace", 20),
    ),
    "more room": (
        lambda book: book.volumes.set_quota("workspace", 9_000_000),
        lambda book: book.write("workspace", "/large", b"l" * 6_000_000),
    ),
    "an entry replaced": (lambda book: book.memory.remember("a pond is a lake", source="pond", aliases=["mere"]),),
    "an entry's alias taken": (
        lambda book: book.memory.forget(1),
        lambda book: book.memory.remember("a tarn is small", source="tarn", aliases=["lake"]),
    ),
    "an embedding replaced": (lambda book: book.memory.remember("a dog is warm", source="dog"),),
    "an entry forgotten": (lambda book: book.memory.forget(2),),
    "all forgotten": (forget_everything,),
    "a new entry": (lambda book: book.memory.remember("a dog at a pond"),),
    "spent more": (lambda book: book.spend.book(7, "usd", source="wallet", target="models", key="second"),),
    "a setting changed": (
        lambda book: book.settings.set("tone", "wet"),
        lambda book: book.settings.set("more", [1, 2.5, None]),
    ),
    "the run ended": (lambda book: book.append("run.completed", {}, span="run"),),
    "another run": (lambda book: book.append("run.started", {"message": "stop"}, span="another"),),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_after_a_rewind_everything_is_as_it_was_and_after_another_as_it_became(
    book: Workbook, change: tuple[Change, ...]
) -> None:
    furnish(book)
    then, was = book.last, see(book)
    for step in change:
        step(book)
    tip, became = book.last, see(book)
    assert tip > then
    event = book.rewind(then)
    assert see(book) == was
    assert event == book.last == tip + 1
    assert book.verify().problems == ()
    again = book.rewind(tip)
    assert see(book) == became
    assert book.verify().problems == ()
    book.rewind(event)
    assert see(book) == was
    book.rewind(again)
    assert see(book) == became


def test_the_very_beginning_can_be_gone_back_to(book: Workbook) -> None:
    nothing = see(book)
    furnish(book)
    tip, was = book.last, see(book)
    book.rewind(0)
    assert see(book) == nothing
    book.rewind(tip)
    assert see(book) == was


def test_a_rewind_to_where_it_is_changes_nothing_but_the_journal(book: Workbook) -> None:
    furnish(book)
    was = see(book)
    book.rewind(book.last)
    assert see(book) == was
    assert book.branches() == []
    assert book._store.row("SELECT count(*) FROM set_aside") == (0,)


def test_every_point_of_a_long_life_can_be_gone_back_to(book: Workbook) -> None:
    chance = Seeded(1)
    was: dict[int, Seen] = {0: see(book)}
    furnish(book)
    changes = [step for steps in CHANGES.values() for step in steps[:3]]
    while len(was) < 60:
        was[book.last] = see(book)
        if chance.below(3) == 0:
            book.rewind(sorted(was)[chance.below(len(was))])
            continue
        with suppress(TorporError):  # not every change can be made of every state
            changes[chance.below(len(changes))](book)
    for point in sorted(was, key=lambda point: (point % 7, point)):
        book.rewind(point)
        assert see(book) == was[point], point
        assert book.verify().problems == ()


# --- the journal ---


def test_the_journal_goes_on_and_what_was_is_still_in_it(book: Workbook) -> None:
    furnish(book)
    book.append("note.added", {"text": "set aside"})
    before = list(book.events())
    event = book.rewind(3, why="a try")
    after = list(book.events())
    assert after[:-1] == before
    assert (after[-1].seq, after[-1].kind) == (event, "journal.rewound")
    assert after[-1].body == {"to": 3, "from": before[-1].seq, "why": "a try"}
    assert [found.seq for found in book.events(set_aside=False)] == [1, 2, 3, event]
    assert book.append("note.added", {"text": "goes on"}) == event + 1
    found = book.verify()
    assert (found.problems, found.events) == ((), event + 1)


def test_branches_are_known_by_their_tips(book: Workbook) -> None:
    for number in range(7):
        book.append("note.added", {"number": number})
    assert book.branches() == []
    assert book.rewind(4) == 8
    assert book.branches() == [Branch(tip=7, base=4, rewound=8)]
    book.append("note.added", {})
    book.append("note.added", {})
    assert book.rewind(7) == 11
    assert book.branches() == [Branch(tip=10, base=4, rewound=11)], "that of 7 is taken up again"
    assert book.rewind(2) == 12
    assert book.branches() == [Branch(10, 4, 11), Branch(11, 2, 12)], "and set aside again, under its newest event"
    assert book.rewind(10) == 13
    assert book.branches() == [Branch(11, 2, 12), Branch(12, 2, 13)]


def test_a_reader_sees_the_branches_and_the_line(path: Path) -> None:
    with Workbook.open(lived(path), readonly=True) as book:
        (branch,) = book.branches()
        assert (branch.tip, branch.base, branch.rewound) == (24, 17, 25)
        assert [event.seq for event in book.events(set_aside=False)] == [*range(1, 18), *range(25, 29)]
        assert [event.seq for event in book.events(16, set_aside=False, limit=3)] == [17, 25, 26]
        assert [event.seq for event in book.events(span="s-1", set_aside=False)] == list(range(1, 8))


def test_what_was_committed_together_is_gone_back_to_together(book: Workbook) -> None:
    with book.transaction():
        first = book.append("note.added", {})
        book.write("workspace", "/a", b"a")
        book.settings.set("tone", "dry")
    was, last = see(book), book.last
    book.delete("workspace", "/a")
    for point in (first, first + 1, last):
        assert book.past.point(point) == last
        event = book.rewind(point)
        assert see(book) == was
        assert book.journal.event(event).body["to"] == last  # type: ignore[union-attr]


def test_a_rewind_can_be_part_of_a_transaction(book: Workbook) -> None:
    furnish(book)
    then, was = book.last, see(book)
    book.write("workspace", "/a.txt", b"other")
    with book.transaction():
        book.append("note.added", {"text": "I'll try again"})
        book.rewind(then)
        assert see(book) == was
        book.append("note.added", {"text": "I'm back"})
    assert see(book) == was
    assert [event.kind for event in book.events(then, set_aside=False)] == ["journal.rewound", "note.added"]
    assert book.past.point(book.last - 2) == book.last, "all three are one transaction"


def test_a_rewind_in_a_block_that_fails_never_was(book: Workbook) -> None:
    furnish(book)
    was, events = see(book), list(book.events())
    with book.transaction():
        with pytest.raises(ZeroDivisionError), book.transaction():
            book.rewind(2)
            raise ZeroDivisionError
        assert see(book) == was
        assert book.branches() == []
        assert book.append("note.added", {}) == len(events) + 1
    assert list(book.events())[:-1] == events


# --- keys ---


def test_a_key_that_was_set_aside_is_free_and_one_on_the_line_is_not(book: Workbook) -> None:
    kept = book.append("note.added", {"text": "kept"}, key="kept")
    gone = book.append("note.added", {"text": "gone"}, key="gone")
    book.rewind(kept)
    assert book.append("note.added", {"text": "kept"}, key="kept") == kept
    with pytest.raises(KeyReused, match="event 1 "):
        book.append("note.added", {"text": "other"}, key="kept")
    new = book.append("note.added", {"text": "gone"}, key="gone")
    assert new == gone + 2
    assert book.append("note.added", {"text": "gone"}, key="gone") == new
    book.rewind(kept)
    other = book.append("note.added", {"text": "another body"}, key="gone")
    assert book.journal.by_key("gone").seq == other  # type: ignore[union-attr]
    book.rewind(kept)
    assert book.journal.by_key("gone") is None
    assert book.journal.by_key("gone", set_aside=True).seq == other, "the newest"  # type: ignore[union-attr]
    assert book.journal.by_key("kept", set_aside=True).seq == kept  # type: ignore[union-attr]


def test_a_booking_that_was_set_aside_can_be_made_anew(book: Workbook) -> None:
    book.spend.book(5, "usd", source="wallet", target="models", key="first")
    book.spend.book(7, "usd", source="wallet", target="models", key="second")
    tip = book.last
    book.rewind(1)
    book.spend.book(9, "usd", source="wallet", target="models", key="second")
    assert book.spend.balances() == {("models", "usd"): 14, ("wallet", "usd"): -14}
    with pytest.raises(KeyReused):
        book.spend.book(7, "usd", source="wallet", target="models", key="second")
    book.rewind(tip)
    assert book.spend.balances() == {("models", "usd"): 12, ("wallet", "usd"): -12}


# --- files ---


def test_the_same_bytes_by_other_appends_are_another_content(book: Workbook) -> None:
    book.write("workspace", "/log", b"a")
    book.volumes.append("workspace", "/log", b"b")
    book.volumes.append("workspace", "/log", b"c")
    tip = book.last
    book.rewind(1)
    book.volumes.append("workspace", "/log", b"bc")
    other = book.last
    for point in (tip, other, 2, tip, 1, other):
        book.rewind(point)
        assert book.verify().problems == ()
    assert book.read("workspace", "/log") == b"abc"


def test_of_a_file_that_grew_each_content_is_kept_once(book: Workbook) -> None:
    book.write("workspace", "/log", b"line\n")
    for _ in range(9):
        book.volumes.append("workspace", "/log", b"line\n")
    for _ in range(3):
        for point in (1, 10, 5, 7):
            book.rewind(point)
    assert book._store.row("SELECT count(*) FROM files WHERE born IS NOT NULL") == (4,)


def test_what_stays_is_not_touched(book: Workbook) -> None:
    with book.transaction():
        for number in range(300):
            book.write("workspace", f"/{number}", b"content")
            book.memory.remember(f"fact {number}", source=f"urn:{number}")
    then = book.last
    book.write("workspace", "/7", b"other")
    book.memory.remember("another fact", source="urn:7")
    before = book._store.db.total_changes()
    book.rewind(then)
    assert book._store.db.total_changes() - before < 60


def test_a_file_had_back_has_its_time_again(path: Path) -> None:
    with Workbook.open(path, clock=TickingClock()) as book:
        book.write("workspace", "/a", b"a")
        book.write("workspace", "/b", b"b")
        times = {name: book.stat("workspace", name).mtime for name in ("/a", "/b")}
        then = book.last
        book.write("workspace", "/a", b"other")
        book.volumes.append("workspace", "/b", b"more")
        tip = book.last
        appended = book.stat("workspace", "/b").mtime
        book.rewind(then)
        assert book.stat("workspace", "/a").mtime == times["/a"]
        assert book.stat("workspace", "/b").mtime == book.journal.event(2).time, "its own is not kept"  # type: ignore[union-attr]
        book.rewind(tip)
        assert book.stat("workspace", "/b").mtime == appended


def test_scratch_belongs_to_what_was_set_aside(book: Workbook) -> None:
    book.append("note.added", {})
    book.write("tmp", "/t", b"t")
    book.rewind(1)
    assert book.list("tmp") == []
    assert book.volumes.usage("tmp").used == 0


def test_streams_go_on_across_a_rewind(book: Workbook) -> None:
    book.write("workspace", "/a", b"a" * 100_000)
    then = book.last
    book.delete("workspace", "/a")
    book.write("workspace", "/b", b"b" * 2_000_000)
    reader = book.reader("workspace", "/b")
    writer = book.writer("workspace", "/c")
    writer.write(b"c" * 2_000_000)
    book.rewind(then)
    with pytest.raises(FileMissing):
        book.read("workspace", "/b")
    assert reader.read() == b"b" * 2_000_000, "it sees what was when it was opened"
    reader.close()
    writer.close()
    assert book.read("workspace", "/c") == b"c" * 2_000_000


def test_values_outlive_what_named_them(book: Workbook) -> None:
    name = book.volumes.keep_value(b"v" * 40_000)
    book.append("note.added", {"value": name})
    book.rewind(0)
    assert book.volumes.value(name) == b"v" * 40_000


# --- memory, settings ---


def test_memory_had_back_is_found_in_every_way(book: Workbook) -> None:
    furnish(book)
    then = book.last
    forget_everything(book)
    book.memory.remember("another pond", source="pond", embedding=Embedding("test", [0.0, 1.0]))
    book.rewind(then)
    assert [found.entry.source for found in book.memory.search("pond")] == ["pond"]
    assert book.memory.get("tarn") == book.memory.get("pond")
    assert book.memory.get("pond").metadata == {"depth": 2**70}  # type: ignore[union-attr]
    assert [found.entry.source for found in book.memory.nearest(VECTOR)] == ["dog"]
    assert book.memory.unseen(["lake", "dog", "mere"]) == ["mere"]
    assert book.memory.remember("a new one") == 4, "numbers go on from what there is"


def test_what_has_expired_meanwhile_comes_back_unseen_and_goes_for_good(book: Workbook, clock: SetClock) -> None:
    furnish(book)
    then = book.last
    clock.now += 1_000_000_000
    book.memory.remember("time goes by")
    assert [event.body["why"] for event in book.events() if event.kind == "memory.forgotten"] == ["expired"]
    book.rewind(then)
    assert book.memory.get("dog") is None
    assert book.memory.search("dog") == []
    assert book.verify().problems == ()
    book.memory.remember("time goes by")
    assert [event.kind for event in book.events(book.last - 2)] == ["memory.forgotten", "memory.kept"]
    assert book.verify().problems == ()
    clock.now -= 1_000_000_000
    book.rewind(then)
    assert book.memory.get("dog") is not None, "and the text is still kept"


@pytest.mark.parametrize(
    "value",
    [2**70, -(2**63), 1.0, 1e-9, 1e300, 0.1, -0.0, "Zürich\n\u2028", [], {"b": 1, "a": None}, True, "x" * 100_000],
)
def test_a_setting_had_back_is_the_very_same_text(book: Workbook, value: Any) -> None:
    book.settings.set("it", value)
    text = book.settings.get("it")
    book.settings.set("it", "other")
    book.rewind(1)
    assert book.settings.get("it") == text
    book.settings.set("it", value)
    assert book.last == 3, "setting what is set already is no change"


# --- what is refused ---


@pytest.mark.parametrize("point", [-1, 13, 10**30, True, 1.0, "1", None])
def test_what_is_no_event_is_no_point(book: Workbook, point: Any) -> None:
    furnish(book)
    was, last = see(book), book.last
    assert last == 12
    with pytest.raises(PointRefused, match="its events are 1 to 12"):
        book.rewind(point)
    assert (see(book), book.last) == (was, last)


def test_an_empty_journal_has_only_its_beginning(book: Workbook) -> None:
    with pytest.raises(PointRefused, match="it has no events"):
        book.rewind(1)
    assert book.rewind(0) == 1


def test_before_the_horizon_nothing_is_kept(path: Path, tmp_path: Path) -> None:
    filled(path)
    fork(path, tmp_path / "fork.workbook", agent="the-fork")
    with Workbook.open(tmp_path / "fork.workbook") as book:
        assert book.past.horizon == 17
        was = see(book)
        for point in (0, 1, 16):
            with pytest.raises(PointRefused, match="what it held then is not kept") as caught:
                book.rewind(point)
            assert caught.value.first == 17
        assert (see(book), book.last) == (was, 18)
        book.delete("workspace", "/", recursive=True)
        book.rewind(17)
        assert see(book) == was


def test_a_run_under_way_is_not_rewound_from_under_its_feet(book: Workbook) -> None:
    class Restless(torpor.Agent):
        @torpor.on("go")
        async def go(self) -> str:
            try:
                self.book.rewind(0)
            except PointRefused as refused:
                return refused.reason
            return "it was rewound"

    assert "is under way" in anyio.run(Restless(book).send, "go")
    book.rewind(0)
    assert book.journal.runs() == []


def test_a_reader_can_not_rewind(path: Path) -> None:
    with Workbook.open(filled(path), readonly=True) as book, pytest.raises(WorkbookReadOnly):
        book.rewind(1)


def test_another_tasks_transaction_is_not_rewound(book: Workbook) -> None:
    book.append("note.added", {})

    async def both() -> None:
        began = anyio.Event()
        done = anyio.Event()

        async def hold() -> None:
            with book.transaction():
                began.set()
                await done.wait()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hold)
            await began.wait()
            with pytest.raises(TransactionEntangled):
                book.rewind(0)
            done.set()

    anyio.run(both)


DAMAGES = {
    "another byte": "UPDATE chunks SET data = CAST('mime' AS BLOB) WHERE data = CAST('mine' AS BLOB)",
    "a chunk lost": "DELETE FROM chunks WHERE data = CAST('mine' AS BLOB)",
    "a row lost": "DELETE FROM files WHERE born = 12",
    "another size": "UPDATE files SET size = size - 1 WHERE born = 12",
    "another birth": "UPDATE files SET born = 13 WHERE born = 12",
    "a source taken": "UPDATE memory SET source = entry; UPDATE memory SET source = 'fox' WHERE entry = 1",
    "a text lost": "DELETE FROM memory_past WHERE content = 'the quick fox'",
    "another text": "UPDATE memory_past SET content = 'the quick cat' WHERE content = 'the quick fox'",
    "a booking too many": "INSERT INTO spend VALUES (3, 'a', 'b', 'usd', 1, 'too many')",
    "an event that can't be folded": "UPDATE events SET body = '{}' WHERE seq = 12",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_of_what_is_kept_is_said_and_changes_nothing(path: Path, damage: str) -> None:
    tamper(lived(path), DAMAGES[damage])
    with Workbook.open(path) as book:
        before = list(book.events())
        rows = book._store.rows("SELECT * FROM files ORDER BY file")
        with book.transaction(), pytest.raises(WorkbookDamaged):
            book.rewind(17)
        assert list(book.events()) == before
        assert book._store.rows("SELECT * FROM files ORDER BY file") == rows
        assert len(book.branches()) == 1


def test_damaged_rewinds_are_not_followed_in_a_circle(path: Path) -> None:
    tamper(lived(path), "UPDATE rewinds SET target = 27")
    with Workbook.open(path) as book:
        assert not book.verify().ok
        book.branches()
        book.past.state(book.last)


# --- large things ---

FRUGAL = """
import resource, sys
from torpor.workbook import Durability, Workbook, export, fork
path, fast = sys.argv[1], Durability("fast", "OFF")
def grown(what, act):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    act()
    print(what, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
with Workbook.open(path, durability=fast) as book:
    book.write("workspace", "/small", b"s")
    book.verify()
    book.rewind(1)
    fork(path, path + "-1", agent="a", durability=fast)
    with book.writer("workspace", "/large") as writer:
        for number in range(64):
            writer.write(bytes([number]) * 2**20)
    then = book.last
    book.volumes.append("workspace", "/large", b"more")
    name = book.volumes.staging.begin(0o600)
    for number in range(64):
        book.volumes.staging.add(name, number * 2**20, bytes([number]) * 2**20, "tmp", "/x")
    grown("rewind", lambda: book.rewind(then))
    grown("verify", lambda: book.verify().require())
    grown("fork", lambda: fork(path, path + "-2", agent="a", durability=fast))
    grown("export", lambda: export(path, path + "-3", durability=fast))
"""


def test_a_file_of_64_mb_is_never_whole_in_memory(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FRUGAL, str(path)], capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(Path(torpor.__file__).parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    grown = {line.split()[0]: int(line.split()[1]) for line in done.stdout.splitlines()}
    assert set(grown) == {"rewind", "verify", "fork", "export"}
    assert max(grown.values()) < 24, f"MiB: {grown}"
