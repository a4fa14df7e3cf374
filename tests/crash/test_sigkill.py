"""A process is killed with SIGKILL at every fault point of the journal and of runs; what it acknowledged is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from tests.crash import workload
from tests.crash.workload import STEPS, WORK_RESULT, Outside, Walker, Worker

from torpor import Workbook
from torpor.base import faults
from torpor.runtime import runs_in
from torpor.testing.chance import Seeded
from torpor.testing.crash import NEVER, crash_script

SCRIPT = str(Path(workload.__file__))
ENV = {**os.environ, "PYTHONPATH": str(Path(faults.__file__).parents[2])}

# Where each workload is killed: the point, and at which of its reachings.
KILLS = [
    *(("append", point, nth) for point in ("append.begun", "append.committed") for nth in (1, 3, 5)),
    ("append", "append.inserted", 1),
    *(
        ("transactions", point, nth)
        for point in ("append.inserted", "transaction.begun", "transaction.committing", "transaction.committed")
        for nth in (1, 3)
    ),
    *(("runs", "append.committed", nth) for nth in (2, 5)),
    *(("runs", f"transaction.{end}", nth) for end in ("committing", "committed") for nth in (2, 7, 12)),
    *(("runs", f"step.{end}", nth) for end in ("begun", "intended", "called", "recorded") for nth in (1, 4, 8)),
    *(("runs", f"effect.{end}", nth) for end in ("begun", "intended", "performed", "recorded") for nth in (1, 2, 3)),
    *(("runs", f"run.{end}", nth) for end in ("started", "finishing", "finished") for nth in (1, 2)),
]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    Outside.folder = tmp_path
    yield tmp_path
    Outside.folder = Path()


FAMILIES = ("append", "transaction", "step", "effect", "run")
"""Whose kills these are. Deliveries, rewinds, forks, migrations and moves between states have files of their own."""


def test_every_point_of_the_journal_and_of_runs_is_visited() -> None:
    visited = {point for _, point, _ in KILLS}
    assert visited == {point for point in faults.POINTS if point.partition(".")[0] in FAMILIES}


def check_acknowledged(book: Workbook) -> None:
    """Insist that everything the child was told is durable is in the journal."""
    events = {event.seq: event for event in book.events()}
    assert sorted(events) == list(range(1, len(events) + 1))
    receipts = {
        (event.span, event.body["position"])
        for event in events.values()
        if event.kind in ("step.completed", "effect.completed")
    }
    done = {info.id for info in runs_in(book) if info.state == "completed"}
    for line in Outside.lines("acks"):
        first, second, third = line.split()
        match first:
            case "receipt":
                assert (second, third) in receipts, line
            case "sent":
                assert second in done, line
            case _:
                event = events[int(first)]
                assert (event.kind, str(event.body["number"])) == (second, third)


def check_pairs(book: Workbook) -> None:
    """Insist that of each transaction all is there or nothing."""
    kinds = Counter(event.kind for event in book.events())
    assert kinds["pair.begun"] == kinds["pair.ended"] == kinds["file.written"] == len(book.list("workspace"))


@pytest.mark.parametrize(("what", "point", "nth"), KILLS)
def test_after_a_kill_nothing_acknowledged_is_lost_and_the_world_sees_each_effect_once(
    folder: Path, what: str, point: str, nth: int
) -> None:
    ended = crash_script(point, nth, SCRIPT, what, str(folder), env=ENV)
    assert ended.killed, (ended.code, ended.err)
    with Workbook.open(folder / "ada.workbook") as book:
        assert book.verify().problems == ()
        check_acknowledged(book)
        if what == "transactions":
            check_pairs(book)
        if what == "runs":
            before = {
                event.span + event.body["position"]
                for event in book.events()
                if event.kind == "step.completed" and event.span is not None
            }
            anyio.run(workload.finish, Worker(book), "work", 2)
            check_runs(book, before)
            check_acknowledged(book)
        assert book.verify().problems == ()


def check_runs(book: Workbook, before: set[str]) -> None:
    """Insist that both runs are complete, and that the world saw what it should."""
    infos = runs_in(book)
    assert [info.state for info in infos] == ["completed", "completed"]
    for event in book.events():
        if event.kind == "run.completed":
            assert event.body["result"] == WORK_RESULT
    runs = [info.id for info in infos]
    world = Counter(Outside.lines("world"))
    effects = {line: count for line, count in world.items() if not line.startswith("measure")}
    assert effects == {
        line: 1 for run in runs for line in (f"post hello-{run}", f"post between-{run}", f"put end-{run}")
    }
    place = {1: "0", 2: "3.0.0", 3: "3.1.0", 4: "3.1.2", 5: "3.2.0"}
    for run in runs:
        for number, position in place.items():
            most = 1 if run + position in before else 2
            assert 1 <= world[f"measure {run} {number}"] <= most
        assert book.memory.get(f"urn:{run}") is not None
    assert book.read("workspace", "/log.txt") == b"1\n1\n"


def test_left_alone_the_child_ends_by_itself(folder: Path) -> None:
    ended = crash_script(NEVER, 1, SCRIPT, "runs", str(folder), env=ENV)
    assert ended.code == 0, ended.err
    with Workbook.open(folder / "ada.workbook") as book:
        check_runs(book, set())


def kill_at_random(folder: Path, kills: int, seed: int) -> None:
    """Kill a walking child again and again, at moments that follow from the seed."""
    chance = Seeded(seed)
    for _ in range(kills):
        child = subprocess.Popen([sys.executable, SCRIPT, "long", str(folder)], env=ENV, stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        anyio.run(anyio.sleep, chance.below(60) / 1000)
        child.kill()
        child.stdout.close()
        assert child.wait() == -signal.SIGKILL


def check_walks(folder: Path, kills: int) -> None:
    """Finish what is unfinished and insist that every walk is whole, and that it was killed often enough within one."""
    with Workbook.open(folder / "ada.workbook") as book:
        assert book.verify().problems == ()
        check_acknowledged(book)
        anyio.run(workload.finish, Walker(book), "walk", 1)
        infos = runs_in(book)
        assert {info.state for info in infos} == {"completed"}
        assert book.verify().problems == ()
        assert sum(event.kind == "run.resumed" for event in book.events()) >= kills // 2
        world = Counter(Outside.lines("world"))
        assert not [line for line in world if line.startswith("again")]
        for info in infos:
            assert world[f"post half-{info.id}"] == 1
            attempts = sum(event.kind == "run.resumed" for event in book.events(span=info.id)) + 1
            for number in range(STEPS):
                assert 1 <= world[f"amble {info.id} {number}"] <= attempts


def test_ten_kills_at_random_moments_leave_a_run_of_thirty_steps_whole(folder: Path) -> None:
    kill_at_random(folder, 10, seed=1)
    check_walks(folder, 10)


@pytest.mark.torture
@pytest.mark.parametrize("seed", [2, 3])
def test_fifty_kills_at_random_moments_leave_a_run_of_thirty_steps_whole(folder: Path, seed: int) -> None:
    kill_at_random(folder, 50, seed)
    check_walks(folder, 50)
