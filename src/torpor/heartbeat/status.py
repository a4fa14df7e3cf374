"""What a heartbeat says of itself, for whoever asks from outside: a small file that each beat writes anew."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

import msgspec

from torpor.heartbeat.quarantine import Quarantined

FOLDER: Final = "heartbeat"
FILE: Final = "status.json"


class Drilled(msgspec.Struct, frozen=True):
    """What a drill found of one agent.

    Attributes:
        agent: its id.
        txn: the transaction at which it was compared.
        ok: whether what the replica gave is what lives.
        ms: how long the restoring took.
        reason: why not; "" where it is.

    """

    agent: str
    txn: int
    ok: bool
    ms: float
    reason: str = ""


class Drill(msgspec.Struct, frozen=True):
    """One drill: some agents restored from the replica and compared with the living; `time` in µs UTC."""

    time: int
    agents: tuple[Drilled, ...]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How a heartbeat is.

    Attributes:
        time: when this was so, µs UTC.
        pid: of the process that has it.
        running: whether that process is still there.
        level: what its commits wait for.
        replica: the address of its replica; "" for none.
        durable: the last record that is on the disk here.
        shipped: the last record that is in the replica.
        lag_records: records that aren't there yet.
        lag_bytes: their bytes.
        lag_seconds: the age of the oldest of them.
        backlog: bytes of the log on the disk.
        backlog_max: how many it may take.
        awake: agents that are open.
        wanting: agents of which the replica has no snapshot yet.
        quarantined: agents that must not be opened.
        state: of the shipping: "off" without a replica.
        error: what keeps it from shipping, or the beat from its work; "" for nothing.
        drill: the last drill.

    """

    time: int
    pid: int
    running: bool = True
    level: str
    replica: str
    durable: int
    shipped: int
    lag_records: int = 0
    lag_bytes: int = 0
    lag_seconds: float = 0.0
    backlog: int
    backlog_max: int
    awake: int
    wanting: int
    quarantined: tuple[Quarantined, ...]
    state: str
    error: str = ""
    drill: Drill | None = None


_status: Final = msgspec.json.Decoder(Status).decode


def write_status(folder: str, status: Status) -> None:
    """Write a status where others look; a power cut may take it."""
    path = os.path.join(folder, FILE)
    draft = f"{path}-draft"
    with open(draft, "wb") as file:
        file.write(msgspec.json.encode(status))
    os.replace(draft, path)


def read_status(home: str) -> Status | None:
    """Return how the heartbeat of a home is, or was at last; None where it never had one."""
    try:
        with open(os.path.join(home, FOLDER, FILE), "rb") as file:
            found = _status(file.read())
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return found if _lives(found.pid) else msgspec.structs.replace(found, running=False)


def _lives(pid: int) -> bool:
    with suppress(ProcessLookupError):
        try:
            os.kill(pid, 0)
        except PermissionError:
            return True
        return True
    return False
