"""Chance that can be repeated: the same seed makes the same choices."""

from __future__ import annotations

import hashlib


class Seeded:
    """An `Entropy` whose bytes follow from a seed: SHAKE-256 (FIPS 202) of the seed and a count.

    Args:
        seed: any whole number; the same one gives the same bytes.

    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._count = 0

    def token(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        self._count += 1
        return hashlib.shake_256(f"{self._seed}/{self._count}".encode()).digest(size)

    def below(self, bound: int) -> int:
        """Return a whole number from 0 to `bound` - 1."""
        return int.from_bytes(self.token(8), "big") % bound

    def coins(self, count: int, odds: int = 128) -> list[bool]:
        """Return `count` coins, each heads with `odds` in 256."""
        return [byte < odds for byte in self.token(count)]
