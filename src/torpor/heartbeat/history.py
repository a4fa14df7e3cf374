"""What leads to an agent's state: a snapshot, and the commits that follow it in one life, numbered without a gap.

The newest state needs the blocks that the catalog names. For an earlier moment the packs are looked through from the
newest back, until there is a snapshot before that moment and everything after it:

- commits stand in the order of their transactions, but a snapshot may stand behind commits that it doesn't have. So
  what follows a snapshot at transaction T is only surely complete where a commit up to T, or the beginning of the
  life, was seen before it.

What can't be reached is never made up. Where a life has no snapshot in the replica, or a commit is missing between, or
damaged, the newest state is given that is whole, and it is said what it lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from torpor.base.errors import ObjectMissing, ReplicaDamaged, ReplicaLacks
from torpor.heartbeat.catalog import Catalog, Piece
from torpor.heartbeat.packs import Block
from torpor.heartbeat.reading import TRIES, Reader
from torpor.heartbeat.records import Kind, Record
from torpor.workbook import Standing

_SNAPSHOTS: Final = (Kind.SNAPSHOT, Kind.SNAPSHOT_AT)
_COMMITS: Final = (Kind.COMMIT, Kind.LEDGER)

_standing: Final = msgspec.msgpack.Decoder(Standing).decode


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A moment in an agent's past; without any field it is now.

    Attributes:
        time: µs: after the last commit that was made by then.
        seq: after the commit that appended this event.
        txn: after this transaction.

    """

    time: int | None = None
    seq: int | None = None
    txn: int | None = None

    def __str__(self) -> str:
        told = ((name, getattr(self, name)) for name in ("time", "seq", "txn"))
        return ", ".join(f"{name} {value}" for name, value in told if value is not None) or "now"


NOW: Final = Point()


class History(msgspec.Struct, frozen=True):
    """What leads to a state of an agent.

    Attributes:
        agent: whose.
        life: in which life.
        snapshot: the record of the snapshot to begin with.
        commits: what follows it, without a gap.
        reason: what is missing of what there was up to the moment; "" where nothing is.
        newer: where the workbook stood when a newer life began of which there is nothing else.
        bytes: bytes of blocks that were read for it.

    """

    agent: str
    life: int
    snapshot: Record
    commits: tuple[Record, ...]
    reason: str
    newer: Standing | None
    bytes: int

    @property
    def txn(self) -> int:
        """The transaction that it leads to."""
        return self.commits[-1].txn if self.commits else self.snapshot.txn

    @property
    def time(self) -> int:
        """µs, of its last record."""
        return self.commits[-1].time if self.commits else self.snapshot.time


def read_agent(reader: Reader, agent: str, at: Point = NOW, *, catalog: Catalog | None = None) -> History:
    """Return what leads to a state of an agent.

    Raises:
        ReplicaLacks: the replica doesn't have the agent, or not at that moment.
        ReplicaDamaged: what it needs is damaged.
        ObjectMissing: what it needs is removed again and again while it is read.
        StoreUnreachable: the replica can't be read now.

    """
    catalog = catalog if catalog is not None else reader.catalog()
    pieces = catalog.pieces.get(agent, [])
    if at == NOW and pieces and pieces[-1].block.has(Kind.GONE):
        raise ReplicaLacks(place=reader.url, agent=agent, reason="it was deleted")
    seen = _Seen(reader, agent, at)
    with suppress(ReplicaDamaged, ObjectMissing):  # what stands before it in the replica may do instead
        seen.take(pieces)
        found = seen.history(_is_newest)
        if found is not None:
            return found
    for _ in range(TRIES - 1):
        with suppress(ObjectMissing):  # it was retired while it was read
            return _search(reader, reader.catalog(), agent, at)
    return _search(reader, reader.catalog(), agent, at)


def _search(reader: Reader, catalog: Catalog, agent: str, at: Point) -> History:
    """Look through the packs, the newest first."""
    seen = _Seen(reader, agent, at)
    for key, index in reader.newest_first(catalog, until=at.time):
        pieces = [
            Piece(key, block)
            for block in index.blocks
            if block.agent == agent and (at.time is None or block.first_time <= at.time)
        ]
        if pieces:
            seen.take_what_is_whole(pieces)
            found = seen.history(_begins)
            if found is not None:
                return found
    found = seen.history(_anything)
    if found is not None:
        return found
    if seen.damage is not None:
        raise seen.damage
    reason = f"it has no snapshot from which {at} can be reached" if seen.records else "it has nothing of it by then"
    raise ReplicaLacks(place=reader.url, agent=agent, reason=reason)


Surely = Callable[[Sequence[Record], Record], bool]
"""Says of all records that were read whether they surely have everything that follows a snapshot in its life."""


class _Seen:
    """Records of an agent that were read so far: all from some number on."""

    def __init__(self, reader: Reader, agent: str, at: Point) -> None:
        self._reader = reader
        self._agent = agent
        self._at = at
        self._bytes = 0
        self._damaged: list[Block] = []
        self.records: list[Record] = []
        self.damage: ReplicaDamaged | None = None

    def take(self, pieces: Sequence[Piece]) -> None:
        """Read blocks that stand before those taken so far.

        Raises:
            ReplicaDamaged: one is damaged.

        """
        self.records = [*self._reader.records(pieces), *self.records]
        self._bytes += sum(piece.block.length for piece in pieces)

    def take_what_is_whole(self, pieces: Sequence[Piece]) -> None:
        """Read blocks likewise; those that are damaged are passed over, and that is remembered."""
        try:
            self.take(pieces)
        except ReplicaDamaged:
            for piece in sorted(pieces, key=lambda piece: piece.block.first_lsn, reverse=True):
                try:
                    self.take([piece])
                except ReplicaDamaged as error:
                    self.damage = self.damage or error
                    self._damaged.append(piece.block)

    def history(self, surely: Surely) -> History | None:
        """Return what leads to the moment, if that is certain by now."""
        records = self._until()
        missed = ""
        newer: Standing | None = None
        for life in sorted({record.life for record in records}, reverse=True):
            own = [record for record in records if record.life == life]
            if any(record.kind is Kind.GONE for record in own):
                return None  # what was deleted doesn't come back because what followed can't
            found = self._of_life(own)
            if found is not None:
                if not surely(self.records, found.snapshot):
                    return None
                reason = missed or self._lost(found) or found.reason
                return msgspec.structs.replace(found, reason=reason, newer=newer)
            begun = next((record for record in own if record.kind is Kind.LIFE), None)
            if begun is None and surely is not _anything:
                return None  # its snapshot may come
            if any(record.kind in _COMMITS for record in own):
                missed = missed or f"its life {life} can't be restored: the replica has no snapshot of it"
            elif begun is not None and newer is None:
                newer = _standing_of(begun)
        return None

    def _until(self) -> list[Record]:
        """Return the records up to the moment; none where that isn't among them."""
        at = self._at
        if at.time is not None:
            last = max((record.lsn for record in self.records if record.time <= at.time), default=0)
            return [record for record in self.records if record.lsn <= last]
        if at == NOW:
            return self.records
        found = [record for record in self.records if _reaches(record, at)]
        if not found:
            return []
        end = max(found, key=lambda record: (record.life, record.kind in _COMMITS))
        return [
            record
            for record in self.records
            if record.life < end.life or (record.life == end.life and record.txn <= end.txn)
        ]

    def _lost(self, found: History) -> str:
        """Return what damage has cost this state, in words; "" where it has cost nothing."""
        end = (found.life, found.txn)
        lost = any((block.life, max(block.last_txn, block.snapshot)) > end for block in self._damaged)
        return self.damage.message if lost and self.damage is not None else ""

    def _of_life(self, records: list[Record]) -> History | None:
        """Return the newest whole state of one life."""
        commits = {record.txn: record for record in records if record.kind in _COMMITS}
        best: tuple[int, int] | None = None
        chosen: Record | None = None
        for record in records:
            if record.kind in _SNAPSHOTS:
                end = record.txn
                while end + 1 in commits:
                    end += 1
                if best is None or (end, record.txn) >= best:
                    best, chosen = (end, record.txn), record
        if best is None or chosen is None:
            return None
        end, begin = best
        gap = bool(commits) and max(commits) > end
        return History(
            agent=self._agent,
            life=chosen.life,
            snapshot=chosen,
            commits=tuple(commits[txn] for txn in range(begin + 1, end + 1)),
            reason=f"transaction {end + 1} is missing, and no snapshot stands behind it" if gap else "",
            newer=None,
            bytes=self._bytes,
        )


def _begins(records: Sequence[Record], snapshot: Record) -> bool:
    """Report it for records of which the earlier are not known: they reach back to what the snapshot has."""
    return any(
        record.kind is Kind.LIFE or (record.kind in _COMMITS and record.txn <= snapshot.txn)
        for record in records
        if record.life == snapshot.life
    )


def _is_newest(records: Sequence[Record], snapshot: Record) -> bool:
    """Report it for the records that the newest snapshot needs: it is this one."""
    return all(record.lsn <= snapshot.lsn for record in records if record.kind in _SNAPSHOTS)


def _anything(records: Sequence[Record], snapshot: Record) -> bool:
    """Report it for all the records that there are."""
    return bool(records) and snapshot.lsn > 0


def _reaches(record: Record, at: Point) -> bool:
    """Report whether a record leads to a transaction or an event."""
    if at.txn is not None:
        return record.txn == at.txn and record.kind in (*_COMMITS, *_SNAPSHOTS)
    return at.seq is not None and _appends(record, at.seq)


def _standing_of(begun: Record) -> Standing | None:
    """Return where the workbook stood when a life began."""
    try:
        return _standing(begun.payload)
    except msgspec.MsgspecError:
        return None


def _appends(record: Record, seq: int) -> bool:
    """Report whether a commit appended an event."""
    if record.kind is not Kind.COMMIT:
        return False
    numbers = [row[0] for row in msgspec.msgpack.decode(record.payload)[0]]
    return bool(numbers) and numbers[0] <= seq <= numbers[-1]
