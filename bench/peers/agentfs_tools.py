"""AgentFS's record of tool calls, on Turso's rewrite of SQLite."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from pathlib import Path

from agentfs_sdk import AgentFS, AgentFSOptions

from bench.measure import timed_async
from bench.payload import MESSAGE


class Subject:
    """One agent's file."""

    def setup(self, folder: Path) -> None:
        self._runner = asyncio.Runner()
        options = AgentFSOptions(path=str(folder / "agentfs.db"))
        self._agent = self._runner.run(AgentFS.open(options))

    def operate(self, count: int) -> list[int]:
        record = self._agent.tools.record
        one = lambda: record("note", 1, 2, result=MESSAGE)  # noqa: E731  (a name for one call)
        return self._runner.run(timed_async(count, one))

    def batch(self, count: int, size: int) -> list[int]:
        message = "each record commits by itself"
        raise NotImplementedError(message)

    async def _ask(self, pragma: str) -> str:
        cursor = await self._agent.get_database().execute(f"PRAGMA {pragma}")
        row = await cursor.fetchone()
        return str(row[0]) if row else "?"

    def facts(self) -> dict[str, str]:
        return {
            "sqlite": f"turso {version('pyturso')}",
            "journal": self._runner.run(self._ask("journal_mode")),
            "synchronous": self._runner.run(self._ask("synchronous")),
        }

    def last(self, count: int) -> int:
        return len(self._runner.run(self._agent.tools.get_recent(0, count)))

    def close(self) -> None:
        self._runner.run(self._agent.close())
        self._runner.close()
