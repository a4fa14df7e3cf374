"""What the journal knows of a run that is to be replayed.

A replay by code that differs must be noticed before it records anything, because what it recorded would then keep the
right code from going on. So new ground is broken only where the journal ends: not where it has a gather in the place of
the step, not where the same branch has later steps already, and not behind a gather whose branches passed steps by.
"""

from __future__ import annotations

from typing import Any

import msgspec

from torpor.base.errors import InternalError, Nondeterminism
from torpor.runtime.record import attested, attests, shown
from torpor.workbook import Event, Workbook

INTENTS = ("step.intended", "effect.intended")
RECEIPTS = ("step.completed", "step.failed", "effect.completed", "effect.failed")
ATTEMPTS = ("step.attempted", "effect.attempted")
CANCEL_ASKED = "cancel.asked"


class Record(msgspec.Struct):
    """One recorded step."""

    call: dict[str, Any]
    """The event body that tells name and arguments."""
    intent: int | None = None
    """Number of the intent's event; None for a step that needs none, being part of the receipt's transaction."""
    receipt: Event | None = None
    attempts: int = 0
    """Attempts that failed before the last."""
    shared: bool = False
    """Whether an effect's key was known before: somebody else began it."""
    reached: bool = False
    """Whether the replay has come to it."""


class History:
    """The recorded steps of one run, by position."""

    def __init__(self, book: Workbook, run: str) -> None:
        self._run = run
        self._records: dict[str, Record] = {}
        self._widths: dict[str, int] = {}
        self._newest: dict[str, int] = {}
        self.attempt = 1
        """How often the run was begun or resumed, this time included."""
        self.cancel_asked: str | None = None
        """Why somebody asked that the run be cancelled, if somebody did."""
        for event in book.events(span=run, set_aside=False):
            self._take(event)

    def _take(self, event: Event) -> None:
        body = event.body
        if event.kind in INTENTS:
            shared = "first" in body
            self._place(body["position"], Record(body, event.seq, shared=shared))
        elif event.kind in RECEIPTS:
            if body["position"] not in self._records:
                self._place(body["position"], Record(body))
            self._records[body["position"]].receipt = event
        elif event.kind in ATTEMPTS:
            self._records[body["position"]].attempts += 1
        elif event.kind == "run.resumed":
            self.attempt += 1
        elif event.kind == CANCEL_ASKED:
            self.cancel_asked = body["reason"]

    def _place(self, position: str, record: Record) -> None:
        """Keep a record, and what its position says of the gathers around it."""
        self._records[position] = record
        parts = position.split(".")
        for depth, width in enumerate(record.call.get("widths", ())):
            self._widths[".".join(parts[: 2 * depth + 1])] = width
        for count in range(0, len(parts), 2):
            path = ".".join(parts[:count])
            self._newest[path] = max(self._newest.get(path, -1), int(parts[count]))

    def reach(self, position: str, name: str, arguments: bytes) -> Record | None:
        """Return what is recorded at a position that the code has come to; None where it is new ground.

        Raises:
            Nondeterminism: something else is recorded there.

        """
        record = self._records.get(position)
        if record is None:
            return None
        if record.call["name"] != name or not attests(record.call, arguments):
            asked = shown({"name": name, **attested(arguments)})
            raise self._differs(position, record, asked)
        record.reached = True
        return record

    def break_ground(self, position: str, name: str, arguments: bytes) -> None:
        """Insist that a step which isn't recorded comes where the journal ends; ask this right before recording it.

        Raises:
            Nondeterminism: something else is recorded there, or what comes after is.

        """
        asked = shown({"name": name, **attested(arguments)})
        if position in self._widths:
            recorded = _gather(self._widths[position])
            raise Nondeterminism(run=self._run, position=position, recorded=recorded, asked=asked)
        path, _, count = position.rpartition(".")
        newest = self._newest.get(path, -1)
        if newest > int(count):
            recorded = f"nothing here, and step {path + '.' if path else ''}{newest} behind it"
            raise Nondeterminism(run=self._run, position=position, recorded=recorded, asked=asked)

    def reach_gather(self, position: str, width: int) -> None:
        """Insist that what is recorded at a position, if anything is, is a gather of so many coroutines.

        Raises:
            Nondeterminism: it is not.

        """
        record = self._records.get(position)
        if record is not None:
            raise self._differs(position, record, _gather(width))
        recorded = self._widths.get(position, width)
        if recorded != width:
            raise Nondeterminism(run=self._run, position=position, recorded=_gather(recorded), asked=_gather(width))

    def add(self, position: str, record: Record) -> None:
        """Note a step that was recorded just now.

        Raises:
            InternalError: the position is taken.

        """
        if position in self._records:
            raise InternalError(promise=f"step {position} of run {self._run} is recorded once")
        record.reached = True
        self._place(position, record)

    def finish(self, path: str = "") -> None:
        """Insist that the code came to all that is recorded, in the whole run or in the branches of one gather.

        Raises:
            Nondeterminism: it passed something by.

        """
        for position, record in self._records.items():
            if not record.reached and position.startswith(path):
                raise self._differs(position, record, "to finish without it")

    def in_doubt(self) -> list[str]:
        """Return the positions of the effects that have an intent and no receipt."""
        return [
            position for position, record in self._records.items() if record.receipt is None and "key" in record.call
        ]

    def _differs(self, position: str, record: Record, asked: str) -> Nondeterminism:
        recorded = shown(record.call)
        return Nondeterminism(run=self._run, position=position, recorded=recorded, asked=asked)


def _gather(width: int) -> str:
    return f"a gather of {width}"
