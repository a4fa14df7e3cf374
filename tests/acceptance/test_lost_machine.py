"""A node under load is killed, its whole home is removed, and one command brings every agent back.

What a writer was told is written down outside the home, in a file of its own, right after each commit was acknowledged.
That is what the restored agents are held against.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from tests.acceptance.kit import ROOT, Command, environment

from torpor.home import Home

WRITERS: Final = 64
ENOUGH: Final = 12
"""Commits of each writer that are acknowledged, at least, before the node is killed; the replica has everybody then."""

NODE: Final = """
import os, sys, threading, time
from torpor.heartbeat import Settings
from torpor.home import Home

home_, replica, durability, told, writers, enough = sys.argv[1:]
home = Home.open(home_, durability=durability, heartbeat=Settings(replica=replica, drill_s=0))
left = threading.Semaphore(0)

def write(name):
    notes = os.open(f"{told}/{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with home.using(name) as book:
        for number in range(1_000_000):
            with book.transaction():
                book.append("note.added", {"number": number, "text": "x" * 500})
                if number % 5 == 0:
                    book.write("workspace", "/newest.txt", str(number).encode())
                    book.memory.remember(f"number {number}", source=f"urn:{number}")
            os.write(notes, f"{number} {time.time_ns() // 1000}\\n".encode())
            if number + 1 == int(enough):
                left.release()

names = [f"writer-{number}" for number in range(int(writers))]
for name in names:
    home.new(name)
home.new("never-woken")
home.new("sleeper")
with home.using("sleeper") as book:
    book.append("note.added", {"number": 0})
home.suspend("sleeper")
for name in names:
    threading.Thread(target=write, args=(name,), daemon=True).start()
for _ in names:
    left.acquire()
while home.heartbeat.status().wanting:
    time.sleep(0.01)
home.heartbeat.flush()
print("enough", flush=True)
time.sleep(600)
"""


@pytest.fixture
def replica(tmp_path: Path) -> Path:
    made = tmp_path / "replica"
    made.mkdir()
    return made


def killed(home: Path, replica: Path, told: Path, durability: str) -> None:
    """Run a node until every writer has committed enough, and kill it while they go on."""
    told.mkdir()
    words = [sys.executable, "-c", NODE, str(home), replica.as_uri(), durability, str(told), str(WRITERS), str(ENOUGH)]
    env = environment({"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"})
    with subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as node:
        assert node.stdout is not None
        assert node.stderr is not None
        said = node.stdout.readline()
        node.kill()
        problem = node.stderr.read().decode()
    assert (said, node.returncode) == (b"enough\n", -signal.SIGKILL), problem


def acknowledged(told: Path, name: str) -> list[int]:
    """Return when each of a writer's commits was acknowledged, in µs, by its number."""
    lines = (told / name).read_bytes().split(b"\n")[:-1]
    assert [int(line.split()[0]) for line in lines] == list(range(len(lines)))
    return [int(line.split()[1]) for line in lines]


@pytest.mark.parametrize("durability", ["heartbeat", "replicated"])
def test_every_agent_of_a_lost_machine_comes_back(
    cli: Command, home: Path, replica: Path, tmp_path: Path, durability: str
) -> None:
    told = tmp_path / "told"
    killed(home, replica, told, durability)
    shutil.rmtree(home)

    ended = cli("restore", "--all", "--json", env={"TORPOR_REPLICA": replica.as_uri()})

    assert (ended.code, ended.err) == (0, ""), ended
    done = json.loads(ended.out)
    assert (done["agents"], done["failed"], done["incomplete"]) == (WRITERS + 2, [], [])
    missing = 0
    with Home.open(home) as restored:
        assert len(list(restored.ledger.agents())) == WRITERS + 2
        for number in range(WRITERS):
            name = f"writer-{number}"
            with restored.reading(name) as book:
                assert book.verify().problems == ()
                kept = [event.body["number"] for event in book.events() if event.kind == "note.added"]
                assert kept == list(range(len(kept)))
                if kept:
                    assert book.read("workspace", "/newest.txt") == str(kept[-1] // 5 * 5).encode()
                    assert len(book.memory.entries(limit=1_000_000)) == kept[-1] // 5 + 1
            late = acknowledged(told, name)[len(kept) :]
            missing += len(late)
            assert all(time >= done["until"] for time in late), "what is missing is newer than all that was shipped"
        with restored.reading("sleeper") as book:
            assert book.last == 1
        assert restored.ledger.agent("never-woken").state == "created"
    if durability == "replicated":
        assert missing == 0, "the loss of the machine was survived by all that was acknowledged"

    env = {"TORPOR_REPLICA": replica.as_uri()}
    assert cli("files", "put", "writer-0", "/after.txt", "-", stdin=b"on we go", env=env).code == 0
    shutil.rmtree(home)
    again = cli("restore", "--all", "--json", env=env)
    assert again.code == 0, again
    assert cli("files", "cat", "writer-0", "/after.txt").raw == b"on we go"
