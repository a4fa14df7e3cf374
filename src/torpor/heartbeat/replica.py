"""Writing a replica: one node at a time, and whoever was replaced finds out before it acknowledges anything.

**The fence.** The packs of the sequence `log/1, 2, 3 …` are created, never replaced: of all who create one number, one
is told that he did. A node knows the last number and creates the next; if that is taken, it looks whose pack is there.
Its own (the nonce says so): an answer had got lost. Another's: this node was replaced, is *fenced*, and acknowledges
nothing any more. No clock, no lease and no list decides anything.

A node begins with a **claim**: a pack without records. It finds the end of the sequence by a list and then by creating:
what is taken is passed over. Once its claim stands, whatever was before it is final, since everybody else's next number
is taken.

**Numbers are never used twice.** Old packs are removed some day, so a number could be free again. A node that slept
that long would go on right behind its own last pack, and there its successor's claim stands: *claims are never
removed*. A node that claims by a list that is that old could come to any number: so there is an object `floor`, which
has the base before anything is removed. A claim that isn't above it is void, and is made again behind it.

**In doubt.** A create that fails may have been done, or be done later. Until that is known, nothing else is created:
the very same bytes are tried again. A pack that was made once is so never followed by another of the same number.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import msgspec

from torpor.base import faults
from torpor.base.clock import Clock
from torpor.base.entropy import Entropy
from torpor.base.errors import (
    HeartbeatFenced,
    InternalError,
    ObjectMissing,
    ReplicaDamaged,
    ReplicaTaken,
    StoreUnreachable,
)
from torpor.heartbeat.catalog import PACKS, Catalog, log_key
from torpor.heartbeat.floor import read_floor
from torpor.heartbeat.packs import Base, Chunk, Head, Index, PackKind, Source, build, chunks_of
from torpor.heartbeat.reading import Reader
from torpor.heartbeat.records import Record
from torpor.stores.objects import Objects


class Claimed(msgspec.Struct, frozen=True):
    """A claim that stands.

    Attributes:
        number: the number of its pack.
        last_lsn: the highest number of a record in the replica.

    """

    number: int
    last_lsn: int


class _Pending(msgspec.Struct, frozen=True):
    """A pack that may be there."""

    key: str
    content: bytes
    index: Index


class Replica(Reader):
    """A home's replica, for the node that writes it. Safe to be used by many threads.

    Args:
        objects: the store, below the replica's URL.
        home: the id of the home.
        node: how people know this node.
        clock: for the times of packs without records.
        entropy: for the nonce.

    """

    def __init__(self, objects: Objects, *, home: str, node: str, clock: Clock, entropy: Entropy) -> None:
        super().__init__(objects)
        self.home = home
        self.nonce = entropy.token(16).hex()
        self.fenced: HeartbeatFenced | None = None
        self.number = 0
        """The number of this node's claim; 0 before it stands."""
        self.made = 0
        """How many merged packs were made under it."""
        self._node = node
        self.clock = clock
        self._entropy = entropy
        self._lock = threading.RLock()
        self._known = Catalog()
        self._pending: _Pending | None = None
        self._tried = False

    @classmethod
    def open(cls, objects: Objects, *, home: str, node: str, clock: Clock, entropy: Entropy) -> Replica:
        """Return the replica below a URL; nothing is asked yet, so it may not be there, and may be another home's."""
        return cls(objects, home=home, node=node, clock=clock, entropy=entropy)

    @property
    def shipped(self) -> int:
        """The highest number of a record that is surely in the replica."""
        return self._known.last_lsn

    @property
    def through(self) -> int:
        """The number of the last pack that is surely there."""
        return self._known.through

    @property
    def base(self) -> Base:
        """Which packs count."""
        return self._known.base

    def claim(self) -> Claimed:
        """Become the only node that writes this replica. May be called again, also after it failed.

        Raises:
            ReplicaTaken: it is another home's.
            HeartbeatFenced: this node had a claim, and was replaced: it must begin anew.
            ReplicaDamaged: what is there can't be read.
            StoreRefused: the store can't be used for this.
            StoreUnreachable, StorageFull: it is not known whether the claim stands; to be called again.

        """
        with self._lock:
            self._require_unfenced()
            if not self.number:
                if not self._tried:
                    self.objects.trial(f"trials/{self.nonce}-{self.token()}")  # a key of its own for each try
                    self._tried = True
                self.number = self._stand(self._known_now().through + 1)
                faults.point("replica.claimed")
            if self._known.through < self.number:
                self._known = self._known_now()
                self._require_newest()
            return Claimed(self.number, self._known.last_lsn)

    def ship(self, records: Sequence[Record]) -> int:
        """Put records into the replica, as one pack; those that are in it already are passed over.

        Args:
            records: in the order of their numbers.

        Returns:
            The number of the last pack.

        Raises:
            HeartbeatFenced: another node writes now; nothing of this was or will be taken.
            StoreUnreachable, StorageFull: it is not known whether they are in. To be called again, with these records
                or more of them.

        """
        with self._lock:
            self._finish()
            fresh = [record for record in records if record.lsn > self.shipped]
            if fresh:
                self._begin(PackKind.RECORDS, chunks_of(fresh))
                self._finish()
            return self._known.through

    def rebase(self, was: Base, base: Base) -> None:
        """Say which packs count from now on. Only once this returned, others may be removed.

        Args:
            was: from which this was made; call `finish` before you take it.
            base: names those that do.

        Raises:
            HeartbeatFenced, StoreUnreachable, StorageFull: as for `ship`.

        """
        with self._lock:
            self._finish()
            if self._known.base != was:
                raise InternalError(promise="one thread at a time says which packs count")
            self._begin(PackKind.BASE, (), base)
            self._finish()
        faults.point("replica.based")

    def token(self) -> str:
        """Return a few characters that no other key has."""
        return self._entropy.token(4).hex()

    def finish(self) -> None:
        """Find out about a pack that may or may not be there.

        Raises:
            HeartbeatFenced, StoreUnreachable, StorageFull: as for `ship`.

        """
        with self._lock:
            self._finish()

    def packing(self, kind: PackKind, number: int) -> Head:
        """Return the head of a pack without records, made now."""
        now = self.clock.now_us()
        claim = number if kind is PackKind.CLAIM else self.number
        return Head(kind, self.home, self.nonce, number, claim, 0, 0, now, now)

    def write_merged(self, chunks: Sequence[Chunk]) -> Source:
        """Put a pack that stands for others, under a key of its own. It counts for nothing until `rebase` names it.

        Raises:
            StoreUnreachable, StorageFull: it may not be there.

        """
        with self._lock:
            self.made += 1
            key = f"{PACKS}/{self.number:016x}-{self.made:08x}"
        pieces, index = build(self.packing(PackKind.MERGED, self.number), self._node, chunks)
        size = sum(map(len, pieces))
        self.objects.put(key, iter(pieces), size)
        if (found := self.objects.size(key)) != size:
            raise StoreUnreachable(place=self.objects.place(key), reason=f"{size:,} bytes were put, {found} are there")
        faults.point("replica.merged")
        head = index.head
        return Source(key, size, head.first_lsn, head.last_lsn, head.first_time, head.last_time)

    def _known_now(self) -> Catalog:
        known = msgspec.structs.replace(self.catalog(), pieces={})  # they would grow with every pack, and nobody asks
        if known.home and known.home != self.home:
            raise ReplicaTaken(place=self.url, home=known.home, own=self.home)
        return known

    def _stand(self, number: int) -> int:
        """Create a claim at a number or behind it, and return where it stands."""
        while True:
            key = log_key(number)
            pieces, _ = build(self.packing(PackKind.CLAIM, number), self._node, ())
            faults.point("replica.claiming")
            if self.objects.create(key, b"".join(pieces)) or self._is_own(key, number):
                if (floor := read_floor(self.objects)) < number:
                    return number
                number = floor
            number += 1

    def _is_own(self, key: str, number: int) -> bool:
        """Report whether the pack at a key is one that this node has made for it."""
        try:
            head = self.head(key)
        except ReplicaDamaged:
            return False
        return head.nonce == self.nonce and head.number == number

    def _require_newest(self) -> None:
        """Require the sequence to end with this node's claim: what is behind it is somebody else's."""
        if self._known.through > self.number:
            self._fence(log_key(self.number + 1))
        if self._known.through < self.number:
            self._known = Catalog()
            raise StoreUnreachable(place=self.url, reason=f"it doesn't show pack {self.number} yet")

    def _begin(self, kind: PackKind, chunks: Sequence[Chunk], base: Base | None = None) -> None:
        number = self._known.through + 1
        pieces, index = build(self.packing(kind, number), self._node, chunks, base)
        self._pending = _Pending(log_key(number), b"".join(pieces), index)

    def _finish(self) -> None:
        """Have the pack that was begun stand, or learn that it can't."""
        self._require_unfenced()
        if not self.number or self._known.through < self.number:
            raise StoreUnreachable(place=self.url, reason="this node has not claimed it yet")
        pending = self._pending
        if pending is None:
            return
        faults.point("replica.creating")
        number = pending.index.head.number
        if not self.objects.create(pending.key, pending.content) and not self._is_own(pending.key, number):
            self._fence(pending.key)
        faults.point("replica.created")
        self._known.follow(pending.index)
        self._pending = None

    def _fence(self, key: str) -> None:
        try:
            head = self.head(key)
            told = f"{log_key(head.claim)} is the claim of another node"
        except (ReplicaDamaged, ObjectMissing):
            told = f"{key} is another node's"
        self.fenced = HeartbeatFenced(place=self.url, reason=told)
        raise self.fenced

    def _require_unfenced(self) -> None:
        if self.fenced is not None:
            raise self.fenced
