"""Effects: steps that touch the world, and how it comes to see each of them once.

An effect has a *key* that names it for ever. Its intent is recorded under the key, which the workbook keeps unique, so
one key is one effect: whoever asks for it again, in this run or another, is given its receipt. The receipt has a unique
key of its own, because it need not be the first run that brings it about: another may meet the same effect in doubt.

The hard case is an intent without a receipt: the process died, or the call raised, somewhere between. Whether the
world has seen the effect can't be read from the journal. The declared policy decides, nothing else:

- ``retry``: do it again, with the same key. For worlds that know keys themselves, or where twice is the same as once.
- ``check``: ask the world, by a probe. `Happened(result)` becomes the receipt; None means that it did not happen, and
  it is done. A probe that raises leaves the question open.
- ``ask``: park the run as *unknown outcome*, until somebody who can tell has settled it.

An effect that knows that nothing happened raises `EffectRefused`; that is a failure like a step's, and no doubt at all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, Literal, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import anyio
import msgspec

from torpor.base import faults
from torpor.base.errors import (
    EffectRefused,
    KeyReused,
    NotRecordable,
    StepRefused,
    UnknownOutcome,
)
from torpor.runtime.history import ATTEMPTS, RECEIPTS, Record
from torpor.runtime.record import attests, decode, encode, loaded
from torpor.runtime.run import Run, Stopped, branch_here, describe, is_final, stops_the_run
from torpor.runtime.step import Call, Step
from torpor.workbook import Event, Workbook

P = ParamSpec("P")
R = TypeVar("R")

Policy = Literal["retry", "check", "ask"]

_DIED = "it was begun, and nothing is recorded of its end"

_under_way: WeakKeyDictionary[Workbook, dict[str, anyio.Event]] = WeakKeyDictionary()
"""The effects that this process is performing now, by the key of their intent."""


class Happened(msgspec.Struct, Generic[R], frozen=True):
    """A probe's answer: the effect took place, with this result."""

    result: R


Probe = Callable[..., Awaitable[Happened[Any] | None]]


class Effect(Step[P, R]):
    """A function that touches the world; made by `effect`."""

    role = "an effect"
    kind = "effect"

    def __init__(
        self,
        function: Callable[P, Awaitable[R]],
        *,
        on_unknown: Policy,
        check: Probe | None,
        name: str | None,
        retries: int,
        timeout: float | str | None,
    ) -> None:
        self.on_unknown = on_unknown
        self.check = check
        super().__init__(function, name=name, retries=retries, timeout=timeout)

    def _objection(self) -> str:
        parameter = self._signature.parameters.get("key")
        if parameter is None or parameter.kind is not parameter.KEYWORD_ONLY:
            return "it takes no keyword argument `key`"
        if parameter.default is not parameter.empty:
            return "its `key` has a default, and a key names one effect only"
        if (self.on_unknown == "check") != (self.check is not None):
            return 'on_unknown="check" and a probe in `check` go together'
        if self.on_unknown not in ("retry", "check", "ask"):
            return f"{self.on_unknown!r} is no policy: retry, check or ask"
        return super()._objection()

    def facts(self, bound: dict[str, Any]) -> dict[str, Any]:
        """Return the effect's key.

        Raises:
            StepRefused: it is no text.

        """
        key = bound["key"]
        if not isinstance(key, str):
            reason = f"its key must be text, not {type(key).__name__}"
            raise StepRefused(name=self.name, role="called so", reason=reason)
        return {"key": key}

    def intend(self, run: Run, facts: dict[str, Any], given: bytes) -> Record:
        """Record the intent under the effect's key, or find the one that is there."""
        name = intent_key(self.name, facts["key"])
        with run.book.transaction():
            record = Record(facts)
            first = run.book.journal.by_key(name, set_aside=True)
            if first is None:
                record.intent = run.append("effect.intended", facts, key=name)
            elif not attests(first.body, given):
                owner = f"event {first.seq}, with other arguments"
                raise KeyReused(key=facts["key"], owner=owner)
            else:
                record.intent = run.append("effect.intended", {**facts, "first": first.seq})
                record.shared = True
            run.history.break_ground(facts["position"], self.name, given)
        run.history.add(facts["position"], record)
        faults.point("effect.intended")
        return record

    def receipt_key(self, record: Record) -> str:
        """Return the key under which the receipt is found, whichever run brought it about."""
        return receipt_key(self.name, record.call["key"])

    async def settle(self, run: Run, record: Record, call: Call, *, fresh: bool) -> None:
        """Bring about a receipt: by doing it if it is new, by the policy if it is in doubt."""
        under_way = _under_way.setdefault(run.book, {})
        name = intent_key(self.name, record.call["key"])
        while name in under_way:  # another branch or run of this process is at it
            await under_way[name].wait()
            await run.checkpoint()
        doubt = "" if fresh and not record.shared else _DIED
        if doubt:
            self._take_over(run, record)
        if record.receipt is not None:
            return
        under_way[name] = anyio.Event()
        try:
            await self._do(run, record, call, doubt)
        finally:
            under_way.pop(name).set()

    async def _do(self, run: Run, record: Record, call: Call, doubt: str) -> None:
        while record.receipt is None:
            if doubt and await self._resolved(run, record, call, doubt):
                return
            doubt = ""
            try:
                raw = await self.attempt(call)
            except EffectRefused as error:
                await self.fail(run, record, error, final=True)
            except Exception as error:
                if stops_the_run(error, run.book):
                    raise
                if await self._resolved(run, record, call, ": ".join(describe(error))):
                    return
                # What can't be recorded was done, and would be no better done again.
                await self.fail(run, record, error, final=is_final(error))
            else:
                faults.point("effect.performed")
                self.receive(run, record, raw)

    def _take_over(self, run: Run, record: Record) -> None:
        """Take the receipt that another call under the same key has got meanwhile, if it has."""
        receipt = receipt_under(run.book, self.name, record.call["key"])
        if receipt is None:
            return
        body = {**receipt.body, "position": record.call["position"]}
        seq = run.append(receipt.kind, body, parent=record.intent)
        record.receipt = run.book.journal.event(seq)

    async def _resolved(self, run: Run, record: Record, call: Call, doubt: str) -> bool:
        """Resolve a doubt by the policy. Returns whether there is a receipt now; if not, it may be done (again)."""
        verdict = verdict_on(run.book, run.id, self.name, record.call["key"])
        if verdict is not None:
            return self._judged(run, record, verdict, doubt)
        if self.on_unknown == "retry":
            return False
        if self.check is None:
            raise self._park(run, record, doubt)
        return await self._ask_the_world(run, record, call, self.check)

    def _judged(self, run: Run, record: Record, verdict: dict[str, Any], doubt: str) -> bool:
        """Act on what somebody has said."""
        if not verdict["happened"]:
            # The verdict speaks of what was; what is done from here on is not covered by it.
            what = {"error": "UnknownOutcome", "detail": doubt}
            run.append("effect.attempted", {**self.label(record), **what}, parent=record.intent)
            record.attempts += 1
            return False
        raw = loaded(run.book, "result", verdict)
        try:
            decode(raw, self.returns, name=self.name, where="The result that was settled")
        except NotRecordable as error:
            raise self._park(run, record, error.message) from error
        self.receive(run, record, raw)
        return True

    async def _ask_the_world(self, run: Run, record: Record, call: Call, check: Probe) -> bool:
        token = branch_here.set(None)
        try:
            with anyio.fail_after(self.timeout):
                answer = await check(*call[0], **call[1])
            raw = None if answer is None else self._said(answer)
        except Exception as error:
            if stops_the_run(error, run.book):
                raise
            reason = "the probe failed: " + ": ".join(describe(error))
            raise self._park(run, record, reason) from error
        finally:
            branch_here.reset(token)
        if raw is None:
            await run.checkpoint()  # what was cancelled while the probe ran is not done any more
            if _is_inherited(run, record):
                raise self._park(run, record, "the agent that this one was made from may still be about to do it")
            return False
        self.receive(run, record, raw)
        return True

    def _said(self, answer: object) -> bytes:
        """Return the result in a probe's answer.

        Raises:
            NotRecordable: it is none that the effect could have.

        """
        if not isinstance(answer, Happened):
            reason = f"{answer!r:.80} is neither None nor Happened"
            raise NotRecordable(name=self.name, where="The probe's answer", reason=reason)
        raw = encode(answer.result, name=self.name, where="The probe's answer")
        decode(raw, self.returns, name=self.name, where="The probe's answer")
        return raw

    def _park(self, run: Run, record: Record, reason: str) -> Stopped:
        key = record.call["key"]
        return run.park(UnknownOutcome(run=run.id, name=self.name, key=key, reason=reason))


def _is_inherited(run: Run, record: Record) -> bool:
    """Report whether it was another agent that intended this effect: the one of which this is a fork or a clone."""
    lineage = run.book.lineage
    first = record.call.get("first", record.intent)
    return lineage is not None and first is not None and first <= lineage[1]


def intent_key(name: str, key: str) -> str:
    """Return the idempotency key of an effect's intent."""
    return f"effect:{name}:{key}"


def receipt_key(name: str, key: str) -> str:
    """Return the idempotency key of an effect's receipt; no longer than the intent's, so it fits where that did."""
    return f"done:{name}:{key}"


def receipt_under(book: Workbook, name: str, key: str) -> Event | None:
    """Return the receipt of the effect `name` under a key, if it has one."""
    return book.journal.by_key(receipt_key(name, key), set_aside=True)


def doubts_in(book: Workbook, run: str) -> dict[tuple[str, str], dict[str, Any] | None]:
    """Return a run's effects in doubt, by name and key, each with the verdict that nobody has acted on, if any."""
    doubts: dict[tuple[str, str], dict[str, Any] | None] = {}
    for event in book.events(span=run, set_aside=False):
        if "key" not in event.body or "name" not in event.body:
            continue
        effect = event.body["name"], event.body["key"]
        if event.kind == "effect.unknown":
            doubts[effect] = None
        elif event.kind == "effect.settled":
            doubts[effect] = event.body
        elif event.kind in (*RECEIPTS, *ATTEMPTS):
            doubts.pop(effect, None)
    return doubts


def verdict_on(book: Workbook, run: str, name: str, key: str) -> dict[str, Any] | None:
    """Return what somebody has said of a run's effect in doubt, unless it was acted on already."""
    return doubts_in(book, run).get((name, key))


def effect(
    *,
    on_unknown: Policy,
    check: Probe | None = None,
    retries: int = 0,
    timeout: float | str | None = None,
    name: str | None = None,
) -> Callable[[Callable[P, Awaitable[R]]], Effect[P, R]]:
    """Make an `async def` function that touches the world an effect: inside a run the world sees it once.

    Args:
        on_unknown: what to do when it is not known whether it happened: "retry", "check" or "ask".
        check: with "check", the probe: called with the same arguments, it returns `Happened(result)` or None.
        retries: how often it is done again after it raised, if the policy allows.
        timeout: how long one call may take: seconds, or text such as "20s".
        name: what it is called in the journal; the function's own name unless given.

    Raises:
        StepRefused, DurationRefused: it can't be an effect.

    """

    def decorate(function: Callable[P, Awaitable[R]]) -> Effect[P, R]:
        return Effect(
            function,
            on_unknown=on_unknown,
            check=check,
            name=name,
            retries=retries,
            timeout=timeout,
        )

    return decorate
