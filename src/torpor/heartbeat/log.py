"""The log: every commit of every agent of a home, in one place.

How records become durable is told in `torpor.heartbeat.stream`, what files they are in in `torpor.heartbeat.folder`,
what can be read of these after a crash in `torpor.heartbeat.segment`.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, Self

from torpor.base import claims
from torpor.base.claims import Claim, Holder
from torpor.base.clock import Clock
from torpor.base.errors import HeartbeatClosed, HeartbeatError, HeartbeatOwned, HeartbeatStalled, InternalError
from torpor.base.limits import LOG_SEGMENT_BYTES
from torpor.heartbeat.cursor import Cursor
from torpor.heartbeat.disk import SYSTEM, Disk
from torpor.heartbeat.folder import Folder, SegmentFacts
from torpor.heartbeat.records import Damage, Record
from torpor.heartbeat.segment import BLOCK_BYTES
from torpor.heartbeat.stream import Stream, failure
from torpor.heartbeat.tasks import Tasks

_OWNER: Final = "owner"

_logs: weakref.WeakSet[Log] = weakref.WeakSet()


class Log(Stream):
    """The log of a home. Safe to use from many threads, useless in a forked child; `open` opens it."""

    def __init__(self, folder: Folder, clock: Clock, claim: Claim) -> None:
        super().__init__(folder, clock)
        self._claim = claim
        self._cursor = Cursor(folder)
        self._tasks = Tasks("torpor-sync", self.wait, lambda: self.durable, self.stalled)
        _logs.add(self)

    @classmethod
    def open(
        cls,
        folder: str,
        home_id: str,
        clock: Clock,
        *,
        after: int = 0,
        segment_bytes: int = LOG_SEGMENT_BYTES,
        disk: Disk = SYSTEM,
    ) -> Self:
        """Open the log in a folder, making it where there is none, as its single owner.

        Args:
            folder: an absolute path, links resolved.
            home_id: the UUID of the home, as text.
            clock: what records and segments are dated by.
            after: the number that the records of a new log come after; a log that is there goes on where it ends.
            segment_bytes: the length of a usual segment, a multiple of 4,096.
            disk: the system's files.

        Raises:
            HeartbeatOwned: somebody has it open.
            HeartbeatDamaged: it is another home's, a newer Torpor's, or its last segment has no heading.
            HeartbeatFailed: the system refuses.

        """
        if segment_bytes % BLOCK_BYTES or segment_bytes < 2 * BLOCK_BYTES:
            raise InternalError(promise=f"a segment has a whole number of blocks, at least two ({segment_bytes})")
        files = Folder(folder, home_id, segment_bytes, disk)
        try:
            disk.make_folder(folder)
            claim = claims.claim(os.path.join(folder, _OWNER), claims.moment(clock))
        except OSError as error:
            raise failure(folder, error) from error
        if isinstance(claim, Holder):
            raise HeartbeatOwned(path=folder, pid=claim.pid, command=claim.command, since=claim.since)
        try:
            files.open(clock, after)
            return cls(files, clock, claim)
        except BaseException as error:
            files.close()
            with suppress(OSError):
                claim.release()
            if isinstance(error, OSError):
                raise failure(folder, error) from error
            raise

    async def arrive(self, lsn: int) -> None:
        """Return when the record `lsn` is durable, as `wait` does; the event loop goes on meanwhile.

        Where the task is cancelled, the record stays on its way.

        Raises:
            HeartbeatError: as `wait` does.

        """
        if lsn > self.durable:
            await self._tasks.arrive(lsn)

    # --- reading --------------------------------------------------------------------------------------------------

    @property
    def first(self) -> int:
        """The oldest lsn that is kept; the next one, where none is."""
        return self._folder.first

    @property
    def size(self) -> int:
        """Bytes on the disk, spares among them."""
        return self._folder.size

    def segments(self) -> list[SegmentFacts]:
        """Return what can be said of each segment, oldest first."""
        return self._folder.facts()

    def scan(self) -> Iterator[Record | Damage]:
        """Yield every durable record from the oldest on, and in its place what can't be read any more.

        Raises:
            HeartbeatFailed: the system refuses to read.
            HeartbeatClosed: it is closed.

        """
        self._check_open()
        try:
            yield from self._folder.scan()
        except OSError as error:
            raise failure(self.path, error) from error

    def damage(self, lsn: int) -> Damage | None:
        """Return what can't be read any more at a record, by all that is kept; None where it can.

        Raises:
            HeartbeatFailed: the system refuses to read.
            HeartbeatClosed: it is closed.

        """
        for found in self.scan():
            if isinstance(found, Damage):
                if found.lsn <= lsn < found.until:
                    return found
            elif found.lsn >= lsn:
                break
        return None

    def read(self, after: int, limit_bytes: int) -> list[Record]:
        """Return durable records from the one behind `after` on, in order and without a gap; none if there are none.

        It costs little to go on where the last call ended.

        Args:
            after: a record's lsn, or 0.
            limit_bytes: how many bytes of encoded records at most; the first is given whatever its size.

        Raises:
            HeartbeatReleased: the record behind `after` is no longer kept.
            HeartbeatDamaged: it can't be read.
            HeartbeatFailed: the system refuses to read.
            HeartbeatClosed: it is closed.

        """
        self._check_open()
        try:
            return self._cursor.read(after, limit_bytes)
        except OSError as error:
            raise failure(self.path, error) from error

    # --- keeping house --------------------------------------------------------------------------------------------

    def release(self, lsn: int) -> None:
        """Say that no record up to `lsn` is needed any more. Whole segments are kept for use again, or removed.

        Raises:
            HeartbeatFailed: the system refuses; the log goes on.
            HeartbeatClosed: it is closed.

        """
        self._check_open()
        try:
            self._folder.release(lsn)
        except OSError as error:
            raise failure(self.path, error) from error

    def prepare(self) -> None:
        """Make a spare segment if there is none, so that no commit has to wait for that. Call it now and then.

        Raises:
            HeartbeatFailed: the system refuses; the log goes on.
            HeartbeatClosed: it is closed.

        """
        self._check_open()
        try:
            self._folder.prepare()
        except OSError as error:
            raise failure(self.path, error) from error

    def _check_open(self) -> None:
        if self._closed:
            raise HeartbeatClosed(path=self.path)

    def close(self) -> None:
        """Make everything durable and give the log up. A second time, or in a forked child, nothing.

        Raises:
            HeartbeatFailed, HeartbeatFull: something could not be made durable; the log is closed all the same.
            HeartbeatStalled: likewise, and the device still works on it: the claim stays with this process, so that
                nobody else writes meanwhile.

        """
        with self._lock:
            if self._closed:
                return
            self._closed, self._open = True, None
            last = self.last
        try:
            self.wait(last)
        except HeartbeatStalled:
            raise
        except HeartbeatError:
            self._give_up()
            raise
        self._give_up()

    def forget(self) -> None:
        """Be of no use any more: this is a forked child, and the log is its parent's."""
        super().forget()
        self._tasks.forget()

    def _give_up(self) -> None:
        self._tasks.close()
        self._cursor.close()
        self._folder.close()
        try:
            self._claim.release()
        except OSError as error:
            raise failure(self.path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _after_fork() -> None:
    for log in list(_logs):
        log.forget()


os.register_at_fork(after_in_child=_after_fork)
