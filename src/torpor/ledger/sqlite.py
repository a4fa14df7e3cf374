"""A ledger in an SQLite file, which threads and processes share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, LiteralString, Self

import apsw
import msgspec

from torpor.base.errors import AgentUnknown, HomeRefused, InternalError, MoveConflict, NameTaken
from torpor.ledger import rows
from torpor.ledger.connection import Connection, Row
from torpor.ledger.opening import connect
from torpor.ledger.seam import (
    AgentRecord,
    Changes,
    Leftover,
    Mark,
    MoveRecord,
    Name,
    Note,
    Rung,
    TemplateRecord,
)
from torpor.lifecycle import STATES, State, check_move

PAGE: Final = 500
"""Rows read at a time while iterating; other threads take their turn in between."""

_Execute = Callable[..., apsw.Cursor]

_LIVING: Final = "state <> 'deleted'"


class SqliteLedger:
    """A ledger (`seam.Ledger`) in one file.

    Attributes:
        path: the file, absolute, links resolved.
        templates: the templates.

    """

    def __init__(self, path: str, db: apsw.Connection) -> None:
        self.path = path
        self._connection = Connection(path, db)
        self.templates = _Templates(self._connection)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, create: bool = True, vfs: str | None = None) -> Self:
        """Open a ledger.

        Args:
            path: the file; its folder must exist.
            create: make a new one where there is none.
            vfs: the SQLite file layer to use; None is the system's.

        Raises:
            HomeRefused: there is none, and none is to be made; or there is no such folder.
            LedgerDamaged: what is there is no ledger, is not whole, or is of a later Torpor; it is left as it is.
            LedgerFailed: it can't be opened or made just now.

        """
        real = os.path.realpath(path)
        return cls(real, connect(real, create=create, vfs=vfs))

    def add(self, records: Sequence[AgentRecord], notes: Sequence[Note], *, made: Sequence[Leftover] = ()) -> None:
        """Register new agents, all or none; see `seam.Ledger`."""
        epochs = {record.id: record.epoch for record in records}
        if any(record.state != STATES[0] for record in records):
            raise InternalError(promise=f"an agent enters the ledger as {STATES[0]}")
        if sorted(note.agent for note in notes if note.agent in epochs) != sorted(record.id for record in records):
            raise InternalError(promise="each new agent comes with one note about it")
        with self._connection.transaction() as execute:
            _take_names(self._connection, execute, records)
            for record in records:
                execute(rows.INSERT_AGENT, rows.agent_row(record))
            for note in notes:
                if note.agent in epochs:
                    execute(rows.INSERT_HISTORY, rows.history_row(note, None, STATES[0], epochs[note.agent]))
                else:
                    _remark(self._connection, execute, note)
            _forget(execute, made)

    def agent(self, name_or_id: str) -> AgentRecord:
        """Return one agent, or its tombstone; see `seam.Ledger`."""
        found = self._connection.rows(
            f"SELECT {rows.AGENT_COLUMNS} FROM agents WHERE id = ? OR fold = ?",
            (rows.clean(name_or_id), rows.fold(name_or_id)),
        )
        if not found:
            raise _unknown(self._connection, "agent", name_or_id)
        return rows.read_agent(found[0])

    def agents(
        self, *, tenant: str | None = None, state: State | None = None, after: str = "", limit: int | None = None
    ) -> Iterator[AgentRecord]:
        """Yield agents in the order of their names; see `seam.Ledger`."""
        wanted: LiteralString = _LIVING if state is None else "state = :state"
        if tenant is not None:
            wanted = f"tenant = :tenant AND {wanted}"
        sql = (
            f"SELECT {rows.AGENT_COLUMNS}, fold FROM agents WHERE {wanted} AND fold > :after ORDER BY fold LIMIT :limit"
        )
        values = {"tenant": None if tenant is None else rows.clean(tenant), "state": state, "after": rows.fold(after)}
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            page = self._connection.rows(sql, {**values, "limit": size})
            yield from map(rows.read_agent, page)
            if len(page) < size:
                return
            values["after"] = page[-1][-1]
            left = None if left is None else left - size

    def counts(self) -> dict[State, int]:
        """Return how many agents are in each state."""
        found: dict[State, int] = dict(self._connection.rows("SELECT state, count(*) FROM agents GROUP BY state"))
        return {state: found.get(state, 0) for state in STATES}

    def children(self, agent: str) -> list[AgentRecord]:
        """Return the agents whose parent has this id, oldest first, tombstones included."""
        sql: LiteralString = f"SELECT {rows.AGENT_COLUMNS} FROM agents WHERE parent = ? ORDER BY agent"
        return [rows.read_agent(row) for row in self._connection.rows(sql, (rows.clean(agent),))]

    def move(
        self,
        before: AgentRecord,
        after: AgentRecord,
        note: Note,
        *,
        made: Sequence[Leftover] = (),
        left: Sequence[Leftover] = (),
    ) -> AgentRecord:
        """Change an agent, if nobody has moved it since `before` was read; see `seam.Ledger`."""
        if note.agent != before.id:
            raise InternalError(promise=f"the note of a move is about {before.name}")
        if after.state != before.state or before.state == "deleted":
            check_move(before.name, before.state, after.state)
        changed = rows.changes(before, after)
        sql: LiteralString = (
            f"UPDATE agents SET {', '.join(f'{column} = :{column}' for column in changed)}"
            f" WHERE id = :id AND state = :was AND epoch = :at RETURNING {rows.AGENT_COLUMNS}"
        )
        with self._connection.transaction() as execute:
            found = list(execute(sql, {**changed, "id": before.id, "was": before.state, "at": before.epoch}))
            if not found:
                raise _conflict(self._connection, before.id)
            execute(rows.INSERT_HISTORY, rows.history_row(note, before.state, after.state, after.epoch))
            _forget(execute, made)
            _leave(execute, left)
        return rows.read_agent(found[0])

    def note(self, note: Note) -> None:
        """Write into the history what touches no state; see `seam.Ledger`."""
        with self._connection.transaction() as execute:
            _remark(self._connection, execute, note)

    def history(self, name_or_id: str, *, last: int | None = None) -> list[MoveRecord]:
        """Return what was done to an agent or a template, oldest first; see `seam.Ledger`."""
        owner = self._connection.rows(
            "SELECT id, name FROM names WHERE id = ? OR fold = ?", (rows.clean(name_or_id), rows.fold(name_or_id))
        )
        if not owner:
            raise _unknown(self._connection, "agent or template", name_or_id)
        agent, name = owner[0]
        found = self._connection.rows(
            f"SELECT {rows.MOVE_COLUMNS} FROM history WHERE agent = ? ORDER BY move DESC LIMIT ?",
            (agent, -1 if last is None else max(0, last)),
        )
        return [rows.read_move(name, row) for row in reversed(found)]

    def touch(self, agent: str, now: int) -> None:
        """Record that the agent was active just now; see `seam.Ledger`."""
        self._set(agent, "UPDATE agents SET active = ? WHERE id = ? AND state <> 'deleted'", now, synced=False)

    def schedule(self, agent: str, wake: int | None) -> None:
        """Set when the agent must next wake; see `seam.Ledger`."""
        self._set(agent, "UPDATE agents SET wake = ? WHERE id = ? AND state <> 'deleted'", wake, synced=True)

    def ladder(self) -> Iterator[Rung]:
        """Yield every agent that the ladder may move; see `seam.Ledger`."""
        sql: LiteralString = (
            f"SELECT {rows.RUNG_COLUMNS}, agent FROM agents"
            " WHERE agent > ? AND state IN ('active', 'suspended') ORDER BY agent LIMIT ?"
        )
        for row in _pages(self._connection, sql, (), (0,)):
            yield Rung(*row[:-1])

    def due(self, now: int) -> Iterator[AgentRecord]:
        """Yield the agents that were to wake by `now`, the longest overdue first; see `seam.Ledger`."""
        sql: LiteralString = (
            f"SELECT {rows.AGENT_COLUMNS}, wake, agent FROM agents WHERE wake <= ? AND (wake, agent) > (?, ?)"
            " ORDER BY wake, agent LIMIT ?"
        )
        return map(rows.read_agent, _pages(self._connection, sql, (now,), (-(2**63), 0)))

    def changes(self, since: Mark, limit: int) -> Changes | None:
        """Return what has changed since a mark; see `seam.Ledger`."""
        with self._connection.one_view() as read:
            changed = list(read(rows.CHANGED, (since.change, limit)))
            moves = [rows.read_move(row[0], row[1:]) for row in read(rows.MOVES_SINCE, (since.move, limit))]
            if not changed and not moves:
                return None
            named = [change[1] for change in changed]
            agents = [rows.read_agent(row) for one in named for row in read(rows.AGENT_OF, (one,))]
            templates = [rows.read_template(row) for one in named for row in read(rows.TEMPLATE_OF, (one,))]
            wanted = dict.fromkeys([*named, *(move.agent for move in moves)])
            names = [Name(*row) for one in wanted for row in read(rows.NAME_OF, (one,))]
        there = {agent.id for agent in agents} | {template.id for template in templates}
        return Changes(
            mark=Mark(changed[-1][0] if changed else since.change, moves[-1].move if moves else since.move),
            names=names,
            agents=agents,
            templates=templates,
            dropped=[one for one in named if one not in there],
            moves=moves,
        )

    def take_over(self, changes: Changes) -> None:
        """Fill a new ledger with what another one knew; see `seam.Ledger`."""
        with self._connection.transaction() as execute:
            if list(execute("SELECT 1 FROM names LIMIT 1")):
                raise HomeRefused(path=os.path.dirname(self.path), reason="it has agents of its own")
            for name in changes.names:
                execute(rows.INSERT_NAME, {**msgspec.structs.asdict(name), "fold": rows.fold(name.name)})
            for agent in changes.agents:
                execute(rows.INSERT_AGENT, rows.agent_row(agent))
            for template in changes.templates:
                execute(rows.INSERT_TEMPLATE, rows.agent_row(template))
            for move in changes.moves:
                execute(rows.INSERT_HISTORY, rows.history_row(move, move.before, move.after, move.epoch))

    def reserve(self, leftovers: Iterable[Leftover]) -> None:
        """Name what is about to be made; see `seam.Ledger`."""
        named = list(leftovers)
        with self._connection.transaction() as execute:
            _leave(execute, named)

    def leftovers(self) -> list[Leftover]:
        """Return what may have been left behind, and settle what is in doubt; see `seam.Ledger`."""
        sql: LiteralString = f"SELECT {rows.LEFTOVER_COLUMNS} FROM leftovers ORDER BY since, place, agent"
        if not self._connection.rows(sql):
            return []
        with self._connection.transaction() as execute:
            # A commit whose sync failed is still in the log, past its end: by a restart it could come to count. One
            # that succeeds is written over it.
            execute("UPDATE meta SET settled = settled + 1")
            found = list(execute(sql))
        return [rows.read_leftover(row) for row in found]

    def release(self, leftovers: Iterable[Leftover]) -> None:
        """Forget leftovers that are gone; see `seam.Ledger`."""
        named = list(leftovers)
        with self._connection.transaction() as execute:
            _forget(execute, named)

    def close(self) -> None:
        """Give the ledger up; twice is once."""
        self._connection.close()

    def _set(self, agent: str, sql: LiteralString, value: int | None, *, synced: bool) -> None:
        with self._connection.transaction(synced=synced) as execute:
            if not list(execute(f"{sql} RETURNING 1", (value, rows.clean(agent)))):
                raise _conflict(self._connection, agent)


class _Templates:
    """The templates of a ledger (`seam.Templates`)."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, record: TemplateRecord, note: Note, *, made: Sequence[Leftover] = ()) -> None:
        """Register a template; see `seam.Templates`."""
        with self._connection.transaction() as execute:
            _take_names(self._connection, execute, [record])
            execute(rows.INSERT_TEMPLATE, rows.agent_row(record))
            _remark(self._connection, execute, note)
            _forget(execute, made)

    def get(self, name_or_id: str) -> TemplateRecord:
        """Return a template; see `seam.Templates`."""
        found = self._connection.rows(
            f"SELECT {rows.TEMPLATE_COLUMNS} FROM templates WHERE id = ? OR fold = ?",
            (rows.clean(name_or_id), rows.fold(name_or_id)),
        )
        if not found:
            raise _unknown(self._connection, "template", name_or_id)
        return rows.read_template(found[0])

    def all(self) -> list[TemplateRecord]:
        """Return every template, in the order of their names."""
        sql: LiteralString = f"SELECT {rows.TEMPLATE_COLUMNS} FROM templates ORDER BY fold"
        return [rows.read_template(row) for row in self._connection.rows(sql)]

    def drop(self, record: TemplateRecord, note: Note, *, left: Sequence[Leftover] = ()) -> None:
        """Forget a template; see `seam.Templates`."""
        with self._connection.transaction() as execute:
            if not list(execute("DELETE FROM templates WHERE id = ? RETURNING 1", (record.id,))):
                raise _unknown(self._connection, "template", record.name)
            _remark(self._connection, execute, note)
            _leave(execute, left)


def _unknown(connection: Connection, what: str, name: str) -> AgentUnknown:
    return AgentUnknown(name=name, what=what, home=os.path.dirname(connection.path))


def _conflict(connection: Connection, agent: str) -> AgentUnknown | MoveConflict:
    """Return why an agent could not be changed."""
    found = connection.rows("SELECT name, state FROM agents WHERE id = ?", (rows.clean(agent),))
    if not found:
        return _unknown(connection, "agent", agent)
    return MoveConflict(name=found[0][0], state=found[0][1])


def _pages(connection: Connection, sql: LiteralString, given: tuple[int, ...], after: tuple[int, ...]) -> Iterator[Row]:
    """Yield the rows of a query that ends in the columns of its order, a page at a time.

    Args:
        connection: where to ask.
        sql: with places for `given`, for the columns of its order, to begin behind, and for the number of rows.
        given: values that stay.
        after: where to begin.

    """
    while page := connection.rows(sql, (*given, *after, PAGE)):
        yield from page
        after = page[-1][-len(after) :]


def _take_names(connection: Connection, execute: _Execute, records: Sequence[AgentRecord | TemplateRecord]) -> None:
    """Give names away for ever.

    Raises:
        NameTaken: one is given away already.

    """
    for record in records:
        try:
            execute(rows.INSERT_NAME, rows.name_row(record))
        except apsw.ConstraintError:
            owner = connection.rows(
                "SELECT names.name, names.kind, agents.state, templates.id FROM names"
                " LEFT JOIN agents ON agents.id = names.id LEFT JOIN templates ON templates.id = names.id"
                " WHERE names.fold = :fold OR names.id = :fold",
                {"fold": rows.fold(record.name)},
            )
            if not owner:
                raise  # not the name, then, but the id, which is ours to make
            raise NameTaken(name=record.name, owner=_owner(*owner[0])) from None


def _owner(name: str, kind: str, state: str | None, template: str | None) -> str:
    if kind == "template":
        return f"the template {name}" if template else f"the template {name}, which was dropped"
    return f"the agent {name}, which was deleted" if state == "deleted" else f"the agent {name}"


def _remark(connection: Connection, execute: _Execute, note: Note) -> None:
    """Write an entry of the history that touches no state.

    Raises:
        AgentUnknown: it is about nobody.

    """
    found = connection.rows(
        "SELECT agents.epoch FROM names LEFT JOIN agents ON agents.id = names.id WHERE names.id = ?",
        (rows.clean(note.agent),),
    )
    if not found:
        raise _unknown(connection, "agent or template", note.agent)
    execute(rows.INSERT_HISTORY, rows.history_row(note, None, None, found[0][0]))


def _forget(execute: _Execute, leftovers: Iterable[Leftover]) -> None:
    for leftover in leftovers:
        execute(rows.DELETE_LEFTOVER, msgspec.structs.asdict(leftover))


def _leave(execute: _Execute, leftovers: Iterable[Leftover]) -> None:
    for leftover in leftovers:
        execute(rows.INSERT_LEFTOVER, msgspec.structs.asdict(leftover))
