"""A fork at any event equals what the journal's replay to that event makes, and what the agent was then."""

from __future__ import annotations

import random
from pathlib import Path

from tests.model.kit import FAST, SetClock
from tests.unit.workbook.kit import Seen, see

from torpor.workbook import Workbook, diff, fork

POINTS = 100


def live(book: Workbook, chance: random.Random) -> dict[int, Seen]:
    """Let a workbook live, rewinds included, and return what it was after each commit."""
    was = {}
    for number in range(160):
        path = f"/{chance.choice('abc')}.txt"
        match chance.randrange(9):
            case 0 | 1:
                book.write("workspace", path, f"{number} ".encode() * chance.randrange(9000))
            case 2:
                book.volumes.append("memory", path, f"{number}\n".encode() * 50)
            case 3 if book.list("workspace"):
                book.delete("workspace", chance.choice(book.list("workspace")).path)
            case 4:
                book.memory.remember(f"fact {number}", source=f"source-{chance.randrange(5)}")
            case 5:
                book.settings.set("count", number)
            case 6:
                book.spend.book(number + 1, "usd", source="wallet", target="models", key=f"k{number}")
            case 7 if chance.random() < 0.5 and book.last:
                book.rewind(chance.randrange(book.last + 1))
            case _:
                with book.transaction():
                    book.append("note.added", {"number": number})
                    book.volumes.append("workspace", "/log", b"line\n")
        was[book.last] = see(book)
    return was


def test_a_hundred_forks_equal_the_agent_as_it_was(tmp_path: Path) -> None:
    chance = random.Random(4711)  # noqa: S311  (the same points at every run)
    path = tmp_path / "ada.workbook"
    with Workbook.open(path, durability=FAST, clock=SetClock()) as book:
        was = live(book, chance)
        points = [chance.randrange(1, book.last + 1) for _ in range(POINTS)]
        for number, point in enumerate(points):
            target = tmp_path / f"{number}.workbook"
            made = fork(path, target, agent=f"fork-{number}", at=point, durability=FAST)
            end = min(event for event in was if event >= point)
            assert made.parent_seq == end, "the whole transaction belongs to it"
            with Workbook.open(target, readonly=True) as branch:
                assert see(branch) == was[end]
                assert branch.verify().problems == ()
                found = diff(book, branch, at_before=end, at_after=end)
                assert found.same
                assert [event.hash for event in branch.events(limit=end)] == [e.hash for e in book.events(limit=end)]
            target.unlink()
