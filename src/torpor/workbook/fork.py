"""Forks and exports: new workbooks made of what an old one holds.

Both are built from nothing. Only what is named here is copied into an empty workbook, so what must not leave can't:
there are no deleted rows, no scratch and no free pages in a new file. The source is read in one view of a read-only
connection, so its owner may go on writing meanwhile.

**A fork** is another agent. Its journal is, byte for byte, its parent's up to the fork point, and goes on with the
event `agent.born`. Its tables are made from the fold of those events (`past.py`), each content compared with its
digest. An effect that was in flight at the fork point belongs to the parent. Where the parent's journal has its
receipt by now, the fork is told (`effect.settled`); where not, the runtime resolves it by its policy, knowing that the
parent may still be at it.

**An export** holds the workspace alone, under a new identity, with a journal of its own. With memory it is a private
move: the whole agent as it is now, identity and journal included, without scratch and without what was retired.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

import msgspec

from torpor.base import faults
from torpor.base.clock import Clock, SystemClock
from torpor.base.entropy import SystemEntropy
from torpor.base.errors import FileTaken, WorkbookDamaged, WorkbookMissing
from torpor.base.ids import IdSource
from torpor.base.limits import EVENTS_PAGE, VOLUME_QUOTA_DEFAULT
from torpor.workbook.commits import FILE, Durability, Head
from torpor.workbook.fold import matches
from torpor.workbook.journal import Journal
from torpor.workbook.memory import find_text, put_entry
from torpor.workbook.opening import open_store, write_draft
from torpor.workbook.owner import claim, moment
from torpor.workbook.past import Past, put_file, put_lines, put_settings, put_spend
from torpor.workbook.paths import real_path
from torpor.workbook.placing import clear_draft, place, refuse_remains
from torpor.workbook.presence import holding
from torpor.workbook.rest import Look, Made, be_born, look_at, made, tidying
from torpor.workbook.store import Store
from torpor.workbook.trees import Trees, torn
from torpor.workbook.view import one_view
from torpor.workbook.volumes import Volumes

_DIGEST: Final = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_MODE_VALUE: Final = 0o600
_INTENT: Final = "effect.intended"
_RECEIPTS: Final = ("effect.completed", "effect.failed")


def fork(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    agent: str,
    at: int | None = None,
    clock: Clock | None = None,
    durability: Durability = FILE,
) -> Made:
    """Make a new agent from what another was at an event, while that one goes on.

    Args:
        source: the parent's workbook.
        target: where the fork's is to be; nothing is there.
        agent: the fork's id.
        at: number of the event to fork at; its whole transaction belongs to the fork. The newest unless given.
        clock: where times come from.
        durability: the file layer to use.

    Raises:
        PointRefused: there is no such event, or its state is not kept.
        FileTaken: something is at the target.
        WorkbookOwned: somebody else is making something there.
        WorkbookError: the source can't be read, or the target not be written; nothing is left.

    """
    copier = _Copier(real_path(source), clock or SystemClock(), durability)
    return copier.make(real_path(target), agent, lambda old, new: _branch(old, new, at, agent))


def export(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    with_memory: bool = False,
    clock: Clock | None = None,
    durability: Durability = FILE,
) -> Made:
    """Make a workbook that may leave: the workspace alone, unless the whole agent is to move.

    Args:
        source: the agent's workbook.
        target: where the new one is to be; nothing is there.
        with_memory: a private move: journal, memory, spend and settings too, and the same identity.
        clock: where times come from.
        durability: the file layer to use.

    Raises:
        FileTaken: something is at the target.
        WorkbookOwned: somebody else is making something there.
        WorkbookError: the source can't be read, or the target not be written; nothing is left.

    """
    clock = clock or SystemClock()
    copier = _Copier(real_path(source), clock, durability)
    agent = IdSource(clock, SystemEntropy()).text()
    return copier.make(real_path(target), agent, _move if with_memory else _publish)


class _Copier:
    """Makes one workbook from another."""

    def __init__(self, source: str, clock: Clock, durability: Durability) -> None:
        self._source = source
        self._clock = clock
        self._durability = durability

    def make(self, target: str, agent: str, fill: Callable[[Store, Store], None]) -> Made:
        """Make the new workbook under another name, whole and durable, and then give it its own."""
        if not Path(target).parent.is_dir():
            raise WorkbookMissing(path=target, reason="its folder is not there")
        draft = f"{target}-draft"
        with ExitStack() as stay:
            if not holding():  # whoever holds a name (`at_rest`) has seen to it that nobody else makes the target
                stay.callback(claim(target, moment(self._clock)).release)
            if os.path.lexists(target):
                raise FileTaken(path=target)
            refuse_remains(target)
            stay.callback(clear_draft, draft)
            clear_draft(draft)  # what an earlier attempt left when it was killed
            found = self._fill(draft, agent, fill)
            faults.point("fork.whole")
            result = made(draft, found)
            place(draft, target)
        return result

    def _fill(self, draft: str, agent: str, fill: Callable[[Store, Store], None]) -> Look:
        # Nobody knows the draft, so nothing need be undone in it: a journal in memory, and one sync at the end.
        vfs = self._durability.vfs
        write_draft(draft, agent, durability=Durability("draft", "OFF", vfs=vfs, journal="memory"), clock=self._clock)
        filling = Durability("draft", "FULL", vfs=vfs, journal="memory")
        with ExitStack() as stay:
            new = stay.enter_context(closing(self._open(draft, readonly=False, durability=filling)))
            stay.callback(tidying(self._source, clock=self._clock, vfs=vfs))
            old = stay.enter_context(closing(self._open(self._source, readonly=True, durability=self._durability)))
            with one_view(old), new.writing():
                fill(old, new)
                faults.point("fork.copied")
            found = look_at(new)
            new.db.pragma("journal_mode", "wal")
        return found

    def _open(self, path: str, *, readonly: bool, durability: Durability) -> Store:
        ids = IdSource(self._clock, SystemEntropy())
        return open_store(path, readonly=readonly, durability=durability, clock=self._clock, ids=ids)


# --- what goes in ---


def _branch(old: Store, new: Store, at: int | None, agent: str) -> None:
    """Fill a new workbook with what the old one was at an event, and begin another life there."""
    past = Past(old, Journal(old))
    point = past.point(old.read_head()[0] if at is None else at)
    _carry(old, new, past, point)
    be_born(new, agent, (look_at(old).agent, point), "fork")
    _tell_verdicts(old, new, point)


def _move(old: Store, new: Store) -> None:
    """Fill a new workbook with the whole agent as it is now."""
    head = old.read_head()
    _carry(old, new, Past(old, Journal(old)), head[0])
    row = old.row("SELECT agent, created, parent_agent, parent_seq FROM meta") or ()
    new.execute("UPDATE meta SET agent = ?, created = ?, parent_agent = ?, parent_seq = ?", row)
    _go_on(new, head)


def _publish(old: Store, new: Store) -> None:
    """Fill a new workbook with the workspace, and nothing else."""
    source, target = Trees(old, Journal(old)), Trees(new, Journal(new))
    quota = source.usage("workspace").quota
    if quota != VOLUME_QUOTA_DEFAULT:
        Volumes(new, Journal(new)).set_quota("workspace", quota)
    for file, path, mode, size in old.rows(
        "SELECT file, path, mode, size FROM files WHERE volume = 'workspace' ORDER BY path"
    ):
        digest, found = hashlib.sha256(), 0
        for piece in source.pieces(file, size):
            digest.update(piece)
            found += len(piece)
        if found != size:
            raise torn(old, ("workspace", path), size, found)
        parts = [(size, digest.hexdigest())]
        event = target.tell("file.written", "workspace", None, path=path, mode=mode, parts=parts)
        target.copy(source, file, target.insert("workspace", path, mode, size, (event, event)), size)
        target.charge("workspace", size)


def _carry(old: Store, new: Store, past: Past, point: int) -> None:
    """Copy the journal up to a point, and make the tables from it."""
    _copy_events(old, new, point)
    put_lines(new, past.lines(), point)
    new.execute("UPDATE meta SET horizon = ?", (point,))
    folded = past.state(point)
    for volume, quota in folded.quotas.items():
        new.execute("UPDATE volumes SET quota = ? WHERE volume = ?", (quota, volume))
    source, target = Trees(old, Journal(old)), Trees(new, Journal(new))
    shelf = past.shelf(folded.files.values())
    for where, file in folded.files.items():
        put_file(target, source, where, file, past.find(where, file, shelf))
        target.charge(where[0], file.size)
    for entry, facts in folded.memory.items():
        put_entry(new, entry, facts, find_text(old, entry, facts))
    _copy_values(old, new, point)
    put_spend(new, folded.spend)
    put_settings(new, folded)


def _pages(store: Store, point: int) -> Iterator[list[Any]]:
    """Yield the events up to a point, in pages."""
    after = 0
    while after < point:
        page = store.rows(
            "SELECT seq, id, time, kind, version, body, span, parent, key, hash, txn FROM events"
            " WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
            (after, point, EVENTS_PAGE),
        )
        if not page:
            raise WorkbookDamaged(path=store.path, reason=f"its journal ends at event {after}, before {point}")
        yield page
        after = page[-1][0]


def _copy_events(old: Store, new: Store, point: int) -> None:
    for page in _pages(old, point):
        new.pending.extend(page)
        new.write_pending()
        _go_on(new, (page[-1][0], page[-1][9], page[-1][10]))


def _go_on(new: Store, head: Head) -> None:
    """Have the open transaction follow what came in below the journal, and was never appended here."""
    transaction = new.current()
    if transaction is not None:
        transaction.head = head
        transaction.number = head[2] + 1


def _copy_values(old: Store, new: Store, point: int) -> None:
    """Copy the values that the events up to a point name."""
    names = {row[0] for row in old.rows("SELECT substr(path, 2) FROM files WHERE volume = 'values'")}
    if not names:
        return
    named: set[str] = set()
    for page in _pages(old, point):
        for row in page:
            named |= names.intersection(_DIGEST.findall(row[5]))
    for name in sorted(named):
        _copy_value(old, new, name)


def _copy_value(old: Store, new: Store, name: str) -> None:
    source, target = Trees(old, Journal(old)), Trees(new, Journal(new))
    if target.row("values", f"/{name}") is not None:
        return
    file, size = source.find("values", f"/{name}")
    if not matches(((size, name),), source.pieces(file, size)):
        raise WorkbookDamaged(path=old.path, reason=f"the value {name} is not what it is named after")
    target.copy(source, file, target.insert("values", f"/{name}", _MODE_VALUE, size), size)
    target.charge("values", size)


def _tell_verdicts(old: Store, new: Store, point: int) -> None:
    """Settle, in a fork, the effects that were in flight at the fork point and that its parent has finished since."""
    journal, told = Journal(old), Journal(new)
    for span, name, key in _in_flight(new):
        receipt = journal.by_key(f"done:{name}:{key}", set_aside=True)
        if receipt is None or receipt.seq <= point or receipt.kind not in _RECEIPTS:
            continue
        facts: dict[str, Any] = {"name": name, "key": key, "happened": receipt.kind == "effect.completed"}
        if "result_in" in receipt.body:
            _copy_value(old, new, receipt.body["result_in"])
            facts["result_in"] = receipt.body["result_in"]
        else:
            facts["result"] = receipt.body.get("result")
        told.append("effect.settled", facts, span=span)


def _in_flight(store: Store) -> Iterator[tuple[str, str, str]]:
    """Yield run, name and key of each effect that has an intent on the line, and no receipt."""
    found = store.rows(
        "SELECT span, body FROM line AS intent WHERE kind = ? AND NOT EXISTS ("
        " SELECT 1 FROM line AS receipt WHERE receipt.span = intent.span AND receipt.seq > intent.seq"
        " AND receipt.parent = intent.seq AND receipt.kind IN (?, ?))",
        (_INTENT, *_RECEIPTS),
    )
    for span, text in found:
        body = msgspec.json.decode(text, type=dict[str, Any])
        yield span, body["name"], body["key"]
