"""The journal: an append-only list of events, the canonical state of the agent.

An event's number is allocated inside the transaction that appends it, so numbers have no gaps. Its hash covers the
hash of the event before it and its own canonical bytes, so whoever trusts one hash can check everything before it.

Canonical bytes (SPEC.md, «The hash chain»): the nine fields ``seq id time kind version span parent key body``, each as
text, id in hexadecimal, what is absent as nothing, joined by line feeds, in UTF-8. Only the body, which comes last,
may hold a line feed, so no two events have the same bytes.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator
from typing import Any, Final, LiteralString

import msgspec

from torpor.base import faults
from torpor.base.errors import EventRefused, EventTooLarge, InternalError, KeyReused, WorkbookDamaged
from torpor.base.finite import has_strange_number
from torpor.base.ids import format_id
from torpor.base.limits import EVENT_BODY_MAX, EVENTS_PAGE, KIND_MAX, LABEL_MAX
from torpor.workbook.commits import Head, Row, Ticket
from torpor.workbook.store import Store, Transaction

_KIND = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
_sha256 = hashlib.sha256
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode

_PLAIN: Final = frozenset({str, int, bool, type(None)})
"""Types of values that hold no number that JSON lacks: told at a glance, and what most bodies are made of."""

_COLUMNS: Final = "SELECT seq, id, time, kind, version, body, span, parent, key, hash"


Links = tuple[str | None, int | None, str | None]
"""An event's span, parent and key."""


class Event(msgspec.Struct, frozen=True):
    """One thing that happened. `body` is the decoded JSON object."""

    seq: int
    id: str
    time: int
    """Microseconds since 1970 UTC."""
    kind: str
    version: int
    body: dict[str, Any]
    span: str | None
    """The run, or other unit of work, that it belongs to."""
    parent: int | None
    """Number of the event that it answers: a receipt's intent."""
    key: str | None
    hash: bytes


def canonical(row: Row) -> bytes:
    """Return the bytes of an event that its hash covers, from its columns in the order of the table."""
    return _canonical(row[:6], row[6:9])


def _canonical(facts: tuple[int, bytes, int, str, int, str], links: Links) -> bytes:
    seq, raw, time, kind, version, body = facts
    span, parent, key = links
    if span is None and parent is None and key is None:  # most events: half the time for the same bytes
        return f"{seq}\n{raw.hex()}\n{time}\n{kind}\n{version}\n\n\n\n{body}".encode()
    where = f"{span or ''}\n{'' if parent is None else parent}\n{key or ''}"
    return f"{seq}\n{raw.hex()}\n{time}\n{kind}\n{version}\n{where}\n{body}".encode()


class Journal:
    """The events of one workbook."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def append(
        self,
        kind: str,
        body: dict[str, Any] | msgspec.Struct,
        *,
        span: str | None = None,
        parent: int | None = None,
        key: str | None = None,
        durability: str | None = None,
    ) -> int:
        """Append one event; it is durable when this returns, unless a transaction is open around it.

        Args:
            kind: dotted lower-case words, such as "note.added".
            body: what msgspec can encode as a JSON object, up to 256 KiB.
            span: the unit of work that the event belongs to.
            parent: number of the event that this one answers.
            key: makes the append idempotent: the same event under the same key is appended once.
            durability: "file", "heartbeat" or "replicated", where it is to be other than the workbook's own.

        Returns:
            The event's number; under a known key, that of the first.

        Raises:
            EventRefused, EventTooLarge: it can't be recorded.
            KeyReused: the key belongs to another event.
            DurabilityRefused: the workbook can't give that class.
            WorkbookError: it can't be written; nothing was.
            HeartbeatError: it is written, and may or may not be there after a power loss.

        """
        faults.point("append.begun")
        text = encode_body(kind, body)
        links = _checked(span, parent, key)
        store = self._store
        level = None if durability is None else store.level(durability)
        transaction = store.current()
        if transaction is not None:
            transaction.raise_level(level)
            return self._put(transaction, kind, text, links)
        if key is None:
            seq, ticket = self._insert(kind, text, links)
            # The lock is released: whoever waits for a log must not hold it.
            if ticket is not None and store.scribe is not None:
                store.scribe.wait(ticket, level)
            if seq:
                return seq
        with store.writing(durability) as transaction:
            return self._put(transaction, kind, text, links)

    async def append_async(
        self,
        kind: str,
        body: dict[str, Any] | msgspec.Struct,
        *,
        span: str | None = None,
        parent: int | None = None,
        key: str | None = None,
        durability: str | None = None,
    ) -> int:
        """Append one event, as `append` does; the other tasks of the event loop go on while it is made durable.

        Where the task is cancelled meanwhile the event stays, and is as durable as it got.
        """
        store = self._store
        if store.current() is not None:
            return self.append(kind, body, span=span, parent=parent, key=key, durability=durability)
        if store.scribe is None:  # SQLite itself syncs, in the thread that commits
            from anyio import to_thread  # noqa: PLC0415  (whoever has an event loop has paid for it)

            return await to_thread.run_sync(
                lambda: self.append(kind, body, span=span, parent=parent, key=key, durability=durability)
            )
        faults.point("append.begun")
        text = encode_body(kind, body)
        links = _checked(span, parent, key)
        level = None if durability is None else store.level(durability)
        if key is None:
            seq, ticket = self._insert(kind, text, links)
            if ticket is not None:
                await store.scribe.arrive(ticket, level)
            if seq:
                return seq
        async with store.writing(durability) as transaction:
            return self._put(transaction, kind, text, links)

    def _insert(self, kind: str, text: str, links: Links) -> tuple[int, Ticket | None]:
        """Append one event without a transaction around it; its number is 0 where it needs one."""
        store = self._store
        with store.lock:
            scribe, head = store.scribe, store.head
            if head is None or not (scribe is None or scribe.plain):
                return 0, None
            # A lone INSERT is a transaction by itself. Spelling it out as one costs a tenth of the time.
            head, row = self._next(head, head[2] + 1, kind, text, links)
            store.head = None  # whatever interrupts what follows, a stale head is never built upon
            ticket = store.insert_event(head, row)
            faults.point("append.committed")
            store.head = head
            return head[0], ticket

    def upcoming(self) -> int:
        """Return the number that the next event of the open transaction will have.

        Raises:
            TransactionEntangled, TransactionLost, WorkbookClosed: as for `Workbook.transaction`.
            InternalError: no transaction is open, so somebody else may be faster.

        """
        transaction = self._store.current()
        if transaction is None:
            raise InternalError(promise="a number is foretold inside a transaction only")
        return transaction.head[0] + 1

    def _put(self, transaction: Transaction, kind: str, text: str, links: Links) -> int:
        if links[2] is not None:
            found = self._under_key(kind, text, links[2])
            if found is not None:
                return found
        head, row = self._next(transaction.head, transaction.number, kind, text, links)
        # One INSERT is atomic by itself: it needs no savepoint, and it can wait.
        self._store.defer_event(row)
        transaction.head = head
        faults.point("append.inserted")
        return head[0]

    def _next(self, before: Head, txn: int, kind: str, text: str, links: Links) -> tuple[Head, Row]:
        """Return the event that follows `before`, as a row, and where the journal then stands."""
        # The hot path of the whole system: plain tuples, and one call where the eye would like three.
        seq = before[0] + 1
        parent = links[1]
        if parent is not None and (type(parent) is not int or not 0 < parent < seq):
            raise EventRefused(part="parent", reason=f"{parent!r:.80} is not the number of an earlier event")
        store = self._store
        now = store.clock.now_us()
        facts = (seq, store.ids.next(now), now, kind, 1, text)
        digest = _sha256(before[1] + _canonical(facts, links)).digest()
        return (seq, digest, txn), (*facts, *links, digest, txn)

    def _under_key(self, kind: str, text: str, key: str) -> int | None:
        found = self._store.row("SELECT seq, kind, body FROM line WHERE key = ?", (key,))
        if found is None:
            return None
        seq: int = found[0]
        if found[1:] != (kind, text):
            raise KeyReused(key=key, owner=f"event {seq} ({found[1]})")
        return seq

    def events(
        self, after: int = 0, *, span: str | None = None, limit: int | None = None, set_aside: bool = True
    ) -> Iterator[Event]:
        """Yield events in order, read in pages, so appending meanwhile is allowed and seen.

        Args:
            after: number of the event to begin behind; 0 is the beginning.
            span: only those of this unit of work.
            limit: at most this many.
            set_aside: also those that a rewind has set aside.

        """
        left = limit
        table: LiteralString = "events" if set_aside else "line"
        while left is None or left > 0:
            size = EVENTS_PAGE if left is None else min(left, EVENTS_PAGE)
            page = self._page(table, after, span, size)
            for row in page:
                yield self._event(row)
            if len(page) < size:
                return
            after = page[-1][0]
            left = None if left is None else left - len(page)

    def _page(self, table: LiteralString, after: int, span: str | None, size: int) -> list[Row]:
        if span is None:
            return self._store.rows(f"{_COLUMNS} FROM {table} WHERE seq > ? ORDER BY seq LIMIT ?", (after, size))
        return self._store.rows(
            f"{_COLUMNS} FROM {table} WHERE span = ? AND seq > ? ORDER BY seq LIMIT ?", (span, after, size)
        )

    def runs(self) -> list[tuple[str, str, str, int, int]]:
        """Return id, message, state, time of beginning and newest `run.` event of every run, oldest first."""
        found = self._store.rows("SELECT run, message, state, started_time, last FROM runs ORDER BY started")
        return [(row[0], row[1], row[2], row[3], row[4]) for row in found]

    def event(self, seq: int) -> Event | None:
        """Return the event of a number."""
        row = self._store.row(f"{_COLUMNS} FROM events WHERE seq = ?", (seq,))
        return self._event(row) if row else None

    def by_key(self, key: str, *, set_aside: bool = False) -> Event | None:
        """Return the event under an idempotency key.

        Args:
            key: the key.
            set_aside: where there is none, the newest of those that a rewind has set aside: what was done to the
                world stays done.

        """
        row = self._store.row(f"{_COLUMNS} FROM line WHERE key = ?", (key,))
        if row is None and set_aside:
            row = self._store.row(f"{_COLUMNS} FROM events WHERE key = ? ORDER BY seq DESC LIMIT 1", (key,))
        return self._event(row) if row else None

    def _event(self, row: Row) -> Event:
        try:
            return from_row(row)
        except (msgspec.MsgspecError, AttributeError, TypeError, ValueError) as error:
            # What was appended can be read: this was written by nobody, or by somebody else.
            reason = f"event {row[0]} can't be read ({error})"
            raise WorkbookDamaged(path=self._store.path, reason=reason) from error


def from_row(row: Row) -> Event:
    """Return the event in a row of the table."""
    seq, raw, time, kind, version, body, span, parent, key, digest = row
    return Event(seq, format_id(raw), time, kind, version, _decode(body), span, parent, key, digest)


def encode_body(kind: str, body: dict[str, Any] | msgspec.Struct) -> str:
    """Return an event's body as JSON, having checked its kind and size.

    Raises:
        EventRefused, EventTooLarge: it can't be recorded.

    """
    if type(kind) is not str or not is_kind(kind):
        raise EventRefused(part="kind", reason=f"{kind!r:.80} is not dotted lower-case words")
    try:
        encoded = encode_json(body)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise EventRefused(part="body", reason=str(error)) from error
    if not encoded.startswith(b"{"):
        raise EventRefused(part="body", reason=f"{type(body).__name__} is not a JSON object")
    if len(encoded) > EVENT_BODY_MAX:
        raise EventTooLarge(kind=kind, size=len(encoded), limit=EVENT_BODY_MAX)
    return encoded.decode()


def encode_json(value: Any) -> bytes:
    """Return a value as JSON.

    Raises:
        TypeError, ValueError, OverflowError, RecursionError: it isn't plain data, or has a number that JSON lacks.

    """
    encoded = _encode(value)
    if type(value) is dict and _PLAIN.issuperset(map(type, value.values())):
        return encoded
    # msgspec writes null for NaN and the infinities. That would record something else than was said.
    if b"null" in encoded and has_strange_number(value):
        raise ValueError("it holds a number that JSON doesn't have: NaN or an infinity")
    return encoded


@functools.lru_cache(maxsize=1024)
def is_kind(kind: str) -> bool:
    """Report whether a text can be an event's kind."""
    return len(kind) <= KIND_MAX and _KIND.fullmatch(kind) is not None


def is_label(label: object) -> bool:
    """Report whether something is a text that can be a span or a key."""
    return isinstance(label, str) and 0 < len(label) <= LABEL_MAX and label.isprintable()


def _checked(span: str | None, parent: int | None, key: str | None) -> Links:
    if span is not None:
        _check_label("span", span)
    if key is not None:
        _check_label("key", key)
    return span, parent, key


def _check_label(part: str, label: str) -> None:
    if not is_label(label):
        raise EventRefused(part=part, reason=f"{label!r:.80} is not 1 to {LABEL_MAX} printable characters")
