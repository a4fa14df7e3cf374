"""Tenants are kept apart, on the way in and on the way out: against a plain filter, over ledgers made at random."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.access.kit import Lab, ids, lab
from tests.unit.ledger.kit import HASH, add, agent, id_of, move, note, template

from torpor.access import NOTHING, Decision, Scope, Tenancy, View, scope_of
from torpor.base.errors import AccessDenied, AgentUnknown, TorporError
from torpor.ledger import AgentRecord, SqliteLedger
from torpor.lifecycle import STATES, State

HOME = "/somewhere"
NAMES = ("ada", "Bob", "cyd", "Dan", "eve", "Fay")
TENANTS = ("", "acme", "Acme", "rival")


def decided(scope: Scope) -> Decision:
    return Decision(allowed=True, action="agents.list", who="test", at=0, scope=scope)


def view(ledger: SqliteLedger, scope: Scope) -> View:
    return Tenancy(ledger, HOME).scope(decided(scope))


ledgers = st.lists(
    st.tuples(st.sampled_from(TENANTS), st.sampled_from(STATES), st.integers(0, 5)), min_size=6, max_size=6
)
scopes = st.builds(
    lambda tenant, agents: scope_of(["read"], tenant=tenant, agents=agents),
    st.sampled_from([None, *TENANTS]),
    st.none() | st.sets(st.sampled_from([*ids(*NAMES), "an id of another home"]), min_size=1),
)


def made(ledger: SqliteLedger, parts: list[tuple[str, State, int]]) -> list[AgentRecord]:
    """Fill a ledger with agents, each of a tenant, brought into a state, and forked from an earlier one, perhaps."""
    way: dict[State, tuple[State, ...]] = {
        "created": (), "active": ("active",), "suspended": ("active", "suspended"),
        "frozen": ("active", "suspended", "frozen"), "archived": ("active", "archived"),
        "deleted": ("active", "archived", "deleted"),
    }  # fmt: skip
    for number, (name, (tenant, state, parent)) in enumerate(zip(NAMES, parts, strict=True)):
        lineage = {"parent": id_of(NAMES[parent]), "parent_seq": 3} if parent < number else {}
        add(ledger, agent(name, tenant=tenant, **lineage))
        for step in way[state]:
            move(ledger, ledger.agent(name), step)
    return [ledger.agent(name) for name in NAMES]


@settings(max_examples=60, deadline=None)
@given(ledgers, scopes)
def test_a_view_has_what_a_plain_filter_has(parts: list[tuple[str, State, int]], scope: Scope) -> None:
    with tempfile.TemporaryDirectory() as folder, closing(SqliteLedger.open(Path(folder) / "ledger.db")) as ledger:
        records = made(ledger, parts)
        there = view(ledger, scope)
        seen = {
            record.id: record
            for record in records
            if scope.tenant in (None, record.tenant) and (scope.agents is None or record.id in scope.agents)
        }

        def shown(record: AgentRecord) -> AgentRecord:
            known = scope.whole or record.parent in seen
            return record if known else msgspec.structs.replace(record, parent=None, parent_seq=None)

        in_order = sorted(seen.values(), key=lambda record: record.name.casefold())
        living = [shown(record) for record in in_order if record.state != "deleted"]
        assert list(there.agents()) == living
        for state in STATES:
            assert list(there.agents(state=state)) == [shown(each) for each in in_order if each.state == state]
        assert list(there.agents(limit=2)) == living[:2]
        assert list(there.agents(after="CYD")) == [each for each in living if each.name.casefold() > "cyd"]
        assert there.counts() == {state: sum(each.state == state for each in in_order) for state in STATES}
        for record in records:
            assert there.sees(record.id, record.tenant) == (record.id in seen)
            for known_as in (record.id, record.name, record.name.swapcase()):
                if record.id in seen:
                    assert there.agent(known_as) == shown(record)
                    told = there.history(known_as)
                    assert [(each.move, each.verb) for each in told] == [
                        (each.move, each.verb) for each in ledger.history(record.id)
                    ]
                    children = [shown(each) for each in ledger.children(record.id) if each.id in seen]
                    assert there.children(known_as) == children
                else:
                    for asked in (there.agent, there.history, there.children):
                        with pytest.raises(AgentUnknown):
                            asked(known_as)


def test_nothing_has_nothing(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        base = template()
        there.ledger.templates.add(base, note(base.id, "template"))
        empty = view(there.ledger, NOTHING)
        assert not [*empty.agents(), *empty.templates()]
        assert not any(empty.counts().values())
        for name in ("ada", "zoe"):
            with pytest.raises(AgentUnknown):
                empty.agent(name)


def test_only_who_has_all_agents_sees_templates(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        base = template(parent=id_of("ada"), parent_seq=2)
        there.ledger.templates.add(base, note(base.id, "template"))
        assert view(there.ledger, scope_of(["read"])).templates() == [base]
        for scope in (scope_of(["admin"], tenant="acme"), scope_of(["admin"], agents=ids("ada"))):
            assert view(there.ledger, scope).templates() == []


def test_a_templates_name_is_no_agent(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        base = template()
        there.ledger.templates.add(base, note(base.id, "template"))
        for scope in (scope_of(["read"]), scope_of(["read"], tenant="acme")):
            with pytest.raises(AgentUnknown):
                view(there.ledger, scope).history("base")


def test_what_the_history_says_of_others_stays_inside(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        eve = there.ledger.agent("eve")
        details = {"parent": "a rival's agent", "at": 3, "place": "s3://bucket/cold/1", "file": "/srv/x", "to": 9}
        there.ledger.move(eve, msgspec.structs.replace(eve, seq=9, head=HASH), note(eve.id, "rewind", details=details))
        assert view(there.ledger, scope_of(["read"])).history("eve")[-1].details == details
        assert view(there.ledger, scope_of(["read"], tenant="rival")).history("eve")[-1].details == {"at": 3, "to": 9}


def test_a_refusal_gives_no_view(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        refused = there.ask(there.issue(scope_of(["write"])), "agents.list")
        with pytest.raises(AccessDenied):
            there.access.tenancy.scope(refused)


def answers(there: Lab, who: str, names: list[str]) -> list[object]:
    """Return what a tenant gets to see of others, by every way there is, with the names taken out."""
    found: list[object] = []
    for action in ("agents.read", "events.read", "agents.send", "agents.archive"):
        for name in names:
            decision = there.ask(who, action, agent=name)
            assert decision.error is not None
            found.append((decision.allowed, decision.error.code, str(decision.error).replace(name, "…")))
    reach = there.access.tenancy.scope(there.ask(who, "agents.list"))
    for name in names:
        for asked in (reach.agent, reach.history, reach.children):
            try:
                found.append(asked(name))
            except TorporError as error:
                found.append((error.code, str(error).replace(name, "…")))
    found.append([each.name for each in reach.agents()])
    found.append(reach.counts())
    return found


def test_two_homes_that_differ_in_another_tenants_agents_look_the_same(tmp_path: Path) -> None:
    """Nothing that a tenant can ask tells whether others have agents, or which."""
    results = []
    for number, others in enumerate((["xan", "yul"], [])):
        folder = tmp_path / str(number)
        folder.mkdir()
        with lab(folder) as there:
            add(there.ledger, *(agent(name, tenant="rival") for name in others))
            token = there.issue(scope_of(["admin"], tenant="acme")).text
            results.append(answers(there, token, ["xan", "yul", id_of("xan")]))
    here, elsewhere = (str(result).replace(str(tmp_path / str(n)), "HOME") for n, result in enumerate(results))
    assert here == elsewhere
