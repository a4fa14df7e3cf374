"""`Service`: one method a use case."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any

import anyio
import msgspec

from torpor.base.clock import Clock
from torpor.base.limits import CHUNK_MAX
from torpor.models import Model
from torpor.runtime import Happened, cancel, runs_in, settle, waiting
from torpor.service.homes import Homes
from torpor.service.views import (
    Briefed,
    BriefRequest,
    EventView,
    FoundView,
    Place,
    RunView,
    VerifyView,
)
from torpor.skills.briefing.report import Progress
from torpor.workbook import Event, FileStat

if TYPE_CHECKING:
    from torpor.service.heartbeats import Heartbeats
    from torpor.service.lifecycle import Lifecycle
    from torpor.service.litestream import LitestreamCases

FOLLOW_PAUSE_S = 0.1
"""Seconds between two looks at a workbook that is followed."""


class Service:
    """What can be asked of Torpor.

    A `workbook` is an agent's name or a workbook's file; see `torpor.service.homes`. What only looks wakes no agent,
    what writes does.

    Args:
        choose_model: returns the model of a name such as "local" or "openai:gpt-x".
        clock: where times come from.
        homes: where agents are kept; in the platform's folder for data unless given.
        environment: what programs that are started here get, keys and PATH among it.
        litestream: the path of Litestream; the one on PATH unless given.

    Attributes:
        homes: the same.

    """

    def __init__(
        self,
        choose_model: Callable[[str], Model],
        clock: Clock,
        homes: Homes | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        litestream: str = "",
    ) -> None:
        self._choose_model = choose_model
        self._clock = clock
        self.homes = homes or Homes(clock=clock)
        self._environment = environment or {}
        self._litestream = litestream

    def close(self) -> None:
        """Close what is open; agents stay in the state that they are in.

        Raises:
            WorkbookError: the storage failed at the last.

        """
        self.homes.close()

    @cached_property
    def agents(self) -> Lifecycle:
        """What can be asked of whole agents: their moves, templates, forks, timers."""
        # The home, its stores and compression: a tenth of a second that those who ask of one file don't pay.
        from torpor.service.lifecycle import Lifecycle  # noqa: PLC0415

        return Lifecycle(self.homes, self._clock)

    @cached_property
    def heartbeat(self) -> Heartbeats:
        """What can be asked of the home's heartbeat and its replica."""
        from torpor.service.heartbeats import Heartbeats  # noqa: PLC0415  (as above)

        return Heartbeats(self.homes, self._clock)

    @cached_property
    def litestream(self) -> LitestreamCases:
        """What can be asked of Litestream."""
        from torpor.service.litestream import LitestreamCases  # noqa: PLC0415  (few commands start processes)

        return LitestreamCases(self.homes, self._clock, self._environment, self._litestream)

    async def brief(self, request: BriefRequest, watch: Callable[[Progress], None]) -> Briefed:
        """Deliver a briefing of what is new in the sources.

        A run that was interrupted is finished first; if it was for the same wish, it is the answer.

        Args:
            request: what is wished for.
            watch: is told how far the run is.

        Raises:
            TorporError: no briefing could be made; what was done is kept, and doing the same again goes on.

        """
        # Half a second of imports that only a briefing pays.
        from torpor.service.briefing import brief  # noqa: PLC0415

        model = self._choose_model(request.model)
        with self.homes.writing(request.workbook, create=True, why="brief") as book:
            return await brief(book, request, model, self._clock, watch)

    def events(self, workbook: str, *, after: int = 0, last: int | None = None) -> Iterator[EventView]:
        """Yield the events of a workbook.

        Args:
            workbook: an agent's name, or a workbook's file.
            after: number of the event to begin behind.
            last: only the newest so many.

        """
        with self.homes.reading(workbook) as book:
            if last is not None:
                after = max(after, book.last - last)
            for event in book.events(after):
                yield _event(event)

    async def follow(self, workbook: str, *, after: int = 0, last: int | None = None) -> AsyncIterator[EventView]:
        """Yield the events of a workbook, then each new one as it is committed, until the caller stops.

        Reads beside the owner without slowing it: between two looks nothing is held. The name is followed, not the
        file: where another file has come in its place, as when an agent was frozen and woken, that one is gone on with.

        Raises:
            AgentAsleep: the agent's file is not here, or not any more.
            WorkbookError: it can't be read, or is gone.

        """
        file, agent = self.homes.file_of(workbook), ""
        while True:
            behind = _identity(file)  # asked first: if it is replaced before it is opened, it is opened once more
            with self.homes.reading(workbook) as book:
                if last is not None:
                    after, last = max(after, book.last - last), None
                if agent and book.agent != agent:
                    after = 0
                agent = book.agent
                there = True
                while there:
                    there = _identity(file) == behind  # asked before the last look, so that nothing is missed
                    for event in book.events(after):
                        after = event.seq
                        yield _event(event)
                    if there:
                        await anyio.sleep(FOLLOW_PAUSE_S)

    def verify(self, workbook: str) -> VerifyView:
        """Check every invariant of a workbook."""
        with self.homes.reading(workbook) as book:
            found = book.verify()
        facts: dict[str, Any] = {**msgspec.to_builtins(found), "ok": found.ok}
        return msgspec.convert(facts, type=VerifyView)

    def runs(self, workbook: str) -> list[RunView]:
        """Return the runs of a workbook, oldest first."""
        with self.homes.reading(workbook) as book:
            views = []
            for info in runs_in(book):
                view = RunView(run=info.id, message=info.message, state=info.state, started=info.started)
                if info.state == "parked":
                    parked = waiting(book, info)
                    view = msgspec.structs.replace(view, waits_for=parked["key"], reason=parked["reason"])
                views.append(view)
            return views

    def settle(self, workbook: str, key: str, *, happened: bool, result: Any = None) -> str:
        """Say what became of an effect whose outcome is unknown; returns the run that may now be resumed.

        Raises:
            SettleRefused: no effect of that key waits for a verdict.

        """
        with self.homes.writing(workbook, create=False, why="settle") as book:
            return settle(book, key, Happened(result) if happened else None)

    def cancel(self, workbook: str, run: str, *, reason: str) -> None:
        """End an unfinished run; its finished steps stay in the journal.

        Raises:
            CancelRefused: there is no unfinished run of that id.

        """
        with self.homes.writing(workbook, create=False, why="cancel") as book:
            cancel(book, run, reason)

    def list_files(self, workbook: str, place: Place, *, recursive: bool) -> list[FileStat]:
        """Return what is at a place: the file itself, or what is in the folder."""
        with self.homes.reading(workbook) as book:
            at = book.stat(place.volume, place.path)
            return [at] if at.kind == "file" else book.list(place.volume, place.path, recursive=recursive)

    def read_file(self, workbook: str, place: Place, target: IO[bytes]) -> int:
        """Copy a file of a volume into `target` and return its size in bytes."""
        with self.homes.reading(workbook) as book, book.reader(place.volume, place.path) as reader:
            return _copy(reader, target)

    def write_file(self, workbook: str, place: Place, source: IO[bytes]) -> int:
        """Make or replace a file of a volume, whole, from `source`; returns its size in bytes."""
        with (
            self.homes.writing(workbook, create=True, why="files put") as book,
            book.writer(place.volume, place.path) as writer,
        ):
            return _copy(source, writer)

    def search_memory(self, workbook: str, words: str, *, kind: str | None, limit: int) -> list[FoundView]:
        """Return the memory entries that have all these words, best first."""
        with self.homes.reading(workbook) as book:
            return [
                FoundView(
                    entry=found.entry.entry,
                    kind=found.entry.kind,
                    content=found.entry.content,
                    source=found.entry.source,
                    metadata=found.entry.metadata,
                    score=found.score,
                )
                for found in book.memory.search(words, kind=kind, limit=limit)
            ]


def _event(event: Event) -> EventView:
    return EventView(**{**msgspec.structs.asdict(event), "hash": event.hash.hex()})


def _identity(file: str) -> tuple[int, int] | None:
    """Return what tells a file from another that is in its place later; None where there is none."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _copy(source: IO[bytes] | io.RawIOBase, target: Any) -> int:
    size = 0
    while piece := source.read(CHUNK_MAX):
        size += len(piece)
        target.write(piece)
    return size
