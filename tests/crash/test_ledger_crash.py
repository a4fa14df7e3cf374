"""A process is killed with SIGKILL at every commit of a ledger: each change is there whole or not at all."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.crash import ledger_workload
from tests.crash.ledger_workload import STEPS
from tests.unit.ledger.kit import content

from torpor.base import faults
from torpor.ledger import SqliteLedger
from torpor.testing.chance import Seeded
from torpor.testing.crash import NEVER, crash_script

SCRIPT = str(Path(ledger_workload.__file__))
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(__file__).parents[2] / part) for part in ("src", "."))}
POINTS = [point for point in faults.POINTS if point.startswith("ledger.")]
# The last three commits are reached in the same way as those before.
KILLS = [(point, nth) for point in POINTS for nth in range(1, len(STEPS) - 2)]


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Return what the ledger says after each number of steps."""
    with closing(SqliteLedger.open(tmp_path_factory.mktemp("states") / "ledger.db")) as ledger:
        found = [content(ledger)]
        for step in STEPS:
            step(ledger)
            found.append(content(ledger))
    assert all(before != after for before, after in itertools.pairwise(found))
    return found


def acknowledged(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.parametrize(("point", "nth"), KILLS)
def test_after_a_kill_a_change_is_there_whole_or_not_at_all(
    tmp_path: Path, states: list[Any], point: str, nth: int
) -> None:
    ended = crash_script(point, nth, SCRIPT, "steps", str(tmp_path), "acks", env=ENV)
    assert ended.killed, (ended.code, ended.err)
    done = acknowledged(tmp_path / "acks")
    assert done == nth - 1
    with closing(SqliteLedger.open(tmp_path / "ledger.db")) as ledger:
        reached = states.index(content(ledger))
        assert reached == (done if point == "ledger.committing" else done + 1)
        for step in STEPS[reached:]:
            step(ledger)
        assert content(ledger) == states[-1]


def test_both_points_are_visited() -> None:
    assert {point for point, _ in KILLS} == {"ledger.committing", "ledger.committed"}


def test_left_alone_the_child_ends_by_itself(tmp_path: Path, states: list[Any]) -> None:
    ended = crash_script(NEVER, 1, SCRIPT, "steps", str(tmp_path), "acks", env=ENV)
    assert ended.code == 0, ended.err
    assert acknowledged(tmp_path / "acks") == len(STEPS)
    with closing(SqliteLedger.open(tmp_path / "ledger.db")) as ledger:
        assert content(ledger) == states[-1]


def kill_some(folder: Path, kills: int, seed: int) -> int:
    """Let three processes at a time write, kill them at random moments, and return how many there were."""
    chance = Seeded(seed)
    with ExitStack() as stack:
        for number in range(kills):
            children = []
            for one in range(3):
                command = [sys.executable, SCRIPT, "endless", str(folder), f"agent-{number}-{one}"]
                child = subprocess.Popen(command, env=ENV, stdout=subprocess.PIPE)
                stack.callback(child.kill)
                children.append(child)
            for child in children:
                assert child.stdout
                assert child.stdout.readline() == b"ready\n"
            for child in children:
                anyio.run(anyio.sleep, chance.below(40) / 1000)
                child.kill()
                assert child.wait() == -signal.SIGKILL
                assert child.stdout
                child.stdout.close()
    return kills * 3


def check_turns(folder: Path, agents: int) -> None:
    with closing(SqliteLedger.open(folder / "ledger.db")) as ledger:
        names = [record.name for record in ledger.agents()]
        assert len(names) == agents
        away = set()
        turns = 0
        for name in names:
            told = ledger.history(name)
            assert [entry.details.get("turn", 0) for entry in told] == list(range(len(told)))
            assert all(before.after == after.before for before, after in itertools.pairwise(told))
            record = ledger.agent(name)
            assert (record.state, record.epoch) == (told[-1].after, told[-1].epoch)
            assert 0 <= len(told) - 1 - acknowledged(folder / name) <= 1
            turns += len(told) - 1
            if record.state == "suspended":
                away.add(record.id)
        assert {each.agent for each in ledger.leftovers()} == away
        assert turns > agents


def test_kills_at_random_moments_among_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    check_turns(tmp_path, kill_some(tmp_path, 4, seed=1))


@pytest.mark.torture
@pytest.mark.parametrize("seed", [2, 3])
def test_many_kills_at_random_moments_lose_nothing(tmp_path: Path, seed: int) -> None:
    check_turns(tmp_path, kill_some(tmp_path, 40, seed))
