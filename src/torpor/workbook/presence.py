"""What this process has open, by path, so that a file is not taken for its bytes while a connection to it is open.

The locks that SQLite holds on a file go when the process closes *any* descriptor of it. So whoever is about to open a
workbook as a plain file (`rest.py`) asks here first, and until that is done nobody else in the process connects to it.
Other processes have locks of their own and are kept away by the claim (`owner.py`).
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from torpor.base.errors import AgentBusy

_PATIENCE_S: Final = 2.0
"""How long whoever wants to hold a file waits for those who are only passing."""

_lock = threading.Condition()
_connections: Counter[str] = Counter()
_passing: Counter[str] = Counter()
"""Of the connections, those of somebody who reads for a moment, on nobody's behalf: worth waiting for."""

_held: set[str] = set()

_mine: ContextVar[frozenset[str]] = ContextVar("torpor_held_at_rest", default=frozenset())
"""The paths that the caller's own context holds: it may connect to them, and has to know when."""


def arrive(path: str) -> None:
    """Count a connection that is about to be made.

    Raises:
        AgentBusy: another part of this process holds the file.

    """
    with _lock:
        if path in _held and path not in _mine.get():
            raise AgentBusy(name=path, reason="this process is about to copy, move or remove it")
        _connections[path] += 1


def leave(path: str) -> None:
    """Count a connection off that was closed, or never made."""
    with _lock:
        _connections[path] -= 1
        if not _connections[path]:
            del _connections[path]
        _lock.notify_all()


@contextmanager
def passing(path: str) -> Iterator[None]:
    """Have one connection that is made within the block count as one for a moment."""
    with _lock:
        _passing[path] += 1
    try:
        yield
    finally:
        with _lock:
            _passing[path] -= 1
            if not _passing[path]:
                del _passing[path]


@contextmanager
def held(path: str) -> Iterator[None]:
    """Keep the rest of this process from connecting to a file that it has no connection to.

    Raises:
        AgentBusy: it has one.

    """
    with _lock:
        _lock.wait_for(lambda: not 0 < _connections[path] <= _passing[path], _PATIENCE_S)
        if path in _connections:
            raise AgentBusy(name=path, reason="this process has it open")
        _held.add(path)
    _mine.set(_mine.get() | {path})
    try:
        yield
    finally:
        _mine.set(_mine.get() - {path})
        with _lock:
            _held.discard(path)


def holding() -> frozenset[str]:
    """Return the paths of the files that the caller's own context holds."""
    return _mine.get()


def _after_fork() -> None:
    """Forget, in a forked child, what the parent has open: the child never touches it."""
    global _lock  # noqa: PLW0603  (another thread of the parent may have held it, and is not here to give it back)
    _lock = threading.Condition()
    _connections.clear()
    _passing.clear()
    _held.clear()


os.register_at_fork(after_in_child=_after_fork)
