"""For how long each agent holds the event loop: an account for each, kept by who runs on it.

A loop lets one task go on at a time, from one `await` that waits to the next. Such a *turn* is a call of `send` or
`throw` of the task's coroutine. So a coroutine that notes the time around these two knows exactly for how long its
task held the loop: computing, blocked in a call, or waiting for a core or the interpreter's lock. All of that keeps
everybody else from going on, and is therefore *busy*. It costs two looks at a clock for a turn. Nothing has to be
interrupted or guessed, and turns too short for a profiler to see count too. What a library does in plain callbacks of
the loop, between the turns of tasks, is nobody's.

**Whose task.** The account is a context variable, and a task inherits the context of whoever starts it. A task factory
sees each new task, and has those metered that are in some account. So what an agent's handler starts counts as the
agent's, however deep; what nobody's task starts isn't touched.

**Turns within turns.** A task that is begun eagerly runs within the turn of its starter. The outer clock stands
meanwhile, so that no time counts twice.

**Other threads may read.** They must: while an agent holds the loop, nobody who waits for the loop can say which. There
are no locks. A turn's end first says that nobody runs, and then adds the turn to the account; a reader first reads the
account, and then who runs. So it may miss a turn that ends just then, and sees it the next time; it never sees one
twice. (This relies on the interpreter's lock.)

**What is left.** An account is closed with its agent. Tasks of it that still live are left over: `Meter.left` shows
them until they end.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar
from types import CodeType, FrameType, TracebackType
from typing import Any, Final, Self, TypeVar

T = TypeVar("T")

Factory = Callable[..., "asyncio.Future[Any]"]


class Account:
    """What one agent has used of the loop.

    Attributes:
        label: whose it is: "agent:NAME".
        busy_ns: for how long its tasks have held the loop, in turns that are over.
        turns: how many these were.
        latest: the task that had the last turn.
        closed: whether the agent has gone.

    """

    __slots__ = ("_parts", "busy_ns", "closed", "label", "latest", "turns")

    def __init__(self, label: str) -> None:
        self.label = label
        self.busy_ns = 0
        self.turns = 0
        self.latest: weakref.ref[Metered] | None = None
        self.closed = False
        self._parts: dict[weakref.ref[Metered], None] = {}

    @property
    def tasks(self) -> int:
        """How many of its tasks live."""
        return len(self._parts)

    def parts(self, limit: int) -> list[Metered]:
        """Return what its living tasks run, oldest first; no more than `limit` of them."""
        found = []
        for part in list(self._parts)[:limit]:
            alive = part()
            if alive is not None:
                found.append(alive)
        return found


account_here: ContextVar[Account | None] = ContextVar("torpor_account", default=None)
"""The account that new tasks belong to."""


class Metered(Coroutine[Any, Any, Any]):
    """A coroutine whose turns are added to an account; for whoever looks, it is the one that it was made of."""

    __slots__ = ("__name__", "__qualname__", "__weakref__", "_meter", "_send", "_token", "account", "coroutine")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], account: Account, meter: Meter) -> None:
        self.coroutine = coroutine
        self.account = account
        self.__name__ = getattr(coroutine, "__name__", type(coroutine).__name__)
        self.__qualname__ = getattr(coroutine, "__qualname__", self.__name__)
        self._meter = meter
        self._send = coroutine.send
        parts = account._parts  # noqa: SLF001  (the two are one thing)
        # A task that is dropped before its end must not stay in the account.
        self._token = weakref.ref(self, lambda token: parts.pop(token, None))
        parts[self._token] = None

    def send(self, value: Any, /) -> Any:
        """Have a turn."""
        meter = self._meter
        tick = meter.tick
        outer = meter.running
        now = tick()
        if outer is not None:
            meter.running = None
            outer.account.busy_ns += now - meter.since
        meter.since = now
        meter.running = self
        try:
            return self._send(value)
        except BaseException:
            self._end()
            raise
        finally:
            # As `_over`, without the call.
            account = self.account
            since = meter.since
            now = tick()
            meter.running = None
            account.busy_ns += now - since
            account.turns += 1
            account.latest = self._token
            meter.since = now
            meter.running = outer

    def throw(
        self,
        kind: Any,
        value: Any = None,
        traceback: TracebackType | None = None,
        /,
    ) -> Any:
        """Have a turn that begins with an error."""
        meter = self._meter
        outer = meter.running
        now = meter.tick()
        if outer is not None:
            meter.running = None
            outer.account.busy_ns += now - meter.since
        meter.since = now
        meter.running = self
        try:
            if value is None and traceback is None:
                return self.coroutine.throw(kind)
            return self.coroutine.throw(kind, value, traceback)
        except BaseException:
            self._end()
            raise
        finally:
            self._over(outer)

    def _over(self, outer: Metered | None) -> None:
        """End a turn."""
        meter, account = self._meter, self.account
        since = meter.since
        now = meter.tick()
        meter.running = None
        account.busy_ns += now - since
        account.turns += 1
        account.latest = self._token
        meter.since = now
        meter.running = outer

    def close(self) -> None:
        """End it without a further turn."""
        self.coroutine.close()
        self._end()

    def _end(self) -> None:
        account = self.account
        account._parts.pop(self._token, None)  # noqa: SLF001
        if account.closed:
            self._meter.forget(account)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.coroutine.__await__()

    # What asyncio, anyio and debuggers ask a coroutine for.

    @property
    def cr_frame(self) -> FrameType | None:
        """The coroutine's frame; None when it has ended."""
        frame: FrameType | None = getattr(self.coroutine, "cr_frame", None)
        return frame

    @property
    def cr_code(self) -> CodeType | None:
        """The coroutine's code."""
        code: CodeType | None = getattr(self.coroutine, "cr_code", None)
        return code

    @property
    def cr_running(self) -> bool:
        """Whether it has a turn just now."""
        return bool(getattr(self.coroutine, "cr_running", False))

    @property
    def cr_suspended(self) -> bool:
        """Whether it has had a turn, and waits for the next."""
        return bool(getattr(self.coroutine, "cr_suspended", False))

    @property
    def cr_await(self) -> Any:
        """What it waits for."""
        return getattr(self.coroutine, "cr_await", None)


TURNS: Final = frozenset((Metered.send.__code__, Metered.throw.__code__))
"""The code from which a metered task is carried: what is further out in a stack is the event loop."""


class Meter:
    """The accounts of one event loop.

    Use it as a context manager around what the loop runs, in a task of the loop::

        with Meter() as meter:
            account = meter.open("agent:ada")
            task = meter.start(account, work(), name="agent:ada")

    Args:
        tick: a monotonic clock in nanoseconds.

    Attributes:
        running: who has a turn just now.
        since: when that turn began, or was last interrupted by one within it, by the clock.
        thread: of the loop, as Python counts them.
        tid: likewise, as the kernel does.

    """

    def __init__(self, tick: Callable[[], int] = time.perf_counter_ns) -> None:
        self.tick: Final = tick
        self.running: Metered | None = None
        self.since = 0
        self.thread = 0
        self.tid = 0
        self._left: dict[Account, None] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._before: Factory | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        self.tid = threading.get_native_id()
        self._before = self._loop.get_task_factory()
        self._loop.set_task_factory(self._make)
        return self

    def __exit__(self, *_: object) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and loop.get_task_factory() == self._make:  # else somebody's, who may call ours
            loop.set_task_factory(self._before)

    def open(self, label: str) -> Account:
        """Return a new account."""
        return Account(label)

    def close(self, account: Account) -> None:
        """Close an account: its owner has gone."""
        account.closed = True
        if account.tasks:
            self._left[account] = None

    def forget(self, account: Account) -> None:
        """Forget a closed account that has no task any more."""
        if not account.tasks:
            self._left.pop(account, None)

    def left(self) -> list[Account]:
        """Return the closed accounts that still have tasks."""
        found = list(self._left)
        for account in found:
            self.forget(account)  # a task that was dropped has told nobody
        return [account for account in found if account.tasks]

    def start(self, account: Account, coroutine: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Begin a task that counts for an account, with all that it begins.

        It has a context of its own, and nothing of its starter's: what an agent does must not depend on who woke it.
        """
        context = Context()
        context.run(account_here.set, account)
        return asyncio.get_running_loop().create_task(coroutine, name=name, context=context)

    def busy_ns(self, account: Account) -> int:
        """Return for how long an account's tasks have held the loop, with the turn that one of them has now.

        Any thread may ask.
        """
        busy = account.busy_ns
        running = self.running
        if running is not None and running.account is account:
            since = self.since
            if self.running is running:
                busy += max(0, self.tick() - since)
        return busy

    def _make(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **how: Any) -> asyncio.Future[Any]:
        """Make a task, as the loop asks a factory to."""
        context = how.get("context")
        account = account_here.get() if context is None else context.get(account_here)
        if (
            account is not None
            and self._loop is not None
            and isinstance(coroutine, Coroutine)
            and not isinstance(coroutine, Metered)
        ):
            coroutine = Metered(coroutine, account, self)
        if self._before is not None:
            return self._before(loop, coroutine, **how)
        return asyncio.Task(coroutine, loop=loop, **how)
