"""Turns of the table of replicas: a load that is replicated, and what comes back from the replica."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from bench import litestream
from bench.beats import Append, appends, settle
from bench.measure import percentile
from torpor.heartbeat.packs import records_of
from torpor.heartbeat.reading import Reader
from torpor.heartbeat.records import Kind
from torpor.heartbeat.restore import restore_agent
from torpor.stores.objects import open_objects
from torpor.stores.shelves import Options

_ENOUGH_S: Final = 240.0
_AFTER_S: Final = 3.0
"""Time for the last writes to reach the replica; it is measured too."""
_TICK: Final = os.sysconf("SC_CLK_TCK")


def _paced(calls: list[Append], rate: float, seconds: float, noted: Callable[[int, float], None]) -> float:
    """Call them in turns at a steady rate, and give what follows time to end; returns how far it fell behind, in s."""
    begun = time.perf_counter()
    behind = 0.0
    for number in range(int(rate * seconds)):
        early = begun + number / rate - time.perf_counter()
        if early > 0:
            time.sleep(early)
        behind = max(behind, -early)
        at = number % len(calls)
        moment = time.time()
        calls[at]()
        noted(at, moment)
    time.sleep(_AFTER_S)
    return behind


def loaded(  # noqa: PLR0913  (named)
    folder: Path, *, place: str, how: str, agents: int, rate: float, seconds: float, replica: str = ""
) -> dict[str, Any]:
    """Write to so many agents of a herd, or files, at a steady rate, and see what replicating that takes.

    Args:
        folder: for a replica that nobody needs afterwards.
        place: where `beats.herd` has made the files.
        how: "heartbeat": without a replica; "replica": with one; "litestream": plain files under one Litestream.
        agents: how many.
        rate: messages per second, together.
        seconds: how long.
        replica: where the replica is to be, if it is needed afterwards.

    """
    target = Path(replica) if replica else folder / "replica"
    target.mkdir()
    if how == "litestream":
        return _under_litestream(folder, Path(place), target, agents, rate, seconds)
    with appends(Path(place), "heartbeat", agents, f"file://{target}" if how == "replica" else "") as (calls, home):
        assert home is not None  # noqa: S101  (it isn't raw)
        if how == "replica":
            settle(home)
        else:
            time.sleep(_AFTER_S)
        before, moment, begun = os.times(), time.time(), time.perf_counter()
        behind = _paced(calls, rate, seconds, lambda _at, _moment: None)
        took, after = time.perf_counter() - begun, os.times()
        answer = _own(os.getpid()) | {
            "cpu": after.user + after.system - before.user - before.system,
            "took": took,
            "behind": behind,
        }
        if how == "replica":
            answer["objects"] = _written_since(target, moment) / took
            settle(home)
            answer |= _lags(_pack_lags(target, moment), int(rate * seconds))
    return answer


def _under_litestream(
    folder: Path, place: Path, target: Path, agents: int, rate: float, seconds: float
) -> dict[str, Any]:
    if not litestream.program():
        return {"missing": "there is no Litestream, and npm can't fetch it"}
    with appends(place, "raw", agents) as (calls, _):
        files = [str(place / "raw" / f"{number}.db") for number in range(agents)]
        replicas = {path: target / str(number) for number, path in enumerate(files)}
        with litestream.replicating(folder, replicas) as process:
            _until(lambda: sum(1 for _ in target.glob("*/generations/*/wal/*")) >= agents, "Litestream begins")
            time.sleep(_AFTER_S)
            commits: list[tuple[int, float, int]] = []
            before, moment, begun = _cpu(process), time.time(), time.perf_counter()
            behind = _paced(
                calls,
                rate,
                seconds,
                lambda at, moment: commits.append((at, moment, os.stat(f"{files[at]}-wal").st_size)),
            )
            took = time.perf_counter() - begun
            answer = _own(process) | {
                "cpu": _cpu(process) - before,
                "took": took,
                "behind": behind,
                "objects": _written_since(target, moment) / took,
            }
        return answer | _lags(_segment_lags(target, commits), len(commits))


def _until(so: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _ENOUGH_S
    while not so():
        if time.monotonic() > end:
            message = f"not in {_ENOUGH_S:.0f} s: {what}"
            raise RuntimeError(message)
        time.sleep(0.5)


def _own(process: int) -> dict[str, int]:
    """Return what the system says of a process's memory, in bytes."""
    found = {}
    for line in Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines():
        name, _, rest = line.partition(":")
        if name in ("VmRSS", "VmHWM"):
            found["memory" if name == "VmRSS" else "peak"] = int(rest.split()[0]) * 1024
    return found


def _cpu(process: int) -> float:
    """Return the seconds of the processor, user and system, that a process has had."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _written_since(target: Path, moment: float) -> int:
    return sum(
        1
        for place, _, names in os.walk(target)
        for name in names
        if os.stat(os.path.join(place, name)).st_mtime >= moment
    )


def _lags(lags: Iterable[float], expected: int) -> dict[str, float]:
    found = sorted(lags)
    if len(found) < expected:
        message = f"{len(found)} of {expected} messages are in the replica"
        raise RuntimeError(message)
    return {f"lag {name}": percentile(found, share) for name, share in (("p50", 0.5), ("p99", 0.99), ("worst", 1.0))}


def _pack_lags(target: Path, moment: float) -> Iterable[float]:
    """Yield, for each commit since a moment, the seconds until its pack had its name in the folder."""
    reader = Reader(open_objects(f"file://{target}", str(target.parent), options=Options()))
    for path in sorted(target.glob("log/*.pack")):
        there = path.stat().st_ctime
        if there < moment:
            continue
        index, content = reader.whole(f"log/{path.name}")
        for block in index.blocks:
            piece = content[block.offset : block.offset + block.length]
            for record in records_of(path.name, block, piece):
                if record.kind is Kind.COMMIT and record.time / 1e6 >= moment:
                    yield there - record.time / 1e6


def _segment_lags(target: Path, commits: list[tuple[int, float, int]]) -> Iterable[float]:
    """Yield, for each commit, the seconds until the segment that has the last byte of its log had its name.

    A segment's name says at which byte of the database's log it begins; it ends where the next one does.
    """
    segments: dict[int, list[tuple[float, int, float]]] = {}
    for path in target.glob("*/generations/*/wal/*"):
        begin = int(path.name.partition("_")[2].partition(".")[0], 16)
        found = path.stat()
        segments.setdefault(int(path.relative_to(target).parts[0]), []).append((found.st_ctime, begin, 0.0))
    for at, when, end in commits:
        mine = sorted(segments[at])
        first = bisect_left(mine, (when, 0, 0.0))
        for there, begin, _ in mine[first:]:
            if begin < end:
                following = [other for time_, other, _ in mine if other > begin]
                if not following or end <= min(following):
                    yield there - when
                    break


# --- restoring ---


def restored(folder: Path, *, replica: str, agent: str) -> dict[str, Any]:
    """Restore one agent's workbook."""
    target = folder / "restored.workbook"
    begun = time.perf_counter()
    reader = Reader(open_objects(f"file://{replica}", str(folder), options=Options()))
    found = restore_agent(reader, agent, str(target))
    took = time.perf_counter() - begun
    if not found.complete:
        raise RuntimeError(found.reason)
    return {"took": took, "bytes": target.stat().st_size}


def restored_by_litestream(folder: Path, *, replica: str) -> dict[str, Any]:
    """Restore one database by Litestream."""
    target = folder / "restored.db"
    begun = time.perf_counter()
    litestream.restore(Path(replica), target)
    took = time.perf_counter() - begun
    return {"took": took, "bytes": target.stat().st_size}


def replicate_by_litestream(folder: Path, *, place: str, replica: str) -> dict[str, Any]:
    """Have a workbook's file at `place`, which nobody has open, replicated by Litestream."""
    if not litestream.program():
        return {"missing": "there is no Litestream, and npm can't fetch it"}
    with litestream.replicating(folder, {place: Path(replica)}):
        _until(lambda: any(Path(replica).glob("generations/*/wal/*")), "Litestream begins")
        time.sleep(_AFTER_S)
    return {"bytes": Path(place).stat().st_size}
