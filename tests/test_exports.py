"""What Torpor offers by name: a change here is a change for everybody who uses it."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import torpor

SRC = Path(torpor.__file__).parent
ROOMS = [
    "access",
    "home",
    "ledger",
    "lifecycle",
    "litestream",
    "models",
    "runtime",
    "service",
    "stores",
    "workbook",
    "gateways.cli",
    "testing",
]


def test_torpor_offers_exactly_these_names() -> None:
    assert torpor.__all__ == [
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


@pytest.mark.parametrize("name", torpor.__all__)
def test_every_name_of_torpor_can_be_imported_and_is_documented(name: str) -> None:
    assert getattr(torpor, name).__doc__
    assert name in dir(torpor)


def test_type_checkers_are_told_the_same_names() -> None:
    tree = ast.parse((SRC / "__init__.py").read_text())
    told = [
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        for inner in node.body
        if isinstance(inner, ast.ImportFrom)
        for alias in inner.names
    ]
    assert sorted(told) == sorted(torpor.__all__)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_offers_what_it_imports_sorted_and_nothing_else(room: str) -> None:
    module = importlib.import_module(f"torpor.{room}")
    tree = ast.parse(Path(str(module.__file__)).read_text())
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    }
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    offered = list(module.__all__)
    assert offered == sorted(offered, key=_as_ruff_sorts)
    assert len(offered) == len(set(offered))
    assert imported | {name for name in defined if not name.startswith("_")} == set(offered)
    assert all(hasattr(module, name) for name in offered)


def _as_ruff_sorts(name: str) -> tuple[int, str]:
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def test_the_type_hints_are_shipped() -> None:
    assert (SRC / "py.typed").exists()
