"""`Heartbeats`: what can be asked of a home's heartbeat and its replica. It imports the home, so it is loaded late."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from torpor.base import claims
from torpor.base.clock import Clock
from torpor.base.errors import AgentUnknown, HeartbeatOwned, HomeRefused, StoreRefused
from torpor.heartbeat import Drill, Status, read_status
from torpor.heartbeat.restore import NOW, Point
from torpor.home import Home, Rebuilt, Returned, restore_all
from torpor.service.homes import Homes
from torpor.service.records import told, watched
from torpor.service.views import (
    DrilledView,
    DrillView,
    HeartbeatView,
    LostView,
    Moving,
    QuarantinedView,
    ReturnedView,
)
from torpor.skills.briefing.report import Told

Looking = Callable[[Moving], None]
"""Is told how far a restore is."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_HEARTBEAT = "heartbeat"


class Heartbeats:
    """The use cases of the heartbeat: how it is, whether its replica is good, and getting back what is in there.

    Args:
        homes: where the agents are kept, and where their replica is.
        clock: where times come from.

    """

    def __init__(self, homes: Homes, clock: Clock) -> None:
        self._homes = homes
        self._clock = clock

    def status(self) -> HeartbeatView:
        """Return how the home's heartbeat is, or was at last.

        Raises:
            HomeRefused: there is no home, or it never had a heartbeat.

        """
        if not self._homes.made:
            raise HomeRefused(path=self._homes.path, reason="there is none")
        found = read_status(self._homes.path)
        if found is None:
            raise HomeRefused(path=self._homes.path, reason="it has no heartbeat; --durability heartbeat begins one")
        self._homes.choose(durability="file")  # to look at it doesn't begin it
        return self._view(found)

    def drill(self, count: int | None) -> DrillView:
        """Restore some agents from the replica, to look whether what comes is what lives.

        Args:
            count: how many; a few unless given.

        Raises:
            HeartbeatOwned: another process has the heartbeat, and drills by itself.
            StoreRefused: there is no replica.

        """
        home = self._beating()
        if home.heartbeat is None:
            raise self._owned(home)
        done = home.heartbeat.drill(count)
        if done is None:
            raise StoreRefused(url="", reason="this home has no replica; name one with --replica")
        return self._drill_view(done)

    def restore(
        self, name: str, *, at: int | datetime | timedelta | None, source: str | None, why: str, watch: Looking
    ) -> ReturnedView:
        """Restore an agent from a replica.

        Args:
            name: the agent's.
            at: as it was after the event of that number, at a time, or so long ago; the newest unless given.
            source: the replica; the home's own unless given.
            why: for its history.
            watch: is told how far it is.

        Raises:
            AgentUnknown: there is no such agent.
            AgentBusy: somebody has it.
            RestoreRefused, ReplicaLacks: it can't be restored so.
            StoreRefused, StoreUnreachable, ReplicaDamaged: the replica can't be read.

        """
        url = self._url(source)
        if self._homes.made and os.path.lexists(os.path.join(self._homes.path, _HEARTBEAT)):
            home = self._beating()
        else:
            home = self._homes.where(name, "agent")
        with suppress(AgentUnknown):  # the replica may know it
            self._homes.having(name)
        return _returned(home.restore(name, at=self._point(at), replica=url, why=why, watch=watched(watch)))

    def restore_all(self, source: str | None, *, watch: Looking) -> LostView:
        """Bring the whole home back, which is lost.

        Args:
            source: the replica; the one that the settings name unless given.
            watch: is told how many agents are done.

        Raises:
            HomeRefused: there is one.
            ReplicaLacks: there is none in the replica.
            StoreRefused, StoreUnreachable, ReplicaDamaged: the replica can't be read.

        """
        found = restore_all(
            self._homes.path,
            self._url(source),
            clock=self._clock,
            who=self._homes.who(),
            options=self._homes.options(),
            watch=watched(watch),
        )
        return _lost(found)

    def _url(self, source: str | None) -> str:
        """Return the address of the replica that is meant.

        Raises:
            StoreRefused: none is named.

        """
        url = self._homes.replica if source is None else source
        if not url:
            raise StoreRefused(url="", reason="no replica is named; say --from URL, or set TORPOR_REPLICA")
        return url

    def _beating(self) -> Home:
        """Return the home with its heartbeat, so that it is recovered, and hears of what is done."""
        if not self._homes.made:
            raise HomeRefused(path=self._homes.path, reason="there is none")
        if self._homes.durability == "file":
            self._homes.choose(durability=_HEARTBEAT)
        return self._homes.home()

    def _point(self, at: int | datetime | timedelta | None) -> Point:
        if at is None:
            return NOW
        if isinstance(at, int):
            return Point(seq=at)
        if isinstance(at, timedelta):
            return Point(time=self._clock.now_us() - at // _MICROSECOND)
        return Point(time=(at - _EPOCH) // _MICROSECOND)

    def _owned(self, home: Home) -> HeartbeatOwned:
        """Return the error for a heartbeat that another process has."""
        folder = os.path.join(home.path, _HEARTBEAT)
        owner = claims.claim(os.path.join(folder, "owner"), claims.moment(self._clock), passing=True)
        if isinstance(owner, claims.Holder):
            return HeartbeatOwned(path=folder, pid=owner.pid, command=owner.command, since=owner.since)
        owner.release()
        return HeartbeatOwned(path=folder, pid=0, command="gone by now", since="a moment ago")

    def _view(self, found: Status) -> HeartbeatView:
        return HeartbeatView(
            home=self._homes.path,
            running=found.running,
            pid=found.pid,
            time=found.time,
            durability=found.level,
            replica=found.replica,
            state=found.state,
            lag_records=found.lag_records,
            lag_bytes=found.lag_bytes,
            lag_seconds=found.lag_seconds,
            backlog=found.backlog,
            backlog_max=found.backlog_max,
            awake=found.awake,
            wanting=found.wanting,
            error="" if found.state == "stopped" else found.error,
            quarantined=[
                QuarantinedView(
                    name=self._name(one.agent),
                    agent=one.agent,
                    reason=one.reason,
                    segment=one.segment,
                    offset=one.offset,
                )
                for one in found.quarantined
            ],
            drill=None if found.drill is None else self._drill_view(found.drill),
        )

    def _drill_view(self, drill: Drill) -> DrillView:
        return DrillView(
            time=drill.time,
            agents=[
                DrilledView(
                    name=self._name(one.agent),
                    agent=one.agent,
                    txn=one.txn,
                    ok=one.ok,
                    ms=one.ms,
                    reason=one.reason,
                )
                for one in drill.agents
            ],
        )

    def _name(self, agent: str) -> str:
        """Return the name of an agent or a template; its id where the home doesn't know it any more."""
        ledger = self._homes.home().ledger
        with suppress(AgentUnknown):
            return ledger.agent(agent).name
        with suppress(AgentUnknown):
            return ledger.templates.get(agent).name
        return agent


def _returned(found: Returned) -> ReturnedView:
    return ReturnedView(
        name=found.name,
        before=found.before,
        after=found.after,
        seq=found.seq,
        time=found.time or None,
        bytes=found.bytes,
        read=found.read,
        ms=found.ms,
        complete=found.complete,
        reason=found.reason,
        lost=found.lost,
        replaced=found.replaced or None,
        skipped=found.skipped,
    )


def _lost(found: Rebuilt) -> LostView:
    return LostView(
        path=found.path,
        replica=found.url,
        until=found.until,
        agents=sum(one.state is not None for one in found.came),
        templates=sum(one.state is None for one in found.came),
        elsewhere=found.elsewhere,
        deleted=found.deleted,
        incomplete=[Told(source=one.name, message=one.reason) for one in found.came if not one.complete],
        failed=[told(failed.name, failed.error) for failed in found.failed],
        bytes=found.bytes,
        read=found.read,
        ms=found.ms,
    )
