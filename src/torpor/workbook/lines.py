"""The line: which events count after rewinds.

A rewind adds an event to the journal and takes none away. What it sets aside stays there, as a branch that is known by
its newest event, its *tip*. The events that count are those on the **line**: back from the newest event to the last
rewind, from there on at that rewind's target, and so on to the beginning::

    1 2 3 4 5 6 7 8            8 is a rewind to 4: the line is 1-4, 8; the branch with the tip 7 is 5-7
    1 2 3 4 5 6 7 8 9 10 11    11 is a rewind to 7: the line is 1-7, 11; the branch with the tip 10 is 8-10

So the line of any event, also of one that was set aside, is known from the rewinds alone, and going back to a tip
takes up the branch again. Everything here is pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

Rewind = tuple[int, int]
"""The number of a rewind's event, and of the event that it went back to."""

Range = tuple[int, int]
"""The numbers of the first and the last of some events that follow each other."""


class Lines:
    """The lines of one journal.

    Args:
        rewinds: all that there were, in order. Those behind an event don't matter for its line.

    """

    def __init__(self, rewinds: Sequence[Rewind]) -> None:
        self.rewinds = rewinds
        self._events = [event for event, _ in rewinds]

    def back(self, tip: int, until: int | None = None) -> Iterator[Range]:
        """Yield the events that count where `tip` is the newest, as ranges, the newest first.

        Args:
            tip: number of an event, or 0 for the time before the first.
            until: leave out all behind this event.

        """
        until = tip if until is None else until
        while tip > 0:
            before = bisect_right(self._events, tip)
            first, target = self.rewinds[before - 1] if before else (1, 0)
            if first <= until:
                yield first, min(tip, until)
            tip = min(target, first - 1)  # a table that says otherwise is damaged, and not followed in a circle

    def line(self, tip: int) -> list[Range]:
        """Return the events that count where `tip` is the newest, as ranges in rising order."""
        return list(self.back(tip))[::-1]

    def set_aside(self, tip: int) -> list[Range]:
        """Return the events before `tip` that don't count, as ranges in rising order."""
        gaps, place = [], 1
        for first, last in self.line(tip):
            if first > place:
                gaps.append((place, first - 1))
            place = last + 1
        return gaps


def meet(one: Iterator[Range], other: Iterator[Range]) -> int:
    """Return the last event that two lines have in common, each given by `Lines.back`; 0 where there is none.

    The lines are of one journal, or of two up to where these are the same.
    """
    here, there = next(one, None), next(other, None)
    while here is not None and there is not None:
        if here[0] == there[0]:
            return min(here[1], there[1])
        if here[0] > there[0]:
            here = next(one, None)
        else:
            there = next(other, None)
    return 0


def has(ranges: Sequence[Range], event: int) -> bool:
    """Report whether an event is in one of some ranges in rising order."""
    at = bisect_right(ranges, (event + 1, 0))
    return at > 0 and event <= ranges[at - 1][1]
