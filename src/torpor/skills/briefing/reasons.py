"""Why a server gave nothing, in words that a person understands."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from http import HTTPStatus

from torpor.base.errors import SourceError, SourceMissing, SourceUnreachable

_MEANINGS = {
    400: "the server doesn't understand the request",
    401: "the server asks for a password",
    402: "the server asks for a payment",
    403: "the server forbids it",
    404: "the server has no such page",
    410: "the page is gone for good",
    429: "the server was asked too often",
    451: "the page is withheld for legal reasons",
}
_AGAIN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_CLIENT_ERRORS = range(400, 500)
_DEPTH_MAX = 20
_DIGITS_MAX = 7
"""Of a number of seconds: some months; more is nonsense."""


def status_error(source: str, status: int, retry_after: str) -> SourceError:
    """Return the error for a status that brings no feed (RFC 9110 §15).

    Args:
        source: the feed, as the user named it.
        status: the status code.
        retry_after: the header of that name, or "".

    """
    try:
        phrase = HTTPStatus(status).phrase.lower()
    except ValueError:
        phrase = "an unknown status"
    reason = f"{_MEANINGS.get(status, f'the server says {phrase}')} (HTTP {status})"
    if status in _CLIENT_ERRORS and status not in _AGAIN:
        return SourceMissing(source=source, reason=reason)
    if retry_after.isdecimal() and len(retry_after) <= _DIGITS_MAX:
        reason += f"; it may be asked again in {int(retry_after):,} s"
    return SourceUnreachable(source=source, reason=reason)


def broke_off(error: BaseException) -> str:
    """Return why a connection failed.

    Args:
        error: what the HTTP client raised; the system's own error is found among its causes.

    """
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror):
            return f"its name doesn't resolve ({cause.strerror})"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate can't be trusted ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            return f"it doesn't speak TLS as it should ({cause.reason or cause})"
        if isinstance(cause, ConnectionRefusedError):
            return "the connection was refused"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
    return f"it broke off ({str(error) or type(error).__name__})"


def _causes(error: BaseException) -> Iterator[BaseException]:
    # Breadth first through causes and groups; the depth is bounded, since causes may form a circle.
    layer = [error]
    for _ in range(_DEPTH_MAX):
        yield from layer
        following: list[BaseException] = []
        for one in layer:
            if isinstance(one, BaseExceptionGroup):
                following.extend(one.exceptions)
            following.extend(cause for cause in (one.__cause__ or one.__context__,) if cause)
        layer = following
