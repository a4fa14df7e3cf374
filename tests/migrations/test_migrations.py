"""The migrations, applied in order, make exactly what a new workbook has."""

import re
from pathlib import Path

import apsw
import apsw.shell

from torpor.workbook import Workbook, store

ROOM = Path(store.__file__).parent
MIGRATIONS = sorted((ROOM / "migrations").glob("*.sql"))


def dump(db: apsw.Connection) -> tuple[object, ...]:
    """Return everything that a database holds: what it is made of, and every row."""
    schema = list(db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"))
    tables = [name for kind, name, _, sql in schema if kind == "table" and sql and not name.startswith("memory_text")]
    return (schema, [(name, sorted(map(repr, db.execute(f"SELECT * FROM {name}")))) for name in tables])  # noqa: S608  (names from the schema itself)


def built(*scripts: Path) -> tuple[object, ...]:
    db = apsw.Connection(":memory:")
    try:
        for script in scripts:
            with db:
                db.execute(script.read_text(encoding="utf-8"))
        return dump(db)
    finally:
        db.close()


def test_there_is_one_migration_for_each_format_in_order() -> None:
    numbers = [re.fullmatch(r"(\d{4})_[a-z0-9_]+\.sql", path.name) for path in MIGRATIONS]
    assert [int(found[1]) for found in numbers if found] == list(range(1, store.FORMAT + 1))


def test_the_migrations_lead_to_the_schema() -> None:
    assert built(*MIGRATIONS) == built(ROOM / "schema.sql")


def test_a_new_workbook_has_the_schema_and_nothing_else(tmp_path: Path) -> None:
    Workbook.open(tmp_path / "a.workbook").close()
    db = apsw.Connection(str(tmp_path / "a.workbook"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        schema, rows = dump(db)
    finally:
        db.close()
    expected_schema, expected_rows = built(ROOM / "schema.sql")
    assert schema == expected_schema
    assert isinstance(rows, list)
    assert isinstance(expected_rows, list)
    assert [row for row in rows if row[0] != "meta"] == [row for row in expected_rows if row[0] != "meta"]
