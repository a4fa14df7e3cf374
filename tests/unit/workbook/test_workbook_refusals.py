"""Whatever a workbook refuses, it refuses with a typed error that names the field, and with nothing changed."""

# ruff: noqa: E501  (one refusal a line: a table is easier to read than to wrap)

import dataclasses
import io
import math
import pickle
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from torpor.base.errors import (
    ContentRefused,
    EventRefused,
    EventTooLarge,
    FileInTheWay,
    FileMissing,
    KeyReused,
    MemoryRefused,
    PathRefused,
    QuotaExceeded,
    SpendRefused,
    TorporError,
    VolumeUnknown,
    WorkbookClosed,
    WorkbookReadOnly,
)
from torpor.base.limits import EVENT_BODY_MAX
from torpor.workbook import Embedding, Workbook


class Row(msgspec.Struct):
    number: float


@dataclasses.dataclass
class Point:
    x: float


CYCLE: dict[str, Any] = {}
CYCLE["self"] = CYCLE

NAN = math.nan
BIG = "x" * (EVENT_BODY_MAX + 1)

REFUSALS: list[tuple[str, type[TorporError], Callable[[Workbook], object], str]] = [
    # --- events ---
    ("kind of one word", EventRefused, lambda b: b.append("note", {}), "The event's kind is refused: 'note' is not dotted"),
    ("kind in capitals", EventRefused, lambda b: b.append("Note.Added", {}), "dotted lower-case words"),
    ("kind with a line feed", EventRefused, lambda b: b.append("note.added\n", {}), "dotted lower-case words"),
    ("kind too long", EventRefused, lambda b: b.append("a." + "b" * 100, {}), "dotted lower-case words"),
    ("kind no text", EventRefused, lambda b: b.append(7, {}), "The event's kind is refused: 7"),  # type: ignore[arg-type]
    ("body a list", EventRefused, lambda b: b.append("a.b", [1]), "list is not a JSON object"),  # type: ignore[arg-type]
    ("body none", EventRefused, lambda b: b.append("a.b", None), "NoneType is not a JSON object"),  # type: ignore[arg-type]
    ("body cyclic", EventRefused, lambda b: b.append("a.b", CYCLE), "The event's body is refused: maximum recursion"),
    ("body with a closure", EventRefused, lambda b: b.append("a.b", {"f": lambda: b}), "function is unsupported"),
    ("body with a file", EventRefused, lambda b: b.append("a.b", {"f": io.BytesIO()}), "BytesIO is unsupported"),
    ("body with NaN", EventRefused, lambda b: b.append("a.b", {"x": [1.0, NAN]}), "a number that JSON doesn't have"),
    ("body with infinity", EventRefused, lambda b: b.append("a.b", {"x": (None, -math.inf)}), "that JSON doesn't have"),
    ("NaN in a struct", EventRefused, lambda b: b.append("a.b", Row(NAN)), "that JSON doesn't have"),
    ("NaN in a dataclass", EventRefused, lambda b: b.append("a.b", {"p": Point(NAN)}), "that JSON doesn't have"),
    ("half a character", EventRefused, lambda b: b.append("a.b", {"x": "\ud800"}), "surrogates not allowed"),
    ("body too large", EventTooLarge, lambda b: b.append("a.b", {"x": BIG}), "The body of the a.b event takes 262,153 bytes; the limit is 262,144."),
    ("empty span", EventRefused, lambda b: b.append("a.b", {}, span=""), "The event's span is refused: '' is not 1 to 512 printable"),
    ("span over two lines", EventRefused, lambda b: b.append("a.b", {}, span="a\nb"), "printable characters"),
    ("span no text", EventRefused, lambda b: b.append("a.b", {}, span=5), "printable characters"),  # type: ignore[arg-type]
    ("long key", EventRefused, lambda b: b.append("a.b", {}, key="k" * 513), "The event's key is refused"),
    ("key with half a character", EventRefused, lambda b: b.append("a.b", {}, key="\udcff"), "printable characters"),
    ("parent to come", EventRefused, lambda b: b.append("a.b", {}, parent=99), "The event's parent is refused: 99 is not the number"),
    ("parent zero", EventRefused, lambda b: b.append("a.b", {}, parent=0), "0 is not the number of an earlier event"),
    ("parent no number", EventRefused, lambda b: b.append("a.b", {}, parent="1"), "'1' is not the number"),  # type: ignore[arg-type]
    ("parent a truth", EventRefused, lambda b: b.append("a.b", {}, parent=True), "True is not the number"),
    ("key of another body", KeyReused, lambda b: b.append("a.b", {"n": 2}, key="known"), "The key 'known' already belongs to event 1 (a.b)"),
    ("key of another kind", KeyReused, lambda b: b.append("a.c", {"n": 1}, key="known"), "already belongs to event 1"),
    # --- files ---
    ("unknown volume", VolumeUnknown, lambda b: b.write("secret", "/a", b""), "There is no volume 'secret'."),  # type: ignore[arg-type]
    ("staging is no volume", VolumeUnknown, lambda b: b.list("staging"), "The volumes are workspace, memory and tmp."),  # type: ignore[arg-type]
    ("values are no volume", VolumeUnknown, lambda b: b.read("values", "/a"), "no volume 'values'"),  # type: ignore[arg-type]
    ("usage of no volume", VolumeUnknown, lambda b: b.volumes.usage("x"), "no volume 'x'"),  # type: ignore[arg-type]
    ("writer to no volume", VolumeUnknown, lambda b: b.writer("x", "/a"), "no volume 'x'"),  # type: ignore[arg-type]
    ("reader of no volume", VolumeUnknown, lambda b: b.reader("x", "/a"), "no volume 'x'"),  # type: ignore[arg-type]
    ("text as content", ContentRefused, lambda b: b.write("tmp", "/a", "text"), "What was to be written is refused: str is not bytes"),  # type: ignore[arg-type]
    ("appending text", ContentRefused, lambda b: b.volumes.append("tmp", "/a", "text"), "str is not bytes"),  # type: ignore[arg-type]
    ("mode too large", ContentRefused, lambda b: b.write("tmp", "/a", b"", mode=0o1777), "the mode 1023 is not permission bits"),
    ("mode negative", ContentRefused, lambda b: b.write("tmp", "/a", b"", mode=-1), "the mode -1 is not"),
    ("mode no number", ContentRefused, lambda b: b.write("tmp", "/a", b"", mode="rw"), "the mode 'rw' is not"),  # type: ignore[arg-type]
    ("writer with a bad mode", ContentRefused, lambda b: b.writer("tmp", "/a", mode=9999), "the mode 9999 is not"),
    ("quota no number", ContentRefused, lambda b: b.volumes.set_quota("tmp", 1.5), "the quota 1.5 is not a number of bytes"),  # type: ignore[arg-type]
    ("quota too large", ContentRefused, lambda b: b.volumes.set_quota("tmp", 2**63), "is not a number of bytes"),
    ("quota below what is there", QuotaExceeded, lambda b: b.volumes.set_quota("workspace", 2), "The workspace volume holds 3 of 2 bytes"),
    ("no such file", FileMissing, lambda b: b.read("tmp", "/none"), "There is no /none in the tmp volume."),
    ("reading a folder", FileMissing, lambda b: b.read("workspace", "/dir"), "There is no /dir in the workspace volume."),
    ("listing nothing", FileMissing, lambda b: b.list("workspace", "/none"), "There is no /none in"),
    ("listing a file", FileMissing, lambda b: b.list("workspace", "/dir/file"), "There is no /dir/file"),
    ("stat of nothing", FileMissing, lambda b: b.stat("memory", "/dir"), "There is no /dir in the memory volume."),
    ("moving nothing", FileMissing, lambda b: b.move("tmp", "/a", "/b"), "There is no /a in"),
    ("deleting nothing", FileMissing, lambda b: b.delete("tmp", "/a"), "There is no /a in"),
    ("streaming nothing", FileMissing, lambda b: b.reader("tmp", "/a"), "There is no /a in"),
    ("value unknown", FileMissing, lambda b: b.volumes.value("00"), "There is no /00 in the values volume."),
    ("file below a file", FileInTheWay, lambda b: b.write("workspace", "/dir/file/x", b""), "/dir/file/x can't be put into the workspace volume: /dir/file is in the way."),
    ("file over a folder", FileInTheWay, lambda b: b.write("workspace", "/dir", b""), "/dir/file is in the way"),
    ("creating what is there", FileInTheWay, lambda b: b.volumes.create("workspace", "/dir/file"), "/dir/file is in the way"),
    ("appending to a folder", FileInTheWay, lambda b: b.volumes.append("workspace", "/dir", b"x"), "is in the way"),
    ("deleting a folder", FileInTheWay, lambda b: b.delete("workspace", "/dir"), "what is below it is in the way"),
    ("moving onto a file", FileInTheWay, lambda b: b.move("workspace", "/other", "/dir/file"), "/dir/file is in the way"),
    ("moving a folder onto a file", FileInTheWay, lambda b: b.move("workspace", "/dir", "/other", replace=True), "/other is in the way"),
    ("moving onto a folder", FileInTheWay, lambda b: b.move("workspace", "/other", "/dir", replace=True), "is in the way"),
    ("moving below a file", FileInTheWay, lambda b: b.move("workspace", "/dir", "/other/dir"), "/other is in the way"),
    ("moving into itself", PathRefused, lambda b: b.move("workspace", "/dir", "/dir/below"), "it is /dir itself or inside it"),
    ("moving nowhere", PathRefused, lambda b: b.move("workspace", "/dir", "/dir"), "it is /dir itself"),
    ("a move that makes paths too long", PathRefused, lambda b: b.move("workspace", "/deep", "/" + "x" * 200), "it takes more than 1024 bytes"),
    # --- memory ---
    ("content no text", MemoryRefused, lambda b: b.memory.remember(b"x"), "The memory's content is refused"),  # type: ignore[arg-type]
    ("content with NUL", MemoryRefused, lambda b: b.memory.remember("a\0b"), "it has a NUL character"),
    ("half a character in content", MemoryRefused, lambda b: b.memory.remember("\ud800"), "surrogates not allowed"),
    ("content too large", MemoryRefused, lambda b: b.memory.remember("x" * 1_048_577), "1,048,577 bytes are over 1,048,576"),
    ("empty kind", MemoryRefused, lambda b: b.memory.remember("x", kind=""), "The memory's kind is refused: ''"),
    ("source over two lines", MemoryRefused, lambda b: b.memory.remember("x", source="a\nb"), "The memory's source is refused"),
    ("empty source", MemoryRefused, lambda b: b.memory.remember("x", source=""), "The memory's source is refused"),
    ("alias no text", MemoryRefused, lambda b: b.memory.remember("x", aliases=[5]), "The memory's alias is refused: 5"),  # type: ignore[list-item]
    ("half an alias", MemoryRefused, lambda b: b.memory.remember("x", aliases=["\ud800"]), "The memory's alias is refused"),
    ("alias of another entry", KeyReused, lambda b: b.memory.remember("x", source="new", aliases=["seen"]), "The key 'seen' already belongs to memory entry 1"),
    ("metadata with NaN", MemoryRefused, lambda b: b.memory.remember("x", metadata={"x": NAN}), "The memory's metadata is refused"),
    ("metadata no object", MemoryRefused, lambda b: b.memory.remember("x", metadata=5), "The memory's metadata is refused"),  # type: ignore[arg-type]
    ("metadata too large", MemoryRefused, lambda b: b.memory.remember("x", metadata={"x": "y" * 200_000}), "it takes 200,008 bytes"),
    ("expiry no number", MemoryRefused, lambda b: b.memory.remember("x", expires=1.5), "The memory's expiry is refused: 1.5"),  # type: ignore[arg-type]
    ("expiry too late", MemoryRefused, lambda b: b.memory.remember("x", expires=2**63), "The memory's expiry is refused"),
    ("empty vector", MemoryRefused, lambda b: b.memory.remember("x", embedding=Embedding("m", [])), "it is empty or not finite"),
    ("vector with NaN", MemoryRefused, lambda b: b.memory.nearest(Embedding("m", [NAN])), "it is empty or not finite"),
    ("number too large for a vector", MemoryRefused, lambda b: b.memory.nearest(Embedding("m", [1e300])), "The memory's embedding is refused"),
    ("words for a vector", MemoryRefused, lambda b: b.memory.nearest(Embedding("m", ["a"])), "The memory's embedding is refused"),  # type: ignore[list-item]
    ("model without a name", MemoryRefused, lambda b: b.memory.nearest(Embedding("", [1.0])), "'' is no name of a model"),
    ("vector of another length", MemoryRefused, lambda b: b.memory.nearest(Embedding("m", [1.0])), "The memory's embedding is refused"),
    # --- spend and settings ---
    ("nothing spent", SpendRefused, lambda b: b.spend.book(0, "usd", source="a", target="b", key="k"), "The spend of 0 usd from 'a' to 'b' is refused: 0 is not a whole number"),
    ("part of a micro-unit", SpendRefused, lambda b: b.spend.book(1.5, "usd", source="a", target="b", key="k"), "1.5 is not a whole number"),  # type: ignore[arg-type]
    ("too much spent", SpendRefused, lambda b: b.spend.book(2**53 + 1, "usd", source="a", target="b", key="k"), "from 1 to 2^53"),
    ("account in capitals", SpendRefused, lambda b: b.spend.book(1, "usd", source="A", target="b", key="k"), "'A' is not a name of"),
    ("unit no text", SpendRefused, lambda b: b.spend.book(1, 5, source="a", target="b", key="k"), "5 is not a name of"),  # type: ignore[arg-type]
    ("paying oneself", SpendRefused, lambda b: b.spend.book(1, "usd", source="a", target="a", key="k"), "an account can't pay itself"),
    ("spend without a key", SpendRefused, lambda b: b.spend.book(1, "usd", source="a", target="b", key=""), "the key '' is not 1 to 512 printable"),
    ("key no text", SpendRefused, lambda b: b.spend.book(1, "usd", source="a", target="b", key=b"k"), "the key b'k' is not"),  # type: ignore[arg-type]
    ("key of another booking", KeyReused, lambda b: b.spend.book(2, "usd", source="a", target="b", key="paid"), "The key 'paid' already belongs to the booking of event"),
    ("setting's name", EventRefused, lambda b: b.settings.set("not a name", 1), "The event's setting's name is refused: 'not a name' is no identifier"),
    ("setting's name no text", EventRefused, lambda b: b.settings.set(5, 1), "5 is no identifier"),  # type: ignore[arg-type]
    ("setting not plain", EventRefused, lambda b: b.settings.set("x", object()), "The event's setting is refused"),
    ("setting not a number", EventRefused, lambda b: b.settings.set("x", NAN), "a number that JSON doesn't have"),
    ("setting without end", EventRefused, lambda b: b.settings.set("x", CYCLE), "The event's setting is refused"),
    ("setting too large", EventTooLarge, lambda b: b.settings.set("x", BIG), "The body of the setting.changed event takes"),
]  # fmt: skip


@pytest.fixture
def busy(book: Workbook) -> Workbook:
    book.append("a.b", {"n": 1}, key="known")
    book.write("workspace", "/dir/file", b"one")
    book.write("workspace", "/other", b"")
    book.write("workspace", "/deep" + ("/" + "d" * 200) * 5, b"")
    book.memory.remember("x", source="it", aliases=["seen"], embedding=Embedding("m", [1.0, 0.0]))
    book.spend.book(1, "usd", source="a", target="b", key="paid")
    return book


def state(book: Workbook) -> object:
    """Everything that can be seen of a workbook."""
    return (
        list(book.events()),
        [book.list(volume, recursive=True) for volume in ("workspace", "memory", "tmp")],
        [book.volumes.usage(volume) for volume in ("workspace", "memory", "tmp")],
        book.memory.entries(),
        list(book.spend.bookings()),
        book.settings.all(),
    )


@pytest.mark.parametrize(("kind", "call", "text"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
def test_what_is_refused_is_refused_with_words_and_changes_nothing(
    busy: Workbook, kind: type[TorporError], call: Callable[[Workbook], object], text: str
) -> None:
    before = state(busy)
    with pytest.raises(kind) as caught:
        call(busy)
    error = caught.value
    assert type(error) is kind
    assert text in str(error)
    assert str(error) == f"{error.message} {error.next_step} [{kind.code}]"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301  (our own bytes)
    assert state(busy) == before


@pytest.mark.parametrize(("kind", "call", "text"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
def test_a_refusal_caught_inside_a_transaction_leaves_no_half_of_it(
    busy: Workbook, kind: type[TorporError], call: Callable[[Workbook], object], text: str
) -> None:
    before = state(busy)
    with busy.transaction():
        busy.append("before.it", {})
        with pytest.raises(kind):
            call(busy)
        busy.append("after.it", {})
    events = list(busy.events())
    assert [event.kind for event in events[-2:]] == ["before.it", "after.it"]
    after = state(busy)
    assert isinstance(before, tuple)
    assert isinstance(after, tuple)
    assert after[1:] == before[1:]
    assert events[:-2] == before[0]


PATHS = [
    ("", "it is not absolute"),
    ("a", "it is not absolute"),
    ("./a", "it is not absolute"),
    ("//", "it has the part ''"),
    ("/a//b", "it has the part ''"),
    ("/a/./b", "it has the part '.'"),
    ("/..", "it has the part '..'"),
    ("/a/../b", "it has the part '..'"),
    ("/a\0b", "it has control characters"),
    ("/a\nb", "it has control characters"),
    ("/a\x7f", "it has control characters"),
    ("/a\x9b2J", "it has control characters"),
    ("/\x01a", "it has control characters"),
    ("/\ud800", "it is not valid Unicode"),
    ("/" + "x" * 256, "a part takes more than 255 bytes"),
    ("/" + "é" * 128, "a part takes more than 255 bytes"),
    (("/" + "x" * 250) * 5, "it takes more than 1024 bytes"),
    (b"/a", "bytes is not text"),
    (None, "NoneType is not text"),
]


@pytest.mark.parametrize(("bad", "reason"), PATHS, ids=[ascii(path)[:20] for path, _ in PATHS])
def test_a_bad_path_is_refused_by_every_door(book: Workbook, bad: Any, reason: str) -> None:
    doors: list[Callable[[], object]] = [
        lambda: book.write("tmp", bad, b""),
        lambda: book.volumes.create("tmp", bad),
        lambda: book.volumes.append("tmp", bad, b""),
        lambda: book.read("tmp", bad),
        lambda: book.stat("tmp", bad),
        lambda: book.list("tmp", bad),
        lambda: book.move("tmp", bad, "/x"),
        lambda: book.move("tmp", "/x", bad),
        lambda: book.delete("tmp", bad, recursive=True),
        lambda: book.reader("tmp", bad),
        lambda: book.writer("tmp", bad),
    ]
    for door in doors:
        with pytest.raises(PathRefused) as caught:
            door()
        assert caught.value.reason == reason
        assert bad in (caught.value.path, "//")
        assert "Use an absolute, normalised path" in str(caught.value)


def test_only_folders_may_end_in_a_slash(book: Workbook) -> None:
    book.write("tmp", "/a/b", b"")
    assert book.stat("tmp", "/a/").kind == "folder"
    assert [file.path for file in book.list("tmp", "/a/")] == ["/a/b"]
    with pytest.raises(PathRefused):
        book.write("tmp", "/a/", b"")


def test_names_that_look_the_same_are_one_file_and_case_makes_two(book: Workbook) -> None:
    composed, decomposed = "/caf\u00e9", "/cafe\u0301"
    assert unicodedata.normalize("NFC", decomposed) == composed
    book.write("workspace", decomposed, b"1")
    book.write("workspace", composed, b"2")
    book.write("workspace", "/Case", b"3")
    book.write("workspace", "/case", b"4")
    book.write("workspace", "/🦥/%41?#[x]*'\"\\", b"5")
    assert [file.path for file in book.list("workspace", recursive=True)] == [
        "/Case", composed, "/case", "/🦥/%41?#[x]*'\"\\"
    ]  # fmt: skip
    assert book.read("workspace", composed) == b"2"
    assert book.read("workspace", "/🦥/%41?#[x]*'\"\\") == b"5"


def test_names_with_the_letters_of_patterns_are_only_names(book: Workbook) -> None:
    for name in ("/a%", "/a_", "/ab", "/a%/x", "/a0"):
        if name != "/a%":
            book.write("tmp", name, name.encode())
    assert [file.path for file in book.list("tmp", "/a%")] == ["/a%/x"]
    book.delete("tmp", "/a%", recursive=True)
    assert [file.path for file in book.list("tmp")] == ["/a0", "/a_", "/ab"]


def test_nothing_can_be_written_through_a_read_only_workbook(busy: Workbook) -> None:
    before = state(busy)
    with Workbook.open(busy.path, readonly=True) as reader:
        assert state(reader) == before
        calls: list[Callable[[], object]] = [
            lambda: reader.append("a.b", {}),
            lambda: reader.append("a.b", {"n": 1}, key="known"),
            lambda: reader.write("tmp", "/a", b""),
            lambda: reader.writer("tmp", "/a"),
            lambda: reader.memory.remember("x"),
            lambda: reader.memory.forget(1),
            lambda: reader.spend.book(1, "usd", source="a", target="b", key="k"),
            lambda: reader.settings.set("x", 1),
            lambda: reader.volumes.set_quota("tmp", 10),
            reader.transaction,
        ]
        for call in calls:
            with pytest.raises(WorkbookReadOnly, match="can't be written: it was opened read-only"):
                call()
        assert repr(reader) == f"<Workbook {busy.path} (read-only)>"


def test_a_closed_workbook_says_so_at_every_door(path: Path) -> None:
    book = Workbook.open(path)
    book.write("tmp", "/a", b"a")
    reader = book.reader("tmp", "/a")
    writer = book.writer("tmp", "/b")
    book.close()
    book.close()
    assert repr(book).endswith("(closed)>")
    assert reader.closed
    assert writer.closed
    calls: list[Callable[[], object]] = [
        lambda: book.append("a.b", {}),
        lambda: list(book.events()),
        lambda: book.last,
        lambda: book.agent,
        lambda: book.read("tmp", "/a"),
        lambda: book.list("tmp"),
        lambda: book.reader("tmp", "/a"),
        lambda: book.writer("tmp", "/a"),
        lambda: book.write("tmp", "/a", b""),
        lambda: book.memory.search("x"),
        book.spend.balances,
        book.settings.all,
        book.transaction,
        book.verify,
        lambda: reader.readinto(memoryview(bytearray(1))),
        lambda: writer.write(b""),
    ]
    for call in calls:
        with pytest.raises(WorkbookClosed, match="was closed before this call"):
            call()
