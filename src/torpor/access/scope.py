"""What a credential reaches: rights, a tenant, agents and a time, and how two such scopes are put together.

A scope is a set: of all (right, tenant, agent, moment) that it allows. The four parts are independent, so two scopes
are met part by part, and one covers another if each of its parts does. That is all the algebra there is; it knows no
clock, no file and no token.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, get_args

import msgspec

Right = Literal["read", "write", "admin"]
"""read: look. write: have agents do something. admin: anything; it contains the other two, which don't contain each
other."""

RIGHTS: Final[frozenset[Right]] = frozenset(get_args(Right))


class Scope(msgspec.Struct, frozen=True):
    """What may be done, to whom, until when. What allows nothing is always equal to `NOTHING`.

    Attributes:
        rights: with admin, the others are added.
        tenant: only agents that work for this tenant; None for all, also those that work for nobody in particular.
        agents: only the agents with these ids; None for all.
        until: the first moment at which it doesn't hold any more, µs since 1970 UTC; None for never.

    """

    rights: frozenset[Right]
    tenant: str | None = None
    agents: frozenset[str] | None = None
    until: int | None = None

    def __post_init__(self) -> None:
        """Bring it into the one form of what it means."""
        if not self.rights or self.agents == frozenset():
            form: dict[str, object] = {"rights": frozenset(), "tenant": None, "agents": frozenset(), "until": None}
        elif "admin" in self.rights:
            form = {"rights": RIGHTS}
        else:
            return
        for name, value in form.items():
            msgspec.structs.force_setattr(self, name, value)

    @property
    def whole(self) -> bool:
        """Whether all agents are in it, and so the node as a whole."""
        return self.tenant is None and self.agents is None

    def lasts(self, now: int) -> bool:
        """Report whether it still holds at a moment (µs since 1970 UTC)."""
        return self.until is None or now < self.until

    def sees(self, agent: str, tenant: str) -> bool:
        """Report whether an agent is in it.

        Args:
            agent: its id.
            tenant: for whom it works.

        """
        return (self.tenant is None or tenant == self.tenant) and (self.agents is None or agent in self.agents)

    def meet(self, other: Scope) -> Scope:
        """Return what both allow."""
        if self.tenant is not None and other.tenant is not None and self.tenant != other.tenant:
            return NOTHING
        return Scope(
            rights=self.rights & other.rights,
            tenant=other.tenant if self.tenant is None else self.tenant,
            agents=_both(self.agents, other.agents),
            until=min((each for each in (self.until, other.until) if each is not None), default=None),
        )

    def covers(self, other: Scope) -> bool:
        """Report whether it allows all that another one does."""
        return self.meet(other) == other

    def unending(self) -> Scope:
        """Return the same without an end."""
        return msgspec.structs.replace(self, until=None)


def _both(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    if one is None or other is None:
        return other if one is None else one
    return one & other


NOTHING: Final = Scope(frozenset())
EVERYTHING: Final = Scope(RIGHTS)


def scope_of(
    rights: Iterable[Right], *, tenant: str | None = None, agents: Iterable[str] | None = None, until: int | None = None
) -> Scope:
    """Return the scope of these parts; see `Scope`."""
    return Scope(frozenset(rights), tenant, None if agents is None else frozenset(agents), until)
