"""Proof that a workbook is whole: every invariant of SPEC.md, checked against the bytes in the file.

Reads one state of the file and changes nothing, so it may run beside the owner.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final, LiteralString

import msgspec

from torpor.base.errors import PathRefused, WorkbookDamaged
from torpor.base.limits import EVENT_BODY_MAX, EVENTS_PAGE
from torpor.workbook.commits import Row
from torpor.workbook.fold import BORN, REWOUND, UNFOLDABLE, Chronicle, Folded, FoldedEntry, matches, rewound_to
from torpor.workbook.journal import canonical, is_kind
from torpor.workbook.lines import Lines, Rewind
from torpor.workbook.paths import ancestors, normal_path
from torpor.workbook.schema import strange_schema
from torpor.workbook.store import GENESIS, Store
from torpor.workbook.view import one_view

_COLUMNS: Final = "seq, id, time, kind, version, body, span, parent, key, hash, txn"
_ID_VERSION: Final = 7
_ID_VARIANT: Final = 0b10
_decode_body: Final = msgspec.json.Decoder(dict[str, Any]).decode

_SHOWN: Final = 20
"""Problems of one invariant that SQLite is asked to list."""


class Problem(msgspec.Struct, frozen=True):
    """One broken invariant."""

    invariant: str
    """Its number in SPEC.md, such as "INV-3"."""
    what: str
    """What was found, and where."""


class Verification(msgspec.Struct, frozen=True):
    """What `verify` found."""

    path: str
    agent: str
    events: int
    files: int
    memories: int
    head: str
    """Hash of the newest event, in hexadecimal: whoever keeps it can tell later whether history was changed."""
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether every invariant holds."""
        return not self.problems

    def require(self) -> None:
        """Insist that every invariant holds.

        Raises:
            WorkbookDamaged: one doesn't.

        """
        if self.problems:
            first = self.problems[0]
            more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
            raise WorkbookDamaged(path=self.path, reason=f"{first.invariant}: {first.what}{more}")


class Verifier:
    """One pass over one workbook."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._chronicle = Chronicle((), 0)
        self._rewinds: list[Rewind] = []
        self._events = 0
        self._txn = 0
        self._born: tuple[str, str, int] | None = None
        self._head = GENESIS
        self._problems: list[Problem] = []

    def run(self) -> Verification:
        """Check everything that can be checked.

        Raises:
            WorkbookClosed, TransactionEntangled, StorageFailed: the file can't be read just now.

        """
        with one_view(self._store):
            if self._check(self._structure):
                for part in (self._journal, self._line, self._runs, self._files, self._kept, self._tables, self._words):
                    self._check(part)
            counted = not self._problems or self._problems[0].invariant not in ("INV-1", "INV-2")
            return Verification(
                path=self._store.path,
                agent=self._one("SELECT agent FROM meta") if counted else "",
                events=self._events,
                files=self._one("SELECT count(*) FROM files WHERE volume NOT IN ('staging', 'past')") if counted else 0,
                memories=self._one("SELECT count(*) FROM memory") if counted else 0,
                head=self._head.hex(),
                problems=tuple(self._problems),
            )

    def _check(self, part: Callable[[], Iterator[Problem]]) -> bool:
        """Note the problems of one part and report whether there were none."""
        before = len(self._problems)
        try:
            for problem in part():
                self._problems.append(problem)
        except WorkbookDamaged as error:
            self._problems.append(Problem("INV-1", error.reason))
        return len(self._problems) == before

    def _one(self, sql: LiteralString) -> Any:
        row = self._store.row(sql)
        return row[0] if row else None

    # --- the structure ---

    def _structure(self) -> Iterator[Problem]:
        for (line,) in self._store.rows(f"PRAGMA integrity_check({_SHOWN})"):
            if line != "ok":
                yield Problem("INV-1", line)
        for row in self._store.rows("PRAGMA foreign_key_check"):
            yield Problem("INV-1", f"{row[0]} row {row[1]} points to no {row[2]}")
        for name in strange_schema(self._store.db):
            yield Problem("INV-2", f"{name} is missing or not as the format has it")
            return
        found = self._store.rows("SELECT format FROM meta")
        version = self._one("PRAGMA user_version")
        if found != [(version,)]:
            yield Problem("INV-2", f"meta doesn't have exactly one row of the header's format {version}")

    # --- the journal ---

    @property
    def _folded(self) -> Folded:
        """What the journal says of the present."""
        return self._chronicle.now

    def _journal(self) -> Iterator[Problem]:
        targets = []
        for (body,) in self._store.rows("SELECT body FROM events WHERE kind = ?", (REWOUND,)):
            with suppress(msgspec.MsgspecError):  # reported below
                targets.append(rewound_to(body))
        self._chronicle = Chronicle(targets, self._one("SELECT horizon FROM meta"))
        expected = 1
        for row in self._rows():
            yield from self._event(row, expected)
            expected = row[0] + 1
        twice = self._one("SELECT count(*) - count(DISTINCT id) FROM events")
        if twice:
            yield Problem("INV-5", f"{twice} event ids occur twice")
        for (seq,) in self._store.rows("SELECT seq FROM events JOIN meta USING (txn) LIMIT 1"):
            yield Problem("INV-16", f"event {seq} has the number of a transaction without events")

    def _rows(self) -> Iterator[Row]:
        after = 0
        while True:
            page = self._store.rows(
                f"SELECT {_COLUMNS} FROM events WHERE seq > ? ORDER BY seq LIMIT ?",
                (after, EVENTS_PAGE),
            )
            yield from page
            if len(page) < EVENTS_PAGE:
                return
            after = page[-1][0]

    def _event(self, row: Row, expected: int) -> Iterator[Problem]:
        self._events += 1
        seq, digest, txn = row[0], row[9], row[10]
        if seq != expected:
            yield Problem("INV-3", f"event {seq} follows event {expected - 1}")
        self._head = hashlib.sha256(self._head + canonical(row)).digest()
        if self._head != digest:
            yield Problem("INV-4", f"the hash of event {seq} doesn't cover it and what is before it")
            self._head = digest
        if row[1][6] >> 4 != _ID_VERSION or row[1][8] >> 6 != _ID_VARIANT:
            yield Problem("INV-5", f"the id of event {seq} is no UUID of version 7")
        if txn < self._txn:
            yield Problem("INV-16", f"event {seq} is of transaction {txn}, behind one of {self._txn}")
        self._txn = txn
        yield from self._body(seq, row[3], row[5])

    def _body(self, seq: int, kind: str, body: str) -> Iterator[Problem]:
        if not is_kind(kind):
            yield Problem("INV-6", f"the kind of event {seq} is not dotted lower-case words")
        if len(body.encode()) > EVENT_BODY_MAX:
            yield Problem("INV-6", f"the body of event {seq} is over the limit")
        try:
            facts = _decode_body(body)
            self._chronicle.take(seq, kind, body)
            if kind == REWOUND:
                self._rewinds.append((seq, rewound_to(body)))
            elif kind == BORN:
                self._born = (facts["agent"], facts["parent"], facts["parent_seq"])
        except UNFOLDABLE as error:
            yield Problem("INV-6", f"the body of event {seq} ({kind}) can't be folded: {error!r}")

    def _line(self) -> Iterator[Problem]:
        if self._store.rows("SELECT event, target FROM rewinds ORDER BY event") != self._rewinds:
            yield Problem("INV-19", "the table of rewinds is not what the journal recorded")
        if self._store.rows("SELECT first, last FROM set_aside ORDER BY first") != Lines(self._rewinds).set_aside(
            self._events
        ):
            yield Problem("INV-19", "the events that are set aside are not those that the rewinds leave out")
        if self._one("SELECT horizon FROM meta") > self._events:
            yield Problem("INV-19", "the horizon is behind the newest event")
        for (key,) in self._store.rows(
            "SELECT key FROM line WHERE key IS NOT NULL GROUP BY key HAVING count(*) > 1 LIMIT ?", (_SHOWN,)
        ):
            yield Problem("INV-20", f"the key {key!r} belongs to several events on the line")
        agent, *parent = self._store.row("SELECT agent, parent_agent, parent_seq FROM meta") or ("", None, None)
        if (agent, *parent) != (self._born or (agent, None, None)):
            yield Problem("INV-22", "the agent and its parent are not those that the journal last recorded")

    def _runs(self) -> Iterator[Problem]:
        for seq, parent in self._store.rows("SELECT seq, parent FROM events WHERE parent < 1"):
            yield Problem("INV-7", f"event {seq} answers event {parent}, which can't be")
        for parent, count in self._store.rows(
            "SELECT parent, count(*) FROM line"
            " WHERE kind IN ('step.completed', 'step.failed', 'effect.completed', 'effect.failed')"
            " AND parent IS NOT NULL GROUP BY parent HAVING count(*) > 1"
        ):
            yield Problem("INV-7", f"the intent of event {parent} has {count} receipts")
        for span, count in self._store.rows(
            "SELECT span, count(*) FROM line"
            " WHERE kind IN ('run.completed', 'run.failed', 'run.cancelled')"
            " GROUP BY span HAVING count(*) > 1"
        ):
            yield Problem("INV-8", f"run {span} ended {count} times")

    # --- the files ---

    def _files(self) -> Iterator[Problem]:
        described = dict(self._folded.files)
        places = set(self._store.rows("SELECT volume, path FROM files"))
        used: Counter[str] = Counter()
        for file, volume, path, size, mode, *content in self._store.rows(
            "SELECT file, volume, path, size, mode, born, grown FROM files ORDER BY file"
        ):
            used[volume] += size
            yield from self._pieces(file, f"{volume}:{path}", size)
            if volume == "values":
                if not matches(((size, path[1:]),), self._content(file)):
                    yield Problem("INV-12", f"the value {path[1:]} is not what it is named after")
            elif volume in ("workspace", "memory"):
                facts = described.pop((volume, path), None)
                alike = facts is not None and (facts.mode, *facts.content) == (mode, *content)
                if facts is None or not alike or not matches(facts.parts(), self._content(file)):
                    yield Problem("INV-11", f"{volume}:{path} is not what the journal last recorded")
            yield from _place(volume, path, places)
        for volume, path in described:
            yield Problem("INV-11", f"{volume}:{path} is in the journal and not in the volume")
        for volume, counted, quota in self._store.rows("SELECT volume, used, quota FROM volumes"):
            if counted != used[volume]:
                yield Problem("INV-10", f"{volume} counts {counted} bytes and holds {used[volume]}")
            if self._folded.quotas.get(volume, quota) != quota:
                yield Problem("INV-10", f"the quota of {volume} is not what the journal last recorded")

    def _kept(self) -> Iterator[Problem]:
        """Compare what was retired with what is kept of it."""
        due = {(f"/{event}/{born}/{grown}", born, grown): file
               for (born, grown), (event, file) in self._chronicle.files.items()}  # fmt: skip
        for file, *name in self._store.rows("SELECT file, path, born, grown FROM files WHERE volume = 'past'"):
            facts = due.pop((name[0], name[1], name[2]), None)
            if facts is None or not matches(facts.parts(), self._content(file)):
                yield Problem("INV-21", f"past:{name[0]} is not a file that the journal retired")
        for path, *_ in due:
            yield Problem("INV-21", f"past:{path} was retired and is not there")
        texts = {born: (event, entry.sha256) for born, (event, entry) in self._chronicle.texts.items()}
        kept = {
            born: (retired, self._digest("SELECT content FROM memory_past WHERE born = ?", born))
            for born, retired in self._store.rows("SELECT born, retired FROM memory_past")
        }
        yield from _differences("INV-21", "the memory that was retired, of event", kept, texts)

    def _digest(self, sql: LiteralString, number: int) -> str:
        # One text at a time: all of them may be more than fits into memory.
        row = self._store.row(sql, (number,))
        return hashlib.sha256(row[0].encode()).hexdigest() if row else ""

    def _pieces(self, file: int, name: str, size: int) -> Iterator[Problem]:
        place = 0
        for start, length in self._store.rows(
            "SELECT start, length(data) FROM chunks WHERE file = ? ORDER BY start", (file,)
        ):
            if start != place:
                yield Problem("INV-9", f"{name} has a chunk at {start} behind {place} bytes")
            place = start + length
        if place != size:
            yield Problem("INV-9", f"{name} has {place} of its {size} bytes")

    def _content(self, file: int) -> Iterator[bytes]:
        for (start,) in self._store.rows("SELECT start FROM chunks WHERE file = ? ORDER BY start", (file,)):
            row = self._store.row("SELECT data FROM chunks WHERE file = ? AND start = ?", (file, start))
            yield row[0] if row else b""

    # --- memory, spend, settings ---

    def _tables(self) -> Iterator[Problem]:
        aliases: dict[int, list[str]] = {}
        for entry, alias in self._store.rows("SELECT entry, alias FROM memory_aliases ORDER BY alias"):
            aliases.setdefault(entry, []).append(alias)
        kept = {
            entry: FoldedEntry(
                kind,
                source,
                tuple(sorted(aliases.get(entry, ()))),
                metadata,
                self._digest("SELECT content FROM memory WHERE entry = ?", entry),
                expires,
                born,
            )
            for entry, kind, source, metadata, expires, born in self._store.rows(
                "SELECT entry, kind, source, metadata, expires, born FROM memory"
            )
        }
        yield from _differences("INV-13", "memory entry", kept, self._folded.memory)
        booked = {
            row[0]: row[1:] for row in self._store.rows("SELECT event, source, target, unit, amount, key FROM spend")
        }
        yield from _differences("INV-14", "the booking of event", booked, self._folded.spend)
        settings = {
            name: (value, event) for name, value, event in self._store.rows("SELECT name, value, event FROM settings")
        }
        yield from _differences("INV-15", "setting", settings, self._folded.settings)

    def _words(self) -> Iterator[Problem]:
        # The index is compared with one made afresh, in memory, of the same texts.
        try:
            self._store.execute(_WORDS_MADE)
            for (entry,) in self._store.rows(_WORDS_DIFFERENT):
                yield Problem("INV-17", f"the index of words doesn't fit memory entry {entry}")
        finally:
            self._store.execute(_WORDS_DROPPED)


_WORDS_MADE: Final = """
    CREATE VIRTUAL TABLE temp.words_there USING fts5vocab (main, memory_text, instance);
    CREATE VIRTUAL TABLE temp.afresh USING fts5 (content, content = '', tokenize = 'porter unicode61');
    CREATE VIRTUAL TABLE temp.words_due USING fts5vocab (temp, afresh, instance);
    INSERT INTO temp.afresh (rowid, content) SELECT entry, content FROM main.memory;
"""
_WORDS_DIFFERENT: Final = """
    SELECT DISTINCT doc FROM (
      SELECT * FROM (SELECT term, doc, offset FROM temp.words_there
                     EXCEPT SELECT term, doc, offset FROM temp.words_due)
      UNION ALL
      SELECT * FROM (SELECT term, doc, offset FROM temp.words_due
                     EXCEPT SELECT term, doc, offset FROM temp.words_there))
    ORDER BY doc LIMIT 20
"""
_WORDS_DROPPED: Final = """
    DROP TABLE IF EXISTS temp.words_due;
    DROP TABLE IF EXISTS temp.words_there;
    DROP TABLE IF EXISTS temp.afresh;
"""


def _place(volume: str, path: str, places: set[Row]) -> Iterator[Problem]:
    try:
        normal = normal_path(path) == path
    except PathRefused:
        normal = False
    if not normal:
        yield Problem("INV-18", f"{volume}:{path!r} is not a normal path")
    for folder in ancestors(path):
        if (volume, folder) in places:
            yield Problem("INV-18", f"{volume}:{path} is below a file, {folder}")


def _differences(invariant: str, what: str, stored: dict[Any, Any], described: dict[Any, Any]) -> Iterator[Problem]:
    for name in sorted(stored.keys() | described.keys()):
        if name not in stored or name not in described or stored[name] != described[name]:
            yield Problem(invariant, f"{what} {name} is not what the journal last recorded")
