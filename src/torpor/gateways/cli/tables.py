"""Tables, sizes and times for people."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torpor.base.clock import MICROSECONDS
from torpor.gateways.cli.show import say, shown

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_KIB = 1024
_SPANS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_GAP = "  "


def say_table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Print rows in columns as wide as they need; nothing is cut, so that a pipe gets all of it.

    Args:
        heads: the columns' names.
        rows: a text for each column.
        right: the columns that stand to the right, such as numbers.

    """
    lines = [tuple(heads), *(tuple(shown(cell).replace("\n", " ").replace("\t", " ") for cell in row) for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            " " * (width - _width(cell)) + cell if head in right else cell + " " * (width - _width(cell))
            for head, cell, width in zip(heads, line, widths, strict=True)
        ]
        say(_GAP.join(cells).rstrip())


def some(count: int) -> str:
    """Return a number of bytes in words, and a dash for none: where nothing was moved, there is no size."""
    return size(count) if count else "-"


def some_of(count: int, what: str) -> str:
    """Return a number of things in words: "1 agent", "2,000 agents"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def size(count: int) -> str:
    """Return a number of bytes in words: "12.3 KiB"."""
    if count < _KIB:
        return f"{count} bytes"
    value = float(count)
    for unit in _UNITS:
        if value < _KIB or unit == _UNITS[-1]:
            break
        value /= _KIB
    return f"{value:.1f} {unit}"


def span(seconds: float) -> str:
    """Return a length of time in words, in its greatest unit: "3 h"."""
    for length, unit in _SPANS:
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return "now"


def until(moment_us: int | None, now_us: int) -> str:
    """Return how long it is to a moment, in its two greatest units: "in 1 d 6 h"."""
    if moment_us is None:
        return ""
    ahead_s = math.ceil((moment_us - now_us) / MICROSECONDS)
    if ahead_s < 1:
        return "due"
    place = next(place for place, (length, _) in enumerate(_SPANS) if ahead_s >= length)
    words = []
    for length, unit in _SPANS[place : place + 2]:
        count, ahead_s = divmod(ahead_s, length)
        words += [f"{count} {unit}"] if count else []
    return f"in {' '.join(words)}"


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415  (a library that most tables don't need)

    return cell_len(text)
