"""An agent wakes by one of its copies or not at all."""

from __future__ import annotations

import itertools

import pytest

from torpor.base.errors import CopyMissing, MoveRefused
from torpor.lifecycle import STATES, State, resume_plan

FLAGS = list(itertools.product([False, True], repeat=4))


def plan(state: State, flags: tuple[bool, bool, bool, bool]) -> str:
    opened, local, cold, archived = flags
    try:
        return resume_plan("ada", state, opened=opened, local=local, cold=cold, archived=archived)
    except CopyMissing:
        return "missing"


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("state", [state for state in STATES if state != "deleted"])
def test_the_nearest_copy_is_used(state: State, flags: tuple[bool, bool, bool, bool]) -> None:
    opened, local, cold, archived = flags
    found = plan(state, flags)
    if opened:
        assert found == "warm"
    elif local:
        assert found == "cached"
    else:
        away = {"frozen": cold, "archived": archived}.get(state, False)
        assert found == ("cold" if away else "missing")


@pytest.mark.parametrize("flags", FLAGS)
def test_the_deleted_never_wake(flags: tuple[bool, bool, bool, bool]) -> None:
    with pytest.raises(MoveRefused):
        plan("deleted", flags)


@pytest.mark.parametrize(
    ("state", "words"), [("active", "in the home"), ("frozen", "cold store"), ("archived", "arch")]
)
def test_a_missing_copy_is_said_with_where_it_should_be(state: State, words: str) -> None:
    with pytest.raises(CopyMissing, match=words) as missing:
        resume_plan("ada", state, opened=False, local=False, cold=False, archived=False)
    assert missing.value.name == "ada"
    assert state in missing.value.reason


def test_a_copy_in_the_wrong_store_is_none() -> None:
    assert plan("frozen", (False, False, False, True)) == "missing"
    assert plan("archived", (False, False, True, False)) == "missing"
    assert plan("suspended", (False, False, True, True)) == "missing"
