"""The records of the seam as rows of the tables, and back."""

from __future__ import annotations

import json
from typing import Any, Final, LiteralString

import msgspec

from torpor.base.errors import InternalError
from torpor.ledger.connection import Row
from torpor.ledger.seam import AgentRecord, Leftover, MoveRecord, Note, Rung, TemplateRecord


def _names(record: type[msgspec.Struct]) -> tuple[LiteralString, ...]:
    """Return the fields of a record, which are columns of its table."""
    return record.__struct_fields__


def _insert(table: LiteralString, columns: tuple[LiteralString, ...]) -> LiteralString:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(f':{name}' for name in columns)})"


_AGENT: Final = _names(AgentRecord)
_TEMPLATE: Final = _names(TemplateRecord)
_LEFTOVER: Final = _names(Leftover)
_HISTORY: Final[tuple[LiteralString, ...]] = (*_names(Note), "before", "after", "epoch")

AGENT_COLUMNS: Final[LiteralString] = ", ".join(_AGENT)
TEMPLATE_COLUMNS: Final[LiteralString] = ", ".join(_TEMPLATE)
LEFTOVER_COLUMNS: Final[LiteralString] = ", ".join(_LEFTOVER)
MOVE_COLUMNS: Final[LiteralString] = ", ".join((*_HISTORY, "move"))
RUNG_COLUMNS: Final[LiteralString] = ", ".join(_names(Rung))

INSERT_NAME: Final = _insert("names", ("fold", "name", "id", "kind"))
INSERT_AGENT: Final = _insert("agents", (*_AGENT, "fold"))
INSERT_TEMPLATE: Final = _insert("templates", (*_TEMPLATE, "fold"))
INSERT_HISTORY: Final = _insert("history", _HISTORY)
INSERT_LEFTOVER: Final[LiteralString] = (
    f"{_insert('leftovers', _LEFTOVER)}"
    " ON CONFLICT (place, agent) DO UPDATE SET claim = excluded.claim, since = excluded.since"
)
DELETE_LEFTOVER: Final = "DELETE FROM leftovers WHERE place = :place AND agent = :agent"

CHANGED: Final = "SELECT change, id FROM changed WHERE change > ? ORDER BY change LIMIT ?"
NAME_OF: Final = "SELECT id, name, kind FROM names WHERE id = ?"
AGENT_OF: Final[LiteralString] = f"SELECT {AGENT_COLUMNS} FROM agents WHERE id = ?"
TEMPLATE_OF: Final[LiteralString] = f"SELECT {TEMPLATE_COLUMNS} FROM templates WHERE id = ?"
MOVES_SINCE: Final[LiteralString] = (
    f"SELECT names.name, {', '.join(f'history.{name}' for name in _HISTORY)}, history.move"
    " FROM history JOIN names ON names.id = history.agent WHERE history.move > ? ORDER BY history.move LIMIT ?"
)

_IDENTITY: Final = ("id", "name", "tenant", "template", "parent", "parent_seq", "created")
_STATE: Final[tuple[LiteralString, ...]] = tuple(name for name in _AGENT if name not in _IDENTITY)
_CLEARED: Final = {
    "file": "", "cold": None, "archive": None, "digest": None, "wake": None, "bytes": 0, "seq": 0, "head": ""
}  # fmt: skip
"""What a tombstone doesn't keep, whatever it was."""


def clean(text: str) -> str:
    """Return a text that can be stored: what is no character (half of a pair, from a file's name) becomes `?`."""
    return text.encode(errors="replace").decode()


def fold(name: str) -> str:
    """Return what two names have in common that count as the same."""
    return clean(name).casefold()


def name_row(record: AgentRecord | TemplateRecord) -> dict[str, Any]:
    """Return the row by which a name is taken."""
    kind = "agent" if isinstance(record, AgentRecord) else "template"
    return {"fold": fold(record.name), "name": record.name, "id": record.id, "kind": kind}


def agent_row(record: AgentRecord | TemplateRecord) -> dict[str, Any]:
    """Return the row of an agent or a template."""
    return {**msgspec.structs.asdict(record), "fold": fold(record.name)}


def history_row(note: Note, before: str | None, after: str | None, epoch: int | None) -> dict[str, Any]:
    """Return the row of an entry of the history.

    Args:
        note: what is to be said.
        before: the state before, where one was touched.
        after: the state since.
        epoch: the agent's epoch since, if it is an agent.

    """
    return {
        **{name: getattr(note, name) for name in _names(Note)},
        "who": clean(note.who),
        "why": clean(note.why),
        "details": clean(json.dumps(note.details, ensure_ascii=False, allow_nan=False)),
        "before": before,
        "after": after,
        "epoch": epoch,
    }


def changes(before: AgentRecord, after: AgentRecord) -> dict[LiteralString, Any]:
    """Return the columns in which an agent is to change, always with its state.

    Raises:
        InternalError: it would be another agent, or an earlier epoch of it.

    """
    if any(getattr(before, name) != getattr(after, name) for name in _IDENTITY):
        raise InternalError(promise=f"a move leaves {before.name} the agent that it is")
    if after.epoch < before.epoch:
        raise InternalError(promise=f"the epoch of {before.name} doesn't fall from {before.epoch} to {after.epoch}")
    found = {
        name: getattr(after, name)
        for name in _STATE
        if name == "state" or getattr(before, name) != getattr(after, name)
    }
    return {**found, **_CLEARED} if after.state == "deleted" else found


def read_agent(row: Row) -> AgentRecord:
    """Return the agent of a row that begins with `AGENT_COLUMNS`."""
    return AgentRecord(**dict(zip(_AGENT, row, strict=False)))


def read_template(row: Row) -> TemplateRecord:
    """Return the template of a row of `TEMPLATE_COLUMNS`."""
    return TemplateRecord(**dict(zip(_TEMPLATE, row, strict=True)))


def read_leftover(row: Row) -> Leftover:
    """Return the leftover of a row of `LEFTOVER_COLUMNS`."""
    return Leftover(**dict(zip(_LEFTOVER, row, strict=True)))


def read_move(name: str, row: Row) -> MoveRecord:
    """Return the entry of the history, about what is called `name`, of a row of `MOVE_COLUMNS`."""
    values = dict(zip((*_HISTORY, "move"), row, strict=True))
    return MoveRecord(**{**values, "name": name, "details": msgspec.json.decode(values["details"])})
