"""Torpor: a durable runtime for AI agents in which an agent is one file.

General layout: `base` (words all share), `workbook` (the file), `lifecycle`, `ledger` and `home` (a folder of agents
that sleep, wake and multiply), `runtime` (durable runs) beside `models`, then `skills` (agents in the box), `service`
(use cases), `gateways` (the command line) and `main` (where they meet). ARCHITECTURE.md tells how a write, a move and
a recovery go through them.

Names are loaded when they are first used, so that importing the package costs almost nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torpor.base.errors import (
        EffectRefused,
        RunCancelled,
        StepFailed,
        TorporError,
        UnknownOutcome,
    )
    from torpor.home import Home
    from torpor.runtime import Agent, Happened, Run, effect, gather, on, run, step
    from torpor.workbook import Embedding, Event, Workbook

_ROOMS = {
    "torpor.base.errors": (
        "EffectRefused",
        "RunCancelled",
        "StepFailed",
        "TorporError",
        "UnknownOutcome",
    ),
    "torpor.home": ("Home",),
    "torpor.runtime": ("Agent", "Happened", "Run", "effect", "gather", "on", "run", "step"),
    "torpor.workbook": ("Embedding", "Event", "Workbook"),
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "Agent",
    "EffectRefused",
    "Embedding",
    "Event",
    "Happened",
    "Home",
    "Run",
    "RunCancelled",
    "StepFailed",
    "TorporError",
    "UnknownOutcome",
    "Workbook",
    "effect",
    "gather",
    "on",
    "run",
    "step",
]


def __getattr__(name: str) -> Any:
    room = _HOMES.get(name)
    if room is None:
        raise AttributeError(f"module 'torpor' has no attribute {name!r}")
    value = getattr(importlib.import_module(room), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
