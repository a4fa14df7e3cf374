"""A copy of a workbook at one transaction, and a digest of what it holds, while its owner goes on.

Both read in one transaction of SQLite's, on a connection of their own, so they see one state of the file and nobody
waits for them. The copy is SQLite's own (the backup API; of a small one, what it serializes): page by page, so rowids
stay, which `VACUUM INTO` would not promise.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Final

import apsw
import msgspec

from torpor.base import faults
from torpor.base.clock import Clock, SystemClock
from torpor.base.entropy import SystemEntropy
from torpor.base.errors import FileTaken
from torpor.base.ids import IdSource
from torpor.workbook.commits import FILE, Standing
from torpor.workbook.opening import open_store
from torpor.workbook.paths import real_path
from torpor.workbook.placing import clear_draft
from torpor.workbook.presence import passing
from torpor.workbook.rest import tidying
from torpor.workbook.scribe import standing_of
from torpor.workbook.store import Store
from torpor.workbook.tables import tables_of
from torpor.workbook.view import one_view
from torpor.workbook.weather import from_sqlite, from_system

_MODE_PRIVATE: Final = 0o600

_pack = msgspec.msgpack.Encoder().encode


def snapshot(path: str | os.PathLike[str], target: str, *, clock: Clock | None = None) -> Standing:
    """Copy a workbook, be it open here or elsewhere or at rest, and return the transaction that the copy is of.

    The copy is one whole file, synced; its folder isn't.

    Args:
        path: the workbook.
        target: a new name, which nobody else knows yet.
        clock: where times come from.

    Raises:
        FileTaken: something is at the target.
        NotRecovered: after a power cut, its home has to recover it first.
        WorkbookError: it can't be read, or the copy can't be written; nothing is left of it then.

    """
    if os.path.lexists(target):
        raise FileTaken(path=target)
    with _reading(path, clock) as store:
        standing = standing_of(store)
        with ExitStack() as undo:
            undo.callback(clear_draft, target)
            _copy(store, target, standing)
            faults.point("snapshot.copied")
            _sync(target)
            undo.pop_all()
    return standing


def image(path: str | os.PathLike[str], *, clock: Clock | None = None) -> tuple[Standing, bytes]:
    """Return a workbook as one whole file would be, in memory, and the transaction that it is of: for small ones.

    Args:
        path: the workbook, be it open here or elsewhere or at rest.
        clock: where times come from.

    Raises:
        NotRecovered: after a power cut, its home has to recover it first.
        WorkbookError: it can't be read.

    """
    with _reading(path, clock) as store:
        standing = standing_of(store)
        try:
            content = store.db.serialize("main")
        except apsw.Error as error:
            raise store.translate(error) from error
        faults.point("snapshot.copied")
    return standing, content


@contextmanager
def _reading(path: str | os.PathLike[str], clock: Clock | None) -> Iterator[Store]:
    """Open a workbook for reading, at one transaction."""
    name, clock = real_path(path), clock or SystemClock()
    with ExitStack() as stay:
        stay.enter_context(passing(name))
        stay.callback(tidying(name, clock=clock))
        ids = IdSource(clock, SystemEntropy())
        store = stay.enter_context(closing(open_store(name, readonly=True, durability=FILE, clock=clock, ids=ids)))
        with one_view(store):
            yield store


def _copy(store: Store, target: str, standing: Standing) -> None:
    try:
        with closing(apsw.Connection(target)) as copy:
            os.chmod(target, _MODE_PRIVATE)
            copy.pragma("synchronous", "OFF")
            with copy.backup("main", store.db, "main") as backup:
                backup.step()
        with closing(apsw.Connection(target, flags=apsw.SQLITE_OPEN_READWRITE)) as copy:
            copy.pragma("synchronous", "OFF")
            # The backup counts as a change of the copy's schema. But it is the same as the original's.
            copy.execute(f"PRAGMA schema_version = {standing.schema}")
            copy.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    except apsw.Error as error:
        raise from_sqlite(target, error) from error
    except OSError as error:
        raise from_system(target, error) from error


def _sync(target: str) -> None:
    # SQLite has closed the copy, and nobody else knows its name: here a plain descriptor does no harm.
    try:
        descriptor = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise from_system(target, error) from error


def digest(path: str | os.PathLike[str], *, clock: Clock | None = None) -> tuple[Standing, str]:
    """Return what a workbook holds, as one SHA-256 in hexadecimal, and the transaction at which it holds that.

    Two files have the same digest if they have the same tables, indexes, views and triggers, and in every table the
    same rows under the same keys; how they lie in pages doesn't matter. SQLite's statistics don't count.

    Args:
        path: the workbook, be it open here or elsewhere or at rest.
        clock: where times come from.

    Raises:
        NotRecovered: after a power cut, its home has to recover it first.
        WorkbookError: it can't be read.

    """
    with _reading(path, clock) as store:
        return standing_of(store), _digest(store)


def _digest(store: Store) -> str:
    whole = hashlib.sha256()
    try:
        for thing in store.db.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT GLOB 'sqlite_stat*' ORDER BY type, name"
        ):
            whole.update(_pack(thing))
        tables = tables_of(store.db)
        for name, table in sorted(tables.by_name.items()):
            whole.update(_pack((name, table.columns)))
            try:
                whole.update(_rows_digest(store, table.read_all))
            except UnicodeError:  # a table of somebody else's; the same in every copy of it
                whole.update(_rows_digest(store, table.read_raw))
    except (apsw.Error, UnicodeError) as error:
        raise store.translate(error) from error
    return whole.hexdigest()


def _rows_digest(store: Store, query: str) -> bytes:
    rows = hashlib.sha256()
    for row in store.db.execute(query):
        rows.update(_pack(row))
    return rows.digest()
