"""A process is killed at every commit of tokens: what was used stays used, and what was revoked stays revoked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.crash import access_workload
from tests.crash.access_workload import STEPS, Texts
from tests.unit.access.kit import Lab, lab

from torpor.base import faults
from torpor.base.errors import JoinRefused
from torpor.testing.chance import Seeded
from torpor.testing.crash import NEVER, crash_script

SCRIPT = str(Path(access_workload.__file__))
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(__file__).parents[2] / part) for part in ("src", "."))}
COMMITS = [(point, nth) for point in ("access.committing", "access.committed") for nth in range(1, len(STEPS) + 1)]
MADE_BY = {"join": 1, "human": 2, "bot": 3, "other": 4, "join again": 7, "second": 8}
"""The step after which there is each token."""
ENDED_BY = {"join": 2, "human": 99, "bot": 5, "other": 99, "join again": 8, "second": 10}
"""The step after which it counts no more."""


def acknowledged(folder: Path) -> list[Any]:
    path = folder / "acks"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def kinds_after(steps: int) -> list[str]:
    return [kind for _, kinds in STEPS[:steps] for kind in kinds]


def check_tokens(there: Lab, texts: Texts, reached: int) -> None:
    """Insist that each token that somebody was given counts just as it must after so many steps."""
    for name, text in texts.items():
        counts = reached < ENDED_BY[name]
        if not name.startswith("join"):
            assert there.ask(text, "agents.list", peer=name).allowed == counts, name
        elif not counts:
            with pytest.raises(JoinRefused):
                there.access.desk.join(text, name, label="a replay")


@pytest.mark.parametrize(("point", "nth"), COMMITS)
def test_after_a_kill_a_change_of_tokens_is_there_whole_or_not_at_all(tmp_path: Path, point: str, nth: int) -> None:
    ended = crash_script(point, nth, SCRIPT, "steps", str(tmp_path), env=ENV)
    assert ended.killed, (ended.code, ended.err)
    acks = acknowledged(tmp_path)
    assert len(acks) == nth - 1
    reached = nth - 1 if point == "access.committing" else nth
    with lab(tmp_path) as there:
        assert there.kinds() == kinds_after(reached)
        there.access.audit.verify()
        check_tokens(there, acks[-1] if acks else {}, reached)
        assert (there.access.desk.first_join() is None) == (reached >= MADE_BY["human"])
        assert there.ask(there.issue(), "node.stop").allowed
        there.access.audit.verify()


def test_left_alone_the_child_does_every_step(tmp_path: Path) -> None:
    ended = crash_script(NEVER, 1, SCRIPT, "steps", str(tmp_path), env=ENV)
    assert ended.code == 0, ended.err
    acks = acknowledged(tmp_path)
    assert len(acks) == len(STEPS)
    assert acks[-1].keys() == MADE_BY.keys() == ENDED_BY.keys()
    with lab(tmp_path) as there:
        assert there.kinds() == kinds_after(len(STEPS))
        check_tokens(there, acks[-1], len(STEPS))


@pytest.mark.parametrize("point", ["access.keying", "access.keyed"])
def test_after_a_kill_while_the_key_is_made_the_next_start_makes_all_that_is_missing(
    tmp_path: Path, point: str
) -> None:
    ended = crash_script(point, 1, SCRIPT, "steps", str(tmp_path), env=ENV)
    assert ended.killed, (ended.code, ended.err)
    key = tmp_path / "access" / "root.key"
    before = key.read_text() if key.exists() else None
    assert (before is not None) == (point == "access.keyed")
    with lab(tmp_path) as there:
        assert there.ask(there.issue(), "node.stop").allowed
    assert sorted(os.listdir(tmp_path / "access")) == ["access.db", "root.key"]
    assert before in (None, key.read_text())


def test_every_point_of_access_is_visited() -> None:
    visited = {point for point, _ in COMMITS} | {"access.keying", "access.keyed"}
    assert visited == {point for point in faults.POINTS if point.startswith("access.")}


def kill_some(folder: Path, rounds: int, seed: int) -> None:
    """Let three processes at a time issue and revoke, and kill them at random moments."""
    chance = Seeded(seed)
    with ExitStack() as stack:
        for _ in range(rounds):
            children = []
            for _ in range(3):
                child = subprocess.Popen(
                    [sys.executable, SCRIPT, "endless", str(folder)], env=ENV, stdout=subprocess.PIPE
                )
                stack.callback(child.kill)
                children.append(child)
            for child in children:
                assert child.stdout
                assert child.stdout.readline() == b"ready\n"
            for child in children:
                anyio.run(anyio.sleep, chance.below(60) / 1000)
                child.kill()
                assert child.wait() == -signal.SIGKILL
                assert child.stdout
                child.stdout.close()


def check_acknowledged(folder: Path) -> None:
    acks = acknowledged(folder)
    revoked = {text for what, text in acks if what == "revoked"}
    issued = {text for what, text in acks if what == "issued"}
    assert revoked < issued
    with lab(folder) as there:
        there.access.audit.verify()
        doubtful = 0
        for number, text in enumerate(sorted(issued)):
            allowed = there.ask(text, "agents.list", peer=str(number)).allowed
            assert not (text in revoked and allowed)
            doubtful += text not in revoked and not allowed
        # Who was killed between the revocation and its acknowledgement leaves one of these.
        kinds = there.kinds()
        assert doubtful == kinds.count("token.revoked") - len(revoked)


def test_kills_at_random_moments_bring_back_no_token(tmp_path: Path) -> None:
    kill_some(tmp_path, 3, seed=1)
    check_acknowledged(tmp_path)


@pytest.mark.torture
@pytest.mark.parametrize("seed", [2, 3])
def test_many_kills_at_random_moments_bring_back_no_token(tmp_path: Path, seed: int) -> None:
    kill_some(tmp_path, 30, seed)
    check_acknowledged(tmp_path)
