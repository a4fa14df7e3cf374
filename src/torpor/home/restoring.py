"""Restoring one agent from the replica, as it is there now or as it was earlier.

What is in the agent's place is never destroyed, whatever state it is in: it goes to `replaced/NAME-TIME.workbook`,
where anybody may look into it, and only people remove it.

**Step by step.** The agent's turn, and the claim on its file; what an earlier try has left is removed. The draft's
name is reserved, the draft made from the replica, and verified: every promise of a workbook, not only its hash chain.
It is compared with the file that is there. Then the ledger learns where the agent stands from now on, and then the
file comes to its place. In this order, since the event that an agent is put back to is part of its newer file as
well: killed between the two, the agent is as it was, and nothing that is kept contradicts the ledger. At last the
heartbeat is told, so that no record of before is ever applied to what was restored.

**What is refused.** To restore the newest state over a sound file that goes further than the replica would make an
agent forget for nothing: that needs a time or an event to be named. An agent that is frozen or archived gets its
file, as from a prefetch, and only where that is what was frozen; to go back further it has to be awake.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from msgspec.structs import replace

from torpor.base import claims
from torpor.base.clock import MICROSECONDS, Clock
from torpor.base.errors import (
    AgentBusy,
    AgentUnknown,
    HeartbeatError,
    MoveRefused,
    OlderFormat,
    RestoreRefused,
    StoreRefused,
    WorkbookError,
)
from torpor.base.faults import point
from torpor.heartbeat.reading import Reader
from torpor.heartbeat.restore import NOW, Point, Progress, Restored, restore_agent
from torpor.heartbeat.status import FOLDER
from torpor.home.beating import is_quarantined
from torpor.home.held import busy, unmoved
from torpor.home.known import known_in
from torpor.home.leftovers import sweep
from torpor.home.results import Returned
from torpor.home.site import DRAFT, WORKBOOK, Asked, Site, file_place
from torpor.ledger import AgentRecord
from torpor.lifecycle import State
from torpor.stores.copies import Step, Watch, said_of
from torpor.stores.objects import open_objects
from torpor.workbook import Standing, Workbook, as_it_is, at_rest, digest, put_in_stead

REPLACED: Final = "replaced"
"""The folder of a home to which files go that a restore has replaced."""

_RUNNING: Final = "running"
_OWNER: Final = "owner"
_STORED: Final = ("frozen", "archived")
_STAGES: Final = {"fetched": "get", "replayed": "verify"}

_PATIENCE_S: Final = 10.0
"""Seconds that the newest commits are waited for on their way into the replica."""


def restore_one(
    site: Site, name: str, *, at: Point = NOW, url: str, why: str = "asked", watch: Watch | None = None
) -> Returned:
    """Restore one agent of a home from a replica.

    Args:
        site: the home.
        name: the agent's name or id.
        at: which of its states.
        url: the replica.
        why: for the history.
        watch: is told how far it is.

    Raises:
        AgentUnknown, MoveRefused: there is none, or it is deleted.
        AgentBusy: somebody has it.
        RestoreRefused: it can't be restored as asked; says why, and what can be done.
        ReplicaLacks: the replica has no such agent, or nothing of it from before that point.
        ReplicaDamaged, StoreUnreachable: it can't be read from there.
        WorkbookError: a file can't be written.

    """
    if not url:
        raise StoreRefused(url=url, reason="no replica is named")
    asked = Asked("restore", why, watch)
    reader = open_replica(site, url)
    try:
        with site.turn(name) as record:
            return _Restoring(site, record, reader, at, asked).run()
    except AgentUnknown as unknown:
        raise _unknown(reader, name, unknown) from unknown


def open_replica(site: Site, url: str) -> Reader:
    """Return what reads the replica at an address; nothing is asked yet.

    Raises:
        StoreRefused: it means none.

    """
    return Reader(open_objects(url, site.path, options=site.options))


class _Restoring:
    """One restore of one agent, whose turn the caller holds."""

    def __init__(self, site: Site, record: AgentRecord, reader: Reader, at: Point, asked: Asked) -> None:
        self._site = site
        self._record = record
        self._reader = reader
        self._at = at
        self._asked = asked
        self._path = site.absolute(record.file)
        self._draft = f"{self._path}{DRAFT}"

    def run(self) -> Returned:
        site, record = self._site, self._record
        self._refuse()
        site.activations.refuse_busy(record.id, record.name)
        if site.activations.get(record.id) is not None:
            site.activations.end(record.id, record.name)
        if site.heartbeat is not None:
            with suppress(HeartbeatError):  # where something of it is missing in the replica, that is noticed
                site.heartbeat.flush(_PATIENCE_S)
        _bring_to_rest(self._path, site.clock)
        with busy(record.name), as_it_is(self._path, clock=site.clock):
            self._record = unmoved(site, record)
            # A restore makes its file under a draft's name of its own.
            names = (f"{record.file}{DRAFT}", f"{record.file}{DRAFT}{DRAFT}")
            drafts = [site.leftover(file_place(name), record.id, record.file) for name in names]
            sweep(site, drafts)  # of an earlier try
            site.ledger.reserve(drafts)
            point("move.reserved")
            try:
                done = self._place(self._fetched())
            finally:
                sweep(site, drafts)
        self._end_life()
        return done

    def _end_life(self) -> None:
        """Have the log begin a life of the agent and end it: no record of before is for the file that is there now.

        An agent whose node was killed has records in the log without an end. At the next start they would be applied.
        """
        heartbeat = self._site.heartbeat
        if heartbeat is None:
            return
        with heartbeat.lifting(self._record.id):
            Workbook.open(self._path, create=False, durability=self._site.durability, clock=self._site.clock).close()
        heartbeat.beat()

    def _refuse(self) -> None:
        """Refuse what can't be, before anything is touched.

        Raises:
            MoveRefused, RestoreRefused: as said.

        """
        record = self._record
        if record.state == "deleted":
            raise MoveRefused(name=record.name, state="deleted", asked="suspended", legal="nothing, for it is deleted")
        if record.state in _STORED and self._at != NOW:
            raise RestoreRefused(
                name=record.name,
                reason=f"it is {record.state}, and what is in the store would be another state of it",
                advice=f"`torpor wake {record.name}` first, and ask again.",
            )
        if self._site.heartbeat is None and is_quarantined(self._site.path, record.id):
            raise RestoreRefused(
                name=record.name,
                reason="it is quarantined, and only the process that has the heartbeat can end that",
                advice="Restore it with the home's heartbeat: stop the process that has it, or have that one restore.",
            )
        if self._site.heartbeat is None and _died(self._site.path, self._site.clock):
            raise RestoreRefused(
                name=record.name,
                reason="the heartbeat of this home was killed, and may have what the files lack",
                advice="Open the home anew: that recovers it.",
            )

    def _fetched(self) -> tuple[Restored, Standing, str]:
        """Make the draft, and return what came, where it stands and what it contains."""
        site, record = self._site, self._record
        found = restore_agent(
            self._reader, record.id, self._draft, at=self._at, clock=site.clock, watch=_telling(self._asked.watch)
        )
        prove(self._draft, site.clock)
        standing, content = digest(self._draft, clock=site.clock)
        point("move.copied")
        return found, standing, content

    def _place(self, fetched: tuple[Restored, Standing, str]) -> Returned:
        """Bring the draft to its place, unless what is there is the same, and say so everywhere."""
        site, record = self._site, self._record
        found, standing, content = fetched
        same = self._compare(standing, content)
        size = site.size(record.file if same else f"{record.file}{DRAFT}")
        aside = "" if same else self._aside()
        told = {"replaced": aside} if site.has(record.file) and not same else {}
        note = site.note(
            self._asked, record.id, size, replica=self._reader.url, event=standing.seq, txn=standing.txn, **told
        )
        # A freezing may have left the file, for a sweep to remove: from now on it counts.
        counting = site.leftover(file_place(record.file), record.id, record.file)
        after = site.ledger.move(record, self._after(standing, size), note, made=[counting])
        point("move.committed")
        replaced = not same and put_in_stead(self._draft, self._path, site.absolute(aside))
        return Returned(
            name=record.name,
            agent=record.id,
            before=record.state,
            after=after.state,
            seq=standing.seq,
            txn=standing.txn,
            time=found.time,
            bytes=size,
            read=found.bytes,
            ms=self._asked.ms,
            complete=found.complete,
            reason=found.reason,
            lost=max(0, record.seq - standing.seq) if self._at == NOW else 0,
            replaced=site.absolute(aside) if replaced else "",
            skipped="its file is just that already" if same else "",
        )

    def _compare(self, new: Standing, content: str) -> bool:
        """Report whether the file that is there has the same content already.

        Raises:
            RestoreRefused: it is sound, and goes further than the replica.

        """
        record = self._record
        if not os.path.lexists(self._path):
            self._check_stored(new)
            return False
        try:
            old, there = digest(self._path, clock=self._site.clock)
            if old.agent == record.id and there == content:
                self._check_stored(new)
                return True
            further = old.agent == record.id and old.txn > new.txn and self._has(new.seq, new.head)
            if further and self._at == NOW:
                prove(self._path, self._site.clock)
        except (WorkbookError, AgentBusy):
            further = False  # it is no sound workbook, which is why one restores
        if further and self._at == NOW:
            raise RestoreRefused(
                name=record.name,
                reason=f"its file is sound and goes on to event {old.seq}, and the replica ends at event {new.seq}",
                advice="To put it back all the same, name a time or an event with --at.",
            )
        self._check_stored(new)
        return False

    def _has(self, seq: int, head: str) -> bool:
        with Workbook.open(self._path, readonly=True, clock=self._site.clock) as book:
            return book.extends(seq, head)

    def _check_stored(self, new: Standing) -> None:
        """Refuse to give a frozen or archived agent a file that is older than what is in the store.

        Raises:
            RestoreRefused: as said.

        """
        record = self._record
        if record.state not in _STORED:
            return
        with Workbook.open(self._draft, readonly=True, clock=self._site.clock) as book:
            if book.extends(record.seq, record.head):
                return
        raise RestoreRefused(
            name=record.name,
            reason=f"it is {record.state} as of event {record.seq}, and the replica ends at event {new.seq}",
            advice=f"`torpor wake {record.name}` brings it from its store.",
        )

    def _after(self, standing: Standing, size: int) -> AgentRecord:
        record = self._record
        if record.state in _STORED:
            return record
        state: State = "created" if record.state == "created" else "suspended"
        return replace(record, state=state, seq=standing.seq, head=standing.head, bytes=size)

    def _aside(self) -> str:
        """Return a name, relative to the home, that the file which is there can have; its folder is made."""
        site = self._site
        folder = site.absolute(REPLACED)
        with said_of(folder):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        now = datetime.fromtimestamp(site.clock.now_us() / MICROSECONDS, UTC)
        stem = f"{REPLACED}/{self._record.name}-{now:%Y-%m-%dT%H%M%SZ}"
        number = 1
        while site.has(name := f"{stem}{'' if number == 1 else f'-{number}'}{WORKBOOK}"):
            number += 1
        return name


def prove(path: str, clock: Clock) -> None:
    """Insist that a workbook at rest keeps every promise; one of an older format is brought up to date for that.

    Raises:
        WorkbookDamaged: it breaks one.
        WorkbookError: it can't be read as a workbook.

    """
    try:
        with Workbook.open(path, readonly=True, clock=clock) as book:
            book.verify().require()
    except OlderFormat:
        with Workbook.open(path, create=False, clock=clock) as book:
            book.verify().require()


def _telling(watch: Watch | None) -> Callable[[Progress], None] | None:
    """Return what tells a watch of copies how far the restore of one agent is."""
    if watch is None:
        return None
    return lambda progress: watch(Step(_STAGES.get(progress.stage, progress.stage), progress.bytes, progress.bytes))


def _bring_to_rest(path: str, clock: Clock) -> None:
    """Have a log that a dead owner has left brought into the file, where that can be done."""
    with suppress(WorkbookError, AgentBusy), at_rest(path, clock=clock):
        pass


def _died(home: str, clock: Clock) -> bool:
    """Report whether a heartbeat was killed since this home was opened beside it: nobody has recovered the home."""
    folder = os.path.join(home, FOLDER)
    if not os.path.lexists(os.path.join(folder, _RUNNING)):
        return False
    owner = claims.claim(os.path.join(folder, _OWNER), claims.moment(clock), passing=True)
    if isinstance(owner, claims.Holder):
        return False
    owner.release()
    return True


def _unknown(reader: Reader, name: str, unknown: AgentUnknown) -> AgentUnknown | RestoreRefused:
    """Return the error for an agent that the home doesn't know: what the replica knows of it, if anything."""
    for known in known_in(reader).names:
        if name.casefold() == known.name.casefold() or name == known.id:
            return RestoreRefused(
                name=name,
                reason=f"this home's ledger doesn't know it; in the replica it is the {known.kind} {known.id}",
                advice="Restore the whole home into an empty folder: `torpor --home FOLDER restore --all`.",
            )
    return unknown
