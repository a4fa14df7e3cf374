"""The ticker: one pass of the ladder at each beat, for as long as its owner lets it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import anyio
from anyio import to_thread

from torpor.base.errors import InternalError, TorporError
from torpor.home.results import Ticked

BEATS_MAX: Final = 32
"""Beats between two passes at most, after passes that failed."""


class Ticking(Protocol):
    """A home, or whatever else does a pass when asked."""

    def tick(self) -> Ticked:
        """Do one pass of leftovers, timers and ladder; called in a thread of its own.

        Raises:
            TorporError: it could not be done.

        """
        ...


async def keep_ticking(home: Ticking, beat_s: float, watch: Callable[[Ticked | TorporError], None]) -> None:
    """Have a home tick at each beat, until cancelled.

    A pass runs in a thread of its own, and is never cut short: a cancellation takes effect when it is done. A pass that
    fails is reported, and the next one is tried all the same, after twice as many beats as the last time.

    Args:
        home: the home.
        beat_s: seconds from the end of one pass to the beginning of the next.
        watch: is told, in the caller's thread, what each pass did, or why it could not.

    Raises:
        InternalError: a bug of ours.

    """
    beats = 1
    while True:
        await anyio.sleep(beat_s * beats)
        try:
            done: Ticked | TorporError = await to_thread.run_sync(home.tick)
            beats = 1
        except InternalError:
            raise
        except TorporError as error:
            done = error
            beats = min(beats * 2, BEATS_MAX)
        watch(done)
