"""What the tests of the replica share: records, a store that counts and fails when told, and workbooks with a log."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from tests.unit.workbook.kit import NOW, SetClock

from torpor.base.errors import HeartbeatReleased, StoreUnreachable
from torpor.heartbeat.packs import Base
from torpor.heartbeat.reading import Reader
from torpor.heartbeat.records import Kind, Record, encoded_size
from torpor.heartbeat.replica import Replica
from torpor.heartbeat.restore import Point, read_agent
from torpor.heartbeat.snapshots import SnapshotAt
from torpor.stores.objects import Objects, Tail, open_objects
from torpor.stores.shelves import Found
from torpor.testing.chance import Seeded
from torpor.workbook import Durability, Level, Standing, Workbook, snapshot

HOME = "00000000-0000-7000-8000-00000000aaaa"
SECOND = 1_000_000


def agent(number: int) -> str:
    return f"00000000-0000-7000-8000-{number:012x}"


_numbers = itertools.count(1)
ADA, BOB, EVE = agent(1), agent(2), agent(3)


def record(  # noqa: PLR0913
    lsn: int,
    whose: str = ADA,
    kind: Kind = Kind.COMMIT,
    *,
    life: int = 1,
    txn: int = 0,
    payload: bytes = b"payload",
    at: int | None = None,
) -> Record:
    when = NOW + lsn * SECOND if at is None else at
    return Record(lsn=lsn, group=lsn, agent=whose, life=life, txn=txn, time=when, kind=kind, payload=payload)


def placed(key: str) -> bytes:
    """Return the payload of a snapshot that is elsewhere, with nothing there."""
    return msgspec.msgpack.encode(SnapshotAt(key, "0" * 64, 1, 1))


class Watched(Objects):
    """Real objects; what is done to them is counted, and fails where a test says so.

    Attributes:
        calls: each call: its name, the key, and the bytes.
        harm: is called with the name of the call and the key, before it; what it raises is raised.
        lost: likewise, after it: what it raises hides that it was done.

    """

    def __init__(self, objects: Objects) -> None:
        super().__init__(objects._shelf)
        self.calls: list[tuple[str, str, int]] = []
        self.harm: Callable[[str, str], None] = nothing
        self.lost: Callable[[str, str], None] = nothing
        self.hidden: set[str] = set()
        """Keys that lists don't show."""

    def create(self, key: str, content: bytes | memoryview) -> bool:
        self.harm("create", key)
        self.calls.append(("create", key, len(content)))
        done = super().create(key, content)
        self.lost("create", key)
        return done

    def put(self, key: str, pieces: Iterator[bytes | memoryview], size: int) -> None:
        self.harm("put", key)
        self.calls.append(("put", key, size))
        super().put(key, pieces, size)
        self.lost("put", key)

    def read(self, key: str, start: int, end: int) -> bytes:
        self.harm("read", key)
        self.calls.append(("read", key, end - start))
        return super().read(key, start, end)

    def tail(self, key: str, size: int) -> Tail:
        self.harm("tail", key)
        return super().tail(key, size)

    def size(self, key: str) -> int | None:
        self.harm("size", key)
        self.calls.append(("size", key, 0))
        return super().size(key)

    def list(self, folder: str, *, after: str = "") -> Iterator[Found]:
        self.harm("list", folder)
        self.calls.append(("list", folder, 0))
        yield from (found for found in super().list(folder, after=after) if found.key not in self.hidden)

    def delete(self, key: str) -> bool:
        self.harm("delete", key)
        self.calls.append(("delete", key, 0))
        done = super().delete(key)
        self.lost("delete", key)
        return done

    def keys(self, folder: str) -> Sequence[str]:
        return [found.key for found in Objects.list(self, folder)]

    def content(self, key: str) -> bytes:
        return Objects.read(self, key, 0, Objects.size(self, key) or 0)

    def overwrite(self, key: str, content: bytes) -> None:
        Objects.put(self, key, (piece for piece in (content,)), len(content))


def nothing(_: str, __: str) -> None:
    """Do no harm."""


def unreachable(*names: str) -> Callable[[str, str], None]:
    """Return a harm that lets calls of these names fail; all, where none is given."""

    def harm(name: str, key: str) -> None:
        if not names or name in names:
            raise StoreUnreachable(place=key, reason="the test says so")

    return harm


def objects_in(folder: Path) -> Watched:
    folder.mkdir(exist_ok=True)
    return Watched(open_objects(folder.as_uri(), str(folder)))


def objects_in_memory() -> Watched:
    """Return objects that cost no syncs: for tests that make many replicas."""
    return Watched(open_objects(f"memory://kit-{next(_numbers)}", "/nowhere"))


def node(objects: Objects, seed: int = 1, *, home: str = HOME, clock: SetClock | None = None) -> Replica:
    """Return a node that has not claimed yet."""
    return Replica.open(objects, home=home, node=f"node {seed}", clock=clock or SetClock(), entropy=Seeded(seed))


def claimed(objects: Objects, seed: int = 1, *, clock: SetClock | None = None) -> Replica:
    replica = node(objects, seed, clock=clock)
    replica.claim()
    return replica


def story(objects: Objects, whose: str = ADA, at: Point | None = None) -> list[tuple[int, Kind, bytes]]:
    """Return what a reader makes of an agent: snapshot and commits, as txn, kind and payload."""
    found = read_agent(Reader(objects), whose, at or Point())
    return [(one.txn, one.kind, one.payload) for one in (found.snapshot, *found.commits)]


def last_pack(objects: Watched) -> str:
    return objects.keys("log")[-1]


def base_of(objects: Objects) -> Base:
    return Reader(objects).catalog().base


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]


class MemoryLog:
    """A log without a disk: what a shipper needs of one, and the seam that workbooks commit through."""

    level = Level.DURABLE
    reach = Level.REPLICATED

    def __init__(self, clock: SetClock, folder: str = "/nowhere", begin: int = 0) -> None:
        self.folder = folder
        self.records: list[Record] = []
        self._clock = clock
        self._begin = begin

    @property
    def durable(self) -> int:
        return self.records[-1].lsn if self.records else self._begin

    @property
    def first(self) -> int:
        return self.records[0].lsn if self.records else self._begin + 1

    def read(self, after: int, limit_bytes: int) -> list[Record]:
        if after + 1 < self.first:
            raise HeartbeatReleased(path=self.folder, asked=after + 1, first=self.first)
        found: list[Record] = []
        taken = 0
        for one in self.records:
            if one.lsn <= after:
                continue
            taken += encoded_size(len(one.payload))
            if found and taken > limit_bytes:
                break
            found.append(one)
        return found

    def release(self, lsn: int) -> None:
        self._begin = self.durable
        self.records = [one for one in self.records if one.lsn > lsn]

    def add(self, whose: str, life: int, txn: int, kind: Kind, payload: bytes) -> int:
        lsn = self.durable + 1
        self._clock.now += 1000
        self.records.append(record(lsn, whose, kind, life=life or lsn, txn=txn, payload=payload, at=self._clock.now))
        return lsn

    def join(self, member: Any) -> Lane:
        return Lane(self, member.standing())


class Lane:
    """What one workbook adds to a `MemoryLog`."""

    failed = None

    def __init__(self, log: MemoryLog, standing: Standing) -> None:
        self._log = log
        self.agent = standing.agent
        self.life = log.add(standing.agent, 0, standing.txn, Kind.LIFE, msgspec.msgpack.encode(standing))

    def add(self, txn: int, head: bytes, payload: bytes) -> Lane:  # noqa: ARG002  (the seam's)
        self._log.add(self.agent, self.life, txn, Kind.COMMIT, payload)
        return self

    def broken(self, txn: int, head: bytes) -> Lane:  # noqa: ARG002  (the seam's)
        raise AssertionError("no test changes a schema")

    def settled(self, txn: int) -> None:
        """Note nothing."""

    def leave(self, standing: Standing | None) -> None:
        """Note nothing."""

    def wait(self, level: Level) -> None:
        """Wait for nothing: all is in memory."""

    async def arrive(self, level: Level) -> None:
        """Wait for nothing either."""


def opened(path: Path, log: MemoryLog, clock: SetClock) -> Workbook:
    return Workbook.open(path, clock=clock, durability=Durability("heartbeat", "NORMAL", log=log))


def scratch_copy(path: Path) -> tuple[Path, Standing]:
    """Take a snapshot beside a workbook."""
    target = path.with_name(f"{path.name}-scratch-{os.urandom(4).hex()}")
    return target, snapshot(str(path), str(target))


def ship_each(replica: Replica, *records: Sequence[Record]) -> None:
    """Ship each sequence as a pack of its own."""
    for some in records:
        replica.ship(some)
