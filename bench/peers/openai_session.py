"""The SQLiteSession of openai-agents, on a file, with its defaults."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

from agents import SQLiteSession

from bench.measure import timed_async
from bench.payload import TEXT


def _item() -> Any:
    return {"role": "user", "content": TEXT}


class Subject:
    """One session."""

    def setup(self, folder: Path) -> None:
        self._path = folder / "openai.db"
        self._runner = asyncio.Runner()
        self._session = SQLiteSession("bench", self._path)

    def operate(self, count: int) -> list[int]:
        add = self._session.add_items
        return self._runner.run(timed_async(count, lambda: add([_item()])))

    def batch(self, count: int, size: int) -> list[int]:
        add = self._session.add_items
        return self._runner.run(timed_async(count, lambda: add([_item() for _ in range(size)])))

    def facts(self) -> dict[str, str]:
        # It works in threads with a connection each; one that it makes for this thread is set up the same way.
        ask = self._session._get_connection().execute  # noqa: SLF001  (the only way to ask its connection)
        return {
            "sqlite": sqlite3.sqlite_version,
            "journal": str(ask("PRAGMA journal_mode").fetchone()[0]),
            "synchronous": str(ask("PRAGMA synchronous").fetchone()[0]),
        }

    def last(self, count: int) -> int:
        return len(self._runner.run(self._session.get_items(limit=count)))

    def close(self) -> None:
        self._session.close()
        self._runner.close()
