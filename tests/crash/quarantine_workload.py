"""What is to be killed of the quarantine: a start that finds out, and a restore that ends it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from torpor.heartbeat import Settings
from torpor.heartbeat.restore import Point
from torpor.home import Home

LARGE: Final = 9 << 20
"""Bytes of which no two fit into one segment."""


BACK_TO: Final = 9
"""The event that the agent is put back to."""


def settings(folder: str) -> Settings:
    """Return how the heartbeat works."""
    return Settings(replica=(Path(folder) / "replica").as_uri(), drill_s=0)


def start(folder: str) -> None:
    """Open the home, and write so much that the log lets go of all that there was before."""
    with Home.open(Path(folder) / "home", durability="heartbeat", heartbeat=settings(folder)) as home:
        assert home.heartbeat is not None
        with home.using("bea") as book:
            for _ in range(2):
                book.write("workspace", "/large", os.urandom(LARGE))
        home.suspend("bea")
        home.heartbeat.flush()
        home.heartbeat.beat()


def bring_back(folder: str) -> None:
    """Put the agent back to where it was shipped, before what it did last."""
    with Home.open(Path(folder) / "home", durability="heartbeat", heartbeat=settings(folder)) as home:
        home.restore("ada", at=Point(seq=BACK_TO))


def write_more(home: str, name: str) -> None:
    """Write what no replica has."""
    with Home.open(home, durability="heartbeat", heartbeat=Settings(drill_s=0)) as found, found.using(name) as book:
        for number in range(9):
            book.memory.remember(f"late fact {number}", source=f"urn:late{number}")
