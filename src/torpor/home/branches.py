"""Forking an agent, and putting it back."""

from __future__ import annotations

from msgspec.structs import replace

from torpor.base.errors import AgentBusy
from torpor.base.faults import point
from torpor.home.making import Draft, Wish, making
from torpor.home.results import Rewound
from torpor.home.site import Asked, Site
from torpor.home.wake import awake, reading
from torpor.ledger import AgentRecord
from torpor.workbook import Workbook
from torpor.workbook import fork as fork_workbook

REWOUND = "journal.rewound"
"""The kind of the event by which a workbook is put back."""


def fork(site: Site, name: str, at: int | None, new: str | None) -> AgentRecord:
    """Make a new agent of what another was at an event, while that one goes on.

    Raises:
        NameRefused, NameTaken: the new one can't be called that.
        AgentUnknown, AgentAsleep, CopyMissing: there is no agent or no file to fork.
        PointRefused: there is no such event, or what was then is not kept.
        WorkbookError: a file can't be read or written.

    """
    asked = Asked("fork")
    if new is not None:
        site.free_name(new)
    with reading(site, name) as (parent, book):
        draft = Draft(site, new or site.new_name(parent.name))
        with making(site, [draft]) as files:
            made = fork_workbook(book.path, site.absolute(draft.file), agent=draft.id, at=at, clock=site.clock)
            point("move.copied")
            wish = Wish(parent.tenant, parent.suspend_after_s, parent.freeze_after_s)
            record = draft.record(site, made, wish)
            born = site.note(asked, draft.id, made.bytes, parent=parent.name, at=made.parent_seq)
            told = site.note(Asked("forked"), parent.id, 0, fork=draft.name, at=made.parent_seq)
            (record,) = files.add([record], [born, told])
            point("move.committed")
    site.introduce([record])
    return record


def rewind(site: Site, name: str, to: int, why: str) -> Rewound:
    """Put an agent back to an event; what came after stays in its journal, on a branch.

    Raises:
        AgentBusy: somebody uses it.
        PointRefused: there is no such event, what was then is not kept, or a run is under way.
        TorporError: it can't be woken.

    """
    asked = Asked("rewind", why)
    with site.turn(name, wait=True) as record:
        activation, woken = awake(site, record, Asked("wake", f"to be put back to event {to}"))
        if activation.users:
            raise AgentBusy(name=record.name, reason="this process is at work with it")
        book = activation.book
        done = _is_back(book, to)
        if done:
            reason = f"it is back at event {to}, and has done nothing since"
            return Rewound(name=record.name, agent=record.id, to=to, seq=done, skipped=reason)
        seq = book.rewind(to, why=why)
        activation.active = site.clock.now_us()
        head, digest = book.head
        after = replace(woken.record, seq=head, head=digest)
        site.ledger.move(woken.record, after, site.note(asked, record.id, 0, to=to, event=seq))
        point("move.committed")
    return Rewound(name=record.name, agent=record.id, to=to, seq=seq)


def _is_back(book: Workbook, to: int) -> int:
    """Return the number of the rewind to `to` that the journal ends with; 0 where it doesn't."""
    last = book.journal.event(book.last)
    if last is None or last.kind != REWOUND or last.body["to"] != book.past.point(to):
        return 0
    return last.seq
