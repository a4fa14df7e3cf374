"""Bringing a workbook of an older format up to the present one.

Each migration is a script in `migrations/` and one transaction with the number of its format, so a workbook is of the
old format or of the new one, whenever the process dies. That all scripts in order lead to `schema.sql` is a test.
"""

from __future__ import annotations

from pathlib import Path

import apsw

from torpor.base import faults
from torpor.base.errors import WorkbookDamaged
from torpor.workbook.fold import UNFOLDABLE, Folded

GOING_BACK = 2
"""The format since which files and memory entries know the events that made them."""


def scripts() -> dict[int, str]:
    """Return the text of each migration, by the format that it leads to."""
    folder = Path(__file__).parent / "migrations"
    return {int(path.name[:4]): path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.sql"))}


def migrate(path: str, db: apsw.Connection, found: int) -> None:
    """Migrate an open workbook of the format `found`.

    Raises:
        WorkbookDamaged: its journal can't be read; nothing was changed.
        apsw.Error: as SQLite has it; nothing was changed.

    """
    db.pragma("foreign_keys", False)  # else a table that is made anew would take along what refers to it
    for number, script in scripts().items():
        if number <= found:
            continue
        db.execute("BEGIN IMMEDIATE")
        try:
            db.execute(script)
            if number == GOING_BACK:
                _fill_births(path, db)
            db.execute(f"PRAGMA user_version = {number}")
            faults.point("workbook.migrating")
            db.execute("COMMIT")
        except BaseException as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            if isinstance(error, apsw.ConstraintError):
                raise WorkbookDamaged(path=path, reason=f"what it holds, no workbook can ({error})") from error
            raise


def _fill_births(path: str, db: apsw.Connection) -> None:
    folded = Folded()
    try:
        for seq, kind, body in db.execute("SELECT seq, kind, body FROM events ORDER BY seq"):
            folded.take(seq, kind, body)
            folded.dropped.clear()
    except (*UNFOLDABLE, UnicodeError) as error:
        raise WorkbookDamaged(path=path, reason=f"its journal can't be folded: {error!r}") from error
    files = [(*file.content, *place) for place, file in folded.files.items()]
    db.executemany("UPDATE files SET born = ?, grown = ? WHERE volume = ? AND path = ?", files)
    entries = [(facts.born, entry) for entry, facts in folded.memory.items()]
    db.executemany("UPDATE memory SET born = ? WHERE entry = ?", entries)
