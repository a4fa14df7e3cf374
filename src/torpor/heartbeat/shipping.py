"""Shipping: one thread that brings what the log has into the replica.

**When.** A pack each beat, if there is anything; sooner if 4 MiB wait, or somebody waits for his commit to be in the
replica; never sooner than `apart_s` after the last. So the number of packs doesn't depend on the number of agents, and
those who wait share a pack.

**Weather.** What fails is tried again, later and later, with a little chance in it, for ever: the node goes on
meanwhile. Memory stays bounded, since records wait in the log, and no more than one pack's are read ahead. The log is
bounded by the rounds, which let the oldest records go and have their agents' snapshots taken: then the log begins
further on, and so does shipping. Such a gap in the numbers of records is no harm, for transactions are numbered too.

**The end.** A node that was replaced, or whose home is an older copy of itself, ships nothing any more, and whoever
waits is told why.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Literal

import msgspec

from torpor.base.clock import MICROSECONDS, Clock
from torpor.base.entropy import Entropy
from torpor.base.errors import (
    HeartbeatClosed,
    HeartbeatDamaged,
    HeartbeatFenced,
    HeartbeatStalled,
    InternalError,
    ReplicaAhead,
    ReplicaTaken,
    StoreRefused,
    TorporError,
)
from torpor.base.limits import LOG_STALL_SECONDS, PACK_BYTES
from torpor.heartbeat.ahead import Ahead, Source
from torpor.heartbeat.replica import Replica
from torpor.heartbeat.retention import Upkeep
from torpor.heartbeat.tasks import Tasks

State = Literal["starting", "shipping", "failing", "ended", "stopped"]

_FOR_GOOD: Final = (HeartbeatFenced, ReplicaTaken, ReplicaAhead, StoreRefused, InternalError, HeartbeatClosed)
"""What no second try makes better."""


class Rhythm(msgspec.Struct, frozen=True, kw_only=True):
    """How often is shipped.

    Attributes:
        beat_s: seconds between packs, when nobody waits.
        apart_s: seconds between packs, at least.
        pack_bytes: bytes of records that are shipped without waiting for the beat, and in one pack.
        backoff_s: seconds after a first failure; they double.
        backoff_max_s: seconds between tries, at most.
        upkeep_s: seconds between looks at what the replica's keeping needs.

    """

    beat_s: float = 1.0
    apart_s: float = 0.35
    pack_bytes: int = PACK_BYTES
    backoff_s: float = 0.5
    backoff_max_s: float = 30.0
    upkeep_s: float = 5.0


class Lag(msgspec.Struct, frozen=True):
    """How far the replica is behind the log.

    Attributes:
        state: "starting" until the claim stands, "shipping", "failing" while it is tried again, "ended" for good,
            "stopped".
        shipped: the highest number of a record in the replica.
        durable: the highest of one in the log.
        records: how many records that is.
        bytes: about how many bytes.
        seconds: the age of the oldest record that isn't in the replica; 0 where there is none.
        error: what went wrong last, in words; "" while all is well.
        failing_since: µs, since when nothing goes right; 0 while all is well.
        packs: packs shipped since the start.
        gaps: how often the log had let records go before they were shipped.
        upkeep: what the replica's keeping last failed with; "" while all is well.

    """

    state: State
    shipped: int
    durable: int
    records: int
    bytes: int
    seconds: float
    error: str
    failing_since: int
    packs: int
    gaps: int
    upkeep: str


class Shipper:
    """Ships one log into one replica, in a thread of its own; another one keeps the replica small.

    Args:
        log: what is shipped.
        replica: where to.
        clock: for the age of what waits.
        entropy: for the chance in the waiting.
        rhythm: how often.
        told: is called in the thread with the highest number in the replica, whenever that has changed.
        upkeep: keeps the replica; None where nobody does.

    """

    def __init__(  # noqa: PLR0913  (named)
        self,
        log: Source,
        replica: Replica,
        *,
        clock: Clock,
        entropy: Entropy,
        rhythm: Rhythm = Rhythm(),  # noqa: B008  (frozen)
        told: Callable[[int], None] | None = None,
        upkeep: Upkeep | None = None,
    ) -> None:
        self._log = log
        self._replica = replica
        self._clock = clock
        self._entropy = entropy
        self._rhythm = rhythm
        self._told = told
        self._upkeep = upkeep
        self._lock = threading.Lock()
        self._done = threading.Condition(self._lock)
        """Something was shipped, or nothing will be any more."""
        self._work = threading.Condition(self._lock)
        """There may be something to do for the threads."""
        self._state: State = "starting"
        self._end: TorporError | None = None
        self._stopping = False
        self._flush = False
        self._wanted = 0
        self._claimed = False
        self._caught_up = False
        self._ahead = Ahead(log, rhythm.pack_bytes, self._lock)
        self._shipped = 0
        self._last_pack: float | None = None
        self._at_start = log.durable
        self._failures = 0
        self._error: TorporError | None = None
        self._failing_since = 0
        self._packs = 0
        self._upkeep_error = ""
        self._threads: list[threading.Thread] = []
        self._tasks = Tasks(
            "torpor-shipped", partial(self.wait, timeout_s=LOG_STALL_SECONDS), lambda: self._shipped, self._stalled
        )

    def start(self) -> None:
        """Begin; nothing is waited for, and nothing can fail here."""
        work = [("torpor-shipper", self._run)]
        if self._upkeep is not None:
            work.append(("torpor-upkeep", self._run_upkeep))
        for name, run in work:
            thread = threading.Thread(target=run, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, *, flush: bool = True, timeout_s: float = 30.0) -> bool:
        """End; returns whether everything that is durable is in the replica.

        Args:
            flush: ship what is durable first, if that can be done in time.
            timeout_s: seconds to wait for that, and for the threads.

        """
        with self._lock:
            self._stopping = True
            self._flush = flush
            self._work.notify_all()
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        with self._lock:
            self._flush = False  # a thread that is still trying has nobody left to try for
            if self._end is None:
                self._end = HeartbeatClosed(path=self._replica.url)
                self._state = "stopped"
            self._done.notify_all()
            self._work.notify_all()
            complete = self._shipped >= self._log.durable
        self._tasks.close()
        return complete

    def wait(self, lsn: int, timeout_s: float) -> None:
        """Wait until the record of a number is in the replica.

        Raises:
            HeartbeatFenced, ReplicaTaken, ReplicaAhead, StoreRefused: it will never be.
            HeartbeatReleased: nor will it: it was passed over.
            HeartbeatStalled: it isn't yet; it may still come.
            HeartbeatClosed: shipping was stopped.

        """
        until = time.monotonic() + timeout_s
        with self._lock:
            if lsn > self._wanted:
                self._wanted = lsn
                self._work.notify_all()
            while self._shipped < lsn:
                if self._end is not None:
                    raise self._end
                left = until - time.monotonic()
                if left <= 0 or not self._done.wait(left):
                    raise self._stalled(timeout_s)
        self._ahead.refuse_lost(lsn, self._replica.url)

    async def arrive(self, lsn: int) -> None:
        """Return when the record of a number is in the replica, as `wait` does; the event loop goes on meanwhile.

        Raises:
            HeartbeatFenced, ReplicaTaken, ReplicaAhead, StoreRefused, HeartbeatReleased, HeartbeatStalled,
                HeartbeatClosed: as for `wait`.

        """
        if self._shipped < lsn:
            await self._tasks.arrive(lsn)
        self._ahead.refuse_lost(lsn, self._replica.url)

    def _stalled(self, seconds: float) -> HeartbeatStalled:
        waiting = max(0, self._log.durable - self._shipped)
        return HeartbeatStalled(path=self._replica.url, seconds=seconds, limit=seconds, waiting=waiting)

    @property
    def stuck(self) -> int:
        """The record that can't be read, so that nothing behind it is shipped; 0 where there is none."""
        return self._ahead.stuck

    def skip(self, until: int) -> None:
        """Go on with the record `until`, behind what can't be read.

        Everybody who has anything before it that isn't shipped must have begun a new life.
        """
        with self._lock:
            self._ahead.pass_over(until)
            self._work.notify_all()

    def lag(self) -> Lag:
        """Return how far the replica is behind."""
        with self._lock:
            durable = self._log.durable
            records = max(0, durable - self._shipped) if self._claimed else max(0, durable - self._log.first + 1)
            ahead = self._ahead.records
            mean = self._ahead.bytes / len(ahead) if ahead else 0.0
            oldest = ahead[0].time if ahead else self._clock.now_us()
            return Lag(
                state=self._state,
                shipped=self._shipped,
                durable=durable,
                records=records,
                bytes=round(mean * records),
                seconds=max(0.0, (self._clock.now_us() - oldest) / MICROSECONDS) if records else 0.0,
                error=str(self._end or self._error or ""),
                failing_since=self._failing_since,
                packs=self._packs,
                gaps=self._ahead.gaps,
                upkeep=self._upkeep_error,
            )

    # --- the thread that ships ---

    def _run(self) -> None:
        while not self._is_over():
            try:
                self._step()
            except _FOR_GOOD as error:
                self._finish(error)
            except TorporError as error:
                self._failed(error)
            except Exception as error:  # noqa: BLE001  (told to all who wait: a thread that died in silence would be worse)
                self._finish(InternalError(promise=f"shipping raises errors of ours ({error!r})"))
            else:
                with self._lock:
                    if not self._stopping:
                        self._work.wait(self._pause())

    def _step(self) -> None:
        """Read ahead, and ship what is due."""
        if not self._claimed:
            self._claim()
        self._ahead.collect()
        if not self._is_due():
            return
        with self._lock:
            records = list(self._ahead.records)
        self._replica.ship(records)
        self._shipped_to(self._replica.shipped)

    def _claim(self) -> None:
        claimed = self._replica.claim()
        log = max(self._log.durable, self._log.first - 1)
        if claimed.last_lsn > log:
            raise ReplicaAhead(place=self._replica.url, replica=claimed.last_lsn, log=log)
        with self._lock:
            self._claimed = True
            self._ahead.read_to = claimed.last_lsn
        self._shipped_to(claimed.last_lsn)

    def _is_due(self) -> bool:
        with self._lock:
            if not self._ahead.records:
                return False
            if self._last_pack is None or self._stopping:
                return True
            passed = time.monotonic() - self._last_pack
            if passed < self._rhythm.apart_s:
                return False
            much = self._ahead.bytes >= self._rhythm.pack_bytes
            return much or passed >= self._rhythm.beat_s or self._wanted > self._shipped

    def _shipped_to(self, lsn: int) -> None:
        with self._lock:
            if self._ahead.records:
                self._packs += 1
                self._last_pack = time.monotonic()
            self._shipped = lsn
            self._ahead.shipped(lsn)
            self._state = "shipping"
            self._error, self._failing_since, self._failures = None, 0, 0
            self._caught_up = self._caught_up or lsn >= self._at_start
            self._done.notify_all()
        if self._told is not None:
            self._told(lsn)

    def _pause(self) -> float:
        """Return the seconds until there may be something to do (the lock is held)."""
        beat, apart = self._rhythm.beat_s, self._rhythm.apart_s
        if self._last_pack is None:
            return beat if not self._ahead.records else 0.0
        passed = time.monotonic() - self._last_pack
        if passed < apart:
            return apart - passed
        if self._wanted > self._shipped and self._log.durable > self._shipped:
            return 0.0
        return min(apart, max(0.0, beat - passed)) if passed < beat else beat

    def _failed(self, error: TorporError) -> None:
        """Remember what went wrong, and wait before the next try."""
        with self._lock:
            self._state = "failing"
            self._error = error
            self._failing_since = self._failing_since or self._clock.now_us()
            doubled = self._rhythm.backoff_s * 2 ** min(self._failures, 16)
            delay = self._rhythm.backoff_s if self._stopping else min(self._rhythm.backoff_max_s, doubled)
            self._failures += 1
            until = time.monotonic() + delay * (0.5 + self._entropy.token(1)[0] / 512)
            while (left := until - time.monotonic()) > 0:
                if self._stopping and (not self._flush or delay > self._rhythm.backoff_s):
                    return
                if isinstance(error, HeartbeatDamaged) and not self.stuck:
                    return
                self._work.wait(left)

    def _finish(self, error: TorporError) -> None:
        with self._lock:
            self._end = error
            self._state = "ended"
            self._done.notify_all()
            self._work.notify_all()

    def _is_over(self) -> bool:
        with self._lock:
            if self._end is not None:
                return True
            return self._stopping and not (self._flush and self._shipped < self._log.durable)

    # --- the thread that keeps the replica ---

    def _run_upkeep(self) -> None:
        """Have the replica kept, until the end."""
        failures = 0
        while self._sleep(self._rhythm.upkeep_s * 2 ** min(failures, 6)):
            with self._lock:
                ready, caught_up = self._claimed, self._caught_up
            if not ready or self._upkeep is None:
                continue
            try:
                self._upkeep.run(caught_up=caught_up)
            except HeartbeatFenced as error:
                self._finish(error)
            except TorporError as error:
                failures += 1
                self._upkeep_error = str(error)
            except Exception as error:  # noqa: BLE001  (as above)
                failures += 1
                self._upkeep_error = str(InternalError(promise=f"keeping raises errors of ours ({error!r})"))
            else:
                failures = 0
                self._upkeep_error = ""

    def _sleep(self, seconds: float) -> bool:
        """Wait; returns whether to go on then."""
        until = time.monotonic() + seconds
        with self._lock:
            while (left := until - time.monotonic()) > 0 and not self._stopping and self._end is None:
                self._work.wait(left)
            return not self._stopping and self._end is None
