"""What the use cases take and give: plain data, the same for every gateway. Times are microseconds since 1970 UTC."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from torpor.base.errors import PathRefused
from torpor.skills.briefing.report import Chosen, Told
from torpor.workbook import VOLUMES, Volume


class BriefRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A wish for a briefing."""

    workbook: str
    """An agent's name, or a workbook's file."""
    sources: list[str]
    """Addresses, or paths of files, as the user typed them."""
    out: str
    interest: str | None = None
    """What to look for this time; the agent's own interests unless given."""
    keep_interest: bool = False
    """Make `interest` the agent's own."""
    count: int = 10
    model: str = "local"


class Briefed(msgspec.Struct, frozen=True, kw_only=True):
    """How a briefing came out."""

    run: str
    status: Literal["completed", "completed with errors"]
    resumed: bool
    """Whether this finished a run that was interrupted before."""
    new: int
    already_read: int
    interests: str
    model: str
    delivered: list[str]
    """The Markdown and the HTML file; empty where nothing was new."""
    chosen: list[Chosen]
    problems: list[Told]
    notes: list[Told]
    others_resumed: list[str] = []
    """Runs with other wishes that were finished on the way."""


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """One event."""

    seq: int
    id: str
    time: int
    kind: str
    version: int
    body: dict[str, Any]
    span: str | None
    parent: int | None
    key: str | None
    hash: str


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    run: str
    message: str
    state: str
    started: int
    waits_for: str | None = None
    """The key of the effect whose outcome is unknown, where the run is parked."""
    reason: str | None = None


class FoundView(msgspec.Struct, frozen=True, kw_only=True):
    """A memory entry that answers a search."""

    entry: int
    kind: str
    content: str
    source: str | None
    metadata: dict[str, Any]
    score: float


class VerifyView(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found."""

    path: str
    ok: bool
    agent: str
    events: int
    files: int
    memories: int
    head: str
    problems: list[dict[str, str]]


class Place(msgspec.Struct, frozen=True):
    """A place in a volume, written `VOLUME:/path`."""

    volume: Volume
    path: str

    @classmethod
    def parse(cls, text: str) -> Place:
        """Return the place that a text names; the volume is `workspace` where it names none.

        Raises:
            PathRefused: it names none.

        """
        volume, colon, path = text.partition(":")
        if not colon:
            volume, path = "workspace", text
        if volume not in VOLUMES:
            reason = f"{volume!r} is no volume: {', '.join(VOLUMES)}"
            raise PathRefused(path=text, reason=reason)
        return cls(msgspec.convert(volume, type=Volume), path or "/")


# --- whole agents: what `Service.agents` takes and gives ------------------------------------------------------------

Verb = Literal["suspend", "wake", "freeze", "prefetch", "archive", "delete"]
"""The moves of an agent's life that can be asked for."""

State = Literal["created", "active", "suspended", "frozen", "archived", "deleted"]


class Moving(msgspec.Struct, frozen=True):
    """How far a move is, in bytes; nothing depends on it."""

    stage: str
    done: int
    total: int


class Newborn(msgspec.Struct, frozen=True, kw_only=True):
    """A wish for an agent or a template."""

    name: str
    source: str | None = None
    """The template of a new agent, or the agent that a template is made from."""
    tenant: str = ""
    suspend_after: str | None = None
    """How long it may be idle before it is suspended, such as "15m"; the ladder's own threshold unless given."""
    freeze_after: str | None = None


class AgentView(msgspec.Struct, frozen=True, kw_only=True):
    """One agent, as the home knows it."""

    name: str
    id: str
    tenant: str
    """"" where it is nobody's."""
    template: str | None
    state: State
    epoch: int
    """How often it was woken."""
    bytes: int
    """Its size: of the file where that is here, else when it was last put to rest."""
    path: str | None
    """Its file, where that is here."""
    cold: str | None
    archive: str | None
    created: int
    active: int
    """When it was last in use."""
    idle_s: float
    wake: int | None
    """When it wakes next by itself."""
    suspend_after_s: float
    freeze_after_s: float


class RelativeView(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's parent, or one of its children."""

    name: str
    id: str
    at: int | None
    """The parent's event at which the child branched off."""
    known: bool = True
    """Whether this home knows it; where not, its name is its id."""
    what: Literal["agent", "template", "dropped template"] = "agent"


class BranchView(msgspec.Struct, frozen=True, kw_only=True):
    """Events that a rewind has set aside."""

    first: int
    last: int
    events: list[tuple[int, int]]
    """All of them, as the first and the last of those that follow each other: parts of a branch may count again."""
    rewound: int
    """The event that records the rewind."""


class MoveView(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an agent's history."""

    verb: str
    before: str | None
    after: str | None
    who: str
    why: str
    time: int
    bytes: int
    ms: float
    epoch: int | None
    details: dict[str, Any]


class AgentStory(AgentView, frozen=True, kw_only=True):
    """All that is known of one agent."""

    seq: int
    """The number of its newest event, or what that was when its file was last here."""
    head: str
    """That event's hash; "" where there is none."""
    digest: str | None
    """SHA-256 of its file, where that is in a store."""
    parent: RelativeView | None
    children: list[RelativeView]
    branches: list[BranchView] | None
    """None where its file is not here, or can't be read."""
    problem: Told | None
    """Why it can't be read."""
    history: list[MoveView]


class MovedView(msgspec.Struct, frozen=True, kw_only=True):
    """How a move came out."""

    name: str
    verb: str
    before: State | None
    """The state that it was in; None where it was woken by a tick, from whatever that was."""
    after: State
    bytes: int
    ms: float
    skipped: str = ""
    """Why there was nothing to do; "" where it was done."""
    how: Literal["", "warm", "cached", "cold"] = ""
    """How it was woken."""
    left: list[str] = []
    """Old copies that could not be removed yet; a later tick does it."""


class ExportedView(msgspec.Struct, frozen=True, kw_only=True):
    """A workbook that has left."""

    name: str
    path: str
    bytes: int
    with_memory: bool


class RewoundView(msgspec.Struct, frozen=True, kw_only=True):
    """How a rewind came out."""

    name: str
    asked: int
    """The event that was asked for."""
    to: int
    """The event that it is back at: the last that was committed together with that one."""
    seq: int
    """The event that records it; those between are set aside."""
    skipped: str = ""


class ForkedView(AgentView, frozen=True, kw_only=True):
    """A new agent that was branched from another."""

    at: int
    """The last event that both have in common."""


class TemplateView(msgspec.Struct, frozen=True, kw_only=True):
    """One template."""

    name: str
    id: str
    bytes: int
    digest: str
    parent: str | None
    """The agent that it was made from: its name, or its id where this home doesn't know it."""
    parent_seq: int | None
    created: int
    suspend_after_s: float | None
    freeze_after_s: float | None


class TemplateStory(TemplateView, frozen=True, kw_only=True):
    """All that is known of one template."""

    seq: int
    """The number of its newest event."""
    head: str
    """That event's hash."""
    clones: int
    """How many agents were made from it, the deleted included."""
    history: list[MoveView]


class TickView(msgspec.Struct, frozen=True, kw_only=True):
    """What one pass of the ladder did."""

    now: int
    moved: list[MovedView]
    woken: list[MovedView]
    skipped: list[Told]
    """Who was left alone, and why."""
    failed: list[Told]
    removed: list[str]
    """Old copies that an earlier move had to leave."""


# --- Litestream: what `Service.litestream` gives --------------------------------------------------------------------


class ReplicationView(msgspec.Struct, frozen=True, kw_only=True):
    """A workbook that Litestream replicates."""

    workbook: str
    path: str
    url: str
    """Where to."""
    program: str
    pid: int
    """The process that owns Litestream."""
    litestream: int
    """Litestream's own process."""
    since: int
    sent: int
    """Bytes that it has sent, as they lie in the workbook and its log."""
    last: int | None
    """When it last sent something."""
    trouble: str
    """What it complained of, since it last sent something."""


class RestoredView(msgspec.Struct, frozen=True, kw_only=True):
    """A workbook that was brought back."""

    path: str
    agent: str
    seq: int
    """The number of its newest event."""
    head: str
    """The hash of that, in hexadecimal."""
    bytes: int


class Sent(msgspec.Struct, frozen=True):
    """Something that Litestream has sent."""

    what: Literal["snapshot", "changes"]
    bytes: int


class SentTrouble(msgspec.Struct, frozen=True):
    """Something that went wrong with it; it goes on trying."""

    text: str


# --- the heartbeat: what `Service.heartbeat` gives ------------------------------------------------------------------


class DrilledView(msgspec.Struct, frozen=True, kw_only=True):
    """What a drill found of one agent."""

    name: str
    agent: str
    txn: int
    """The transaction at which it was compared."""
    ok: bool
    """Whether what the replica gave is what lives."""
    ms: float
    """How long the restoring took."""
    reason: str
    """Why it isn't; "" where it is."""


class DrillView(msgspec.Struct, frozen=True, kw_only=True):
    """A drill: some agents, restored from the replica and compared with the living."""

    time: int
    agents: list[DrilledView]


class QuarantinedView(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that can't be used before it was restored."""

    name: str
    agent: str
    reason: str
    segment: str
    """The segment of the log that is damaged; "" where that isn't why."""
    offset: int
    """Where in it, in bytes."""


class HeartbeatView(msgspec.Struct, frozen=True, kw_only=True):
    """How a home's heartbeat is, or was when its process ended."""

    home: str
    running: bool
    pid: int
    time: int
    """When it was so."""
    durability: str
    """What its commits wait for: "heartbeat" or "replicated"."""
    replica: str
    """"" where it has none."""
    state: str
    """Of the shipping: starting, shipping, failing, fenced, stopped, or off."""
    lag_records: int
    """Records that the replica doesn't have yet."""
    lag_bytes: int
    lag_seconds: float
    """The age of the oldest of them."""
    backlog: int
    """Bytes that the log takes on the disk."""
    backlog_max: int
    awake: int
    """Agents that are open."""
    wanting: int
    """Agents that the replica can't restore yet."""
    error: str
    """What keeps it from shipping; "" for nothing."""
    quarantined: list[QuarantinedView]
    drill: DrillView | None
    """The last one."""


class ReturnedView(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that was restored."""

    name: str
    before: State
    after: State
    seq: int
    """The number of its newest event now."""
    time: int | None
    """When it was as it is now."""
    bytes: int
    read: int
    """Bytes that were read from the replica."""
    ms: float
    complete: bool
    """Whether that is all that the replica knows of it up to there."""
    reason: str
    lost: int
    """Events that the home knew of, and that are in no copy."""
    replaced: str | None
    """Where the file is now that was in its place."""
    skipped: str
    """Why the file has stayed; "" where it was replaced."""


class LostView(msgspec.Struct, frozen=True, kw_only=True):
    """A lost home that was brought back."""

    path: str
    replica: str
    until: int
    """When the newest of what the replica has was done."""
    agents: int
    """Agents whose files came back, verified."""
    templates: int
    elsewhere: int
    """Agents that are in their stores, as they were."""
    deleted: int
    incomplete: list[Told]
    """Who came back, but not as new as the replica knows of, and why."""
    failed: list[Told]
    """Who didn't come back, and why."""
    bytes: int
    read: int
    ms: float
