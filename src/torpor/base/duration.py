"""Durations as people write them: "20s", "1.5m", "300ms"."""

from __future__ import annotations

import re

from torpor.base.errors import DurationRefused

_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(duration: float | str) -> float:
    """Return a duration in seconds.

    Args:
        duration: seconds as a number, or a number with its unit: ms, s, m, h or d.

    Raises:
        DurationRefused: it is neither, or it is not positive.

    """
    if isinstance(duration, str):
        form = _FORM.fullmatch(duration.strip())
        if form is None:
            raise DurationRefused(duration=duration)
        value = float(form[1]) * _SECONDS[form[2]]
    else:
        value = float(duration)
    if not 0 < value < float("inf"):
        raise DurationRefused(duration=str(duration))
    return value
