"""Who is attached to a workbook: a program of somebody else's that reads its file and its log beside the owner.

Such a program (Litestream) has the file open by its name. Were the file moved, removed or replaced under it, it would
go on with the one that is gone, and read the next one's log for that one's. So it is announced, by a lock on a small
file beside the workbook, `NAME.workbook-attached`, whose text says who it is.

The lock is that of flock(2), which belongs to the open file and not to a process: the program inherits the descriptor
from whoever started it. So the lock ends when both are gone, however they die, and not before. The record lock of
`owner.py` could not do that.

**Movers and attachments.** `rest.at_rest` takes the claim, as a mover, and then looks for an attachment. Whoever
attaches a program takes this lock, and then looks for a mover's claim. Where both come at once, at least one of them
sees the other and steps back. An owner that is no mover doesn't mind a program that reads beside it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import weakref
from contextlib import suppress
from typing import Final

import msgspec

from torpor.base.claims import leads_to
from torpor.base.errors import AgentBusy
from torpor.workbook.owner import holder
from torpor.workbook.weather import from_system

_FOLDER: Final = "torpor-attached-"
"""How the names of the folders begin that attached programs have."""

_RECORD_BYTES: Final = 8192
"""The text is filled up to so many bytes and written in one go: whoever reads it gets the old or the new."""


_attachments: weakref.WeakSet[Attachment] = weakref.WeakSet()


class Attached(msgspec.Struct, frozen=True, kw_only=True):
    """Which program is attached to a workbook, as written beside it. Times are µs since 1970 UTC."""

    pid: int
    """The process that started the program, and ends with it."""
    program: str
    """What the program calls itself, with its version."""
    child: int = 0
    """The program's own process; 0 while it is being started."""
    target: str = ""
    """Where it sends what it reads."""
    folder: str = ""
    """What it keeps on this machine, made by `folder_for_attached`: removed with it, or when it is found dead."""
    since: int = 0
    sent: int = 0
    """Bytes that it has sent."""
    last: int = 0
    """When it last sent something; 0 where it hasn't."""
    trouble: str = ""
    """What it complained of, since it last sent something."""


_attached: Final = msgspec.json.Decoder(Attached).decode


class Attachment:
    """The lock that tells of an attached program; the program inherits `descriptor`."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        _attachments.add(self)

    def write(self, record: Attached) -> None:
        """Say anew who is attached.

        Raises:
            StorageFull, StorageFailed: it can't be written.

        """
        try:
            os.pwrite(self.descriptor, msgspec.json.encode(record).ljust(_RECORD_BYTES), 0)
        except OSError as error:
            raise from_system(self.path, error) from error

    def release(self) -> None:
        """End the attachment and remove its file; the program must have ended.

        Raises:
            WorkbookReadOnly, StorageFailed: the file can't be removed.

        """
        _attachments.discard(self)
        _remove(self.path, self.descriptor)


def attachment_path(path: str) -> str:
    """Return the name of the file that tells who is attached to the workbook at `path`."""
    return f"{path}-attached"


def folder_for_attached() -> str:
    """Make a folder, among those for temporary files, for what an attached program keeps on this machine."""
    return tempfile.mkdtemp(prefix=_FOLDER)


def attach(path: str, record: Attached) -> Attachment:
    """Announce that a program is about to be attached to the workbook at `path` (absolute, links resolved).

    Raises:
        AgentBusy: another program is attached, or somebody is about to copy, move or remove the file.
        WorkbookMissing, WorkbookReadOnly, StorageFull, StorageFailed: the lock's file can't be made.

    """
    while True:
        try:
            descriptor = os.open(attachment_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise from_system(path, error) from error
        if not _locked(descriptor):
            refusal = _busy(path, descriptor)
            os.close(descriptor)
            raise refusal
        if leads_to(attachment_path(path), descriptor):
            break
        os.close(descriptor)  # whoever had it removed it meanwhile
    attachment = Attachment(path, descriptor)
    try:
        _clear(_read(descriptor).folder)  # a dead one's
        attachment.write(record)
        _refuse_movers(path)
    except BaseException:
        with suppress(Exception):  # the first error is what counts
            attachment.release()
        raise
    return attachment


def _refuse_movers(path: str) -> None:
    mover = holder(path)
    if mover is not None and mover.moving:
        reason = f"process {mover.pid} ({mover.command}) is about to copy, move or remove it"
        raise AgentBusy(name=path, reason=reason)


def attached(path: str) -> Attached | None:
    """Return which program is attached to a workbook, or None; what a dead one left is removed.

    Raises:
        WorkbookReadOnly, StorageFailed: that can't be known.

    """
    descriptor = _open(path)
    if descriptor is None:
        return None
    if _locked(descriptor):
        _bury(path, descriptor)
        return None
    try:
        return _read(descriptor)
    finally:
        os.close(descriptor)


def refuse_attached(path: str) -> None:
    """Refuse to move a workbook to which a program is attached. The caller has the claim, as a mover.

    Raises:
        AgentBusy: one is.
        WorkbookReadOnly, StorageFailed: that can't be known.

    """
    descriptor = _open(path)
    if descriptor is None:
        return
    if _locked(descriptor):
        _bury(path, descriptor)
        return
    refusal = _busy(path, descriptor)
    os.close(descriptor)
    raise refusal


def _open(path: str) -> int | None:
    """Return a descriptor of the lock's file; None where there is none."""
    try:
        return os.open(attachment_path(path), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise from_system(path, error) from error


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _busy(path: str, descriptor: int) -> AgentBusy:
    record = _read(descriptor)
    where = f" to {record.target}" if record.target else ""
    return AgentBusy(name=path, reason=f"{record.program} replicates it{where}, for process {record.pid}")


def _read(descriptor: int) -> Attached:
    try:
        return _attached(os.pread(descriptor, _RECORD_BYTES, 0))
    except msgspec.MsgspecError:
        return Attached(pid=0, program="a program that is just starting")


def _bury(path: str, descriptor: int) -> None:
    """Remove what a program left that died with its owner; the lock is held."""
    _clear(_read(descriptor).folder)
    _remove(path, descriptor)


def _clear(folder: str) -> None:
    """Remove the folder of an attached program, if it is one, and this user's."""
    if not os.path.basename(folder).startswith(_FOLDER):
        return
    with suppress(OSError):
        found = os.lstat(folder)
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
            shutil.rmtree(folder, ignore_errors=True)


def _remove(path: str, descriptor: int) -> None:
    # Unlinked before the lock goes with the descriptor: whoever opened it meanwhile then finds that the name leads
    # elsewhere.
    try:
        if leads_to(attachment_path(path), descriptor):
            os.unlink(attachment_path(path))
    except OSError as error:
        raise from_system(path, error) from error
    finally:
        os.close(descriptor)


def _after_fork() -> None:
    """Close, in a forked child, what the parent holds: it would keep the lock alive after parent and program."""
    for attachment in list(_attachments):
        os.close(attachment.descriptor)
    _attachments.clear()


os.register_at_fork(after_in_child=_after_fork)
