"""Turns of the heartbeat's tables: durable events of one agent and of many, and what comes back after a power cut."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count as numbers
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from bench.agents import new_agent
from bench.measure import percentile
from bench.payload import MESSAGE
from bench.syncs import mark
from torpor.heartbeat import Settings
from torpor.home import Home, restore_all
from torpor.workbook import Workbook

TEMPLATE: Final = "template"
TENANT: Final = "acme"
HOWS: Final = ("file", "heartbeat", "replicated")
_SEED: Final = "seed"
_EMPTY: Final = 118_784
_INSERT: Final = "INSERT INTO events (body) VALUES (?)"
_TOGETHER: Final = 64
_SETTLED_S: Final = 240.0
_OTHER_BOOT: Final = "00000000-0000-4000-8000-000000000000"
_now = time.perf_counter

Append = Callable[[], object]
Appended = Callable[[], Awaitable[object]]


def herd(folder: Path, *, place: str, agents: int) -> dict[str, Any]:
    """Make, at `place`, a home of so many sleeping agents for each class, and as many plain SQLite files."""
    del folder
    ground = Path(place)
    ground.mkdir(exist_ok=True)
    with Home.open(ground / HOWS[0]) as home:
        new_agent(home, _EMPTY, name=_SEED)
        home.templates.create(TEMPLATE, _SEED)
        home.templates.clone(TEMPLATE, tenant=TENANT, count=agents)
    for how in HOWS[1:]:
        shutil.copytree(ground / HOWS[0], ground / how)
    (ground / "raw").mkdir()
    _raw(ground / "raw" / "0.db").close()
    for number in range(1, agents):
        shutil.copyfile(ground / "raw" / "0.db", ground / "raw" / f"{number}.db")
    return {"agents": agents}


def _raw(path: Path) -> apsw.Connection:
    db = apsw.Connection(str(path))
    db.pragma("journal_mode", "wal")
    db.pragma("synchronous", "FULL")
    db.execute("CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, body TEXT)")
    return db


@contextmanager
def appends(
    place: Path, how: str, agents: int, replica: str = "", *, tasks: bool = False
) -> Iterator[tuple[list[Any], Home | None]]:
    """Open so many files or agents of a herd, and give for each the call that stores one durable message.

    Every file has been written once then: its log is there. For tasks, the calls return what is to be awaited.
    """
    with ExitStack() as stack:
        home = None
        books: list[Workbook] = []
        if how == "raw":
            calls = [_raw_append(stack, place / "raw" / f"{number}.db") for number in range(agents)]
        else:
            settings = None if how == "file" else Settings(replica=replica, drill_s=0.0)
            home = stack.enter_context(Home.open(place / how, durability=how, heartbeat=settings))
            for record, _ in zip(list(home.ledger.agents(tenant=TENANT)), range(agents), strict=False):
                home.wake(record.name)
                books.append(stack.enter_context(home.using(record.name)))
            calls = [_append(book.append, how) for book in books]
        if how == "replicated":
            _written(calls, min(_TOGETHER, agents), agents)
        else:
            for call in calls:
                call()
        yield [_append(book.append_async, how) for book in books] if tasks else calls, home


def _append(append: Callable[..., Any], how: str) -> Callable[[], Any]:
    return lambda: append("note.added", MESSAGE, durability=how)


def _raw_append(stack: ExitStack, path: Path) -> Append:
    db = _raw(path)
    stack.callback(db.close)
    execute, encode = db.execute, msgspec.json.Encoder().encode
    return lambda: execute(_INSERT, (encode(MESSAGE).decode(),))


def _written(calls: list[Append], writers: int, total: int) -> tuple[float, list[float]]:
    """Store `total` messages by so many threads, each going round agents of its own; seconds, and those of each."""
    tickets = numbers()
    taken: list[list[float]] = [[] for _ in range(writers)]
    failed: list[BaseException] = []
    ready = threading.Barrier(writers + 1)

    def write(number: int) -> None:
        mine, mine_taken = calls[number::writers], taken[number]
        at, last = 0, len(mine) - 1
        ready.wait()
        try:
            while next(tickets) < total:
                begun = _now()
                mine[at]()
                mine_taken.append(_now() - begun)
                at = 0 if at == last else at + 1
        except BaseException as error:  # noqa: BLE001  (told by the main thread)
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    ready.wait()
    begun = _now()
    for thread in threads:
        thread.join()
    took = _now() - begun
    if failed:
        raise failed[0]
    return took, [each for one in taken for each in one]


async def _awaited(calls: list[Appended], writers: int, total: int) -> tuple[float, list[float]]:
    """Do as `_written` does by tasks of one event loop, in place of threads."""
    tickets = numbers()
    taken: list[float] = []

    async def write(number: int) -> None:
        mine = cycle(calls[number::writers])
        while next(tickets) < total:
            begun = _now()
            await next(mine)()
            taken.append(_now() - begun)

    begun = _now()
    await asyncio.gather(*(write(number) for number in range(writers)))
    return _now() - begun, taken


def _alone(call: Append, total: int) -> tuple[float, list[float]]:
    taken = []
    begun = _now()
    for _ in range(total):
        started = _now()
        call()
        taken.append(_now() - started)
    return _now() - begun, taken


def appended(  # noqa: PLR0913  (named)
    folder: Path, *, place: str, how: str, agents: int, writers: int, count: int, tasks: bool = False
) -> dict[str, Any]:
    """Store `count` messages, each durable before its writer goes on.

    Args:
        folder: where the replica of class `replicated` is.
        place: where `herd` has made the files.
        how: "raw", or a class of durability.
        agents: how many of them are open.
        writers: how many threads write; each has agents of its own.
        count: messages, together.
        tasks: whether the writers are tasks of one event loop instead.

    """
    replica = f"file://{folder}" if how == "replicated" else ""
    with appends(Path(place), how, agents, replica, tasks=tasks) as (calls, _):
        before = os.times()
        mark()
        if tasks:
            took, taken = asyncio.run(_awaited(calls, writers, count))
        else:
            took, taken = _written(calls, writers, count) if writers > 1 else _alone(calls[0], count)
        mark()
        after = os.times()
    return {
        "rate": count / took,
        "p50": percentile(taken, 0.50) * 1e6,
        "p99": percentile(taken, 0.99) * 1e6,
        "cpu": (after.user + after.system - before.user - before.system) / count * 1e6,
    }


# --- a power cut ---


def written_and_killed(folder: Path, *, place: str, agents: int, count: int) -> dict[str, Any]:
    """Store `count` messages with each agent of a home at `place`, and leave it as a power cut may.

    What is left is what was synced: the heartbeat's files as they are, and each workbook as it was when it was opened.
    The machine was started anew since, as far as the marks and the home can tell.
    """
    home = Path(place)
    aside = folder / "agents"
    shutil.copytree(home / "agents", aside)
    child = os.fork()
    if child == 0:
        with appends(home.parent, home.name, agents) as (calls, _):
            _written(calls, min(_TOGETHER, agents), agents * (count - 1))
            os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WTERMSIG(status) != signal.SIGKILL:
        message = f"the writer ended with {status}"
        raise RuntimeError(message)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    for path in (home / "agents").iterdir():
        if path.name.endswith("-mark"):
            (aside / path.name).write_text(path.read_text().replace(boot, _OTHER_BOOT))
    shutil.rmtree(home / "agents")
    shutil.copytree(aside, home / "agents")
    running = home / "heartbeat" / "running"
    running.write_text(running.read_text().replace(boot, _OTHER_BOOT))
    return {"records": agents * count}


def recovered(folder: Path, *, place: str, expected: int) -> dict[str, Any]:
    """Open the home at `place`, which lost its power, and see that nothing is missing."""
    del folder
    begun = _now()
    with Home.open(place, durability="heartbeat", heartbeat=Settings(drill_s=0.0)) as home:
        took = _now() - begun
        assert home.heartbeat is not None  # noqa: S101  (nobody else has it)
        found = home.heartbeat.recovered
    if found.applied != expected or found.quarantined:
        message = f"{found.applied} transactions of {expected}, {len(found.quarantined)} agents in quarantine"
        raise RuntimeError(message)
    return {"took": took, "agents": found.agents, "records": found.records}


# --- a lost machine ---


def replicate(folder: Path, *, place: str, replica: str, size: int) -> dict[str, Any]:
    """Make a home with one agent of `size` bytes at `place`, have it replicated, and close it."""
    del folder
    Path(replica).mkdir()
    settings = Settings(replica=f"file://{replica}", drill_s=0.0)
    with Home.open(place, durability="heartbeat", heartbeat=settings) as home:
        new_agent(home, size)
        settle(home)
        return {"agent": home.ledger.agent("ada").id, "bytes": home.ledger.agent("ada").bytes}


def settle(home: Home) -> None:
    """Wait until the replica has everything."""
    assert home.heartbeat is not None  # noqa: S101  (nobody else has it)
    until = _now() + _SETTLED_S
    while True:
        home.heartbeat.flush(_SETTLED_S)
        status = home.heartbeat.status()
        if not status.wanting and not status.lag_records:
            return
        if _now() > until:
            message = f"after {_SETTLED_S:.0f} s the replica lacks {status.wanting} agents"
            raise RuntimeError(message)
        time.sleep(0.1)


def brought_back(folder: Path, *, replica: str, agents: int) -> dict[str, Any]:
    """Restore a whole home from a replica, as after the loss of its machine."""
    begun = _now()
    found = restore_all(folder / "home", f"file://{replica}")
    took = _now() - begun
    if found.failed or len(found.came) < agents:
        message = f"{len(found.came)} came back, {len(found.failed)} failed"
        raise RuntimeError(message)
    return {"took": took, "came": len(found.came), "bytes": sum(one.bytes for one in found.came)}
