"""The tables of the format, as `schema.sql` makes them, and how to tell them from others."""

from __future__ import annotations

import functools
from pathlib import Path

import apsw


@functools.cache
def schema_text() -> str:
    """Return `schema.sql`."""
    return (Path(__file__).parent / "schema.sql").read_text(encoding="utf-8")


def strange_schema(db: apsw.Connection) -> list[str]:
    """Return the names of the format's tables, indexes, views and triggers that a file lacks or has otherwise.

    Whatever else is in the file is somebody's own and not looked at.

    Args:
        db: a connection to the file.

    Returns:
        The names, sorted; "sqlite_schema" where the list itself can't be read.

    """
    try:
        found = set(db.execute("SELECT type, name, sql FROM sqlite_schema"))
    except (apsw.Error, UnicodeError):
        return ["sqlite_schema"]
    return sorted(str(name) for kind, name, sql in _objects() if (kind, name, sql) not in found)


@functools.cache
def _objects() -> frozenset[tuple[str, str, str | None]]:
    db = apsw.Connection(":memory:")
    try:
        db.execute(schema_text())
        return frozenset(db.execute("SELECT type, name, sql FROM sqlite_schema"))
    finally:
        db.close()
