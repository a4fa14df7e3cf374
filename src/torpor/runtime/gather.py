"""Several things at once, within a run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal, TypeVar, overload

import anyio

from torpor.base.errors import StepRefused
from torpor.runtime.run import Branch, Stopped, branch_here

T = TypeVar("T")

Work = tuple[Coroutine[Any, Any, Any], ...]
Ended = tuple[list[Any], dict[int, Exception]]
"""Results, with the failures among them, and the failures by their number."""


@overload
async def gather(*work: Coroutine[Any, Any, T], limit: int | None = None) -> list[T]: ...


@overload
async def gather(
    *work: Coroutine[Any, Any, T], limit: int | None = None, return_exceptions: Literal[True]
) -> list[T | Exception]: ...


async def gather(
    *work: Coroutine[Any, Any, Any], limit: int | None = None, return_exceptions: bool = False
) -> list[Any]:
    """Do several things at once and return their results in order; durable inside a run.

    All of them are brought to an end even if one fails: which of two failures comes first must not depend on which
    was faster. Then the first failure, in the order of the arguments, is raised.

    Args:
        work: coroutines, such as calls of steps.
        limit: at most this many at a time; 1 or more.
        return_exceptions: put failures among the results instead of raising.

    Raises:
        StepRefused: the limit is none.
        Exception: what the first of them to fail, in the order of the arguments, raised.

    """
    try:
        if limit is not None and limit < 1:
            reason = f"{limit} at a time is nothing at all"
            raise StepRefused(name="gather", role="limited so", reason=reason)
        branch = branch_here.get()
        if branch is None:
            results, failures = await _all(work, limit, lambda _: None)
        else:
            results, failures = await _all_within(branch, work, limit)
    finally:
        for coroutine in work:
            coroutine.close()  # what was never begun, because the run was stopped first
    if failures and not return_exceptions:
        raise failures[min(failures)]
    return results


async def _all_within(branch: Branch, work: Work, limit: int | None) -> Ended:
    """Do it in a run, each coroutine as a branch of it."""
    run, position = branch.run, branch.next("gather")
    await run.checkpoint()
    widths = (*branch.widths, len(work))

    def enter(number: int) -> None:
        branch_here.set(Branch(run, f"{position}.{number}.", widths))

    try:
        run.history.reach_gather(position, len(work))
        ended = await _all(work, limit, enter)
        for error in ended[1].values():
            run.note(error)
        if not run.stopped:
            run.history.finish(f"{position}.")
    except Exception as error:
        run.note(error)
        raise
    if run.stopped:
        raise run.fault or Stopped
    return ended


async def _all(work: Work, limit: int | None, enter: Callable[[int], None]) -> Ended:
    results: list[Any] = [None] * len(work)
    failures: dict[int, Exception] = {}
    places = anyio.Semaphore(limit or max(1, len(work)))

    async def follow(number: int, coroutine: Awaitable[Any]) -> None:
        async with places:
            enter(number)
            try:
                results[number] = await coroutine
            except Stopped:
                return  # the run says so itself, when all have ended
            except Exception as error:  # noqa: BLE001  (it is raised, or returned, when all have ended)
                failures[number] = results[number] = error

    async with anyio.create_task_group() as tasks:
        for number, coroutine in enumerate(work):
            tasks.start_soon(follow, number, coroutine)
    return results, failures
