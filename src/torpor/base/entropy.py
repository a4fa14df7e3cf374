"""Chance is an argument: whoever needs a random number takes an `Entropy`."""

from __future__ import annotations

import os
from typing import Protocol


class Entropy(Protocol):
    """A source of random bytes."""

    def token(self, size: int) -> bytes:
        """Return `size` random bytes."""
        ...


class SystemEntropy:
    """The operating system's generator, fit for secrets."""

    def token(self, size: int) -> bytes:
        """Return `size` random bytes."""
        return os.urandom(size)
