"""Leftovers: what a move that failed, or was killed, has left behind, and what one that went well no longer needs.

Each move tells the ledger what it is about to make before it makes it, and the transaction that makes the move so
also says what no longer counts. So at any moment **what the ledger names as leftovers is exactly what may be removed**:
before that transaction the new copy, after it the old one. Undoing a move that failed, ending one that went well, and
recovering from a kill are one and the same: `sweep`.

Removing is guarded three times. Only the holder of the claim sweeps. A file goes only if it is a draft or the workbook
of just that agent, since anybody may have put something else there. And no copy goes that the ledger says is the
agent's present one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from torpor.base.errors import AgentUnknown, HeartbeatError, HomeError, NotAWorkbook, StoreRefused, WorkbookError
from torpor.base.faults import point
from torpor.home.beating import purge_quarantined
from torpor.home.held import Held, holding
from torpor.home.site import AGENTS, DRAFT, TEMPLATES, Site, file_place, place_file
from torpor.ledger import Leftover
from torpor.stores.copies import said_of, sync_folder

_BESIDE: Final = ("", "-wal", "-shm", "-journal", "-new", "-new-wal", "-new-shm", "-new-journal")
"""The tails of a file's own name, and of those that making and using it may leave beside it."""

_DEAD: Final = ("-owner", "-wal", "-shm")
"""What lies beside a file for as long as it is open, or since somebody died who had it open."""

_LOCAL: Final = ("created", "active", "suspended")
"""The states in which the local file is the agent."""

_WEATHER: Final = (HomeError, WorkbookError, StoreRefused)
"""What may keep a leftover from being removed just now: a later attempt may go better."""


@contextmanager
def undoing(held: Held) -> Iterator[None]:
    """Undo what the block has begun, if it fails: remove what the ledger still names under this claim.

    The ledger is asked, and nothing is remembered: where the failure was the ledger's own, only it knows what became
    of the move.
    """
    site = held.site
    try:
        yield
    except BaseException as error:
        try:
            named = [leftover for leftover in site.ledger.leftovers() if leftover.claim == held.file]
            left = sweep(site, named, held)
        except _WEATHER as second:
            error.add_note(f"What it had begun will be removed at the next start: {second}")
        else:
            for place in left:
                error.add_note(f"What it had begun at {place} will be removed at the next start.")
        raise


def sweep(site: Site, leftovers: Iterable[Leftover], held: Held | None = None) -> tuple[str, ...]:
    """Remove leftovers, and the ledger's rows of those that are gone. The caller has the claim that guards them.

    Args:
        site: the home.
        leftovers: as the ledger names them.
        held: the claim, unless it is that of an agent that is awake here.

    Returns:
        The places that could not be removed; the ledger goes on naming them.

    """
    gone: list[Leftover] = []
    left: list[str] = []
    for leftover in leftovers:
        try:
            _remove(site, leftover, held)
        except _WEATHER:
            left.append(leftover.place)
        else:
            gone.append(leftover)
    if gone:
        try:
            site.ledger.release(gone)
        except HomeError:
            left += [leftover.place for leftover in gone]
    return tuple(left)


def sweep_all(site: Site) -> list[str]:
    """Finish or undo what was cut short, and return the places that are clear now.

    What somebody alive holds is his to finish. A store that doesn't answer is asked once.
    """
    removed: list[str] = []
    silent: set[str] = set()
    claims: dict[str, list[Leftover]] = {}
    for leftover in site.ledger.leftovers():
        claims.setdefault(leftover.claim, []).append(leftover)
    for claim, named in claims.items():
        due = [leftover for leftover in named if _store(leftover.place) not in silent]
        with suppress(*_WEATHER), _at_hand(site, claim, named[0].agent) as held:
            left = sweep(site, due, held)
            removed += [leftover.place for leftover in due if leftover.place not in left]
            silent.update(_store(place) for place in left if place_file(place) is None)
    return removed


def recover(site: Site) -> list[str]:
    """Do what `sweep_all` does, and tidy up after processes that died; return what was removed.

    Who dies with a workbook open leaves its claim and its log beside it, and a reader an empty log. The next owner
    would put that in order. Here it is done for all, so that an agent at rest is one file.
    """
    removed = sweep_all(site)
    for folder in (AGENTS, TEMPLATES):
        with said_of(site.absolute(folder)):
            names = os.listdir(site.absolute(folder))
        for name in sorted({name.removesuffix(tail) for tail in _DEAD for name in names if name.endswith(tail)}):
            file = f"{folder}/{name}"
            with suppress(*_WEATHER), holding(site, file, file):
                removed.append(file_place(f"{file}-*"))
    with suppress(HeartbeatError):
        purge_quarantined(site.path, lambda agent: _is_deleted(site, agent))
    return removed


def _is_deleted(site: Site, agent: str) -> bool:
    try:
        return site.ledger.agent(agent).state == "deleted"
    except AgentUnknown:
        return False


def remove_files(path: str) -> None:
    """Remove a file and all that may be beside it, so that it stays removed after a power cut.

    Raises:
        WorkbookReadOnly, StorageFailed: it can't be removed.

    """
    removed = False
    with said_of(path):
        for tail in _BESIDE:
            with suppress(FileNotFoundError):
                os.unlink(path + tail)
                removed = True
    if removed:
        sync_folder(os.path.dirname(path))


def _remove(site: Site, leftover: Leftover, held: Held | None) -> None:
    file = place_file(leftover.place)
    if file is not None and file.endswith(DRAFT):
        remove_files(site.absolute(file))
    elif not _counts(site, leftover):
        if file is None:
            store, key = site.stores.at(leftover.place)
            store.delete(key)
        elif _is_its(site, leftover.agent, file, held):
            remove_files(site.absolute(file))
    point("recovery.removed")


def _counts(site: Site, leftover: Leftover) -> bool:
    """Report whether the ledger says that this copy is the agent's, or the template, after all."""
    file = place_file(leftover.place)
    try:
        record = site.ledger.agent(leftover.agent)
    except AgentUnknown:
        try:
            return site.ledger.templates.get(leftover.agent).file == file
        except AgentUnknown:
            return False
    if file is None:
        return leftover.place in (record.cold, record.archive)
    return record.file == file and record.state in _LOCAL


def _is_its(site: Site, agent: str, file: str, held: Held | None) -> bool:
    """Report whether a file is there and is the agent's."""
    if not site.has(file):
        return False
    try:
        if held is not None and held.file == file:
            return held.look().agent == agent
        with holding(site, file, file) as other:
            return other.look().agent == agent
    except NotAWorkbook:
        return False


@contextmanager
def _at_hand(site: Site, claim: str, agent: str) -> Iterator[Held | None]:
    """Have a claim: this process's own where the agent is awake here."""
    with ExitStack() as stay:
        try:
            record = stay.enter_context(site.turn(agent))
        except AgentUnknown:
            record = None
        if record is not None and record.file == claim and site.activations.get(agent) is not None:
            yield None
        else:
            yield stay.enter_context(holding(site, claim, claim))


def _store(place: str) -> str:
    return place.partition("#")[0]
