"""A node that ships, merges, retires and sweeps, and says what is in; to be killed.

::

    replica_workload.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.unit.heartbeat.replica_kit import claimed, objects_in
from tests.unit.heartbeat.replica_model import Lives
from tests.unit.workbook.kit import SetClock

from torpor.heartbeat.retention import Pace, Upkeep

SEED = 7
PACKS = 24
KEEP_S = 20
PACE = Pace(tail_packs=2, merge_packs=5, manifest_packs=3)


def packs() -> Lives:
    """Return the lives that all runs have."""
    lives = Lives(SEED)
    for _ in range(PACKS):
        lives.pack()
    return lives


def main(folder: str) -> None:
    """Ship what isn't in yet, with everything else that a node does; each pack's last record is told when it is in."""
    clock = SetClock()
    objects = objects_in(Path(folder))
    replica = claimed(objects, int.from_bytes(folder.encode(), "big") % 1000, clock=clock)
    upkeep = Upkeep(replica, keep_s=KEEP_S, pace=PACE)
    lives = Lives(SEED)
    for number in range(PACKS):
        records = lives.pack()
        if records[-1].lsn <= replica.shipped:
            continue
        clock.now = records[-1].time
        replica.ship(records)
        print(records[-1].lsn, flush=True)  # noqa: T201  (how the parent learns it)
        if number % 4 == 3:
            upkeep.run(caught_up=True, whole=number % 8 == 3)


if __name__ == "__main__":
    main(sys.argv[1])
