"""The use case «brief me»: finish what was interrupted, and begin anew only if that was something else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torpor.base.clock import Clock
from torpor.base.errors import TorporError
from torpor.models import Model
from torpor.runtime import Outcome, given_to
from torpor.service.views import Briefed, BriefRequest
from torpor.skills.briefing.agent import Briefing
from torpor.skills.briefing.report import Progress, Report, Told
from torpor.workbook import Workbook


async def brief(
    book: Workbook,
    request: BriefRequest,
    model: Model,
    clock: Clock,
    watch: Callable[[Progress], None],
) -> Briefed:
    """Deliver a briefing; see `Service.brief`."""
    agent = Briefing(book, model, clock=clock, watch=watch)
    wish = _arguments(request)
    answer: Outcome | None = None
    others: list[Outcome] = []
    for outcome in await agent.resume():
        if given_to(book, outcome.run) == wish:
            answer = outcome
        else:
            others.append(outcome)
    if request.keep_interest and request.interest is not None:
        agent.interests = request.interest
    if answer is not None and answer.error is not None:
        raise answer.error
    resumed = answer is not None
    report = answer.result if answer is not None else await agent.send("brief", **wish)
    return _briefed(report, resumed=resumed, others=others)


def _arguments(request: BriefRequest) -> dict[str, Any]:
    """Return the message's arguments. Paths are made absolute: a resumed run may stand in another folder."""
    return {
        "sources": [_absolute(source) for source in dict.fromkeys(request.sources)],
        "out": str(Path(request.out).absolute()),
        "interest": request.interest,
        "count": request.count,
        "guard": False,
    }


def _absolute(source: str) -> str:
    return source if "://" in source or source.startswith("file:") else str(Path(source).absolute())


def _briefed(report: Report, *, resumed: bool, others: list[Outcome]) -> Briefed:
    problems = [_unfinished(other.run, other.error) for other in others if other.error is not None]
    problems += report.problems
    return Briefed(
        run=report.run,
        status="completed with errors" if problems else "completed",
        resumed=resumed,
        new=report.new,
        already_read=report.already_read,
        interests=report.interests,
        model=report.model,
        delivered=report.delivered,
        chosen=report.chosen,
        problems=problems,
        notes=report.notes,
        others_resumed=[other.run for other in others if other.error is None],
    )


def _unfinished(run: str, error: Exception) -> Told:
    what = error.message if isinstance(error, TorporError) else f"{type(error).__name__}: {error}"
    next_step = error.next_step if isinstance(error, TorporError) else ""
    code = error.code if isinstance(error, TorporError) else ""
    message = f"Run {run}, interrupted before, could not be finished: {what}"
    return Told(source=run, message=message, next_step=next_step, code=code)
