"""The keeper: what the workbooks of a home have their commits kept by.

It gives each that is opened its lane, and answers for those who wait until their commits are in the replica. Who is
awake is in the roll (`roll.py`); what keeps the log short and the replica complete, in the rounds (`rounds.py`).
"""

from __future__ import annotations

from anyio import to_thread

from torpor.base.errors import DurabilityRefused, HeartbeatStalled
from torpor.base.faults import point
from torpor.base.limits import LOG_STALL_SECONDS
from torpor.heartbeat.index import NONE
from torpor.heartbeat.lanes import OpenLane
from torpor.heartbeat.replica import Replica
from torpor.heartbeat.roll import Roll
from torpor.heartbeat.rounds import Rounds
from torpor.heartbeat.shipping import Shipper
from torpor.heartbeat.snapping import Snapper
from torpor.workbook import Joining, Level


class Keeper:
    """A `workbook.CommitLog`, and the owner of its lanes.

    Args:
        home: the home's folder, absolute.
        roll: who is awake.
        snapper: sees to it that no record comes before the snapshot that it builds on.
        rounds: told when a snapshot is wanted.
        level: what commits wait for by default.
        replica: where the log is shipped to; None for nowhere.
        shipper: who ships it.

    Attributes:
        folder: the home.
        level: as given.
        reach: the most that commits can wait for.
        log: where their records go.

    Raises:
        DurabilityRefused: commits are to wait for a replica, and there is none.

    """

    def __init__(  # noqa: PLR0913  (the parts that it brings together)
        self,
        home: str,
        roll: Roll,
        snapper: Snapper,
        rounds: Rounds,
        *,
        level: Level,
        replica: Replica | None,
        shipper: Shipper | None,
    ) -> None:
        self.folder = home
        self.level = level
        self.reach = Level.REPLICATED if replica is not None else Level.DURABLE
        self.log = roll.log
        self._roll = roll
        self._snapper = snapper
        self._rounds = rounds
        self._replica = replica
        self._shipper = shipper
        if level > self.reach:
            raise self._no_replica()

    def join(self, member: Joining) -> OpenLane:
        """Give a workbook that was opened its lane.

        Raises:
            AgentQuarantined: it must not be used.
            HeartbeatFenced: another node has taken over.
            HeartbeatError: the log takes nothing.

        """
        self.refuse_fenced()
        lane = self._roll.enter(self, member)
        if not self._snapper.early(lane.known.agent, member.path):
            self._rounds.hurry()
        point("keeper.joined")
        return lane

    def left(self, lane: OpenLane, *, clean: bool) -> None:
        """Note that a lane has ended."""
        self._roll.left(lane, clean=clean)

    def replicated(self, lane: OpenLane, lsn: int) -> None:
        """Wait until a record, and the snapshot that it builds on, are in the replica.

        Raises:
            HeartbeatFenced, HeartbeatStalled, HeartbeatFailed: it may be there or not.

        """
        if self._shipper is None:
            raise self._no_replica()
        self._await_snapshot(lane)
        self._shipper.wait(max(lsn, lane.known.at_lsn), LOG_STALL_SECONDS)

    async def shipped(self, lane: OpenLane, lsn: int) -> None:
        """Wait for the same as a task.

        Raises:
            HeartbeatFenced, HeartbeatStalled, HeartbeatFailed: it may be there or not.

        """
        if self._shipper is None:
            raise self._no_replica()
        if lane.known.snapshot == NONE:
            await to_thread.run_sync(self._await_snapshot, lane)
        await self._shipper.arrive(max(lsn, lane.known.at_lsn))

    def _await_snapshot(self, lane: OpenLane) -> None:
        snapped = self._roll.lock
        with snapped:
            if lane.known.snapshot == NONE:
                self._rounds.hurry()
                if not snapped.wait_for(lambda: lane.known.snapshot != NONE, LOG_STALL_SECONDS):
                    raise HeartbeatStalled(
                        path=self.log.path, seconds=LOG_STALL_SECONDS, limit=LOG_STALL_SECONDS, waiting=1
                    )

    def refuse_fenced(self) -> None:
        """Refuse to acknowledge anything once another node has taken over.

        Raises:
            HeartbeatFenced: one has.

        """
        if self._replica is not None and self._replica.fenced is not None:
            raise self._replica.fenced

    def _no_replica(self) -> DurabilityRefused:
        return DurabilityRefused(path=self.folder, asked="replicated", reason="there is no replica")
