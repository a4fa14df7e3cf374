"""Down the ladder and off it: suspend, freeze, archive, delete.

Each looks first whether there is anything to do and whether the lifecycle has such a move; until then nothing is
touched. Then, with the agent's turn in this process and its claim over all of them: make the new copy, verify it, one
transaction of the ledger, remove the old copy. Killed before the transaction, the agent is where it was; after it,
where it was to go. `leftovers.py` says how the rest is cleared away.
"""

from __future__ import annotations

from contextlib import suppress

from msgspec.structs import replace

from torpor.base.errors import AgentBusy, AgentSwapped, HeartbeatError
from torpor.base.faults import point
from torpor.home.beating import purge_quarantined
from torpor.home.held import HeldAgent, holding_agent
from torpor.home.leftovers import sweep, undoing
from torpor.home.results import Moved
from torpor.home.site import DRAFT, Asked, Site, file_place
from torpor.home.wake import restore
from torpor.ledger import AgentRecord, Leftover
from torpor.lifecycle import State, check_move
from torpor.stores.stores import Store, archive_key, cold_key


def suspend(site: Site, name: str, asked: Asked) -> Moved:
    """Close an active agent, so that it is one file and nothing else.

    Raises:
        MoveRefused: it is not active.
        AgentBusy: somebody uses it, or another process has it open.
        AgentSwapped, CopyMissing: its file is not the agent.

    """
    with site.turn(name) as record:
        if record.state == "suspended":
            return skipped(asked, record, "it is suspended already")
        check_move(record.name, record.state, "suspended")
        site.activations.refuse_busy(record.id, record.name)
        activation = site.activations.get(record.id)
        if activation is None:
            with holding_agent(site, record) as held:
                look = held.checked()
                return _suspended(site, held.record, look.seq, look.head, asked)
        seq, head = activation.book.head
        active = max(record.active, activation.active)
        site.activations.end(record.id, record.name)
        _settle(site, record)
        return _suspended(site, record, seq, head, asked, active=active)


def _settle(site: Site, record: AgentRecord) -> None:
    """Bring the log into the file where closing has not, because somebody was reading just then."""
    if site.has(f"{record.file}-wal"):
        # Who still reads what the log holds keeps it beside the file, where it belongs to it: nothing is lost.
        with suppress(AgentBusy), holding_agent(site, record):
            pass


def _suspended(site: Site, record: AgentRecord, seq: int, head: str, asked: Asked, **more: int) -> Moved:
    size = site.size(record.file)
    after = replace(record, state="suspended", seq=seq, head=head, bytes=size, **more)
    after = site.ledger.move(record, after, site.note(asked, record.id, size))
    point("move.committed")
    return moved(asked, record.state, after)


def freeze(site: Site, name: str, asked: Asked) -> Moved:
    """Put a suspended agent into the cold store and remove its file; or the local copy of one that is frozen.

    Raises:
        MoveRefused: it is not suspended.
        AgentBusy: somebody has it.
        AgentSwapped, CopyMissing: its file is not the agent.
        StoreUnreachable, CopyDamaged, StorageFull: the store can't take it.

    """
    with site.turn(name) as record:
        if record.state != "frozen":
            check_move(record.name, record.state, "frozen")
        elif not site.has(record.file):
            return skipped(asked, record, "it is frozen already")
        site.activations.refuse_busy(record.id, record.name)
        with holding_agent(site, record) as held:
            if record.state == "frozen" and not held.there:
                return skipped(asked, record, "it is frozen already")  # another process was faster
            if record.state == "frozen":
                return _drop_copy(held, asked)
            return _store(held, "frozen", site.cold, cold_key(record.id, record.epoch), asked)


def _drop_copy(held: HeldAgent, asked: Asked) -> Moved:
    """Remove the local copy of a frozen agent, if it is just what is frozen."""
    site, record = held.site, held.record
    look = held.checked()
    if look.seq != record.seq:
        reason = f"it goes on to event {look.seq}, and what is frozen ends at event {record.seq}"
        raise AgentSwapped(name=record.name, path=held.path, reason=reason)
    left = [site.leftover(file_place(record.file), record.id, record.file)]
    note = site.note(asked, record.id, record.bytes, dropped=record.file)
    after = site.ledger.move(record, record, note, left=left)
    point("move.committed")
    remains = sweep(site, left, held)
    point("move.removed")
    return moved(asked, record.state, after, remains)


def archive(site: Site, name: str, asked: Asked) -> Moved:
    """Put an active or frozen agent into the archive, compressed, and remove what it was until then.

    Raises:
        MoveRefused: it is neither.
        AgentBusy: somebody has it.
        AgentSwapped, CopyMissing: its file is not the agent, or there is no copy.
        StoreUnreachable, CopyDamaged, StorageFull: a store doesn't give or take it.

    """
    with site.turn(name) as record:
        if record.state == "archived":
            return skipped(asked, record, "it is archived already")
        check_move(record.name, record.state, "archived")
        site.activations.refuse_busy(record.id, record.name)
        if site.activations.get(record.id) is not None:
            site.activations.end(record.id, record.name)
        with holding_agent(site, record) as held:
            return _store(held, "archived", site.archive, archive_key(record.id, record.epoch), asked)


def _store(held: HeldAgent, state: State, store: Store, key: str, asked: Asked) -> Moved:
    """Put an agent into a store, and let go of the copies that it had."""
    site, record = held.site, held.record
    new = site.leftover(store.place(key), record.id, record.file)
    draft = site.leftover(file_place(record.file + DRAFT), record.id, record.file)
    with undoing(held):
        look = held.checked() if held.there or record.cold is None else None
        if look and site.heartbeat is not None:
            site.heartbeat.cover(record.id, held.path, look.head)
        old = _copies(site, record)
        site.ledger.reserve([new] if look else [draft, new])
        point("move.reserved")
        source = held.path if look else restore(held, record.cold or "", asked)
        put = store.put(key, source, name=record.name, watch=asked.watch)
        point("move.copied")
        after = replace(
            record,
            state=state,
            cold=put.place if state == "frozen" else None,
            archive=put.place if state == "archived" else None,
            digest=put.digest,
            bytes=put.size,
            seq=look.seq if look else record.seq,
            head=look.head if look else record.head,
            wake=record.wake if state == "frozen" else None,  # nothing but a request fetches out of an archive
        )
        note = site.note(asked, record.id, put.size, stored=put.stored, place=put.place)
        after = site.ledger.move(record, after, note, made=[new], left=old)
    point("move.committed")
    remains = sweep(site, old if look else [draft, *old], held)
    point("move.removed")
    return moved(asked, record.state, after, remains)


def delete(site: Site, name: str, asked: Asked) -> Moved:
    """Remove every copy of an archived agent; its name and its history stay.

    Raises:
        MoveRefused: it is not archived.
        AgentBusy: somebody has it.

    """
    with site.turn(name) as record:
        if record.state == "deleted":
            return skipped(asked, record, "it is deleted already")
        check_move(record.name, record.state, "deleted")
        site.activations.refuse_busy(record.id, record.name)
        with holding_agent(site, record) as held:
            left = _copies(site, held.record)
            note = site.note(asked, record.id, record.bytes)
            after = site.ledger.move(held.record, replace(held.record, state="deleted"), note, left=left)
            point("move.committed")
            remains = sweep(site, left, held)
            with suppress(HeartbeatError):  # the next start tries again
                purge_quarantined(site.path, lambda agent: agent == record.id)
            point("move.removed")
            return moved(asked, record.state, after, remains, size=record.bytes)


def _copies(site: Site, record: AgentRecord) -> list[Leftover]:
    """Return the copies that there are of an agent."""
    places = [place for place in (record.cold, record.archive) if place is not None]
    if site.has(record.file):
        places.append(file_place(record.file))
    return [site.leftover(place, record.id, record.file) for place in places]


def moved(
    asked: Asked, before: State, after: AgentRecord, left: tuple[str, ...] = (), *, size: int | None = None
) -> Moved:
    """Return the answer of a move that was made."""
    return Moved(
        name=after.name,
        agent=after.id,
        verb=asked.verb,
        before=before,
        after=after.state,
        bytes=after.bytes if size is None else size,
        ms=asked.ms,
        left=left,
    )


def skipped(asked: Asked, record: AgentRecord, reason: str) -> Moved:
    """Return the answer of a move that there was no need for."""
    return Moved(
        name=record.name,
        agent=record.id,
        verb=asked.verb,
        before=record.state,
        after=record.state,
        bytes=record.bytes,
        ms=asked.ms,
        skipped=reason,
    )
