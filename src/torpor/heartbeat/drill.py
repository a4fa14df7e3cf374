"""Drills: a few agents are restored from the replica to scratch, and compared with the living.

A replica that nobody has restored from is a hope. A drill takes a snapshot of an agent as it lives, has the replica
give
the same transaction, and compares what the two contain.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from torpor.base.clock import Clock
from torpor.base.errors import TorporError
from torpor.heartbeat.log import Log
from torpor.heartbeat.replica import Replica
from torpor.heartbeat.restore import Point, restore_agent
from torpor.heartbeat.shipping import Shipper
from torpor.heartbeat.status import Drilled
from torpor.workbook import digest, snapshot

PATIENCE_S = 60.0
"""Seconds that a drill waits for an agent's newest transaction to be shipped."""

_TRIES = 3
"""What a snapshot has is in the log a moment after it is in the file."""


def drill(
    agents: Sequence[tuple[str, str]], scratch: str, log: Log, replica: Replica, shipper: Shipper, clock: Clock
) -> tuple[Drilled, ...]:
    """Restore agents, given by id and file, and compare them with the living."""
    return tuple(_one(agent, path, scratch, log, replica, shipper, clock) for agent, path in agents)


def _one(  # noqa: PLR0913, PLR0917  (the parts that a drill brings together)
    agent: str, path: str, scratch: str, log: Log, replica: Replica, shipper: Shipper, clock: Clock
) -> Drilled:
    living, restored = (os.path.join(scratch, f"drill-{agent}-{what}") for what in ("living", "restored"))
    _remove(living, restored)
    txn, begun = 0, time.perf_counter()
    try:
        txn = snapshot(path, living, clock=clock).txn
        for _ in range(_TRIES):
            log.wait(log.last)
            shipper.wait(log.durable, PATIENCE_S)
            _remove(restored)
            begun = time.perf_counter()
            found = restore_agent(replica, agent, restored, at=Point(txn=txn), clock=clock)
            ms = (time.perf_counter() - begun) * 1e3
            if found.txn == txn:
                break
        if found.txn != txn:
            return Drilled(agent, txn, ok=False, ms=ms, reason=f"the replica ends at transaction {found.txn}")
        same = digest(living, clock=clock)[1] == digest(restored, clock=clock)[1]
        return Drilled(agent, txn, ok=same, ms=ms, reason="" if same else "what was restored has another content")
    except TorporError as error:
        return Drilled(agent, txn, ok=False, ms=(time.perf_counter() - begun) * 1e3, reason=error.message)
    finally:
        _remove(living, restored)


def _remove(*paths: str) -> None:
    for path in paths:
        with suppress(FileNotFoundError):
            Path(path).unlink()
