"""What the moves answer."""

from __future__ import annotations

import msgspec

from torpor.base.errors import TorporError
from torpor.ledger import AgentRecord, Verb
from torpor.lifecycle import Resume, State


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one agent that was to be moved.

    Attributes:
        name: the agent's name.
        agent: its id.
        verb: what was asked.
        before: its state until then.
        after: its state now; the same as before where nothing was done.
        bytes: its size.
        ms: how long it took.
        skipped: why nothing was done; empty where it was.
        left: places of old copies that could not be removed yet. The ledger names them, and the next tick or start
            tries again.

    """

    name: str
    agent: str
    verb: Verb
    before: State
    after: State
    bytes: int
    ms: float
    skipped: str = ""
    left: tuple[str, ...] = ()


class Woken(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that is awake now.

    Attributes:
        record: what the ledger says of it now.
        how: warm (it was awake here), cached (from its file), cold (from a store).
        ms: how long it took.
        left: as for `Moved`.

    """

    record: AgentRecord
    how: Resume
    ms: float
    left: tuple[str, ...] = ()


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was made for others; `agent` is the id of the workbook in it."""

    agent: str
    name: str
    path: str
    bytes: int
    with_memory: bool


class Rewound(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that was put back to event `to`, by event `seq`; `skipped` says why nothing was done."""

    name: str
    agent: str
    to: int
    seq: int
    skipped: str = ""


class Passed(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that a tick left alone, and why."""

    name: str
    reason: str


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that a tick could not move."""

    name: str
    error: TorporError


class Ticked(msgspec.Struct, frozen=True, kw_only=True):
    """What one pass of the ticker did.

    Attributes:
        now: the time that it went by, in µs UTC.
        moved: who was moved down the ladder.
        woken: who was woken by a timer.
        skipped: who was busy.
        failed: whom it could not move, and why.
        removed: old copies that an earlier move had to leave.

    """

    now: int
    moved: tuple[Moved, ...] = ()
    woken: tuple[Woken, ...] = ()
    skipped: tuple[Passed, ...] = ()
    failed: tuple[Failed, ...] = ()
    removed: tuple[str, ...] = ()


class Returned(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that was restored.

    Attributes:
        name: its name.
        agent: its id.
        before: its state until then.
        after: its state now.
        seq: the number of its newest event now.
        txn: the number of its newest transaction.
        time: when that was recorded, in µs UTC; 0 where that isn't known.
        bytes: the size of its file.
        read: bytes that were read from the replica.
        ms: how long it took.
        complete: whether that is all that the replica knows of it, up to what was asked for.
        reason: why not.
        lost: events that the ledger knew of and that are in no copy; 0 unless the newest state was asked for.
        replaced: where the file is now that was in its place, absolute; "" where none was.
        skipped: why the file that was there has stayed; "" where it was replaced.

    """

    name: str
    agent: str
    before: State
    after: State
    seq: int
    txn: int
    time: int
    bytes: int
    read: int
    ms: float
    complete: bool = True
    reason: str = ""
    lost: int = 0
    replaced: str = ""
    skipped: str = ""


class Came(msgspec.Struct, frozen=True, kw_only=True):
    """An agent or a template that came back.

    Attributes:
        name: its name.
        agent: its id.
        state: an agent's state now; None for a template.
        seq: its newest event.
        txn: its newest transaction.
        time: when that was recorded, µs UTC.
        bytes: the size of its file.
        complete: whether that is all that the replica knows of it.
        reason: why not.

    """

    name: str
    agent: str
    state: State | None
    seq: int
    txn: int
    time: int
    bytes: int
    complete: bool = True
    reason: str = ""


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """A home that was brought back.

    Attributes:
        path: its folder, absolute.
        url: the replica that it is from.
        home: its id.
        until: when the newest record in the replica was made, µs UTC.
        lsn: the number of that record.
        came: the agents and templates whose files came back.
        elsewhere: how many agents are in their stores, where they were.
        deleted: how many are deleted.
        failed: who did not come back, and why.
        bytes: the size of all files.
        read: bytes that were read from the replica for agents and templates.
        ms: how long it took.

    """

    path: str
    url: str
    home: str
    until: int
    lsn: int
    came: tuple[Came, ...]
    elsewhere: int
    deleted: int
    failed: tuple[Failed, ...]
    bytes: int
    read: int
    ms: float
