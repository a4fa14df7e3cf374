"""The difference between two workbooks, and between two points of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.workbook.kit import SetClock, filled, lived, tamper

from torpor.base.errors import PointRefused, WorkbookDamaged
from torpor.workbook import Workbook, diff, fork
from torpor.workbook.diff import FileChange, SettingChange, SpendChange


@pytest.fixture
def pair(tmp_path: Path) -> Any:
    """Return a workbook and a fork of it, both open."""
    filled(tmp_path / "a.workbook")
    fork(tmp_path / "a.workbook", tmp_path / "b.workbook", agent="b")
    with (
        Workbook.open(tmp_path / "a.workbook", clock=SetClock()) as one,
        Workbook.open(tmp_path / "b.workbook", clock=SetClock()) as other,
    ):
        yield one, other


def test_nothing_lies_between_a_workbook_and_itself(book: Workbook) -> None:
    assert diff(book, book).same
    book.write("workspace", "/a", b"a")
    found = diff(book, book)
    assert found.same
    assert (found.common, found.only_before, found.only_after) == (1, 0, 0)


def test_between_two_points_lies_what_happened(path: Path) -> None:
    with Workbook.open(filled(path)) as book:
        found = diff(book, book, at_before=9)
        assert not found.same
        assert (found.common, found.only_before, found.only_after) == (9, 0, 8)
        assert found.kinds_before == {}
        assert found.kinds_after == {
            "file.appended": 1, "file.written": 2, "memory.kept": 2, "setting.changed": 1, "spend.booked": 1,
            "volume.limited": 1,
        }  # fmt: skip
        assert found.files == (
            FileChange("memory", "/m.txt", "added", None, 4),
            FileChange("workspace", "/a/one.txt", "added", None, 150_003),
        )
        assert [(change.kind, change.source, change.how) for change in found.memory] == [
            ("note", "dog", "added"), ("note", "fox", "added"),
        ]  # fmt: skip
        assert found.settings == (SettingChange("interests", None, '"durable systems"'),)
        assert found.spend == (
            SpendChange("models/local", "usd", 0, 7),
            SpendChange("wallet", "usd", 0, -7),
        )
        back = diff(book, book, at_after=9)
        assert {change.how for change in back.files} == {change.how for change in back.memory} == {"removed"}
        assert back.settings == (SettingChange("interests", '"durable systems"', None),)
        assert (back.only_before, back.only_after) == (8, 0)


def test_a_fork_and_its_parent_differ_in_what_each_did_since(pair: tuple[Workbook, Workbook]) -> None:
    one, other = pair
    found = diff(one, other)
    assert (found.common, found.only_before, found.kinds_after) == (17, 0, {"agent.born": 1})
    assert (found.files, found.memory, found.settings, found.spend) == ((), (), (), ())
    one.write("workspace", "/a/one.txt", b"changed")
    one.volumes.append("memory", "/m.txt", b"")
    other.move("memory", "/m.txt", "/n.txt")
    one.memory.remember("a new thing", source="new")
    other.memory.remember("another new thing", source="other")
    other.memory.remember("the lazy cat", source="dog")
    one.memory.remember("nameless")
    other.memory.remember("nameless")
    other.memory.remember("nameless")
    one.settings.set("interests", "ponds")
    other.settings.set("interests", "ponds")
    other.settings.set("tone", [1, 2])
    found = diff(one, other)
    assert found.common == 17
    assert found.files == (
        FileChange("memory", "/m.txt", "removed", 4, None),
        FileChange("memory", "/n.txt", "added", None, 4),
        FileChange("workspace", "/a/one.txt", "changed", 7, 150_003),
    )
    assert [(change.source, change.how) for change in found.memory] == [
        (None, "added"), ("dog", "changed"), ("new", "removed"), ("other", "added"),
    ]  # fmt: skip
    assert found.settings == (SettingChange("tone", None, "[1,2]"),)
    assert (found.only_before, found.only_after) == (4, 8)


def test_the_mode_of_a_file_and_all_of_an_entry_count(pair: tuple[Workbook, Workbook]) -> None:
    one, other = pair
    other.write("memory", "/m.txt", b"mine", mode=0o600)
    other.memory.remember("the quick fox", source="fox", metadata={"legs": 4})
    found = diff(one, other)
    assert found.files == (FileChange("memory", "/m.txt", "changed", 4, 4),)
    assert [(change.source, change.how) for change in found.memory] == [("fox", "changed")]


def test_strangers_have_nothing_in_common(path: Path, tmp_path: Path) -> None:
    filled(path)
    with Workbook.open(path) as one, Workbook.open(tmp_path / "other.workbook") as other:
        other.write("memory", "/m.txt", b"mine")
        other.memory.remember("the quick fox", source="fox")
        found = diff(one, other)
        assert (found.common, found.only_before, found.only_after) == (0, 17, 2)
        assert [change.path for change in found.files] == ["/a/one.txt"], "alike is what has the same content"
        assert [change.source for change in found.memory] == ["dog"]


def test_what_was_set_aside_is_no_difference(path: Path) -> None:
    with Workbook.open(lived(path)) as book:
        found = diff(book, book, at_before=17)
        assert (found.common, found.only_before, found.only_after) == (17, 0, 4)
        assert found.kinds_after == {"file.written": 1, "journal.rewound": 1, "memory.kept": 1, "note.added": 1}
        aside = diff(book, book, at_before=24)
        assert (aside.common, aside.only_before, aside.only_after) == (17, 7, 4)


def test_two_that_went_back_alike_share_only_what_they_went_back_to(tmp_path: Path) -> None:
    with Workbook.open(tmp_path / "a.workbook") as one:
        for number in range(6):
            one.append("note.added", {"number": number})
    fork(tmp_path / "a.workbook", tmp_path / "b.workbook", agent="b")
    with Workbook.open(tmp_path / "a.workbook") as one, Workbook.open(tmp_path / "b.workbook") as other:
        one.rewind(3)
        other.append("note.added", {})
        assert diff(one, other).common == 3
        one.append("note.added", {})
        assert diff(one, other, at_before=6).common == 6
        assert diff(one, other, at_before=2, at_after=5).common == 2


def test_a_reader_is_enough(path: Path) -> None:
    lived(path)
    with Workbook.open(path, readonly=True) as one, Workbook.open(path, readonly=True) as other:
        assert diff(one, other).same
        assert not diff(one, other, at_before=0).same


def test_points_that_are_none_are_refused(book: Workbook) -> None:
    book.append("note.added", {})
    for point in (-1, 2, True, "1"):
        with pytest.raises(PointRefused):
            diff(book, book, at_before=point)  # type: ignore[arg-type]


def test_points_before_the_horizon_can_be_compared(tmp_path: Path) -> None:
    filled(tmp_path / "a.workbook")
    fork(tmp_path / "a.workbook", tmp_path / "b.workbook", agent="b")
    with Workbook.open(tmp_path / "b.workbook") as book:
        assert diff(book, book, at_before=0).only_after == 18, "the journal is enough for that"


def test_a_journal_that_can_not_be_folded_is_damage(path: Path) -> None:
    tamper(filled(path), "UPDATE events SET body = '{}' WHERE kind = 'file.written'")
    with Workbook.open(path) as book, pytest.raises(WorkbookDamaged, match="event 10 "):
        diff(book, book)
