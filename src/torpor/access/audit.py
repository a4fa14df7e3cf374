"""Who was let in, who was not, and who changed what: a list that only grows, each entry chained to the one before.

    hash(n) = SHA-256(hash(n - 1) ‖ JSON of [seq, time, kind, who, body as text])        hash(0) = 32 zero bytes

So nothing in it can be changed, taken out or put in without every later hash being another. Who can write the file
can write a whole other chain, and who cuts off its end leaves a chain: against both helps only a hash (`head`) that was
kept elsewhere, which `verify` takes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from torpor.access.connection import Connection, Execute
from torpor.base.clock import Clock
from torpor.base.errors import AccessDamaged
from torpor.base.limits import AUDIT_BODY_MAX

_START: Final = bytes(32)
_PAGE: Final = 500
_TEXT_CHARS_MAX: Final = 300
"""Characters kept of one text: what strangers send must not fill the audit."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry.

    Attributes:
        seq: its number, from 1, without gaps.
        time: when it was made, µs since 1970 UTC, as the clock was then.
        kind: what happened, such as `token.issued`.
        who: by whom: `token:ID`, `uid:N`, or an address.
        body: what else there is to say.
        hash: in hex; see above.

    """

    seq: int
    time: int
    kind: str
    who: str
    body: dict[str, Any]
    hash: str


class Head(msgspec.Struct, frozen=True):
    """The newest entry: its number, and its hash in hex."""

    seq: int
    hash: str


class Audit:
    """The audit of one node."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock

    def add(self, execute: Execute, kind: str, who: str, **body: Any) -> None:
        """Add an entry in the transaction of what it tells of.

        Args:
            execute: of a transaction that is open.
            kind: what happened.
            who: by whom.
            body: what else there is to say, as plain data.

        """
        found = list(execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1"))
        seq, before = found[0] if found else (0, _START)
        seq += 1
        time = self._clock.now_us()
        who = _clean(who)
        text = _encode({name: _clean(value) for name, value in body.items() if value is not None})
        digest = _hash(before, seq, time, kind, who, text)
        execute(
            "INSERT INTO audit (seq, time, kind, who, body, hash) VALUES (?, ?, ?, ?, ?, ?)",
            (seq, time, kind, who, text, digest),
        )

    def note(self, kind: str, who: str, *, synced: bool = True, **body: Any) -> None:
        """Add an entry by itself.

        Args:
            kind: what happened.
            who: by whom.
            synced: wait until the disk has it. Without, a power cut may take it back, and all after it; a kill can't.
            body: what else there is to say, as plain data.

        Raises:
            AccessFailed, AccessDamaged: it can't be written.

        """
        with self._connection.transaction(synced=synced) as execute:
            self.add(execute, kind, who, **body)

    def entries(self, *, after: int = 0, limit: int | None = None) -> Iterator[Entry]:
        """Yield entries, oldest first, a page at a time.

        Args:
            after: only those with a greater number.
            limit: at most so many.

        """
        left = limit
        while left is None or left > 0:
            size = _PAGE if left is None else min(_PAGE, left)
            page = self._connection.rows(
                "SELECT seq, time, kind, who, body, hash FROM audit WHERE seq > ? ORDER BY seq LIMIT ?", (after, size)
            )
            for seq, time, kind, who, body, digest in page:
                try:
                    said = msgspec.json.decode(body)
                except msgspec.DecodeError as error:
                    raise self._damaged(f"entry {seq} of the audit is no JSON") from error
                yield Entry(seq=seq, time=time, kind=kind, who=who, body=said, hash=digest.hex())
                after = seq
            if len(page) < size:
                return
            left = None if left is None else left - size

    def head(self) -> Head:
        """Return the newest entry's number and hash, to be kept elsewhere; 0 and zeros before the first."""
        found = self._connection.rows("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
        return Head(found[0][0], found[0][1].hex()) if found else Head(0, _START.hex())

    def verify(self, kept: Head | None = None) -> Head:
        """Compute the whole chain anew, and return its head.

        Args:
            kept: a head from before, which must be in the chain.

        Raises:
            AccessDamaged: the chain is broken, or is another than the one that had this head.

        """
        before, last = _START, 0
        if kept is not None and kept.seq == 0:
            kept = None
        while page := self._connection.rows(
            "SELECT seq, time, kind, who, body, hash FROM audit WHERE seq > ? ORDER BY seq LIMIT ?", (last, _PAGE)
        ):
            for seq, time, kind, who, body, digest in page:
                if seq != last + 1:
                    raise self._damaged(f"entry {last + 1} of the audit is missing")
                if _hash(before, seq, time, kind, who, body) != digest:
                    raise self._damaged(f"entry {seq} of the audit, or one before it, was changed")
                if kept is not None and seq == kept.seq and digest.hex() != kept.hash:
                    raise self._damaged(f"entry {seq} of the audit is another than it was")
                before, last = digest, seq
        if kept is not None and last < kept.seq:
            raise self._damaged(f"the audit had {kept.seq:,} entries and has {last:,}")
        return Head(last, before.hex())

    def _damaged(self, reason: str) -> AccessDamaged:
        return AccessDamaged(path=self._connection.path, reason=reason)


def _hash(before: bytes, seq: int, time: int, kind: str, who: str, body: str) -> bytes:
    return hashlib.sha256(before + msgspec.json.encode([seq, time, kind, who, body])).digest()


def _encode(body: dict[str, Any]) -> str:
    text = msgspec.json.encode(body)
    if len(text) > AUDIT_BODY_MAX:
        text = msgspec.json.encode({"left_out_bytes": len(text)})
    return text.decode()


def _clean(value: Any) -> Any:
    """Return a text that can be stored and is not too long; any other value as it is."""
    if not isinstance(value, str):
        return value
    return value[:_TEXT_CHARS_MAX].encode(errors="replace").decode()
