"""The edges are those of the contract, and nothing else is a move."""

from __future__ import annotations

import ast
import inspect
import itertools

import pytest

import torpor.lifecycle
from torpor.base.errors import MoveRefused
from torpor.lifecycle import EDGES, STATES, VERBS, State, check_move, diagram, ladder, resume, states, table

CONTRACT: dict[State, set[State]] = {
    "created": {"active"},
    "active": {"suspended", "archived"},
    "suspended": {"active", "frozen"},
    "frozen": {"active", "archived"},
    "archived": {"active", "deleted"},
    "deleted": set(),
}


def test_the_edges_are_those_of_the_contract() -> None:
    assert {state: set(edges) for state, edges in EDGES.items()} == CONTRACT
    assert tuple(EDGES) == tuple(VERBS) == STATES


def test_nobody_can_add_an_edge() -> None:
    with pytest.raises(TypeError):
        EDGES["deleted"] = ("active",)  # type: ignore[index]


@pytest.mark.parametrize(("state", "asked"), list(itertools.product(STATES, STATES)))
def test_just_the_edges_are_moves(state: State, asked: State) -> None:
    if asked in CONTRACT[state]:
        check_move("ada", state, asked)
        return
    with pytest.raises(MoveRefused) as refused:
        check_move("ada", state, asked)
    assert (refused.value.name, refused.value.state, refused.value.asked) == ("ada", state, asked)
    named = refused.value.legal.split(" or ") if CONTRACT[state] else []
    assert set(named) == CONTRACT[state]


def test_a_refusal_names_the_legal_moves() -> None:
    with pytest.raises(MoveRefused) as refused:
        check_move("ada", "suspended", "archived")
    assert refused.value.next_step == "From suspended it can become: active or frozen."


def test_a_refusal_says_that_the_deleted_stay_so() -> None:
    with pytest.raises(MoveRefused) as refused:
        check_move("ada", "deleted", "active")
    assert refused.value.next_step == "From deleted it can become: nothing, for it is deleted for ever."


def test_every_state_can_be_reached_and_only_deleted_is_an_end() -> None:
    reached: set[State] = {"created"}
    while fresh := {to for state in reached for to in EDGES[state]} - reached:
        reached |= fresh
    assert reached == set(STATES)
    assert [state for state, edges in EDGES.items() if not edges] == ["deleted"]


def test_the_diagram_has_each_edge_once() -> None:
    lines = diagram().splitlines()
    edges = [f"    {state} --> {to}: {VERBS[to]}" for state in CONTRACT for to in EDGES[state]]
    assert lines == ["stateDiagram-v2", "    [*] --> created: new", *edges, "    deleted --> [*]"]
    assert len(edges) == 9


def test_the_table_has_each_edge_once() -> None:
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table().splitlines()[2:]]
    edges = {(state, to, VERBS[to]) for state, ends in CONTRACT.items() for to in ends}
    assert {*rows} == {*edges, ("deleted", "nothing", "")}
    assert len(rows) == len(edges) + 1


@pytest.mark.parametrize("module", [torpor.lifecycle, ladder, resume, states], ids=lambda module: module.__name__)
def test_nothing_here_knows_a_clock_or_a_file(module: object) -> None:
    tree = ast.parse(inspect.getsource(module))  # type: ignore[arg-type]
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)} | {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    pure = {"__future__", "collections.abc", "math", "msgspec", "types", "typing", "torpor.base.errors"}
    assert {name for name in imported if name and not name.startswith("torpor.lifecycle")} <= pure
