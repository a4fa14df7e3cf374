"""What the inspector asks others for, as narrow as it can be; the node, the bus and whoever has processes fulfil it.

Any thread asks. So what is asked for is one value, or is put together in one step of the interpreter, as `list(…)` of a
dictionary's values is; and it never takes longer because more messages wait, or because somebody is busy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

import msgspec

from torpor.node.meter import Account

LABEL: Final = "agent:"
"""What an agent's label begins with, where owners of many kinds have one."""

NODE: Final = "node"
"""The label of what belongs to the node itself."""


class Mailbox(Protocol):
    """How much waits for an agent."""

    @property
    def depth(self) -> int:
        """How many messages wait."""
        ...

    @property
    def oldest(self) -> int | None:
        """When the oldest of them was received, µs UTC; None where none waits."""
        ...


class Actor(Protocol):
    """An active agent."""

    @property
    def name(self) -> str:
        """The agent's name."""
        ...

    @property
    def tenant(self) -> str:
        """Whose it is."""
        ...

    @property
    def state(self) -> str:
        """What it is doing, in a word."""
        ...

    @property
    def account(self) -> Account:
        """What its tasks count for."""
        ...

    @property
    def mailbox(self) -> Mailbox | None:
        """What waits for it; None while its workbook is closed, which is where that stands."""
        ...

    @property
    def memory(self) -> int | None:
        """Bytes that are known to be its; None where nobody knows."""
        ...


class Begun(msgspec.Struct, frozen=True):
    """A child process that somebody has begun.

    Attributes:
        owner: the owner's label.
        pid: its id.
        what: what it does, in a few words.
        began: `Usage.began` of it, by which another one of the same id is known; 0 where nobody asked.

    """

    owner: str
    pid: int
    what: str
    began: int = 0


Actors = Callable[[], Iterable[Actor]]
"""Returns the active agents, as they are now."""

Subscriptions = Callable[[], Mapping[str, int]]
"""Returns how many subscriptions each owner has, by the owner's label."""

Children = Callable[[], Iterable[Begun]]
"""Returns the child processes that have been begun and not been taken leave of."""
