"""What a commit survives, and the seam between a workbook's commits and a log that several workbooks share.

A workbook of class `file` is durable by itself. With a `CommitLog`, its own commits need no sync: the workbook hands a
*record* of each to the log, right after SQLite's own commit, and acknowledges the commit when the log says that the
record is durable. SQLite commits first, so the log never has what the file refused. What another connection can see a
moment before it is durable, nobody has acknowledged.

What a record holds, this room alone knows (`capture.py`, `replay.py`, SPEC.md): the log deals in bytes. The protocols
here are all that the two know of each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, LiteralString, Protocol

import msgspec

from torpor.base.errors import DurabilityRefused, TorporError
from torpor.workbook.capture import Capture

Row = tuple[Any, ...]

Head = tuple[int, bytes, int]
"""Where the journal stands: the newest event's number and hash, and the number of the last transaction."""


class Level(IntEnum):
    """What an acknowledgement waits for; the greater is the stronger."""

    DURABLE = 1
    """Kill and power loss are survived."""
    REPLICATED = 2
    """The loss of the machine, too."""


LEVELS: Final = {"file": Level.DURABLE, "heartbeat": Level.DURABLE, "replicated": Level.REPLICATED}
"""What a transaction may ask for, by the name of the class."""


class Standing(msgspec.Struct, frozen=True):
    """Where a workbook stands."""

    agent: str
    txn: int
    """The number of its last transaction."""
    seq: int
    """The number of its newest event; 0 where there is none."""
    head: str
    """The hash of that, in hexadecimal; "" where there is none."""
    schema: int
    """SQLite's `schema_version`: as long as it is the same, so are all tables."""


class Ticket(Protocol):
    """One commit's place in the log."""

    def wait(self, level: Level) -> None:
        """Return when the record is as safe as asked. No lock of the workbook is held.

        Raises:
            TorporError: it may or may not be there after a power loss; the transaction stands in the file.

        """
        ...

    async def arrive(self, level: Level) -> None:
        """Do the same as a task: the others of the event loop go on meanwhile.

        Raises:
            TorporError: as for `wait`.

        """
        ...


class Lane(Protocol):
    """What the log gives to one open workbook."""

    @property
    def failed(self) -> TorporError | None:
        """Why the log takes nothing any more, for good: nothing is committed then. None as long as it may."""
        ...

    def add(self, txn: int, head: bytes, payload: bytes) -> Ticket:
        """Take the record of a transaction that was committed just now. The workbook's lock is held.

        Args:
            txn: its number: one more than that of the one before.
            head: the hash of the newest event; 32 zero bytes where there is none.
            payload: the record.

        Raises:
            TorporError: the log doesn't take it. The transaction stands in the file; the next one is `broken`.

        """
        ...

    def broken(self, txn: int, head: bytes) -> Ticket:
        """Learn, in place of `add`, that no record can say what was done up to this transaction.

        The schema was changed, somebody else wrote into the file, it was too much, or a record got lost on its way. The
        file has been synced: on this machine, all up to `txn` is durable without the log. For the loss of the machine
        only a snapshot helps, of `txn` or later. Records that follow go on from there. The workbook's lock is held.
        """
        ...

    def settled(self, txn: int) -> None:
        """Learn that what `Joining.settle` had put off is done up to this transaction. The workbook's lock is held."""
        ...

    def leave(self, standing: Standing | None) -> None:
        """Learn that the workbook is closed.

        Args:
            standing: where it stands, complete and durable by itself; None where it still needs the log, because the
                storage failed at the last.

        """
        ...


class Joining(Protocol):
    """What an open workbook gives to the log."""

    path: str
    """The file, absolute, links resolved."""

    def standing(self) -> Standing:
        """Return where it stands; waits for a transaction that is open."""
        ...

    def settle(self) -> int | None:
        """Make the file complete by itself, from any thread.

        Returns:
            The transaction up to which it needs no log. None where that can't be done now: because a transaction is
            open, at whose end it is done then (`Lane.settled`); or because the storage failed, or it is closed.

        """
        ...


class CommitLog(Protocol):
    """A log that keeps the commits of many workbooks."""

    level: Level
    """What its commits wait for, unless they ask for something else."""
    reach: Level
    """The strongest that it can give."""
    folder: str
    """The home that it belongs to, absolute: what has to be opened before its workbooks, after a power cut."""

    def join(self, member: Joining) -> Lane:
        """Take in a workbook that is being opened by its owner.

        Raises:
            TorporError: it can't be; the workbook isn't opened then.

        """
        ...


@dataclass(frozen=True, slots=True)
class Durability:
    """What a commit survives, by name.

    Args:
        name: the class's name in the API and in benchmark tables.
        synchronous: SQLite's own setting.
        vfs: the SQLite file layer to use; None is the system's.
        journal: how SQLite undoes what wasn't committed: "wal", but for files that are nobody's yet.
        log: what keeps a record of each commit, where SQLite's own setting is not enough.

    """

    name: str
    synchronous: LiteralString
    vfs: str | None = None
    journal: LiteralString = "wal"
    log: CommitLog | None = None


FILE: Final = Durability("file", "FULL")
"""The library's default: what is acknowledged survives kill and power loss."""


class Committing(Protocol):
    """A transaction that is about to be committed."""

    changes: int
    """What SQLite counted when it began."""
    head: Head
    """Where the journal stands with it."""
    number: int
    """Its own."""


class Recorder(Protocol):
    """Who tells a log of a store's commits: its scribe (`scribe.py`)."""

    level: Level
    log: CommitLog
    capture: Capture

    @property
    def plain(self) -> bool:
        """Whether an event may be inserted without a transaction around it."""
        ...

    def commit(self, transaction: Committing) -> Ticket | None:
        """Commit the open transaction; return what to wait for until all that it saw or did is safe."""
        ...

    def insert_event(self, head: Head, row: Row) -> Ticket:
        """Write one event, a transaction by itself."""
        ...

    def settle(self) -> int | None:
        """Make the file complete by itself; see `Joining.settle`."""
        ...

    def undone(self) -> None:
        """Forget what a transaction did that was rolled back."""
        ...

    def wait(self, ticket: Ticket, level: Level | None) -> None:
        """Wait until a commit is as safe as asked."""
        ...

    async def arrive(self, ticket: Ticket, level: Level | None) -> None:
        """Do the same as a task."""
        ...

    def finish(self) -> Standing | None:
        """Make the file complete, right before it is closed."""
        ...

    def leave(self, standing: Standing | None) -> None:
        """Tell the log that the workbook is closed."""
        ...


def level_of(path: str, asked: str | None, log: CommitLog | None) -> Level | None:
    """Return what a durability class means for a workbook; None for whatever its commits have anyway.

    Raises:
        DurabilityRefused: there is no such class, or it needs a replica, and there is none.

    """
    if asked is None:
        return None
    level = LEVELS.get(asked)
    if level is None:
        raise DurabilityRefused(path=path, asked=asked, reason="there is no such class")
    if level is Level.REPLICATED and (log is None or log.reach < level):
        reason = "it was opened without a node" if log is None else "its node has no replica"
        raise DurabilityRefused(path=path, asked=asked, reason=reason)
    return level
