"""`Lifecycle`: what can be asked of whole agents, one method a use case. It imports the home, so it is loaded late."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from heapq import merge
from pathlib import Path

import msgspec

from torpor.base.clock import Clock
from torpor.base.duration import seconds
from torpor.base.errors import AgentAsleep, AgentUnknown, TorporError, WorkbookMissing
from torpor.home import Home, Ticked, keep_ticking
from torpor.ledger import AgentRecord
from torpor.lifecycle import State
from torpor.service.homes import Homes
from torpor.service.records import (
    agent_view,
    branch_views,
    move_view,
    moved_view,
    parent_view,
    template_story,
    template_view,
    tick_view,
    told,
    watched,
    woken_view,
)
from torpor.service.views import (
    AgentStory,
    AgentView,
    ExportedView,
    ForkedView,
    MovedView,
    Moving,
    Newborn,
    RelativeView,
    RewoundView,
    TemplateStory,
    TemplateView,
    TickView,
    Verb,
)
from torpor.workbook import Difference, Workbook, diff

Looking = Callable[[Moving], None]
"""Is told how far a move is."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_POINT = re.compile(r"(.+)@(\d{1,18})", re.ASCII | re.DOTALL)


class Lifecycle:
    """The use cases of agents as wholes: being made, moved, branched, exported, and timed.

    Args:
        homes: where the agents are kept.
        clock: where times come from.

    """

    def __init__(self, homes: Homes, clock: Clock) -> None:
        self._homes = homes
        self._clock = clock

    def now_us(self) -> int:
        """Return the present time, µs since 1970 UTC."""
        return self._clock.now_us()

    # --- making and looking

    def new(self, wish: Newborn) -> AgentView:
        """Make an agent; the home is made with it.

        Raises:
            NameRefused, NameTaken: its name can't be given.
            AgentUnknown, TemplateTouched: its template is none, or can't be copied.
            DurationRefused: a threshold is no duration.

        """
        after = _thresholds(wish)
        home = self._homes.home(create=True)
        return self._seen(home, home.new(wish.name, tenant=wish.tenant, template=wish.source, **after))

    def list_agents(
        self, *, tenant: str | None = None, state: State | None = None, everybody: bool
    ) -> Iterator[AgentView]:
        """Yield agents in the order of their names.

        Args:
            tenant: only this tenant's.
            state: only those in this state.
            everybody: the deleted as well.

        """
        if not self._homes.made:
            return
        home = self._homes.home()
        found = home.ledger.agents(tenant=tenant, state=state)
        if everybody and state is None:
            deleted = home.ledger.agents(tenant=tenant, state="deleted")
            found = merge(found, deleted, key=lambda agent: agent.name.casefold())
        for record in found:
            yield self._seen(home, record)

    def show(self, name: str, *, last: int | None = None) -> AgentStory | TemplateStory:
        """Return all that is known of an agent, or of a template.

        Args:
            name: the agent's, or the template's.
            last: only the newest so many moves of its history.

        Raises:
            AgentUnknown: there is none of that name.

        """
        home = self._homes.where(name, "agent")
        try:
            record = home.ledger.agent(name)
        except AgentUnknown:
            try:
                template = home.ledger.templates.get(name)
            except AgentUnknown:
                pass
            else:
                return template_story(home, template, last)
            raise
        children = [
            RelativeView(name=child.name, id=child.id, at=child.parent_seq) for child in home.ledger.children(record.id)
        ]
        seq, head, branches, problem = record.seq, record.head, None, None
        try:
            with home.reading(record.name) as book:
                seq, head = book.head
                branches = branch_views(book)
        except AgentAsleep:
            branches = None
        except TorporError as error:  # what the ledger knows is the more worth showing
            problem = told(record.name, error)
        return AgentStory(
            **msgspec.structs.asdict(self._seen(home, record)),
            problem=problem,
            seq=seq,
            head=head,
            digest=record.digest,
            parent=parent_view(home, record),
            children=children,
            branches=branches,
            history=[move_view(move) for move in home.ledger.history(record.id, last=last)],
        )

    # --- moving

    def move(self, verb: Verb, name: str, *, why: str, watch: Looking) -> MovedView:
        """Do one move of an agent's life; where it was done already, the answer says so.

        Args:
            verb: the move.
            name: the agent's.
            why: for its history.
            watch: is told how far it is.

        Raises:
            MoveRefused: it can't be done from the state that the agent is in; says what can.
            HomeError: it can't be done now; nothing was lost.

        """
        home = self._homes.having(name)
        if verb == "wake":
            return _wake(home, name, why, watch, self.now_us())
        if verb == "suspend":
            return moved_view(home.suspend(name, why=why))
        if verb == "delete":
            return moved_view(home.delete(name, why=why))
        moves = {"freeze": home.freeze, "prefetch": home.prefetch, "archive": home.archive}
        return moved_view(moves[verb](name, why=why, watch=watched(watch)))

    def schedule(self, name: str, at: datetime | timedelta | None) -> AgentView:
        """Have an agent wake at the first tick after a time; None: not at all.

        Raises:
            AgentUnknown: there is none of that name.
            MoveRefused: it is deleted.

        """
        home = self._homes.having(name)
        return self._seen(home, home.schedule(name, None if at is None else self._moment(at)))

    def tick(self, now: datetime | timedelta | None, *, watch: Looking) -> TickView:
        """Do one pass: wake who is due, suspend and freeze who has been idle for long enough.

        Args:
            now: the time that it goes by; the clock's unless given.
            watch: is told how far a move is.

        """
        now_us = self.now_us() if now is None else self._moment(now)
        if not self._homes.made:
            return TickView(now=now_us, moved=[], woken=[], skipped=[], failed=[], removed=[])
        return tick_view(self._homes.home().tick(now_us, watch=watched(watch)))

    async def keep_ticking(self, beat_s: float, watch: Callable[[TickView | TorporError], None]) -> None:
        """Do a pass, again and again, until cancelled.

        Args:
            beat_s: seconds between two passes.
            watch: is told what each did, or why it couldn't be done.

        Raises:
            HomeRefused: there is no home.

        """
        self._homes.home()  # refused at once, if at all
        self._homes.close()
        await keep_ticking(
            _Passing(self._homes), beat_s, lambda found: watch(tick_view(found) if isinstance(found, Ticked) else found)
        )

    # --- branching

    def fork(self, name: str, *, at: int | None, new: str | None) -> ForkedView:
        """Branch a new agent from one that goes on living.

        Args:
            name: the agent's.
            at: the last event that both have in common, with all that was committed together with it; the newest
                unless given.
            new: the new agent's name; one is made unless given.

        Raises:
            PointRefused: it can't be forked there.
            NameRefused, NameTaken: the name can't be given.
            AgentAsleep: the agent's file is not here.

        """
        home = self._homes.having(name)
        made = home.fork(name, at=at, new=new)
        return ForkedView(**msgspec.structs.asdict(self._seen(home, made)), at=made.parent_seq or 0)

    def rewind(self, word: str, to: int, *, why: str) -> RewoundView:
        """Put an agent, by its name or its file, back to an event; what came after is set aside, and kept.

        Raises:
            PointRefused: it can't go back there.
            AgentBusy: it is in use.

        """
        if self._homes.is_agent(word):
            home = self._homes.home()
            found = home.rewind(word, to, why=why)
            with home.reading(word) as book:
                back_at = book.past.point(to)
            return RewoundView(name=found.name, asked=to, to=back_at, seq=found.seq, skipped=found.skipped)
        with Workbook.open(word, create=False, clock=self._clock) as book:
            seq = book.rewind(to, why=why)
            return RewoundView(name=word, asked=to, to=book.past.point(to), seq=seq)

    def diff(self, one: str, other: str) -> Difference:
        """Return what tells two workbooks apart, each a name or a file, and `@SEQ` for an earlier point of it.

        Raises:
            PointRefused: there is no such point.
            AgentAsleep: an agent's file is not here.

        """
        (before, at_before), (after, at_after) = _point(one), _point(other)
        with self._homes.reading(before) as left, self._homes.reading(after) as right:
            return diff(left, right, at_before=at_before, at_after=at_after)

    # --- leaving and coming

    def export(self, name: str, target: str, *, with_memory: bool) -> ExportedView:
        """Write an agent's workspace, and its memory if asked, into a new workbook.

        Raises:
            FileTaken: something is there.
            AgentAsleep: the agent's file is not here.
            WorkbookMissing: there is no folder for it.

        """
        home = self._homes.having(name)
        folder = os.path.dirname(target)
        if folder and not os.path.isdir(folder):
            raise WorkbookMissing(path=target, reason=f"there is no folder {folder}")
        found = home.export(name, os.path.abspath(target), with_memory=with_memory)
        return ExportedView(name=name, path=found.path, bytes=found.bytes, with_memory=found.with_memory)

    def import_(self, file: str, *, name: str | None, tenant: str) -> AgentView:
        """Take a workbook in as a new agent; the home is made with it.

        Args:
            file: the workbook; it stays as it is.
            name: the agent's; the file's, without its ending, unless given.
            tenant: whose it is.

        Raises:
            ImportRefused: it is no whole workbook at rest.
            WorkbookMissing: there is no such file.
            NameRefused, NameTaken: the name can't be given.

        """
        if not os.path.lexists(file):
            raise WorkbookMissing(path=file, reason="there is no file")
        home = self._homes.home(create=True)
        made = home.import_(os.path.abspath(file), Path(file).stem if name is None else name, tenant=tenant)
        return self._seen(home, made)

    # --- templates

    def create_template(self, wish: Newborn) -> TemplateView:
        """Make a template from an agent, which is not stopped.

        Raises:
            AgentUnknown: there is no such agent.
            NameRefused, NameTaken: the name can't be given.
            AgentAsleep: the agent's file is not here.
            DurationRefused: a threshold is no duration.

        """
        source = wish.source or ""
        home = self._homes.having(source)
        after = _thresholds(wish)
        return template_view(home, home.templates.create(wish.name, source, **after))

    def list_templates(self) -> list[TemplateView]:
        """Return the templates in the order of their names."""
        if not self._homes.made:
            return []
        home = self._homes.home()
        return [template_view(home, record) for record in home.ledger.templates.all()]

    def drop_template(self, name: str) -> TemplateView:
        """Remove a template; its clones keep living.

        Raises:
            AgentUnknown: there is none of that name.

        """
        home = self._homes.where(name, "template")
        return template_view(home, home.templates.drop(name))

    def clone(self, template: str, *, tenant: str, count: int, watch: Looking) -> list[AgentView]:
        """Make agents from a template, all or none.

        Args:
            template: its name.
            tenant: whose they are; their names begin with it.
            count: how many.
            watch: is told how far it is.

        Raises:
            AgentUnknown: there is no such template.
            TemplateTouched: it is not what it was when it was made.
            NameRefused: the tenant can't be one.

        """
        home = self._homes.where(template, "template")
        made = home.templates.clone(template, tenant=tenant, count=count, watch=watched(watch))
        return [agent_view(home, record, self.now_us()) for record in made]

    def _seen(self, home: Home, record: AgentRecord) -> AgentView:
        return agent_view(home, record, self.now_us())

    def _moment(self, at: datetime | timedelta) -> int:
        if isinstance(at, timedelta):
            return self.now_us() + at // _MICROSECOND
        return (at - _EPOCH) // _MICROSECOND


class _Passing:
    """A home that is opened for each pass and closed after it.

    A ticker is nobody who works with agents. What its timers wake is active in the ledger then, and free for whoever
    does: were it kept open here, no other process could write to it until the ladder suspends it.
    """

    def __init__(self, homes: Homes) -> None:
        self._homes = homes

    def tick(self) -> Ticked:
        try:
            return self._homes.home().tick()
        finally:
            self._homes.close()


def _wake(home: Home, name: str, why: str, watch: Looking, now_us: int) -> MovedView:
    """Wake an agent, unless the ledger has it as active and its file is here.

    Whoever works with it opens it. Opening it here as well, to close it with the process that asked, would only empty
    `tmp` once more, and count a wake that wakes nobody.
    """
    record = home.ledger.agent(name)
    due = record.wake is not None and record.wake <= now_us
    if record.state == "active" and not due:
        # What is wrong with its file, waking says.
        with suppress(TorporError), home.reading(record.id):
            return MovedView(
                name=record.name,
                verb="wake",
                before=record.state,
                after=record.state,
                bytes=agent_view(home, record, now_us).bytes,
                ms=0.0,
                skipped="it is active already",
            )
    return woken_view(home.wake(record.id, why=why, watch=watched(watch)), record.state)


def _thresholds(wish: Newborn) -> dict[str, float | None]:
    """Return the thresholds of a wish, in seconds, as the home calls them.

    Raises:
        DurationRefused: one is no duration.

    """
    given = {"suspend_after_s": wish.suspend_after, "freeze_after_s": wish.freeze_after}
    return {name: None if text is None else seconds(text) for name, text in given.items()}


def _point(text: str) -> tuple[str, int | None]:
    """Return the workbook and the event that a text such as `ada@120` means; without an event, it is the newest."""
    found = _POINT.fullmatch(text)
    if found is None or os.path.lexists(text):
        return text, None
    return found[1], int(found[2])
