"""What a ledger is: the words it is spoken to in, and what it promises, whatever keeps it.

**Promises.** Each call that changes anything is one transaction, all or nothing. When it returns, it is durable, except
for `touch`. Many threads and many processes may use one ledger at once. Two that move one agent at once: one does, the
other is told so (`MoveConflict`).

**What a move does not touch.** `move` writes what differs between the records `before` and `after`, so it does not undo
a `touch` or a `schedule` that came between.

**When a change fails with `LedgerFailed`** no process sees any of it. But the device that failed may have kept it
all the same and show it after a restart of the machine. So whoever gets that error removes no copy of the agent.
`leftovers` settles it: once it has returned, no change that failed before it can come back, and what it names may go.

**Leftovers.** A file or object that a move may leave behind is reserved before it is made. The move that makes it count
takes it from the leftovers (`made`) and puts what no longer counts there (`left`), in its own transaction. So whatever
is named there may be removed by whoever has the claim that guards it.

**Always so** of an agent's record; a change that would break one of these is refused as a bug (`InternalError`):
- it enters as created, and changes its state only along an edge of the lifecycle;
- `cold` is set if and only if it is frozen, `archive` if and only if it is archived, `digest` in just these two states;
- id, name, tenant, template, lineage and time of creation never change, and the epoch never falls;
- deleted, it is a tombstone: name, id, lineage and times stay, all else is cleared, and nothing changes it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, Protocol

import msgspec

from torpor.lifecycle import State

Verb = Literal[
    "new",
    "wake",
    "suspend",
    "freeze",
    "prefetch",
    "archive",
    "delete",
    "clone",
    "fork",
    "forked",
    "rewind",
    "import",
    "export",
    "template",
    "drop",
    "restore",
]
"""What was done. `forked` is the parent's side of a fork; `drop` removes a template."""


class AgentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger knows of one agent. Times are µs since 1970 UTC; sizes are bytes."""

    id: str
    name: str
    tenant: str = ""
    """For whom it works; "" for nobody in particular."""
    template: str | None = None
    """The name of the template that it was cloned from."""
    state: State = "created"
    epoch: int = 0
    """How often it was woken, warm wakes not counted."""
    file: str
    """Where its live file belongs, relative to the home: `agents/ada.workbook`; "" when it is deleted."""
    cold: str | None = None
    """The place of its copy in a cold store, while it is frozen."""
    archive: str | None = None
    """The place of its copy in an archive, while it is archived."""
    digest: str | None = None
    """SHA-256, in hex, of the workbook's bytes as that copy has them."""
    bytes: int = 0
    """The workbook's size when it was last put to rest."""
    seq: int = 0
    """The number of its newest event then; 0 for none."""
    head: str = ""
    """That event's hash, in hex; "" for none."""
    parent: str | None = None
    """The id of the agent that it was forked from, or that its template was made from."""
    parent_seq: int | None = None
    """The parent's event at which it branched off."""
    created: int
    active: int
    """Its last activity."""
    wake: int | None = None
    """When it must next wake, whatever else happens."""
    suspend_after_s: float | None = None
    freeze_after_s: float | None = None
    """Its own thresholds of the ladder, where it has some."""


class TemplateRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger knows of one template. Times are µs since 1970 UTC, but `…_ns`; sizes are bytes."""

    id: str
    name: str
    file: str
    """Relative to the home: `templates/briefing.workbook`."""
    bytes: int
    mtime_ns: int
    """When its content was changed last; anybody can set that."""
    ctime_ns: int = 0
    """When it was changed last in any way, its times included; 0 where that isn't known."""
    inode: int
    """With size and times of change: by what a look tells that nobody has touched the file."""
    digest: str
    """SHA-256 of the file, in hex."""
    seq: int = 0
    head: str = ""
    parent: str | None = None
    """The id of the agent that it was made from."""
    parent_seq: int | None = None
    created: int
    suspend_after_s: float | None = None
    freeze_after_s: float | None = None
    """The thresholds that its clones begin with, where they have some of their own."""


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What the history is to say of something that was done to an agent or a template."""

    agent: str
    """The id of the agent or template."""
    verb: Verb
    who: str
    """On whose behalf: a person, "ticker", "library"."""
    why: str = ""
    time: int
    """When it was done; µs since 1970 UTC."""
    bytes: int = 0
    """How many bytes were moved for it."""
    ms: float = 0.0
    """How long it took so far, in milliseconds."""
    details: dict[str, Any] = msgspec.field(default_factory=dict)
    """Whatever else is worth knowing, as plain data."""


class MoveRecord(Note, frozen=True, kw_only=True):
    """One entry of the history."""

    move: int
    """Its number; a later one is greater."""
    name: str
    """The name of the agent or template."""
    before: State | None = None
    after: State | None = None
    """The state that it was in, and is in since; both None where no state was touched."""
    epoch: int | None = None
    """The agent's epoch afterwards; None for a template."""


class Leftover(msgspec.Struct, frozen=True, kw_only=True):
    """A file or object that may have been left behind, and is to be removed. Known by its place and agent."""

    place: str
    """`file:` and a path relative to the home, or a place in a store."""
    agent: str
    """The id of the agent whose copy it is."""
    claim: str
    """The live path, relative to the home, whose claim guards it."""
    since: int
    """When it was named here; µs since 1970 UTC."""


class Name(msgspec.Struct, frozen=True):
    """A name that was given away."""

    id: str
    name: str
    kind: Literal["agent", "template"]


class Mark(msgspec.Struct, frozen=True):
    """How far a replica has followed a ledger."""

    change: int = 0
    move: int = 0


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What is new in a ledger since a mark: whole records, so that a later one replaces an earlier one."""

    mark: Mark
    """How far this goes: where to ask from next time."""
    names: list[Name] = msgspec.field(default_factory=list)
    """Of all that is in the lists below, and of templates that were dropped."""
    agents: list[AgentRecord] = msgspec.field(default_factory=list)
    templates: list[TemplateRecord] = msgspec.field(default_factory=list)
    dropped: list[str] = msgspec.field(default_factory=list)
    """The ids of templates that there are no more."""
    moves: list[MoveRecord] = msgspec.field(default_factory=list)
    """Entries of the history, oldest first."""


def together(changes: Iterable[Changes]) -> Changes:
    """Return what several changes are in one, given in the order in which they were asked for."""
    mark = Mark()
    names: dict[str, Name] = {}
    agents: dict[str, AgentRecord] = {}
    templates: dict[str, TemplateRecord] = {}
    moves: dict[int, MoveRecord] = {}
    for each in changes:
        mark = each.mark
        names.update({name.id: name for name in each.names})
        agents.update({agent.id: agent for agent in each.agents})
        templates.update({template.id: template for template in each.templates})
        for one in each.dropped:
            templates.pop(one, None)
        moves.update({move.move: move for move in each.moves})
    return Changes(
        mark=mark,
        names=list(names.values()),
        agents=list(agents.values()),
        templates=list(templates.values()),
        dropped=[name.id for name in names.values() if name.kind == "template" and name.id not in templates],
        moves=[moves[number] for number in sorted(moves)],
    )


class Rung(msgspec.Struct, frozen=True):
    """What the ladder needs to know of an agent."""

    id: str
    name: str
    state: State
    active: int
    suspend_after_s: float | None
    freeze_after_s: float | None


class Templates(Protocol):
    """The templates of a ledger. Their names are taken from the same store of names as those of agents."""

    def add(self, record: TemplateRecord, note: Note, *, made: Sequence[Leftover] = ()) -> None:
        """Register a template.

        Args:
            record: what is known of it.
            note: for the history, about the template.
            made: leftovers that count from now on, and so are none any more.

        Raises:
            NameTaken: the name is, or was, an agent's or a template's.
            LedgerFailed: it can't be written.

        """
        ...

    def get(self, name_or_id: str) -> TemplateRecord:
        """Return a template.

        Raises:
            AgentUnknown: there is none of that name; or it was dropped.

        """
        ...

    def all(self) -> list[TemplateRecord]:
        """Return every template, in the order of their names."""
        ...

    def drop(self, record: TemplateRecord, note: Note, *, left: Sequence[Leftover] = ()) -> None:
        """Forget a template; its name is not used again, and its history stays.

        Args:
            record: the template.
            note: for the history, about the template.
            left: what is to be removed now, usually its file.

        Raises:
            AgentUnknown: there is none; or it was dropped meanwhile.
            LedgerFailed: it can't be written.

        """
        ...


class Ledger(Protocol):
    """Which agents there are, in what state each is, where its copies are, and how it came to that.

    Every method may raise `LedgerFailed` (it can't be read or written just now, or was closed, or was inherited by
    fork) and `LedgerDamaged` (what it holds contradicts itself).
    """

    @property
    def templates(self) -> Templates:
        """The templates."""
        ...

    def add(self, records: Sequence[AgentRecord], notes: Sequence[Note], *, made: Sequence[Leftover] = ()) -> None:
        """Register new agents, all or none.

        Args:
            records: what is known of them; each is created.
            notes: for the history, one about each of them; and any about others, such as the parent of a fork.
            made: leftovers that count from now on, and so are none any more.

        Raises:
            NameTaken: a name is, or was, an agent's or a template's. Upper and lower case count as the same.
            AgentUnknown: a note is about nobody.

        """
        ...

    def agent(self, name_or_id: str) -> AgentRecord:
        """Return one agent, or the tombstone of one that was deleted.

        Raises:
            AgentUnknown: there never was one of that name or id.

        """
        ...

    def agents(
        self, *, tenant: str | None = None, state: State | None = None, after: str = "", limit: int | None = None
    ) -> Iterator[AgentRecord]:
        """Yield agents in the order of their names, a page at a time.

        Args:
            tenant: only those of this tenant.
            state: only those in this state; without one, all but the deleted.
            after: only those whose name comes after this one.
            limit: at most so many.

        """
        ...

    def counts(self) -> dict[State, int]:
        """Return how many agents are in each of the six states."""
        ...

    def children(self, agent: str) -> list[AgentRecord]:
        """Return the agents whose parent has this id, oldest first, tombstones included."""
        ...

    def move(
        self,
        before: AgentRecord,
        after: AgentRecord,
        note: Note,
        *,
        made: Sequence[Leftover] = (),
        left: Sequence[Leftover] = (),
    ) -> AgentRecord:
        """Change an agent, if nobody has moved it since `before` was read.

        What differs between the two records is written, the history is told, and the leftovers are changed, all in
        one transaction. The states may be the same, as for a prefetch or a rewind.

        Args:
            before: the agent as it was read; its state and epoch must still be so.
            after: as it is to be. Where that is deleted, what a tombstone doesn't keep is cleared for you.
            note: for the history, about this agent.
            made: leftovers that count from now on, and so are none any more.
            left: what no longer counts, and is to be removed now.

        Returns:
            The agent as it is now.

        Raises:
            MoveRefused: the new state is none that the old one leads to, or the agent is deleted.
            MoveConflict: its state or epoch is another by now; nothing was changed.
            AgentUnknown: there never was such an agent.

        """
        ...

    def note(self, note: Note) -> None:
        """Write into the history what touches no state, such as an export.

        Raises:
            AgentUnknown: it is about no agent or template.

        """
        ...

    def history(self, name_or_id: str, *, last: int | None = None) -> list[MoveRecord]:
        """Return what was done to an agent or a template, oldest first; dropped templates included.

        Args:
            name_or_id: whose history.
            last: only the newest so many.

        Raises:
            AgentUnknown: there never was one of that name or id.

        """
        ...

    def touch(self, agent: str, now: int) -> None:
        """Record that the agent was active just now.

        Every process sees it at once, but a power cut may take it back. It is cheap: nothing waits for the disk.
        A time in the future, from before the clock was set back, is thereby corrected.

        Args:
            agent: its id.
            now: the present time, µs since 1970 UTC.

        Raises:
            AgentUnknown: there never was such an agent.
            MoveConflict: it is deleted.

        """
        ...

    def schedule(self, agent: str, wake: int | None) -> None:
        """Set when the agent must next wake.

        Args:
            agent: its id.
            wake: µs since 1970 UTC; None for not at all.

        Raises:
            AgentUnknown: there never was such an agent.
            MoveConflict: it is deleted.

        """
        ...

    def ladder(self) -> Iterator[Rung]:
        """Yield every agent that the ladder may move: the active and the suspended ones.

        They come a page at a time, so agents may be moved meanwhile; each comes once, as it was when its page was read.
        """
        ...

    def due(self, now: int) -> Iterator[AgentRecord]:
        """Yield the agents that were to wake by `now` (µs since 1970 UTC), the longest overdue first.

        They come a page at a time, so they may be moved and scheduled anew meanwhile.
        """
        ...

    def changes(self, since: Mark, limit: int) -> Changes | None:
        """Return what has changed since a mark, the oldest first; None where nothing has.

        Activities alone are no changes, and neither are leftovers.

        Args:
            since: where to begin.
            limit: at most so many records, and as many entries of the history.

        """
        ...

    def take_over(self, changes: Changes) -> None:
        """Fill a new ledger with what another one knew.

        Args:
            changes: all of it, as it was last; agents may be in any state.

        Raises:
            HomeRefused: this ledger knows somebody already.

        """
        ...

    def reserve(self, leftovers: Iterable[Leftover]) -> None:
        """Name what is about to be made, so that it is found and removed should this process die."""
        ...

    def leftovers(self) -> list[Leftover]:
        """Return what may have been left behind, oldest first, and settle what is in doubt.

        A change that failed before this returns does not come back, not even by a restart of the machine.
        """
        ...

    def release(self, leftovers: Iterable[Leftover]) -> None:
        """Forget leftovers that are gone; those that aren't named are no error."""
        ...

    def close(self) -> None:
        """Give the ledger up; twice is once."""
        ...
