"""Who is awake in this process, who uses it, and whose turn it is.

An **activation** is a workbook that this process holds open, with a count of its users. Besides it there are readers,
who hold an agent's file open without waking it. Both are kept by agent id, and only while they last: an agent that is
asleep has no entry anywhere here.

Whatever opens, closes or moves an agent's file does so inside `turn(agent)`, so that in one process one thing happens
to one agent at a time. Wakes wait for their turn, and find the agent as the one before them left it: so many wakes at
once are one wake and many finds. A move that would take the agent from somebody doesn't wait: it is refused with
`AgentBusy`, by the turn itself or because somebody counts as a user. Counts rise inside a turn and fall anywhere.

Other processes are kept off by the claim that an open workbook holds (torpor.workbook.owner), never by this module.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torpor.base.errors import AgentBusy, TransactionEntangled, WorkbookClosed
from torpor.workbook import Workbook


class Activation:
    """One agent, awake in this process.

    Attributes:
        book: its workbook, open as the owner.
        users: how many use it just now.
        active: its last activity, in µs UTC.

    """

    __slots__ = ("active", "book", "users")

    def __init__(self, book: Workbook, active: int) -> None:
        self.book = book
        self.users = 0
        self.active = active

    @property
    def closed(self) -> bool:
        """Whether a user has closed the workbook; while it has users, that is theirs to know."""
        if self.users:
            return False  # asking would wait for their transactions
        try:
            self.book.last  # noqa: B018  (asks the file)
        except WorkbookClosed:
            return True
        return False


class _Turn:
    __slots__ = ("lock", "waiting")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.waiting = 0


class Activations:
    """The activations, readers and turns of one process's home."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[str, _Turn] = {}
        self._open: dict[str, Activation] = {}
        self._readers: dict[str, int] = {}

    @contextmanager
    def turn(self, agent: str, name: str, *, wait: bool) -> Iterator[None]:
        """Hold the agent's turn.

        Args:
            agent: its id.
            name: its name, for whoever is refused.
            wait: until whoever has the turn is done; else that is an error.

        Raises:
            AgentBusy: somebody has the turn, and `wait` is off.

        """
        with self._lock:
            turn = self._turns.setdefault(agent, _Turn())
            turn.waiting += 1
        try:
            if not turn.lock.acquire(blocking=wait):
                raise AgentBusy(name=name, reason="this process is waking or moving it just now")
            try:
                yield
            finally:
                turn.lock.release()
        finally:
            with self._lock:
                turn.waiting -= 1
                if not turn.waiting:
                    del self._turns[agent]

    def get(self, agent: str) -> Activation | None:
        """Return the agent's activation, if it is awake here; call it inside its turn."""
        activation = self._open.get(agent)
        if activation is not None and activation.closed:
            del self._open[agent]
            return None
        return activation

    def add(self, agent: str, activation: Activation) -> None:
        """Keep an activation; call it inside the agent's turn."""
        self._open[agent] = activation

    def end(self, agent: str, name: str) -> None:
        """Close the agent's workbook and forget the activation; call it inside its turn, when nobody uses it.

        Raises:
            AgentBusy: a transaction is open on it, by somebody who doesn't count; nothing was done.
            WorkbookError: the storage failed while closing; it is closed and forgotten all the same.

        """
        try:
            self._open[agent].book.close()
        except TransactionEntangled as entangled:
            raise AgentBusy(name=name, reason="a transaction is open on it") from entangled
        except BaseException:
            del self._open[agent]
            raise
        del self._open[agent]

    def active(self, agent: str) -> int:
        """Return the last activity that this process knows of, in µs UTC; 0 where it is not awake here."""
        activation = self._open.get(agent)
        return activation.active if activation is not None else 0

    def touch(self, agent: str, now: int) -> None:
        """Set an agent's last activity, where it is awake here."""
        activation = self._open.get(agent)
        if activation is not None:
            activation.active = now

    def ids(self) -> list[str]:
        """Return the ids of the agents that are awake here, in the order of their wakes."""
        return list(self._open)

    def refuse_busy(self, agent: str, name: str) -> None:
        """Refuse to take an agent from somebody; call it inside its turn.

        Raises:
            AgentBusy: somebody uses or reads it in this process.

        """
        activation = self.get(agent)
        if activation is not None and activation.users:
            raise AgentBusy(name=name, reason=f"{_many(activation.users, 'user')} of this process at work with it")
        readers = self._readers.get(agent, 0)
        if readers:
            raise AgentBusy(name=name, reason=f"{_many(readers, 'reader')} of this process in its file")

    @contextmanager
    def used(self, activation: Activation) -> Iterator[None]:
        """Count a user. The count rises at once, so call `__enter__` inside the turn."""
        with self._lock:
            activation.users += 1
        try:
            yield
        finally:
            with self._lock:
                activation.users -= 1

    @contextmanager
    def read(self, agent: str) -> Iterator[None]:
        """Count a reader. The count rises at once, so call `__enter__` inside the turn."""
        with self._lock:
            self._readers[agent] = self._readers.get(agent, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._readers[agent] -= 1
                if not self._readers[agent]:
                    del self._readers[agent]


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
