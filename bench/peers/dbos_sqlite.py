"""DBOS with its system database on SQLite, with its defaults."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import sqlalchemy
from dbos import DBOS

from bench.measure import timed
from bench.payload import MESSAGE


@DBOS.step()
def note() -> dict[str, str]:
    """Return the message: what a step returns is what DBOS records."""
    return MESSAGE


@DBOS.workflow()
def notes(count: int) -> list[int]:
    """Take `count` steps and time each."""
    return timed(count, note)


class Subject:
    """One application."""

    def setup(self, folder: Path) -> None:
        self._url = f"sqlite:///{folder / 'dbos.sqlite'}"
        DBOS(
            config={
                "name": "bench",
                "system_database_url": self._url,
                "log_level": "ERROR",
            }
        )
        DBOS.launch()

    def operate(self, count: int) -> list[int]:
        return notes(count)

    def batch(self, count: int, size: int) -> list[int]:
        message = "each step commits by itself"
        raise NotImplementedError(message)

    def facts(self) -> dict[str, str]:
        from dbos._dbos import _get_dbos_instance

        with _get_dbos_instance()._sys_db.engine.connect() as db:  # noqa: SLF001  (its own engine, as it set it up)
            ask = lambda name: db.execute(sqlalchemy.text(f"PRAGMA {name}")).scalar()  # noqa: E731
            return {
                "sqlite": sqlite3.sqlite_version,
                "journal": str(ask("journal_mode")),
                "synchronous": str(ask("synchronous")),
            }

    def last(self, count: int) -> int:
        message = "steps are read one workflow at a time"
        raise NotImplementedError(message)

    def close(self) -> None:
        DBOS.destroy(workflow_completion_timeout_sec=0)
