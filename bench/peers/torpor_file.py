"""Torpor's workbook with its default durability."""

from __future__ import annotations

from pathlib import Path

import apsw

from bench.measure import timed
from bench.payload import MESSAGE
from torpor import Workbook


class Subject:
    """One workbook.

    Args:
        readonly: open it beside its owner; only `last` works then.

    """

    def __init__(self, *, readonly: bool = False) -> None:
        self._readonly = readonly

    def setup(self, folder: Path) -> None:
        self._book = Workbook.open(folder / "torpor.workbook", readonly=self._readonly)

    def operate(self, count: int) -> list[int]:
        append = self._book.append
        return timed(count, lambda: append("note.added", MESSAGE))

    def batch(self, count: int, size: int) -> list[int]:
        book = self._book

        def one() -> None:
            with book.transaction():
                for _ in range(size):
                    book.append("note.added", MESSAGE)

        return timed(count, one)

    def facts(self) -> dict[str, str]:
        db = self._book._store.db  # noqa: SLF001  (what the connection really runs with, not what we say it does)
        return {
            "sqlite": apsw.sqlite_lib_version(),
            "journal": str(db.pragma("journal_mode")),
            "synchronous": str(db.pragma("synchronous")),
        }

    def last(self, count: int) -> int:
        return len(list(self._book.events(after=self._book.last - count)))

    def close(self) -> None:
        self._book.close()
