"""LangGraph's SqliteSaver with its defaults."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.sqlite import SqliteSaver

from bench.measure import timed
from bench.payload import MESSAGE


class Subject:
    """One thread of checkpoints.

    Args:
        growing: each checkpoint holds every message so far, as a graph with a list of messages does.

    """

    def __init__(self, *, growing: bool = False) -> None:
        self._growing = growing
        self._messages: list[dict[str, str]] = []
        self._config: Any = {"configurable": {"thread_id": "bench", "checkpoint_ns": ""}}
        self._step = 0

    def setup(self, folder: Path) -> None:
        self._stack = ExitStack()
        place = str(folder / "langgraph.db")
        self._saver = self._stack.enter_context(SqliteSaver.from_conn_string(place))
        self._saver.setup()

    def _put(self) -> None:
        self._step += 1
        if self._growing:
            self._messages.append(dict(MESSAGE))
        else:
            self._messages = [dict(MESSAGE)]
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {"messages": self._messages}
        checkpoint["channel_versions"] = {"messages": self._step}
        self._config = self._saver.put(
            self._config,
            checkpoint,
            {"source": "loop", "step": self._step},
            {"messages": self._step},
        )

    def operate(self, count: int) -> list[int]:
        return timed(count, self._put)

    def batch(self, count: int, size: int) -> list[int]:
        self._put()

        def one() -> None:
            self._step += 1
            writes = [("messages", dict(MESSAGE)) for _ in range(size)]
            self._saver.put_writes(self._config, writes, f"task-{self._step}")

        return timed(count, one)

    def facts(self) -> dict[str, str]:
        ask = self._saver.conn.execute
        return {
            "sqlite": sqlite3.sqlite_version,
            "journal": str(ask("PRAGMA journal_mode").fetchone()[0]),
            "synchronous": str(ask("PRAGMA synchronous").fetchone()[0]),
        }

    def last(self, count: int) -> int:
        return len(list(self._saver.list(self._config, limit=count)))

    def close(self) -> None:
        self._stack.close()
