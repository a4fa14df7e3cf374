"""The peers, each behind one small protocol.

A peer's module is imported only in the child process that measures it, so one that isn't installed costs its row and
nothing else, and no peer's threads, garbage or SQLite library are in another's way.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol


class Peer(Protocol):
    """One way of keeping events."""

    def setup(self, folder: Path) -> None:
        """Make, or open, the store in `folder`."""
        ...

    def operate(self, count: int) -> list[int]:
        """Store `count` messages, each durable before the next, and return the nanoseconds that each took."""
        ...

    def batch(self, count: int, size: int) -> list[int]:
        """Store `count` times `size` messages, each `size` in one commit; return the nanoseconds per commit."""
        ...

    def facts(self) -> dict[str, str]:
        """Return what the open connection says of itself: `sqlite`, `journal`, `synchronous`."""
        ...

    def last(self, count: int) -> int:
        """Read the newest `count` messages, decoded, and return how many there were."""
        ...

    def close(self) -> None:
        """Close as the peer's documentation says."""
        ...


@dataclass(frozen=True)
class Entry:
    """A peer by name.

    Attributes:
        title: how tables call it.
        module: where its class `Subject` is.
        does: what one durable record is, and what it does beyond storing, honestly.
        options: arguments of `Subject`.
        batches: what 100 events in one commit are; empty where it has no such thing.
        pace: which share of a table's operations it is given, so that a slow peer doesn't hold up the run.

    """

    title: str
    module: str
    does: str
    options: dict[str, Any] = field(default_factory=dict)
    batches: str = ""
    pace: float = 1.0

    def make(self) -> Peer:
        """Import the peer and make it."""
        peer: Peer = importlib.import_module(self.module).Subject(**self.options)
        return peer


PEERS: Final = {
    "raw": Entry(
        "raw apsw, WAL + FULL",
        "bench.peers.raw",
        "the floor: one INSERT into (seq, body); no ids, times, hashes, keys, ownership",
        batches="BEGIN, 100 times INSERT by execute(), COMMIT",
    ),
    "torpor": Entry(
        "**Torpor `file`**",
        "bench.peers.torpor_file",
        "`Workbook.append`: checked kind and size, UUIDv7, time, SHA-256 chain, single owner",
        batches="`with book.transaction():` 100 times `append`",
    ),
    "langgraph": Entry(
        "LangGraph SqliteSaver, last message only",
        "bench.peers.langgraph_sqlite",
        "`put` of a checkpoint that holds the last message only; resumable graph state",
        batches="`put_writes` of 100 pending writes",
    ),
    "langgraph-list": Entry(
        "LangGraph SqliteSaver, growing list",
        "bench.peers.langgraph_sqlite",
        "the usual use: each `put` stores the whole list of messages again",
        options={"growing": True},
        pace=0.2,
    ),
    "openai": Entry(
        "openai-agents SQLiteSession",
        "bench.peers.openai_session",
        "`add_items` of one message; also touches the session's row",
        batches="`add_items` of 100 messages",
    ),
    "agentfs": Entry(
        "agentfs-sdk tool_calls",
        "bench.peers.agentfs_tools",
        "`tools.record` of one finished call, message as its result",
        pace=0.5,
    ),
    "dbos": Entry(
        "DBOS on SQLite",
        "bench.peers.dbos_sqlite",
        "one step of a running workflow, message as its output; checks for replay and cancellation",
        pace=0.1,
    ),
}
"""Every peer, in the order of the tables."""


class Forker(Protocol):
    """One way of making a second line of events from an earlier point."""

    def setup(self, folder: Path) -> None:
        """Make, or open, the store in `folder`."""
        ...

    def operate(self, count: int) -> list[int]:
        """Store `count` messages; return the nanoseconds that each call took."""
        ...

    def point(self, at: int) -> Any:
        """Return the peer's name for the point at which it had `at` messages."""
        ...

    def fork(self, point: Any) -> None:
        """Make a new line from there, durable when it returns."""
        ...

    def close(self) -> None:
        """Close as the peer's documentation says."""
        ...


@dataclass(frozen=True)
class Forking:
    """A peer that can fork.

    Attributes:
        title: how the table calls it.
        module: where its class `Subject` is.
        does: what a fork is there.

    """

    title: str
    module: str
    does: str

    def make(self) -> Forker:
        """Import the peer and make it."""
        peer: Forker = importlib.import_module(self.module).Subject()
        return peer


FORKING: Final = {
    "langgraph": Forking(
        "LangGraph SqliteSaver, growing list",
        "bench.peers.langgraph_fork",
        "the state at a checkpoint, put into another thread of the same file; no history",
    ),
    "openai": Forking(
        "openai-agents AdvancedSQLiteSession",
        "bench.peers.openai_branches",
        "`create_branch_from_turn`: rows that point to the same messages, in the same file",
    ),
    "dbos": Forking(
        "DBOS on SQLite",
        "bench.peers.dbos_fork",
        "`fork_workflow` from a step: the steps before it are copied inside the same file; it is not run",
    ),
}
"""Every peer that can fork, in the order of the table."""
