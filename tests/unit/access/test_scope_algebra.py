"""Scopes against a plain model: the set of all (right, tenant, agent, moment) that they allow."""

from __future__ import annotations

import itertools

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from torpor.access import EVERYTHING, NOTHING, RIGHTS, Right, Scope, scope_of

# More than any scope below names, so that "all" is never the same as "these".
TENANTS = ("", "acme", "rival", "another")
AGENTS = ("a", "b", "c", "another")
MOMENTS = (0, 10, 20, 30)

Model = frozenset[tuple[Right, str, str, int]]


def model(rights: set[Right], tenant: str | None, agents: set[str] | None, until: int | None) -> Model:
    """Return what a scope of these parts is to allow, said without scopes."""
    every: set[Right] = {"read", "write", "admin"}
    return frozenset(
        (right, each, agent, moment)
        for right, each, agent, moment in itertools.product(
            every if "admin" in rights else rights, TENANTS, AGENTS, MOMENTS
        )
        if tenant in (None, each) and (agents is None or agent in agents) and (until is None or moment < until)
    )


def meaning(scope: Scope) -> Model:
    """Return what a scope allows, asked of it."""
    return frozenset(
        (right, tenant, agent, moment)
        for right, tenant, agent, moment in itertools.product(sorted(RIGHTS), TENANTS, AGENTS, MOMENTS)
        if right in scope.rights and scope.sees(agent, tenant) and scope.lasts(moment)
    )


parts = st.tuples(
    st.sets(st.sampled_from(sorted(RIGHTS))),
    st.sampled_from([None, *TENANTS[:3]]),
    st.none() | st.sets(st.sampled_from(AGENTS[:3])),
    st.sampled_from([None, 10, 20, 30]),
)
scopes = parts.map(lambda given: scope_of(given[0], tenant=given[1], agents=given[2], until=given[3]))


@given(parts)
def test_a_scope_allows_what_its_parts_say(
    given_parts: tuple[set[Right], str | None, set[str] | None, int | None],
) -> None:
    rights, tenant, agents, until = given_parts
    assert meaning(scope_of(rights, tenant=tenant, agents=agents, until=until)) == model(rights, tenant, agents, until)


@given(scopes, scopes)
def test_a_meeting_allows_what_both_allow(one: Scope, other: Scope) -> None:
    assert meaning(one.meet(other)) == meaning(one) & meaning(other)


@given(scopes, scopes)
def test_covering_is_allowing_all_of_it(one: Scope, other: Scope) -> None:
    assert one.covers(other) == (meaning(one) >= meaning(other))


@given(scopes, scopes)
def test_scopes_are_equal_if_they_allow_the_same(one: Scope, other: Scope) -> None:
    assert (one == other) == (meaning(one) == meaning(other))


@given(scopes, scopes, scopes)
def test_the_order_of_meetings_is_all_one(one: Scope, two: Scope, three: Scope) -> None:
    assert one.meet(two) == two.meet(one)
    assert one.meet(two).meet(three) == one.meet(two.meet(three))
    assert one.meet(one) == one
    assert one.meet(EVERYTHING) == one
    assert one.meet(NOTHING) == NOTHING


@given(scopes)
def test_everything_covers_all_and_nothing_is_covered_by_all(scope: Scope) -> None:
    assert EVERYTHING.covers(scope)
    assert scope.covers(NOTHING)
    assert NOTHING.covers(scope) == (scope == NOTHING)


@given(scopes)
def test_a_scope_comes_back_from_json_as_it_was(scope: Scope) -> None:
    assert msgspec.json.decode(msgspec.json.encode(scope), type=Scope) == scope


@given(scopes)
def test_only_a_scope_with_all_agents_is_whole(scope: Scope) -> None:
    everywhere = {(tenant, agent) for tenant in TENANTS for agent in AGENTS}
    assert scope.whole == ({(tenant, agent) for tenant, agent in everywhere if scope.sees(agent, tenant)} == everywhere)
