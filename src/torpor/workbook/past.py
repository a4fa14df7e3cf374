"""Going back: the state as of an earlier event, and a rewind to it.

The journal says what every table held at any event (`fold.py`), down to the digest of each file and text. What it
doesn't hold is their bytes. So these are never thrown away: a file that is replaced or deleted moves, by a change of
its row alone, into the tree `past`, under `/RETIRED/BORN/GROWN` (the events that retired it, that made it, and that
last added to it); the text of a memory entry moves into `memory_past`. Appending keeps a file's beginning as it was, so
every earlier state of a file is the beginning of what is kept of it.

A rewind is then one transaction: an event that says so; the fold of the line that leads to its target; and the rows put
as that fold has them. What the target's state lacks is retired like anything else, so a rewind can itself be undone: go
back to the tip of the branch that it set aside. Nothing is restored before its digest was compared with the journal's.

An event exists only from its commit on, with all that was committed together with it. So going back to an event means:
to the end of its transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import apsw
import msgspec

from torpor.base import faults
from torpor.base.errors import InternalError, PointRefused, WorkbookDamaged
from torpor.base.limits import EVENTS_PAGE
from torpor.workbook.commits import Row
from torpor.workbook.fold import FOLDED_KINDS, REWOUND, UNFOLDABLE, Booked, Content, Folded, FoldedFile, Place, matches
from torpor.workbook.journal import Journal
from torpor.workbook.lines import Lines, has, meet
from torpor.workbook.memory import find_text, put_entry, retire
from torpor.workbook.store import Store
from torpor.workbook.trees import RETIRED, Trees
from torpor.workbook.view import one_view


class Branch(msgspec.Struct, frozen=True):
    """Events that a rewind has set aside."""

    tip: int
    """The newest of them: the branch's name, and where to rewind to in order to take it up again."""
    base: int
    """The last event that it has in common with the line that set it aside."""
    rewound: int
    """The event of the rewind that set it aside."""


class Kept(msgspec.Struct, frozen=True):
    """A row that holds a file, perhaps with more behind it."""

    file: int
    content: Content
    size: int
    mtime: int


Shelf = dict[int, list[Kept]]
"""The rows that hold files, by the events that made these; the smallest first."""


class Past:
    """What one workbook was."""

    def __init__(self, store: Store, journal: Journal) -> None:
        self._store = store
        self._journal = journal
        self._trees = Trees(store, journal)

    @property
    def horizon(self) -> int:
        """The number of the first event that can be gone back to."""
        row = self._store.row("SELECT horizon FROM meta")
        return row[0] if row else 0

    def lines(self) -> Lines:
        """Return which events count at any time."""
        found = self._store.rows("SELECT event, target FROM rewinds ORDER BY event")
        return Lines([(row[0], row[1]) for row in found])

    def branches(self) -> list[Branch]:
        """Return what rewinds have set aside and none has taken up again, oldest first."""
        with one_view(self._store):
            lines = self.lines()
            aside = lines.set_aside(self._store.read_head()[0])
        taken_up = {target for _, target in lines.rewinds}
        return [
            Branch(event - 1, meet(lines.back(target), lines.back(event - 1)), event)
            for event, target in lines.rewinds
            if has(aside, event - 1) and event - 1 not in taken_up
        ]

    def point(self, at: int) -> int:
        """Return the last event that was committed together with event `at`; 0 is the time before the first.

        Raises:
            PointRefused: there is no such event, or what it left is not kept.

        """
        if self.seen(at) < self.horizon:
            reason = "what it held then is not kept"
            raise PointRefused(path=self._store.path, seq=at, first=self.horizon, reason=reason)
        if at == 0:
            return 0
        row = self._store.row(
            "SELECT seq FROM events WHERE seq > ?1 AND txn > (SELECT txn FROM events WHERE seq = ?1)"
            " ORDER BY seq LIMIT 1",
            (at,),
        )
        return row[0] - 1 if row else self._store.read_head()[0]

    def seen(self, at: int) -> int:
        """Return an event's number, having made sure that there is one; 0 is the time before the first.

        Raises:
            PointRefused: there is none.

        """
        last = self._store.read_head()[0]
        if type(at) is not int or not 0 <= at <= last:
            reason = f"its events are 1 to {last:,}" if last else "it has no events"
            raise PointRefused(path=self._store.path, seq=at, first=self.horizon, reason=reason)
        return at

    def kinds(self, at: int, after: int) -> Counter[str]:
        """Return how many events of each kind are behind an event on the line that leads to event `at`."""
        found: Counter[str] = Counter()
        for first, last in self.lines().back(at):
            if last <= after:
                break
            found.update(dict(self._store.rows(
                "SELECT kind, count(*) FROM events WHERE seq BETWEEN ? AND ? GROUP BY kind",
                (max(first, after + 1), last),
            )))  # fmt: skip
        return found

    def state(self, at: int) -> Folded:
        """Return what the journal says of the time right after event `at`.

        Raises:
            WorkbookDamaged: an event can't be folded.

        """
        folded = Folded()
        for seq, kind, body in self._changes(at):
            try:
                folded.take(seq, kind, body)
            except UNFOLDABLE as error:
                reason = f"event {seq} ({kind}) can't be folded: {error!r}"
                raise WorkbookDamaged(path=self._store.path, reason=reason) from error
            folded.dropped.clear()
        return folded

    def _changes(self, at: int) -> Iterator[Row]:
        """Yield number, kind and body of the events on the line to event `at` that change a table."""
        kinds = msgspec.json.encode(FOLDED_KINDS).decode()
        line = self.lines().line(at)
        after = 0
        while True:
            page = self._store.rows(
                "SELECT seq, kind, body FROM events WHERE seq > ? AND seq <= ?"
                " AND kind IN (SELECT value FROM json_each(?)) ORDER BY seq LIMIT ?",
                (after, at, kinds, EVENTS_PAGE),
            )
            # What is set aside is read along: often it is little, and a page is one query. Where it is much, the next
            # page begins behind it.
            yield from (row for row in page if has(line, row[0]))
            if len(page) < EVENTS_PAGE:
                return
            after = page[-1][0]
            if not has(line, after + 1):
                after = min((first - 1 for first, _ in line if first > after), default=at)

    # --- contents ---

    def shelf(self, files: Iterable[FoldedFile]) -> Shelf:
        """Return every row that may hold one of some files, in its place or retired."""
        births = msgspec.json.encode([file.born for file in files]).decode()
        found: Shelf = {}
        for file, born, grown, size, mtime in self._store.rows(
            "SELECT file, born, grown, size, mtime FROM files"
            " WHERE born IN (SELECT value FROM json_each(?)) ORDER BY size",
            (births,),
        ):
            found.setdefault(born, []).append(Kept(file, (born, grown), size, mtime))
        return found

    def find(self, place: Place, file: FoldedFile, shelf: Shelf) -> Kept:
        """Return the row that holds a file, having compared its content with the journal's digests.

        Args:
            place: where the file is to be, for the error.
            file: as the journal describes it.
            shelf: from `shelf`.

        Returns:
            The row that holds the file and nothing else, where there is one; else one that begins with it, with the
            time at which it was just that.

        Raises:
            WorkbookDamaged: no row does.

        """
        parts = file.parts()
        rows = shelf.get(file.born, ())
        for kept in sorted(rows, key=lambda row: row.content != file.content):
            if kept.size >= file.size and matches(parts, self._trees.pieces(kept.file, file.size)):
                if kept.content == file.content:
                    return kept
                event = self._journal.event(file.grown)
                return Kept(kept.file, kept.content, kept.size, event.time if event else kept.mtime)
        reason = f"{place[0]}:{place[1]}, as event {file.grown} left it, is not kept"
        raise WorkbookDamaged(path=self._store.path, reason=reason)

    # --- rewinding ---

    def rewind(self, to: int, why: str) -> int:
        """Put everything as it was right after event `to`; see `Workbook.rewind`."""
        with self._store.writing():
            to = self.point(to)
            head = self._journal.upcoming() - 1
            event = self._journal.append(REWOUND, {"to": to, "from": head, "why": why})
            faults.point("rewind.recorded")
            put_lines(self._store, Lines([*self.lines().rewinds, (event, to)]), event)
            try:
                self._put(self.state(to), event)
            except InternalError as error:
                if isinstance(error.__cause__, apsw.ConstraintError):
                    # What is written follows from the journal: what it can't stand beside, no journal led to.
                    raise WorkbookDamaged(path=self._store.path, reason=f"{error.__cause__}") from error
                raise
            faults.point("rewind.placed")
        return event

    def _put(self, after: Folded, event: int) -> None:
        """Have every table hold what the fold says; `event` is that of the rewind."""
        self._put_files(after, event)
        self._put_memory(after, event)
        self._put_spend(after)
        put_settings(self._store, after)

    def _put_files(self, after: Folded, event: int) -> None:
        due = {file.content: place for place, file in after.files.items()}
        moving: dict[int, Place] = {}
        for file, volume, path, *content in self._store.rows(
            "SELECT file, volume, path, born, grown FROM files WHERE volume IN ('workspace', 'memory')"
        ):
            place = due.pop((content[0], content[1]), None)
            if place is None:
                self._store.execute(f"UPDATE files {RETIRED} WHERE file = ?2", (event, file))
            elif place != (volume, path):
                # Where it goes, another may still be: all that move leave their places first.
                self._store.execute("UPDATE files SET path = '/' || char(1) || file WHERE file = ?", (file,))
                moving[file] = place
        for file, place in moving.items():
            self._store.execute("UPDATE files SET volume = ?, path = ? WHERE file = ?", (*place, file))
        shelf = self.shelf(after.files[place] for place in due.values())
        for place in due.values():
            self._restore(place, after.files[place], shelf)
        self._store.execute("DELETE FROM files WHERE volume = 'tmp'")  # it belongs to what was set aside
        for (volume,) in self._store.rows("SELECT volume FROM volumes"):
            self._store.execute(
                "UPDATE volumes SET quota = coalesce(?2, quota),"
                " used = (SELECT coalesce(sum(size), 0) FROM files WHERE volume = ?1) WHERE volume = ?1",
                (volume, after.quotas.get(volume)),
            )

    def _restore(self, place: Place, file: FoldedFile, shelf: Shelf) -> None:
        kept = self.find(place, file, shelf)
        if kept.content == file.content:
            values = (*place, file.mode, kept.file)
            self._store.execute("UPDATE files SET volume = ?, path = ?, mode = ? WHERE file = ?", values)
        else:
            # It has grown since: what follows stays kept, and the beginning is copied.
            put_file(self._trees, self._trees, place, file, kept)

    def _put_memory(self, after: Folded, event: int) -> None:
        due = after.entries()
        for entry, born in self._store.rows("SELECT entry, born FROM memory"):
            if due.pop(born, None) is None:
                retire(self._store, entry, event)
        for entry, facts in after.memory.items():
            if facts.born in due:
                put_entry(self._store, entry, facts, find_text(self._store, entry, facts))
                self._store.execute("DELETE FROM memory_past WHERE born = ?", (facts.born,))

    def _put_spend(self, after: Folded) -> None:
        there = {row[0] for row in self._store.rows("SELECT event FROM spend")}
        for event in there - after.spend.keys():
            self._store.execute("DELETE FROM spend WHERE event = ?", (event,))
        put_spend(self._store, {event: facts for event, facts in after.spend.items() if event not in there})


# --- what a rewind and a fork have in common ---


def put_lines(store: Store, lines: Lines, last: int) -> None:
    """Write which rewinds there were up to event `last`, and which events before it don't count, where that is new."""
    known = store.row("SELECT max(event) FROM rewinds") or (None,)
    for rewind in lines.rewinds:
        if (known[0] or 0) < rewind[0] <= last:
            store.execute("INSERT INTO rewinds (event, target) VALUES (?, ?)", rewind)
    old, new = set(store.rows("SELECT first, last FROM set_aside")), set(lines.set_aside(last))
    for gap in old - new:
        store.execute("DELETE FROM set_aside WHERE first = ?", gap[:1])
    for gap in new - old:
        store.execute("INSERT INTO set_aside (first, last) VALUES (?, ?)", gap)


def put_file(target: Trees, source: Trees, place: Place, file: FoldedFile, kept: Kept) -> None:
    """Copy a file as the journal describes it from the row that holds it; the tree is not charged."""
    row = target.insert(*place, file.mode, file.size, file.content, mtime=kept.mtime)
    target.copy(source, kept.file, row, file.size)


def put_spend(store: Store, bookings: dict[int, Booked]) -> None:
    """Write bookings as the journal describes them, by the numbers of their events."""
    for event, facts in bookings.items():
        store.execute(
            "INSERT INTO spend (event, source, target, unit, amount, key) VALUES (?, ?, ?, ?, ?, ?)", (event, *facts)
        )


def put_settings(store: Store, folded: Folded) -> None:
    """Write the settings as the journal describes them, in place of those that are there."""
    store.execute("DELETE FROM settings")
    for name, (value, event) in folded.settings.items():
        store.execute("INSERT INTO settings (name, value, event) VALUES (?, ?, ?)", (name, value, event))
