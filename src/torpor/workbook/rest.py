"""Workbooks at rest: files that nobody has open, and what may be done to them as files.

As long as anybody has a workbook open, only SQLite may touch the file: a descriptor that another part of this process
closes takes the owner's locks away, and a log beside the file holds facts that a copy would miss. `at_rest` proves that
nobody has, and keeps it so for the length of a block: against other processes by the claim, within this one by
`presence.py`. Inside, the file is bytes: it can be copied, moved and removed.

What can't be kept away is a reader in another process. It does no harm to the file, and sees what it saw when it came.

`adopt` and `seal` change a file that is at rest: they give a copy an identity of its own, and make a template.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import apsw
import msgspec

from torpor.base.clock import Clock, SystemClock
from torpor.base.entropy import SystemEntropy
from torpor.base.errors import AgentBusy, WorkbookError, WorkbookReadOnly
from torpor.base.ids import IdSource
from torpor.workbook.attachment import refuse_attached
from torpor.workbook.commits import FILE, Durability
from torpor.workbook.fold import BORN
from torpor.workbook.journal import Journal
from torpor.workbook.mark import read_mark, refuse_unrecovered, remove_mark
from torpor.workbook.opening import check_format, open_store
from torpor.workbook.owner import claim, moment
from torpor.workbook.paths import real_path
from torpor.workbook.presence import held
from torpor.workbook.store import Store
from torpor.workbook.weather import from_sqlite, from_system

_MODE_SEALED: Final = 0o444
_WRITABLE: Final = 0o222

_SETTLE_MS: Final = 100
"""How long a log waits for a reader: longer than a query takes, shorter than anybody would mind."""


class Look(msgspec.Struct, frozen=True):
    """Whose workbook a file is, and where its journal stands."""

    agent: str
    seq: int
    head: str
    """Hash of event `seq`, in hexadecimal; "" where there is none."""
    parent: str | None
    parent_seq: int | None


class Made(msgspec.Struct, frozen=True):
    """A workbook that was made from another."""

    agent: str
    seq: int
    """The number of its newest event."""
    head: str
    """The hash of that, in hexadecimal."""
    bytes: int
    """Its size."""
    parent: str | None
    parent_seq: int | None
    """The number of the last event that it has in common with its parent."""


class Rest:
    """A workbook that nobody has open, for the length of the block that made this."""

    def __init__(self, path: str, clock: Clock) -> None:
        self.path = path
        self._clock = clock

    def look(self) -> Look:
        """Read whose workbook it is; leaves nothing beside it.

        Raises:
            WorkbookMissing, NotAWorkbook, NewerFormat, OlderFormat, WorkbookDamaged, StorageFailed: as found.

        """
        with closing(self._open()) as store:
            return look_at(store)

    def extends(self, seq: int, head: str) -> bool:
        """Report whether its journal has event `seq` with that hash; leaves nothing beside it.

        Raises:
            WorkbookError: as for `look`.

        """
        with closing(self._open()) as store:
            return extends(store, seq, head)

    def _open(self) -> Store:
        ids = IdSource(self._clock, SystemEntropy())
        return open_store(self.path, readonly=True, durability=FILE, clock=self._clock, ids=ids)


@contextmanager
def at_rest(path: str | os.PathLike[str], *, clock: Clock | None = None) -> Iterator[Rest]:
    """Hold a workbook that nobody has open, so that the file may be copied, moved or removed as bytes.

    What a dead owner left in a log is brought into the file first. There need not be a file: then the name is held.
    Until the block ends, the rest of this process can't open the workbook; the block itself can.

    Args:
        path: the workbook.
        clock: where times come from.

    Raises:
        WorkbookOwned: somebody has it open for writing; says who.
        AgentBusy: this process has it open, somebody reads what its log still holds, or a program is attached to it.
        NotRecovered: after a power cut, its home has to recover it first.
        WorkbookReadOnly: it has several names, so under another somebody else may have it.
        NotAWorkbook, NewerFormat, WorkbookDamaged, StorageFull, StorageFailed: its log can't be brought into it.

    """
    name = real_path(path)
    clock = clock or SystemClock()
    with ExitStack() as stay:
        stay.callback(claim(name, moment(clock), moving=True).release)
        stay.enter_context(held(name))
        refuse_attached(name)
        refuse_unrecovered(name)
        with suppress(FileNotFoundError):
            names = os.stat(name).st_nlink
            if names > 1:
                raise WorkbookReadOnly(path=name, reason=f"it has {names} names (hard links); keep one")
            if any(os.path.lexists(f"{name}-{tail}") for tail in ("wal", "journal")):
                _settle(name)
            if read_mark(name) is not None:  # its owner was killed; the file is complete now
                remove_mark(name)
        yield Rest(name, clock)


def tidying(path: str, *, clock: Clock, vfs: str | None = None) -> Callable[[], None]:
    """Return what whoever is about to read a workbook is to do afterwards, so that it is one file again.

    Reading a workbook at rest makes a log and an index beside it, which a reader's connection can't remove. Where there
    is a log already, that is somebody else's business.
    """
    if Path(f"{path}-wal").exists():
        return lambda: None
    return lambda: _tidy(path, clock, vfs)


def _tidy(path: str, clock: Clock, vfs: str | None) -> None:
    # Nobody else may own the workbook meanwhile: whoever does removes them when it closes. It is a courtesy, so what
    # keeps it from being done is no error of the reading.
    if Path(f"{path}-wal").exists():
        with suppress(WorkbookError, AgentBusy), ExitStack() as steps:
            steps.callback(claim(path, moment(clock), passing=True).release)
            _settle(path, vfs)


def _settle(path: str, vfs: str | None = None) -> None:
    """Bring the log into the file, and remove it unless a reader has it open. The caller has the claim.

    Nothing else is changed: not the format, and not the journal mode.

    Raises:
        AgentBusy: somebody reads what it still holds.
        WorkbookError: it can't be read or written.

    """
    try:
        with closing(apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)) as db:
            db.set_busy_timeout(_SETTLE_MS)
            check_format(path, db)
            # All of it, and nothing left that a later file of this name would take for its own.
            db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    except (apsw.BusyError, apsw.LockedError) as error:
        raise AgentBusy(name=path, reason="somebody is reading what its log still holds") from error
    except apsw.Error as error:
        raise from_sqlite(path, error) from error


def look_at(store: Store) -> Look:
    """Read from an open workbook whose it is."""
    row = store.row("SELECT agent, parent_agent, parent_seq FROM meta") or ("", None, None)
    seq, digest, _ = store.read_head()
    return Look(row[0], seq, digest.hex() if seq else "", row[1], row[2])


def extends(store: Store, seq: int, head: str) -> bool:
    """Report whether an open workbook's journal has event `seq` with that hash, so that all up to it is the same."""
    row = store.row("SELECT hash FROM events WHERE seq = ?", (seq,))
    return row[0].hex() == head if row else (seq, head) == (0, "")


def adopt(path: str, *, agent: str, parent: str, parent_seq: int, how: str, clock: Clock | None = None) -> Made:
    """Give a copy of a workbook an identity of its own.

    The copy is a private draft: nobody else knows its name yet. The change is one transaction, and synced with all
    the bytes of the file that weren't yet; the folder isn't.

    Args:
        path: the copy.
        agent: the new agent's id.
        parent: the id of the agent whose copy it is.
        parent_seq: the number of the last event they have in common.
        how: "clone" or "import".
        clock: where times come from.

    Raises:
        WorkbookError: it is no workbook, or can't be written.

    """
    name = real_path(path)
    with closing(_open_draft(name, clock, Durability("draft", "FULL", journal="memory"))) as store:
        with store.writing():
            be_born(store, agent, (parent, parent_seq), how)
        found = look_at(store)
    return made(name, found)


def _open_draft(path: str, clock: Clock | None, durability: Durability) -> Store:
    clock = clock or SystemClock()
    return open_store(path, readonly=False, durability=durability, clock=clock, ids=IdSource(clock, SystemEntropy()))


def be_born(store: Store, agent: str, parent: tuple[str, int], how: str) -> None:
    """Record, in the transaction that is open, that a new agent begins here."""
    facts = {"agent": agent, "parent": parent[0], "parent_seq": parent[1], "how": how}
    Journal(store).append(BORN, facts)
    store.execute(
        "UPDATE meta SET agent = ?, parent_agent = ?, parent_seq = ?, created = ?",
        (agent, *parent, store.clock.now_us()),
    )


def made(path: str, found: Look) -> Made:
    """Return what there is to say of a workbook that was made just now and is closed."""
    return Made(found.agent, found.seq, found.head, os.stat(path).st_size, found.parent, found.parent_seq)


def seal(path: str, *, clock: Clock | None = None) -> None:
    """Make a template of a private draft: one file for good, which nobody writes.

    It gets a rollback journal in place of the log, so that it can be read without any file beside it, and a mode that
    lets nobody write; `Workbook.open` obeys that also where the system, for root, wouldn't.

    Raises:
        WorkbookError: it is no workbook, or can't be written.

    """
    name = real_path(path)
    _open_draft(name, clock, Durability("sealed", "FULL", journal="delete")).close()
    try:
        os.chmod(name, _MODE_SEALED)
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise from_system(name, error) from error


def is_sealed(path: str) -> bool:
    """Report whether a file's mode lets nobody write it."""
    return not stat.S_IMODE(os.stat(path).st_mode) & _WRITABLE
