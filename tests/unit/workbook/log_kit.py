"""A log in memory, and a replica that is made of its records alone."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path

from torpor.base.errors import HeartbeatFailed, TorporError
from torpor.workbook import Durability, Joining, Level, Replay, Standing, digest, snapshot
from torpor.workbook.store import GENESIS


@dataclass
class Kept:
    """One commit, as the log was told of it; without a payload where no record can say what was done."""

    txn: int
    head: bytes
    payload: bytes | None


@dataclass
class Slip:
    """A ticket, which notes who waited for what."""

    log: MemoryLog
    txn: int

    def wait(self, level: Level) -> None:
        self.log.waited.append((self.txn, level))
        if self.log.waits_fail:
            raise HeartbeatFailed(path="memory", reason="told to")

    async def arrive(self, level: Level) -> None:
        await asyncio.sleep(0)
        self.wait(level)


@dataclass
class MemoryLog:
    """A log that keeps all records, for one workbook at a time."""

    folder: str
    level: Level = Level.DURABLE
    reach: Level = Level.DURABLE
    kept: list[Kept] = field(default_factory=list)
    waited: list[tuple[int, Level]] = field(default_factory=list)
    told_settled: list[int] = field(default_factory=list)
    told_left: list[Standing | None] = field(default_factory=list)
    members: list[Joining] = field(default_factory=list)
    adds_fail: bool = False
    waits_fail: bool = False
    failed: TorporError | None = None

    def join(self, member: Joining) -> MemoryLog:
        self.members.append(member)
        return self

    def add(self, txn: int, head: bytes, payload: bytes) -> Slip:
        if self.adds_fail:
            raise HeartbeatFailed(path="memory", reason="told to")
        self.kept.append(Kept(txn, head, payload))
        return Slip(self, txn)

    def broken(self, txn: int, head: bytes) -> Slip:
        self.kept.append(Kept(txn, head, None))
        return Slip(self, txn)

    def settled(self, txn: int) -> None:
        self.told_settled.append(txn)

    def leave(self, standing: Standing | None) -> None:
        self.told_left.append(standing)

    def durability(self, synchronous: str = "OFF") -> Durability:
        """Return the class of which this is the log."""
        return Durability("heartbeat", "NORMAL" if synchronous == "NORMAL" else "OFF", log=self)


class Replica:
    """A copy of a workbook that is kept up to date by the records of a log, and by a new snapshot where these end."""

    def __init__(self, path: Path, log: MemoryLog) -> None:
        self.path = path
        self.log = log
        self.copy = path.with_name(f"{path.stem}-replica.workbook")
        self.taken = 0
        self.snapshots = 0
        self.replay: Replay | None = None
        self.start()

    def start(self) -> None:
        """Begin anew with a snapshot."""
        self.stop()
        if self.copy.exists():
            os.unlink(self.copy)
        snapshot(self.path, str(self.copy))
        self.snapshots += 1
        self.replay = Replay.open(self.copy)

    def stop(self) -> None:
        """Let the copy be."""
        if self.replay is not None:
            self.replay.close()
            self.replay = None

    def follow(self) -> None:
        """Take up what the log has got, and be what the workbook is."""
        new, self.taken = self.log.kept[self.taken :], len(self.log.kept)
        last = max((number for number, kept in enumerate(new) if kept.payload is None), default=-1)
        if last >= 0:
            self.start()
        assert self.replay is not None
        applied = self.replay.apply_many((kept.txn, kept.payload) for kept in new if kept.payload is not None)
        assert applied == (0 if last >= 0 else len(new)), "each record is news, unless the snapshot has it"
        self.check()

    def look(self) -> tuple[Standing, str]:
        """Return what the workbook holds."""
        return digest(self.path)

    def check(self) -> None:
        """Insist that the copy is what the workbook is."""
        standing, found = digest(self.path)
        assert digest(self.copy) == (standing, found)
        assert self.replay is not None
        assert self.replay.standing == standing
        if self.log.kept:
            newest = self.log.kept[-1]
            assert (newest.txn, newest.head) == (standing.txn, bytes.fromhex(standing.head) or GENESIS)
