"""Several workbooks and the log that they share, recorded on one tape; and what may be found of them after a cut.

One tape has everything in one order: the workbooks and their logs, the segments, the index, the marks. Folders are
told apart: a sync of one makes no name in another certain. The oracle is a plain table: what each workbook held after
each of its transactions, as a digest that was taken while the commit was under way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import apsw
import msgspec
from tests.unit.workbook.kit import TickingClock

from torpor.base.entropy import SystemEntropy
from torpor.base.errors import TorporError
from torpor.base.limits import MIB
from torpor.heartbeat.disk import Disk
from torpor.heartbeat.index import Index
from torpor.heartbeat.keeper import Keeper
from torpor.heartbeat.lanes import LaneTicket, OpenLane
from torpor.heartbeat.log import Log
from torpor.heartbeat.recovery import Recovered, Recovery
from torpor.heartbeat.replica import Replica
from torpor.heartbeat.roll import Roll
from torpor.heartbeat.rounds import News, Rounds
from torpor.heartbeat.shipping import Lag, Shipper
from torpor.heartbeat.snapping import Snapper
from torpor.stores.objects import open_objects
from torpor.testing import Image, PowerVFS, Seeded, Tape
from torpor.testing.logdisk import TapedDisk
from torpor.testing.power import FolderSynced
from torpor.workbook import Durability, Joining, Level, Standing, Workbook, digest
from torpor.workbook.mark import Mark

HOME: Final = "0198b7a0-0000-7000-8000-00000000c0de"
SEGMENT: Final = 32 * 1024
BACKLOG: Final = 2 * SEGMENT
"""Bytes of log from which on workbooks are settled, doubled."""

AGENTS: Final = "agents"
HEARTBEAT: Final = "heartbeat"
NAMES: Final = ("ada", "bea", "cyd")


class HomeTape(Tape):
    """A tape of the folders of a home."""

    root = ""
    """The home's folder; what is elsewhere, and the scratch folder, isn't taped."""

    @classmethod
    def at(cls, root: Path) -> HomeTape:
        tape = cls()
        tape.root = str(root)
        return tape

    def name_of(self, path: str) -> str | None:
        name = os.path.relpath(path, self.root)
        return None if name.startswith((".", f"{HEARTBEAT}/scratch")) else name

    def synced_folder(self, path: str) -> None:
        if self.name_of(path) is not None:
            self.ops.append(FolderSynced(os.path.relpath(path, self.root)))


def workbook(folder: Path, name: str) -> Path:
    return folder / AGENTS / f"{name}.workbook"


class Agents:
    """Who is where: a `Roster`."""

    def __init__(self, folder: Path, ids: dict[str, str]) -> None:
        self.folder = folder
        self.ids = ids
        """The name of each agent, by id."""

    def path(self, agent: str) -> str | None:
        name = self.ids.get(agent)
        path = workbook(self.folder, name) if name else None
        return str(path) if path is not None and path.exists() else None

    def all(self) -> Iterator[tuple[str, str]]:
        for agent in self.ids:
            if (path := self.path(agent)) is not None:
                yield agent, path

    def marked(self) -> Iterator[tuple[str, str]]:
        return ((agent, path) for agent, path in self.all() if Path(f"{path}-mark").exists())

    def changes(self, since: bytes | None) -> News | None:
        return None if since else News(b"told", msgspec.msgpack.encode([]))


class PairDisk(TapedDisk):
    """The log's disk, where the calls of `os` are taped already."""

    sync_all = Disk.sync_all
    rename = Disk.rename
    remove = Disk.remove
    sync_folder = Disk.sync_folder


class Heart:
    """Log, roll and keeper of a folder, after a recovery, without a thread: a heartbeat that beats when it is told."""

    def __init__(self, folder: Path, agents: Agents, tape: Tape | None = None, replica: Replica | None = None) -> None:
        path = str(folder / HEARTBEAT)
        (folder / HEARTBEAT / "scratch").mkdir(parents=True, exist_ok=True)
        more = {} if tape is None else {"disk": PairDisk(tape, path)}
        clock = TickingClock()
        with ExitStack() as undo:
            self.log = Log.open(path, HOME, clock, segment_bytes=SEGMENT, **more)  # type: ignore[arg-type]
            undo.callback(self.log.close)
            self.index = Index.open(f"{path}/index.db")
            undo.callback(self.index.close)
            self.recovered: Recovered = Recovery(self.log, self.index, agents.path, clock, marked=agents.marked()).run()
            self.shipper = None if replica is None else HandShipper(self.log, replica)
            self.roll = Roll(self.log, self.index)
            snapper = Snapper(path, self.roll, replica)
            self.rounds = Rounds(
                self.roll,
                agents,
                snapper,
                shipper=self.shipper,
                backlog_max=BACKLOG if replica is None else 64 * BACKLOG,
            )
            self.keeper = Keeper(
                str(folder), self.roll, snapper, self.rounds, level=Level.DURABLE, replica=replica, shipper=self.shipper
            )
            self._end = undo.pop_all()

    def close(self) -> None:
        with self._end:
            self.roll.flush()


class HandShipper(Shipper):
    """Ships when it is told to, in the thread that tells it."""

    def __init__(self, log: Log, replica: Replica) -> None:
        self._source = log
        self._to = replica
        self.sent = replica.claim().last_lsn
        assert self.sent <= log.durable, "what was shipped is durable here"

    def ship(self) -> None:
        while found := self._source.read(self.sent, MIB):
            self._to.ship(found)
            self.sent = found[-1].lsn

    def wait(self, lsn: int, timeout_s: float) -> None:  # noqa: ARG002  (as the real one's)
        self.ship()
        assert self.sent >= lsn

    @property
    def stuck(self) -> int:
        return 0

    def lag(self) -> Lag:
        return Lag("shipping", self.sent, self._source.durable, 0, 0, 0.0, "", 0, 0, 0, "")


class Spy:
    """The log of a home as its workbooks see it; each commit is entered into the oracle before the log has it."""

    def __init__(self, keeper: Keeper, saw: Callable[[str, int], None]) -> None:
        self._keeper = keeper
        self._saw = saw
        self.level, self.reach, self.folder = keeper.level, keeper.reach, keeper.folder

    def join(self, member: Joining) -> SpyLane:
        return SpyLane(self._keeper.join(member), member.path, self._saw)


class SpyLane:
    """One workbook's lane, and who looks on."""

    def __init__(self, lane: OpenLane, path: str, saw: Callable[[str, int], None]) -> None:
        self.lane = lane
        self._path = path
        self._saw = saw

    @property
    def failed(self) -> TorporError | None:
        return self.lane.failed

    def add(self, txn: int, head: bytes, payload: bytes) -> LaneTicket:
        self._saw(self._path, txn)
        return self.lane.add(txn, head, payload)

    def broken(self, txn: int, head: bytes) -> LaneTicket:
        self._saw(self._path, txn)
        return self.lane.broken(txn, head)

    def settled(self, txn: int) -> None:
        self.lane.settled(txn)

    def leave(self, standing: Standing | None) -> None:
        self.lane.leave(standing)


@contextmanager
def taped(tape: Tape) -> Iterator[None]:
    """Have everything that SQLite does in this process go through the tape's file layer."""
    with PowerVFS("pair", tape):
        before = apsw.vfs_names()[0]
        apsw.set_default_vfs("pair")
        try:
            yield
        finally:
            apsw.set_default_vfs(before)


@dataclass
class Pair:
    """A recorded workload, and its oracle."""

    folder: Path
    tape: Tape
    ids: dict[str, str] = field(default_factory=dict)
    states: dict[str, dict[int, str]] = field(default_factory=dict)
    """By name and transaction: the digest."""
    after: list[dict[str, int]] = field(default_factory=list)
    """By step: each workbook's last transaction then."""
    shipped: list[tuple[int, set[str]]] = field(default_factory=list)
    """When, in operations of the tape, which objects were in the replica."""
    lacking: int = 0
    """How many transactions the recoveries had to apply."""
    again: bool = True
    """Whether images are recovered twice."""

    def saw(self, path: str, txn: int) -> None:
        name = Path(path).stem
        standing, found = digest(path)
        assert standing.txn == txn
        self.ids[standing.agent] = name
        self.states.setdefault(name, {})[txn] = found

    def floor(self, image: Image, name: str) -> int:
        return self.after[image.acknowledged].get(name, -1) if image.acknowledged >= 0 else -1

    def litter(self, folder: Path, chance: Seeded) -> None:
        (folder / HEARTBEAT).mkdir(exist_ok=True)
        (folder / AGENTS).mkdir(exist_ok=True)
        places = [folder / HEARTBEAT / "index.db", *(workbook(folder, name) for name in NAMES)]
        for path in places:
            if chance.below(2):
                path.with_name(f"{path.name}-shm").write_bytes(chance.token(32768))
        for mark in (folder / AGENTS).glob("*-mark"):
            # Its content is synced with its name, or it counts as none: the tape knows the name only.
            mark.write_bytes(msgspec.json.encode(Mark("an earlier boot", str(folder))))

    def fault(self, image: Image, folder: Path) -> str | None:
        try:
            return self.wrong(image, folder)
        except (TorporError, AssertionError) as error:
            return f"{type(error).__name__}: {str(error)[:300]}"

    def wrong(self, image: Image, folder: Path) -> str | None:
        agents = Agents(folder, self.ids)
        found: dict[str, tuple[int, str]] = {}
        for turn in range(2 if self.again else 1):
            heart = Heart(folder, agents)
            heart.close()
            if heart.recovered.quarantined:
                return f"quarantined: {heart.recovered.quarantined[0].reason}"
            if turn and heart.recovered.applied:
                return "the second recovery found something to do"
            self.lacking += heart.recovered.applied
            before, found = found, self.look(folder)
            if turn and before != found:
                return f"the second recovery changed {before} to {found}"
        return self.differs(image, found)

    def objects(self, image: Image) -> set[str]:
        """Return what was in the replica when the power was cut."""
        return next((objects for at, objects in reversed(self.shipped) if at <= image.at), set())

    def look(self, folder: Path) -> dict[str, tuple[int, str]]:
        found = {}
        for name in NAMES:
            if workbook(folder, name).exists():
                standing, content = digest(workbook(folder, name))
                found[name] = (standing.txn, content)
        return found

    def differs(self, image: Image, found: dict[str, tuple[int, str]]) -> str | None:
        last = self.after[min(image.begun, len(self.after) - 1)] if image.begun >= 0 else {}
        for name in NAMES:
            floor = self.floor(image, name)
            if name not in found:
                if floor >= 0:
                    return f"{name} is gone"
                continue
            txn, content = found[name]
            if not max(0, floor) <= txn <= last.get(name, -1):
                return f"{name} has {txn} transactions of {floor}..{last.get(name, -1)}"
            if self.states[name][txn] != content:
                return f"{name} isn't what it was after transaction {txn}"
        return None


def replica_at(folder: Path) -> Replica:
    """Return the replica in a folder."""
    folder.mkdir(exist_ok=True)
    objects = open_objects(folder.as_uri(), str(folder.parent))
    return Replica.open(objects, home=HOME, node="test", clock=TickingClock(), entropy=SystemEntropy())


class Desk:
    """The workload's hands: open workbooks, and steps upon them.

    Args:
        pair: what is recorded.
        replica: the folder that records are shipped to, if any.

    """

    def __init__(self, pair: Pair, replica: Path | None = None) -> None:
        self.pair = pair
        self.books: dict[str, Workbook] = {}
        self.replica = replica
        self.clock = TickingClock()
        self.start()

    def start(self) -> None:
        pair = self.pair
        replica = replica_at(self.replica) if self.replica else None
        self.heart = Heart(pair.folder, Agents(pair.folder, pair.ids), pair.tape, replica)

    def ship(self) -> None:
        assert self.replica is not None
        assert self.heart.shipper is not None
        self.heart.shipper.ship()
        found = {path.relative_to(self.replica).as_posix() for path in self.replica.rglob("*") if path.is_file()}
        self.pair.shipped.append((len(self.pair.tape.ops), found))

    def step(self, act: Callable[[Desk], object]) -> None:
        pair = self.pair
        number = len(pair.after)
        pair.tape.begun(number)
        act(self)
        known = {name: max(states) for name, states in pair.states.items()}
        pair.after.append(known)
        pair.tape.acknowledged(number)

    def book(self, name: str) -> Workbook:
        if name not in self.books:
            spy = Spy(self.heart.keeper, self.pair.saw)
            path = workbook(self.pair.folder, name)
            durability = Durability("heartbeat", "NORMAL", log=spy)
            self.books[name] = Workbook.open(path, durability=durability, clock=self.clock)
            self.pair.saw(str(path), digest(path)[0].txn)
        return self.books[name]

    def leave(self, name: str) -> None:
        if name in self.books:
            self.books.pop(name).close()

    def end(self) -> None:
        for name in list(self.books):
            self.leave(name)
        self.heart.close()
