"""Identifiers: UUIDs of version 7 (RFC 9562 §5.7), which sort by the time they were made.

`IdSource` follows the RFC's method 3 (the twelve bits after the version hold the fraction of the millisecond) and its
method 2 for ids made within one tick (the previous id plus one), so the ids of one source rise strictly, even when
the clock stands still or steps back.
"""

from __future__ import annotations

from typing import NewType

from torpor.base.clock import Clock
from torpor.base.entropy import Entropy

AgentId = NewType("AgentId", str)
RunId = NewType("RunId", str)

_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62


class IdSource:
    """Makes UUIDs of version 7, each greater than the one before.

    Args:
        clock: where the time comes from.
        entropy: where the random bits come from.

    """

    __slots__ = ("_clock", "_entropy", "_last", "_tick")

    def __init__(self, clock: Clock, entropy: Entropy) -> None:
        self._clock = clock
        self._entropy = entropy
        self._last = 0
        self._tick = -1

    def next(self, now_us: int) -> bytes:
        """Return the sixteen bytes of a new id for the time `now_us` (µs since 1970, UTC)."""
        now_us = max(now_us, 0)  # the format knows no time before 1970
        tick = now_us // 1000
        if tick <= self._tick:
            self._last += 1
            return self._last.to_bytes(16, "big")
        self._tick = tick
        fraction = (now_us % 1000) * 4096 // 1000
        chance = int.from_bytes(self._entropy.token(8), "big") >> 3  # one bit spare, so +1 never carries
        self._last = max(
            tick << 80 | _VERSION | fraction << 64 | _VARIANT | chance,
            self._last + 1,
        )
        return self._last.to_bytes(16, "big")

    def text(self) -> str:
        """Return a new id in its usual form, `xxxxxxxx-xxxx-7xxx-xxxx-xxxxxxxxxxxx`."""
        return format_id(self.next(self._clock.now_us()))


def format_id(raw: bytes) -> str:
    """Return the usual text of an id's sixteen bytes."""
    digits = raw.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
