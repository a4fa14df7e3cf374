"""The ticker: who is moved, who is woken, who is left alone; and the loop that keeps it going."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest
from tests.unit.home.kit import DAY, HOUR, check_tidy, grown, open_home
from tests.unit.workbook.kit import NOW, SetClock

from torpor.base.errors import CopyMissing, LedgerFailed, TorporError
from torpor.home import Home, Ticked, keep_ticking
from torpor.lifecycle import Ladder

SECOND = 1_000_000


def names(ticked: Ticked) -> dict[str, str]:
    return {moved.name: moved.after for moved in ticked.moved}


def test_exactly_at_its_threshold_an_agent_goes_one_rung_down(home: Home, clock: SetClock) -> None:
    grown(home)
    clock.now = NOW + 900 * SECOND - 1
    assert names(home.tick()) == {}
    clock.now += 1
    assert names(home.tick()) == {"ada": "suspended"}
    clock.now = NOW + DAY - 1
    assert names(home.tick()) == {}
    clock.now += 1
    assert names(home.tick()) == {"ada": "frozen"}
    clock.now += 1000 * DAY
    assert names(home.tick()) == {}
    check_tidy(home)


def test_a_created_agent_is_left_alone(home: Home, clock: SetClock) -> None:
    home.new("ada")
    clock.now += 1000 * DAY
    assert home.tick() == Ticked(now=clock.now)


def test_thresholds_are_the_agents_or_the_templates_or_the_homes(folder: Path, clock: SetClock) -> None:
    with Home.open(folder, clock=clock, ladder=Ladder(100.0, 200.0)) as home:
        grown(home, "ada")
        grown(home, "bob", suspend_after_s=50.0)
        home.templates.create("kind", "ada", suspend_after_s=70.0)
        clone = home.new("eve", template="kind")
        home.wake("eve")
        found = {}
        for after in (49, 50, 70, 100):
            clock.now = NOW + after * SECOND
            found[after] = names(home.tick())
    assert found == {49: {}, 50: {"bob": "suspended"}, 70: {clone.name: "suspended"}, 100: {"ada": "suspended"}}


def test_activity_starts_the_time_anew(home: Home, clock: SetClock) -> None:
    grown(home)
    clock.now += 800 * SECOND
    with home.using("ada"):
        pass
    clock.now += 800 * SECOND
    assert names(home.tick()) == {}
    clock.now += 100 * SECOND
    assert names(home.tick()) == {"ada": "suspended"}


def test_whoever_is_in_use_is_left_alone_and_named(home: Home, clock: SetClock) -> None:
    grown(home, "ada")
    grown(home, "bob")
    with home.using("ada"):
        clock.now += HOUR
        ticked = home.tick()
    assert names(ticked) == {"bob": "suspended"}
    assert [(passed.name, "in use" in passed.reason or "at work" in passed.reason) for passed in ticked.skipped] == [
        ("ada", True)
    ]
    assert home.ledger.agent("ada").state == "active"
    assert names(home.tick()) == {}  # it was used until just now


def test_the_tick_says_why_in_the_history(home: Home, clock: SetClock) -> None:
    grown(home)
    clock.now += HOUR
    home.tick()
    row = home.ledger.history("ada")[-1]
    assert (row.verb, row.why) == ("suspend", "idle for 3,600 s")


@pytest.mark.parametrize("state", ["created", "active", "suspended", "frozen", "archived"])
def test_a_timer_wakes_an_agent_wherever_it_is_and_only_once(home: Home, clock: SetClock, state: str) -> None:
    if state == "created":
        home.new("ada")
    else:
        grown(home, "ada", state)
    assert home.schedule("ada", NOW + HOUR).wake == NOW + HOUR
    clock.now = NOW + HOUR - 1
    assert home.tick().woken == ()
    clock.now = NOW + HOUR
    (woken,) = home.tick().woken
    assert (woken.record.name, woken.record.state) == ("ada", "active")
    found = home.ledger.agent("ada")
    assert (found.state, found.wake, found.active) == ("active", None, clock.now)
    again = home.tick()
    assert (again.woken, again.moved) == ((), ())
    if state not in ("active", "suspended"):
        assert home.ledger.history("ada")[-1].why == "timer"


def test_a_timer_can_be_taken_back(home: Home, clock: SetClock) -> None:
    grown(home, "ada", "suspended")
    home.schedule("ada", NOW + 1)
    home.schedule("ada", None)
    clock.now += HOUR
    assert home.tick().woken == ()


def test_a_tick_can_be_tried_for_another_time(home: Home) -> None:
    grown(home)
    grown(home, "bob", "suspended")
    home.schedule("bob", NOW + HOUR)
    ticked = home.tick(NOW + 2 * HOUR)
    assert ticked.now == NOW + 2 * HOUR
    assert names(ticked) == {"ada": "suspended"}
    assert [woken.record.name for woken in ticked.woken] == ["bob"]
    assert home.ledger.agent("bob").wake is None
    assert home.tick().moved == ()
    assert home.ledger.agent("bob").active == NOW  # the clock's own time counts again


def test_trouble_with_one_agent_is_reported_and_keeps_nobody_waiting(home: Home, clock: SetClock) -> None:
    for name in ("ada", "bob", "eve"):
        grown(home, name, "suspended")
    os.unlink(Path(home.path) / "agents/bob.workbook")
    clock.now += 2 * DAY
    ticked = home.tick()
    assert names(ticked) == {"ada": "frozen", "eve": "frozen"}
    assert [(failed.name, type(failed.error)) for failed in ticked.failed] == [("bob", CopyMissing)]


def test_a_ledger_that_fails_ends_the_pass(folder: Path) -> None:
    home = open_home(folder)
    home.close()
    with pytest.raises(LedgerFailed):
        home.tick()


# --- the loop ---


@pytest.mark.anyio
async def test_the_loop_ticks_at_each_beat_until_it_is_cancelled(home: Home, clock: SetClock) -> None:
    grown(home)
    clock.now += HOUR
    told: list[Ticked | TorporError] = []
    with anyio.move_on_after(30) as scope:
        async with anyio.create_task_group() as group:

            def watch(done: Ticked | TorporError) -> None:
                told.append(done)
                clock.now += DAY
                if len(told) == 3:
                    group.cancel_scope.cancel()

            group.start_soon(keep_ticking, home, 0.0, watch)
    assert not scope.cancelled_caught
    assert [names(done) for done in told if isinstance(done, Ticked)] == [{"ada": "suspended"}, {"ada": "frozen"}, {}]


@pytest.mark.anyio
async def test_a_pass_that_fails_is_told_and_the_next_beat_comes_all_the_same(folder: Path) -> None:
    home = open_home(folder)
    home.close()
    told: list[Ticked | TorporError] = []
    with anyio.move_on_after(30) as scope:
        async with anyio.create_task_group() as group:

            def watch(done: Ticked | TorporError) -> None:
                told.append(done)
                if len(told) == 3:
                    group.cancel_scope.cancel()

            group.start_soon(keep_ticking, home, 0.001, watch)
    assert not scope.cancelled_caught
    assert [type(done) for done in told] == [LedgerFailed] * 3
