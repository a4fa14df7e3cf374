"""One process of Litestream, owned: what it says, and how it ends.

The child is killed by the kernel when the thread that started it ends, whatever ends that (`leashed.py`); where that
thread ends in the moment before the child has asked for it, when the process does. It is in a
process group of its own, so that Ctrl-C reaches only its owner, who ends it in an orderly way: SIGTERM, upon which
Litestream sends what is left, and SIGKILL where that takes too long.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from torpor.base.errors import LitestreamFailed
from torpor.litestream import leashed

STOP_S: Final = 20.0
"""Seconds that it may take to send what is left."""

LINES_KEPT: Final = 20
LINE_MAX: Final = 2_000
"""Characters kept of one line."""

_PIECE: Final = 65_536
_LAST_S: Final = 0.5
"""Seconds between the last that it says and its end."""


class Line(msgspec.Struct, frozen=True):
    """One line of Litestream's log."""

    level: str
    """"INFO", "WARN", "ERROR" …; "" where the line is no record of the log."""
    text: str
    """What it is about."""
    facts: dict[str, Any]

    @property
    def said(self) -> str:
        """The line in words: what it is about, and the error or reason in it."""
        more = [str(self.facts[name]) for name in ("error", "err", "reason") if name in self.facts]
        return ": ".join([self.text, *more])

    @property
    def bytes(self) -> int:
        """How many bytes it tells of."""
        size = self.facts.get("sz", self.facts.get("size", 0))
        return size if isinstance(size, int) else 0


class Child:
    """A running Litestream. The thread that made it owns it, and must outlive it.

    Args:
        words: the program and its arguments.
        environment: its whole environment.
        inherits: descriptors that it keeps open as long as it lives.

    Raises:
        LitestreamFailed: it can't be started.

    """

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], inherits: Sequence[int] = ()) -> None:
        leash = [sys.executable, "-I", "-S", leashed.__file__, str(os.getpid())]
        try:
            self._process = subprocess.Popen(  # noqa: S603  (the program that the user named or installed)
                [*leash, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                pass_fds=tuple(inherits),
                process_group=0,
            )
        except (OSError, ValueError) as error:
            raise LitestreamFailed(what="be started", reason=str(error)) from error
        self._out = self._process.stdout.fileno() if self._process.stdout else -1
        os.set_blocking(self._out, False)
        self._begun = b""
        self.last: deque[str] = deque(maxlen=LINES_KEPT)
        """The last lines that it said."""
        self.silent = False
        """Whether it has said its last."""

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def hear(self, wait_s: float) -> list[Line]:
        """Return what it has said since, after waiting for it for a while; nothing where it kept silent."""
        if self.silent:
            return []
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)
            if not selector.select(wait_s):
                return []
        with suppress(BlockingIOError):
            piece = os.read(self._out, _PIECE)
            self.silent = not piece
            whole = (self._begun + piece).split(b"\n")
            self._begun = b"" if self.silent else whole.pop()[-_PIECE:]
            return [self._heard(line) for line in whole if line.strip()]
        return []

    def _heard(self, raw: bytes) -> Line:
        line = _parsed(raw)
        self.last.append(line.said[:LINE_MAX])
        return line

    def ask_to_end(self) -> None:
        """Ask it to send what is left and to end; nothing where it has ended."""
        self._signal(signal.SIGTERM)

    def wait(self, wait_s: float = STOP_S) -> int:
        """Return its exit code, after killing it where it doesn't end in time."""
        deadline = time.monotonic() + wait_s
        while not self.silent and (left := deadline - time.monotonic()) > 0:
            self.hear(left)  # else it might wait for room in the pipe
        try:
            code = self._process.wait(max(deadline - time.monotonic(), _LAST_S))
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            code = self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self.silent = True
        return code

    def kill(self) -> int:
        """Kill it at once; returns its exit code."""
        self._signal(signal.SIGKILL)
        return self.wait()

    def _signal(self, number: signal.Signals) -> None:
        # Popen asks first whether it has ended, so no other process of that number is hit.
        self._process.send_signal(number)

    def failed(self, what: str, reason: str = "") -> LitestreamFailed:
        """Return the error for what it could not do, with its last words."""
        said = tuple(self.last)
        last = next((line for line in reversed(said) if _tells(line)), said[-1] if said else "")
        return LitestreamFailed(what=what, reason=reason or last or "it said nothing", lines=said)


def _parsed(raw: bytes) -> Line:
    try:
        facts = msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError):
        text = raw.decode(errors="replace").strip()
        level = "ERROR" if "level=ERROR" in text or text.startswith("Error: ") else ""
        return Line(level, text, {})
    return Line(str(facts.get("level", "")), str(facts.get("msg", "")), facts)


def _tells(line: str) -> bool:
    return not line.startswith(("litestream shut down", "signal received"))
