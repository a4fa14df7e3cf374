"""Group commit: what a durable record costs when one, eight or sixty-four threads write at once, beside a bare sync."""

from __future__ import annotations

import os
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.measure import percentile, rounds, summary, turn
from bench.payload import TEXT
from bench.report import Table, gap, micro, verdict
from bench.syncs import count_syncs, mark, per

_COUNT: Final = 24_000
_LONE: Final = 1_500
_TRACED: Final = 3_000
_WRITERS: Final = (1, 8, 64)
_TARGET_RATE: Final = 36_000
_TARGET_MORE_US: Final = 15
_HOME: Final = "0198b7a0-0000-7000-8000-00000000c0de"
_AGENT: Final = "0198b7a0-0000-7000-8000-000000000001"
_PAYLOAD: Final = (TEXT + TEXT[:80]).encode()
"""With its header a record of 1,184 bytes: the row of an event with a message of 1,024 characters."""
_RECORD: Final = 1184
_BLOCK: Final = 4096
_FILE: Final = 16 << 20


def bare(descriptor: int, at: int) -> None:
    """Write one record behind the others as the log does, and sync it, and do nothing else."""
    end = at + _RECORD
    os.pwritev(descriptor, [_PAYLOAD + bytes(80), bytes(-end % _BLOCK)], at)
    os.fdatasync(descriptor)


def made(folder: Path) -> int:
    """Return a file of zeros that are on the disk."""
    descriptor = os.open(folder / "bare", os.O_RDWR | os.O_CREAT)
    os.pwrite(descriptor, bytes(_FILE), 0)
    os.fsync(descriptor)
    return descriptor


def floor(folder: Path, *, count: int) -> dict[str, Any]:
    """Sync records one by one, with nothing around it."""
    descriptor = made(folder)
    taken = []
    for number in range(count):
        begun = time.perf_counter_ns()
        bare(descriptor, number % 10_000 * _RECORD)
        taken.append(time.perf_counter_ns() - begun)
    os.close(descriptor)
    return summary(taken)


def writers(folder: Path, *, threads: int, count: int) -> dict[str, Any]:
    """Let threads add records and wait for each, as many in all as `count` says."""
    from torpor.base.clock import SystemClock
    from torpor.heartbeat.log import Log
    from torpor.heartbeat.records import Kind

    log = Log.open(str(folder / "heartbeat"), _HOME, SystemClock())
    log.prepare()
    each = count // threads
    taken: list[list[int]] = [[] for _ in range(threads)]
    ready = threading.Barrier(threads + 1)

    def write(mine: list[int]) -> None:
        ready.wait()
        for txn in range(each):
            begun = time.perf_counter_ns()
            log.wait(log.add(_AGENT, 1, txn, Kind.COMMIT, _PAYLOAD))
            mine.append(time.perf_counter_ns() - begun)

    crowd = [threading.Thread(target=write, args=(mine,)) for mine in taken]
    for thread in crowd:
        thread.start()
    mark()
    used = time.process_time()
    begun = time.perf_counter()
    ready.wait()
    for thread in crowd:
        thread.join()
    seconds = time.perf_counter() - begun
    used = time.process_time() - used
    mark()
    complete = log.durable == each * threads
    log.close()
    if not complete:
        return {"missing": "failed: not every record is durable"}
    flat = [value for mine in taken for value in mine]
    return {
        **summary(flat),
        "rate": each * threads / seconds,
        "cpu": used / (each * threads) * 1e6,
    }


def more(folder: Path, *, count: int) -> dict[str, Any]:
    """Return by how much a lone writer's record takes longer than the bare write and sync, done in turn with it."""
    from torpor.base.clock import SystemClock
    from torpor.heartbeat.log import Log
    from torpor.heartbeat.records import Kind

    descriptor = made(folder)
    log = Log.open(str(folder / "heartbeat"), _HOME, SystemClock())
    ours, theirs = [], []
    for number in range(count):
        first = time.perf_counter_ns()
        bare(descriptor, number % 10_000 * _RECORD)
        second = time.perf_counter_ns()
        log.wait(log.add(_AGENT, 1, number, Kind.COMMIT, _PAYLOAD))
        third = time.perf_counter_ns()
        theirs.append(second - first)
        ours.append(third - second)
    log.close()
    os.close(descriptor)
    return {"more": (percentile(ours, 0.5) - percentile(theirs, 0.5)) / 1e3}


def run(home: Path, times: int, *, count: int = _COUNT) -> Table:
    """Measure the log beside the floor."""
    lone = min(_LONE, count)
    takes = {
        "floor": partial(turn, "group_commit.floor", home, count=lone),
        **{
            f"log {threads}": partial(
                turn, "group_commit.writers", home, threads=threads, count=count if threads > 1 else lone
            )
            for threads in _WRITERS
        },
        "more": partial(turn, "group_commit.more", home, count=lone),
    }
    figures = rounds(times, takes)
    heads = ("", "records/s", "of the floor", "p50", "p99", "CPU/record", "syncs/record")
    table = Table(
        "14. Group commit",
        f"The heartbeat's log by itself: records of {_RECORD:,} bytes, each durable when its thread goes on. Median of"
        f" {times} interleaved rounds of {count:,} records ({lone:,} where nobody shares a sync).",
        heads,
    )
    floored = figures["floor"]
    if floored.missing:
        table.rows.append(gap("one write + fdatasync", floored.missing, heads))
        return table
    rate = f"{floored.median('rate'):,.0f}"
    table.rows.append(
        ["one write + fdatasync", rate, "100%", *(micro(floored.median(part)) for part in ("p50", "p99")), "", "1.00"]
    )
    for threads in _WRITERS:
        found = figures[f"log {threads}"]
        title = "the log, a lone writer" if threads == 1 else f"the log, {threads} writers"
        if found.missing:
            table.rows.append(gap(title, found.missing, heads))
            continue
        traced = min(_TRACED, count) // threads * threads
        syncs = count_syncs("group_commit.writers", home, threads=threads, count=traced)
        table.rows.append(
            [
                title,
                f"{found.median('rate'):,.0f}",
                f"{found.ratio('rate', floored):.0%}",
                *(micro(found.median(part)) for part in ("p50", "p99")),
                micro(found.median("cpu")),
                per(syncs, traced),
            ]
        )
    top, added = figures[f"log {_WRITERS[-1]}"], figures["more"]
    if not top.missing and not added.missing:
        best, above = top.median("rate"), added.median("more")
        table.notes = [
            verdict(f"{_WRITERS[-1]} writers", f"≥ {_TARGET_RATE:,}/s", f"{best:,.0f}/s", met=best >= _TARGET_RATE),
            verdict(
                "a lone writer over the bare write and sync, in turn with it",
                f"< {_TARGET_MORE_US} µs",
                f"{above:,.1f} µs",
                met=above < _TARGET_MORE_US,
            ),
            "The traced runs, in which syncs are counted, are slower, so that more records share a sync there.",
        ]
    return table
