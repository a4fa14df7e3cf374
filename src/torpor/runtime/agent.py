"""Agents: what people write.

An agent is a class. Its annotated attributes are settings, kept in the workbook; its methods marked with `on` handle
messages; each handling is a run. The instance holds nothing durable itself, so making one for a workbook is all there
is to waking it.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar, cast, get_type_hints
from weakref import WeakKeyDictionary

import msgspec

from torpor.base.errors import (
    CancelRefused,
    HandlerUnknown,
    Nondeterminism,
    SettingRefused,
    SettleRefused,
    StepRefused,
)
from torpor.base.ids import RunId
from torpor.runtime.effect import Happened, doubts_in, receipt_under, verdict_on
from torpor.runtime.history import History
from torpor.runtime.local import AgentFiles, AgentMemory, AgentSpend
from torpor.runtime.record import decode, encode, hints_of, result_type, stored
from torpor.runtime.run import FINISHED, Run, State, arguments_of, begin, branch_here, restore, run_here, stops_the_run
from torpor.workbook import Workbook

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")

_live: WeakKeyDictionary[Workbook, dict[RunId, Run]] = WeakKeyDictionary()
"""The runs that this process is executing now, whichever agent object began them."""


class RunInfo(msgspec.Struct, frozen=True, array_like=True):
    """What the journal says of a run, without its code."""

    id: RunId
    message: str
    state: State
    started: int
    """Microseconds since 1970 UTC."""
    last: int
    """Number of its newest event of a change of state."""

    @property
    def finished(self) -> bool:
        """Whether it has ended."""
        return self.state in FINISHED


class Outcome(msgspec.Struct, frozen=True):
    """How a resumed run came out."""

    run: RunId
    message: str
    result: Any = None
    error: Exception | None = None


class Setting:
    """An attribute of an agent that lives in its workbook."""

    def __init__(self, name: str, default: Any) -> None:
        self.name = name
        self.default = default

    def __get__(self, agent: Agent | None, owner: type[Agent]) -> Any:
        if agent is None:
            return self.default
        run = run_here.get()
        if run is not None and run.book is agent.book:
            text = run.settings.get(self.name)
        else:
            text = agent.book.settings.get(self.name)
        if text is None:
            return copy.deepcopy(self.default)  # what the caller does with a list must not become the default
        return decode(text.encode(), self._type(owner), name=self.name, where="The setting")

    def __set__(self, agent: Agent, value: Any) -> None:
        run = run_here.get()
        try:
            msgspec.convert(value, type=self._type(type(agent)))
            text = msgspec.json.encode(value).decode()
        except (msgspec.MsgspecError, TypeError) as error:
            owner = type(agent).__name__
            raise SettingRefused(agent=owner, name=self.name, reason=str(error)) from error
        if run is None or run.book is not agent.book:
            agent.book.settings.set(self.name, value)
            return
        keep = functools.partial(agent.book.settings.set, self.name, value, span=run.id)
        run.local("setting", {self.name: value}, keep, None)
        if branch_here.get() is not None:  # a step isn't called again by a replay, which must see the same snapshot
            run.settings[self.name] = text

    def _type(self, owner: type[Agent]) -> Any:
        return get_type_hints(owner)[self.name]


class Agent:
    """The base of every agent.

    ::

        class Greeter(torpor.Agent):
            greeting: str = "Hello"              # a setting, kept in the workbook

            @torpor.on("greet")
            async def greet(self, name: str) -> str:
                return f"{self.greeting}, {name}"

    Args:
        book: the agent's workbook, open for writing.

    """

    _handlers: ClassVar[dict[str, str]] = {}

    def __init__(self, book: Workbook) -> None:
        self.book = book
        self.memory = AgentMemory(book)
        self.files = AgentFiles(book)
        self.spend = AgentSpend(book)
        self._live = _live.setdefault(book, {})

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._handlers = dict(cls._handlers)
        for name, value in vars(cls).items():
            message = getattr(value, "torpor_message", None)
            if message is not None:
                cls._handlers[message] = name
        for name, annotation in inspect.get_annotations(cls).items():
            if not name.startswith("_") and name in vars(cls) and "ClassVar" not in str(annotation):
                setattr(cls, name, Setting(name, vars(cls)[name]))

    # --- messages ---

    async def send(self, message: str, /, **arguments: Any) -> Any:
        """Have the agent handle a message, as a new run, and return the handler's result.

        Args:
            message: what a handler is marked with by `on`.
            arguments: the handler's arguments: plain data.

        Raises:
            HandlerUnknown: no handler takes it; nothing was recorded.
            NotRecordable: an argument is not plain data, or not what the handler takes; nothing was recorded.
            StepRefused: the handler can't be called with these; nothing was recorded.
            UnknownOutcome: the run is parked; settle the effect and resume.
            RunCancelled: it was cancelled.
            Exception: what the handler raised; the run has failed.

        """
        if branch_here.get() is not None:
            reason = "a replay would send it again, so send it in a step"
            raise StepRefused(name=message, role="sent by a handler", reason=reason)
        handler = self._handler(message)
        given = encode(arguments, name=message, where="The arguments")
        converted = self._arguments(handler, message, given)
        id_ = RunId(self.book.new_id())
        return await self._drive(begin(self.book, id_, message, given), handler, converted)

    async def resume(self) -> list[Outcome]:
        """Bring every unfinished run to its end, oldest first; what fails doesn't keep the next from going on.

        A parked run goes on if its effect was settled since.

        Raises:
            WorkbookError, InternalError: the workbook can't be written, or there is a bug of ours.

        """
        outcomes = []
        for listed in [info.id for info in self.runs() if not info.finished]:
            info = next(info for info in self.runs() if info.id == listed)  # much may have happened meanwhile
            if info.finished or info.id in self._live or self._waits(info):
                continue
            outcomes.append(await self._resume_one(info))
        return outcomes

    async def _resume_one(self, info: RunInfo) -> Outcome:
        try:
            result = await self._again(info)
        except Exception as error:
            if stops_the_run(error, self.book) and not isinstance(error, Nondeterminism):
                raise
            return Outcome(info.id, info.message, error=error)
        return Outcome(info.id, info.message, result=result)

    async def _again(self, info: RunInfo) -> Any:
        asked = History(self.book, info.id).cancel_asked
        if asked is not None:
            restore(self.book, info.id).end_cancelled(asked)
        handler = self._handler(info.message)
        arguments = self._arguments(handler, info.message, arguments_of(self.book, info.id))
        return await self._drive(restore(self.book, info.id), handler, arguments)

    async def _drive(self, run: Run, handler: Callable[..., Awaitable[Any]], arguments: dict[str, Any]) -> Any:
        returns = result_type(handler, name=run.message, role="handled")
        self._live[run.id] = run
        self.book.under_way.add(run.id)
        try:
            return await run.execute(lambda: handler(self, **arguments), returns)
        finally:
            del self._live[run.id]
            self.book.under_way.discard(run.id)

    # --- runs ---

    def runs(self) -> list[RunInfo]:
        """Return every run, oldest first."""
        return runs_in(self.book)

    def cancel(self, run: str, reason: str = "asked to") -> None:
        """Cancel a run: one that is going on stops at its next checkpoint; one at rest ends here.

        Raises:
            CancelRefused: there is no unfinished run of that id.

        """
        live = self._live.get(RunId(run))
        if live is not None:
            live.cancel(reason)
        else:
            cancel(self.book, run, reason)

    def settle(self, key: str, verdict: Happened[Any] | None) -> RunId:
        """Say what became of an effect whose outcome is unknown; `resume` then goes on with its run, which is returned.

        Args:
            key: the effect's key.
            verdict: `Happened(result)`, or None if it did not happen.

        Raises:
            SettleRefused: no effect of that key waits for a verdict.

        """
        return settle(self.book, key, verdict)

    def _waits(self, info: RunInfo) -> bool:
        if info.state != "parked":
            return False
        parked = waiting(self.book, info)
        name, key = parked["name"], parked["key"]
        answered = verdict_on(self.book, info.id, name, key) or receipt_under(self.book, name, key)
        return answered is None

    def _handler(self, message: str) -> Callable[..., Awaitable[Any]]:
        name = self._handlers.get(message)
        if name is None:
            known = ", ".join(sorted(self._handlers)) or "nothing"
            raise HandlerUnknown(agent=type(self).__name__, asked=message, known=known)
        handler: Callable[..., Awaitable[Any]] = getattr(type(self), name)
        return handler

    def _arguments(self, handler: Callable[..., Awaitable[Any]], message: str, given: bytes) -> dict[str, Any]:
        """Return the recorded arguments by the handler's annotations, so that a replay gets what the first run got."""
        raw = msgspec.json.decode(given, type=dict[str, msgspec.Raw])
        hints = hints_of(handler, name=message, role="handled")
        result_type(handler, name=message, role="handled")
        arguments = {
            name: decode(bytes(value), hints.get(name, Any), name=message, where=f"Argument {name}")
            for name, value in raw.items()
        }
        try:
            inspect.signature(handler).bind(self, **arguments)
        except TypeError as error:
            raise StepRefused(name=message, role="handled so", reason=str(error)) from error
        return arguments


def on(
    message: str,
) -> Callable[
    [Callable[Concatenate[A, P], Coroutine[Any, Any, R]]],
    Callable[Concatenate[A, P], Coroutine[Any, Any, R]],
]:
    """Mark an agent's method as the handler of a message.

    Raises:
        StepRefused: it is no `async def` method.

    """

    def mark(
        method: Callable[Concatenate[A, P], Coroutine[Any, Any, R]],
    ) -> Callable[Concatenate[A, P], Coroutine[Any, Any, R]]:
        if not inspect.iscoroutinefunction(method):
            name = getattr(method, "__name__", repr(method))
            raise StepRefused(name=name, role="a handler", reason="it is no `async def` method")
        cast("Any", method).torpor_message = message
        return method

    return mark


def runs_in(book: Workbook) -> list[RunInfo]:
    """Return every run in a workbook, oldest first; needs no agent."""
    found = book.journal.runs()
    return [msgspec.convert(row, type=RunInfo) for row in found]


def given_to(book: Workbook, run: str) -> dict[str, Any]:
    """Return the arguments that a run was begun with."""
    return msgspec.json.decode(arguments_of(book, RunId(run)), type=dict[str, Any])


def waiting(book: Workbook, info: RunInfo) -> dict[str, Any]:
    """Return name and key of the effect, and the reason, for which a run is parked."""
    return next(book.events(after=info.last - 1, limit=1)).body


def cancel(book: Workbook, run: str, reason: str) -> None:
    """End a run that is at rest; needs no agent, so it is the way out for a run that its code can't replay any more.

    Raises:
        CancelRefused: there is no unfinished run of that id.

    """
    state = next((info.state for info in runs_in(book) if info.id == run), None)
    if state is None:
        raise CancelRefused(run=run, reason="this workbook knows no such run")
    if state in FINISHED:
        raise CancelRefused(run=run, reason=f"it is {state} already")
    doubt = History(book, run).in_doubt()
    book.append("run.cancelled", {"reason": reason, "in_doubt": doubt}, span=run)


def settle(book: Workbook, key: str, verdict: Happened[Any] | None) -> RunId:
    """Say what became of an effect whose outcome is unknown; see `Agent.settle`."""
    reason = "no parked run waits for it"
    for info in runs_in(book):
        if info.state != "parked":
            continue
        for (name, its_key), said in doubts_in(book, info.id).items():
            if its_key != key:
                continue
            if said is not None:
                reason = "it was settled already, and waits to be resumed"
                continue
            facts = {"name": name, "key": key, "happened": verdict is not None}
            result = None if verdict is None else verdict.result
            raw = encode(result, name=name, where="The result")
            with book.transaction():
                body = {**facts, **stored(book, "result", raw)}
                book.append("effect.settled", body, span=info.id)
            return info.id
    raise SettleRefused(key=key, reason=reason)
