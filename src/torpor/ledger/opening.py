"""How a ledger comes into being, and how it is connected to.

A new one is made under another name, complete and durable, and only then put under its own, by one process at a time.
So a file with the ledger's name is always a whole ledger: an empty, cut short or foreign one is damage, never a new
ledger, for a ledger that begins anew would disown every agent of the home. What is refused is left as it is.
"""

from __future__ import annotations

import fcntl
import functools
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from torpor.base.errors import HomeRefused, LedgerDamaged, LedgerFailed
from torpor.base.limits import WAL_KEEP_MAX
from torpor.ledger.weather import PATIENCE_S, from_sqlite, from_system

APPLICATION_ID: Final = 0x5452504C
"""«TRPL» in the file's header, where `file` and SQLite's tools find it."""

FORMAT: Final = 1
"""The newest format that this code reads and writes; `user_version` in the header."""

_SHORTEST_BYTES: Final = 512
_LOOK_AGAIN_S: Final = 0.005


def connect(path: str, *, create: bool, vfs: str | None = None) -> apsw.Connection:
    """Connect to the ledger at `path` (absolute, links resolved).

    Args:
        path: the file.
        create: whether to make one where there is none.
        vfs: the SQLite file layer to use; None is the system's.

    Raises:
        HomeRefused: there is no ledger, and none is to be made; or there is no folder for it.
        LedgerDamaged: what is there is no ledger, is not whole, or is of a later Torpor.
        LedgerFailed: it can't be opened or made just now.

    """
    if not os.path.lexists(path):
        if not create:
            raise HomeRefused(path=os.path.dirname(path), reason=f"there is no {os.path.basename(path)} in it")
        _create(path, vfs)
    size = _look(path)
    logged = os.path.lexists(f"{path}-wal")
    try:
        db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    except apsw.Error as error:
        raise from_sqlite(path, error) from error
    try:
        _prepare(path, db)
        if not logged:
            _check_size(path, db, size)
    except apsw.SQLError as error:
        db.close(force=True)
        raise LedgerDamaged(path=path, reason=str(error)) from error
    except (apsw.Error, UnicodeDecodeError) as error:
        system = db.system_errno
        db.close(force=True)
        raise from_sqlite(path, error, system) from error
    except BaseException:
        db.close(force=True)
        raise
    return db


def _look(path: str) -> int:
    """Return a file's size and refuse what is plainly no ledger."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise from_system(path, error) from error
    if not stat.S_ISREG(found.st_mode):
        raise LedgerDamaged(path=path, reason="it is not a regular file")
    if found.st_nlink > 1:
        # SQLite's log goes by the name: under two names the file would have two logs.
        raise LedgerDamaged(path=path, reason=f"it has {found.st_nlink} names (hard links); keep one")
    if found.st_size < _SHORTEST_BYTES:
        raise LedgerDamaged(path=path, reason=f"it has {found.st_size} bytes, fewer than any ledger")
    return found.st_size


def _prepare(path: str, db: apsw.Connection) -> None:
    db.set_busy_timeout(int(PATIENCE_S * 1000))
    db.pragma("temp_store", "memory")
    db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    db.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    if db.pragma("application_id") != APPLICATION_ID:
        raise LedgerDamaged(path=path, reason="it is an SQLite database of something else")
    found = db.pragma("user_version")
    if found != FORMAT:
        origin = "of a later Torpor" if found > FORMAT else "which never was"
        raise LedgerDamaged(path=path, reason=f"its format is {found}, {origin}; this one knows {FORMAT}")
    missing = sorted(_objects() - set(db.execute("SELECT type, name, sql FROM sqlite_schema")), key=str)
    if missing:
        raise LedgerDamaged(path=path, reason=f"its {missing[0][0]} {missing[0][1]} is missing or another")
    db.pragma("synchronous", "FULL")
    db.pragma("foreign_keys", True)
    db.pragma("journal_size_limit", WAL_KEEP_MAX)
    mode = db.pragma("journal_mode", "wal")
    if mode != "wal":
        raise LedgerFailed(path=path, reason=f"its file system allows no write-ahead log (mode {mode})")


def _check_size(path: str, db: apsw.Connection, size: int) -> None:
    """Refuse a file that is cut short: of its lost pages SQLite would learn only when it needs them."""
    due = db.pragma("page_count") * db.pragma("page_size")
    if size >= due:
        return
    # Or another process has made it longer since the size was read. Nobody does while we hold the right to write; and
    # then what is not in the file must be in a log.
    db.execute("BEGIN IMMEDIATE")
    try:
        logged = os.path.exists(f"{path}-wal") and os.path.getsize(f"{path}-wal")
        due = db.pragma("page_count") * db.pragma("page_size")
        size = os.path.getsize(path)
    finally:
        db.execute("ROLLBACK")
    if size < due and not logged:
        raise LedgerDamaged(path=path, reason=f"it has {size:,} of its {due:,} bytes")


@functools.cache
def schema_text() -> str:
    """Return `schema.sql`."""
    return (Path(__file__).parent / "schema.sql").read_text(encoding="utf-8")


@functools.cache
def _objects() -> frozenset[tuple[str, str, str | None]]:
    db = apsw.Connection(":memory:")
    try:
        db.execute(schema_text())
        return frozenset(db.execute("SELECT type, name, sql FROM sqlite_schema"))
    finally:
        db.close()


def _create(path: str, vfs: str | None) -> None:
    """Make a new ledger, whole and durable; nothing where another process has just done so."""
    folder = os.path.dirname(path)
    draft = f"{path}-new"
    try:
        with _alone(path, folder) as descriptor:
            if os.path.lexists(path):
                return
            if os.path.lexists(f"{path}-wal"):
                # SQLite would play the old log into the new file.
                raise LedgerDamaged(path=path, reason="it is gone, and its log (-wal) is there")
            _clear(draft)  # what an earlier attempt left when it was killed
            try:
                _write_schema(draft, vfs)
                os.chmod(draft, 0o600)
                os.rename(draft, path)
            except (apsw.Error, OSError):
                _clear(draft)
                raise
            os.fsync(descriptor)
    except apsw.Error as error:
        raise from_sqlite(path, error) from error
    except OSError as error:
        raise from_system(path, error) from error


@contextmanager
def _alone(path: str, folder: str) -> Iterator[int]:
    """Keep other makers of a ledger out of its folder, and yield a descriptor of it; the killed keep nobody out."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise HomeRefused(path=folder, reason="there is no such folder") from error
    patience_ends = time.monotonic() + PATIENCE_S
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > patience_ends:
                    raise LedgerFailed(path=path, reason="another process is making it") from None
                time.sleep(_LOOK_AGAIN_S)  # noqa: TID251  (a few milliseconds, once in a home's life)
        yield descriptor
    finally:
        os.close(descriptor)


def _clear(draft: str) -> None:
    # An old journal or log beside a new file would be played into it.
    for name in (draft, f"{draft}-journal", f"{draft}-wal", f"{draft}-shm"):
        Path(name).unlink(missing_ok=True)


def _write_schema(draft: str, vfs: str | None) -> None:
    db = apsw.Connection(draft, flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE, vfs=vfs)
    try:
        db.pragma("journal_mode", "wal")
        db.pragma("synchronous", "FULL")
        db.execute("BEGIN IMMEDIATE")
        db.execute(schema_text())
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}")
        db.execute("COMMIT")
        # Closing would move the log into the file too, and say nothing where that fails.
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        db.close()
