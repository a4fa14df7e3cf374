"""A run: one handling of one message, from its first event to its last.

The code of a run is an ordinary coroutine. What it does durably goes through the run, which asks the history first:
what has a receipt is answered from the journal; what has none is done, and recorded. So after a crash the coroutine
is simply started again, with the same arguments and settings, and arrives where it was.

A run ends completed, failed or cancelled. It is left unfinished, to be resumed, when the process dies, when the
workbook can't be written, and when the code no longer matches the history. It is *parked* when an effect's outcome is
unknown: it can be resumed once somebody has settled that.

Whatever keeps a run from going on keeps it for good: from then on every step refuses with `Stopped`, and what the code
still returns or raises counts for nothing. So code that catches too much can neither outlive its cancellation nor
finish on a workbook that has missed some of its steps.

**Positions.** A step is known by its place, not by its name alone: the count of steps that its branch made before it.
The handler itself is the first branch (positions ``0``, ``1``, …). `gather` takes one position and gives each of its
coroutines a branch below it (``3.0.0`` is the first step of the first coroutine of the gather at ``3``), so it does
not matter in which order concurrent branches happen to run: their steps have the same names in every replay. How many
coroutines each gather around a step had is recorded beside the position, so a replay with more or fewer is noticed.

**Tasks.** A branch belongs to one task. A step called from another task, started behind the run's back, would take
its number in an order that no replay repeats, and is refused.

**Inside a step** there is no branch: what a step calls is part of it, and runs as plain functions do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from typing import Any, Final, Literal, NoReturn, TypeVar

import anyio
import msgspec

from torpor.base import faults
from torpor.base.errors import (
    EffectRefused,
    FileInTheWay,
    FileMissing,
    InternalError,
    KeyReused,
    Nondeterminism,
    NotInRun,
    QuotaExceeded,
    RunCancelled,
    StepFailed,
    StorageFailed,
    StorageFull,
    TorporError,
    TransactionEntangled,
    TransactionLost,
    UnknownOutcome,
    UsageError,
    WorkbookClosed,
    WorkbookDamaged,
    WorkbookReadOnly,
)
from torpor.base.ids import RunId
from torpor.runtime.history import CANCEL_ASKED, History, Record
from torpor.runtime.record import (
    attested,
    decode,
    encode,
    encode_arguments,
    failure,
    loaded,
    stored,
)
from torpor.workbook import Event, Workbook
from torpor.workbook.store import Savepoint

T = TypeVar("T")

State = Literal["started", "resumed", "parked", "completed", "failed", "cancelled"]
FINISHED: Final = ("completed", "failed", "cancelled")

# What the agent's own workbook can refuse for the agent's own reasons: part of the history, like any failed step.
_OWN_FAULTS: Final = (UsageError, FileMissing, FileInTheWay, QuotaExceeded, KeyReused)

_STORAGE: Final = (
    StorageFailed, StorageFull, TransactionEntangled, TransactionLost,
    WorkbookClosed, WorkbookDamaged, WorkbookReadOnly,
)  # fmt: skip

DETAIL_MAX: Final = 4000
"""Characters of an error's text that an event carries."""


class Stopped(BaseException):
    """Unwinds the code of a run that is cancelled or parked; not an Exception, so broad handlers let it pass."""


class Branch:
    """One line of execution within a run.

    Args:
        run: the run.
        path: what its positions begin with, "" or ending in a dot.
        widths: how many coroutines each gather around it has, the outermost first.

    """

    __slots__ = ("_count", "_path", "_task", "run", "widths")

    def __init__(self, run: Run, path: str = "", widths: tuple[int, ...] = ()) -> None:
        self.run = run
        self.widths = widths
        self._path = path
        self._count = 0
        self._task = anyio.get_current_task().id

    def next(self, name: str) -> str:
        """Return the position of the step `name`, which is about to begin.

        Raises:
            NotInRun: it is called from a task that the run doesn't know, from a thread, or after the run's end.

        """
        try:
            task = anyio.get_current_task().id
        except RuntimeError as error:  # what anyio raises where no event loop is running
            raise NotInRun(what=name, where="in a thread beside its run") from error
        if self.run.over:
            raise NotInRun(what=name, where="after its run had ended")
        if task != self._task:
            raise NotInRun(what=name, where="in a task that its run didn't start")
        position = f"{self._path}{self._count}"
        self._count += 1
        return position

    def facts(self, position: str, name: str) -> dict[str, Any]:
        """Return the part of an event's body that says where in the run a step is."""
        place: dict[str, Any] = {"position": position, "name": name}
        if self.widths:
            place["widths"] = self.widths
        return place


branch_here: ContextVar[Branch | None] = ContextVar("torpor_branch", default=None)
"""The branch in which durable calls are made; None outside runs and inside steps."""

run_here: ContextVar[Run | None] = ContextVar("torpor_run", default=None)
"""The run, also inside its steps."""


class Run:
    """One handling of one message, as its own code sees it through `torpor.run()`.

    Attributes:
        id: the run's id, which is the span of all its events.
        message: what it handles.
        book: the agent's workbook.
        settings: the agent's settings as JSON texts, as they were when the run began.

    """

    def __init__(self, book: Workbook, id_: RunId, message: str, settings: dict[str, str], history: History) -> None:
        self.book = book
        self.id = id_
        self.message = message
        self.settings = settings
        self.history = history
        self.outcome: UnknownOutcome | None = None
        self.over = False
        """Whether its code has returned."""
        self._scope = anyio.CancelScope()
        self._cancelled = history.cancel_asked
        self.fault: Exception | None = None
        """What leaves it unfinished."""

    @property
    def attempt(self) -> int:
        """How often the run was begun: 1, and one more for each time it was resumed."""
        return self.history.attempt

    @property
    def stopped(self) -> bool:
        """Whether it goes no further: cancelled, parked, or kept by an error that leaves it unfinished."""
        return self._cancelled is not None or self.outcome is not None or self.fault is not None

    def cancel(self, reason: str) -> None:
        """Have the run stop at its next checkpoint, whatever its code catches; asked once, a crash doesn't undo it.

        Raises:
            WorkbookError: it can't be recorded; the run stops, but may be resumed.

        """
        if self._cancelled is not None or self.over:
            return
        self._cancelled = reason
        self._scope.cancel()
        self.append(CANCEL_ASKED, {"reason": reason})

    def park(self, outcome: UnknownOutcome) -> Stopped:
        """Record that an effect's outcome is unknown; the caller raises what is returned."""
        with self.book.transaction():
            facts = {"name": outcome.name, "key": outcome.key, "reason": outcome.reason}
            self.append("effect.unknown", facts)
            if self.outcome is None:  # a second effect in doubt is asked for when the first is settled
                self.append("run.parked", facts)
        self.outcome = self.outcome or outcome
        return Stopped()

    def note(self, error: Exception) -> None:
        """Go no further if this is an error that leaves the run unfinished."""
        if stops_the_run(error, self.book):
            self.fault = self.fault or error

    async def checkpoint(self) -> None:
        """Stop here if the run goes no further.

        Raises:
            TransactionEntangled: a transaction is open around the caller, so nothing would be certain before the call.

        """
        if self.stopped:
            await anyio.lowlevel.checkpoint()  # code that catches this and tries for ever holds up nobody else
            raise Stopped
        await anyio.lowlevel.checkpoint_if_cancelled()
        if isinstance(self.book.transaction(), Savepoint):
            raise TransactionEntangled(path=self.book.path)

    def append(self, kind: str, body: dict[str, Any], *, parent: int | None = None, key: str | None = None) -> int:
        """Append an event of this run."""
        return self.book.append(kind, body, span=self.id, parent=parent, key=key)

    def local(self, name: str, arguments: dict[str, Any], do: Callable[[], T], type_: Any) -> T:
        """Do something within the workbook, once: the change and its receipt are one transaction, and need no intent.

        Args:
            name: what it is called in the journal.
            arguments: what tells it from another call of that name.
            do: makes the change, or reads.
            type_: the type of what it returns.

        Raises:
            StepFailed: the workbook refused, now or when this was first done.
            Nondeterminism: something else is recorded here.

        """
        branch = branch_here.get()
        if branch is None:
            return do()
        position = branch.next(name)
        if self.stopped:
            raise Stopped
        given = encode_arguments(arguments, name=name)
        try:
            record = self.history.reach(position, name, given)
            if record is None:
                facts = {**branch.facts(position, name), **attested(given)}
                record = self._do_local(facts, given, do)
        except Exception as error:
            self.note(error)
            raise
        result: T = self.answer(record, type_)
        return result

    def _do_local(self, facts: dict[str, Any], given: bytes, do: Callable[[], Any]) -> Record:
        position, name = facts["position"], facts["name"]
        with self.book.transaction():
            try:
                with self.book.transaction():
                    raw = encode(do(), name=name, where="The result")
            except _OWN_FAULTS as error:
                kind, detail = describe(error)
                end = "failed"
                facts |= {"error": kind, "detail": detail, "attempts": 1}
            else:
                end = "completed"
                facts |= stored(self.book, "result", raw)
            self.history.break_ground(position, name, given)
            seq = self.append(f"step.{end}", facts)
        record = Record(facts, receipt=self.book.journal.event(seq))
        self.history.add(position, record)
        return record

    def answer(self, record: Record, type_: Any) -> Any:
        """Return the result in a receipt, or raise the failure in it.

        Raises:
            StepFailed: it recorded one.
            NotRecordable: the result doesn't fit the type that the code now has.

        """
        if record.receipt is None:
            raise InternalError(promise="only a finished step answers")
        body = record.receipt.body
        if record.receipt.kind.endswith(".failed"):
            raise failure(body)
        raw = loaded(self.book, "result", body)
        return decode(raw, type_, name=record.call["name"], where="The recorded result")

    async def execute(self, handle: Callable[[], Awaitable[Any]], returns: Any) -> Any:
        """Run the code to its end, record that, and return the result as it reads from the record.

        Args:
            handle: begins the code.
            returns: the type of its result.

        Raises:
            RunCancelled, UnknownOutcome: it was cancelled; it is parked.
            Nondeterminism, WorkbookError, InternalError: the run stays unfinished.
            Exception: what the code raised, after it was recorded as the run's failure.

        """
        run_token = run_here.set(self)
        branch_token = branch_here.set(Branch(self))
        raw, result, failed = b"null", None, None
        try:
            with self._scope:
                raw, result = self._read(await handle(), returns)
        except (Exception, Stopped, BaseExceptionGroup) as error:  # noqa: BLE001  (whatever it is, it is recorded)
            failed = self._weigh(error)
        finally:
            self.over = True
            branch_here.reset(branch_token)
            run_here.reset(run_token)
        if not self.stopped:
            # Whoever cancels us from outside wants the run to stop here, not what its code made of that to be its end.
            await anyio.lowlevel.checkpoint_if_cancelled()
        self._end(raw, failed)
        return result

    def _read(self, result: Any, returns: Any) -> tuple[bytes, Any]:
        if self.stopped:
            return b"null", None
        self.history.finish()
        raw = encode(result, name=self.message, where="The result")
        return raw, decode(raw, returns, name=self.message, where="The result")

    def _weigh(self, error: BaseException) -> Exception | None:
        """Return the run's failure in what its code raised; None if the code was stopped, as we know already.

        Raises:
            BaseException: it is the process's end that came through, such as KeyboardInterrupt.

        """
        for leaf in _leaves(error):
            if isinstance(leaf, Exception):
                self.note(leaf)
            elif not isinstance(leaf, Stopped):
                raise error
        if isinstance(error, Exception):
            return error
        if not self.stopped:
            raise InternalError(promise="only a run that goes no further is stopped") from error
        return None

    def _end(self, raw: bytes, failed: Exception | None) -> None:
        if self._cancelled is not None:
            self.end_cancelled(self._cancelled)
        if self.outcome is not None:
            raise self.outcome
        if self.fault is not None:
            raise self.fault
        faults.point("run.finishing")
        if failed is not None:
            kind, detail = describe(failed)
            self.append("run.failed", {"error": kind, "detail": detail})
            faults.point("run.finished")
            raise failed
        with self.book.transaction():
            self.append("run.completed", stored(self.book, "result", raw))
        faults.point("run.finished")

    def end_cancelled(self, reason: str) -> NoReturn:
        """Record that the run ends cancelled, with the effects of which nobody knows whether they happened.

        Raises:
            RunCancelled: always.

        """
        self.append("run.cancelled", {"reason": reason, "in_doubt": self.history.in_doubt()})
        raise RunCancelled(run=self.id, reason=reason)


def run() -> Run:
    """Return the run that the caller is part of.

    Raises:
        NotInRun: it is part of none.

    """
    here = run_here.get()
    if here is None:
        raise NotInRun(what="torpor.run()", where="outside a run")
    return here


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield what an exception group is made of; any other error is all there is."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error


def stops_the_run(error: BaseException, book: Workbook) -> bool:
    """Report whether an error is no failure of the code, but leaves the run unfinished.

    Its workbook can't be written, or the code doesn't match the history, or there is a bug of ours. Another disk, or
    the right code, can go on.
    """
    if isinstance(error, BaseExceptionGroup):
        return any(stops_the_run(part, book) for part in error.exceptions)
    if isinstance(error, InternalError | Nondeterminism):
        return True
    return isinstance(error, _STORAGE) and error.path == book.path


def is_final(error: Exception) -> bool:
    """Report whether doing the same again can't go better."""
    return isinstance(error, TorporError) and not error.retryable


def describe(error: BaseException) -> tuple[str, str]:
    """Return an error's kind and its text, fit for an event."""
    if isinstance(error, StepFailed):
        return error.kind, error.detail
    if isinstance(error, EffectRefused):
        text = error.reason
    elif isinstance(error, BaseExceptionGroup):
        text = "; ".join(": ".join(describe(leaf)) for leaf in _leaves(error))
    elif isinstance(error, TorporError):
        text = error.message
    else:
        text = _text(error)
    return type(error).__name__, text[:DETAIL_MAX].encode(errors="replace").decode()


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as worse:  # noqa: BLE001  (somebody else's __str__ may raise anything, and must not hide the error)
        return f"its text can't be made: {type(worse).__name__}"


def begin(book: Workbook, id_: RunId, message: str, given: bytes) -> Run:
    """Record the beginning of a run and return it."""
    settings = book.settings.all()
    kept = msgspec.json.encode({name: msgspec.Raw(text.encode()) for name, text in settings.items()})
    with book.transaction():
        facts = {**stored(book, "arguments", given), **stored(book, "settings", kept)}
        book.append("run.started", {"message": message, **facts}, span=id_)
    faults.point("run.started")
    return Run(book, id_, message, settings, History(book, id_))


def arguments_of(book: Workbook, id_: RunId) -> bytes:
    """Return the arguments that a run was begun with."""
    return loaded(book, "arguments", _started(book, id_).body)


def restore(book: Workbook, id_: RunId) -> Run:
    """Record that a run is resumed and return it."""
    body = _started(book, id_).body
    book.append("run.resumed", {"state": "unfinished"}, span=id_)
    kept = msgspec.json.decode(loaded(book, "settings", body), type=dict[str, msgspec.Raw])
    settings = {name: bytes(value).decode() for name, value in kept.items()}
    return Run(book, id_, body["message"], settings, History(book, id_))


def _started(book: Workbook, id_: RunId) -> Event:
    return next(book.events(span=id_, limit=1, set_aside=False))
