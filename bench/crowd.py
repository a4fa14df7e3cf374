"""Turns of the table of many: a ledger of sleeping agents, and what it costs to have them."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

from msgspec.structs import replace

from torpor.base.clock import SystemClock
from torpor.base.entropy import SystemEntropy
from torpor.base.ids import IdSource
from torpor.home import Home
from torpor.ledger import AgentRecord, Ledger, Note, Verb
from torpor.lifecycle import idle_seconds, next_state

_BATCH: Final = 1000
_PASSES: Final = 5
_MEMORY: Final = Path("/dev/shm")  # noqa: S108  (a file system in memory, where there is one)
_now = time.perf_counter


def crowd(folder: Path, *, place: str, count: int) -> dict[str, Any]:
    """Make a home with a ledger of `count` agents that sleep. Their files are empty: nobody will open one.

    The ledger is filled where syncs cost nothing, and moved to its place then.
    """
    scratch = Path(tempfile.mkdtemp(dir=_MEMORY if _MEMORY.is_dir() else folder))
    try:
        with Home.open(scratch / "home") as home:
            for start in range(0, count, _BATCH):
                _sleepers(home.ledger, range(start, min(start + _BATCH, count)))
            files = [record.file for record in home.ledger.agents()]
        shutil.copytree(scratch / "home", place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for file in files:
        Path(place, file).touch()
    return {"bytes": Path(place, "ledger.db").stat().st_size}


def _sleepers(ledger: Ledger, numbers: range) -> None:
    """Register agents, wake them and put them to sleep, as far as the ledger knows."""
    clock = SystemClock()
    ids = IdSource(clock, SystemEntropy())
    now = clock.now_us()

    def note(agent: str, verb: Verb) -> Note:
        return Note(agent=agent, verb=verb, who="bench", time=now, bytes=2**20, ms=1.0)

    records = [
        AgentRecord(
            id=ids.text(),
            name=f"agent-{number:06}",
            tenant="acme",
            file=f"agents/agent-{number:06}.workbook",
            bytes=2**20,
            seq=100,
            head=f"{number:064x}",
            created=now,
            active=now,
        )
        for number in numbers
    ]
    ledger.add(records, [note(record.id, "new") for record in records])
    for record in records:
        awake = ledger.move(record, replace(record, state="active", epoch=1), note(record.id, "wake"))
        ledger.move(awake, replace(awake, state="suspended"), note(record.id, "suspend"))


def asleep(folder: Path, *, place: str, count: int) -> dict[str, Any]:
    """Open the home at `place`, and look over all its agents, of which there are `count`."""
    del folder
    begun = _now()
    home = Home.open(place)
    opened = _now() - begun
    with home:
        descriptors = len(os.listdir("/proc/self/fd")) - 1  # that of the look itself
        gc.collect()
        resting = _memory("VmRSS")
        ticks = [_timed(lambda: _pass(home)) for _ in range(_PASSES)]
        asked = [_timed(lambda: _ask(home, count)) for _ in range(_PASSES)]
        listed = _timed(lambda: _list(home, count))
        return {
            "open": opened,
            "descriptors": descriptors,
            "memory": resting,
            "peak": _memory("VmHWM"),
            "tick": median(ticks),
            "asked": median(asked),
            "listed": listed,
        }


def _timed(call: Callable[[], None]) -> float:
    begun = _now()
    call()
    return _now() - begun


def _pass(home: Home) -> None:
    done = home.tick()
    _require(not (done.moved or done.woken or done.failed or done.skipped or done.removed), "something was due")


def _ask(home: Home, count: int) -> None:
    now = SystemClock().now_us()
    stay = sum(next_state(rung.state, idle_seconds(rung.active, now)) == rung.state for rung in home.ledger.ladder())
    _require(stay == count, f"{stay} agents stay, and there are {count}")


def _list(home: Home, count: int) -> None:
    listed = sum(1 for _ in home.ledger.agents())
    _require(listed == count, f"{listed} agents are listed, and there are {count}")


def _require(so: bool, otherwise: str) -> None:  # noqa: FBT001  (a condition)
    if not so:
        raise RuntimeError(otherwise)


def _memory(name: str) -> int:
    """Return what the system says of this process's memory, in bytes: `VmRSS` now, `VmHWM` at most."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    message = f"the system doesn't tell {name}"
    raise RuntimeError(message)
