"""What the tests of restoring share: a home with a heartbeat and a replica, and points of an agent's past."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from torpor.base.clock import SystemClock
from torpor.heartbeat import Settings
from torpor.home import Home
from torpor.testing.portrait import Portrait, portrait
from torpor.workbook import Workbook


def settings(store: Path | None, **more: Any) -> Settings:
    """Return how a heartbeat works that ships at once and drills nobody."""
    return Settings(replica="" if store is None else store.as_uri(), drill_s=0, beat_s=0.05, **more)


@contextmanager
def beating(folder: Path, store: Path | None, durability: str = "heartbeat", **more: Any) -> Iterator[Home]:
    """Open a home with a heartbeat."""
    with Home.open(folder, durability=durability, heartbeat=settings(store), **more) as home:
        yield home


def flush(home: Home) -> None:
    """Wait until the replica has all that was done."""
    assert home.heartbeat is not None
    home.heartbeat.flush()


def settled(home: Home) -> None:
    """Wait until the replica has everybody, and all that they did."""
    assert home.heartbeat is not None
    for _ in range(200):
        home.heartbeat.beat()
        if all(home.heartbeat.covered(agent) for agent in _everybody(home)):
            break
    flush(home)


def _everybody(home: Home) -> list[str]:
    """Return the ids of those whose files are here."""
    files = {agent.id: agent.file for agent in home.ledger.agents()}
    files |= {template.id: template.file for template in home.ledger.templates.all()}
    return [known for known, file in files.items() if (Path(home.path) / file).exists()]


def live(home: Home, name: str, count: int = 3, *, mark: str = "") -> list[tuple[int, int, Portrait]]:
    """Let an agent do things; returns after each the event, the time, and what there is then."""
    seen = []
    with home.using(name) as book:
        for number in range(count):
            book.append("note.added", {"number": number, "mark": mark})
            book.write("workspace", f"/{mark}{number}.bin", os.urandom(4000))
            book.memory.remember(f"{mark} fact {number}", source=f"urn:{mark}{number}")
            seen.append((book.last, SystemClock().now_us(), portrait(book)))
    return seen


def here(home: Home, name: str) -> Path:
    """Return where an agent's file belongs."""
    return Path(home.path) / home.ledger.agent(name).file


def seen_in(path: Path) -> Portrait:
    """Return what is in a whole workbook."""
    with Workbook.open(path, readonly=True) as book:
        assert book.verify().problems == ()
        return portrait(book)


def replaced(home: Home) -> list[Path]:
    """Return the files that restores have set aside."""
    folder = Path(home.path) / "replaced"
    return sorted(folder.iterdir()) if folder.exists() else []


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def spoil(path: Path) -> None:
    """Damage a workbook in the middle."""
    content = bytearray(path.read_bytes())
    content[4096:20_480] = b"\xa5" * 16_384
    path.write_bytes(content)


def forsake(path: Path) -> None:
    """Make a workbook what a power cut leaves that nobody could recover from: a file, a log, and a mark."""
    spoil(path)
    Path(f"{path}-wal").write_bytes(b"what a dead owner has left" * 100)
    Path(f"{path}-mark").write_bytes(msgspec.json.encode({"boot": "another", "home": str(path.parent.parent)}))


def copy_of(store: Path) -> Path:
    """Copy a replica, as it is now."""
    return shutil.copytree(store, store.with_name("copy-of-the-replica"))
