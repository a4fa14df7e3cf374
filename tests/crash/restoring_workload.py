"""What is to be killed of restoring: one agent, and a whole home. Everything is in one folder: `home` and `replica`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from torpor.heartbeat.restore import Point
from torpor.home import Home, restore_all

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
