"""Waking: warm, cached or cold; and fetching without waking.

An agent wakes from the copy that the ledger counts, and from no other. A local file has to be that agent, as it was
left or later: an older one, or somebody else's, is refused and left as it is, whatever the state. What comes out of a
store has to have the recorded digest.

A cold wake brings the file to its place first and makes the move only then. Killed in between, the agent is as frozen
as before, with its file here: that is what `prefetch` does on purpose, and the next wake takes the file.

`tmp` is cleared after the ledger has the wake, and before anybody gets the workbook. Killed in between, the agent is
active and nobody's; whoever opens it next wakes it again, and clears again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from msgspec.structs import replace

from torpor.base.errors import AgentAsleep, CopyMissing, HomeError
from torpor.base.faults import point
from torpor.home.activation import Activation
from torpor.home.beating import refuse_quarantined
from torpor.home.held import HeldAgent, busy, check_left, holding_agent, unmoved
from torpor.home.leftovers import sweep, undoing
from torpor.home.results import Moved, Woken
from torpor.home.site import DRAFT, Asked, Site, file_place
from torpor.ledger import AgentRecord
from torpor.lifecycle import resume_plan
from torpor.stores.copies import place as put_in_place
from torpor.stores.stores import Wanted
from torpor.workbook import Look, Workbook


def wake(site: Site, name: str, asked: Asked) -> Woken:
    """Wake an agent, or find it awake.

    Raises:
        AgentUnknown, MoveRefused: there is none, or it is deleted.
        AgentBusy: another process has it.
        AgentSwapped, CopyMissing, CopyDamaged: there is no copy that is the agent.
        StoreUnreachable, StorageFull: it can't be fetched now.

    """
    with site.turn(name, wait=True) as record:
        activation, woken = awake(site, record, asked)
        if woken.how == "warm":
            activation.active = site.now(asked)
            site.ledger.touch(record.id, activation.active)
        return woken


@contextmanager
def using(site: Site, name: str, asked: Asked) -> Iterator[Workbook]:
    """Give an agent's workbook to a user, awake; until the block ends nobody moves it.

    Raises:
        TorporError: as for `wake`.

    """
    with ExitStack() as stay:
        with site.turn(name, wait=True) as record:
            activation, _ = awake(site, record, asked)
            stay.enter_context(site.activations.used(activation))
        try:
            yield activation.book
        finally:
            activation.active = site.clock.now_us()
            # The work is done, whether or not the ledger can say when: the ladder also asks the activation.
            with suppress(HomeError):
                site.ledger.touch(record.id, activation.active)


@contextmanager
def reading(site: Site, name: str) -> Iterator[tuple[AgentRecord, Workbook]]:
    """Give an agent's workbook to a reader, without waking the agent, and what the ledger says of it.

    Raises:
        AgentUnknown: there is no such agent.
        AgentAsleep: its file is not here.
        AgentSwapped, CopyMissing: its file is not the agent, or gone.

    """
    with ExitStack() as stay:
        with site.turn(name, wait=True) as record:
            path = _local_file(site, record)
            stay.enter_context(site.activations.read(record.id))
        book = stay.enter_context(Workbook.open(path, readonly=True, clock=site.clock))
        check_left(record, path, _look(book), book.extends)
        yield record, book


def _local_file(site: Site, record: AgentRecord) -> str:
    path = site.absolute(record.file)
    if record.state == "deleted" or (not site.has(record.file) and record.state in ("frozen", "archived")):
        raise AgentAsleep(name=record.name, state=record.state)
    if not site.has(record.file):
        raise CopyMissing(name=record.name, place=path, reason=f"it is {record.state}, and its file is not there")
    return path


def awake(site: Site, record: AgentRecord, asked: Asked) -> tuple[Activation, Woken]:
    """Return an agent's activation, after waking it where that is needed; call it inside the agent's turn."""
    activation = site.activations.get(record.id)
    how = resume_plan(
        record.name,
        record.state,
        opened=activation is not None,
        local=record.file != "" and site.has(record.file),
        cold=record.cold is not None,
        archived=record.archive is not None,
    )
    if activation is not None:
        if record.wake is not None and record.wake <= site.now(asked):
            site.ledger.schedule(record.id, None)
        return activation, Woken(record=record, how="warm", ms=asked.ms)
    refuse_quarantined(site.path, record.id, record.name)
    if how == "cold":
        fetch(site, record, asked)
    old = [site.leftover(kept, record.id, record.file) for kept in (record.cold, record.archive) if kept is not None]
    path = site.absolute(record.file)
    with ExitStack() as undo:
        with busy(record.name):
            book = undo.enter_context(Workbook.open(path, create=False, clock=site.clock, durability=site.durability))
        before = unmoved(site, record)
        check_left(before, path, _look(book), book.extends)
        point("wake.opened")
        now = site.now(asked)
        due = before.wake is not None and before.wake <= now
        after = replace(
            before,
            state="active",
            epoch=before.epoch + 1,
            cold=None,
            archive=None,
            digest=None,
            active=now,
            wake=None if due else before.wake,
        )
        made = [site.leftover(file_place(file), record.id, record.file) for file in (record.file, record.file + DRAFT)]
        note = site.note(asked, record.id, record.bytes, how=how)
        after = site.ledger.move(before, after, note, made=made, left=old)
        point("move.committed")
        book.clear_tmp()
        undo.pop_all()
    activation = Activation(book, now)
    site.activations.add(record.id, activation)
    left = sweep(site, old)
    point("move.removed")
    return activation, Woken(record=after, how=how, ms=asked.ms, left=left)


def prefetch(site: Site, name: str, asked: Asked) -> Moved:
    """Bring a frozen agent's file here, without waking the agent.

    Raises:
        AgentUnknown, MoveRefused: there is none, or it is deleted.
        AgentBusy: somebody has it.
        AgentSwapped, CopyMissing, CopyDamaged: there is no copy that is the agent.
        StoreUnreachable, StorageFull: it can't be fetched now.

    """
    with site.turn(name) as record:
        how = resume_plan(
            record.name,
            record.state,
            opened=site.activations.get(record.id) is not None,
            local=record.file != "" and site.has(record.file),
            cold=record.cold is not None,
            archived=record.archive is not None,
        )
        reason = ""
        if record.state == "archived":
            reason = "it is archived, and only a frozen agent is prefetched"
        elif how != "cold":
            reason = "its file is here already"
            if record.state == "frozen":
                _keep(site, record)
        else:
            site.activations.refuse_busy(record.id, record.name)
            fetch(site, record, asked, note=True)
        return Moved(
            name=record.name,
            agent=record.id,
            verb="prefetch",
            before=record.state,
            after=record.state,
            bytes=record.bytes,
            ms=asked.ms,
            skipped=reason,
        )


def _keep(site: Site, record: AgentRecord) -> None:
    """Make sure that the local file of a frozen agent is the agent, and stays although a freezing left it here."""
    with holding_agent(site, record) as held:
        held.checked()
        site.ledger.release([site.leftover(file_place(record.file), record.id, record.file)])


def fetch(site: Site, record: AgentRecord, asked: Asked, *, note: bool = False) -> None:
    """Bring an agent's file from its store to its place; call it inside the agent's turn.

    Args:
        site: the home.
        record: the agent, frozen or archived.
        asked: what was asked.
        note: whether that is a move of its own, for the history.

    """
    with holding_agent(site, record) as held:
        if held.there:
            return  # another process was faster
        draft = site.leftover(file_place(record.file + DRAFT), record.id, record.file)
        with undoing(held):
            site.ledger.reserve([draft])
            point("move.reserved")
            restored = restore(held, record.cold or record.archive or "", asked)
            point("wake.restored")
            put_in_place(restored, held.path)
            point("move.copied")
            if note:
                told = site.note(asked, record.id, record.bytes)
                site.ledger.move(held.record, held.record, told, made=[draft])
                point("move.committed")


def restore(held: HeldAgent, place: str, asked: Asked) -> str:
    """Bring a copy from a store to the agent's draft, which is named in the ledger; return the draft's path."""
    site, record = held.site, held.record
    store, key = site.stores.at(place)
    target = f"{held.path}{DRAFT}"
    wanted = Wanted(name=record.name, digest=record.digest or "", size=record.bytes)
    store.get(key, target, wanted, watch=asked.watch)
    return target


def _look(book: Workbook) -> Look:
    seq, head = book.head
    return Look(book.agent, seq, head, None, None)
