"""Branches of a session of openai-agents: its AdvancedSQLiteSession, on a file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from agents.extensions.memory import AdvancedSQLiteSession

from bench.measure import timed_async
from bench.payload import TEXT

_AT_ONCE = 100


class Subject:
    """One session, each message a turn of its own."""

    def setup(self, folder: Path) -> None:
        self._runner = asyncio.Runner()
        self._session = AdvancedSQLiteSession(session_id="bench", db_path=folder / "openai.db", create_tables=True)

    def operate(self, count: int) -> list[int]:
        item: Any = {"role": "user", "content": TEXT}
        add = self._session.add_items
        return self._runner.run(timed_async(count // _AT_ONCE, lambda: add([item] * _AT_ONCE)))

    def point(self, at: int) -> Any:
        """Return the turn before which there are `at` messages, or as many of them as can be; go to the whole."""
        self._runner.run(self._session.switch_to_branch("main"))
        turns = self._runner.run(self._session.get_conversation_turns())
        return turns[min(at, len(turns) - 1)]["turn"]

    def fork(self, point: Any) -> None:
        """Make a branch that has what was before that turn."""
        self._runner.run(self._session.create_branch_from_turn(point))

    def close(self) -> None:
        self._session.close()
        self._runner.close()
