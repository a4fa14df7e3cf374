"""Snapshots into the log: each life of an agent that is to be restored from the replica needs one.

A snapshot is taken beside the work, of an agent that is awake or asleep, and put into the log only if the agent is
still in the life in which it was begun, and, where it sleeps, if nothing at all has been recorded since.

**The first one.** Records of a life of which the replica has no snapshot are of no use to anybody. So whoever makes an
agent, or opens one of which there is none, waits until its snapshot stands in the log, before the first record that
needs it (`early`). Large ones would take too long, or need the store: they are left to the next beat.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from torpor.base.errors import HeartbeatError, TorporError
from torpor.base.faults import point
from torpor.base.limits import MIB
from torpor.heartbeat.index import NONE, Known
from torpor.heartbeat.records import Kind
from torpor.heartbeat.replica import Replica
from torpor.heartbeat.roll import Roll, goes_on
from torpor.heartbeat.snapshots import pack_image, pack_snapshot
from torpor.workbook import Standing, image, snapshot

SCRATCH: Final = "scratch"
"""The folder, below the heartbeat's, for copies on their way."""

IMAGE_MAX: Final = MIB
"""Bytes of a workbook that is copied in memory, and whose first snapshot is waited for."""

Made = tuple[Standing, Kind, bytes]
"""A snapshot: where the workbook stood, and kind and payload of the record."""


class Snapper:
    """Takes snapshots of a home's agents. Safe to use from many threads.

    Args:
        folder: the heartbeat's.
        roll: whose snapshots.
        replica: where large ones go; None where they all stay in the log.

    """

    def __init__(self, folder: str, roll: Roll, replica: Replica | None) -> None:
        self._scratch = os.path.join(folder, SCRATCH)
        self._roll = roll
        self._replica = replica
        self._copies = itertools.count()

    def take(self, agent: str, path: str) -> int:
        """Put a snapshot into the log; returns its bytes there, 0 where it was made in vain.

        Raises:
            WorkbookError: the file can't be read.
            HeartbeatError, StoreUnreachable: the log, or the replica, doesn't take it now.

        """
        return self._put(agent, lambda: self._image(path) or self._copy(agent, path))

    def early(self, agent: str, path: str) -> bool:
        """Put a first snapshot into the log, if the replica needs one; returns whether that is seen to.

        What goes wrong is left to the next beat.
        """
        if self._replica is None:
            return True
        with self._roll.lock:
            known = self._roll.known(agent)
            if known is not None and known.snapshot != NONE:
                return True
        with suppress(TorporError):
            return self._put(agent, lambda: self._image(path)) > 0
        return False

    def attempt(self, agent: str, path: str) -> int:
        """Put a snapshot into the log, if that can be done just now; returns its bytes there.

        Raises:
            HeartbeatError: the log takes nothing.

        """
        try:
            return self.take(agent, path)
        except HeartbeatError:
            raise
        except TorporError:
            return 0  # it is being moved or restored just now, or can't be read: its next opening will say so

    def cover(self, agent: str, path: str, head: str) -> None:
        """See to it that the log has all of an agent whose file, at rest, is about to leave the home.

        Args:
            agent: its id.
            path: its file.
            head: the hash of the newest event in it, in hex.

        Raises:
            WorkbookError, HeartbeatError, StoreUnreachable: as for `take`.

        """
        if self._replica is None:
            return
        with self._roll.lock:
            known = self._roll.known(agent)
            if known is not None and known.snapshot != NONE and known.head == head:
                return
        if self._roll.quarantine.why(agent) is not None:
            return
        self.take(agent, path)

    def _image(self, path: str) -> Made | None:
        """Return a snapshot of a small workbook; None of a larger one."""
        with suppress(OSError):  # who opens it hears what is wrong with it
            if os.path.getsize(path) > IMAGE_MAX:
                return None
        standing, content = image(path)
        packed = pack_image(content)
        return packed and (standing, *packed)

    def _copy(self, agent: str, path: str) -> Made:
        """Return a snapshot by way of a copy."""
        # A name of its own: the beat and whoever moves the agent may do this at the same time.
        scratch = os.path.join(self._scratch, f"{agent}-{next(self._copies)}")
        try:
            standing = snapshot(path, scratch)
            return (standing, *pack_snapshot(scratch, self._replica, agent=agent))
        finally:
            with suppress(FileNotFoundError):
                os.unlink(scratch)

    def _put(self, agent: str, make: Callable[[], Made | None]) -> int:
        """Put a snapshot into the log; returns its bytes there, 0 where there is none or it was made in vain."""
        with self._roll.lock:
            before = self._moment(agent)
        made = make()
        if made is None:
            return 0
        standing, kind, payload = made
        point("keeper.copied")
        with self._roll.lock:
            if self._moment(agent) != before or standing.agent != agent:
                return 0
            lane = self._roll.lane(agent)
            if lane is None:
                self._put_asleep(standing, kind, payload)
            elif not lane.snapped(before[0], standing.txn, kind, payload):
                return 0
            self._roll.lock.notify_all()
        point("keeper.snapped")
        return len(payload)

    def _moment(self, agent: str) -> tuple[int, bool, int]:
        """Return what a snapshot goes with: of one that sleeps, anything new since it was begun makes it old."""
        known, awake = self._roll.known(agent), self._roll.lane(agent) is not None
        if known is None:
            return 0, awake, 0
        return known.life, awake, 0 if awake else known.last

    def _put_asleep(self, standing: Standing, kind: Kind, payload: bytes) -> None:
        """Put the snapshot of an agent that sleeps into the log (the lock is held)."""
        agent, log = standing.agent, self._roll.log
        known = self._roll.known(agent) or Known(agent=agent)
        if not goes_on(known, standing):
            # It sleeps, so its file is on the disk, and no recovery has to open it.
            told = msgspec.msgpack.encode(standing)
            known.life = log.add(agent, 0, standing.txn, Kind.LIFE, told)
            known.txn, known.head, known.schema = standing.txn, standing.head, standing.schema
            log.add(agent, known.life, standing.txn, Kind.LEFT, told)
        known.at_lsn = known.last = log.add(agent, known.life, standing.txn, kind, payload)
        known.snapshot, known.since = standing.txn, 0
        self._roll.note(known)
