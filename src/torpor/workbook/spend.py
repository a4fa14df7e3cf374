"""Spend: what was paid, in double entry.

Each booking moves a positive whole number of micro-units from one account to another, so the sum over all accounts of
a unit is zero by construction. A booking is an event and its row here, in one transaction, under an idempotency key;
rows are never changed or removed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from torpor.base.errors import KeyReused, SpendRefused
from torpor.base.limits import LABEL_MAX
from torpor.workbook.journal import Journal, is_label
from torpor.workbook.store import Store

MICRO: Final = 1_000_000
"""Micro-units in a unit: a dollar, a token."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_.:/@-]{0,199}")
_AMOUNT_MAX: Final = 2**53


class Booking(msgspec.Struct, frozen=True):
    """One movement between two accounts."""

    event: int
    source: str
    target: str
    unit: str
    amount: int
    """Micro-units."""
    key: str


class Spend:
    """The accounts of one workbook."""

    def __init__(self, store: Store, journal: Journal) -> None:
        self._store = store
        self._journal = journal

    def book(self, amount: int, unit: str, *, source: str, target: str, key: str, span: str | None = None) -> int:
        """Move an amount from one account to another, once.

        Args:
            amount: micro-units, positive.
            unit: what is counted, such as "usd" or "token".
            source: the account that pays, such as "wallet".
            target: the account that receives, such as "models/local".
            key: the same booking under the same key is made once.
            span: the unit of work that it belongs to.

        Returns:
            The number of the booking's event.

        Raises:
            SpendRefused: amount, account or key can't be booked.
            KeyReused: the key belongs to another booking.

        """
        reason = _objection(amount, unit, source, target, key)
        if reason:
            raise SpendRefused(amount=amount, unit=unit, source=source, target=target, reason=reason)
        facts = {"source": source, "target": target, "unit": unit, "amount": amount, "key": key}
        with self._store.writing():
            row = self._store.row("SELECT event, source, target, unit, amount FROM spend WHERE key = ?", (key,))
            if row is not None:
                if row[1:] != (source, target, unit, amount):
                    raise KeyReused(key=key, owner=f"the booking of event {row[0]}")
                return int(row[0])
            event = self._journal.append("spend.booked", facts, span=span)
            self._store.execute(
                "INSERT INTO spend (event, source, target, unit, amount, key) VALUES (?, ?, ?, ?, ?, ?)",
                (event, source, target, unit, amount, key),
            )
        return event

    def balances(self) -> dict[tuple[str, str], int]:
        """Return the balance of each (account, unit), in micro-units."""
        found = self._store.rows("SELECT account, unit, amount FROM balances")
        return {(account, unit): amount for account, unit, amount in found}

    def bookings(self) -> Iterator[Booking]:
        """Yield every booking in order."""
        for row in self._store.rows("SELECT event, source, target, unit, amount, key FROM spend ORDER BY event"):
            yield Booking(*row)


def _objection(amount: int, unit: str, source: str, target: str, key: str) -> str:
    if type(amount) is not int or not 0 < amount <= _AMOUNT_MAX:
        return f"{amount!r} is not a whole number of micro-units from 1 to 2^53"
    for name in (unit, source, target):
        if not _is_name(name):
            return f"{name!r:.80} is not a name of lower-case letters, digits and . : / @ _ -"
    if not is_label(key):
        return f"the key {key!r:.80} is not 1 to {LABEL_MAX} printable characters"
    return "an account can't pay itself" if source == target else ""


def _is_name(name: object) -> bool:
    return isinstance(name, str) and _NAME.fullmatch(name) is not None
