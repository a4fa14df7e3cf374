"""Listening at the fault points of `torpor.base.faults`.

Each function here is a context manager: it listens inside its `with` block and is gone after it. Blocks may be nested;
all of them hear every point, the outermost first.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torpor.base import faults
from torpor.base.errors import InternalError

_listeners: list[Callable[[str], None]] = []


@contextmanager
def record() -> Iterator[list[str]]:
    """Collect the names of the points that are reached, in order, into the list given."""
    reached: list[str] = []
    with _listening(reached.append):
        yield reached


@contextmanager
def kill_at(point: str, nth: int = 1) -> Iterator[None]:
    """Kill this process with SIGKILL when it reaches a point.

    Args:
        point: one of `torpor.base.faults.POINTS`.
        nth: at the first time it is reached, the second, and so on.

    Raises:
        InternalError: there is no such point, so nothing would ever happen.

    """
    with _at(point, nth, _die):
        yield


@contextmanager
def fail_at(point: str, error: BaseException, nth: int = 1) -> Iterator[None]:
    """Raise an error when a point is reached for the `nth` time.

    Raises:
        InternalError: there is no such point.

    """

    def strike() -> None:
        raise error

    with _at(point, nth, strike):
        yield


@contextmanager
def _at(point: str, nth: int, strike: Callable[[], None]) -> Iterator[None]:
    if point not in faults.POINTS or nth < 1:
        raise InternalError(promise=f"{point!r} is a fault point of base/faults.py, and {nth} is 1 or more")
    reached = 0

    def hear(name: str) -> None:
        nonlocal reached
        if name == point:
            reached += 1
            if reached == nth:
                strike()

    with _listening(hear):
        yield


@contextmanager
def _listening(listener: Callable[[str], None]) -> Iterator[None]:
    _listeners.append(listener)
    faults.listen(_announce)
    try:
        yield
    finally:
        _listeners.remove(listener)
        if not _listeners:
            faults.listen(None)


def _announce(name: str) -> None:
    for listener in _listeners:
        listener(name)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
