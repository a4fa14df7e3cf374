"""The one point at which tenants are kept apart: what a decision reaches of the ledger and of the bus.

**On the way in**, a name or an id is looked up here, and what is out of the decision's scope is answered exactly like
what there isn't. **On the way out**, every record passes here, also of lists, and loses what tells of others: the agent
that it was forked from, or its template was, if that one is out of the scope. A stream asks `sees` of every event.

Templates belong to nobody, and have what some agent knew, so only who has all agents in his scope sees them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from torpor.access.gate import Decision
from torpor.access.scope import Scope
from torpor.base.errors import AgentUnknown
from torpor.ledger import AgentRecord, Ledger, MoveRecord, TemplateRecord
from torpor.lifecycle import STATES, State

_TOLD: frozenset[str] = frozenset({"at", "event", "to", "how", "stored", "txn", "with_memory"})
"""What the history tells to who doesn't see all agents. The rest is paths, stores and names, which may be of others."""


class Tenancy:
    """Gives views of a ledger.

    Args:
        ledger: the ledger.
        home: the home's folder, for errors about agents.

    """

    def __init__(self, ledger: Ledger, home: str) -> None:
        self._ledger = ledger
        self._home = home

    def scope(self, decision: Decision) -> View:
        """Return what a decision reaches.

        Raises:
            TorporError: it is a refusal; see `Decision.demand`.

        """
        return View(self._ledger, self._home, decision.demand().scope)


class View:
    """What one scope has of a ledger: the questions of `Ledger` that anybody may ask, with its errors."""

    def __init__(self, ledger: Ledger, home: str, scope: Scope) -> None:
        self._ledger = ledger
        self._home = home
        self.scope = scope

    def sees(self, agent: str, tenant: str) -> bool:
        """Report whether an agent is in it: for each event of a stream. O(1).

        Args:
            agent: its id.
            tenant: for whom it works.

        """
        return bool(self.scope.rights) and self.scope.sees(agent, tenant)

    def agent(self, name_or_id: str) -> AgentRecord:
        """Return one agent, or the tombstone of one that was deleted.

        Raises:
            AgentUnknown: there never was one, or it is out of the scope.

        """
        return self._shown(self._known(name_or_id))

    def agents(self, *, state: State | None = None, after: str = "", limit: int | None = None) -> Iterator[AgentRecord]:
        """Yield agents in the order of their names.

        Args:
            state: only those in this state; without one, all but the deleted.
            after: only those whose name comes after this one.
            limit: at most so many.

        """
        found = self._ledger.agents(tenant=self.scope.tenant, state=state, after=after)
        if self.scope.agents is not None:
            found = self._named(state, after)
        for count, record in enumerate(record for record in found if self.sees(record.id, record.tenant)):
            if limit is not None and count >= limit:
                return
            yield self._shown(record)

    def counts(self) -> dict[State, int]:
        """Return how many agents are in each of the six states."""
        if self.scope.whole and self.scope.rights:
            return self._ledger.counts()
        found = Counter(record.state for state in STATES for record in self.agents(state=state))
        return {state: found[state] for state in STATES}

    def children(self, agent: str) -> list[AgentRecord]:
        """Return the agents whose parent has this id, oldest first, tombstones included.

        Raises:
            AgentUnknown: there never was such an agent, or it is out of the scope.

        """
        parent = self._known(agent)
        found = self._ledger.children(parent.id)
        return [self._shown(record) for record in found if self.sees(record.id, record.tenant)]

    def history(self, name_or_id: str, *, last: int | None = None) -> list[MoveRecord]:
        """Return what was done to an agent, oldest first.

        Args:
            name_or_id: whose history.
            last: only the newest so many.

        Raises:
            AgentUnknown: there never was such an agent, or it is out of the scope.

        """
        found = self._ledger.history(self._known(name_or_id).id, last=last)
        if self.scope.whole:
            return found
        return [
            msgspec.structs.replace(move, details={name: move.details[name] for name in move.details if name in _TOLD})
            for move in found
        ]

    def templates(self) -> list[TemplateRecord]:
        """Return every template, in the order of their names; none if the scope isn't all agents."""
        return self._ledger.templates.all() if self.scope.whole and self.scope.rights else []

    def _known(self, name_or_id: str) -> AgentRecord:
        record = self._ledger.agent(name_or_id)
        if not self.sees(record.id, record.tenant):
            raise AgentUnknown(name=name_or_id, what="agent", home=self._home)
        return record

    def _named(self, state: State | None, after: str) -> Iterator[AgentRecord]:
        """Yield the agents that the scope names, without asking for all others."""
        records = []
        for agent in self.scope.agents or ():
            try:
                record = self._ledger.agent(agent)
            except AgentUnknown:
                continue  # from another home, or of none
            if record.id == agent and (record.state == state if state else record.state != "deleted"):
                records.append(record)
        records.sort(key=lambda record: record.name.casefold())
        yield from (record for record in records if record.name.casefold() > after.casefold())

    def _shown(self, record: AgentRecord) -> AgentRecord:
        """Return a record without what tells of agents that are out of the scope."""
        if self.scope.whole or record.parent is None:
            return record
        try:
            self._known(record.parent)
        except AgentUnknown:
            return msgspec.structs.replace(record, parent=None, parent_seq=None)
        return record
