"""The ladder moves who has idled long enough one rung down, and nobody else."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor.base.errors import DurationRefused
from torpor.lifecycle import EDGES, LADDER, STATES, Ladder, State, idle_seconds, next_state


@pytest.mark.parametrize(
    ("state", "idle_s", "expected"),
    [
        ("active", 0.0, "active"),
        ("active", 899.999, "active"),
        ("active", 900.0, "suspended"),
        ("active", 1e9, "suspended"),
        ("suspended", 86_399.999, "suspended"),
        ("suspended", 86_400.0, "frozen"),
        ("created", 1e9, "created"),
        ("frozen", 1e9, "frozen"),
        ("archived", 1e9, "archived"),
        ("deleted", 1e9, "deleted"),
    ],
)
def test_a_threshold_that_is_reached_exactly_is_reached(state: State, idle_s: float, expected: State) -> None:
    assert next_state(state, idle_s) == expected


def test_own_thresholds_are_kept() -> None:
    ladder = Ladder(suspend_after_s=1.0, freeze_after_s=2.0)
    assert next_state("active", 1.0, ladder) == "suspended"
    assert next_state("suspended", 1.9, ladder) == "suspended"
    assert next_state("suspended", 2.0, ladder) == "frozen"


def test_an_agents_own_thresholds_stand_in_for_those_that_it_has() -> None:
    assert LADDER.but() is LADDER
    assert LADDER.but(suspend_after_s=5.0) == Ladder(5.0, 86_400.0)
    assert LADDER.but(freeze_after_s=5.0) == Ladder(900.0, 5.0)
    assert LADDER.but(1.0, 2.0) == Ladder(1.0, 2.0)


@pytest.mark.parametrize("threshold", [0.0, -1.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["suspend_after_s", "freeze_after_s"])
def test_a_threshold_that_is_no_time_is_refused(field: str, threshold: float) -> None:
    with pytest.raises(DurationRefused):
        Ladder(**{field: threshold})
    with pytest.raises(DurationRefused):
        LADDER.but(**{field: threshold})


@given(st.sampled_from(STATES), st.floats(min_value=0, allow_nan=False), st.floats(0.001, 1e6), st.floats(0.001, 1e6))
def test_the_ladder_goes_along_an_edge_and_only_down(
    state: State, idle_s: float, suspend_after_s: float, freeze_after_s: float
) -> None:
    found = next_state(state, idle_s, Ladder(suspend_after_s, freeze_after_s))
    assert found == state or (found in EDGES[state] and found in ("suspended", "frozen"))


@given(st.integers(0, 2**60), st.integers(0, 2**60))
def test_a_clock_that_steps_back_makes_nobody_old(last_us: int, now_us: int) -> None:
    idle_s = idle_seconds(last_us, now_us)
    assert idle_s >= 0
    if now_us <= last_us:
        assert idle_s == 0
    else:
        assert idle_s == (now_us - last_us) / 1_000_000
