"""A forked child can neither write, nor read, nor close the log that it inherited."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.hazards.kit import in_child
from tests.unit.heartbeat.log_kit import add, commit, numbers, open_log

from torpor.base.errors import HeartbeatClosed, HeartbeatOwned
from torpor.heartbeat.log import Log
from torpor.testing.logdisk import BrokenLogDisk

USES: dict[str, Callable[[Log], object]] = {
    "add": lambda log: add(log, 9),
    "wait for what is durable": lambda log: log.wait(1),
    "wait for what isn't": lambda log: log.wait(2),
    "read": lambda log: log.read(0, 1000),
    "scan": lambda log: list(log.scan()),
    "release": lambda log: log.release(1),
    "prepare": lambda log: log.prepare(),
}


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with open_log(tmp_path / "heartbeat") as opened:
        commit(opened, 1)
        add(opened, 2)
        yield opened


def stays_whole(log: Log) -> None:
    """Insist that the parent goes on and owns the log."""
    commit(log, 3)
    assert numbers(log) == [1, 2, 3]
    with pytest.raises(HeartbeatOwned):
        open_log(Path(log.path))
    assert (Path(log.path) / "owner").exists()


@pytest.mark.parametrize("use", USES)
def test_a_forked_child_cannot_use_the_inherited_log(use: str, log: Log) -> None:
    """HB-6."""

    def act() -> None:
        with pytest.raises(HeartbeatClosed):
            USES[use](log)

    assert in_child(act) == ""
    stays_whole(log)


def test_a_forked_child_cannot_close_the_inherited_log(log: Log) -> None:
    assert in_child(log.close) == ""
    stays_whole(log)


def test_a_child_forked_while_another_thread_syncs_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    disk = BrokenLogDisk()
    with open_log(tmp_path / "heartbeat", disk) as log:
        commit(log, 1)
        disk.stall()
        leader = threading.Thread(target=commit, args=(log, 2))
        leader.start()
        assert disk.stands.wait(30)

        def act() -> None:
            with pytest.raises(HeartbeatClosed):
                commit(log, 3)
            log.close()

        assert in_child(act) == ""
        disk.resume()
        leader.join(30)
        assert numbers(log) == [1, 2]


def test_a_forked_child_is_refused_the_parents_log_and_may_have_its_own(log: Log, tmp_path: Path) -> None:
    parent = os.getpid()

    def act() -> None:
        with pytest.raises(HeartbeatOwned) as refused:
            open_log(Path(log.path))
        assert refused.value.pid == parent
        with open_log(tmp_path / "own") as own:
            commit(own, 1)
            assert numbers(own) == [1]

    assert in_child(act) == ""
    stays_whole(log)
