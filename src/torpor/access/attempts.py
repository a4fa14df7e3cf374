"""How often somebody may try: a bucket for each peer and one for all, in bounded memory, whatever the clock does.

Each bucket is a meter (the leaky bucket of ITU-T I.371, annex A): an attempt raises its level by `every_s`, and the
level falls as time passes. Where another attempt would raise it above `burst` attempts, there is none.

A clock set forward empties the meter at most; one set back leaves it as it is, so it neither locks out nor lets in.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from torpor.base.clock import MICROSECONDS, Clock
from torpor.base.limits import ACCESS_PEERS_MAX


class Bucket:
    """A number of attempts that come back one by one. Times are µs since 1970 UTC.

    Args:
        burst: how many it has when it is full.
        every_s: seconds after which one comes back.

    """

    __slots__ = ("_at", "_every", "_level", "_most")

    def __init__(self, burst: int, every_s: float) -> None:
        self._every = int(every_s * MICROSECONDS)
        self._most = burst * self._every
        self._level = 0
        self._at = 0

    def wait(self, now: int) -> int:
        """Return how many µs it takes until there is an attempt; 0 if there is one."""
        self._level = max(0, self._level - max(0, now - self._at))
        self._at = now
        return max(0, self._level + self._every - self._most)

    def spend(self, now: int) -> None:
        """Take an attempt out; of an empty bucket, nothing."""
        self.wait(now)
        self._level = min(self._level + self._every, self._most)


class Attempts:
    """Counts attempts by peer and together. Safe to be used by many threads.

    Of so many peers that not all can be remembered, the one who tried longest ago is forgotten; the bucket for all
    limits what can be gained by that.

    Args:
        clock: where times come from.
        each: attempts in a peer's bucket, and the seconds after which one comes back.
        together: likewise, for all peers.
        peers: how many peers are remembered.

    """

    def __init__(
        self, clock: Clock, each: tuple[int, float], together: tuple[int, float], *, peers: int = ACCESS_PEERS_MAX
    ) -> None:
        self._clock = clock
        self._each = each
        self._together = Bucket(*together)
        self._peers: OrderedDict[str, Bucket] = OrderedDict()
        self._peers_max = peers
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._peers)

    def wait_s(self, peer: str) -> float:
        """Return the seconds until a peer may try; 0 if it may now."""
        now = self._clock.now_us()
        with self._lock:
            known = self._peers.get(peer)
            return max(self._together.wait(now), 0 if known is None else known.wait(now)) / MICROSECONDS

    def spend(self, peer: str) -> None:
        """Count an attempt of a peer."""
        now = self._clock.now_us()
        with self._lock:
            self._spend(peer, now)

    def try_(self, peer: str) -> bool:
        """Count an attempt of a peer if it has one, and report whether it had."""
        now = self._clock.now_us()
        with self._lock:
            known = self._peers.get(peer)
            if self._together.wait(now) or (known is not None and known.wait(now)):
                return False
            self._spend(peer, now)
            return True

    def _spend(self, peer: str, now: int) -> None:
        self._together.spend(now)
        bucket = self._peers.pop(peer, None) or Bucket(*self._each)
        bucket.spend(now)
        self._peers[peer] = bucket  # the newest comes last
        while len(self._peers) > self._peers_max:
            self._peers.popitem(last=False)
