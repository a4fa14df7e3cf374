"""How the rows of any table are read and written by their keys: for records of commits, which know no table by name.

Every row of an SQLite table has a key that is never NULL and that no other row has: the primary key of a table WITHOUT
ROWID, and of every other the rowid, be it a column (INTEGER PRIMARY KEY) or not. A declared key of any other kind is no
help: it may be NULL, and what an index on content or another program refers to is the rowid.
"""

from __future__ import annotations

from typing import Any, Final

import apsw
import msgspec

JOURNAL: Final = "events"
"""The table whose rows records give by themselves."""

SEQUENCE: Final = "sqlite_sequence"
"""SQLite's own table of the numbers given by AUTOINCREMENT, whose changes it tells nobody."""

_ROWIDS: Final = ("rowid", "_rowid_", "oid")
_VIRTUAL: Final = 2
_COMPUTED: Final = (_VIRTUAL, 3)
"""How SQLite calls columns that are computed: when they are read, and when they are written."""

_KNOWN_MAX: Final = 64

Row = tuple[Any, ...]


class Table(msgspec.Struct, frozen=True):
    """One table."""

    name: str
    by_rowid: bool
    """Whether a rowid leads to a row."""
    columns: tuple[str, ...]
    """What makes a row: all columns that are stored, and before them the rowid, where no column holds it."""
    key: tuple[int, ...]
    """The positions, among all columns that the table shows, of the key; () for a rowid table."""
    place: tuple[int, ...]
    """The positions of the key in `columns`."""
    numbered: bool
    """Whether it is AUTOINCREMENT."""
    read: str
    """The statement that reads the row of a key."""
    read_all: str
    """The statement that reads all rows in the order of the key."""
    read_raw: str
    """The same, with texts as bytes, for texts that are not UTF-8."""
    delete: str
    """The statement that deletes the row of a key."""
    insert: str
    """The statement that adds a row."""


class Tables(msgspec.Struct, frozen=True):
    """All tables of one schema whose rows are content."""

    by_name: dict[str, Table]
    strange: frozenset[str]
    """Tables whose rows can't be named: they have columns called by all three names of the rowid; or no rowid, and
    computed columns, about which SQLite's hook stumbles."""
    watched: bool
    """Whether something happens by itself when an event is inserted: a trigger of somebody's own."""
    sequence: bool
    """Whether AUTOINCREMENT is used."""


_known: dict[tuple[Row, ...], Tables] = {}


def quoted(name: str) -> str:
    """Return a name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def tables_of(db: apsw.Connection) -> Tables:
    """Return the tables of an open file. Nearly all files have the same, so what was found is kept.

    Raises:
        apsw.Error, UnicodeError: the schema can't be read.

    """
    schema = tuple(
        db.execute("SELECT type, name, sql FROM sqlite_schema WHERE type IN ('table', 'trigger') ORDER BY 2")
    )
    found = _known.get(schema)
    if found is None:
        if len(_known) >= _KNOWN_MAX:
            _known.clear()
        found = _known[schema] = _look(db, schema)
    return found


def _look(db: apsw.Connection, schema: tuple[Row, ...]) -> Tables:
    by_name, strange = {}, set()
    definitions = {name: sql for kind, name, sql in schema if kind == "table"}
    listed = db.execute("SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main' ORDER BY name")
    for name, kind, without in list(listed):
        if kind not in ("table", "shadow") or (name.startswith("sqlite_") and name != SEQUENCE):
            continue
        table = _table(db, name, definitions.get(name) or "", without=bool(without))
        if table is None:
            strange.add(name)
        else:
            by_name[name] = table
    # An insert fires only triggers whose table is `events`; those of the format are for updates and deletes.
    watched = db.execute(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE"
        " AND name NOT IN ('events_are_final', 'events_are_kept')",
        (JOURNAL,),
    ).get
    return Tables(by_name, frozenset(strange), bool(watched), SEQUENCE in by_name)


def _table(db: apsw.Connection, name: str, sql: str, *, without: bool) -> Table | None:
    info = list(db.execute("SELECT name, pk, hidden FROM pragma_table_xinfo(?)", (name,)))
    shown = [column for column, _, _ in info]
    stored = tuple(column for column, _, hidden in info if hidden not in _COMPUTED)
    keys = [column for _, column in sorted((pk, column) for column, pk, _ in info if pk)]
    if without:
        if any(hidden == _VIRTUAL for _, _, hidden in info):
            return None
        return _made(name, stored, keys, key=tuple(shown.index(column) for column in keys))
    # A key of one column that needs no index of its own is the rowid itself.
    own = db.execute("SELECT count(*) FROM pragma_index_list(?) WHERE origin = 'pk'", (name,)).get
    if len(keys) == 1 and not own:
        return _made(name, stored, keys, numbered="autoincrement" in sql.lower())
    taken = {column.lower() for column in shown}
    free = next((alias for alias in _ROWIDS if alias not in taken), None)
    return None if free is None else _made(name, (free, *stored), [free])


def _made(
    name: str, columns: tuple[str, ...], keys: list[str], *, key: tuple[int, ...] = (), numbered: bool = False
) -> Table:
    table, names = quoted(name), [quoted(column) for column in columns]
    where = " AND ".join(f"{quoted(column)} = ?" for column in keys)
    order = ", ".join(map(quoted, keys))
    raw = (f"typeof({column}), iif(typeof({column}) = 'text', CAST({column} AS BLOB), {column})" for column in names)
    marks = ", ".join("?" * len(columns))
    return Table(
        name,
        by_rowid=not key,
        columns=columns,
        key=key,
        place=tuple(columns.index(column) for column in keys),
        numbered=numbered,
        read=f"SELECT {', '.join(names)} FROM {table} WHERE {where}",
        read_all=f"SELECT {', '.join(names)} FROM {table} ORDER BY {order}",
        read_raw=f"SELECT {', '.join(raw)} FROM {table} ORDER BY {order}",
        delete=f"DELETE FROM {table} WHERE {where}",
        insert=f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})",
    )
