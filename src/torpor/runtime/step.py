"""Steps: functions that are durable inside a run and plain functions outside one.

Inside a run a call is three things in this order: the *intent* is recorded, the function is called, the *receipt*
(result or failure) is recorded. A replay that finds a receipt returns it; one that finds only an intent calls the
function again, so a step's function may be called more than once and must not touch the world. What touches the world
is an effect: see effect.py. What a call must not be after all (arguments or a result type that no journal holds, a key
that is taken) is refused before the intent, so that refusing is repeated by every replay.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import (
    Any,
    Concatenate,
    Final,
    Generic,
    ParamSpec,
    Self,
    TypeVar,
    overload,
)

import anyio

from torpor.base import faults
from torpor.base.duration import seconds
from torpor.base.errors import StepRefused
from torpor.runtime.history import Record
from torpor.runtime.record import (
    attested,
    decode,
    encode,
    encode_arguments,
    result_type,
    stored,
)
from torpor.runtime.run import Branch, Run, branch_here, describe, is_final, stops_the_run

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
A = TypeVar("A")

BACKOFF_FIRST_S: Final = 0.2
BACKOFF_MAX_S: Final = 30.0


class Step(Generic[P, R]):
    """A function made durable; made by `step`.

    Attributes:
        name: what it is called in the journal.
        retries: how often it is called again after it raised.
        timeout: seconds that one call may take; None is for ever.

    """

    role = "a step"
    kind = "step"

    def __init__(
        self,
        function: Callable[P, Awaitable[R]],
        *,
        name: str | None,
        retries: int,
        timeout: float | str | None,
    ) -> None:
        self.function = function
        self.name: str = name or str(getattr(function, "__name__", ""))
        self.retries = retries
        self.timeout = None if timeout is None else seconds(timeout)
        self._signature = inspect.signature(function)
        functools.update_wrapper(self, function)
        reason = self._objection()
        if reason:
            raise StepRefused(name=self.name or repr(function), role=self.role, reason=reason)

    def _objection(self) -> str:
        if not inspect.iscoroutinefunction(self.function):
            return "it is no `async def` function"
        if not self.name.isidentifier():
            return f"the name {self.name!r} is no identifier"
        if self.retries < 0:
            return f"it can't be retried {self.retries} times"
        return ""

    @functools.cached_property
    def returns(self) -> Any:
        """The type of the result, by the function's annotation; read at the first call, so it may be defined late."""
        return result_type(self.function, name=self.name, role=self.role)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Return the coroutine that does it: durably in a run, plainly outside one."""
        return self._call(args, kwargs, owned=False)

    @overload
    def __get__(self, owner: None, class_: type) -> Self: ...

    @overload
    def __get__(self: Step[Concatenate[A, Q], R], owner: A, class_: type[A]) -> Callable[Q, Coroutine[Any, Any, R]]: ...

    def __get__(self, owner: Any, class_: type) -> Any:
        """Make a method of it: the object it belongs to is not among the recorded arguments."""
        if owner is None:
            return self

        @functools.wraps(self.function)
        def bound(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, R]:
            return self._call((owner, *args), kwargs, owned=True)

        return bound

    async def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, owned: bool) -> R:
        branch = branch_here.get()
        if branch is None:
            return await self.function(*args, **kwargs)
        try:
            return await self._durably(branch, args, kwargs, owned=owned)
        except Exception as error:
            branch.run.note(error)
            raise

    async def _durably(self, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any], *, owned: bool) -> R:
        position = branch.next(self.name)
        run = branch.run
        await run.checkpoint()
        faults.point(f"{self.kind}.begun")
        bound = self._bind(args, kwargs)
        if owned:
            del bound[next(iter(bound))]
        given, returns = encode_arguments(bound, name=self.name), self.returns
        record = run.history.reach(position, self.name, given)
        fresh = record is None
        if record is None:
            facts = {**branch.facts(position, self.name), **self.facts(bound), **attested(given)}
            record = self.intend(run, facts, given)
        if record.receipt is None:
            await self.settle(run, record, (args, kwargs), fresh=fresh)
        result: R = run.answer(record, returns)
        return result

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise StepRefused(name=self.name, role="called so", reason=str(error)) from error

    def facts(self, bound: dict[str, Any]) -> dict[str, Any]:
        """Return what its events tell of the call beside the arguments.

        Raises:
            StepRefused: it can't be called so.

        """
        del bound  # a step tells nothing more; an effect tells its key
        return {}

    def intend(self, run: Run, facts: dict[str, Any], given: bytes) -> Record:
        """Record the intent and return what is now known of the step."""
        run.history.break_ground(facts["position"], self.name, given)
        record = Record(facts, run.append("step.intended", facts))
        run.history.add(facts["position"], record)
        faults.point("step.intended")
        return record

    async def settle(self, run: Run, record: Record, call: Call, *, fresh: bool) -> None:
        """Call the function until there is a receipt."""
        del fresh  # a step may always be called again
        while record.receipt is None:
            try:
                raw = await self.attempt(call)
            except Exception as error:
                if stops_the_run(error, run.book):
                    raise
                await self.fail(run, record, error, final=is_final(error))
            else:
                faults.point("step.called")
                self.receive(run, record, raw)

    async def attempt(self, call: Call) -> bytes:
        """Call the function once, as a plain function, and return its result as JSON."""
        args, kwargs = call
        token = branch_here.set(None)
        try:
            with anyio.fail_after(self.timeout):
                result = await self.function(*args, **kwargs)
        finally:
            branch_here.reset(token)
        raw = encode(result, name=self.name, where="The result")
        decode(raw, self.returns, name=self.name, where="The result")
        return raw

    async def fail(self, run: Run, record: Record, error: Exception, *, final: bool) -> None:
        """Record a failed attempt; after the last, or where trying again can't help, the failure."""
        kind, detail = describe(error)
        if kind == "TimeoutError" and not detail and self.timeout is not None:
            detail = f"no result within {self.timeout} s"
        what = {"error": kind, "detail": detail}
        if record.attempts < self.retries and not final:
            run.append(f"{self.kind}.attempted", {**self.label(record), **what}, parent=record.intent)
            record.attempts += 1
            await anyio.sleep(min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** (record.attempts - 1)))
            await run.checkpoint()
            return
        self.receive(run, record, {**what, "attempts": record.attempts + 1})

    def receive(self, run: Run, record: Record, outcome: bytes | dict[str, Any]) -> None:
        """Record the receipt.

        Args:
            run: the run.
            record: the step, which has its receipt after this.
            outcome: the result as JSON, or the facts of the failure.

        """
        with run.book.transaction():
            failed = isinstance(outcome, dict)
            what = outcome if isinstance(outcome, dict) else stored(run.book, "result", outcome)
            kind = f"{self.kind}.{'failed' if failed else 'completed'}"
            key = self.receipt_key(record)
            seq = run.append(kind, {**self.label(record), **what}, parent=record.intent, key=key)
        record.receipt = run.book.journal.event(seq)
        faults.point(f"{self.kind}.recorded")

    def label(self, record: Record) -> dict[str, Any]:
        """Return what every event of the step says of it."""
        told = ("position", "name", "key")
        return {name: record.call[name] for name in told if name in record.call}

    def receipt_key(self, record: Record) -> str | None:
        """Return the idempotency key of the receipt."""
        del record  # a step's receipt is found by its intent
        return None


Call = tuple[tuple[Any, ...], dict[str, Any]]


@overload
def step(function: Callable[P, Awaitable[R]], /) -> Step[P, R]: ...


@overload
def step(
    *, retries: int = 0, timeout: float | str | None = None, name: str | None = None
) -> Callable[[Callable[P, Awaitable[R]]], Step[P, R]]: ...


def step(
    function: Callable[P, Awaitable[R]] | None = None,
    /,
    *,
    retries: int = 0,
    timeout: float | str | None = None,
    name: str | None = None,
) -> Step[P, R] | Callable[[Callable[P, Awaitable[R]]], Step[P, R]]:
    """Make an `async def` function durable inside a run; outside one it stays what it is.

    Args:
        function: what is decorated. It may be called again after a crash, so it must not touch the world.
        retries: how often it is called again after it raised, with growing pauses.
        timeout: how long one call may take: seconds, or text such as "20s".
        name: what it is called in the journal; the function's own name unless given.

    Raises:
        StepRefused, DurationRefused: it can't be a step.

    """
    if function is not None:
        return Step(function, name=name, retries=retries, timeout=timeout)
    return lambda decorated: Step(decorated, name=name, retries=retries, timeout=timeout)
