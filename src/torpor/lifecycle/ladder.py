"""The ladder: how long an agent may idle before it is moved one rung down."""

from __future__ import annotations

import math
from typing import Final

import msgspec

from torpor.base.errors import DurationRefused
from torpor.lifecycle.states import State

_MICROSECONDS: Final = 1_000_000


class Ladder(msgspec.Struct, frozen=True):
    """How long each rung lasts, in seconds since the agent's last activity.

    Raises:
        DurationRefused: a threshold is not a positive, finite number.

    """

    suspend_after_s: float = 900.0
    """From active to suspended; a quarter of an hour."""
    freeze_after_s: float = 86_400.0
    """From suspended to frozen; a day."""

    def __post_init__(self) -> None:
        for threshold in (self.suspend_after_s, self.freeze_after_s):
            if not (math.isfinite(threshold) and threshold > 0):
                raise DurationRefused(duration=str(threshold))

    def but(self, suspend_after_s: float | None = None, freeze_after_s: float | None = None) -> Ladder:
        """Return this ladder with an agent's own thresholds in place of these, where it has some.

        Raises:
            DurationRefused: a threshold is not a positive, finite number.

        """
        if suspend_after_s is None and freeze_after_s is None:
            return self
        return Ladder(
            self.suspend_after_s if suspend_after_s is None else suspend_after_s,
            self.freeze_after_s if freeze_after_s is None else freeze_after_s,
        )


LADDER: Final = Ladder()
"""The ladder of whoever says nothing else."""


def next_state(state: State, idle_s: float, ladder: Ladder = LADDER) -> State:
    """Return the state that an agent belongs in now: the next rung down, or where it is.

    Args:
        state: where it is.
        idle_s: seconds since its last activity; whoever reaches a threshold exactly has reached it.
        ladder: the thresholds.

    """
    if state == "active" and idle_s >= ladder.suspend_after_s:
        return "suspended"
    if state == "suspended" and idle_s >= ladder.freeze_after_s:
        return "frozen"
    return state


def idle_seconds(last_us: int, now_us: int) -> float:
    """Return how long an agent has been idle, in seconds.

    Never negative: a last activity in the future comes of a clock that stepped back, and makes nobody old.

    Args:
        last_us: its last activity, µs since 1970 UTC.
        now_us: the present time, likewise.

    """
    return max(0, now_us - last_us) / _MICROSECONDS
