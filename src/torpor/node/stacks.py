"""Where code is: of a coroutine that waits, and of a thread that runs.

A task that waits has no stack; it has a chain of coroutines, each awaiting the next. Both are only looked at: no frame,
no value of a variable is kept, and no more than `STACK_FRAMES_MAX` of either.

What people want to know is where *their* code is, not which of the event loop's own functions it waits in. So the
*spot* of a stack is its innermost function that is neither of the standard library, nor of what runs it; where there is
none, it is the innermost of all.
"""

from __future__ import annotations

import sys
from collections.abc import Container, Iterable, Iterator
from types import CodeType, FrameType
from typing import Any, Final

import msgspec

from torpor.base.limits import STACK_FRAMES_MAX

_OURS: Final = "torpor"
_AUTHORS: Final = "torpor.skills."
"""Within our own package, what is an agent's code."""
_NAME_MAX: Final = 200
"""Characters of a function's name; somebody may have made it."""
_CARRIERS: Final = sys.stdlib_module_names | {"anyio", _OURS}


class Spot(msgspec.Struct, frozen=True):
    """A place in the code.

    Attributes:
        function: its qualified name.
        module: the module's name.
        file: where it was read from.
        line: which of its lines; 0 where nobody knows.

    """

    function: str
    module: str
    file: str
    line: int


def chain(coroutine: Any) -> Iterator[Spot]:
    """Yield where a coroutine is that waits, outermost first."""
    for _ in range(STACK_FRAMES_MAX):
        frame, code, inner = _link(coroutine)
        if code is not None:
            yield _spot(frame, code)
        if inner is None:
            return
        coroutine = inner


def stack(thread: int, until: Container[CodeType] = ()) -> Iterator[Spot]:
    """Yield where a thread is that runs, innermost first, up to a frame of the code that is its carrier."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001  (documented; its name only warns against careless use)
    for _ in range(STACK_FRAMES_MAX):
        if frame is None or frame.f_code in until:
            return
        yield _spot(frame, frame.f_code)
        frame = frame.f_back


def telling(spots: Iterable[Spot]) -> Spot | None:
    """Return the first of some spots, innermost first, that is of code that somebody wrote for an agent."""
    innermost = None
    for spot in spots:
        if spot.module.startswith(_AUTHORS) or spot.module.partition(".")[0] not in _CARRIERS:
            return spot
        innermost = innermost or spot
    return innermost


def _spot(frame: FrameType | None, code: CodeType) -> Spot:
    module = frame.f_globals.get("__name__", "") if frame is not None else ""
    line = frame.f_lineno if frame is not None else code.co_firstlineno
    return Spot(code.co_qualname[:_NAME_MAX], str(module)[:_NAME_MAX], code.co_filename, line or 0)


def _link(coroutine: Any) -> tuple[FrameType | None, CodeType | None, Any]:
    """Return frame and code of one link of the chain, and the next link."""
    for prefix, next_ in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
        code = getattr(coroutine, f"{prefix}_code", None)
        if isinstance(code, CodeType):
            frame = getattr(coroutine, f"{prefix}_frame", None)
            return (frame, code, getattr(coroutine, next_, None)) if frame is not None else (None, None, None)
    return None, None, None
