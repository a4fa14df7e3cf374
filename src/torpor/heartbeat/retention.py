"""Keeping a replica small: manifests, merging, retiring, sweeping.

**Merging.** A node ships a pack a second, each with a block of every agent that did something. Left so, a week would
have millions of blocks. So the oldest packs of the sequence are merged, some sixty at a time, into one pack that has
one block of each agent; blocks are put together as they are, without unpacking.

**Retiring.** Every moment of the last `keep_s` seconds can be restored, so what an agent needs begins with its newest
snapshot that is older than that. Merged packs of which less than half is needed are made anew from what is.

**What makes this safe.** Three steps, in this order, and the order is all:

1. the new pack is put, under a key of its own. Nobody knows of it, so it counts for nothing;
2. a *base* says, through the fence, which packs count from now on. A node that was replaced can't say so;
3. only then what doesn't count any more is removed: first a manifest is written, then the floor is raised, then packs
   go, the oldest first.

Killed anywhere, or replaced anywhere, a replica still holds the same: before step 2 the old packs count and are all
there; after it the new ones. What is left over is found by what counts: every removal follows from a base,
or from a claim after which the thing can't be spoken of any more. No removal is decided by a clock.

A block that is damaged is carried along as it is, so that its damage is found by who needs it, and by nobody else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from torpor.base import faults
from torpor.base.clock import MICROSECONDS
from torpor.base.errors import ObjectMissing, ReplicaDamaged
from torpor.base.limits import MERGE_BYTES, MERGE_PACKS, MIB, RETENTION_SECONDS
from torpor.heartbeat import manifest, snapshots
from torpor.heartbeat.catalog import LOG, PACKS, Piece, log_key, number_of, still_needed
from torpor.heartbeat.floor import raise_floor
from torpor.heartbeat.packs import NO_SNAPSHOT, Base, Block, Chunk, Index, PackKind, Source, check, join
from torpor.heartbeat.records import Kind
from torpor.heartbeat.replica import Replica

TAIL_PACKS: Final = 16
"""Packs at the end of the sequence that are never merged."""

BLOCK_BYTES: Final = 4 * MIB
"""Bytes up to which blocks are put together: a reader takes whole blocks."""

SMALL_PACKS: Final = 8
"""So many small packs in a row are made into one; and a pack is small if so many fit into one."""

MANIFEST_PACKS: Final = 256
MANIFEST_SECONDS: Final = 300.0
RETIRE_SECONDS: Final = 3600.0


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How often what is done to keep a replica.

    Attributes:
        merge_packs: packs of the sequence that are merged into one.
        merge_bytes: bytes of packs that are.
        tail_packs: packs at the end that aren't.
        manifest_packs: packs after which there is a new manifest.
        manifest_s: seconds after which there is one, if anything has changed.
        retire_s: seconds after which it is looked what can be retired.

    """

    merge_packs: int = MERGE_PACKS
    merge_bytes: int = MERGE_BYTES
    tail_packs: int = TAIL_PACKS
    manifest_packs: int = MANIFEST_PACKS
    manifest_s: float = MANIFEST_SECONDS
    retire_s: float = RETIRE_SECONDS


class Done(msgspec.Struct):
    """What one run has done: numbers of packs, objects and manifests."""

    merged: int = 0
    rewritten: int = 0
    damaged: int = 0
    removed: int = 0
    manifests: int = 0


class Upkeep:
    """Keeps one replica; one thread at a time.

    Args:
        replica: it.
        keep_s: seconds of which every moment can be restored.
        pace: how often what is done.

    """

    def __init__(
        self,
        replica: Replica,
        *,
        keep_s: float = RETENTION_SECONDS,
        pace: Pace = Pace(),  # noqa: B008  (frozen)
    ) -> None:
        self._replica = replica
        self._keep_us = int(keep_s * MICROSECONDS)
        self._pace = pace
        self._manifest_through = 0
        self._manifest_us = 0
        self._retired_us = 0
        self._swept: set[str] = set()
        self._orphans_left = True

    def run(self, *, caught_up: bool, whole: bool = False) -> Done:
        """Do what is due.

        Args:
            caught_up: everything that was in the log when this node claimed is shipped.
            whole: do all of it now, due or not.

        Raises:
            HeartbeatFenced: another node keeps it now.
            ReplicaDamaged: packs can't be read: they are left as they are, and so is everything.
            StoreUnreachable, StorageFull: the rest must wait.

        """
        try:
            return self._run(caught_up=caught_up, whole=whole)
        except ObjectMissing as error:
            raise ReplicaDamaged(place=error.place, offset=0, reason="it is missing") from error

    def _run(self, *, caught_up: bool, whole: bool) -> Done:
        self._replica.finish()  # a base may be in doubt
        done = Done()
        now = self._replica.clock.now_us()
        last = self._replica.through - self._pace.tail_packs
        while self._merge(last, done, whole=whole):
            pass
        self._manifest(now, done, whole=whole or done.merged > 0)
        if whole or now - self._retired_us >= self._pace.retire_s * MICROSECONDS:
            self._retire(now - self._keep_us, done)
            self._sweep(done)
            self._retired_us = now
        elif done.merged:
            self._sweep(done)
        if caught_up and self._orphans_left:
            self._sweep_orphans(done)
            self._orphans_left = False
        return done

    # --- merging ---

    def _merge(self, last: int, done: Done, *, whole: bool) -> bool:
        """Merge the oldest packs of the sequence, up to `last`, if there are enough; returns whether there were."""
        pace, replica = self._pace, self._replica
        base = replica.base
        first = base.number + 1
        if last < first:
            return False
        wanted = range(first, min(last, base.number + pace.merge_packs) + 1)
        if len(wanted) < pace.merge_packs and not whole and not self._is_much(wanted):
            return False
        pieces: list[Piece] = []
        contents: dict[Piece, bytes] = {}
        claims, number, taken = list(base.claims), base.number, 0
        for number in wanted:
            key = log_key(number)
            index, blocks = self._whole(key)
            if index.head.kind is PackKind.CLAIM:
                claims.append(number)
            contents.update(blocks)
            pieces += blocks
            taken += sum(map(len, blocks.values()))
            if taken >= pace.merge_bytes:
                break
        packs = base.packs
        if pieces:
            packs = (*packs, replica.write_merged(self._assemble(pieces, contents, done)))
        replica.rebase(base, self._based(base, number, packs, tuple(claims)))
        done.merged += number - base.number
        return True

    def _is_much(self, numbers: range) -> bool:
        """Report whether these packs have as many bytes as are merged at a time."""
        size = 0
        after = log_key(numbers[0] - 1)
        for found in self._replica.objects.list(LOG, after=after):
            if number_of(found.key) > numbers[-1]:
                break
            size += found.size
        return size >= self._pace.merge_bytes

    def _whole(self, key: str) -> tuple[Index, dict[Piece, bytes]]:
        """Return the index of a pack and the bytes of its blocks."""
        index, content = self._replica.whole(key)
        return index, {Piece(key, block): content[block.offset : block.offset + block.length] for block in index.blocks}

    def _assemble(self, pieces: Sequence[Piece], contents: dict[Piece, bytes], done: Done) -> list[Chunk]:
        """Put blocks together: those of one agent and life, up to the next snapshot."""
        chunks: list[Chunk] = []
        run: list[Chunk] = []
        ordered = sorted(pieces, key=lambda piece: (piece.block.agent, piece.block.first_lsn))
        for piece in ordered:
            chunk = Chunk(piece.block, contents[piece])
            whole = self._is_whole(piece, chunk, done)
            if run and not (whole and _follows(run, piece.block)):
                chunks.append(join(run))
                run = []
            if whole:
                run.append(chunk)
            else:
                chunks.append(chunk)
        if run:
            chunks.append(join(run))
        return chunks

    def _is_whole(self, piece: Piece, chunk: Chunk, done: Done) -> bool:
        try:
            check(self._replica.objects.place(piece.pack), piece.block, chunk.content)
        except ReplicaDamaged:
            done.damaged += 1
            return False
        return True

    def _based(self, base: Base, number: int, packs: tuple[Source, ...], claims: tuple[int, ...] | None = None) -> Base:
        """Return the next base: what was removed already is not told again."""
        dropped = tuple(key for key in base.dropped if key not in self._swept)
        return Base(number, packs, base.claims if claims is None else claims, dropped)

    # --- retiring ---

    def _retire(self, cut: int, done: Done) -> None:
        """Make anew the merged packs of which less than half is needed; `cut` is in µs."""
        base = self._replica.base
        aged = [at for at, source in enumerate(base.packs) if source.first_time <= cut]
        old = base.packs[: aged[-1] + 1] if aged else ()
        indexes = self._replica.indexes([(source.key, source.size) for source in old])
        needed = _needed(old, indexes, cut)
        packs: list[Source] = []
        dropped: list[str] = []
        for group in _groups(base.packs, indexes, needed, self._pace.merge_bytes):
            if len(group) < SMALL_PACKS and not any(_is_waste(source, indexes, needed) for source in group):
                packs += group
                continue
            kept = [piece for source in group for piece in needed[source.key]]
            if kept:
                contents = dict(self._replica.contents(kept))
                packs.append(self._replica.write_merged(self._assemble(kept, contents, done)))
            stay = set(kept)
            for source in group:
                blocks = indexes[source.key].blocks
                dropped += [block.at for block in blocks if block.at and Piece(source.key, block) not in stay]
            done.rewritten += len(group)
        if done.rewritten:
            new = self._based(base, base.number, tuple(packs))
            self._replica.rebase(base, Base(new.number, new.packs, new.claims, (*new.dropped, *dropped)))

    # --- sweeping ---

    def _sweep(self, done: Done) -> None:
        """Remove what doesn't count any more."""
        replica = self._replica
        base = replica.base
        raise_floor(replica.objects, base.number)
        live = {source.key for source in base.packs}
        claims = set(base.claims)
        gone: list[str] = []
        for found in replica.objects.list(LOG):
            number = number_of(found.key)
            if number > base.number:
                break
            if number and number not in claims:
                gone.append(found.key)
        gone += [found.key for found in replica.objects.list(PACKS) if self._is_left_over(found.key, live)]
        gone += [key for key in base.dropped if key not in self._swept]
        self._remove(gone, done)
        self._swept.update(base.dropped)
        done.removed += manifest.tidy(replica.objects)

    def _is_left_over(self, key: str, live: set[str]) -> bool:
        """Report whether a merged pack doesn't count and never will: it is not one that somebody is still making."""
        claim, _, made = key.removeprefix(f"{PACKS}/").partition("-")
        try:
            mark = (int(claim, 16), int(made, 16))
        except ValueError:
            return False
        return key not in live and mark <= (self._replica.number, self._replica.made)

    def _sweep_orphans(self, done: Done) -> None:
        """Remove snapshots of earlier claims of which no record speaks."""
        replica = self._replica
        old = [
            found.key
            for found in replica.objects.list(snapshots.FOLDER)
            if 0 < snapshots.claim_of(found.key) < replica.number
        ]
        if old:
            told = {block.at for _, index in replica.newest_first(replica.catalog()) for block in index.blocks}
            self._remove([key for key in old if key not in told], done)

    def _remove(self, keys: Sequence[str], done: Done) -> None:
        for key in keys:
            faults.point("replica.sweeping")
            self._replica.objects.delete(key)
            done.removed += 1

    # --- manifests ---

    def _manifest(self, now: int, done: Done, *, whole: bool) -> None:
        new = self._replica.through - self._manifest_through
        late = now - self._manifest_us >= self._pace.manifest_s * MICROSECONDS
        if new >= self._pace.manifest_packs or (new and (late or whole)):
            self._manifest_through = manifest.save(self._replica.objects, self._replica.catalog())
            self._manifest_us = now
            done.manifests += 1


def _follows(run: list[Chunk], block: Block) -> bool:
    """Report whether a block may be put behind these."""
    first = run[0].block
    long = sum(chunk.block.length for chunk in run) + block.length > BLOCK_BYTES
    return (first.agent, first.life) == (block.agent, block.life) and block.snapshot == NO_SNAPSHOT and not long


def _needed(old: Sequence[Source], indexes: dict[str, Index], cut: int) -> dict[str, list[Piece]]:
    """Return, by pack, which blocks of old packs are needed to restore any moment after `cut` (µs)."""
    pieces: dict[str, list[Piece]] = {}
    count: dict[str, int] = {}
    for source in old:
        for block in indexes[source.key].blocks:
            before = pieces.get(block.agent, [])
            so_far = block
            if block.last_time > cut:  # what it says of the end is too young to count
                so_far = msgspec.structs.replace(block, kinds=block.kinds & ~(1 << Kind.GONE))
            if block.first_time <= cut:
                before = still_needed(before, so_far)
            pieces[block.agent] = [*before, Piece(source.key, block)]
            count[block.agent] = count.get(block.agent, 0) + 1
    needed: dict[str, list[Piece]] = {source.key: [] for source in old}
    for agent, kept in pieces.items():
        if count[agent] == 1 and kept[0].block.has(Kind.GONE) and kept[0].block.last_time <= cut:
            continue  # the last trace: nothing is left that it says the end of
        for piece in kept:
            needed[piece.pack].append(piece)
    return needed


def _is_waste(source: Source, indexes: dict[str, Index], needed: dict[str, list[Piece]]) -> bool:
    """Report whether less than half of a pack is needed."""
    if source.key not in indexes:
        return False
    kept = sum(piece.block.length for piece in needed[source.key])
    return 2 * kept < sum(block.length for block in indexes[source.key].blocks)


def _groups(
    packs: Sequence[Source], indexes: dict[str, Index], needed: dict[str, list[Piece]], limit: int
) -> Iterator[list[Source]]:
    """Group neighbours that may be made anew, each group into one pack of up to `limit` bytes; others stay alone."""
    group: list[Source] = []
    size = 0
    for source in packs:
        kept = sum(piece.block.length for piece in needed.get(source.key, ()))
        fits = source.key in needed and (SMALL_PACKS * kept < limit or _is_waste(source, indexes, needed))
        if group and (not fits or size + kept > limit):
            yield group
            group, size = [], 0
        if fits:
            group.append(source)
            size += kept
        else:
            yield [source]
    if group:
        yield group
