"""The fold of a replica: which agents it has, and where what is needed of each is.

A catalog follows from the packs alone, read in order: each block is added behind those that its agent has, and what
nobody needs any more for the agent's newest state goes:

- a snapshot at transaction T lets the blocks go that bring nothing after T in its life, and those of earlier lives. Not
  all that stand before it: a snapshot is taken beside the writer, so the commit T + 1 may be in the log before it;
  For the same reason one that comes behind a newer snapshot lets nothing go;
- an agent's end lets everything go but itself.

When packs were merged (`Base`), what pointed into the old ones is pointed to the blocks of the new that have the same
records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from torpor.base.errors import ReplicaDamaged
from torpor.heartbeat.packs import NO_SNAPSHOT, Base, Block, Index, PackKind, Source
from torpor.heartbeat.records import Kind

LOG = "log"
PACKS = "packs"


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """A block, and the key of the pack that it is in."""

    pack: str
    block: Block


class Kept(msgspec.Struct, frozen=True):
    """What a replica has of one agent, for those who only want to know.

    Attributes:
        life: its newest life.
        txn: the newest transaction of it that is in the replica.
        snapshot: the transaction of the newest snapshot; -1 where there is none.
        last_time: µs, of the newest record.
        gone: whether it was deleted.
        blocks: how many are read to restore it.
        bytes: how many bytes these have, without snapshots that are objects of their own.

    """

    life: int
    txn: int
    snapshot: int
    last_time: int
    gone: bool
    blocks: int
    bytes: int


class Catalog(msgspec.Struct, array_like=True):
    """What a replica holds, through one pack of its sequence.

    Attributes:
        home: the id of the home that it is of; "" where nothing is known yet.
        through: the number of the last pack that is in here; 0 where there is none.
        last_lsn: the highest number of a record in the replica.
        last_time: µs, of the newest record.
        base: which packs count besides those of the sequence.
        claims: the numbers of claims after the base.
        pieces: by agent, the blocks that its newest state needs, in order.

    """

    home: str = ""
    through: int = 0
    last_lsn: int = 0
    last_time: int = 0
    base: Base = Base()
    claims: list[int] = []
    pieces: dict[str, list[Piece]] = {}

    def add(self, key: str, index: Index, read: Callable[[Source], Index]) -> None:
        """Take in the next pack of the sequence.

        Args:
            key: its key.
            index: its index.
            read: reads the index of a merged pack, where this one says that packs were merged.

        """
        if self.home and index.head.home != self.home:
            reason = f"it is of the home {index.head.home}, and those before it of {self.home}"
            raise ReplicaDamaged(place=key, offset=0, reason=reason)
        if index.head.number != self.through + 1 or key != log_key(index.head.number):
            reason = f"it says that it is number {index.head.number}, and {self.through + 1} is next"
            raise ReplicaDamaged(place=key, offset=0, reason=reason)
        self.add_blocks(key, index.blocks)
        if index.base is not None:
            self._point_anew(index.base, read)
        self.follow(index)

    def follow(self, index: Index) -> None:
        """Take in what the next pack of the sequence says, but for where each agent's blocks are."""
        self.home = index.head.home
        self.through = index.head.number
        if index.blocks:
            self.last_lsn = max(self.last_lsn, index.head.last_lsn)
            self.last_time = max(self.last_time, index.head.last_time)
        if index.head.kind is PackKind.CLAIM:
            self.claims.append(index.head.number)
        if index.base is not None:
            self.base = index.base
            self.claims = [number for number in self.claims if number > index.base.number]

    def add_blocks(self, key: str, blocks: Iterable[Block]) -> None:
        """Take in the blocks of a pack, whichever kind it is."""
        for block in blocks:
            self.pieces[block.agent] = [*still_needed(self.pieces.get(block.agent, []), block), Piece(key, block)]
            self.last_lsn = max(self.last_lsn, block.last_lsn)
            self.last_time = max(self.last_time, block.last_time)

    def agents(self) -> dict[str, Kept]:
        """Return what there is of each agent."""
        return {agent: _kept([piece.block for piece in pieces]) for agent, pieces in self.pieces.items()}

    def _point_anew(self, base: Base, read: Callable[[Source], Index]) -> None:
        """Point what pointed into packs that don't count any more to the new ones."""
        old = {source.key for source in self.base.packs}
        live = {source.key for source in base.packs}
        new: dict[str, list[Piece]] = {}
        for source in base.packs:
            if source.key not in old:
                for block in read(source).blocks:
                    new.setdefault(block.agent, []).append(Piece(source.key, block))
        for agent, pieces in list(self.pieces.items()):
            moved = _moved(pieces, new.get(agent, []), lambda key: counts(base, live, key))
            if moved:
                self.pieces[agent] = moved
            else:
                del self.pieces[agent]


def start(base: Base, home: str, indexes: Mapping[str, Index]) -> Catalog:
    """Return the catalog of nothing but merged packs, through the base.

    Args:
        base: names them.
        home: whose they are.
        indexes: theirs, by key.

    """
    catalog = Catalog(home=home, through=base.number, base=base)
    for source in base.packs:
        catalog.add_blocks(source.key, indexes[source.key].blocks)
    return catalog


def still_needed(pieces: list[Piece], block: Block) -> list[Piece]:
    """Return which of an agent's blocks its newest state needs, now that another has come."""
    if block.has(Kind.GONE):
        return []
    newer = (piece.block for piece in pieces if piece.block.life == block.life)
    if block.snapshot == NO_SNAPSHOT or any(other.snapshot > block.snapshot for other in newer):
        return pieces
    return [
        piece
        for piece in pieces
        if piece.block.life > block.life or (piece.block.life == block.life and piece.block.last_txn > block.snapshot)
    ]


def counts(base: Base, live: set[str], key: str) -> bool:
    """Report whether the pack of a key counts: it is one of the sequence after the base, or one of the base."""
    if key.startswith(f"{LOG}/"):
        return number_of(key) > base.number
    return key in live


def log_key(number: int) -> str:
    """Return the key of a pack in the sequence."""
    return f"{LOG}/{number:016x}.pack"


def number_of(key: str) -> int:
    """Return the number of a pack in the sequence; 0 where the key is no such pack's."""
    name = key.removeprefix(f"{LOG}/").removesuffix(".pack")
    try:
        number = int(name, 16)
    except ValueError:
        return 0
    return number if key == log_key(number) else 0


def _moved(pieces: list[Piece], new: list[Piece], counting: Callable[[str], bool]) -> list[Piece]:
    """Return the pieces with each that doesn't count replaced by the one that has its records."""
    moved: list[Piece] = []
    for piece in pieces:
        found: Piece | None = piece
        if not counting(piece.pack):
            found = next((other for other in new if _covers(other.block, piece.block)), None)
        if found is not None and (not moved or moved[-1] != found):
            moved.append(found)
    return moved


def _covers(new: Block, old: Block) -> bool:
    return new.life == old.life and new.first_lsn <= old.first_lsn and old.last_lsn <= new.last_lsn


def _kept(blocks: list[Block]) -> Kept:
    life = max(block.life for block in blocks)
    latest = [block for block in blocks if block.life == life]
    return Kept(
        life=life,
        txn=max(max(block.last_txn, block.snapshot, 0) for block in latest),
        snapshot=max(block.snapshot for block in latest),
        last_time=max(block.last_time for block in blocks),
        gone=blocks[-1].has(Kind.GONE),
        blocks=len(blocks),
        bytes=sum(block.length for block in blocks),
    )
