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
    # the heartbeat's log
    "heartbeat.opening",
    "heartbeat.adding",
    "heartbeat.rolling",
    "heartbeat.rolled",
    "heartbeat.writing",
    "heartbeat.written",
    "heartbeat.synced",
    "heartbeat.releasing",
    "heartbeat.released",
    # Adding an object to a folder: before it is durable, ambiguous, after it.
    "object.drafted",
    "object.placed",
    "object.added",
    # A commit and its record: before the record is durable, ambiguous (only the log knows), after it.
    "record.marked",
    "record.committed",
    "record.added",
    "record.broken",
    "record.acknowledged",
    "settle.done",
    "leave.closed",
    "replay.applying",
    "replay.applied",
    "replay.finishing",
    "replay.finished",
    "snapshot.copied",
    # The replica: a pack is in doubt between creating and created; merging counts from based on.
    "replica.claiming",
    "replica.claimed",
    "replica.creating",
    "replica.created",
    "replica.merged",
    "replica.based",
    "replica.floored",
    "replica.sweeping",
    "replica.manifested",
    "replica.snapshot",
    "restore.fetched",
    "restore.replayed",
    "restore.placed",
    # The heartbeat's own work, which no acknowledgement waits for; and recovery, which may be done again.
    "keeper.joined",
    "keeper.copied",
    "keeper.snapped",
    "keeper.indexed",
    "quarantine.kept",
    "quarantine.put",
    "quarantine.lifted",
    "recovery.applied",
    "recovery.indexed",
    # Putting a restored agent in its place: after its ledger says so, the old file stays whole at each. A whole home:
    # until it is placed there is none.
    "aside.beside",
    "aside.moved",
    "aside.placed",
    "rebuild.begun",
    "rebuild.restored",
    "rebuild.told",
    "rebuild.placed",
    # Access: a key that is durable and not in its place, then in it; and the commits of tokens and of the audit.
    "access.keying",
    "access.keyed",
    "access.committing",
    "access.committed",
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
