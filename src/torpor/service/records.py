"""How what the home and the ledger say becomes what gateways are told."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from torpor.base.errors import AgentUnknown, TorporError
from torpor.home import Home, Moved, Step, Ticked, Woken
from torpor.ledger import AgentRecord, MoveRecord, TemplateRecord
from torpor.lifecycle import LADDER, State, idle_seconds
from torpor.service.views import (
    AgentView,
    BranchView,
    MovedView,
    MoveView,
    Moving,
    RelativeView,
    TemplateStory,
    TemplateView,
    TickView,
)
from torpor.skills.briefing.report import Told
from torpor.workbook import Workbook


def agent_view(home: Home, record: AgentRecord, now_us: int) -> AgentView:
    """Return an agent as gateways see it; its file's size is looked at, the file is not opened."""
    ladder = LADDER.but(record.suspend_after_s, record.freeze_after_s)
    path: str | None = os.path.join(home.path, record.file) if record.file else None
    size = _size(path)
    if size is None:
        path, size = None, record.bytes
    return AgentView(
        name=record.name,
        id=record.id,
        tenant=record.tenant,
        template=record.template,
        state=record.state,
        epoch=record.epoch,
        bytes=size,
        path=path,
        cold=record.cold,
        archive=record.archive,
        created=record.created,
        active=record.active,
        idle_s=idle_seconds(record.active, now_us),
        wake=record.wake,
        suspend_after_s=ladder.suspend_after_s,
        freeze_after_s=ladder.freeze_after_s,
    )


def _size(path: str | None) -> int | None:
    """Return the size of a file in bytes; None where it is not here."""
    try:
        return None if path is None else os.lstat(path).st_size
    except OSError:
        return None


def parent_view(home: Home, record: AgentRecord) -> RelativeView | None:
    """Return whom an agent descends from; None where from nobody."""
    if record.parent is None:
        return None
    parent, at = record.parent, record.parent_seq
    with suppress(AgentUnknown):
        return RelativeView(name=home.ledger.agent(parent).name, id=parent, at=at)
    with suppress(AgentUnknown):  # a clone's is its template
        return RelativeView(name=home.ledger.templates.get(parent).name, id=parent, at=at, what="template")
    with suppress(AgentUnknown):
        for move in home.ledger.history(parent, last=1):
            return RelativeView(name=move.name, id=parent, at=at, what="dropped template")
    return RelativeView(name=parent, id=parent, at=at, known=False)


def branch_views(book: Workbook) -> list[BranchView]:
    """Return what rewinds have set aside, oldest first: of each branch, the events that don't count now."""
    lines = book.past.lines()
    aside = lines.set_aside(book.last)
    found = []
    for branch in book.branches():
        events: list[tuple[int, int]] = []
        for first, last in lines.back(branch.tip):
            if last <= branch.base:
                break
            events[:0] = _within(max(first, branch.base + 1), last, aside)
        if events:  # none where it was taken up again since the book was asked
            found.append(BranchView(first=events[0][0], last=events[-1][1], events=events, rewound=branch.rewound))
    return found


def _within(first: int, last: int, ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return those of some events that are in one of the ranges, which are in rising order."""
    found = []
    for at in range(max(bisect_right(ranges, (first + 1, 0)) - 1, 0), len(ranges)):
        if ranges[at][0] > last:
            break
        if ranges[at][1] >= first:
            found.append((max(first, ranges[at][0]), min(last, ranges[at][1])))
    return found


def move_view(move: MoveRecord) -> MoveView:
    """Return one line of a history."""
    return MoveView(
        verb=move.verb,
        before=move.before,
        after=move.after,
        who=move.who,
        why=move.why,
        time=move.time,
        bytes=move.bytes,
        ms=move.ms,
        epoch=move.epoch,
        details=move.details,
    )


def moved_view(moved: Moved) -> MovedView:
    """Return how a move came out."""
    return MovedView(
        name=moved.name,
        verb=moved.verb,
        before=moved.before,
        after=moved.after,
        bytes=moved.bytes,
        ms=moved.ms,
        skipped=moved.skipped,
        left=list(moved.left),
    )


def woken_view(woken: Woken, before: State | None = None) -> MovedView:
    """Return how a wake came out.

    Args:
        woken: what the home says of it.
        before: the state that it was in, where that is known.

    """
    record = woken.record
    return MovedView(
        name=record.name,
        verb="wake",
        before=before,
        after=record.state,
        bytes=record.bytes,
        ms=woken.ms,
        skipped="it is awake here" if woken.how == "warm" else "",
        how=woken.how,
        left=list(woken.left),
    )


def tick_view(ticked: Ticked) -> TickView:
    """Return what a pass did."""
    return TickView(
        now=ticked.now,
        moved=[moved_view(moved) for moved in ticked.moved],
        woken=[woken_view(woken) for woken in ticked.woken],
        skipped=[Told(source=passed.name, message=passed.reason) for passed in ticked.skipped],
        failed=[told(failed.name, failed.error) for failed in ticked.failed],
        removed=list(ticked.removed),
    )


def template_view(home: Home, record: TemplateRecord) -> TemplateView:
    """Return a template as gateways see it."""
    parent = record.parent
    if parent is not None:
        try:
            parent = home.ledger.agent(parent).name
        except AgentUnknown:
            parent = record.parent
    return TemplateView(
        name=record.name,
        id=record.id,
        bytes=record.bytes,
        digest=record.digest,
        parent=parent,
        parent_seq=record.parent_seq,
        created=record.created,
        suspend_after_s=record.suspend_after_s,
        freeze_after_s=record.freeze_after_s,
    )


def template_story(home: Home, record: TemplateRecord, last: int | None) -> TemplateStory:
    """Return all that is known of a template, with the newest `last` lines of its history, or all."""
    return TemplateStory(
        **msgspec.structs.asdict(template_view(home, record)),
        seq=record.seq,
        head=record.head,
        clones=len(home.ledger.children(record.id)),
        history=[move_view(move) for move in home.ledger.history(record.id, last=last)],
    )


def told(name: str, error: TorporError) -> Told:
    """Return an error about an agent as plain data."""
    return Told(source=name, message=error.message, next_step=error.next_step, code=error.code)


def watched(watch: Callable[[Moving], None]) -> Callable[[Step], None]:
    """Return what the home tells its steps to, so that `watch` is told them."""
    return lambda step: watch(Moving(step.stage, step.done, step.total))
