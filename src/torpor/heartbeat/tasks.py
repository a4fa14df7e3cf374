"""Tasks that wait for a record without holding up the others of their event loop.

A thread that waits for a sync leads it itself (`torpor.heartbeat.stream`). A task must not: while it stood still, so
would its whole event loop. Tasks therefore have a thread that waits for them all, begun when the first of them comes.

**When it is sent.** Sending it, and hearing from it, costs two switches of threads and the interpreter's lock, however
many wait. So it is sent when the loop has let everybody go on who could, or as soon as `GROUP` tasks wait: while it is
away for those, the others go on, and fill the next group.

**Nobody is forgotten.** A task is noted before the thread is sent, and the thread, coming back, tells everybody whose
record it has passed. So whoever is noted too late for one round is in the next. Should the device stand still, each
loop looks at its clock once a second, and sends those away who have waited for too long.
"""

from __future__ import annotations

import asyncio
import copy
import threading
from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Final

from anyio import to_thread

from torpor.base.errors import TorporError
from torpor.base.limits import LOG_STALL_SECONDS

GROUP: Final = 32
"""Tasks that wait, at which the thread is sent though others could go on."""

_GLANCE_S: Final = 1.0

_Answer = Exception | None


class _Crowd:
    """The tasks of one event loop that wait.

    Attributes:
        waiting: what each waits for, since when by the loop's clock, and how it is told; oldest first.
        fresh: how many of them came since the thread was last sent.
        target: the highest number that any has waited for.
        glancing: whether the loop will look at its clock.

    """

    __slots__ = ("fresh", "glancing", "loop", "target", "waiting")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop = loop
        self.waiting: deque[tuple[int, float, Future[_Answer]]] = deque()
        self.fresh = 0
        self.target = 0
        self.glancing = False


class Tasks:
    """Those who wait for numbers that something reaches, one after the other.

    Args:
        name: of the thread.
        wait: waits in a thread until a number is reached; raises what there is to say if it never will be.
        reached: says up to which number all are.
        late: says what is to be raised by who has waited for too long.

    """

    def __init__(
        self,
        name: str,
        wait: Callable[[int], None],
        reached: Callable[[], int],
        late: Callable[[float], TorporError],
    ) -> None:
        self._name = name
        self._wait = wait
        self._reached = reached
        self._late = late
        self.forget()

    def forget(self) -> None:
        """Begin anew: this is a forked child, where the thread is not."""
        self._lock = threading.Lock()
        self._here = threading.local()
        self._crowds: list[_Crowd] = []
        self._targets: SimpleQueue[int | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def arrive(self, number: int) -> None:
        """Return when a number is reached.

        Raises:
            Exception: what `wait` says, or `late`.

        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # another kind of event loop
            await to_thread.run_sync(self._wait, number)
            return
        crowd: _Crowd | None = getattr(self._here, "crowd", None)
        if crowd is None or crowd.loop is not loop:
            crowd = self._welcome(loop)
        future: Future[_Answer] = loop.create_future()
        crowd.waiting.append((number, loop.time(), future))
        crowd.target = max(crowd.target, number)
        crowd.fresh += 1
        if crowd.fresh == GROUP:
            self._send(crowd)
        elif crowd.fresh == 1:
            loop.call_soon(self._send, crowd)
        if not crowd.glancing:
            crowd.glancing = True
            loop.call_later(_GLANCE_S, self._glance, crowd)
        error = await future
        if error is not None:
            raise copy.copy(error) from error

    def _welcome(self, loop: AbstractEventLoop) -> _Crowd:
        crowd = self._here.crowd = _Crowd(loop)
        with self._lock:
            self._crowds = [other for other in self._crowds if not other.loop.is_closed()]
            self._crowds.append(crowd)
        return crowd

    def _send(self, crowd: _Crowd) -> None:
        if not crowd.fresh:
            return
        crowd.fresh = 0
        self._targets.put(crowd.target)
        if self._thread is None:
            self._begin()

    def _begin(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
                self._thread.start()

    def _glance(self, crowd: _Crowd) -> None:
        crowd.glancing = False
        since = crowd.loop.time() - LOG_STALL_SECONDS
        late = []
        with self._lock:
            while crowd.waiting and crowd.waiting[0][1] <= since:
                late.append(crowd.waiting.popleft()[2])
        if late:
            _tell(late, self._late(LOG_STALL_SECONDS))
        if crowd.waiting:
            crowd.glancing = True
            crowd.loop.call_later(_GLANCE_S, self._glance, crowd)

    # --- the thread -----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while (target := self._targets.get()) is not None:
            try:
                self._wait(target)
            except Exception as error:  # noqa: BLE001  (told to those who wait)
                self._pass(self._reached(), None)
                self._pass(target, error)
            else:
                self._pass(max(target, self._reached()), None)

    def _pass(self, number: int, answer: _Answer) -> None:
        """Tell everybody who waits for a number, or one before it."""
        with self._lock:
            for crowd in self._crowds:
                waiting = crowd.waiting
                told = []
                while waiting and waiting[0][0] <= number:
                    told.append(waiting.popleft()[2])
                if told:
                    with suppress(RuntimeError):  # the loop is closed: nobody waits there any more
                        crowd.loop.call_soon_threadsafe(_tell, told, answer)

    def close(self) -> None:
        """End the thread, when all have been told."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._targets.put(None)
            thread.join()


def _tell(futures: list[Future[_Answer]], answer: _Answer) -> None:
    for future in futures:
        if not future.done():  # its task may have been cancelled
            future.set_result(answer)
