"""How an agent gets back to work: by which of its copies, or not at all. Never as an empty agent."""

from __future__ import annotations

from typing import Final, Literal

from torpor.base.errors import CopyMissing
from torpor.lifecycle.states import State, check_move

Resume = Literal["warm", "cached", "cold"]
"""A wake: nothing to do, by the local file, or by a copy that a store brings back."""

_WHERE: Final = {"frozen": "cold store", "archived": "archive"}


def resume_plan(name: str, state: State, *, opened: bool, local: bool, cold: bool, archived: bool) -> Resume:
    """Return by which copy an agent wakes.

    A frozen or archived agent may have a local file too: prefetched, or restored by a wake that was cut short. It is
    used, since it is the same agent or a later one of it; that, and nothing less, is what `local` says.

    Args:
        name: the agent, for the error.
        state: where the ledger says it is.
        opened: this process has it open already.
        local: its file is there, is this agent's, and has everything that the ledger knows of.
        cold: the ledger names a copy in a cold store.
        archived: the ledger names a copy in an archive.

    Raises:
        MoveRefused: it is deleted.
        CopyMissing: there is no copy to wake it from.

    """
    if state == "deleted":
        check_move(name, state, "active")
    if opened:
        return "warm"
    if local:
        return "cached"
    if (state == "frozen" and cold) or (state == "archived" and archived):
        return "cold"
    reason = f"it is {state}, and {'the ledger names no copy' if state in _WHERE else 'its file is not there'}"
    raise CopyMissing(name=name, place=f"its place in the {_WHERE.get(state, 'home')}", reason=reason)
