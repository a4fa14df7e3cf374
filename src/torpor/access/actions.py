"""What can be asked of a node, and which right each needs: the one table for HTTP, the command line and all to come.

What isn't in the table is refused. `about` says what an action touches, and so what `Target` it takes:

- open: nothing that anybody must be kept from; no credential is needed.
- node: the node as a whole. Only a scope with all agents reaches it.
- tenant: something new, made for a tenant. A scope with some agents only doesn't reach it.
- agents: as many agents as the scope has, such as a list or a stream. The answer must be read through
  `Tenancy.scope(decision)`.
- agent: one agent.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from torpor.access.scope import Right

About = Literal["open", "node", "tenant", "agents", "agent"]


class Action(msgspec.Struct, frozen=True):
    """Something that can be asked for.

    Attributes:
        name: as `Gate.decide` takes it.
        about: what it touches.
        right: what is needed for it.
        audited: whether also the allowed ones are put into the audit, before they are done. All refusals are; and the
            desk tells itself of what it does with tokens.

    """

    name: str
    about: About
    right: Right
    audited: bool = False


class Target(msgspec.Struct, frozen=True):
    """What an action is asked for.

    Attributes:
        agent: an agent's name or id, as it was given; for actions about one agent.
        tenant: for whom something is made, or whose agents are meant; None for whatever the scope says.

    """

    agent: str | None = None
    tenant: str | None = None


ANY: Final = Target()
"""The node, or all that the scope has."""

_TABLE: Final[tuple[tuple[About, Right, bool, str], ...]] = (
    ("open", "read", False, "node.live node.ready node.started tokens.join"),
    ("node", "read", False, "node.status node.inspect heartbeat.read templates.read"),
    ("node", "admin", True, "node.stop node.tick heartbeat.drill templates.write audit.read"),
    ("node", "admin", False, "tokens.invite"),
    ("agents", "read", False, "agents.list events.follow"),
    ("agents", "admin", False, "tokens.list tokens.issue tokens.revoke"),
    ("tenant", "write", False, "agents.new"),
    ("tenant", "admin", True, "agents.import"),
    ("agent", "read", False, "agents.read events.read events.verify files.read memory.read runs.read"),
    ("agent", "write", False, "agents.call agents.send agents.wake agents.suspend agents.prefetch agents.fork"),
    ("agent", "write", False, "events.append files.write memory.write runs.settle runs.cancel"),
    ("agent", "admin", True, "agents.bind agents.freeze agents.archive agents.delete agents.rewind agents.restore"),
    ("agent", "admin", True, "agents.export"),
)

ACTIONS: Final[dict[str, Action]] = {
    name: Action(name, about, right, audited) for about, right, audited, names in _TABLE for name in names.split()
}
"""Every action, by its name."""
