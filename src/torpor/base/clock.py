"""Time is an argument: whoever needs the hour takes a `Clock`.

This is the only module that reads the wall clock. Durations inside coroutines come from anyio, whose own clock
tests can replace.
"""

from __future__ import annotations

import time
from typing import Protocol

MICROSECONDS = 1_000_000


class Clock(Protocol):
    """A source of wall time."""

    def now_us(self) -> int:
        """Return the microseconds since 1970-01-01 UTC."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now_us(self) -> int:
        """Return the microseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1000
