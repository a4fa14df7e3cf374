"""The dates of feeds: RFC 822 (RSS), RFC 3339 (Atom, JSON Feed), and which of them to believe."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from torpor.base.clock import MICROSECONDS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST_US = (datetime(1990, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_AHEAD_US = 2 * 24 * 3600 * MICROSECONDS
_DATE_MAX = 64
"""Characters; no date is longer."""


def read_date(text: str) -> int | None:
    """Return a feed's date as microseconds since 1970 UTC, or None where it can't be read.

    A date without a zone is taken as UTC.

    Args:
        text: a date as in RFC 822 or RFC 3339 (ISO 8601).

    """
    text = text.strip()
    if not text or len(text) > _DATE_MAX:
        return None
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            # The standard library names ValueError only; odd text has made it raise the others.
            return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1)


def believable(moment_us: int, now_us: int) -> bool:
    """Tell whether something can have been published then: 1990 to two days ahead of now.

    Args:
        moment_us: microseconds since 1970 UTC.
        now_us: the present, in the same unit.

    """
    return _EARLIEST_US <= moment_us <= now_us + _AHEAD_US
