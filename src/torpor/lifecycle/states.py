"""The states of an agent and the edges between them: one table, from which the documents are made too."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, get_args

from torpor.base.errors import MoveRefused

State = Literal["created", "active", "suspended", "frozen", "archived", "deleted"]
"""Where an agent is in its life."""

STATES: Final[tuple[State, ...]] = get_args(State)
"""Every state, in the order in which an agent ages."""

EDGES: Final[Mapping[State, tuple[State, ...]]] = MappingProxyType(
    {
        "created": ("active",),
        "active": ("suspended", "archived"),
        "suspended": ("active", "frozen"),
        "frozen": ("active", "archived"),
        "archived": ("active", "deleted"),
        "deleted": (),
    }
)
"""What each state may become. Nothing else is a move."""

VERBS: Final[Mapping[State, str]] = MappingProxyType(
    {
        "created": "new",
        "active": "wake",
        "suspended": "suspend",
        "frozen": "freeze",
        "archived": "archive",
        "deleted": "delete",
    }
)
"""What is done to an agent to bring it into each state."""


def check_move(name: str, state: State, asked: State) -> None:
    """Refuse a move that is no edge.

    Args:
        name: the agent, for the error.
        state: where it is.
        asked: where it is to go.

    Raises:
        MoveRefused: nothing leads from `state` to `asked`; the error names what does lead on.

    """
    legal = EDGES[state]
    if asked not in legal:
        known = " or ".join(legal) if legal else f"nothing, for it is {state} for ever"
        raise MoveRefused(name=name, state=state, asked=asked, legal=known)


def diagram() -> str:
    """Return the edges as a Mermaid state diagram."""
    first, last = STATES[0], STATES[-1]
    lines = ["stateDiagram-v2", f"    [*] --> {first}: {VERBS[first]}"]
    lines += [f"    {state} --> {to}: {VERBS[to]}" for state, edges in EDGES.items() for to in edges]
    return "\n".join([*lines, f"    {last} --> [*]"])


def table() -> str:
    """Return the edges as a Markdown table."""
    lines = ["| from | to | by |", "|---|---|---|"]
    lines += [f"| {state} | {to} | {VERBS[to]} |" for state, edges in EDGES.items() for to in edges]
    lines += [f"| {state} | nothing | |" for state, edges in EDGES.items() if not edges]
    return "\n".join(lines)
