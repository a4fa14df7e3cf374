"""`LitestreamCases`: Litestream for one workbook, one method a use case. It is loaded when somebody asks for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from torpor.base.clock import Clock
from torpor.base.errors import AgentAsleep, LitestreamIdle, WorkbookMissing
from torpor.litestream import Restored, Shipped, Told, find, replicate, replicating, restore, stop, target_of
from torpor.service.homes import Homes
from torpor.service.views import ReplicationView, RestoredView, Sent, SentTrouble
from torpor.workbook.attachment import Attached

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Watch = Callable[[Sent | SentTrouble], None]
"""Is told what Litestream has sent, and what went wrong."""


class LitestreamCases:
    """What can be asked of Litestream.

    Args:
        homes: where agents are found by name.
        clock: where times come from.
        environment: where its keys and PATH are.
        program: its path, or its name on PATH; "" for the usual one.

    """

    def __init__(self, homes: Homes, clock: Clock, environment: Mapping[str, str], program: str) -> None:
        self._homes = homes
        self._clock = clock
        self._environment = environment
        self._program = program

    def replicate(
        self, workbook: str, url: str, *, begun: Callable[[ReplicationView], None], watch: Watch
    ) -> ReplicationView:
        """Replicate a workbook until `stop` ends it, or an interruption; returns how far it came.

        Call it in the main thread: Litestream ends with the thread that calls.

        Args:
            workbook: an agent's name, or a workbook's file.
            url: where to.
            begun: is told once the workbook is there, whole.
            watch: is told what arrives and what goes wrong, from the first snapshot on.

        Raises:
            LitestreamMissing, LitestreamFailed: it can't be replicated.
            StoreRefused, StoreUnreachable: the address means no place that Litestream knows.
            AgentBusy: it is replicated already, or being moved.
            AgentAsleep, WorkbookError: there is no such file, or none that can be replicated.

        """
        path = self._file(workbook)
        litestream = find(self._program, self._environment)
        target = target_of(url, self._environment, litestream.version)
        told = _telling(watch)
        self._homes.close()  # this may take days
        with replicate(path, target, litestream, clock=self._clock, watch=told) as replication:
            begun(_view(workbook, replication.path, replication.record))
            try:
                replication.follow(told)
            except KeyboardInterrupt:
                replication.end(told)
        return _view(workbook, replication.path, replication.record)

    def stop(self, workbook: str) -> ReplicationView:
        """End the replication of a workbook, whoever runs it, after it has sent what is left.

        Raises:
            LitestreamIdle: it isn't replicated.
            LitestreamFailed: it can't be ended.

        """
        path = self._file(workbook)
        return _view(workbook, path, stop(path))

    def status(self, workbook: str) -> ReplicationView:
        """Return by which process a workbook is replicated, to where, and how far it is.

        Raises:
            LitestreamIdle: it isn't replicated.

        """
        path = self._file(workbook)
        found = replicating(path)
        if found is None:
            raise LitestreamIdle(path=path)
        return _view(workbook, path, found)

    def restore(self, url: str, file: str, *, at: datetime | None) -> RestoredView:
        """Bring a workbook back to a new file.

        Args:
            url: where it was sent to.
            file: the new file.
            at: as it was then, to the second; the newest unless given.

        Raises:
            LitestreamMissing, LitestreamFailed: it can't be fetched.
            StoreRefused, StoreUnreachable: the address means no place that Litestream knows.
            FileTaken: something is there.
            WorkbookError: what came is no whole workbook, or the file can't be written.

        """
        litestream = find(self._program, self._environment)
        target = target_of(url, self._environment, litestream.version)
        moment = None if at is None else (at - _EPOCH) // _MICROSECOND
        restored: Restored = restore(target, file, litestream, at=moment, clock=self._clock)
        return RestoredView(**msgspec.structs.asdict(restored))

    def _file(self, word: str) -> str:
        """Return the path of a workbook that is there, by its agent's name or its file.

        Raises:
            TemplateMeant, AgentUnknown: it is no agent's name, and no file's.
            AgentAsleep: the agent's file is not here.
            WorkbookMissing: there is no file.

        """
        named = self._homes.is_agent(word)
        path = os.path.abspath(self._homes.file_of(word))
        if named and not os.path.isfile(path):
            raise AgentAsleep(name=word, state=self._homes.home().ledger.agent(word).state)
        if not os.path.lexists(path):
            raise WorkbookMissing(path=word, reason="there is no file")
        return path


def _telling(watch: Watch) -> Callable[[Told], None]:
    """Return a watch for Litestream's room that tells a gateway's."""
    return lambda told: watch(Sent(told.what, told.bytes) if isinstance(told, Shipped) else SentTrouble(told.text))


def _view(workbook: str, path: str, record: Attached) -> ReplicationView:
    return ReplicationView(
        workbook=workbook,
        path=path,
        url=record.target,
        program=record.program,
        pid=record.pid,
        litestream=record.child,
        since=record.since,
        sent=record.sent,
        last=record.last or None,
        trouble=record.trouble,
    )
