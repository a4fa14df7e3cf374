"""How the root key and the file of tokens come into being, and how they are opened together.

They belong together, and both fail closed. A key without its file has issued nothing that counts, so the file is made
anew, empty: every token in the world is unknown then. A file without its key, or with another one, is damage, as is a
file that is empty, cut short or something else's. What is refused is left as it is.

The folder's lock (flock) keeps other processes out until both are open; the killed keep nobody out.
"""

from __future__ import annotations

import fcntl
import functools
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import apsw

from torpor.access.connection import PATIENCE_S, Connection, from_sqlite
from torpor.access.key import make_key, read_key, sync_folder
from torpor.access.tokens import Root
from torpor.base.entropy import Entropy
from torpor.base.errors import AccessDamaged, AccessFailed
from torpor.base.limits import WAL_KEEP_MAX

APPLICATION_ID: Final = 0x54525043
"""«TRPC» in the file's header, where `file` and SQLite's tools find it."""

FORMAT: Final = 1
"""The newest format that this code reads and writes; `user_version` in the header."""

FILE: Final = "access.db"
KEY: Final = "root.key"

_SHORTEST_BYTES: Final = 512
_LOOK_AGAIN_S: Final = 0.005


def open_folder(folder: str, entropy: Entropy, *, vfs: str | None = None) -> tuple[Root, Connection]:
    """Open the key and the file of tokens in a folder, making what isn't there.

    Args:
        folder: where they are, absolute; made, for this user alone, if it isn't there.
        entropy: where a new key comes from.
        vfs: the SQLite file layer to use; None is the system's.

    Raises:
        AccessDamaged: one of them is not what it should be, or they don't belong together.
        AccessFailed: they can't be used just now.

    """
    path = os.path.join(folder, FILE)
    key_path = os.path.join(folder, KEY)
    with _alone(folder):
        there = os.path.lexists(path)
        key = read_key(key_path)
        if key is None:
            if there or os.path.lexists(f"{path}-wal"):
                raise AccessDamaged(path=key_path, reason=f"it is gone, and {FILE} is there")
            key = make_key(key_path, entropy)
        root = Root(key)
        if not there:
            _create(path, root.public, vfs)
        connection = _connect_twice(path, vfs)
    (public,) = connection.rows("SELECT public FROM meta")[0]
    if public != root.public:
        connection.close()
        raise AccessDamaged(path=path, reason=f"its tokens are of another key than {KEY}")
    return root, connection


def _connect_twice(path: str, vfs: str | None) -> Connection:
    db = connect(path, vfs=vfs)
    try:
        return Connection(path, db, connect(path, vfs=vfs))
    except BaseException:
        db.close(force=True)
        raise


def connect(path: str, *, vfs: str | None = None) -> apsw.Connection:
    """Connect to the file of tokens at `path`.

    Raises:
        AccessDamaged: what is there is none, is not whole, or is of a later Torpor.
        AccessFailed: it can't be opened just now.

    """
    _look(path)
    try:
        db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    except apsw.Error as error:
        raise from_sqlite(path, error) from error
    try:
        _prepare(path, db)
        _check_size(path, db)
    except apsw.SQLError as error:
        db.close(force=True)
        raise AccessDamaged(path=path, reason=str(error)) from error
    except (apsw.Error, UnicodeError) as error:
        system = db.system_errno
        db.close(force=True)
        raise from_sqlite(path, error, system) from error
    except BaseException:
        db.close(force=True)
        raise
    return db


def _look(path: str) -> None:
    """Refuse what is plainly no file of tokens."""
    try:
        found = os.lstat(path)
    except OSError as error:
        raise AccessFailed(path=path, reason=error.strerror or str(error)) from error
    if not stat.S_ISREG(found.st_mode):
        raise AccessDamaged(path=path, reason="it is no regular file")
    if found.st_nlink > 1:
        # SQLite's log goes by the name: under two names the file would have two logs.
        raise AccessDamaged(path=path, reason=f"it has {found.st_nlink} names (hard links)")
    if found.st_size < _SHORTEST_BYTES:
        raise AccessDamaged(path=path, reason=f"it has {found.st_size} bytes, fewer than any file of tokens")


def _prepare(path: str, db: apsw.Connection) -> None:
    db.set_busy_timeout(int(PATIENCE_S * 1000))
    db.pragma("temp_store", "memory")
    db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    db.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    if db.pragma("application_id") != APPLICATION_ID:
        raise AccessDamaged(path=path, reason="it is an SQLite database of something else")
    found = db.pragma("user_version")
    if found != FORMAT:
        origin = "of a later Torpor" if found > FORMAT else "which never was"
        raise AccessDamaged(path=path, reason=f"its format is {found}, {origin}; this one knows {FORMAT}")
    # Not one more either: a trigger of somebody else's could take back what is revoked.
    strange = _objects() ^ frozenset(db.execute("SELECT type, name, sql FROM sqlite_schema"))
    if strange:
        kind, name, _ = min(strange, key=str)
        raise AccessDamaged(path=path, reason=f"its {kind} {name} is missing, another, or not ours")
    db.pragma("synchronous", "FULL")
    db.pragma("foreign_keys", True)
    db.pragma("journal_size_limit", WAL_KEEP_MAX)
    mode = db.pragma("journal_mode", "wal")
    if mode != "wal":
        raise AccessFailed(path=path, reason=f"its file system allows no write-ahead log (mode {mode})")


def _check_size(path: str, db: apsw.Connection) -> None:
    """Refuse a file that is cut short: of its lost pages SQLite would learn only when it needs them."""
    # Nobody else writes meanwhile; and what is then not in the file must be in the log.
    db.execute("BEGIN IMMEDIATE")
    try:
        logged = os.path.exists(f"{path}-wal") and os.path.getsize(f"{path}-wal")
        due = db.pragma("page_count") * db.pragma("page_size")
        size = os.path.getsize(path)
    finally:
        db.execute("ROLLBACK")
    if size < due and not logged:
        raise AccessDamaged(path=path, reason=f"it has {size:,} of its {due:,} bytes")


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


def _create(path: str, public: str, vfs: str | None) -> None:
    """Make a new file of tokens, whole and durable."""
    draft = f"{path}-new"
    if os.path.lexists(f"{path}-wal"):
        # SQLite would play the old log into the new file.
        raise AccessDamaged(path=path, reason="it is gone, and its log (-wal) is there")
    try:
        _clear(draft)  # what an earlier attempt left when it was killed
        try:
            _write_schema(draft, public, vfs)
            os.chmod(draft, 0o600)
            os.rename(draft, path)
        except (apsw.Error, OSError):
            _clear(draft)
            raise
        sync_folder(os.path.dirname(path))
    except apsw.Error as error:
        raise from_sqlite(path, error) from error
    except OSError as error:
        raise AccessFailed(path=path, reason=error.strerror or str(error)) from error


def _write_schema(draft: str, public: str, vfs: str | None) -> None:
    db = apsw.Connection(draft, flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE, vfs=vfs)
    try:
        db.pragma("journal_mode", "wal")
        db.pragma("synchronous", "FULL")
        db.execute("BEGIN IMMEDIATE")
        db.execute(schema_text())
        db.execute("INSERT INTO meta (one, public) VALUES (1, ?)", (public,))
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}")
        db.execute("COMMIT")
        # Closing would move the log into the file too, and say nothing where that fails.
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        db.close()


def _clear(draft: str) -> None:
    # An old journal or log beside a new file would be played into it.
    for name in (draft, f"{draft}-journal", f"{draft}-wal", f"{draft}-shm"):
        Path(name).unlink(missing_ok=True)


@contextmanager
def _alone(folder: str) -> Iterator[None]:
    """Keep other processes from opening the folder meanwhile."""
    try:
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)
            sync_folder(os.path.dirname(folder))
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise AccessFailed(path=folder, reason=error.strerror or str(error)) from error
    patience_ends = time.monotonic() + PATIENCE_S
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > patience_ends:
                    raise AccessFailed(path=folder, reason="another process is opening it") from None
                time.sleep(_LOOK_AGAIN_S)  # noqa: TID251  (a few milliseconds, once in a process's life)
        yield
    finally:
        os.close(descriptor)
