"""The difference between two workbooks, or between two points of one.

Both sides are folds of their journals, so nothing but events is read, and contents are compared by their digests.
Where two journals begin alike (a fork and its parent, two clones), their hashes are the same up to the last event they
have in common, which is therefore found by halving.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

import msgspec
from msgspec.structs import replace

from torpor.workbook.fold import Folded, FoldedEntry
from torpor.workbook.lines import meet
from torpor.workbook.workbook import Workbook

How = Literal["added", "removed", "changed"]


class FileChange(msgspec.Struct, frozen=True):
    """A file that the two sides don't have alike."""

    volume: str
    path: str
    how: How
    before: int | None
    """Bytes on the first side; None where it isn't there."""
    after: int | None


class MemoryChange(msgspec.Struct, frozen=True):
    """A memory entry that the two sides don't have alike."""

    kind: str
    source: str | None
    how: How
    sha256: str
    """Of the text on the second side, or on the first where the second has none."""


class SettingChange(msgspec.Struct, frozen=True):
    """A setting that the two sides don't have alike, as JSON; None where it was never set."""

    name: str
    before: str | None
    after: str | None


class SpendChange(msgspec.Struct, frozen=True):
    """An account whose balances differ, in micro-units."""

    account: str
    unit: str
    before: int
    after: int


class Difference(msgspec.Struct, frozen=True):
    """What leads from the first side to the second."""

    common: int
    """The last event that both have; 0 where they have none in common."""
    only_before: int
    """How many events of its line only the first side has."""
    only_after: int
    kinds_before: dict[str, int]
    """Those events, counted by kind."""
    kinds_after: dict[str, int]
    files: tuple[FileChange, ...]
    memory: tuple[MemoryChange, ...]
    settings: tuple[SettingChange, ...]
    spend: tuple[SpendChange, ...]

    @property
    def same(self) -> bool:
        """Whether there is none."""
        return not (self.only_before or self.only_after or self.files or self.memory or self.settings or self.spend)


def diff(before: Workbook, after: Workbook, *, at_before: int | None = None, at_after: int | None = None) -> Difference:
    """Return what leads from one workbook to another, or from one point of a workbook to another.

    Args:
        before: the first side.
        after: the second side; may be the same workbook.
        at_before: an event of the first side; the newest unless given.
        at_after: an event of the second side.

    Raises:
        PointRefused: there is no such event.
        WorkbookDamaged: a journal can't be folded.

    """
    left = before.past.seen(before.last if at_before is None else at_before)
    right = after.past.seen(after.last if at_after is None else at_after)
    common = _common(before, left, after, right)
    old, new = before.past.state(left), after.past.state(right)
    lone, other = before.past.kinds(left, common), after.past.kinds(right, common)
    return Difference(
        common=common,
        only_before=sum(lone.values()),
        only_after=sum(other.values()),
        kinds_before=dict(sorted(lone.items())),
        kinds_after=dict(sorted(other.items())),
        files=tuple(_files(old, new)),
        memory=tuple(_memory(old, new)),
        settings=tuple(_settings(old, new)),
        spend=tuple(_spend(old, new)),
    )


def _common(before: Workbook, left: int, after: Workbook, right: int) -> int:
    """Return the last event that is on both lines and the same there."""
    low, high = 0, min(left, right)
    while low < high:
        middle = (low + high + 1) // 2
        one, two = before.journal.event(middle), after.journal.event(middle)
        if one is not None and two is not None and one.hash == two.hash:
            low = middle
        else:
            high = middle - 1
    # Up to there both journals are one, rewinds included; what each has set aside is another matter.
    return meet(before.past.lines().back(left, low), after.past.lines().back(right, low))


def _files(old: Folded, new: Folded) -> Iterable[FileChange]:
    for volume, path in sorted(old.files.keys() | new.files.keys()):
        one, two = old.files.get((volume, path)), new.files.get((volume, path))
        if one is None or two is None or (one.mode, one.parts()) != (two.mode, two.parts()):
            yield FileChange(volume, path, _how(one, two), one.size if one else None, two.size if two else None)


def _memory(old: Folded, new: Folded) -> Iterable[MemoryChange]:
    left, right = _by_name(old), _by_name(new)
    for name in sorted(left.keys() | right.keys()):
        one, two = left.get(name), right.get(name)
        facts = two or one
        if facts is not None and one != two:
            yield MemoryChange(facts.kind, facts.source, _how(one, two), facts.sha256)


def _by_name(folded: Folded) -> dict[tuple[str, ...], FoldedEntry]:
    """Return the memory entries, as if they had always been there, by what two agents can know them by.

    That is the source; or else the text, and which of several with this text it is. Numbers say nothing: after a
    fork, both agents give the same ones to different things.
    """
    found: dict[tuple[str, ...], FoldedEntry] = {}
    texts: Counter[str] = Counter()
    for _, facts in sorted(folded.memory.items()):
        name: tuple[str, ...] = (facts.source or "",)
        if facts.source is None:
            texts[facts.sha256] += 1
            name = ("", facts.sha256, str(texts[facts.sha256]))
        found[name] = replace(facts, born=0)
    return found


def _settings(old: Folded, new: Folded) -> Iterable[SettingChange]:
    for name in sorted(old.settings.keys() | new.settings.keys()):
        one, two = old.settings.get(name), new.settings.get(name)
        if one is None or two is None or one[0] != two[0]:
            yield SettingChange(name, one and one[0], two and two[0])


def _spend(old: Folded, new: Folded) -> Iterable[SpendChange]:
    one, two = _balances(old), _balances(new)
    for account, unit in sorted(one.keys() | two.keys()):
        if one[account, unit] != two[account, unit]:
            yield SpendChange(account, unit, one[account, unit], two[account, unit])


def _balances(folded: Folded) -> Counter[tuple[str, str]]:
    balances: Counter[tuple[str, str]] = Counter()
    for source, target, unit, amount, _ in folded.spend.values():
        balances[target, unit] += amount
        balances[source, unit] -= amount
    return balances


def _how(one: object, two: object) -> How:
    if one is None:
        return "added"
    return "removed" if two is None else "changed"
