"""Agents of a given size, to be put to sleep, copied and branched. Made in the turns' own processes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from bench.payload import MESSAGE, prose

if TYPE_CHECKING:
    from torpor.home import Home
    from torpor.workbook import Workbook

MIB: Final = 2**20
NAME: Final = "ada"
"""The agent that is measured."""

_EMPTY: Final = 118_784
"""Bytes of an empty workbook."""

_PER_MESSAGE: Final = 1380
_PER_BYTE: Final = 1.0095
"""What a byte of a file takes in the workbook."""

_SHARE: Final = 8
"""Of a small agent's bytes, one in so many is messages."""

_MESSAGES_MAX: Final = 1000
_FILE_MAX: Final = MIB


def size_words(size: int) -> str:
    """Return a size as people say it."""
    return f"{size / MIB / 1024:g} GB" if size >= 1024 * MIB else f"{size / MIB:g} MB"


def new_agent(home: Home, size: int, *, content: str = "noise", name: str = NAME) -> None:
    """Make an agent of about `size` bytes, suspended.

    Args:
        home: where.
        size: of its workbook; its messages are an eighth of that, or a thousand; files of up to a MiB are the rest.
        content: of the files: "noise", which can't be compressed, or "text".
        name: what it is to be called.

    """
    home.new(name)
    with home.using(name) as book:
        _fill(book, size, content)
    home.suspend(name)


def _fill(book: Workbook, size: int, content: str) -> None:
    messages = min(_MESSAGES_MAX, size // _SHARE // _PER_MESSAGE)
    rest = max(0, int((size - _EMPTY - messages * _PER_MESSAGE) / _PER_BYTE))
    with book.transaction():
        for _ in range(messages):
            book.append("note.added", MESSAGE)
    count = -(-rest // _FILE_MAX)
    make = _maker(content)
    for number in range(count):
        book.write("workspace", f"/files/{number:04}", make(rest // count, number))


def _maker(content: str) -> Callable[[int, int], bytes]:
    if content == "text":
        return lambda size, number: prose(size, number * size)
    return lambda size, number: random.Random(number).randbytes(size)  # noqa: S311  (the same bytes in every run)


def new_talker(home: Home, messages: int) -> tuple[int, int]:
    """Make an agent of messages alone, suspended; returns its middle and its newest event."""
    home.new(NAME)
    with home.using(NAME) as book:
        for _ in range(messages // 100):
            with book.transaction():
                for _ in range(100):
                    book.append("note.added", MESSAGE)
        last = book.last
    home.suspend(NAME)
    return last // 2, last


def new_worker(home: Home, size: int) -> tuple[int, int]:
    """Make an agent that has worked on files: in its second half it replaces some and adds others.

    Of a hundred files, 60 are made in the first half; in the second, 20 of them are replaced and 20 are added. Its
    workbook has about `size` bytes, with what was replaced, which is kept.

    Returns:
        The last event of the first half, and the newest.

    """
    home.new(NAME)
    piece = int((size - _EMPTY - 100 * _PER_MESSAGE) / _PER_BYTE) // 100
    make = _maker("noise")
    with home.using(NAME) as book:
        for number in range(100):
            with book.transaction():
                path = f"/files/{number:03}" if number < 80 else f"/files/{number - 80:03}"
                book.append("note.added", MESSAGE)
                book.write("workspace", path, make(piece, number))
            if number == 59:
                middle = book.last
        last = book.last
    home.suspend(NAME)
    return middle, last
