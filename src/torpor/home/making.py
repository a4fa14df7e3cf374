"""Making new agents: from nothing, from a template, from another agent, from a file.

However it is made, the new agent's file and its draft are named in the ledger as leftovers before there is anything,
under the claim of the file (of the first one, where many are made at once). The transaction that adds the agent to the
ledger takes them from there. So a file without an agent, or an agent without a file, lasts no longer than the next
start.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from torpor.base.errors import FileTaken
from torpor.base.faults import point
from torpor.home.held import Held, holding
from torpor.home.leftovers import undoing
from torpor.home.names import check_tenant
from torpor.home.site import DRAFT, Asked, Site, agent_file, file_place
from torpor.ledger import AgentRecord, Leftover, Note
from torpor.lifecycle import LADDER
from torpor.workbook import FILE, Made, create


class Wish(msgspec.Struct, frozen=True):
    """What is wished of a new agent.

    Attributes:
        tenant: for whom it works; "" for nobody in particular.
        suspend_after_s: its own threshold of the ladder, in seconds.
        freeze_after_s: likewise.

    Raises:
        NameRefused: the tenant can't be called that.
        DurationRefused: a threshold is not a positive number.

    """

    tenant: str = ""
    suspend_after_s: float | None = None
    freeze_after_s: float | None = None

    def __post_init__(self) -> None:
        if self.tenant:
            check_tenant(self.tenant)
        LADDER.but(self.suspend_after_s, self.freeze_after_s)

    def before(self, suspend_after_s: float | None, freeze_after_s: float | None) -> Wish:
        """Return this wish with other thresholds where it names none."""
        return Wish(
            self.tenant,
            suspend_after_s if self.suspend_after_s is None else self.suspend_after_s,
            freeze_after_s if self.freeze_after_s is None else self.freeze_after_s,
        )


class Draft:
    """A new agent, or a template, that has no file yet.

    Attributes:
        id: what its id is to be.
        name: what its name is to be.
        file: where its file is to be, relative to the home.

    """

    __slots__ = ("file", "id", "name")

    def __init__(self, site: Site, name: str, file: str | None = None) -> None:
        self.id = site.new_id()
        self.name = name
        self.file = file or agent_file(name)

    @property
    def draft(self) -> str:
        """Where the file is while it is being made, relative to the home."""
        return f"{self.file}{DRAFT}"

    def record(self, site: Site, made: Made, wish: Wish, template: str | None = None) -> AgentRecord:
        """Return what the ledger is to say of the agent.

        Args:
            site: the home.
            made: what is said of its workbook.
            wish: what is wished of it.
            template: the name of the template that it was cloned from.

        """
        now = site.clock.now_us()
        return AgentRecord(
            id=self.id,
            name=self.name,
            tenant=wish.tenant,
            template=template,
            file=self.file,
            bytes=made.bytes,
            seq=made.seq,
            head=made.head,
            parent=made.parent,
            parent_seq=made.parent_seq,
            created=now,
            active=now,
            suspend_after_s=wish.suspend_after_s,
            freeze_after_s=wish.freeze_after_s,
        )


class Making:
    """New files, of which nothing remains unless the ledger comes to know them.

    Attributes:
        held: the claim on the first of them.
        leftovers: what the ledger names until then.

    """

    def __init__(self, held: Held, leftovers: Sequence[Leftover]) -> None:
        self.held = held
        self.leftovers = leftovers

    def add(self, records: Sequence[AgentRecord], notes: Sequence[Note]) -> list[AgentRecord]:
        """Let the ledger know the new agents, all or none.

        Raises:
            NameTaken: somebody was faster.

        """
        ledger = self.held.site.ledger
        ledger.add(records, notes, made=self.leftovers)
        return [ledger.agent(record.id) for record in records]


@contextmanager
def making(site: Site, drafts: Sequence[Draft]) -> Iterator[Making]:
    """Hold the place of new files; where the block fails, or this process dies in it, they are removed again.

    Raises:
        FileTaken: a file is in the place of one.
        AgentBusy: somebody else is making the first of them.

    """
    first = drafts[0]
    with holding(site, first.file, first.name) as held:
        for draft in drafts:
            for file in (draft.file, draft.draft):
                if site.has(file):
                    raise FileTaken(path=site.absolute(file))
        leftovers = [
            site.leftover(file_place(file), draft.id, first.file)
            for draft in drafts
            for file in (draft.draft, draft.file)
        ]
        with undoing(held):
            site.ledger.reserve(leftovers)
            point("move.reserved")
            yield Making(held, leftovers)


def new(site: Site, name: str, wish: Wish) -> AgentRecord:
    """Make an agent with an empty workbook.

    Raises:
        NameRefused, NameTaken: it can't be called that.
        FileTaken, AgentBusy: something is in its place.

    """
    asked = Asked("new")
    site.free_name(name)
    draft = Draft(site, name)
    with making(site, [draft]) as files:
        create(site.absolute(draft.file), draft.id, durability=FILE, clock=site.clock)
        point("move.copied")
        made = Made(draft.id, 0, "", site.size(draft.file), None, None)
        (record,) = files.add([draft.record(site, made, wish)], [site.note(asked, draft.id, made.bytes)])
        point("move.committed")
    site.introduce([record])
    return record
