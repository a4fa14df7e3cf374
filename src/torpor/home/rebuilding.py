"""Bringing back a whole home that was lost, from its replica, into a folder where there is none.

Everything is made in `PATH-draft`, which gets the home's own name when it is whole and on the disk: there is no half
a home. Whoever is killed in it leaves that folder behind, and the next try begins anew.

**What comes back.** The ledger, as the replica knows it, and the file of each agent and template whose file was in
the home, as new as the replica has it. An agent whose copy was in a store of the lost home itself, or is not in its
store any more, is suspended now, with its file. Where the copy is in its store, nothing is fetched. An agent that the
replica knows and its ledger doesn't yet was made in the last moment: it is called `restored-ID`. One that was made
from nothing, never woken, and is only in the ledger yet, is made anew.

**What doesn't come back** is told, agent by agent, and keeps nobody else from coming back. In the ledger such an
agent is as it was, so that whoever wants to wake it hears that its file is missing; a later `restore_one` may still
bring it.

**Going on.** The home keeps its id, so its replica knows it. Its new log begins behind the last record in the
replica, so that no number is given twice; and its first claim of the replica puts the lost node out, should it still
be alive.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from torpor.base.clock import Clock, SystemClock
from torpor.base.errors import ReplicaLacks, StoreRefused, TorporError
from torpor.base.faults import point
from torpor.heartbeat.catalog import Catalog, Kept
from torpor.heartbeat.reading import Reader
from torpor.heartbeat.records import NOBODY
from torpor.heartbeat.restore import Progress, Restored, restore_all
from torpor.heartbeat.status import FOLDER
from torpor.home.founding import building, vacant
from torpor.home.known import known_in
from torpor.home.restoring import prove
from torpor.home.results import Came, Failed, Rebuilt
from torpor.home.site import AGENTS, LEDGER, TEMPLATES, agent_file
from torpor.ledger import AgentRecord, Changes, MoveRecord, Name, SqliteLedger, TemplateRecord
from torpor.stores.copies import Step, Watch, digest_of, said_of, sync_file, sync_folder
from torpor.stores.objects import open_objects
from torpor.stores.shelves import Options
from torpor.stores.stores import Stores
from torpor.workbook import FILE, create, seal

AT_ONCE: Final = 4
"""Agents that are restored, and then verified, at the same time."""

DAMAGED: Final = "replaced"
"""The folder of the home for what came, and breaks a promise."""

_ID: Final = "id"
_BEGIN: Final = "begin"
_LIVE: Final = ("created", "active", "suspended")

_Answer = bool | TorporError
"""Whether a copy is in its store, or why that can't be known."""


def rebuild(
    path: str | os.PathLike[str],
    url: str,
    *,
    clock: Clock | None = None,
    who: str = "library",
    options: Options | None = None,
    watch: Watch | None = None,
) -> Rebuilt:
    """Bring a lost home back from its replica.

    Args:
        path: the home's folder, which isn't there, or is empty.
        url: the replica.
        clock: where times come from.
        who: in whose name it is done, for the histories.
        options: how stores are spoken to.
        watch: is told how many agents are restored, and then verified.

    Raises:
        HomeRefused: something is there, or it can't be made.
        StoreRefused: the address means no replica.
        ReplicaLacks: there is no home in it.
        ReplicaDamaged, StoreUnreachable: what is in it can't be known.
        StorageFull, StorageFailed: the folder can't be written.

    """
    begun = time.perf_counter()
    clock, options = clock or SystemClock(), options or Options()
    if "/" not in url:
        raise StoreRefused(url=url, reason="a replica in the lost home is lost with it; name another")
    target = vacant(os.fspath(path))
    reader = Reader(open_objects(url, target, options=options))
    catalog = reader.catalog()
    known = known_in(reader, catalog)
    if not catalog.home or not known.names:
        raise ReplicaLacks(place=reader.url, agent="a home", reason="it has no ledger of one")
    with building(target, clock) as folder:
        stores = Stores(folder, options)
        rebuilding = _Rebuilding(folder, reader, catalog, known, _Notes(clock, who, reader.url), watch)
        rebuilding.sort_out(lambda place: _has(stores, place))
        rebuilding.fetch()
        point("rebuild.restored")
        rebuilding.write()
        point("rebuild.told")
    return rebuilding.answer(target, (time.perf_counter() - begun) * 1000)


class _Notes:
    """Writes the history of who came back."""

    def __init__(self, clock: Clock, who: str, url: str) -> None:
        self.clock = clock
        self._who = who
        self._url = url

    def note(self, was: AgentRecord | TemplateRecord, now: AgentRecord | TemplateRecord, told: object) -> MoveRecord:
        """Return an entry; `told` is what was restored, or why nothing was."""
        before, after, epoch = None, None, None
        if isinstance(was, AgentRecord) and isinstance(now, AgentRecord):
            before, after, epoch = was.state, now.state, now.epoch
        if isinstance(told, Restored):
            details: dict[str, object] = {"event": told.seq, "txn": told.txn, "complete": told.complete}
        else:
            details = {"failed": told.message if isinstance(told, TorporError) else str(told)}
        return MoveRecord(
            agent=now.id,
            verb="restore",
            who=self._who,
            why=f"the whole home, from {self._url}",
            time=self.clock.now_us(),
            bytes=now.bytes,
            details=details,
            move=0,
            name=now.name,
            before=before,
            after=after,
            epoch=epoch,
        )


class _Rebuilding:
    """One home that is being brought back, in a draft's folder."""

    def __init__(
        self,
        folder: str,
        reader: Reader,
        catalog: Catalog,
        known: Changes,
        notes: _Notes,
        watch: Watch | None,
    ) -> None:
        self._folder = folder
        self._reader = reader
        self._catalog = catalog
        self._known = known
        self._notes = notes
        self._watch = watch
        self._agents: dict[str, AgentRecord] = {}
        self._templates: dict[str, TemplateRecord] = {template.id: template for template in known.templates}
        self._names = list(known.names)
        self._wanted: dict[str, str] = {}
        """Whose files are to be restored, and the files, relative to the home."""
        self._empty: list[AgentRecord] = []
        """Who never lived, and has no file in the replica yet."""
        self._moves: list[MoveRecord] = []
        self._came: list[Came] = []
        self._failed: list[Failed] = []
        self._elsewhere = 0
        self._read = 0

    # --- who is to come

    def sort_out(self, has: Callable[[str], bool]) -> None:
        """Decide of each agent and template where it is from now on.

        Args:
            has: tells whether the copy is there of which a ledger has the place; may raise `StoreUnreachable`.

        """
        kept = self._catalog.agents()
        stored = [record for record in self._known.agents if record.state in ("frozen", "archived")]
        with ThreadPoolExecutor(AT_ONCE, "torpor-look") as pool:
            there = dict(
                zip((record.id for record in stored), pool.map(lambda one: _there(one, has), stored), strict=True)
            )
        for record in self._known.agents:
            self._agents[record.id] = record
            self._sort(record, kept.get(record.id), there.get(record.id, False))
        for template in self._known.templates:
            self._wanted[template.id] = template.file
        self._take_in(kept)

    def _sort(self, record: AgentRecord, kept: Kept | None, there: _Answer) -> None:
        if record.state == "deleted":
            return
        if isinstance(there, TorporError):
            self._failed.append(Failed(name=record.name, error=there))
        elif there:
            self._elsewhere += 1
        elif kept is not None and kept.gone:
            # It was deleted, and the ledger of the replica is from a moment before.
            self._agents[record.id] = _tombstone(record)
        elif kept is None and _never_lived(record):
            self._empty.append(record)
        else:
            self._wanted[record.id] = record.file

    def _take_in(self, kept: Mapping[str, Kept]) -> None:
        """Give those a name whom the replica's ledger doesn't know yet."""
        known = {name.id for name in self._known.names}
        for agent, one in kept.items():
            if agent in known or agent == NOBODY or one.gone:
                continue
            name = f"restored-{agent}"
            now = self._notes.clock.now_us()
            record = AgentRecord(id=agent, name=name, state="suspended", file=agent_file(name), created=now, active=now)
            self._agents[agent] = record
            self._names.append(Name(agent, name, "agent"))
            self._wanted[agent] = record.file

    # --- bringing them

    def fetch(self) -> None:
        """Restore everybody who is to come, and verify what came."""
        for part in (AGENTS, TEMPLATES, FOLDER):
            os.mkdir(os.path.join(self._folder, part), mode=0o700)
        targets = {agent: self._path(file) for agent, file in self._wanted.items()}
        found = restore_all(
            self._reader, targets, clock=self._notes.clock, at_once=AT_ONCE, watch=_telling("restore", self._watch)
        )
        found.update((record.id, self._new(record)) for record in self._empty)
        done = 0
        with ThreadPoolExecutor(AT_ONCE, "torpor-verify") as pool:
            for agent, result in pool.map(lambda pair: (pair[0], self._proven(*pair)), found.items()):
                self._settle(agent, result)
                done += 1
                if self._watch is not None:
                    self._watch(Step("verify", done, len(found)))

    def _new(self, record: AgentRecord) -> Restored | TorporError:
        """Make the workbook of one who was made in the last moment, as it was made then: with nothing in it."""
        path = self._path(record.file)
        try:
            create(path, record.id, durability=FILE, clock=self._notes.clock)
        except TorporError as error:
            return error
        return Restored(
            agent=record.id,
            path=path,
            life=0,
            txn=0,
            seq=0,
            head="",
            time=record.created,
            records=0,
            bytes=0,
            seconds=0.0,
            complete=True,
            reason="",
        )

    def _proven(self, agent: str, found: Restored | TorporError) -> Restored | TorporError:
        """Verify a file; one that breaks a promise is set aside."""
        if not isinstance(found, Restored):
            return found
        try:
            prove(found.path, self._notes.clock)
            if agent in self._templates:
                seal(found.path, clock=self._notes.clock)
        except TorporError as error:
            aside = os.path.join(self._folder, DAMAGED)
            os.makedirs(aside, mode=0o700, exist_ok=True)
            os.rename(found.path, os.path.join(aside, os.path.basename(found.path)))
            return error
        return found

    def _settle(self, agent: str, found: Restored | TorporError) -> None:
        """Write down what became of one of them."""
        was = self._agents.get(agent) or self._templates[agent]
        if not isinstance(found, Restored):
            self._failed.append(Failed(name=was.name, error=found))
            self._moves.append(self._notes.note(was, was, found))
            return
        now: AgentRecord | TemplateRecord
        size = os.stat(found.path).st_size
        if isinstance(was, AgentRecord):
            now = self._agents[agent] = replace(
                was,
                state=was.state if was.state in _LIVE else "suspended",
                cold=None,
                archive=None,
                digest=None,
                bytes=size,
                seq=found.seq,
                head=found.head,
            )
        else:
            now = self._templates[agent] = _template(was, found)
        self._moves.append(self._notes.note(was, now, found))
        self._read += found.bytes
        self._came.append(
            Came(
                name=now.name,
                agent=agent,
                state=now.state if isinstance(now, AgentRecord) else None,
                seq=found.seq,
                txn=found.txn,
                time=found.time,
                bytes=size,
                complete=found.complete,
                reason=found.reason,
            )
        )

    # --- writing it down

    def write(self) -> None:
        """Write the ledger, and what the heartbeat begins with, and have all of it on the disk."""
        changes = Changes(
            mark=self._known.mark,
            names=self._names,
            agents=list(self._agents.values()),
            templates=list(self._templates.values()),
            moves=[*self._known.moves, *self._moves],
        )
        ledger = SqliteLedger.open(os.path.join(self._folder, LEDGER))
        try:
            ledger.take_over(changes)
        finally:
            ledger.close()
        for name, text in ((_ID, self._catalog.home), (_BEGIN, str(self._catalog.last_lsn))):
            path = self._path(f"{FOLDER}/{name}")
            with said_of(path):
                Path(path).write_text(text, encoding="utf-8")
            sync_file(path)
        for part in (AGENTS, TEMPLATES, FOLDER, DAMAGED, ""):
            if os.path.lexists(self._path(part)):
                sync_folder(self._path(part))

    def answer(self, target: str, ms: float) -> Rebuilt:
        """Return what became of it."""
        return Rebuilt(
            path=target,
            url=self._reader.url,
            home=self._catalog.home,
            until=self._catalog.last_time,
            lsn=self._catalog.last_lsn,
            came=tuple(sorted(self._came, key=lambda one: one.name.casefold())),
            elsewhere=self._elsewhere,
            deleted=sum(record.state == "deleted" for record in self._agents.values()),
            failed=tuple(self._failed),
            bytes=sum(one.bytes for one in self._came),
            read=self._read,
            ms=ms,
        )

    def _path(self, file: str) -> str:
        return os.path.join(self._folder, file)


def _never_lived(record: AgentRecord) -> bool:
    """Report whether an agent was made from nothing, and never woken: its workbook is an empty one."""
    return record.state == "created" and record.seq == 0 and record.template is None and record.parent is None


def _there(record: AgentRecord, has: Callable[[str], bool]) -> _Answer:
    """Return whether an agent's copy is in its store; the error where that can't be known."""
    try:
        return has(record.cold or record.archive or "")
    except TorporError as error:
        return error


def _has(stores: Stores, place: str) -> bool:
    """Report whether a copy is in its store; one that was in the lost home itself is not.

    Raises:
        StoreRefused, StoreUnreachable: that can't be known.

    """
    store, key = stores.at(place)
    return "/" in store.url and store.has(key)


def _template(was: TemplateRecord, found: Restored) -> TemplateRecord:
    """Return what the ledger is to say of a template that came back."""
    with said_of(found.path):
        there = os.lstat(found.path)
    return replace(
        was,
        bytes=there.st_size,
        mtime_ns=there.st_mtime_ns,
        ctime_ns=there.st_ctime_ns,
        inode=there.st_ino,
        digest=digest_of(found.path),
        seq=found.seq,
        head=found.head,
    )


def _tombstone(record: AgentRecord) -> AgentRecord:
    return replace(
        record, state="deleted", file="", cold=None, archive=None, digest=None, wake=None, bytes=0, seq=0, head=""
    )


def _telling(stage: str, watch: Watch | None) -> Callable[[Progress], None] | None:
    if watch is None:
        return None
    return lambda progress: watch(Step(stage, progress.done, progress.total))
