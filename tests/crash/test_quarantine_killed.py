"""A process is killed while an agent goes into quarantine, and while it comes back: it is never in the state between.

After each death the index is lost too, and the machine started anew: what is left is the log, and the quarantine.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.crash import quarantine_workload
from tests.unit.home.restore_kit import beating, live, seen_in, settled, spoil
from tests.unit.home.test_home_heartbeat import cut_power, killed

from torpor.base.errors import AgentQuarantined
from torpor.heartbeat import Record
from torpor.heartbeat.records import decode_all
from torpor.heartbeat.restore import Point
from torpor.home import Home
from torpor.testing import record
from torpor.testing.crash import crash_call
from torpor.testing.portrait import Portrait

MEMORY: Final = "/dev/shm"  # noqa: S108  (the tests make a folder of their own in it)
ROOT: Final = Path(__file__).parents[2]
WORKLOAD: Final = "tests.crash.quarantine_workload"

GOING_IN: Final = ("quarantine.", "recovery.", "keeper.indexed", "heartbeat.releas")
COMING_BACK: Final = ("quarantine.", "keeper.joined", "record.", "leave.", "aside.", "heartbeat.adding", "move.")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Portrait]:
    """Return a home after a power cut, with ada's file damaged, and what she was when she was shipped last."""
    folder = tmp_path_factory.mktemp("first")
    home = folder / "home"
    (folder / "replica").mkdir()
    with beating(home, folder / "replica") as found:
        found.new("ada")
        live(found, "ada", mark="shipped")
        settled(found)
        found.suspend("ada")
    shipped = seen_in(home / "agents" / "ada.workbook")
    killed(home, "bea")
    killed_beside(home, "ada")
    cut_power(home)
    spoil(home / "agents" / "ada.workbook")
    assert shipped.last == quarantine_workload.BACK_TO
    return folder, shipped


def killed_beside(home: Path, name: str) -> None:
    """Have a process, which ships nothing, write more of an agent that is there, and die."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}
    ended = crash_call("record.acknowledged", 7, "tests.crash.quarantine_workload:write_more", str(home), name, env=env)
    assert ended.killed, ended


@pytest.fixture
def copied(first: tuple[Path, Portrait]) -> Iterator[Callable[[], Path]]:
    """Return what gives a copy of that folder, in memory where there is some: a kill loses nothing that was written."""
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as room:
        count = 0

        def copy() -> Path:
            nonlocal count
            count += 1
            return shutil.copytree(first[0], Path(room) / str(count))

        yield copy


def points_of(work: str, folder: Path, chosen: tuple[str, ...]) -> list[tuple[str, int]]:
    """Do it once; returns the points of interest, and at which of their reachings to be killed: first and last."""
    with record() as reached:
        getattr(quarantine_workload, work)(str(folder))
    counted = Counter(point for point in reached if point.startswith(chosen))
    return [(point, nth) for point, most in counted.items() for nth in sorted({1, most})]


def die(work: str, folder: Path, point: str, nth: int) -> None:
    """Be killed there; then the power is cut, and the index gone."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}
    ended = crash_call(point, nth, f"{WORKLOAD}:{work}", str(folder), env=env)
    assert ended.killed, (point, nth, ended)
    cut_power(folder / "home")
    for path in (folder / "home" / "heartbeat").glob("index.db*"):
        path.unlink()


def kept(folder: Path) -> list[int]:
    """Return the transactions of ada's records that were kept."""
    found: list[Record] = []
    for path in sorted((folder / "home" / "heartbeat" / "quarantined").glob("*.records")):
        records = decode_all(path.read_bytes())
        assert isinstance(records, list), records
        found += records
    return sorted({one.txn for one in found})


def test_who_is_found_out_stays_in_quarantine_wherever_the_process_dies(copied: Callable[[], Path]) -> None:
    """HB-14."""
    folder = copied()
    visited = points_of("start", folder, GOING_IN)
    assert {"quarantine.kept", "quarantine.put", "heartbeat.releasing"} <= {point for point, _ in visited}
    expected = kept(folder)
    assert len(expected) > 3
    for point, nth in visited:
        folder = copied()
        before = (folder / "home" / "agents" / "ada.workbook").read_bytes()
        die("start", folder, point, nth)
        with Home.open(folder / "home", durability="heartbeat") as home, pytest.raises(AgentQuarantined):
            home.wake("ada")
        assert (folder / "home" / "agents" / "ada.workbook").read_bytes() == before
        assert kept(folder) == expected


def test_who_is_restored_is_out_of_it_or_can_be_restored_again(
    copied: Callable[[], Path], first: tuple[Path, Portrait]
) -> None:
    """HB-15: no record of before is ever applied to what was restored."""
    folder = copied()
    visited = points_of("bring_back", folder, COMING_BACK)
    assert {"quarantine.lifted", "leave.closed"} <= {point for point, _ in visited}
    shipped = first[1]
    out = 0
    for point, nth in visited:
        folder = copied()
        die("bring_back", folder, point, nth)
        with beating(folder / "home", folder / "replica") as home:
            assert home.heartbeat is not None
            assert home.heartbeat.recovered.applied == 0
            if home.heartbeat.status().quarantined:
                home.restore("ada", at=Point(seq=shipped.last))
            else:
                out += 1
            assert home.heartbeat.status().quarantined == ()
            with home.using("ada") as book:
                assert book.last == shipped.last
                assert book.verify().problems == ()
        assert seen_in(folder / "home" / "agents" / "ada.workbook").files == shipped.files
    assert 0 < out < len(visited)
