"""`Workbook`: one agent's file, as its users hold it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from torpor.base.clock import Clock, SystemClock
from torpor.base.entropy import SystemEntropy
from torpor.base.errors import PointRefused, TransactionEntangled, WorkbookClosed
from torpor.base.ids import AgentId, IdSource
from torpor.workbook.attachment import refuse_attached
from torpor.workbook.commits import FILE, Durability
from torpor.workbook.journal import Event, Journal
from torpor.workbook.mark import read_mark, remove_mark
from torpor.workbook.memory import Memory
from torpor.workbook.opening import create as create_file
from torpor.workbook.opening import open_store
from torpor.workbook.owner import claim, moment
from torpor.workbook.past import Branch, Past
from torpor.workbook.paths import Volume, check_volume, normal_path, real_path
from torpor.workbook.rest import extends, look_at, tidying
from torpor.workbook.scribe import Scribe
from torpor.workbook.settings import Settings
from torpor.workbook.spend import Spend
from torpor.workbook.store import Savepoint, Store, Transaction
from torpor.workbook.streams import FileReader, FileWriter, open_reader
from torpor.workbook.trees import MODE_DEFAULT, Bytes
from torpor.workbook.verify import Verification, Verifier
from torpor.workbook.volumes import FileStat, Volumes


class Workbook:
    """One agent's file: its journal, its files, its memory and its spend.

    Open it with `Workbook.open`, best in a `with` block.

    Attributes:
        journal: the events.
        volumes: the files; the methods here are the everyday part of it.
        memory: what the agent learned.
        spend: what was paid.
        settings: the agent's typed attributes.
        past: what it was at earlier events.

    """

    def __init__(self, store: Store, durability: Durability, after: Callable[[], None]) -> None:
        self._store = store
        self._after = after
        self._durability = durability
        self._streams: weakref.WeakSet[FileReader | FileWriter] = weakref.WeakSet()
        self.journal = Journal(store)
        self.volumes = Volumes(store, self.journal)
        self.memory = Memory(store, self.journal)
        self.spend = Spend(store, self.journal)
        self.settings = Settings(store, self.journal)
        self.past = Past(store, self.journal)
        self.under_way: set[str] = set()
        """The runs that this process is executing on it: meanwhile it can't be rewound."""

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        readonly: bool = False,
        create: bool = True,
        durability: Durability = FILE,
        clock: Clock | None = None,
    ) -> Workbook:
        """Open a workbook as its single owner, creating it where there is none; or, read-only, beside the owner.

        Args:
            path: the file, by custom `NAME.workbook`.
            readonly: read what is there; needs no ownership and changes nothing.
            create: make it where there is none; off, that is an error, as it always is read-only.
            durability: what an acknowledged commit survives.
            clock: where times come from; the system's clock unless given.

        Raises:
            WorkbookOwned: somebody else holds it for writing; says who.
            WorkbookMissing: it isn't there and is not to be created, or its folder isn't.
            NotAWorkbook, NewerFormat, WorkbookDamaged: the file can't be used; it is left as it is.
            OlderFormat: it has to be migrated, and a reader can't.
            NotRecovered: after a power cut, its home has to recover it first.
            FileTaken: it isn't there, and the log of one that was is in the way of a new one.
            AgentBusy: this process is about to copy, move or remove it; or a log is to keep its commits, and another
                program replicates it.
            WorkbookReadOnly, StorageFull, StorageFailed: the place can't be written.
            TorporError: the log of its durability doesn't take it in.

        """
        name = real_path(path)
        clock = clock or SystemClock()
        ids = IdSource(clock, SystemEntropy())
        if readonly:
            with ExitStack() as undo:
                after = tidying(name, clock=clock, vfs=durability.vfs)
                undo.callback(after)
                store = open_store(name, readonly=True, durability=durability, clock=clock, ids=ids)
                undo.pop_all()
            return cls(store, durability, after)
        owner = claim(name, moment(clock))
        with ExitStack() as undo:
            undo.callback(owner.release)
            if create and not Path(name).exists():
                create_file(name, ids.text(), durability=durability, clock=clock)
            store = open_store(name, readonly=False, durability=durability, clock=clock, ids=ids)
            undo.callback(store.close)
            if read_mark(name) is not None:  # a node was killed: what its commits left to the kernel is synced now
                store.settle()
                remove_mark(name)
            if durability.log is not None:
                # Such a program's own tables and locks would have the log take snapshot after snapshot.
                refuse_attached(name)
                store.scribe = Scribe(store, durability.log)
            book = cls(store, durability, owner.release)
            book.volumes.staging.drop()
            undo.pop_all()
        return book

    @property
    def path(self) -> str:
        """The file, absolute."""
        return self._store.path

    @property
    def agent(self) -> AgentId:
        """The id of the agent that lives here."""
        row = self._store.row("SELECT agent FROM meta")
        return AgentId(row[0] if row else "")

    @property
    def lineage(self) -> tuple[str, int] | None:
        """The agent that this one was made from, and the last event they have in common; None where it is the first."""
        found = look_at(self._store)
        return None if found.parent is None or found.parent_seq is None else (found.parent, found.parent_seq)

    @property
    def head(self) -> tuple[int, str]:
        """The number of the newest event and its hash in hexadecimal; 0 and "" in a new workbook."""
        found = look_at(self._store)
        return (found.seq, found.head)

    @property
    def last(self) -> int:
        """The number of the newest event; 0 in a new workbook."""
        return self._store.read_head()[0]

    def new_id(self) -> str:
        """Return a new id, greater than those before it."""
        with self._store.lock:  # an append in another thread takes its ids from the same source
            return self._store.ids.text()

    def close(self) -> None:
        """Close the file and give up ownership; streams still open are closed, unfinished writes discarded.

        Twice is once. When the last connection closes, SQLite moves the write-ahead log into the file: at rest an
        agent is one file.

        Raises:
            TransactionEntangled: a transaction is open; nothing was closed.
            WorkbookError: the storage failed at the last; it is closed all the same.

        """
        if self._store.closed:
            return
        if self._store.current() is not None:
            raise TransactionEntangled(path=self.path)
        with ExitStack() as steps:  # the last entered is done first, and each whatever becomes of the others
            steps.callback(self._after)
            steps.callback(self._store.close)
            for stream in list(self._streams):
                steps.callback(stream.discard if isinstance(stream, FileWriter) else stream.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._store.closed else "read-only" if self._store.readonly else "owned"
        return f"<Workbook {self.path} ({state})>"

    def transaction(self, *, durability: str | None = None) -> Transaction | Savepoint:
        """Return a `with` block whose facts are committed together when it ends, or not at all if it raises.

        A block inside another is undone alone. Don't await inside: gather the facts first, then write them. As an
        `async with` block it lets other tasks go on while a log makes the commit durable.

        Args:
            durability: "file", "heartbeat" or "replicated", where the commit is to have another class than the
                workbook's own. Of all that is asked within one transaction, the strongest counts.

        Raises:
            DurabilityRefused: the workbook can't give that class.
            TransactionEntangled: another task's transaction is open.

        """
        return self._store.writing(durability)

    def append(
        self,
        kind: str,
        body: dict[str, Any] | msgspec.Struct,
        *,
        span: str | None = None,
        parent: int | None = None,
        key: str | None = None,
        durability: str | None = None,
    ) -> int:
        """Append an event and return its number; see `Journal.append`."""
        return self.journal.append(kind, body, span=span, parent=parent, key=key, durability=durability)

    def append_async(
        self,
        kind: str,
        body: dict[str, Any] | msgspec.Struct,
        *,
        span: str | None = None,
        parent: int | None = None,
        key: str | None = None,
        durability: str | None = None,
    ) -> Coroutine[Any, Any, int]:
        """Append an event as a task; see `Journal.append_async`."""
        return self.journal.append_async(kind, body, span=span, parent=parent, key=key, durability=durability)

    def events(
        self, after: int = 0, *, span: str | None = None, limit: int | None = None, set_aside: bool = True
    ) -> Iterator[Event]:
        """Yield events in order; see `Journal.events`."""
        return self.journal.events(after, span=span, limit=limit, set_aside=set_aside)

    def read(self, volume: Volume, path: str) -> bytes:
        """Return a file's content; see `Volumes.read`."""
        return self.volumes.read(volume, path)

    def write(
        self,
        volume: Volume,
        path: str,
        data: Bytes,
        *,
        mode: int = MODE_DEFAULT,
        span: str | None = None,
    ) -> None:
        """Make a file, or replace it whole; see `Volumes.write`."""
        self.volumes.write(volume, path, data, mode=mode, span=span)

    def list(self, volume: Volume, folder: str = "/", *, recursive: bool = False) -> list[FileStat]:
        """Return what is in a folder; see `Volumes.list`."""
        return self.volumes.list(volume, folder, recursive=recursive)

    def stat(self, volume: Volume, path: str) -> FileStat:
        """Return what is known of a file or folder; see `Volumes.stat`."""
        return self.volumes.stat(volume, path)

    def move(self, volume: Volume, path: str, target: str, *, replace: bool = False) -> None:
        """Give a file or folder another path; see `Volumes.move`."""
        self.volumes.move(volume, path, target, replace=replace)

    def delete(self, volume: Volume, path: str, *, recursive: bool = False) -> None:
        """Remove a file, or a folder with all below it; see `Volumes.delete`."""
        self.volumes.delete(volume, path, recursive=recursive)

    def reader(self, volume: Volume, path: str) -> FileReader:
        """Open a file for reading piece by piece, as it was last committed.

        Raises:
            FileMissing: there is no such file.

        """
        if self._store.closed:
            raise WorkbookClosed(path=self.path)
        reader = open_reader(self._connect, lambda store: Volumes(store, self.journal), (volume, normal_path(path)))
        self._streams.add(reader)
        return reader

    def writer(self, volume: Volume, path: str, *, mode: int = MODE_DEFAULT, span: str | None = None) -> FileWriter:
        """Open a file for writing piece by piece; it appears, whole, when the writer closes.

        Raises:
            PathRefused, VolumeUnknown: the place is refused.
            WorkbookError: it can't be written.

        """
        path = normal_path(path)
        check_volume(volume)
        name = self.volumes.staging.begin(mode)
        writer = FileWriter(self._store, self.volumes, (volume, path), name, span)
        self._streams.add(writer)
        return writer

    def clear_tmp(self) -> int:
        """Remove all scratch and return how many files that was."""
        found = self._store.row("SELECT count(*) FROM files WHERE volume = 'tmp'")
        count = found[0] if found else 0
        if count:
            self.volumes.delete("tmp", "/", recursive=True)
        return count

    def extends(self, seq: int, head: str) -> bool:
        """Report whether its journal has event `seq` with that hash, so that all up to it is the same."""
        return extends(self._store, seq, head)

    def rewind(self, to: int, *, why: str = "asked to") -> int:
        """Put files, memory, spend, settings and runs as they were right after an event; returns the rewind's own.

        Nothing is lost: what came after stays in the journal, as a branch that is known by its newest event, and
        rewinding to that takes it up again. What was done to the world stays done: an effect that was performed on
        a branch which is set aside is not performed again.

        Args:
            to: number of the event; all that was committed with it belongs to it. 0 is the very beginning.
            why: for the journal.

        Raises:
            PointRefused: there is no such event, what it left is not kept, or a run is under way.
            WorkbookError: it can't be written; nothing was changed.

        """
        if self.under_way:
            raise PointRefused(
                path=self.path, seq=to, first=self.past.horizon, reason=f"run {min(self.under_way)} is under way"
            )
        return self.past.rewind(to, why)

    def branches(self) -> Sequence[Branch]:
        """Return what rewinds have set aside, oldest first."""
        return self.past.branches()

    def verify(self) -> Verification:
        """Check every invariant of SPEC.md and return what was found; changes nothing."""
        return Verifier(self._store).run()

    def _connect(self) -> Store:
        store = self._store
        return open_store(store.path, readonly=True, durability=self._durability, clock=store.clock, ids=store.ids)
