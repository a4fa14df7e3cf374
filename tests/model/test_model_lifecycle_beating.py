"""The whole lifecycle with deaths, in class `heartbeat` with a replica: the model is the same, and the replica agrees.

Agents are moved by processes with a heartbeat, and looked at by processes without one, which find what the other class
has left, after a death too. At the end, and now and then, the replica has to give every agent as the model knows it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import rule, run_state_machine_as_test
from tests.model.kit import TORTURE, USUAL
from tests.model.test_model_lifecycle import ROOT, Clock, Lives, Told, in_child

from torpor.base.clock import SystemClock
from torpor.heartbeat import Settings
from torpor.heartbeat.reading import Reader
from torpor.heartbeat.restore import restore_agent
from torpor.home import Home
from torpor.stores.objects import open_objects
from torpor.workbook import Workbook

MEMORY = "/dev/shm"  # noqa: S108  (the machine makes folders of its own in it)

POINTS_A_MOVE = 3
"""How many times as many fault points a move passes with a heartbeat: the log's, the keeper's and the replica's."""


class BeatingLives(Lives):
    """A home with a heartbeat, and what the model knows of its agents."""

    def __init__(self) -> None:
        super().__init__()
        self.replica = self.folder / "replica"
        self.replica.mkdir()

    def beating(self) -> Home:
        how = Settings(replica=self.replica.as_uri(), drill_s=0, beat_s=0.02)
        return Home.open(self.folder / "home", clock=Clock(self.now), durability="heartbeat", heartbeat=how)

    def do(self, act: Callable[[Home], Any], kill: int | None) -> Told:
        def whole() -> Any:
            with self.beating() as home:
                assert home.heartbeat is not None
                assert home.heartbeat.recovered.quarantined == ()
                return act(home)

        return in_child(whole, kill and kill * POINTS_A_MOVE)

    def given(self) -> dict[str, list[str]]:
        """Return the notes of every agent, as the replica gives them."""
        with self.beating() as home:
            assert home.heartbeat is not None
            home.heartbeat.flush()
            reader = Reader(open_objects(self.replica.as_uri(), home.path))
            found = {}
            for name in self.agents:
                record = home.ledger.agent(name)
                target = self.folder / f"{name}.restored"
                if record.state != "deleted":
                    restore_agent(reader, record.id, str(target), clock=SystemClock())
                    found[name] = notes(target)
                    target.unlink()
            return found

    @rule()
    def the_replica_has_everyone(self) -> None:
        told = in_child(self.given)
        assert told.error == "", told
        alive = {name: list(agent.notes) for name, agent in self.agents.items() if agent.state != "deleted"}
        assert told.value == alive, (told.value, alive)

    def teardown(self) -> None:
        try:
            self.the_replica_has_everyone()
            super().teardown()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


def notes(path: Path) -> list[str]:
    with Workbook.open(path, readonly=True) as book:
        assert book.verify().problems == ()
        return [event.body["text"] for event in book.events() if event.kind == "note.added"]


LENGTHS = {
    "few": settings(USUAL, max_examples=5, stateful_step_count=10),
    "many": settings(TORTURE, max_examples=150, stateful_step_count=50),
}


def live(length: str) -> None:
    run_state_machine_as_test(BeatingLives, settings=LENGTHS[length])


def in_new_process(length: str) -> None:
    """Run the machine in a process that has never used a store: what is forked from one that has can use none."""
    words = [sys.executable, "-c", f"import tests.model.test_model_lifecycle_beating as lives; lives.live({length!r})"]
    # In memory where there is such a file system: a kill loses nothing that was written, synced or not.
    env = {**os.environ, **({"TMPDIR": MEMORY} if os.access(MEMORY, os.W_OK) else {})}
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_lives_with_deaths_and_a_heartbeat() -> None:
    in_new_process("few")


@pytest.mark.torture
def test_many_lives_with_deaths_and_a_heartbeat() -> None:
    in_new_process("many")
