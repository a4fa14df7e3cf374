"""Leaving and arriving: exports and imports.

An export is built outside the home, under a draft's name beside its target. The ledger names that draft too, so a
killed export leaves nothing but, at most, the whole file. An import begins with a private copy, which is verified
before anything else is believed of it, and then given an identity of its own: a file may be taken in twice.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from torpor.base.errors import (
    AgentBusy,
    FileTaken,
    ImportRefused,
    NewerFormat,
    NotAWorkbook,
    OlderFormat,
    WorkbookDamaged,
    WorkbookMissing,
    WorkbookOwned,
)
from torpor.base.faults import point
from torpor.home.held import holding
from torpor.home.leftovers import undoing
from torpor.home.making import Draft, Wish, making
from torpor.home.results import Exported
from torpor.home.site import AGENTS, DRAFT, Asked, Site, file_place
from torpor.home.wake import reading
from torpor.ledger import AgentRecord
from torpor.stores.copies import copy_file, place
from torpor.workbook import Workbook, adopt, at_rest
from torpor.workbook import export as export_workbook
from torpor.workbook.paths import real_path


def export(site: Site, name: str, target: str, *, with_memory: bool) -> Exported:
    """Make a file that may leave: the agent's workspace, or the whole agent where that is asked for.

    Raises:
        AgentUnknown, AgentAsleep, CopyMissing: there is no agent or no file to export.
        FileTaken: something is at the target.
        WorkbookMissing: nothing can be there, or its folder is missing.
        WorkbookError: a file can't be read or written.

    """
    asked = Asked("export")
    real_path(target)  # refuses what can't name a file
    path = os.path.abspath(target)
    with reading(site, name) as (record, book):
        if os.path.lexists(path):
            raise FileTaken(path=path)
        number = site.new_id()
        draft = f"{path}-{number}{DRAFT}"
        # The claim is on a name in the home, so that nothing is left elsewhere by whoever dies with it.
        with holding(site, f"{AGENTS}/{number}", record.name) as held, undoing(held):
            leftovers = [site.leftover(file_place(file), record.id, held.file) for file in (draft, f"{draft}{DRAFT}")]
            site.ledger.reserve(leftovers)
            point("move.reserved")
            made = export_workbook(book.path, draft, with_memory=with_memory, clock=site.clock)
            place(draft, path)
            point("move.copied")
            site.ledger.note(site.note(asked, record.id, made.bytes, to=path, with_memory=with_memory))
            point("move.committed")
            site.ledger.release(leftovers)
        return Exported(agent=made.agent, name=record.name, path=path, bytes=made.bytes, with_memory=with_memory)


def take_in(site: Site, file: str, name: str, tenant: str) -> AgentRecord:
    """Make a new agent of a copy of a workbook from elsewhere.

    Raises:
        NameRefused, NameTaken: it can't be called that.
        ImportRefused: it is no whole workbook, or somebody has it open.
        WorkbookMissing: there is no such file.
        WorkbookError: a file can't be read or written.

    """
    asked = Asked("import")
    site.free_name(name)
    wish = Wish(tenant)
    draft = Draft(site, name)
    path = site.absolute(draft.draft)
    with making(site, [draft]) as files:
        with _refusing(file):
            _copy(site, file, path)
            parent, seq = _proven(site, path)
        made = adopt(path, agent=draft.id, parent=parent, parent_seq=seq, how="import", clock=site.clock)
        place(path, site.absolute(draft.file))
        point("move.copied")
        record = draft.record(site, made, wish)
        note = site.note(asked, draft.id, made.bytes, file=os.path.abspath(file), parent=parent)
        (record,) = files.add([record], [note])
        point("move.committed")
    site.introduce([record])
    return record


def _copy(site: Site, file: str, path: str) -> None:
    """Copy a file that nobody has open, and that is no plain something else."""
    if not os.path.lexists(file):
        raise WorkbookMissing(path=file, reason="there is no file")
    with suppress(OlderFormat):  # the copy is brought up to date, not the original
        Workbook.open(file, readonly=True, clock=site.clock).close()
    with at_rest(file, clock=site.clock) as rest:
        copy_file(rest.path, path)


def _proven(site: Site, path: str) -> tuple[str, int]:
    """Return whose workbook a draft is, and the number of its newest event, if it keeps every promise."""
    with Workbook.open(path, create=False, clock=site.clock) as book:
        problems = book.verify().problems
        if problems:
            first = f"{problems[0].invariant}: {problems[0].what}"
            raise WorkbookDamaged(path=path, reason=f"it breaks {len(problems)} promises, first {first}")
        return book.agent, book.last


@contextmanager
def _refusing(file: str) -> Iterator[None]:
    """Say of a file what is wrong with it, or with its copy.

    Raises:
        ImportRefused: it can't be taken in.

    """
    try:
        yield
    except (NotAWorkbook, WorkbookDamaged, AgentBusy) as error:
        raise ImportRefused(path=file, reason=error.reason) from error
    except NewerFormat as error:
        reason = f"it has format {error.found}, and this Torpor knows formats up to {error.known}"
        raise ImportRefused(path=file, reason=reason) from error
    except WorkbookOwned as error:
        raise ImportRefused(path=file, reason=f"process {error.pid} ({error.command}) has it open") from error
