"""What everybody stores: one message of 1,024 characters, which no compression and no cache makes smaller; and text."""

from __future__ import annotations

import random
import string
import sysconfig
from functools import cache
from pathlib import Path
from typing import Final

_LETTERS: Final = string.ascii_letters + string.digits + "     "

TEXT: Final = "".join(random.Random(1024).choices(_LETTERS, k=1024))  # noqa: S311  (the same text in every run)
"""One KiB, the same in every run."""

MESSAGE: Final = {"text": TEXT}
"""The body of every event."""


@cache
def _library() -> bytes:
    """Return the source of Python's own library: some MiB of text that people wrote, on every machine."""
    found = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    return b"".join(path.read_bytes() for path in found)


def prose(size: int, start: int) -> bytes:
    """Return `size` bytes of text, from `start` of Python's own library on, over and over."""
    library = _library()
    begin = start % len(library)
    whole = library[begin:] + library * (size // len(library) + 1)
    return whole[:size]
