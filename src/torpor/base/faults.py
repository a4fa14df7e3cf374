"""Named places at which a process may die.

Durable code calls `point("append.inserted")` where dying would be most awkward. In service nothing listens and a call
costs one comparison. The fault kit (`torpor.testing.faults`) listens, and kills the process there, so that tests can
show what recovery makes of it. The names are listed once, below: a test visits each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

POINTS: Final = (
    "append.begun",
    "append.inserted",
    "append.committed",
    "transaction.begun",
    "transaction.committing",
    "transaction.committed",
    "workbook.migrating",
    "fork.copied",
    "fork.whole",
    "rewind.recorded",
    "rewind.placed",
    "step.begun",
    "step.intended",
    "step.called",
    "step.recorded",
    "effect.begun",
    "effect.intended",
    "effect.performed",
    "effect.recorded",
    "run.started",
    "run.finishing",
    "run.finished",
    "delivery.begun",
    "delivery.staged",
    "delivery.half",
    "delivery.placed",
    "ledger.committing",
    "ledger.committed",
    "copy.begun",
    "copy.written",
    "copy.synced",
    "copy.placed",
    "store.put",
    "store.verified",
    "store.got",
    "move.reserved",
    "move.copied",
    "move.committed",
    "move.removed",
    "wake.restored",
    "wake.opened",
    "clone.copied",
    "clone.committed",
    "recovery.removed",
)
"""Every fault point of Torpor."""

_listener: Callable[[str], None] | None = None


def point(name: str) -> None:
    """Announce that control has reached the fault point `name`."""
    if _listener is not None:
        _listener(name)


def listen(listener: Callable[[str], None] | None) -> None:
    """Have `listener` called with every point reached from now on; None stops it."""
    global _listener  # noqa: PLW0603  (one process, one listener: an argument would pass through every function)
    _listener = listener
