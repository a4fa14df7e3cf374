"""Holding an agent's file: nobody else opens, moves or makes it meanwhile.

The claim on a file (torpor.workbook.owner) decides, over all processes, who may move the agent that belongs there. It
works for a name that has no file, so it also guards the making of one. What the ledger says of an agent is read again
once the claim is held: from then on only the holder changes it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from torpor.base.errors import AgentBusy, AgentSwapped, CopyMissing, MoveConflict, WorkbookOwned
from torpor.home.site import Site
from torpor.ledger import AgentRecord
from torpor.workbook import Look, Rest, at_rest


class Held:
    """A file whose claim is held, and which nobody has open.

    Attributes:
        site: the home.
        file: its path, relative to the home.
        path: its path, absolute.

    """

    def __init__(self, site: Site, file: str, rest: Rest) -> None:
        self.site = site
        self.file = file
        self.path = site.absolute(file)
        self._rest = rest
        self._seen: Look | None = None

    @property
    def there(self) -> bool:
        """Whether there is a file."""
        return os.path.lexists(self.path)

    def look(self) -> Look:
        """Read whose workbook it is.

        Raises:
            WorkbookError: it can't be read as a workbook.

        """
        if self._seen is None:  # nobody changes it while it is held
            self._seen = self._rest.look()
        return self._seen


class HeldAgent(Held):
    """An agent's file, held, with what the ledger says of the agent."""

    def __init__(self, held: Held, record: AgentRecord) -> None:
        super().__init__(held.site, held.file, held._rest)  # noqa: SLF001  (its own class)
        self.record = record

    def checked(self) -> Look:
        """Return where the file's journal stands, after making sure that it is the agent as it was left, or later.

        Raises:
            CopyMissing: there is no file.
            AgentSwapped: it is another agent's, or an older one of its own.
            WorkbookError: it can't be read as a workbook.

        """
        if not self.there:
            raise CopyMissing(name=self.record.name, place=self.path, reason="there is no file")
        look = self.look()
        check_left(self.record, self.path, look, self._rest.extends)
        return look


def check_left(record: AgentRecord, path: str, look: Look, extends: Callable[[int, str], bool]) -> None:
    """Refuse a workbook that is not the agent as it was left, or later.

    Args:
        record: what the ledger says of the agent.
        path: the file, for the error.
        look: what the file says of itself.
        extends: tells whether the file's journal has an event of this number and hash.

    Raises:
        AgentSwapped: it is another agent's, or an older one of its own, or one that went another way.

    """
    if look.agent != record.id:
        reason = f"it is the workbook of agent {look.agent}"
    elif look.seq < record.seq:
        reason = f"it ends at event {look.seq}, and was left at event {record.seq}"
    elif look.seq == record.seq:
        reason = "" if look.head == record.head else f"its event {look.seq} is another than when it was left"
    else:
        reason = "" if extends(record.seq, record.head) else f"its event {record.seq} is another than when it was left"
    if reason:
        raise AgentSwapped(name=record.name, path=path, reason=reason)


@contextmanager
def holding(site: Site, file: str, name: str) -> Iterator[Held]:
    """Hold a file that nobody has open, or its name where there is none.

    Args:
        site: the home.
        file: the file, relative to the home.
        name: whose it is, for whoever is refused.

    Raises:
        AgentBusy: somebody has it.
        WorkbookError: it is there and can't be brought to rest.

    """
    with ExitStack() as stay:
        with busy(name):
            rest = stay.enter_context(at_rest(site.absolute(file), clock=site.clock))
        yield Held(site, file, rest)


@contextmanager
def holding_agent(site: Site, record: AgentRecord) -> Iterator[HeldAgent]:
    """Hold an agent's file, or the place for it, as the agent was when `record` was read.

    Raises:
        AgentBusy: somebody has it.
        MoveConflict: somebody moved the agent since.
        WorkbookError: its file can't be brought to rest.

    """
    with holding(site, record.file, record.name) as held:
        yield HeldAgent(held, unmoved(site, record))


def unmoved(site: Site, record: AgentRecord) -> AgentRecord:
    """Return what the ledger says of an agent now that its claim is held.

    Raises:
        MoveConflict: somebody moved it since `record` was read.

    """
    now = site.ledger.agent(record.id)
    if (now.state, now.epoch) != (record.state, record.epoch):
        raise MoveConflict(name=now.name, state=now.state)
    return now


@contextmanager
def busy(name: str) -> Iterator[None]:
    """Say of a workbook that somebody has open, or of its claim, that the agent is busy.

    Raises:
        AgentBusy: as said.

    """
    try:
        yield
    except WorkbookOwned as owned:
        reason = f"process {owned.pid} ({owned.command}) has it since {owned.since}"
        raise AgentBusy(name=name, reason=reason) from owned
    except AgentBusy as refused:
        raise AgentBusy(name=name, reason=refused.reason) from refused
