"""The heartbeat of one home: the log that all its agents share, its replica, and the thread that keeps both in order.

The files of a heartbeat, in the home's folder `heartbeat`::

    id               the home's id, by which its replica knows it
    begin            the first number of a new log's records, less one; after a restore of the whole home
    running          there while a process has the heartbeat, or since it died
    owner            the claim on the log
    *.segment        the log
    index.db         what is known of each agent; may be lost
    status.json      how it is, anew each second
    scratch/         snapshots on their way, drills; removed at each start
    quarantined/     who must not be opened, and records that could not be applied; see `quarantine.py`

**Starting.** The log is claimed, so there is one heartbeat for a home. Every file that may lack what the log has is
brought up to date before anybody opens one. Then the thread begins, and the replica is claimed in another: a store that
can't be reached keeps nobody from working.

**Ending.** All workbooks are closed by then. What is durable is shipped, the log is let go, and `running` is removed:
so
whoever opens the home next knows that there is nothing to recover.
"""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, Self

import msgspec

from torpor.base.clock import MICROSECONDS, Clock
from torpor.base.entropy import Entropy
from torpor.base.errors import HeartbeatDamaged, HeartbeatFailed, HeartbeatOwned, TorporError
from torpor.base.limits import GIB
from torpor.heartbeat.drill import drill
from torpor.heartbeat.index import Index
from torpor.heartbeat.keeper import Keeper
from torpor.heartbeat.log import Log
from torpor.heartbeat.recovery import Recovered, Recovery
from torpor.heartbeat.replica import Replica
from torpor.heartbeat.retention import Upkeep
from torpor.heartbeat.roll import Roll
from torpor.heartbeat.rounds import Roster, Rounds
from torpor.heartbeat.shipping import Rhythm, Shipper
from torpor.heartbeat.small import read_small, sync_names, write_small
from torpor.heartbeat.snapping import SCRATCH, Snapper
from torpor.heartbeat.status import FOLDER, Drill, Status, write_status
from torpor.stores.objects import open_objects
from torpor.stores.shelves import Options
from torpor.workbook import Level

_ID: Final = "id"
_BEGIN: Final = "begin"
_RUNNING: Final = "running"
_INDEX: Final = "index.db"
_DRILL: Final = "drill"

_drill: Final = msgspec.json.Decoder(Drill).decode


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a heartbeat works.

    Attributes:
        level: what commits wait for, unless they ask for something else.
        replica: the address of the replica; "" for none.
        keep_s: seconds for which the replica can be restored to any moment.
        drill_s: seconds between two drills; 0 for none.
        drill_count: agents in a drill.
        backlog_max: bytes that the log takes at most while the replica can't be reached.
        beat_s: seconds between two beats.
        retry_s: seconds between two tries to reach the store, at most.

    """

    level: Level = Level.DURABLE
    replica: str = ""
    keep_s: float = 7 * 86_400.0
    drill_s: float = 3_600.0
    drill_count: int = 3
    backlog_max: int = GIB
    beat_s: float = 1.0
    retry_s: float = 30.0


class Heartbeat:
    """The heartbeat of a home; made by `Heartbeat.open`.

    Attributes:
        keeper: the log of commits to open workbooks with.
        recovered: what opening had to do.
        settings: how it works.

    """

    def __init__(  # noqa: PLR0913, PLR0917  (the parts that it brings together)
        self,
        home: str,
        log: Log,
        index: Index,
        roster: Roster,
        settings: Settings,
        replica: Replica | None,
        recovered: Recovered,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.settings = settings
        self.recovered = recovered
        self._folder = os.path.join(home, FOLDER)
        self._log = log
        self._index = index
        self._roster = roster
        self._replica = replica
        self._clock = clock
        self._entropy = entropy
        upkeep = None if replica is None else Upkeep(replica, keep_s=settings.keep_s)
        self._shipper = (
            None
            if replica is None
            else Shipper(log, replica, clock=clock, entropy=entropy, rhythm=_rhythm(settings), upkeep=upkeep)
        )
        self._roll = Roll(log, index)
        self._snapper = Snapper(self._folder, self._roll, replica)
        self._rounds = Rounds(
            self._roll, roster, self._snapper, shipper=self._shipper, backlog_max=settings.backlog_max
        )
        self.keeper = Keeper(
            home, self._roll, self._snapper, self._rounds, level=settings.level, replica=replica, shipper=self._shipper
        )
        self._drilling = threading.Lock()
        self._error = ""
        self._ending = False
        self._thread = threading.Thread(target=self._live, name="torpor-heartbeat", daemon=True)

    @classmethod
    def open(  # noqa: PLR0913  (each is a matter of its own)
        cls,
        home: str,
        roster: Roster,
        settings: Settings,
        *,
        options: Options,
        clock: Clock,
        entropy: Entropy,
        watch: Callable[[int, int], None] | None = None,
    ) -> Self:
        """Claim the heartbeat of a home, recover its agents, and begin to beat.

        Args:
            home: the home's folder, absolute.
            roster: who is in it.
            settings: how it is to work.
            options: how a store over the network is spoken to.
            clock: where times come from.
            entropy: where chance comes from.
            watch: is told how many agents are recovered, of how many.

        Raises:
            HeartbeatOwned: another process has it.
            HeartbeatFailed, HeartbeatDamaged: its files can't be used.
            StoreRefused: the replica's address means none.

        """
        folder = os.path.join(home, FOLDER)
        with ExitStack() as undo:
            identity, begin = _prepare(folder)
            log = Log.open(folder, identity, clock, after=begin)
            undo.callback(log.close)
            _begin_running(folder)
            index = Index.open(os.path.join(folder, _INDEX))
            undo.callback(index.close)
            recovered = Recovery(log, index, roster.path, clock, watch, roster.marked()).run()
            replica = None
            if settings.replica:
                objects = open_objects(settings.replica, home, options=options)
                replica = Replica.open(
                    objects, home=identity, node=f"{os.uname().nodename} {os.getpid()}", clock=clock, entropy=entropy
                )
            found = cls(home, log, index, roster, settings, replica, recovered, clock, entropy)
            if found._shipper is not None:
                found._shipper.start()
            found._thread.start()
            undo.pop_all()
        return found

    def close(self, *, timeout_s: float = 30.0) -> bool:
        """Ship what is durable, and give the heartbeat up; every workbook is closed by now. Twice is once.

        Args:
            timeout_s: for the shipping, seconds.

        Returns:
            Whether the replica has everything (True where there is none).

        """
        if self._ending:
            return True
        self._ending = True
        self._rounds.hurry()
        self._thread.join()
        shipped = True
        with ExitStack() as steps:
            steps.callback(self._log.close)
            steps.callback(self._index.close)
            steps.callback(self._tell)
            with suppress(TorporError):
                self._rounds.beat()
            if self._shipper is not None:
                shipped = self._shipper.stop(flush=True, timeout_s=timeout_s)
            with suppress(TorporError):
                self._roll.flush()
            if self._roll.clean:
                _sync_all(self._roll.folders)
                Path(self._folder, _RUNNING).unlink(missing_ok=True)
        return shipped

    def beat(self) -> None:
        """Do now what is otherwise done once in a beat.

        Raises:
            TorporError: something of it failed; it is tried again at the next beat.

        """
        self._rounds.beat()

    def flush(self, timeout_s: float = 30.0) -> None:
        """Wait until all that is committed now is in the replica.

        Raises:
            HeartbeatStalled, HeartbeatFenced, HeartbeatFailed: it may be there or not.

        """
        self.beat()
        if self._shipper is not None:
            self._shipper.wait(self._log.durable, timeout_s)

    def meet(self, agents: Iterable[tuple[str, str]]) -> None:
        """See to it that agents which were made just now, given by id and file, can be restored from the replica.

        What goes wrong is left to the next beat.
        """
        seen_to = [self._snapper.early(agent, path) for agent, path in agents]
        if not all(seen_to):
            self._rounds.hurry()

    def cover(self, agent: str, path: str, head: str) -> None:
        """See to it that an agent whose file, at rest, is about to leave the home can be restored from the replica.

        Args:
            agent: its id.
            path: its file.
            head: the hash of the newest event in it, in hex.

        Raises:
            WorkbookError: its file can't be read.
            HeartbeatError, StoreUnreachable: that can't be seen to now.

        """
        self._snapper.cover(agent, path, head)

    def covered(self, agent: str) -> bool:
        """Report whether the log, and so the replica soon, has all that it takes to restore an agent."""
        return self._roll.covered(agent)

    @contextmanager
    def lifting(self, agent: str) -> Iterator[None]:
        """Let an agent be opened whose file was restored; after the block, it is quarantined no more.

        Where the block fails, or the process dies in it, the agent stays quarantined.

        Raises:
            HeartbeatFailed: that can't be kept.

        """
        with self._roll.lifting(agent):
            yield

    def drill(self, count: int | None = None) -> Drill | None:
        """Restore some agents from the replica to scratch, and compare; None without a replica.

        Args:
            count: how many; as the settings say unless given.

        Raises:
            HeartbeatFailed: what was found can't be kept.

        """
        if self._replica is None or self._shipper is None:
            return None
        with self._drilling:
            chosen = self._choose(self.settings.drill_count if count is None else count)
            scratch = os.path.join(self._folder, SCRATCH)
            found = drill(chosen, scratch, self._log, self._replica, self._shipper, self._clock)
            done = Drill(self._clock.now_us(), found)
            self._index.put([], facts={_DRILL: msgspec.json.encode(done)})
            self._roll.renew(one.agent for one in found if not one.ok)
        return done

    def status(self) -> Status:
        """Return how it is."""
        lag = self._shipper.lag() if self._shipper is not None else None
        told = self._index.fact(_DRILL)
        quarantined = self._roll.quarantine.all()
        return Status(
            time=self._clock.now_us(),
            pid=os.getpid(),
            level="replicated" if self.settings.level >= Level.REPLICATED else "heartbeat",
            replica=self._replica.url if self._replica is not None else "",
            durable=self._log.durable,
            shipped=lag.shipped if lag is not None else 0,
            lag_records=lag.records if lag is not None else 0,
            lag_bytes=lag.bytes if lag is not None else 0,
            lag_seconds=lag.seconds if lag is not None else 0.0,
            backlog=self._log.size,
            backlog_max=self.settings.backlog_max,
            awake=self._roll.awake,
            wanting=self._roll.count_wanting() if self._replica is not None else 0,
            quarantined=quarantined,
            state=lag.state if lag is not None else "off",
            error=(lag.error if lag is not None and lag.error else "") or self._error,
            drill=_drill(told) if told else None,
        )

    def _live(self) -> None:
        next_drill = self._clock.now_us() + self.settings.drill_s * MICROSECONDS
        while not self._ending:
            try:
                self.beat()
                self._error = ""
                if self.settings.drill_s and self._clock.now_us() >= next_drill:
                    next_drill = self._clock.now_us() + self.settings.drill_s * MICROSECONDS
                    self.drill()
            except TorporError as error:
                self._error = error.message
            except Exception as error:  # noqa: BLE001  (a fault of ours is shown, and ends one beat, not all of them)
                self._error = f"{type(error).__name__}: {error}"
            self._tell()
            self._rounds.wait(self.settings.beat_s)

    def _tell(self) -> None:
        with suppress(OSError, TorporError):  # it is for those who look; whoever works hears of what is wrong otherwise
            write_status(self._folder, self.status())

    def _choose(self, count: int) -> list[tuple[str, str]]:
        """Return some of those of whom the replica should have everything, by chance."""
        everybody = [one for one in self._roster.all() if self.covered(one[0])]
        chosen: list[tuple[str, str]] = []
        while everybody and len(chosen) < count:
            at = int.from_bytes(self._entropy.token(8)) % len(everybody)
            chosen.append(everybody.pop(at))
        return chosen


def recover_if_needed(home: str, roster: Roster, clock: Clock) -> Recovered | None:
    """Recover a home that is used without a heartbeat, where one had died.

    Without a new start of the machine no file lacks anything. But as long as the log holds records for a file, nobody
    may put another in its place: they would be applied to that. Where a process has the heartbeat, there is nothing to
    do: it has recovered everybody, and has the claims of those who are awake.

    Raises:
        HeartbeatFailed, HeartbeatDamaged: its files can't be used.

    """
    folder = os.path.join(home, FOLDER)
    if not os.path.lexists(os.path.join(folder, _RUNNING)):
        return None
    identity, begin = _prepare(folder)
    try:
        log = Log.open(folder, identity, clock, after=begin)
    except HeartbeatOwned:
        return None
    with ExitStack() as steps:
        steps.callback(log.close)
        index = Index.open(os.path.join(folder, _INDEX))
        steps.callback(index.close)
        recovery = Recovery(log, index, roster.path, clock, marked=roster.marked())
        found = recovery.run()
        _sync_all(recovery.folders)
        Path(folder, _RUNNING).unlink(missing_ok=True)
    return found


def _rhythm(settings: Settings) -> Rhythm:
    usual = Rhythm()
    return Rhythm(
        beat_s=settings.beat_s,
        apart_s=min(usual.apart_s, settings.beat_s),
        backoff_s=min(usual.backoff_s, settings.retry_s),
        backoff_max_s=settings.retry_s,
    )


def _prepare(folder: str) -> tuple[str, int]:
    """Make the folder what it has to be; returns the home's id, and the number that a new log's records come after."""
    try:
        Path(folder).mkdir(exist_ok=True, mode=0o700)
        sync_names(os.path.dirname(folder))  # else a power cut could take the folder, with all that is durable in it
        identity = read_small(folder, _ID)
        if not identity:
            write_small(folder, _ID, str(uuid.UUID(bytes=os.urandom(16), version=4)), first=True)
            identity = read_small(folder, _ID)
        begin = read_small(folder, _BEGIN)
    except OSError as error:
        raise HeartbeatFailed(path=folder, reason=str(error)) from error
    try:
        return str(uuid.UUID(identity)), int(begin or 0)
    except ValueError as error:
        raise HeartbeatDamaged(path=os.path.join(folder, _ID), offset=0, reason=str(error)) from error


def _begin_running(folder: str) -> None:
    """Clear away what an earlier heartbeat has left; the log is claimed."""
    try:
        shutil.rmtree(os.path.join(folder, SCRATCH), ignore_errors=True)
        Path(folder, SCRATCH).mkdir(exist_ok=True, mode=0o700)
        write_small(folder, _RUNNING, "")
    except OSError as error:
        raise HeartbeatFailed(path=folder, reason=str(error)) from error


def _sync_all(folders: Iterable[str]) -> None:
    """Make it durable that workbooks have no marks, before nobody looks for them any more."""
    for folder in folders:
        with suppress(FileNotFoundError):
            sync_names(folder)
