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
from torpor.base.errors import (
    NewerFormat,
    NotAWorkbook,
    OlderFormat,
    StorageFailed,
    WorkbookDamaged,
    WorkbookReadOnly,
)
from torpor.base.ids import IdSource
from torpor.base.limits import WAL_KEEP_MAX
from torpor.workbook.commits import Durability
from torpor.workbook.mark import refuse_unrecovered
from torpor.workbook.migrate import migrate
from torpor.workbook.placing import clear_draft, refuse_remains, sync_folder
from torpor.workbook.presence import arrive, holding, leave
from torpor.workbook.schema import schema_text
from torpor.workbook.settling import settle
from torpor.workbook.store import APPLICATION_ID, FORMAT, PAGE_BYTES, Store
from torpor.workbook.weather import from_sqlite, from_system

SHORTEST_BYTES: Final = 512
BUSY_MS: Final = 5000

_MODE_PRIVATE: Final = 0o600


def open_store(path: str, *, readonly: bool, durability: Durability, clock: Clock, ids: IdSource) -> Store:
    """Connect to the workbook at `path`, which must exist.

    Args:
        path: absolute, links resolved.
        readonly: leave it as it is.
        durability: what an acknowledged commit survives.
        clock: where times come from.
        ids: where the ids of events come from.

    Raises:
        WorkbookMissing, NotAWorkbook, NewerFormat, WorkbookDamaged, StorageFailed: as found.
        OlderFormat: a reader can't migrate it.
        NotRecovered: after a power cut, its home has to recover it first.
        AgentBusy: another part of this process holds the file (`rest.at_rest`).

    """
    refuse_unrecovered(path)
    arrive(path)
    try:
        db = _connect(path, readonly=readonly, durability=durability)
    except BaseException:
        leave(path)
        raise
    return Store(path, db, readonly=readonly, clock=clock, ids=ids)


def _connect(path: str, *, readonly: bool, durability: Durability) -> apsw.Connection:
    size = look(path, readonly=readonly)
    whole = not readonly and not Path(f"{path}-wal").exists()
    flags = apsw.SQLITE_OPEN_READONLY if readonly else apsw.SQLITE_OPEN_READWRITE
    name = path
    if readonly and _is_still(path):
        # Readers of a log share an index, a file that SQLite makes beside the workbook. With no log there is nothing to
        # share, so no file is needed: not in a folder where it can't be made, and not beside a workbook at rest.
        name = f"{Path(path).as_uri()}?immutable=1"
        flags |= apsw.SQLITE_OPEN_URI
    try:
        db = apsw.Connection(name, flags=flags, vfs=durability.vfs)
    except apsw.Error as error:
        raise from_sqlite(path, error) from error
    try:
        found = _prepare(path, db, readonly=readonly, durability=durability)
        if whole:
            _check_size(path, db, size)
        if found < FORMAT:
            migrate(path, db, found)
            settle(db)  # a log that is joined next knows nothing of it
        db.pragma("foreign_keys", not readonly)
    except apsw.SQLError as error:
        db.close(force=True)
        raise WorkbookDamaged(path=path, reason=str(error)) from error
    except apsw.Error as error:
        db.close(force=True)
        raise from_sqlite(path, error) from error
    except BaseException:
        db.close(force=True)
        raise
    return db


def _check_size(path: str, db: apsw.Connection, size: int) -> None:
    # SQLite counts whole pages: of a last page that is cut short, it would learn only when it needs it.
    due = db.pragma("page_count") * db.pragma("page_size")
    if size < due:
        raise WorkbookDamaged(path=path, reason=f"it has {size:,} of its {due:,} bytes")


def look(path: str, *, readonly: bool) -> int:
    """Return a file's size and refuse what is plainly no workbook.

    By name only: opening it would endanger an owner in this process.

    Raises:
        WorkbookMissing, NotAWorkbook, WorkbookReadOnly, StorageFailed: as found.

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
    if not readonly and not found.st_mode & 0o222:
        raise WorkbookReadOnly(path=path, reason="its mode lets nobody write it, as that of a template")
    size = found.st_size
    if size == 0:
        raise NotAWorkbook(path=path, reason="it is empty, as no workbook ever is")
    if size < SHORTEST_BYTES:
        raise NotAWorkbook(path=path, reason=f"it has only {size} bytes, fewer than any database")
    return size


def _is_still(path: str) -> bool:
    if path in holding():
        return True
    busy = any(Path(f"{path}-{tail}").exists() for tail in ("wal", "owner"))
    return not busy and not os.access(Path(path).parent, os.W_OK)


def _prepare(path: str, db: apsw.Connection, *, readonly: bool, durability: Durability) -> int:
    """Set a connection up, and return the format that it found."""
    db.set_busy_timeout(BUSY_MS)
    db.pragma("temp_store", "memory")  # what is private is not spilled into files elsewhere
    db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    db.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    found = check_format(path, db)
    if readonly:
        if found < FORMAT:
            raise OlderFormat(path=path, found=found, known=FORMAT)
        return found
    db.pragma("synchronous", durability.synchronous)
    db.pragma("journal_size_limit", WAL_KEEP_MAX)
    mode = db.pragma("journal_mode", durability.journal)
    if mode != durability.journal:
        raise StorageFailed(path=path, reason=f"its file system allows no journal but {mode}")
    return found


def check_format(path: str, db: apsw.Connection) -> int:
    """Return the format of an open file.

    Raises:
        NotAWorkbook, NewerFormat: it has none, or one that this code doesn't know.

    """
    application = db.pragma("application_id")
    if application != APPLICATION_ID:
        raise NotAWorkbook(path=path, reason="it is an SQLite database of something else")
    found: int = db.pragma("user_version")
    if found > FORMAT:
        raise NewerFormat(path=path, found=found, known=FORMAT)
    if found < 1:
        raise NotAWorkbook(path=path, reason=f"its format is {found}, which never was")
    return found


def create(path: str, agent: str, *, durability: Durability, clock: Clock) -> None:
    """Make a new workbook at `path`, whole and durable, or nothing. The caller owns the name.

    Args:
        path: where; nothing is there yet.
        agent: the new agent's id.
        durability: the file layer to use.
        clock: tells the time of creation.

    Raises:
        FileTaken: the log of another workbook is in the way.
        WorkbookError: the place can't be written.

    """
    draft = f"{path}-new"
    refuse_remains(path)
    clear_draft(draft)  # what an earlier attempt left when it was killed
    try:
        write_draft(draft, agent, durability=Durability("new", "FULL", vfs=durability.vfs), clock=clock)
        os.rename(draft, path)
        sync_folder(path)
    except OSError as error:
        raise from_system(path, error) from error
    finally:
        clear_draft(draft)


def write_draft(draft: str, agent: str, *, durability: Durability, clock: Clock) -> None:
    """Write a new workbook without anything in it, which only its user may read.

    Args:
        draft: where; nothing is there.
        agent: the agent's id.
        durability: how. With a log, the file is on the disk afterwards; without, that is left to whoever fills it.
        clock: tells the time of creation.

    Raises:
        WorkbookError: it can't be written.

    """
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    try:
        db = apsw.Connection(draft, flags=flags, vfs=durability.vfs)
    except apsw.Error as error:
        raise from_sqlite(draft, error) from error
    try:
        _write_schema(db, agent, durability, clock)
        os.chmod(draft, _MODE_PRIVATE)
    except apsw.Error as error:
        raise from_sqlite(draft, error, db.system_errno) from error
    except OSError as error:
        raise from_system(draft, error) from error
    finally:
        db.close()


def _write_schema(db: apsw.Connection, agent: str, durability: Durability, clock: Clock) -> None:
    db.pragma("page_size", PAGE_BYTES)
    db.pragma("journal_mode", durability.journal)
    db.pragma("synchronous", durability.synchronous)
    # Not `with db`: when SQLite has undone the transaction itself, as on a full disk, apsw's attempt to undo it again
    # hides the reason.
    db.execute("BEGIN IMMEDIATE")
    db.execute(schema_text())
    db.execute(
        "INSERT INTO meta (one, format, agent, created) VALUES (1, ?, ?, ?)",
        (FORMAT, agent, clock.now_us()),
    )
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}")
    db.execute("COMMIT")
    # Closing would move the log into the file too, and say nothing where that fails; the rename would then leave the
    # log behind.
    if durability.journal == "wal":
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
