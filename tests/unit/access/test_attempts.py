"""How often somebody may try, against a plain model; clocks that jump; memory that stays bounded."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.access.kit import SECOND
from tests.unit.workbook.kit import NOW, SetClock

from torpor.access import Attempts

BURST = 4
EVERY_S = 5.0
PEERS = ("a", "b", "c")


class Plain:
    """A bucket with a whole number of drops, which come back one by one while it isn't full."""

    def __init__(self, burst: int) -> None:
        self.burst = burst
        self.drops = burst
        self.since = 0.0

    def pass_(self, seconds: float) -> None:
        if self.drops < self.burst:
            self.since += seconds
        while self.drops < self.burst and self.since >= EVERY_S:
            self.drops += 1
            self.since -= EVERY_S
        if self.drops == self.burst:
            self.since = 0.0

    def spend(self) -> None:
        self.drops = max(0, self.drops - 1)


moves = st.lists(st.tuples(st.sampled_from(("spend", "wait")), st.sampled_from(PEERS), st.integers(0, 12)), max_size=60)


@given(moves)
def test_attempts_come_back_one_by_one(moves: list[tuple[str, str, int]]) -> None:
    clock = SetClock()
    attempts = Attempts(clock, (BURST, EVERY_S), (1_000_000, EVERY_S))
    plain = {peer: Plain(BURST) for peer in PEERS}
    for what, peer, seconds in moves:
        if what == "wait":
            clock.now += seconds * SECOND
            for bucket in plain.values():
                bucket.pass_(seconds)
        elif plain[peer].drops:
            assert attempts.try_(peer)
            plain[peer].spend()
        else:
            assert not attempts.try_(peer)
        for each, bucket in plain.items():
            assert (attempts.wait_s(each) == 0) == (bucket.drops > 0)
            if not bucket.drops:
                assert attempts.wait_s(each) == EVERY_S - bucket.since


@given(moves, st.lists(st.integers(-(10**16), 10**16), min_size=1, max_size=5))
def test_no_jump_of_the_clock_gives_more_than_a_full_bucket_or_takes_for_longer_than_an_empty_one(
    moves: list[tuple[str, str, int]], jumps: list[int]
) -> None:
    clock = SetClock()
    attempts = Attempts(clock, (BURST, EVERY_S), (1_000_000, EVERY_S))
    for _, peer, _ in moves:
        attempts.spend(peer)
    for jump in jumps:
        clock.now += jump
        for peer in PEERS:
            assert 0 <= attempts.wait_s(peer) <= EVERY_S
            gained = sum(attempts.try_(peer) for _ in range(BURST + 3))
            assert gained <= BURST
    clock.now += int(BURST * EVERY_S) * SECOND
    assert all(attempts.wait_s(peer) == 0 for peer in PEERS)


def test_a_clock_set_back_gives_nothing() -> None:
    clock = SetClock()
    attempts = Attempts(clock, (BURST, EVERY_S), (100, EVERY_S))
    assert sum(attempts.try_("a") for _ in range(10)) == BURST
    clock.now = NOW - 365 * 86_400 * SECOND
    assert not attempts.try_("a")
    clock.now += int(EVERY_S) * SECOND
    assert attempts.try_("a")
    assert not attempts.try_("a")


def test_all_together_have_a_bucket_too() -> None:
    clock = SetClock()
    attempts = Attempts(clock, (BURST, EVERY_S), (10, 1.0))
    assert sum(attempts.try_(f"peer-{number}") for number in range(50)) == 10
    assert attempts.wait_s("one who never tried") == 1.0
    clock.now += SECOND
    assert attempts.try_("one who never tried")


def test_memory_is_bounded_and_the_last_ones_are_remembered() -> None:
    attempts = Attempts(SetClock(), (1, 60.0), (10**9, 60.0), peers=100)
    for number in range(10_000):
        assert attempts.try_(f"peer-{number}")
        assert len(attempts) <= 100
    assert [number for number in range(10_000) if attempts.wait_s(f"peer-{number}")] == list(range(9_900, 10_000))


def test_threads_get_no_more_than_there_is() -> None:
    attempts = Attempts(SetClock(), (50, 60.0), (1_000, 60.0))
    got: list[bool] = []
    start = threading.Barrier(8)

    def try_often() -> None:
        start.wait()
        got.extend(attempts.try_("a") for _ in range(50))

    threads = [threading.Thread(target=try_often) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(got) == 50
