"""What everybody stores: one message of 1,024 characters, which no compression and no cache makes smaller."""

from __future__ import annotations

import random
import string
from typing import Final

_LETTERS: Final = string.ascii_letters + string.digits + "     "

TEXT: Final = "".join(random.Random(1024).choices(_LETTERS, k=1024))  # noqa: S311  (the same text in every run)
"""One KiB, the same in every run."""

MESSAGE: Final = {"text": TEXT}
"""The body of every event."""
