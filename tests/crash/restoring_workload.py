"""What is to be killed of restoring: one agent, and a whole home. Everything is in one folder: `home` and `replica`.

    python restoring_workload.py

Requests come as lines of JSON on standard input; a child is forked for each, which does one of these and dies at its
fault point.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.crash.zygote import serve

from torpor.heartbeat.restore import Point
from torpor.home import Home, restore_all
from torpor.testing import kill_at

BACK_TO: Final = 4
"""The event that the agent is put back to."""


def url(folder: str) -> str:
    """Return the address of the replica."""
    return (Path(folder) / "replica").as_uri()


def put_back(folder: str) -> None:
    """Put an agent back to an event."""
    with Home.open(Path(folder) / "home") as home:
        home.restore("ada", at=Point(seq=BACK_TO), replica=url(folder))


def bring_back(folder: str) -> None:
    """Restore an agent, as new as it can be."""
    with Home.open(Path(folder) / "home") as home:
        home.restore("ada", replica=url(folder))


def rebuild(folder: str) -> None:
    """Bring the whole home back."""
    restore_all(Path(folder) / "home", url(folder))


WORKS: Final = {"put_back": put_back, "bring_back": bring_back, "rebuild": rebuild}


def child(folder: str, work: str, point: str, nth: int) -> list[str]:
    """Do it; returns nothing, unless it dies."""
    with kill_at(point, nth):
        WORKS[work](folder)
    return []


if __name__ == "__main__":
    serve(child)
