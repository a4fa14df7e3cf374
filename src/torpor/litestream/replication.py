"""Replicating one workbook: Litestream attached to it, from its first snapshot to the last change.

**What Litestream does to a workbook.** It is a second process that has the file open. It keeps a read transaction, so
that nobody else can begin the log anew, copies the log's frames each second, and makes the checkpoints itself. It
writes, too: two tables of its own, and a row in one of them at each checkpoint. SQLite's locks are made for that; the
owner neither knows nor minds. Two things are different while it is attached. The owner's last close leaves the log
beside the file. And the file must stay where it is: hence the attachment (`torpor.workbook.attachment`), which keeps
moves away.

**Who owns it.** The thread that runs `follow`. Litestream is killed when that thread or its process ends. The lock of
the attachment is inherited by Litestream, so nobody moves the workbook before it is really gone.

**At the end** Litestream sends what is left. If nobody has the workbook open then, its log is brought into it: it is
one file again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from torpor.base.clock import Clock
from torpor.base.errors import AgentBusy, TorporError, WorkbookMissing
from torpor.litestream import configuration
from torpor.litestream.binary import Litestream
from torpor.litestream.child import STOP_S, Child, Line
from torpor.litestream.targets import Target
from torpor.workbook import Workbook, at_rest
from torpor.workbook.attachment import Attached, Attachment, attach
from torpor.workbook.mark import read_mark
from torpor.workbook.opening import look
from torpor.workbook.paths import real_path

PATIENCE_S: Final = 15.0
"""Seconds for which a beginning may go wrong before it is given up: a network may be slow to come up."""

BEAT_S: Final = 0.25
"""Seconds between two looks at whether the workbook is still where it was."""

QUIET_S: Final = 60.0
"""Seconds after which trouble that goes on is told once more."""

_TROUBLE_MAX: Final = 2_000
"""Characters kept of what Litestream complains of."""

_SHIPPED: Final[dict[str, Literal["snapshot", "changes"]]] = {
    "snapshot written": "snapshot",
    "wal segment written": "changes",  # versions 0.3
    "ltx file uploaded": "changes",  # versions 0.5, whose first file is a whole snapshot
}


class Shipped(msgspec.Struct, frozen=True):
    """Something arrived at the target."""

    what: Literal["snapshot", "changes"]
    bytes: int


class Trouble(msgspec.Struct, frozen=True):
    """Something went wrong; Litestream goes on trying."""

    text: str


Told = Shipped | Trouble


class Replication:
    """A workbook to which Litestream is attached, and which is whole at the target. Made by `replicate`."""

    def __init__(self, path: str, child: Child, attachment: Attachment, record: Attached, clock: Clock) -> None:
        self.path = path
        self.record = record
        self._child = child
        self._attachment = attachment
        self._clock = clock
        self._identity = _identity(path)
        self._complained = 0.0

    def begin(self, watch: Callable[[Told], None]) -> None:
        """Wait until the workbook is at the target, as a snapshot and all that came after it.

        Raises:
            LitestreamFailed: it ended, or nothing but errors came of it for `PATIENCE_S` seconds.
            WorkbookMissing: the workbook is gone.

        """
        wrong_since: float | None = None
        while True:
            for told in self._hear():
                watch(told)
                if isinstance(told, Shipped):
                    wrong_since = None
                    if told.what == "changes":
                        return
                elif wrong_since is None:
                    wrong_since = time.monotonic()
            if self._child.silent:
                self._child.wait()
                raise self._child.failed(f"replicate {self.path}")
            if wrong_since is not None and time.monotonic() - wrong_since > PATIENCE_S:
                raise self._child.failed(f"replicate {self.path} to {self.record.target}", self.record.trouble)

    def follow(self, watch: Callable[[Told], None]) -> None:
        """Go on until somebody ends Litestream (`stop`), which is the orderly end.

        Raises:
            LitestreamFailed: it ended by itself.
            WorkbookMissing: the workbook is gone.

        """
        while not self._child.silent:
            for told in self._hear():
                watch(told)
        if self._child.wait() != 0:
            raise self._child.failed(f"go on replicating {self.path}")

    def _hear(self) -> Iterator[Told]:
        for line in self._child.hear(BEAT_S):
            told = _told(line)
            if told is not None and self._note(told):
                yield told
        if _identity(self.path) != self._identity:
            # What is there now is another file, if any: not one more of its pages may go to the target.
            self._child.kill()
            raise WorkbookMissing(path=self.path, reason="it was moved, removed or replaced while it was replicated")

    def _note(self, told: Told) -> bool:
        """Write down what happened; returns whether it is worth telling: Litestream says the same each second."""
        now = time.monotonic()
        if isinstance(told, Trouble):
            again = self.record.trouble != "" and now - self._complained < QUIET_S
            self._complained = self._complained if again else now
            self.record = replace(self.record, trouble=told.text[:_TROUBLE_MAX])
        else:
            again = False
            sent = self.record.sent + told.bytes
            self.record = replace(self.record, sent=sent, last=self._clock.now_us(), trouble="")
        self._attachment.write(self.record)
        return not again

    def end(self, watch: Callable[[Told], None]) -> None:
        """Have Litestream send what is left, and end.

        Raises:
            LitestreamFailed: it didn't end in order, so the last changes may not be at the target.

        """
        self._child.ask_to_end()
        deadline = time.monotonic() + STOP_S
        while not self._child.silent and time.monotonic() < deadline:
            for told in self._hear():
                watch(told)
        if self._child.wait() != 0:
            raise self._child.failed(f"send the last changes of {self.path}")


@contextmanager
def replicate(
    path: str, target: Target, litestream: Litestream, *, clock: Clock, watch: Callable[[Told], None]
) -> Iterator[Replication]:
    """Attach Litestream to a workbook for the length of a block, which begins when the workbook is at the target.

    Nothing else is at the target, or earlier replications of the same workbook: two at one address would be mixed up.

    Args:
        path: the workbook, which may be in use.
        target: where to.
        litestream: the program.
        clock: where times come from.
        watch: is told what arrives and what goes wrong.

    Raises:
        WorkbookMissing, NotAWorkbook, WorkbookReadOnly, OlderFormat, NewerFormat, WorkbookDamaged: as found.
        AgentBusy: it is replicated already, somebody is about to move it, or a heartbeat keeps its commits.
        LitestreamFailed: it can't be replicated.
        StorageFull, StorageFailed: what is needed for it can't be written.

    """
    name = real_path(path)
    look(name, readonly=False)  # Litestream would write into a template
    with ExitStack() as stay:
        stay.callback(_tidy, name, clock)
        folder = stay.enter_context(configuration.scratch())
        record = Attached(
            pid=os.getpid(), program=litestream.name, target=target.url, folder=folder, since=clock.now_us()
        )
        attachment = attach(name, record)
        stay.callback(attachment.release)
        _refuse_heartbeat(name)
        Workbook.open(name, readonly=True, clock=clock).close()
        config = configuration.write(folder, name, target)
        words = [litestream.path, "replicate", "-no-expand-env", "-config", config]
        child = Child(words, target.environment, inherits=[attachment.descriptor])
        stay.callback(_finish, child)
        record = replace(record, child=child.pid)
        attachment.write(record)
        replication = Replication(name, child, attachment, record, clock)
        replication.begin(watch)
        yield replication
        replication.end(watch)


def _refuse_heartbeat(path: str) -> None:
    """Refuse a workbook whose commits a heartbeat keeps: what Litestream writes into it would be in no record."""
    mark = read_mark(path)
    if mark is not None:
        raise AgentBusy(
            name=path, reason=f"the heartbeat of {mark.home} keeps its commits, and can copy them elsewhere"
        )


def _finish(child: Child) -> None:
    """Make sure that it has ended, whatever the block ended with."""
    try:
        child.ask_to_end()
        child.wait()
    except BaseException:
        child.kill()
        raise


def _tidy(path: str, clock: Clock) -> None:
    """Make one file of the workbook again, unless somebody has it open, who does so when closing it."""
    with suppress(TorporError), at_rest(path, clock=clock):
        pass


def _told(line: Line) -> Told | None:
    """Return what a line tells of the replication; None for all that is only for those who look into Litestream."""
    what = _SHIPPED.get(line.text)
    if what is not None:
        return Shipped(what, line.bytes)
    if line.level in ("ERROR", "WARN"):
        return Trouble(line.said)
    return None


def _identity(path: str) -> tuple[int, int] | None:
    """Return what tells a file from another that is in its place later; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
