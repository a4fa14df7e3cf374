"""The tables keep their promises even against a hand in the file, and answer without reading all of it."""

from __future__ import annotations

import os
import re
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from tests.unit.ledger.kit import NOW, add, agent, bring, content, id_of, note, template

from torpor.ledger import AgentRecord, MoveRecord, Note, SqliteLedger, TemplateRecord

HISTORY = "agent, verb, who, why, time, bytes, ms, details"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    with closing(SqliteLedger.open(tmp_path / "ledger.db")) as opened:
        bring(opened, "frozen", "ada")
        bring(opened, "deleted", "eve")
        opened.templates.add(template(), note(id_of("base"), "template"))
        yield opened


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE history SET who = 'nobody'",
        "DELETE FROM history WHERE move = 1",
        "REPLACE INTO history (move, HISTORY) SELECT 1, id, 'x', '', '', 1, 0, 0, '{}' FROM names",
        "UPDATE names SET fold = 'free'",
        "DELETE FROM names WHERE fold = 'eve'",
        "REPLACE INTO names (fold, name, id, kind) VALUES ('eve', 'eve', 'x', 'agent')",
        "INSERT INTO names (fold, name, id, kind) VALUES ('ADA', 'ADA', 'x', 'dog')",
        "DELETE FROM agents WHERE name = 'eve'",
        "UPDATE agents SET state = 'active', file = 'x' WHERE name = 'eve'",
        "UPDATE agents SET active = 1 WHERE name = 'eve'",
        "UPDATE agents SET id = 'x' WHERE name = 'ada'",
        "UPDATE agents SET name = 'x' WHERE name = 'ada'",
        "UPDATE agents SET epoch = epoch - 1 WHERE name = 'ada'",
        "UPDATE agents SET state = 'asleep' WHERE name = 'ada'",
        "UPDATE agents SET state = 'suspended' WHERE name = 'ada'",
        "UPDATE agents SET digest = NULL WHERE name = 'ada'",
        "UPDATE agents SET suspend_after_s = 0 WHERE name = 'ada'",
        "UPDATE agents SET wake = 'tomorrow' WHERE name = 'ada'",
        "UPDATE templates SET digest = digest",
        "INSERT INTO leftovers VALUES ('', 'a', 'c', 1)",
        "INSERT INTO history (HISTORY) VALUES ('nobody', 'x', '', '', 1, 0, 0, '{}')",
        "INSERT INTO history (HISTORY) SELECT id, 'x', '', '', 1, 0, 0, '{' FROM names",
        "INSERT INTO meta (one) VALUES (2)",
    ],
)
def test_what_must_not_change_cant_be_changed_in_the_file(ledger: SqliteLedger, sql: str) -> None:
    before = content(ledger)
    with closing(apsw.Connection(ledger.path)) as db:
        db.pragma("foreign_keys", True)
        db.pragma("recursive_triggers", True)  # so that REPLACE asks those of DELETE
        with pytest.raises(apsw.ConstraintError):
            db.execute(sql.replace("HISTORY", HISTORY))
    assert content(ledger) == before


ASKS: dict[str, Callable[[SqliteLedger], object]] = {
    "by name or id": lambda ledger: ledger.agent("ada"),
    "in order": lambda ledger: list(ledger.agents(after="a")),
    "of a tenant": lambda ledger: list(ledger.agents(tenant="acme")),
    "children": lambda ledger: ledger.children("x"),
    "due": lambda ledger: list(ledger.due(NOW)),
    "history": lambda ledger: ledger.history("ada", last=3),
    "template": lambda ledger: ledger.templates.get("base"),
}


def plans(ledger: SqliteLedger, ask: Callable[[SqliteLedger], object]) -> list[str]:
    """Return the steps that SQLite takes for what is asked."""
    asked: list[str] = []
    connection = ledger._connection
    connection._db.set_profile(lambda sql, _ns: asked.append(sql))
    try:
        ask(ledger)
    finally:
        connection._db.set_profile(None)
    assert asked
    filled = [re.sub(r"\?|:\w+", "1", sql) for sql in asked]
    return [row[-1] for sql in filled for row in connection.rows(f"EXPLAIN QUERY PLAN {sql}")]


@pytest.mark.parametrize("ask", ASKS)
def test_what_is_asked_for_is_found_by_an_index_and_not_sorted(ledger: SqliteLedger, ask: str) -> None:
    plan = plans(ledger, ASKS[ask])
    assert [step for step in plan if step.startswith("SCAN") or "TEMP B-TREE" in step] == []
    assert any("INDEX" in step for step in plan)


def test_the_ladder_reads_the_agents_once_and_sorts_nothing(ledger: SqliteLedger) -> None:
    found = plans(ledger, lambda ledger: list(ledger.ladder()))
    assert found == ["SEARCH agents USING INTEGER PRIMARY KEY (rowid>?)"]


def test_the_columns_are_the_fields_of_the_records(ledger: SqliteLedger) -> None:
    def columns(table: str) -> set[str]:
        return {row[1] for row in ledger._connection.rows(f"PRAGMA table_info({table})")}

    assert columns("agents") == {*AgentRecord.__struct_fields__, "agent", "fold"}
    assert columns("templates") == {*TemplateRecord.__struct_fields__, "fold"}
    assert columns("history") == {*MoveRecord.__struct_fields__} - {"name"}
    assert set(Note.__struct_fields__) < columns("history")


def test_a_walk_over_many_agents_holds_a_page_of_them(ledger: SqliteLedger) -> None:
    for part in range(10):
        add(ledger, *(agent(f"agent-{part}-{number:04}") for number in range(1000)))
    with ledger._connection.transaction() as execute:
        execute("UPDATE agents SET state = 'active' WHERE state = 'created'")
    for walk in (ledger.ladder, ledger.agents):
        tracemalloc.start()
        try:
            assert sum(1 for _ in walk()) >= 10_000
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 2_000_000


def test_a_closed_ledger_holds_no_descriptor(tmp_path: Path) -> None:
    def held() -> list[str]:
        entries = (Path("/proc/self/fd") / number for number in os.listdir("/proc/self/fd"))
        leading = [os.readlink(entry) for entry in entries if entry.is_symlink()]
        return [name for name in leading if name.startswith(str(tmp_path))]

    ledger = SqliteLedger.open(tmp_path / "other.db")
    bring(ledger, "active")
    assert len(held()) == 3
    ledger.close()
    assert held() == []
