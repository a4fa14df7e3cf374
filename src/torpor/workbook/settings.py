"""Settings: an agent's typed attributes, kept in its workbook.

A change is an event; the table is its fold, written in the same transaction.
"""

from __future__ import annotations

from typing import Any

import msgspec

from torpor.base.errors import EventRefused
from torpor.base.limits import KIND_MAX
from torpor.workbook.journal import Journal, encode_json
from torpor.workbook.store import Store


class Settings:
    """The settings in one workbook, by name."""

    def __init__(self, store: Store, journal: Journal) -> None:
        self._store = store
        self._journal = journal

    def get(self, name: str) -> str | None:
        """Return a setting as JSON text; None where it was never set."""
        row = self._store.row("SELECT value FROM settings WHERE name = ?", (name,))
        return row[0] if row else None

    def set(self, name: str, value: Any, *, span: str | None = None) -> None:
        """Keep a setting; keeping what it is already changes nothing.

        Raises:
            EventRefused, EventTooLarge: the name is no identifier, or the value is not plain data or too much of it.

        """
        if not _is_name(name):
            raise EventRefused(part="setting's name", reason=f"{name!r:.80} is no identifier")
        try:
            text = encode_json(value).decode()
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise EventRefused(part="setting", reason=str(error)) from error
        if self.get(name) == text:
            return
        with self._store.writing():
            event = self._journal.append(
                "setting.changed", {"name": name, "value": msgspec.Raw(text.encode())}, span=span
            )
            self._store.execute(
                "INSERT INTO settings (name, value, event) VALUES (?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value, event = excluded.event",
                (name, text, event),
            )

    def all(self) -> dict[str, str]:
        """Return every setting as JSON text."""
        return dict(self._store.rows("SELECT name, value FROM settings ORDER BY name"))


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name.isidentifier() and len(name) <= KIND_MAX
