"""What a death at a fault point means for the transaction under way: before it is durable, after it, or ambiguous.

For whoever commits alone: another thread that leads may have written the record already. *Before* means that after a
power cut at that moment the transaction is not there; *after*, that it is; *ambiguous*, that it may be. *Nothing* means
that the point is passed where no transaction waits: nothing may change by dying there.
"""

from __future__ import annotations

from typing import Final, Literal

from tests.crash.test_log_killed import AFTER, AMBIGUOUS, BEFORE, NOTHING
from tests.crash.test_log_killed import TAGS as OF_THE_LOG

Tag = Literal["before", "ambiguous", "after", "nothing"]

MEANINGS: Final[dict[str, Tag]] = {
    BEFORE: "before",
    AMBIGUOUS: "ambiguous",
    AFTER: "after",
    NOTHING: "nothing",
}

TAGS: Final[dict[str, Tag]] = {
    **{point: MEANINGS[tag] for point, tag in OF_THE_LOG.items()},
    "append.begun": "before",
    "append.inserted": "before",
    "append.committed": "ambiguous",
    "transaction.begun": "before",
    "transaction.committing": "before",
    "transaction.committed": "before",
    "record.marked": "before",
    "record.committed": "before",
    "record.added": "ambiguous",
    "record.broken": "after",
    "record.acknowledged": "after",
    "settle.done": "nothing",
    "leave.closed": "nothing",
    "replay.applying": "nothing",
    "replay.applied": "nothing",
    "replay.finishing": "nothing",
    "replay.finished": "nothing",
    "snapshot.copied": "nothing",
    "keeper.joined": "nothing",
    "keeper.copied": "nothing",
    "keeper.snapped": "nothing",
    "keeper.indexed": "nothing",
    "recovery.applied": "nothing",
    "recovery.indexed": "nothing",
    "replica.claiming": "nothing",
    "replica.claimed": "nothing",
    "replica.creating": "nothing",
    "replica.created": "nothing",
    "replica.merged": "nothing",
    "replica.based": "nothing",
    "replica.floored": "nothing",
    "replica.sweeping": "nothing",
    "replica.manifested": "nothing",
    "replica.snapshot": "nothing",
    "object.drafted": "nothing",
    "object.placed": "nothing",
    "object.added": "nothing",
}
"""Every point that is passed between a commit and its place in the replica, and on the way back."""
