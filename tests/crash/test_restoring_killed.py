"""A process that restores is killed with SIGKILL at every point: nothing is lost, and doing it again does it."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from tests.crash import restoring_workload
from tests.crash.restoring_workload import BACK_TO, WORKS
from tests.crash.zygote import Warm
from tests.unit.home.restore_kit import beating, forsake, live, seen_in, settled

from torpor.base.errors import HomeRefused
from torpor.home import Home
from torpor.testing import record
from torpor.testing.portrait import Portrait

MEMORY: Final = "/dev/shm"  # noqa: S108  (the tests make a folder of their own in it)

OFTEN: Final = ("ledger.", "aside.", "move.", "recovery.", "rebuild.")
"""The points that are killed at each time that they are reached; at others only the first time."""


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a home and its replica, in which ada has lived for three days."""
    folder = tmp_path_factory.mktemp("first")
    (folder / "replica").mkdir()
    with beating(folder / "home", folder / "replica") as home:
        for name in ("ada", "bob"):
            home.new(name)
            settled(home)
            live(home, name, mark=name)
            home.suspend(name)
        home.templates.create("kind", "ada")
        settled(home)
    return folder


@pytest.fixture
def copied(first: Path) -> Iterator[Callable[[], Path]]:
    """Return what gives a copy of that folder, in memory where there is some: a kill loses nothing that was written."""
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as room:
        count = 0

        def copy() -> Path:
            nonlocal count
            count += 1
            return shutil.copytree(first, Path(room) / str(count))

        yield copy


def ada_of(folder: Path) -> Path:
    return folder / "home" / "agents" / "ada.workbook"


def points_of(work: str, folder: Path) -> list[tuple[str, int]]:
    """Do it once; returns the points that it reaches, and at which of their reachings to be killed."""
    with record() as reached:
        WORKS[work](str(folder))
    return [
        (point, nth)
        for point, most in Counter(reached).items()
        for nth in range(1, (most if point.startswith(OFTEN) else 1) + 1)
    ]


class Zygote(Warm):
    """The process that forks the children."""

    def kill(self, work: str, folder: Path, point: str, nth: int) -> None:
        ended: dict[str, Any] = self.ask(folder=str(folder), work=work, point=point, nth=nth)
        assert ended["code"] == -signal.SIGKILL, (point, nth, ended)


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    found = Zygote(restoring_workload.__file__)
    yield found
    found.close()


def kept(folder: Path) -> list[Portrait]:
    """Return what is in the agent's file, and in those that were set aside; every one is whole."""
    files = [ada_of(folder), *(folder / "home" / "replaced").glob("*.workbook")]
    return [seen_in(path) for path in files if path.exists()]


def test_an_agent_that_is_put_back_is_as_before_or_as_after(copied: Callable[[], Path], zygote: Zygote) -> None:
    folder = copied()
    before = seen_in(ada_of(folder))
    visited = points_of("put_back", folder)
    after = seen_in(ada_of(folder))
    assert (after.last, before.last > BACK_TO) == (BACK_TO, True)
    assert {"move.reserved", "move.copied", "move.committed", "aside.beside", "aside.placed"} <= {p for p, _ in visited}
    for point, nth in visited:
        folder = copied()
        zygote.kill("put_back", folder, point, nth)
        with Home.open(folder / "home") as home:
            assert home.ledger.leftovers() == []
            assert sorted(os.listdir(folder / "home" / "agents")) == ["ada.workbook", "bob.workbook"]
            assert seen_in(ada_of(folder)) in (before, after)
            assert before in kept(folder), "what was there is never lost"
            with home.using("ada") as book:
                assert book.last in (before.last, after.last)
            home.suspend("ada")
        restoring_workload.put_back(str(folder))
        assert seen_in(ada_of(folder)) == after
        assert before in kept(folder)


def test_an_agent_whose_file_is_damaged_comes_back_at_the_second_try(
    copied: Callable[[], Path], zygote: Zygote
) -> None:
    folder = copied()
    before = seen_in(ada_of(folder))
    forsake(ada_of(folder))
    visited = points_of("bring_back", folder)
    assert "aside.moved" in {point for point, _ in visited}
    for point, nth in visited:
        folder = copied()
        forsake(ada_of(folder))
        damaged = ada_of(folder).read_bytes()
        zygote.kill("bring_back", folder, point, nth)
        restoring_workload.bring_back(str(folder))
        assert seen_in(ada_of(folder)) == before
        aside = list((folder / "home" / "replaced").glob("*.workbook"))
        assert damaged in [path.read_bytes() for path in aside]
        with Home.open(folder / "home") as home:
            assert home.ledger.leftovers() == []
            with home.using("ada") as book:
                assert book.last == before.last


def test_there_is_never_half_a_home(copied: Callable[[], Path], zygote: Zygote) -> None:
    folder = copied()
    expected = {name: seen_in(folder / "home" / "agents" / f"{name}.workbook") for name in ("ada", "bob")}
    shutil.rmtree(folder / "home")
    visited = points_of("rebuild", folder)
    assert {"rebuild.begun", "rebuild.restored", "rebuild.told", "rebuild.placed"} <= {point for point, _ in visited}
    for point, nth in visited:
        folder = copied()
        shutil.rmtree(folder / "home")
        zygote.kill("rebuild", folder, point, nth)
        if point == "rebuild.placed":
            with pytest.raises(HomeRefused):
                restoring_workload.rebuild(str(folder))
        else:
            assert not (folder / "home").exists()
            restoring_workload.rebuild(str(folder))
            assert sorted(os.listdir(folder)) == ["home", "replica"]
        with Home.open(folder / "home") as home:
            for name, seen in expected.items():
                with home.using(name) as book:
                    assert book.verify().problems == ()
                    assert book.last == seen.last
            assert home.templates.clone("kind", tenant="acme")[0].seq > 0
