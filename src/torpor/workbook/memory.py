"""Memory: what the agent learned, as entries that can be found again.

An entry has a kind, a text and, if wanted, a source (unique: an entry with a known source replaces what was kept
under it), further names (`aliases`, unique too), JSON metadata, an embedding with the name of its model, and a time at
which it expires. An expired entry is invisible from that moment on and removed by the next change.

It is found by its words (FTS5, BM25 order), by nearness of its embedding (exact cosine distance by sqlite-vec over the
column, so that the file needs no extension to be read), or by its source. Every change is an event with the digest of
the text, in the same transaction.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import apsw
import msgspec

from torpor.base.errors import InternalError, KeyReused, MemoryRefused, WorkbookDamaged
from torpor.base.limits import MEMORY_CONTENT_MAX
from torpor.workbook.commits import Row
from torpor.workbook.fold import FoldedEntry
from torpor.workbook.journal import Journal, encode_json
from torpor.workbook.store import Store
from torpor.workbook.view import one_view

_COLUMNS = "memory.entry, memory.kind, memory.content, memory.source, metadata, model, created, expires"
_ALIVE = "(expires IS NULL OR expires > ?)"
_WORD = re.compile(r"\w+")
_QUERY_WORDS_MAX = 64
_NAME_MAX = 4096
_FORGOTTEN_MAX = 10_000
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")
"""NUL, which ends a text for many a reader of the file, and halves of characters, which UTF-8 doesn't have."""


class Entry(msgspec.Struct, frozen=True):
    """One thing remembered."""

    entry: int
    kind: str
    content: str
    source: str | None
    metadata: dict[str, Any]
    model: str | None
    """The model that made the embedding, where there is one."""
    created: int
    """Microseconds since 1970 UTC."""
    expires: int | None
    """Microseconds since 1970 UTC."""


class Found(msgspec.Struct, frozen=True):
    """An entry and how well it answers: greater is better."""

    entry: Entry
    score: float


class Embedding(msgspec.Struct, frozen=True):
    """A vector and the name of the model that made it; only vectors of one model are ever compared."""

    model: str
    vector: Sequence[float]


class Memory:
    """The memory entries of one workbook."""

    def __init__(self, store: Store, journal: Journal) -> None:
        self._store = store
        self._journal = journal
        self._can_compare = False

    # --- changing ---

    def remember(  # noqa: PLR0913  (each is one column of the entry; a caller names the few it has)
        self,
        content: str,
        *,
        kind: str = "note",
        source: str | None = None,
        aliases: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        embedding: Embedding | None = None,
        expires: int | None = None,
        span: str | None = None,
    ) -> int:
        """Keep an entry; under a known source, in place of the one that is there.

        Args:
            content: the text, up to 1 MiB of UTF-8.
            kind: a short word of your own, such as "note" or "article".
            source: where it comes from; unique.
            aliases: further names of the same thing, each unique.
            metadata: a JSON object.
            embedding: for `nearest`.
            expires: when it stops being remembered, in microseconds since 1970 UTC; what lies in the past is never
                seen, and removed by the next change.
            span: the unit of work that the change belongs to.

        Returns:
            The entry's number.

        Raises:
            MemoryRefused: a part can't be kept.
            KeyReused: an alias belongs to another entry.

        """
        text = _metadata_text(metadata)
        blob = _pack(embedding) if embedding else None
        aliases = [alias for alias in aliases if alias != ""]
        _check_content(content)
        _check_names(kind, source, aliases, expires)
        with self._store.writing():
            now = self._store.clock.now_us()
            self._purge(now, span)
            event = self._journal.upcoming()
            old = None if source is None else self._by_name(source, now)
            if old is not None:
                retire(self._store, old, event)
            self._store.execute(
                "INSERT INTO memory"
                " (entry, kind, content, source, metadata, model, embedding, created, expires, born)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (old, kind, content, source, text, embedding and embedding.model, blob, now, expires, event),
            )
            entry = int(self._store.db.last_insert_rowid())
            self._store.execute("INSERT INTO memory_text (rowid, content) VALUES (?, ?)", (entry, content))
            names = self._name(entry, aliases, source, now)
            self._journal.append(
                "memory.kept",
                {
                    "entry": entry,
                    "kind": kind,
                    "source": source,
                    "aliases": names,
                    "metadata": msgspec.Raw(text.encode()),
                    "sha256": _digest(content),
                    "expires": expires,
                },
                span=span,
            )
        return entry

    def forget(self, entry: int, *, span: str | None = None) -> bool:
        """Remove an entry; returns whether it was there."""
        with self._store.writing():
            self._purge(self._store.clock.now_us(), span)
            if self._entry(entry) is None:
                return False
            event = self._journal.append("memory.forgotten", {"entries": [entry], "why": "asked"}, span=span)
            retire(self._store, entry, event)
        return True

    # --- finding ---

    def get(self, source: str) -> Entry | None:
        """Return the entry of that source or alias."""
        with one_view(self._store):
            entry = self._by_name(source, self._store.clock.now_us())
            return None if entry is None else self._entry(entry)

    def unseen(self, names: Iterable[str]) -> list[str]:
        """Return those of the sources or aliases that memory doesn't know, in their order, each once."""
        now = self._store.clock.now_us()
        return [name for name in dict.fromkeys(names) if self._by_name(name, now) is None]

    def entries(self, *, kind: str | None = None, limit: int = 100) -> list[Entry]:
        """Return the newest entries first."""
        found = self._store.rows(
            f"SELECT {_COLUMNS} FROM memory WHERE {_ALIVE} AND (kind = ? OR ?) ORDER BY entry DESC LIMIT ?",
            (self._store.clock.now_us(), kind, kind is None, limit),
        )
        return [self._read(row) for row in found]

    def search(self, words: str, *, kind: str | None = None, limit: int = 10) -> list[Found]:
        """Return the entries that have all these words, best first by BM25.

        Args:
            words: plain words; everything else in it only separates them.
            kind: only entries of this kind.
            limit: at most this many.

        """
        terms = _WORD.findall(words)[:_QUERY_WORDS_MAX]
        if not terms:
            return []
        query = " ".join(f'"{term}"' for term in terms)
        found = self._store.rows(
            f"SELECT {_COLUMNS}, -bm25(memory_text)"
            " FROM memory_text JOIN memory ON memory.entry = memory_text.rowid"
            f" WHERE memory_text MATCH ? AND {_ALIVE} AND (kind = ? OR ?)"
            " ORDER BY rank, memory.entry LIMIT ?",
            (query, self._store.clock.now_us(), kind, kind is None, limit),
        )
        return [Found(self._read(row), row[-1]) for row in found]

    def nearest(self, embedding: Embedding, *, kind: str | None = None, limit: int = 10) -> list[Found]:
        """Return the entries whose embeddings of the same model are nearest, best first; the score is the cosine.

        Raises:
            MemoryRefused: the vector is empty, not finite, or of another length than those kept.

        """
        self._load_vectors()
        blob = _pack(embedding)
        try:
            found = self._store.rows(
                f"SELECT {_COLUMNS}, 1 - vec_distance_cosine(embedding, ?) AS score FROM memory"
                f" WHERE model = ? AND {_ALIVE} AND (kind = ? OR ?)"
                " ORDER BY score DESC, memory.entry LIMIT ?",
                (blob, embedding.model, self._store.clock.now_us(), kind, kind is None, limit),
            )
        except InternalError as error:
            if isinstance(error.__cause__, apsw.SQLError):  # sqlite-vec, of lengths that differ
                raise MemoryRefused(part="embedding", reason=str(error.__cause__)) from error
            raise
        return [Found(self._read(row), row[-1] or 0.0) for row in found]

    # --- the pieces ---

    def _by_name(self, name: str, now: int) -> int | None:
        # The time is the caller's, so that one change sees one hour: an entry that expires between two looks would
        # be gone for the one and still own its source for the other.
        if not _is_text(name):
            return None
        row = self._store.row(
            f"SELECT entry FROM memory WHERE source = ?1 AND {_ALIVE.replace('?', '?2')}"
            " UNION ALL SELECT memory_aliases.entry FROM memory_aliases JOIN memory USING (entry)"
            f" WHERE alias = ?1 AND {_ALIVE.replace('?', '?2')} LIMIT 1",
            (name, now),
        )
        return row[0] if row else None

    def _entry(self, entry: int) -> Entry | None:
        if type(entry) is not int or not 0 < entry < 2**63:
            return None
        row = self._store.row(f"SELECT {_COLUMNS} FROM memory WHERE entry = ?", (entry,))
        return self._read(row) if row else None

    def _read(self, row: Row) -> Entry:
        try:
            return _from_row(row)
        except msgspec.MsgspecError as error:
            reason = f"memory entry {row[0]} can't be read ({error})"
            raise WorkbookDamaged(path=self._store.path, reason=reason) from error

    def _name(self, entry: int, aliases: Iterable[str], source: str | None, now: int) -> list[str]:
        names = [name for name in dict.fromkeys(aliases) if name != source]
        for name in names:
            owner = self._by_name(name, now)
            if owner is not None:
                raise KeyReused(key=name, owner=f"memory entry {owner}")
            self._store.execute("INSERT INTO memory_aliases (alias, entry) VALUES (?, ?)", (name, entry))
        return names

    def _purge(self, now: int, span: str | None) -> None:
        found = self._store.rows("SELECT entry FROM memory WHERE expires <= ?", (now,))
        if not found:
            return
        gone = sorted(row[0] for row in found)  # in SQL, the order would cost the index on expiry
        for first in range(0, len(gone), _FORGOTTEN_MAX):  # however many they are, an event has its limit
            some = gone[first : first + _FORGOTTEN_MAX]
            event = self._journal.append("memory.forgotten", {"entries": some, "why": "expired"}, span=span)
            for entry in some:
                retire(self._store, entry, event)

    def _load_vectors(self) -> None:
        if self._can_compare:
            return
        import sqlite_vec  # noqa: PLC0415  (9 ms that only a search by vector pays)

        self._store.db.enable_load_extension(True)
        try:
            self._store.db.load_extension(sqlite_vec.loadable_path())
        finally:
            self._store.db.enable_load_extension(False)
        self._can_compare = True


def retire(store: Store, entry: int, event: int) -> None:
    """Take an entry out, by an event; its text is kept in `memory_past`, where a rewind finds it."""
    store.execute(
        "INSERT INTO memory_past (born, retired, content, model, embedding, created)"
        " SELECT born, ?, content, model, embedding, created FROM memory WHERE entry = ?",
        (event, entry),
    )
    # An index over a table of its own is told what leaves it (FTS5 §4.4.3).
    store.execute(
        "INSERT INTO memory_text (memory_text, rowid, content)"
        " SELECT 'delete', entry, content FROM memory WHERE entry = ?",
        (entry,),
    )
    store.execute("DELETE FROM memory WHERE entry = ?", (entry,))


def find_text(store: Store, entry: int, facts: FoldedEntry) -> Row:
    """Return what the journal doesn't hold of an entry: content, model, embedding, created; wherever that is kept.

    Raises:
        WorkbookDamaged: it isn't there, or its text is something else than the journal says.

    """
    row = store.row(
        "SELECT content, model, embedding, created FROM memory_past WHERE born = ?1"
        " UNION ALL SELECT content, model, embedding, created FROM memory WHERE born = ?1 AND entry = ?2",
        (facts.born, entry),
    )
    if row is None or _digest(row[0]) != facts.sha256:
        raise WorkbookDamaged(path=store.path, reason=f"the memory that event {facts.born} kept is not there")
    return row


def put_entry(store: Store, entry: int, facts: FoldedEntry, kept: Row) -> None:
    """Write an entry as the journal describes it, which makes no event.

    Args:
        store: the workbook to write into, in a transaction.
        entry: its number, which is free.
        facts: what the journal says of it.
        kept: what it doesn't, from `find_text`.

    """
    content, model, embedding, created = kept
    store.execute(
        "INSERT INTO memory (entry, kind, content, source, metadata, model, embedding, created, expires, born)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(entry, facts.kind, content, facts.source, facts.metadata),
            *(model, embedding, created, facts.expires, facts.born),
        ),
    )
    store.execute("INSERT INTO memory_text (rowid, content) VALUES (?, ?)", (entry, content))
    for alias in facts.aliases:
        store.execute("INSERT INTO memory_aliases (alias, entry) VALUES (?, ?)", (alias, entry))


def _from_row(row: Row) -> Entry:
    entry, kind, content, source, metadata, model, created, expires = row[:8]
    return Entry(entry, kind, content, source, msgspec.json.decode(metadata), model, created, expires)


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def _metadata_text(metadata: Mapping[str, Any] | None) -> str:
    try:
        encoded = encode_json(dict(metadata or {}))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise MemoryRefused(part="metadata", reason=str(error)) from error
    if len(encoded) > MEMORY_CONTENT_MAX // 8:
        raise MemoryRefused(part="metadata", reason=f"it takes {len(encoded):,} bytes")
    return encoded.decode()


def _check_content(content: str) -> None:
    try:
        size = len(content.encode())
    except (AttributeError, UnicodeEncodeError) as error:
        raise MemoryRefused(part="content", reason=str(error)) from error
    if size > MEMORY_CONTENT_MAX:
        raise MemoryRefused(part="content", reason=f"{size:,} bytes are over {MEMORY_CONTENT_MAX:,}")
    if "\0" in content:
        raise MemoryRefused(part="content", reason="it has a NUL character")


def _check_names(kind: str, source: str | None, aliases: list[str], expires: int | None) -> None:
    for part, name in (("kind", kind), ("source", "-" if source is None else source)):
        if not _is_text(name) or not name.isprintable():
            raise MemoryRefused(part=part, reason=f"{name!r:.80} is not 1 to {_NAME_MAX} printable characters")
    for alias in aliases:  # names that others gave, which are taken as they come
        if not _is_text(alias):
            raise MemoryRefused(part="alias", reason=f"{alias!r:.80} is not 1 to {_NAME_MAX} characters of text")
    if expires is not None and (type(expires) is not int or not 0 <= expires < 2**63):
        raise MemoryRefused(part="expiry", reason=f"{expires!r:.80} is no time in microseconds since 1970")


def _is_text(name: object) -> bool:
    return isinstance(name, str) and 0 < len(name) <= _NAME_MAX and not _UNWRITABLE.search(name)


def _pack(embedding: Embedding) -> bytes:
    vector = embedding.vector
    if not _is_text(embedding.model):
        raise MemoryRefused(part="embedding", reason=f"{embedding.model!r:.80} is no name of a model")
    try:
        if not len(vector) or not all(math.isfinite(number) for number in vector):
            raise MemoryRefused(part="embedding", reason="it is empty or not finite")
        return struct.pack(f"<{len(vector)}f", *vector)
    except (TypeError, OverflowError, struct.error) as error:
        raise MemoryRefused(part="embedding", reason=str(error)) from error
