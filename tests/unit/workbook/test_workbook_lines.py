"""The line that leads to an event, against walking back one event after the other."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from torpor.workbook.lines import Lines, Rewind, has, meet


@st.composite
def journals(draw: st.DrawFn) -> tuple[list[Rewind], int]:
    """Return the rewinds of a journal, and the number of its newest event."""
    rewinds = []
    last = 0
    for plain in draw(st.lists(st.integers(0, 3), max_size=12)):
        last += plain
        target = draw(st.integers(0, last))
        last += 1
        rewinds.append((last, target))
    return rewinds, last + draw(st.integers(0, 3))


def walked(rewinds: list[Rewind], tip: int) -> set[int]:
    """Return the events that count where `tip` is the newest."""
    before = dict(rewinds)
    found = set()
    while tip > 0:
        found.add(tip)
        tip = before.get(tip, tip - 1)
    return found


def spelled(ranges: list[tuple[int, int]]) -> list[int]:
    return [event for first, last in ranges for event in range(first, last + 1)]


@given(journals())
def test_a_line_is_what_walking_back_finds(journal: tuple[list[Rewind], int]) -> None:
    rewinds, last = journal
    lines = Lines(rewinds)
    for tip in range(last + 1):
        line, aside = lines.line(tip), lines.set_aside(tip)
        assert spelled(line) == sorted(walked(rewinds, tip))
        assert sorted(spelled(line) + spelled(aside)) == list(range(1, tip + 1))
        assert all(before[1] + 1 < after[0] for before, after in itertools.pairwise(aside)), "they touch"
        for event in range(last + 2):
            assert has(line, event) == (event in walked(rewinds, tip))


@given(journals())
def test_two_lines_meet_at_the_last_event_that_both_have(journal: tuple[list[Rewind], int]) -> None:
    rewinds, last = journal
    lines = Lines(rewinds)
    for one in range(last + 1):
        for other in range(last + 1):
            common = walked(rewinds, one) & walked(rewinds, other)
            assert meet(lines.back(one), lines.back(other)) == max(common, default=0)


@given(journals(), st.integers(0, 20))
def test_a_line_can_end_early(journal: tuple[list[Rewind], int], until: int) -> None:
    rewinds, last = journal
    ranges = list(Lines(rewinds).back(last, until))[::-1]
    assert spelled(ranges) == [event for event in sorted(walked(rewinds, last)) if event <= until]


def test_rewinds_that_lead_forward_end_all_the_same() -> None:
    """No journal has these; a damaged table may."""
    assert Lines([(5, 9), (7, 7)]).line(9) == [(1, 4), (5, 6), (7, 9)]
