"""Restoring agents from a replica: now, at a time, at an event, at a transaction.

Every commit is applied by the workbook's own room, which checks each event's hash against the one before; a snapshot is
checked by its digest. The file appears under its name when it is whole and on the disk, not before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, Literal

import msgspec

from torpor.base import faults
from torpor.base.clock import Clock
from torpor.base.errors import FileTaken, NotAWorkbook, ReplicaDamaged, TorporError, WorkbookDamaged
from torpor.heartbeat.catalog import Catalog
from torpor.heartbeat.history import NOW, History, Point, read_agent
from torpor.heartbeat.reading import Reader, SharingReader
from torpor.heartbeat.snapshots import unpack_snapshot
from torpor.stores.copies import place
from torpor.workbook import Replay, Standing

__all__ = ["NOW", "History", "Point", "Progress", "Restored", "Watch", "read_agent", "restore_agent", "restore_all"]

BATCH: Final = 1_000
"""Commits that are applied in one go."""


class Progress(msgspec.Struct, frozen=True):
    """How far a restore is.

    Attributes:
        agent: whose.
        stage: what was done last.
        done: of how many agents all is done.
        total: how many there are.
        bytes: bytes read for this agent.

    """

    agent: str
    stage: Literal["found", "fetched", "replayed", "placed", "failed"]
    done: int
    total: int
    bytes: int


Watch = Callable[[Progress], None]


class Restored(msgspec.Struct, frozen=True):
    """An agent that was restored.

    Attributes:
        agent: its id.
        path: its file.
        life: the life that it is of.
        txn: the transaction that it stands at.
        seq: its newest event.
        head: the hash of that, in hexadecimal.
        time: µs, of the last record that is in it.
        records: commits that were applied.
        bytes: bytes read from the replica.
        seconds: how long it took.
        complete: whether that is all there was up to the moment asked for.
        reason: what is missing; "" where nothing is.

    """

    agent: str
    path: str
    life: int
    txn: int
    seq: int
    head: str
    time: int
    records: int
    bytes: int
    seconds: float
    complete: bool
    reason: str


def restore_agent(  # noqa: PLR0913  (named)
    reader: Reader,
    agent: str,
    target: str,
    *,
    at: Point = NOW,
    clock: Clock | None = None,
    watch: Watch | None = None,
    catalog: Catalog | None = None,
) -> Restored:
    """Make the workbook of an agent as it was.

    Args:
        reader: the replica.
        agent: its id.
        target: the file to make; nothing may be there.
        at: when.
        clock: for the claim on the file while it is made.
        watch: is told how far it is.
        catalog: of the replica, where the caller has read it already.

    Raises:
        ReplicaLacks: the replica doesn't have the agent, or not at that moment.
        ReplicaDamaged: what it needs is damaged.
        StoreUnreachable: the replica can't be read now.
        FileTaken: something is at `target`; it is left as it is.
        StorageFull, StorageFailed, WorkbookReadOnly: `target` can't be written.

    """
    begun = time.perf_counter()
    tell = _telling(watch, agent)
    if os.path.lexists(target):
        raise FileTaken(path=target)
    history = read_agent(reader, agent, at, catalog=catalog)
    tell("fetched", history.bytes)
    faults.point("restore.fetched")
    draft = f"{target}-draft"
    _discard(draft)  # an earlier attempt's: nobody but a restore makes this name here
    try:
        standing, taken = _make(reader, history, draft, clock)
        tell("replayed", history.bytes + taken)
        faults.point("restore.replayed")
        place(draft, target)
    except BaseException:
        _discard(draft)
        raise
    faults.point("restore.placed")
    reason = history.reason
    newer = history.newer
    if not reason and newer is not None and (newer.txn, newer.head) != (standing.txn, standing.head):
        reason = "its newest life can't be restored: the replica has no snapshot of it"
    return Restored(
        agent=agent,
        path=target,
        life=history.life,
        txn=standing.txn,
        seq=standing.seq,
        head=standing.head,
        time=history.time,
        records=len(history.commits),
        bytes=history.bytes + taken,
        seconds=time.perf_counter() - begun,
        complete=not reason,
        reason=reason,
    )


def restore_all(
    reader: Reader,
    targets: Mapping[str, str],
    *,
    at: Point = NOW,
    clock: Clock | None = None,
    at_once: int = 4,
    watch: Watch | None = None,
) -> dict[str, Restored | TorporError]:
    """Make the workbooks of many agents, some at a time; what fails for one is told in its place.

    Args:
        reader: the replica.
        targets: agents, and the file of each.
        at: when.
        clock: as for `restore_agent`.
        at_once: how many at a time.
        watch: is told, by one thread at a time, how far it is.

    Raises:
        ReplicaDamaged, StoreUnreachable: it can't be known what there is.

    """
    reader = SharingReader(reader.objects)
    catalog = reader.catalog()
    found: dict[str, Restored | TorporError] = {}

    def one(agent: str, target: str) -> tuple[str, Restored | TorporError]:
        try:
            return agent, restore_agent(reader, agent, target, at=at, clock=clock, catalog=catalog)
        except TorporError as error:
            return agent, error

    with ThreadPoolExecutor(at_once, "torpor-restore") as pool:
        for agent, result in pool.map(lambda pair: one(*pair), targets.items()):
            found[agent] = result
            if watch is not None:
                stage: Literal["placed", "failed"] = "placed" if isinstance(result, Restored) else "failed"
                taken = result.bytes if isinstance(result, Restored) else 0
                watch(Progress(agent, stage, len(found), len(targets), taken))
    return found


def _make(reader: Reader, history: History, draft: str, clock: Clock | None) -> tuple[Standing, int]:
    """Make a workbook from its history; returns where it stands, and the bytes that were read for its snapshot."""
    taken = unpack_snapshot(reader, history.snapshot, draft)
    try:
        with Replay.open(draft, clock=clock) as replay:
            if replay.standing.agent != history.agent:
                reason = f"the snapshot of {history.agent} is the workbook of {replay.standing.agent}"
                raise ReplicaDamaged(place=reader.url, offset=0, reason=reason)
            for start in range(0, len(history.commits), BATCH):
                some = history.commits[start : start + BATCH]
                replay.apply_many([(record.txn, record.payload) for record in some])
            standing = replay.finish()
    except (WorkbookDamaged, NotAWorkbook) as error:
        raise ReplicaDamaged(place=reader.url, offset=0, reason=f"{history.agent}: {error.reason}") from error
    if standing.txn != history.txn:
        reason = f"{history.agent} came to transaction {standing.txn}, not {history.txn}"
        raise ReplicaDamaged(place=reader.url, offset=0, reason=reason)
    return standing, taken


def _telling(watch: Watch | None, agent: str) -> Callable[[Literal["fetched", "replayed"], int], None]:
    def tell(stage: Literal["fetched", "replayed"], taken: int) -> None:
        if watch is not None:
            watch(Progress(agent, stage, 0, 1, taken))

    return tell


def _discard(draft: str) -> None:
    for name in (draft, f"{draft}-wal", f"{draft}-shm", f"{draft}-owner"):
        with suppress(FileNotFoundError):
            os.unlink(name)
