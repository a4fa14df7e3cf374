"""Turns of the lifecycle's tables: what `bench.worker` does in a fresh process with a home of agents."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

import apsw

from bench.agents import NAME, new_agent, new_talker, new_worker
from bench.payload import MESSAGE
from bench.plain import WAYS
from bench.syncs import mark
from torpor.home import Home
from torpor.stores.copies import copy_file

TEMPLATE: Final = "template"
_SEED: Final = "seed"
_TENANT: Final = "acme"
_WARM_UP: Final = 5
_now = time.perf_counter_ns


def _us(begun: int, ended: int) -> float:
    return (ended - begun) / 1e3


# --- sleeping ---


def populate(folder: Path, *, place: str, size: int, count: int) -> dict[str, Any]:
    """Clone `count` agents more into the home at `place`, and wake each once and put it to sleep."""
    del folder
    with Home.open(place) as home:
        if not home.ledger.templates.all():
            new_agent(home, size, name=_SEED)
            home.templates.create(TEMPLATE, _SEED)
        made = home.templates.clone(TEMPLATE, tenant=_TENANT, count=count)
        first = []
        for record in made:
            begun = _now()
            home.wake(record.name)
            home.suspend(record.name)
            first.append(_us(begun, _now()))
        return {"pairs": first, "bytes": home.ledger.agent(made[0].name).bytes}


def _slice(home: Home, first: int, count: int) -> list[str]:
    """Return `count` of the agents' names, from `first` on in an order of chance, the same each time."""
    names = [record.name for record in home.ledger.agents(tenant=_TENANT)]
    random.Random(len(names)).shuffle(names)  # noqa: S311  (the same order in every turn)
    return names[first : first + count]


def slept(folder: Path, *, place: str, first: int, count: int, how: str) -> dict[str, Any]:
    """Wake and suspend agents that sleep, one after the other, each once.

    Args:
        folder: not used.
        place: the home.
        first: the first of them.
        count: how many.
        how: "idle": nothing in between; "written": an event is appended in between; "cold": its file's pages are
            dropped from the page cache before. What is done in between is not timed.

    """
    del folder
    wakes, suspends = [], []
    with Home.open(place) as home:
        for _ in range(_WARM_UP):
            home.wake(_SEED)
            home.suspend(_SEED)
        names = _slice(home, first, count)
        mark()
        for name in names:
            if how == "cold":
                _forget(Path(home.path, "agents", f"{name}.workbook"))
            begun = _now()
            home.wake(name)
            wakes.append(_us(begun, _now()))
            if how == "written":
                with home.using(name) as book:
                    book.append("note.added", MESSAGE)
            begun = _now()
            home.suspend(name)
            suspends.append(_us(begun, _now()))
        mark()
    pairs = [wake + suspend for wake, suspend in zip(wakes, suspends, strict=True)]
    return {"pairs": pairs, "wakes": wakes, "suspends": suspends}


def _forget(path: Path) -> None:
    """Drop a file's pages from the page cache. Nobody has it open."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def populate_raw(folder: Path, *, place: str, size: int, count: int) -> dict[str, Any]:
    """Make plain SQLite files of a size, and one in which there is a row for each."""
    del folder
    folder = Path(place)
    folder.mkdir()
    _raw_file(folder / "0.db", size)
    for number in range(1, count):
        shutil.copyfile(folder / "0.db", folder / f"{number}.db")
    ledger = _raw(folder / "ledger.db")
    ledger.execute("CREATE TABLE agents (id INTEGER PRIMARY KEY, state TEXT)")
    ledger.executemany("INSERT INTO agents VALUES (?, 'suspended')", [(number,) for number in range(count)])
    ledger.close()
    return {"count": count}


def slept_raw(folder: Path, *, place: str, files: int, count: int, how: str) -> dict[str, Any]:
    """Do with plain SQLite what waking and suspending can't do without: open and look, close, and a commit for each."""
    del folder
    ledger = _raw(Path(place, "ledger.db"))
    note = "UPDATE agents SET state = ? WHERE id = ?"
    pairs = []
    for number in range(-_WARM_UP, count):
        agent = number % files
        begun = _now()
        db = _raw(Path(place, f"{agent}.db"))
        list(db.execute("SELECT max(seq) FROM events"))
        ledger.execute(note, ("active", agent))
        took = _now() - begun
        if how == "written":
            db.execute("INSERT INTO events (body) VALUES (?)", (MESSAGE["text"],))
        begun = _now()
        db.close()
        ledger.execute(note, ("suspended", agent))
        if number >= 0:
            pairs.append((took + _now() - begun) / 1e3)
    ledger.close()
    return {"pairs": pairs}


def _raw(path: Path) -> apsw.Connection:
    db = apsw.Connection(str(path))
    db.pragma("journal_mode", "wal")
    db.pragma("synchronous", "FULL")
    return db


def _raw_file(path: Path, size: int) -> None:
    db = _raw(path)
    with db:
        db.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY, body TEXT)")
        db.executemany("INSERT INTO events (body) VALUES (?)", [(MESSAGE["text"],)] * (size // 1366))
    db.close()


# --- copies ---


def plain(folder: Path, *, source: str, how: str, count: int) -> dict[str, Any]:
    """Copy a file `count` times, one of `bench.plain`'s ways, into the folder that it is in."""
    del folder
    target = Path(source).with_name("plain-copy")
    taken = []
    for _ in range(count):
        begun = _now()
        WAYS[how](Path(source), target)
        taken.append(_us(begun, _now()))
        target.unlink()
    return {"took": median(taken), "each": taken}


def sized(folder: Path, *, place: str, size: int, content: str) -> dict[str, Any]:
    """Make a home with an agent of a size, and a small one to begin with."""
    del folder
    with Home.open(place) as home:
        new_agent(home, size, content=content)
        new_agent(home, 2**20, name=_SEED)
        return {"bytes": home.ledger.agent(NAME).bytes, "file": home.ledger.agent(NAME).file}


def frozen(folder: Path, *, place: str) -> dict[str, Any]:
    """Freeze the agent and wake it out of the cold store; a small one goes before, which imports what is needed."""
    del folder
    with Home.open(place) as home:
        for name in (_SEED, NAME):
            begun = _now()
            home.freeze(name)
            between = _now()
            home.wake(name)
            ended = _now()
            home.suspend(name)
    return {"freeze": _us(begun, between), "wake": _us(between, ended)}


def archived(folder: Path, *, place: str) -> dict[str, Any]:
    """Archive the agent and wake it out of the archive; a small one goes before."""
    del folder
    with Home.open(place) as home:
        for name in (_SEED, NAME):
            home.wake(name)
            begun = _now()
            home.archive(name)
            between = _now()
            stored = home.ledger.history(name, last=1)[0].details["stored"]
            again = _now()
            home.wake(name)
            ended = _now()
            home.suspend(name)
    return {"archive": _us(begun, between), "wake": _us(again, ended), "stored": stored}


# --- clones ---


def templated(folder: Path, *, place: str, sizes: list[int]) -> dict[str, Any]:
    """Make a home with a template of each size; returns their files."""
    del folder
    files = {}
    with Home.open(place) as home:
        for size in sizes:
            name = f"{TEMPLATE}-{size}"
            new_agent(home, size, name=f"{_SEED}-{size}")
            record = home.templates.create(name, f"{_SEED}-{size}")
            files[str(size)] = str(Path(home.path, record.file))
            _remove(home, [f"agents/{_SEED}-{size}.workbook"])
    return {"files": files}


def copied(folder: Path, *, source: str, count: int) -> dict[str, Any]:
    """Make the copy of which a clone is made, `count` times; it is neither synced nor given an identity."""
    del folder
    target = f"{source}-copy"
    taken = []
    for _ in range(count):
        begun = _now()
        how = copy_file(source, target, sync=False).how
        taken.append(_us(begun, _now()))
        Path(target).unlink()
    return {"took": median(taken), "each": taken, "how": how}


def cloned(folder: Path, *, place: str, size: int, count: int, at_once: int) -> dict[str, Any]:
    """Clone a template `count` times, `at_once` in a call; returns what one took. The clones' files are removed."""
    del folder
    taken = []
    with Home.open(place) as home:
        warm = home.templates.clone(f"{TEMPLATE}-{size}", tenant=_TENANT)
        _remove(home, [record.file for record in warm])
        mark()
        for _ in range(count):
            begun = _now()
            made = home.templates.clone(f"{TEMPLATE}-{size}", tenant=_TENANT, count=at_once)
            taken.append(_us(begun, _now()) / at_once)
            _remove(home, [record.file for record in made])
        mark()
    return {"took": median(taken), "each": taken}


def multiplied(folder: Path, *, place: str, size: int, count: int, how: str) -> dict[str, Any]:
    """Make `count` clones, in one call for one tenant, or in a call for each tenant; their files are removed."""
    del folder
    template = f"{TEMPLATE}-{size}"
    with Home.open(place) as home:
        warm = home.templates.clone(template, tenant=_TENANT)
        begun = _now()
        if how == "one call":
            made = home.templates.clone(template, tenant=_TENANT, count=count)
        else:
            made = [home.templates.clone(template, tenant=f"tenant {number}")[0] for number in range(count)]
        took = _us(begun, _now())
        _remove(home, [record.file for record in (*warm, *made)])
    return {"took": took}


def multiplied_plain(folder: Path, *, source: str, count: int, how: str) -> dict[str, Any]:
    """Make `count` plain copies of a file beside it, each synced with its name."""
    del folder
    targets = [Path(source).with_name(f"plain-copy-{number}") for number in range(count)]
    begun = _now()
    for target in targets:
        WAYS[how](Path(source), target)
    took = _us(begun, _now())
    for target in targets:
        target.unlink()
    return {"took": took}


def _remove(home: Home, files: list[str]) -> None:
    """Remove agents' files behind the ledger's back, so that the disk has room: nobody wakes them again."""
    for file in files:
        Path(home.path, file).unlink()


# --- going back ---


def travelling(folder: Path, *, place: str, size: int, messages: int) -> dict[str, Any]:
    """Make a home with an agent of a size, or of messages alone; returns its middle and its newest event."""
    del folder
    with Home.open(place) as home:
        middle, last = new_worker(home, size) if size else new_talker(home, messages)
        record = home.ledger.agent(NAME)
    return {"middle": middle, "last": last, "bytes": record.bytes, "file": record.file}


def forked(folder: Path, *, place: str, at: int, count: int) -> dict[str, Any]:
    """Fork the agent at an event, while it is awake; the forks' files are removed."""
    del folder
    taken, sizes = [], []
    with Home.open(place) as home:
        home.wake(NAME)
        for number in range(count + 1):
            begun = _now()
            record = home.fork(NAME, at=at)
            if number:  # the first one imports and fills caches
                taken.append(_us(begun, _now()))
                sizes.append(record.bytes)
            _remove(home, [record.file])
        home.suspend(NAME)
    return {"took": median(taken), "each": taken, "bytes": median(sizes)}


def rewound(folder: Path, *, place: str, middle: int, last: int, count: int) -> dict[str, Any]:
    """Put a copy of the agent back to its middle, and then to where it was, `count` times; returns the bytes too.

    Those written are the log's; those added are what the file has more when the agent is suspended again.
    """
    found: dict[str, list[float]] = {
        f"{way}{part}": [] for way in ("back", "again") for part in ("", " bytes", " written")
    }
    home_folder = Path(shutil.copytree(place, folder / "home"))
    with Home.open(home_folder) as home:
        file = home_folder / home.ledger.agent(NAME).file
        for _ in range(count):
            for way, to in (("back", middle), ("again", last)):
                before = file.stat().st_size
                home.wake(NAME)
                begun = _now()
                home.rewind(NAME, to)
                found[way].append(_us(begun, _now()))
                # Waking has begun a new log: what is in it is the rewind's.
                found[f"{way} written"].append(Path(f"{file}-wal").stat().st_size)
                home.suspend(NAME)
                found[f"{way} bytes"].append(file.stat().st_size - before)
    return dict(found)
