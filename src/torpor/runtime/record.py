"""How values get into the journal and out again.

Arguments and results are plain JSON, read back by the function's annotations: by kind and schema, never by pickle and
never by the name of a Python class. What can't be recorded is refused when it is written, so nothing is found
unreadable when it is needed. A large value is kept beside the events and named by its digest.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any, Final, Protocol, get_type_hints, runtime_checkable

import msgspec

from torpor.base.errors import NotRecordable, StepFailed, StepRefused
from torpor.base.finite import has_strange_number
from torpor.workbook import Workbook

ATTESTED_MAX = 4 * 1024
"""Bytes of JSON up to which a step's arguments are recorded themselves."""

INLINE_MAX = 32 * 1024
"""Bytes of JSON that an event carries itself; more goes beside the events."""

DEPTH_MAX: Final = 100
"""Lists and objects that may be nested in each other. Reading JSON recurses, and a replay may begin deeper in the
stack than the first run did: what was written close to the interpreter's own limit could not be read again."""

SHOWN_MAX: Final = 200
"""Characters of arguments in an error."""

_TEXTS = re.compile(rb'"(?:[^"\\]|\\.)*"')
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ALIKE = bytes.maketrans(b"{}", b"[]")


@runtime_checkable
class _Model(Protocol):
    """What a pydantic model offers, without importing pydantic."""

    def model_dump(self, *, mode: str, round_trip: bool) -> Any: ...

    @classmethod
    def model_validate_json(cls, value: bytes, *, by_alias: bool, by_name: bool) -> Any: ...


def _plain(value: Any) -> Any:
    if isinstance(value, _Model):
        return value.model_dump(mode="json", round_trip=True)
    raise _not_data(value)


def _plain_for_comparison(value: Any) -> Any:
    # Pydantic makes lists of sets, in the order of their hashes, which differs from process to process. Left as sets
    # they are sorted with the rest.
    if not isinstance(value, _Model):
        raise _not_data(value)
    whole = value.model_dump(mode="python", round_trip=True)
    try:
        _sorted_encoder.encode(whole)
    except (TypeError, ValueError):
        return value.model_dump(mode="json", round_trip=True)
    return whole


def _not_data(value: Any) -> TypeError:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    return TypeError(f"{kind} is not data: it lives in this process only")


def _revive(type_: type, value: Any) -> Any:
    if type_ is object:
        return value
    if issubclass(type_, _Model):
        return type_.model_validate_json(msgspec.json.encode(value), by_alias=True, by_name=True)
    raise TypeError(f"{type_!r} can't be made from JSON")


_encoder = msgspec.json.Encoder(enc_hook=_plain, decimal_format="string")
_sorted_encoder = msgspec.json.Encoder(enc_hook=_plain_for_comparison, decimal_format="string", order="sorted")


def encode(value: Any, *, name: str, where: str) -> bytes:
    """Return a value as JSON.

    Args:
        value: what is to be recorded.
        name: the step, for the error.
        where: "The result" or "The arguments", for the error.

    Raises:
        NotRecordable: it is not plain data.

    """
    return _encode(_encoder, value, name, where)


def encode_arguments(value: dict[str, Any], *, name: str) -> bytes:
    """Return a step's arguments as JSON that is the same in every process: sets and keys are sorted.

    Raises:
        NotRecordable: one is not plain data.

    """
    return _encode(_sorted_encoder, value, name, "The arguments")


def _encode(encoder: msgspec.json.Encoder, value: Any, name: str, where: str) -> bytes:
    try:
        raw = encoder.encode(value)
        # msgspec writes null for NaN and the infinities. That would record something else than was said.
        if b"null" in raw and has_strange_number(msgspec.to_builtins(value, enc_hook=_plain)):
            raise ValueError("it holds a number that JSON doesn't have: NaN or an infinity")  # noqa: TRY301  (one exit)
        if _is_deep(raw):
            raise ValueError(f"it is nested more than {DEPTH_MAX} deep")  # noqa: TRY301  (one exit)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise NotRecordable(name=name, where=where, reason=str(error)) from error
    return raw


def _is_deep(raw: bytes) -> bool:
    """Report whether JSON is nested deeper than DEPTH_MAX: peel off the innermost brackets that often."""
    if raw.count(b"[") + raw.count(b"{") <= DEPTH_MAX:
        return False
    brackets = _TEXTS.sub(b"", raw).translate(_ALIKE, _NOT_BRACKETS)
    for _ in range(DEPTH_MAX):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")  # of `[[][]]`, `[]` is left
    return bool(brackets)


def result_type(function: Callable[..., Any], *, name: str, role: str) -> Any:
    """Return the type of a function's result, by its annotation.

    Raises:
        StepRefused: the annotation can't be read, or no JSON can be read by it.

    """
    returns = hints_of(function, name=name, role=role).get("return", Any)
    try:
        msgspec.json.Decoder(returns, dec_hook=_revive)
    except TypeError as error:
        raise StepRefused(name=name, role=role, reason=f"its result has no JSON form: {error}") from error
    return returns


def hints_of(function: Callable[..., Any], *, name: str, role: str) -> dict[str, Any]:
    """Return a function's annotations.

    Raises:
        StepRefused: they can't be read.

    """
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise StepRefused(name=name, role=role, reason=f"its annotations can't be read: {error}") from error


def decode(raw: bytes, type_: Any, *, name: str, where: str) -> Any:
    """Return the value in recorded JSON, by its type.

    Raises:
        NotRecordable: it doesn't fit the type.

    """
    try:
        if type_ is Any:
            return msgspec.json.decode(raw)
        return msgspec.json.decode(raw, type=type_, dec_hook=_revive)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise NotRecordable(name=name, where=where, reason=str(error)) from error


def stored(book: Workbook, field: str, raw: bytes) -> dict[str, Any]:
    """Return the part of an event's body that holds a value: itself, or its digest if it is large.

    The value is kept in the transaction that is open, so it is there if the event is.
    """
    if len(raw) <= INLINE_MAX:
        return {field: msgspec.Raw(raw)}
    return {f"{field}_in": book.volumes.keep_value(raw)}


def loaded(book: Workbook, field: str, body: dict[str, Any]) -> bytes:
    """Return the JSON of a value that `stored` put into an event's body."""
    digest = body.get(f"{field}_in")
    if digest is not None:
        return book.volumes.value(digest)
    return msgspec.json.encode(body[field])


def attested(arguments: bytes) -> dict[str, Any]:
    """Return the part of an event's body that tells a step's arguments: themselves, or their digest if they are large.

    They come from `encode_arguments`. A replay computes them anew and only compares, so a digest is enough.
    """
    if len(arguments) <= ATTESTED_MAX:
        return {"arguments": msgspec.Raw(arguments)}
    return {"arguments_sha256": hashlib.sha256(arguments).hexdigest()}


def attests(body: dict[str, Any], arguments: bytes) -> bool:
    """Report whether these are the arguments that `attested` put into an event's body."""
    digest = body.get("arguments_sha256")
    if digest is not None:
        return bool(digest == hashlib.sha256(arguments).hexdigest())
    return _sorted_encoder.encode(body["arguments"]) == arguments


def shown(body: dict[str, Any]) -> str:
    """Return a recorded call in words."""
    digest = body.get("arguments_sha256")
    given = f"large arguments, SHA-256 {digest}" if digest else shortened(body["arguments"])
    return f"{body['name']}({given})"


def shortened(arguments: Any) -> str:
    """Return arguments as JSON, cut to a readable length."""
    text = msgspec.json.encode(arguments).decode()
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"


def failure(body: dict[str, Any]) -> StepFailed:
    """Return the error that a recorded failure stands for."""
    return StepFailed(name=body["name"], kind=body["error"], detail=body["detail"], attempts=body["attempts"])
