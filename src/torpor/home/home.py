"""`Home`: a folder of agents, and the moves between their states."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from torpor.base.clock import Clock, SystemClock
from torpor.base.entropy import SystemEntropy
from torpor.base.errors import HomeRefused
from torpor.base.ids import IdSource
from torpor.home import branches, making, moves, travel, wake
from torpor.home.beating import begin, check_durability
from torpor.home.leftovers import recover
from torpor.home.results import Exported, Moved, Rebuilt, Returned, Rewound, Ticked, Woken
from torpor.home.site import AGENTS, LEDGER, TEMPLATES, WORKBOOK, Asked, Site
from torpor.home.templates import Templates
from torpor.home.tick import Tick
from torpor.ledger import AgentRecord, Ledger, SqliteLedger
from torpor.lifecycle import LADDER, Ladder, check_move
from torpor.stores.copies import Watch
from torpor.stores.stores import Options, Stores
from torpor.workbook import FILE, Durability, Workbook

if TYPE_CHECKING:
    from torpor.heartbeat import Settings
    from torpor.heartbeat.restore import Point


class Home(AbstractContextManager["Home"]):
    """A folder of agents. Made by `Home.open`, best in a `with` block.

    Safe to be used by many threads, and beside other processes with the same folder. Each move takes one agent, by name
    or id. A move that would take an agent from somebody is refused with `AgentBusy`; `wake`, `using` and `reading`
    wait for what this process is doing with it just then.

    Attributes:
        path: the folder, absolute.
        ledger: which agents there are; to be asked, not to be written.
        templates: the templates, and their clones.
        recovered: what opening has removed or put in order after somebody was killed.
        heartbeat: what makes the agents' commits durable and ships them, where this process has it; None where commits
            are of class `file`.

    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self.path = site.path
        self.ledger: Ledger = site.ledger
        self.heartbeat = site.heartbeat
        self.templates = Templates(site)
        self.recovered = tuple(recover(site))

    @classmethod
    def open(  # noqa: PLR0913  (each is a setting of its own)
        cls,
        path: str | os.PathLike[str],
        *,
        cold: str = "cold",
        archive: str = "archive",
        clock: Clock | None = None,
        ids: IdSource | None = None,
        ladder: Ladder = LADDER,
        who: str = "library",
        create: bool = True,
        options: Options | None = None,
        durability: str = "file",
        heartbeat: Settings | None = None,
        watch: Callable[[int, int], None] | None = None,
    ) -> Home:
        """Open a home, making it where there is none, and finish or undo what was cut short there.

        Args:
            path: the folder.
            cold: where freezing puts agents; a folder of the home, or the address of a store.
            archive: where archiving puts them, likewise.
            clock: where times come from; the system's clock unless given.
            ids: where ids come from.
            ladder: the thresholds of agents without their own.
            who: in whose name moves are made, for the history.
            create: make the home where there is none; off, that is an error.
            options: how stores are spoken to.
            durability: what a commit of an agent survives once it is acknowledged: "file" or "heartbeat", a kill and a
                power cut; "replicated", the loss of the machine. Where another process has the home's heartbeat, this
                one works in class "file".
            heartbeat: how the heartbeat works, and where its replica is.
            watch: is told how many agents were recovered, of how many, after a power cut.

        Raises:
            HomeRefused: there can't be a home, or there is none and none is to be made.
            StoreRefused: `cold` or `archive` means no store.
            LedgerDamaged, LedgerFailed: its ledger can't be used.
            DurabilityRefused: there is no such class, or it needs a replica.
            HeartbeatFailed, HeartbeatDamaged: its heartbeat can't be used.

        """
        clock = clock or SystemClock()
        options = options or Options()
        beats = check_durability(os.fspath(path), durability, heartbeat)
        folder = _folder(os.fspath(path), create=create)
        stores = Stores(folder, options)
        with ExitStack() as undo:
            ledger = SqliteLedger.open(os.path.join(folder, LEDGER), create=create)
            undo.callback(ledger.close)
            beating = begin(folder, ledger, beats, options=options, clock=clock, watch=watch)
            if beating is not None:
                undo.callback(beating.close)
            home = cls(
                Site(
                    path=folder,
                    ledger=ledger,
                    stores=stores,
                    cold=stores.open(cold),
                    archive=stores.open(archive),
                    clock=clock,
                    ids=ids or IdSource(clock, SystemEntropy()),
                    ladder=ladder,
                    who=who,
                    options=options,
                    durability=FILE if beating is None else Durability(durability, "NORMAL", log=beating.keeper),
                    heartbeat=beating,
                )
            )
            undo.pop_all()
        return home

    def close(self) -> None:
        """Close the workbooks that are open here, and the ledger; agents that are active stay so. Twice is once.

        Raises:
            AgentBusy: somebody who doesn't count has a transaction open on one; the others are closed.
            WorkbookError: the storage failed while one was closed; all are closed.

        """
        activations = self._site.activations
        with ExitStack() as steps:
            steps.callback(self.ledger.close)
            if self.heartbeat is not None:
                steps.callback(self.heartbeat.close)
            for agent in activations.ids():
                steps.callback(activations.end, agent, agent)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def new(
        self,
        name: str,
        *,
        tenant: str = "",
        template: str | None = None,
        suspend_after_s: float | None = None,
        freeze_after_s: float | None = None,
    ) -> AgentRecord:
        """Make an agent, with an empty workbook or as a clone of a template.

        Args:
            name: its name, which nobody has or had.
            tenant: for whom it works; "" for nobody in particular.
            template: whose clone it is.
            suspend_after_s: its own threshold of the ladder, in seconds; the template's, or the home's unless given.
            freeze_after_s: likewise.

        Raises:
            NameRefused, NameTaken, DurationRefused: it can't be so.
            AgentUnknown, TemplateTouched: there is no such template, or it isn't what it was.
            FileTaken, AgentBusy: something is in its place.

        """
        wish = making.Wish(tenant, suspend_after_s, freeze_after_s)
        if template is not None:
            return self.templates.new(name, template, wish)
        return making.new(self._site, name, wish)

    def wake(self, name: str, *, why: str = "asked", watch: Watch | None = None) -> Woken:
        """Wake an agent, wherever it is, or find it awake. Its volume `tmp` is empty then.

        Wakes of one agent at the same time are one wake. It stays open in this process until it is suspended, or the
        home is closed.

        Args:
            name: its name or id.
            why: for the history.
            watch: is told how many bytes are fetched.

        Raises:
            AgentUnknown, MoveRefused: there is none, or it is deleted.
            AgentBusy: another process has it.
            AgentSwapped, CopyMissing, CopyDamaged: there is no copy that is the agent as it was left.
            StoreUnreachable, StorageFull: it can't be fetched now.

        """
        return wake.wake(self._site, name, Asked("wake", why, watch))

    @contextmanager
    def using(self, name: str, *, why: str = "asked") -> Iterator[Workbook]:
        """Give an agent's workbook to a user, awake; until the block ends nobody moves it.

        Raises:
            TorporError: as for `wake`.

        """
        with wake.using(self._site, name, Asked("wake", why)) as book:
            yield book

    @contextmanager
    def reading(self, name: str) -> Iterator[Workbook]:
        """Give an agent's workbook to a reader, without waking the agent.

        Raises:
            AgentUnknown: there is no such agent.
            AgentAsleep: its file is not here.
            AgentSwapped, CopyMissing: its file is not the agent, or gone.

        """
        with wake.reading(self._site, name) as (_, book):
            yield book

    def suspend(self, name: str, *, why: str = "asked") -> Moved:
        """Close an active agent, so that it is one file, and costs nothing but disk.

        Args:
            name: its name or id.
            why: for the history.

        Raises:
            AgentUnknown, MoveRefused: there is none, or it is not active.
            AgentBusy: somebody uses or reads it here, or another process has it open.
            AgentSwapped, CopyMissing: its file is not the agent, or gone.

        """
        return moves.suspend(self._site, name, Asked("suspend", why))

    def freeze(self, name: str, *, why: str = "asked", watch: Watch | None = None) -> Moved:
        """Put a suspended agent into the cold store, and remove its file once the copy is verified.

        Of an agent that is frozen already, the file that a prefetch has brought here is removed.

        Args:
            name: its name or id.
            why: for the history.
            watch: is told how many bytes are copied.

        Raises:
            AgentUnknown, MoveRefused: there is none, or it is neither suspended nor frozen.
            AgentBusy: somebody has it.
            AgentSwapped, CopyMissing: its file is not the agent, or gone.
            StoreUnreachable, CopyDamaged, StorageFull: the store can't take it; nothing was changed.

        """
        return moves.freeze(self._site, name, Asked("freeze", why, watch))

    def prefetch(self, name: str, *, why: str = "asked", watch: Watch | None = None) -> Moved:
        """Bring a frozen agent's file here without waking it, so that its wake is quick and it can be read.

        Args:
            name: its name or id.
            why: for the history.
            watch: is told how many bytes are fetched.

        Raises:
            AgentUnknown, MoveRefused: there is none, or it is deleted.
            AgentBusy: somebody has it.
            AgentSwapped, CopyMissing, CopyDamaged: there is no copy that is the agent as it was left.
            StoreUnreachable, StorageFull: it can't be fetched now.

        """
        return wake.prefetch(self._site, name, Asked("prefetch", why, watch))

    def archive(self, name: str, *, why: str = "asked", watch: Watch | None = None) -> Moved:
        """Put an active or frozen agent into the archive, compressed, and remove its other copies once it is verified.

        Args:
            name: its name or id.
            why: for the history.
            watch: is told how many bytes are copied.

        Raises:
            AgentUnknown, MoveRefused: there is none, or it is neither active nor frozen.
            AgentBusy: somebody has it.
            AgentSwapped, CopyMissing, CopyDamaged: there is no copy that is the agent as it was left.
            StoreUnreachable, StorageFull: a store doesn't give or take it; nothing was changed.

        """
        return moves.archive(self._site, name, Asked("archive", why, watch))

    def delete(self, name: str, *, why: str = "asked") -> Moved:
        """Remove every copy of an archived agent. Its name stays taken, and its history stays.

        Args:
            name: its name or id.
            why: for the history.

        Raises:
            AgentUnknown, MoveRefused: there is none, or it is not archived.
            AgentBusy: somebody has it.

        """
        return moves.delete(self._site, name, Asked("delete", why))

    def fork(self, name: str, *, at: int | None = None, new: str | None = None) -> AgentRecord:
        """Make a new agent of what another was at an event, while that one goes on.

        Args:
            name: the parent.
            at: the event's number; the newest unless given.
            new: the new agent's name; the parent's and a ULID unless given.

        Raises:
            NameRefused, NameTaken: it can't be called that.
            AgentUnknown, AgentAsleep, CopyMissing: there is no agent or no file to fork.
            PointRefused: there is no such event, or what was then is not kept.

        """
        return branches.fork(self._site, name, at, new)

    def rewind(self, name: str, to: int, *, why: str = "asked to") -> Rewound:
        """Put an agent back to event `to`; what came after stays in its journal, on a branch. Wakes it.

        Raises:
            AgentBusy: somebody uses it.
            PointRefused: there is no such event, what was then is not kept, or a run is under way.

        """
        return branches.rewind(self._site, name, to, why)

    def export(self, name: str, target: str | os.PathLike[str], *, with_memory: bool = False) -> Exported:
        """Make a file that may leave: the agent's workspace, or with memory the whole agent.

        Raises:
            AgentUnknown, AgentAsleep, CopyMissing: there is no agent or no file to export.
            FileTaken: something is at `target`.

        """
        return travel.export(self._site, name, os.fspath(target), with_memory=with_memory)

    def import_(self, file: str | os.PathLike[str], name: str, *, tenant: str = "") -> AgentRecord:
        """Make a new agent of a copy of a workbook from elsewhere.

        Raises:
            NameRefused, NameTaken: it can't be called that.
            ImportRefused, WorkbookMissing: there is no whole workbook, or somebody has it open.

        """
        return travel.take_in(self._site, os.fspath(file), name, tenant)

    def restore(
        self, name: str, *, at: Point | None = None, replica: str = "", why: str = "asked", watch: Watch | None = None
    ) -> Returned:
        """Restore an agent from a replica, verified; the file that it has is set aside, and never destroyed.

        Args:
            name: its name or id.
            at: as it was then; as new as the replica has it unless given.
            replica: the replica's address; that of the home's own heartbeat unless given.
            why: for the history.
            watch: is told how far it is.

        Raises:
            AgentUnknown, MoveRefused: there is none, or it is deleted.
            AgentBusy: somebody has it.
            RestoreRefused: it can't be restored as asked; says why, and what can be done.
            ReplicaLacks: the replica has no such agent, or not at that moment.
            StoreRefused, StoreUnreachable, ReplicaDamaged: the replica can't be read.

        """
        # Checksums and the replica's format, which a home without a replica does without.
        from torpor.heartbeat.restore import NOW  # noqa: PLC0415
        from torpor.home.restoring import restore_one  # noqa: PLC0415

        url = replica or (self.heartbeat.settings.replica if self.heartbeat is not None else "")
        return restore_one(self._site, name, at=at or NOW, url=url, why=why, watch=watch)

    def schedule(self, name: str, at_us: int | None) -> AgentRecord:
        """Have an agent woken by the first tick after `at_us` (µs UTC), wherever it is by then; None for not at all.

        Raises:
            AgentUnknown: there is no such agent.
            MoveRefused: it is deleted.

        """
        record = self.ledger.agent(name)
        if record.state == "deleted":
            check_move(record.name, record.state, "active")
        self.ledger.schedule(record.id, at_us)
        return self.ledger.agent(record.id)

    def tick(self, now_us: int | None = None, *, watch: Watch | None = None) -> Ticked:
        """Do one pass: clear leftovers, wake who is due, and move down the ladder who has been idle.

        Whoever is busy is left alone, and whoever can't be moved is reported; neither keeps the others waiting.

        Args:
            now_us: the time to go by, µs UTC; the clock's unless given.
            watch: is told how far a copy is.

        Raises:
            LedgerFailed, LedgerDamaged: the ledger can't be used; what was done until then is done.

        """
        return Tick(self._site, now_us, watch).run()


def restore_all(
    path: str | os.PathLike[str],
    replica: str,
    *,
    clock: Clock | None = None,
    who: str = "library",
    options: Options | None = None,
    watch: Watch | None = None,
) -> Rebuilt:
    """Bring a lost home back from its replica, with everybody who was in it, verified.

    Args:
        path: the home's folder, which isn't there, or is empty; it appears when everything is in it.
        replica: the replica's address.
        clock: where times come from.
        who: in whose name it is done, for the histories.
        options: how stores are spoken to.
        watch: is told how many agents are restored, and then verified.

    Raises:
        HomeRefused: something is there, or it can't be made.
        ReplicaLacks: there is no home in the replica.
        StoreRefused, StoreUnreachable, ReplicaDamaged: the replica can't be read.

    """
    from torpor.home.rebuilding import rebuild  # noqa: PLC0415  (as for `Home.restore`)

    return rebuild(path, replica, clock=clock, who=who, options=options, watch=watch)


def _folder(path: str, *, create: bool) -> str:
    """Return the home's folder, absolute and with its links resolved, after making what isn't there.

    Raises:
        HomeRefused: there can't be a home, or there is none and none is to be made.

    """
    try:
        folder = os.path.realpath(path)
        known = os.path.lexists(os.path.join(folder, LEDGER))
        if not known and not create:
            raise HomeRefused(path=path, reason="there is none")
        if not known and (orphans := _workbooks(os.path.join(folder, AGENTS))):
            raise HomeRefused(path=path, reason=f"there are {orphans:,} workbooks in {AGENTS}/, but no {LEDGER}")
        for part in (folder, os.path.join(folder, AGENTS), os.path.join(folder, TEMPLATES)):
            os.makedirs(part, mode=0o700, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise HomeRefused(path=path, reason=f"{error.filename} is no folder") from error
    except OSError as error:
        raise HomeRefused(path=path, reason=error.strerror or str(error)) from error
    except ValueError as error:
        raise HomeRefused(path=path, reason=str(error)) from error
    return folder


def _workbooks(folder: str) -> int:
    try:
        return sum(name.endswith(WORKBOOK) for name in os.listdir(folder))
    except FileNotFoundError:
        return 0
