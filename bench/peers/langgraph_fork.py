"""Forking a LangGraph thread by the id of a checkpoint, as `update_state` does it, into another thread."""

from __future__ import annotations

import uuid
from typing import Any

from bench.peers import langgraph_sqlite

_POINT = "SELECT checkpoint_id FROM checkpoints WHERE thread_id = 'bench' ORDER BY checkpoint_id LIMIT 1 OFFSET ?"


class Subject(langgraph_sqlite.Subject):
    """One thread with a growing list, and its forks."""

    def __init__(self) -> None:
        super().__init__(growing=True)

    def point(self, at: int) -> Any:
        """Return where message `at` was the newest."""
        (found,) = self._saver.conn.execute(_POINT, (at - 1,)).fetchone()
        return {"configurable": {"thread_id": "bench", "checkpoint_ns": "", "checkpoint_id": found}}

    def fork(self, point: Any) -> None:
        """Read the state there and put it into a thread of its own."""
        found = self._saver.get_tuple(point)
        if found is None:
            message = "there is no such checkpoint"
            raise RuntimeError(message)
        self._saver.put(
            {"configurable": {"thread_id": str(uuid.uuid4()), "checkpoint_ns": ""}},
            found.checkpoint,
            {"source": "fork", "step": 0},
            found.checkpoint["channel_versions"],
        )
