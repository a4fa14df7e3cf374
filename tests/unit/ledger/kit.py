"""Agents, templates and notes for tests of ledgers, and a ledger's whole content to compare."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from torpor.base.ids import format_id
from torpor.ledger import AgentRecord, Ledger, Leftover, Note, TemplateRecord, Verb
from torpor.lifecycle import STATES, VERBS, State

NOW = 1_700_000_000_000_000
"""µs since 1970 UTC."""

HASH = "ab" * 32

WAY: dict[State, tuple[State, ...]] = {
    "created": (),
    "active": ("active",),
    "suspended": ("active", "suspended"),
    "frozen": ("active", "suspended", "frozen"),
    "archived": ("active", "archived"),
    "deleted": ("active", "archived", "deleted"),
}
"""By which moves an agent gets from created to each state."""


def id_of(name: str) -> str:
    return format_id(hashlib.sha256(name.encode()).digest()[:16])


def agent(name: str = "ada", **more: Any) -> AgentRecord:
    return AgentRecord(
        **{"id": id_of(name), "name": name, "file": f"agents/{name}.workbook", "created": NOW, "active": NOW, **more}
    )


def template(name: str = "base", **more: Any) -> TemplateRecord:
    file = f"templates/{name}.workbook"
    fields = {"bytes": 100, "mtime_ns": NOW * 1000, "inode": 7, "digest": HASH, "created": NOW}
    return TemplateRecord(**{"id": id_of(name), "name": name, "file": file, **fields, **more})


def note(agent: str, verb: Verb = "new", **more: Any) -> Note:
    return Note(**{"agent": agent, "verb": verb, "who": "test", "time": NOW, **more})


def leftover(place: str, agent: str = "a1", **more: Any) -> Leftover:
    return Leftover(**{"place": place, "agent": agent, "claim": "agents/ada.workbook", "since": NOW, **more})


def becoming(record: AgentRecord, state: State) -> AgentRecord:
    """Return `record` as it is to be in `state`."""
    away = state in ("frozen", "archived")
    return msgspec.structs.replace(
        record,
        state=state,
        epoch=record.epoch + (state == "active"),
        cold=f"file:///cold#{record.id}/{record.epoch}.workbook" if state == "frozen" else None,
        archive=f"file:///archive#{record.id}/{record.epoch}.workbook.zst" if state == "archived" else None,
        digest=HASH if away else None,
    )


def verb_to(state: State) -> Verb:
    verb: Verb = msgspec.convert(VERBS[state], type=Verb)
    return verb


def move(ledger: Ledger, before: AgentRecord, state: State, **more: Any) -> AgentRecord:
    """Move an agent along one edge."""
    return ledger.move(before, becoming(before, state), note(before.id, verb_to(state)), **more)


def add(ledger: Ledger, *records: AgentRecord, **more: Any) -> None:
    ledger.add(records, [note(record.id) for record in records], **more)


def bring(ledger: Ledger, state: State, name: str = "ada", **more: Any) -> AgentRecord:
    """Add an agent and bring it into a state."""
    record = agent(name, **more)
    add(ledger, record)
    for step in WAY[state]:
        record = move(ledger, record, step)
    return record


def content(ledger: Ledger, *, activity: bool = True, settled: bool = True) -> Any:
    """Return everything that a ledger says, as plain data.

    Args:
        ledger: which.
        activity: with the last activities, which a power cut may take.
        settled: with the leftovers, whose reading writes.

    """
    agents = [record for state in STATES for record in ledger.agents(state=state)]
    told = [*(record.name for record in agents), *(record.name for record in ledger.templates.all())]
    return msgspec.to_builtins(
        {
            "agents": [record if activity else msgspec.structs.replace(record, active=0) for record in agents],
            "found": [ledger.agent(name).id for name in told[: len(agents)]],
            "counts": ledger.counts(),
            "children": ledger.children("p"),
            "ladder": [rung.id for rung in ledger.ladder()],
            "templates": ledger.templates.all(),
            "history": {name: ledger.history(name) for name in told},
            "leftovers": ledger.leftovers() if settled else [],
        }
    )
