"""How a workbook comes into being, and how it is connected to.

A new one is made under another name, complete and durable, and only then put under its own. What is there already is
looked at before it is touched: what is no workbook, is damaged or of a newer format is refused and left as it is.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

import apsw

from torpor.base.clock import Clock
from torpor.base.errors import NewerFormat, NotAWorkbook, StorageFailed, WorkbookDamaged, WorkbookReadOnly
from torpor.base.ids import IdSource
from torpor.base.limits import WAL_KEEP_MAX
from torpor.workbook.schema import schema_text
from torpor.workbook.store import APPLICATION_ID, FORMAT, PAGE_BYTES, Durability, Store
from torpor.workbook.weather import from_sqlite, from_system

SHORTEST_BYTES: Final = 512
BUSY_MS: Final = 5000


def open_store(path: str, *, readonly: bool, durability: Durability, clock: Clock, ids: IdSource) -> Store:
    """Connect to the workbook at `path`, which must exist.

    Raises:
        WorkbookMissing, NotAWorkbook, NewerFormat, WorkbookDamaged, StorageFailed: as found.

    """
    size = _look(path, readonly=readonly)
    whole = not readonly and not Path(f"{path}-wal").exists()
    flags = apsw.SQLITE_OPEN_READONLY if readonly else apsw.SQLITE_OPEN_READWRITE
    name = path
    if readonly and _is_still(path):
        # In a folder that can't be written, SQLite can't make the index that readers of a log share. With no log
        # there is nothing to share.
        name = f"{Path(path).as_uri()}?immutable=1"
        flags |= apsw.SQLITE_OPEN_URI
    try:
        db = apsw.Connection(name, flags=flags, vfs=durability.vfs)
    except apsw.Error as error:
        raise from_sqlite(path, error) from error
    try:
        _prepare(path, db, readonly=readonly, durability=durability)
        if whole:
            _check_size(path, db, size)
    except apsw.SQLError as error:
        db.close(force=True)
        raise WorkbookDamaged(path=path, reason=str(error)) from error
    except apsw.Error as error:
        db.close(force=True)
        raise from_sqlite(path, error) from error
    except BaseException:
        db.close(force=True)
        raise
    return Store(path, db, readonly=readonly, clock=clock, ids=ids)


def _check_size(path: str, db: apsw.Connection, size: int) -> None:
    # SQLite counts whole pages: of a last page that is cut short, it would learn only when it needs it.
    due = db.pragma("page_count") * db.pragma("page_size")
    if size < due:
        raise WorkbookDamaged(path=path, reason=f"it has {size:,} of its {due:,} bytes")


def _look(path: str, *, readonly: bool) -> int:
    """Return a file's size and refuse what is plainly no workbook.

    By name only: opening it would endanger an owner in this process.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        raise from_system(path, error) from error
    if stat.S_ISDIR(found.st_mode):
        raise NotAWorkbook(path=path, reason="it is a folder")
    if not stat.S_ISREG(found.st_mode):
        raise NotAWorkbook(path=path, reason="it is not a regular file")
    if found.st_nlink > 1 and not readonly:
        # Log and claim go by the name: under two names the file would have two logs and two owners.
        raise WorkbookReadOnly(path=path, reason=f"it has {found.st_nlink} names (hard links); keep one")
    size = found.st_size
    if size == 0:
        raise NotAWorkbook(path=path, reason="it is empty, as no workbook ever is")
    if size < SHORTEST_BYTES:
        raise NotAWorkbook(path=path, reason=f"it has only {size} bytes, fewer than any database")
    return size


def _is_still(path: str) -> bool:
    busy = any(Path(f"{path}-{tail}").exists() for tail in ("wal", "owner"))
    return not busy and not os.access(Path(path).parent, os.W_OK)


def _prepare(path: str, db: apsw.Connection, *, readonly: bool, durability: Durability) -> None:
    db.set_busy_timeout(BUSY_MS)
    db.pragma("temp_store", "memory")  # what is private is not spilled into files elsewhere
    db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    db.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    application = db.pragma("application_id")
    if application != APPLICATION_ID:
        raise NotAWorkbook(path=path, reason="it is an SQLite database of something else")
    found = db.pragma("user_version")
    if found > FORMAT:
        raise NewerFormat(path=path, found=found, known=FORMAT)
    if found < 1:
        raise NotAWorkbook(path=path, reason=f"its format is {found}, which never was")
    if readonly:
        return
    db.pragma("synchronous", durability.synchronous)
    db.pragma("foreign_keys", True)
    db.pragma("journal_size_limit", WAL_KEEP_MAX)
    mode = db.pragma("journal_mode", "wal")
    if mode != "wal":
        raise StorageFailed(path=path, reason=f"its file system allows no write-ahead log (mode {mode})")


def create(path: str, agent: str, *, durability: Durability, clock: Clock) -> None:
    """Make a new workbook at `path`, whole and durable, or nothing. The caller owns the name.

    Args:
        path: where; nothing is there yet.
        agent: the new agent's id.
        durability: the file layer to use.
        clock: tells the time of creation.

    Raises:
        WorkbookError: the place can't be written.

    """
    draft = f"{path}-new"
    try:
        _clear(draft)  # what an earlier attempt left when it was killed
        try:
            _write_schema(draft, agent, durability, clock)
            os.chmod(draft, 0o600)
            os.rename(draft, path)
        except (apsw.Error, OSError):
            _clear(draft)
            raise
        folder = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except apsw.Error as error:
        raise from_sqlite(path, error) from error
    except OSError as error:
        raise from_system(path, error) from error


def _clear(draft: str) -> None:
    for name in (draft, f"{draft}-wal", f"{draft}-shm"):
        Path(name).unlink(missing_ok=True)


def _write_schema(draft: str, agent: str, durability: Durability, clock: Clock) -> None:
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    db = apsw.Connection(draft, flags=flags, vfs=durability.vfs)
    try:
        db.pragma("page_size", PAGE_BYTES)
        db.pragma("journal_mode", "wal")
        db.pragma("synchronous", "FULL")
        # Not `with db`: when SQLite has undone the transaction itself, as on a full disk, apsw's attempt to undo it
        # again hides the reason.
        db.execute("BEGIN IMMEDIATE")
        db.execute(schema_text())
        db.execute(
            "INSERT INTO meta (one, format, agent, created) VALUES (1, ?, ?, ?)",
            (FORMAT, agent, clock.now_us()),
        )
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}")
        db.execute("COMMIT")
        # Closing would move the log into the file too, and say nothing where that fails; the rename would then leave
        # the log behind.
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        db.close()
