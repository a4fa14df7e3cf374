"""A home in class `heartbeat` with a replica, under load, that is to be killed; and the oracle of what it acknowledged.

    python beating_workload.py

Requests come as lines of JSON on standard input; a child is forked for each, which opens the home, checks all that the
sessions before it have said, works, and dies at its fault point. What was begun and what was acknowledged is written,
line by line, into files beside the home: written is enough, since a kill loses nothing of the system's cache.

Segments, packs and snapshots are made small, so that every point is passed within a second.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.crash.zygote import serve

from torpor.base import faults
from torpor.base.clock import SystemClock
from torpor.heartbeat import Heartbeat, Settings, heartbeat, rounds, snapshots
from torpor.heartbeat.log import Log
from torpor.heartbeat.reading import Reader
from torpor.heartbeat.restore import restore_agent
from torpor.heartbeat.retention import Pace, Upkeep
from torpor.home import Home
from torpor.stores.objects import open_objects
from torpor.workbook import Workbook, digest
from torpor.workbook.mark import this_boot

NAMES: Final = ("ada", "bea", "cyd")
SEGMENT: Final = 64 * 1024
PACE: Final = Pace(merge_packs=8, tail_packs=2, manifest_packs=3, manifest_s=0.1, retire_s=0.1)
TURNS: Final = 8


class SmallLog(Log):
    """A log with small segments."""

    @classmethod
    def open(cls, *args: Any, **more: Any) -> Any:
        return super().open(*args, **{**more, "segment_bytes": SEGMENT})


async def work_as_task(book: Workbook, text: str) -> None:
    """Append, by a transaction, what another task must not wait for."""
    async with book.transaction():
        book.write("workspace", "/task.bin", os.urandom(500))
        book.append("note.added", {"text": text})


def shrink() -> None:
    """Make what is large in service small."""
    heartbeat.Log = SmallLog  # type: ignore[attr-defined]
    rounds.LOG_KEEP_BYTES = SEGMENT  # type: ignore[attr-defined]
    snapshots.SNAPSHOT_INLINE_MAX = 24_000  # type: ignore[attr-defined]


class Killer:
    """Listens at the fault points, and dies at one, where it is armed."""

    def __init__(self, folder: Path, point: str, nth: int) -> None:
        self.folder = folder
        self.point = point
        self.left = nth
        self.armed = True
        self.reached: set[str] = set()
        self.order = threading.Lock()

    def hear(self, name: str) -> None:
        self.reached.add(name)
        if name != self.point or not (self.armed or threading.current_thread() is not threading.main_thread()):
            return
        with self.order:
            self.left -= 1
            if self.left == 0:
                (self.folder / "died").write_text(threading.current_thread().name)
                os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def safe(self) -> Iterator[None]:
        """Let what the main thread does be; the threads of the heartbeat may die all the same."""
        before, self.armed = self.armed, False
        try:
            yield
        finally:
            self.armed = before


class Session:
    """One child's life.

    Args:
        folder: where the home is, the replica, and what was said.
        number: which session it is.
        lone: one agent works, and no other thread of ours.
        killer: what ends it.

    """

    def __init__(self, folder: Path, number: int, killer: Killer, *, lone: bool) -> None:
        self.folder = folder
        self.number = number
        self.lone = lone
        self.killer = killer
        self.said = {
            what: os.open(folder / what, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for what in ("begun", "acked", "sent")
        }

    def say(self, what: str, name: str, text: str) -> None:
        os.write(self.said[what], f"{name} {text}\n".encode())

    def heard(self, what: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {name: [] for name in NAMES}
        for line in (self.folder / what).read_text().splitlines():
            name, _, text = line.partition(" ")
            found[name].append(text)
        return found

    def live(self) -> None:
        replica = self.folder / "replica"
        replica.mkdir(exist_ok=True)
        self.check_sent()
        settings = Settings(replica=replica.as_uri(), drill_s=0, beat_s=0.02, keep_s=0.2)
        with Home.open(self.folder / "home", durability="heartbeat", heartbeat=settings) as home:
            with self.killer.safe():
                self.check(home)
            threads = [
                threading.Thread(target=self.work, args=(home, name), name=f"worker {name}")
                for name in (NAMES[:1] if self.lone else NAMES)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.keep(home)
            self.settle(home)
        with self.killer.safe():
            self.check_sent()

    def keep(self, home: Home) -> None:
        """Have the replica kept, as its own thread would do it in a while."""
        beating = home.heartbeat
        assert beating is not None
        assert beating._replica is not None
        beating.flush()
        Upkeep(beating._replica, keep_s=0.2, pace=PACE).run(caught_up=True, whole=True)

    def settle(self, home: Home) -> None:
        for lane in beat_of(home)._roll.lanes():
            lane.settle()

    # --- what is checked ---

    def check(self, home: Home) -> None:
        """Insist that all that was acknowledged is there, nothing that was never begun, and that the replica agrees."""
        beating = beat_of(home)
        assert beating.recovered.quarantined == (), beating.recovered
        assert beating.recovered.damages == ()
        begun, acked = self.heard("begun"), self.heard("acked")
        there = {record.name for record in home.ledger.agents()}
        for name in NAMES:
            if name not in there:
                assert not acked[name]
                home.new(name)
                continue
            with home.using(name) as book:
                notes = notes_of(book)
                assert book.verify().problems == ()
            assert [text for text in notes if text in set(acked[name])] == acked[name], "acknowledged, and lost"
            assert notes == [text for text in begun[name] if text in set(notes)], "never begun, or out of order"
            self.check_tag(name, begun[name], notes)
        beating.flush()
        for name in there:
            self.check_replica(home, name)
        (self.folder / "died").unlink(missing_ok=True)
        (self.folder / "expected").unlink(missing_ok=True)

    def check_tag(self, name: str, begun: list[str], notes: list[str]) -> None:
        """Insist that the death of the lone worker has meant what the point's tag says."""
        said = self.folder / "expected"
        if not said.exists() or name != NAMES[0] or not begun:
            return
        died = self.folder / "died"
        acked = self.heard("acked")[name]
        if not died.exists() or not died.read_text().startswith("worker") or begun[-1] in acked:
            return
        session, point, tag = said.read_text().split()
        if begun[-1].partition(".")[0] != session:
            return  # it died before it had begun one: what is the last is an earlier death's, of whoever died then
        if tag == "before":
            assert begun[-1] not in notes, "not durable yet, and there"
        elif tag == "after":
            assert begun[-1] in notes, "durable, and gone"
        with (self.folder.parent / "asked").open("a") as file:
            file.write(f"{point}\n")

    def check_replica(self, home: Home, name: str) -> None:
        """Insist that the replica gives the agent as it lives."""
        record = home.ledger.agent(name)
        target = self.folder / f"{name}.restored"
        target.unlink(missing_ok=True)
        for _ in range(3):  # the next snapshot, of a life that has just begun, may be on its way
            given = restore_agent(self.reader(), record.id, str(target), clock=SystemClock())
            living = digest(home.path + "/" + record.file)
            if digest(target) == living:
                break
            beat_of(home).flush()
            target.unlink()
        assert target.exists(), f"{name} lives at {living[0].txn}, the replica has {given.txn}: {given.reason}"
        target.unlink()

    def reader(self) -> Reader:
        return Reader(open_objects((self.folder / "replica").as_uri(), str(self.folder)))

    def check_sent(self) -> None:
        """Insist that what was acknowledged as replicated is in the replica, whatever has become of the home."""
        if not (self.folder / "home").exists():
            return
        sent = self.heard("sent")
        for name, texts in sent.items():
            if not texts:
                continue
            target = self.folder / f"{name}.sent"
            target.unlink(missing_ok=True)
            with self.killer.safe():
                agent = (self.folder / f"id-{name}").read_text()
                restore_agent(self.reader(), agent, str(target), clock=SystemClock())
                with Workbook.open(target, readonly=True) as book:
                    assert set(texts) <= set(notes_of(book)), f"{name}: replicated, and not in the replica"
            target.unlink()

    # --- what is done ---

    def work(self, home: Home, name: str) -> None:
        self.note_id(home, name)
        for turn in range(TURNS):
            text = f"{self.number}.{turn}"
            kind = (turn + self.number) % 6
            with home.using(name) as book:
                if kind == 1:
                    book.write("workspace", f"/{turn}.bin", os.urandom(9000))
                    book.memory.remember(f"fact {text}", source=f"urn:{turn}")
                self.say("begun", name, text)
                if kind == 2:
                    with book.transaction():
                        book.write("workspace", "/same.bin", os.urandom(2000))
                        book.append("note.added", {"text": text})
                elif kind == 3 and not self.lone:
                    with book.transaction():
                        book._store.execute(f"CREATE TABLE IF NOT EXISTS mine{self.number} (a)")
                        book.append("note.added", {"text": text})
                elif kind == 5 and not self.lone:
                    asyncio.run(work_as_task(book, text))
                elif kind == 4:
                    book.append("note.added", {"text": text}, durability="replicated")
                    self.say("sent", name, text)
                else:
                    book.append("note.added", {"text": text})
                self.say("acked", name, text)
            if turn == 5:
                home.suspend(name)

    def note_id(self, home: Home, name: str) -> None:
        draft = self.folder / f"id-{name}-draft"
        draft.write_text(home.ledger.agent(name).id)
        draft.rename(self.folder / f"id-{name}")


def beat_of(home: Home) -> Heartbeat:
    assert home.heartbeat is not None
    return home.heartbeat


def notes_of(book: Workbook) -> list[str]:
    return [event.body["text"] for event in book.events() if event.kind == "note.added"]


def cut_power(home: Path) -> None:
    """Take from the files what was never synced, and make it another boot.

    Only of those with a mark: another's log is synced. And only after sessions without changes of a schema, with which
    a file's log is synced too.
    """
    for mark in (home / "agents").glob("*-mark"):
        mark.write_text(json.dumps({**json.loads(mark.read_text() or "{}"), "boot": f"not {this_boot()}"}))
        for tail in ("-wal", "-shm"):
            mark.with_name(mark.name.removesuffix("-mark") + tail).unlink(missing_ok=True)


def child(folder: str, number: int, point: str, nth: int, *, lone: bool) -> list[str]:
    """Live; returns the points that were reached, unless it dies."""
    place = Path(folder)
    killer = Killer(place, point, nth)
    shrink()
    faults.listen(killer.hear)
    Session(place, number, killer, lone=lone).live()
    return sorted(killer.reached)


if __name__ == "__main__":
    serve(child)
