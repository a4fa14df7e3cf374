"""What all moves share: the folder, the ledger, the stores, the clock, and who is awake here.

The files of a home::

    ledger.db               which agents exist, what state each is in, where its bytes are
    agents/NAME.workbook    an agent's own file, where it is here
    templates/NAME.workbook a template
    cold/, archive/         the stores, unless the home was opened with others

`…-draft` is a file that is being made; it has its own name when it is whole. `…-wal`, `…-shm`, `…-journal`, `…-new` and
`…-owner` belong to `torpor.workbook`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from torpor.base.clock import Clock
from torpor.base.errors import AgentUnknown, NameTaken
from torpor.base.ids import IdSource
from torpor.home.activation import Activations
from torpor.home.names import check_name, clone_name
from torpor.ledger import AgentRecord, Ledger, Leftover, Note, TemplateRecord, Verb
from torpor.lifecycle import Ladder
from torpor.stores.copies import Watch, said_of
from torpor.stores.shelves import Options
from torpor.stores.stores import Store, Stores
from torpor.workbook import FILE, Durability

if TYPE_CHECKING:
    from torpor.heartbeat import Heartbeat

AGENTS: Final = "agents"
TEMPLATES: Final = "templates"
LEDGER: Final = "ledger.db"
WORKBOOK: Final = ".workbook"
DRAFT: Final = "-draft"
_FILE: Final = "file:"
"""How the place of a local file begins in the ledger; then comes its path, relative to the home."""
_STORE: Final = "file://"
"""How the address of a store in the file system may begin."""


def agent_file(name: str) -> str:
    """Return where the file of an agent of that name is, below the home."""
    return f"{AGENTS}/{name}{WORKBOOK}"


def template_file(name: str) -> str:
    """Return where the file of a template of that name is, below the home."""
    return f"{TEMPLATES}/{name}{WORKBOOK}"


def file_place(file: str) -> str:
    """Return the place, as the ledger writes it, of a file that is named relative to the home."""
    return f"{_FILE}{file}"


def place_file(place: str) -> str | None:
    """Return the file, relative to the home, of a place that the ledger names; None where it is in a store."""
    if place.startswith(_FILE) and not place.startswith(_STORE):
        return place.removeprefix(_FILE)
    return None


class Asked:
    """What was asked of a move, and when.

    Args:
        verb: the move, for the history.
        why: the reason, for the history.
        watch: is told how far the copying is.
        now: the time to go by, in µs UTC; the clock's unless given.

    """

    __slots__ = ("_began", "now", "verb", "watch", "why")

    def __init__(self, verb: Verb, why: str = "asked", watch: Watch | None = None, now: int | None = None) -> None:
        self.verb = verb
        self.why = why
        self.watch = watch
        self.now = now
        self._began = time.perf_counter()

    @property
    def ms(self) -> float:
        """Milliseconds since it was asked."""
        return (time.perf_counter() - self._began) * 1000


@dataclass(slots=True, kw_only=True)
class Site:
    """One home as the moves see it.

    Attributes:
        path: the folder, absolute.
        ledger: which agents exist.
        stores: finds the store of a recorded place.
        cold: where freezing puts agents.
        archive: where archiving puts them.
        clock: where times come from.
        ids: where ids come from.
        ladder: the thresholds of agents without their own.
        who: in whose name moves are made, for the history.
        options: how stores are spoken to.
        durability: what the commits of the awake survive.
        heartbeat: the heartbeat that makes them durable, where this process has it.
        activations: who is awake in this process.

    """

    path: str
    ledger: Ledger
    stores: Stores
    cold: Store
    archive: Store
    clock: Clock
    ids: IdSource
    ladder: Ladder
    who: str
    options: Options = field(default_factory=Options)
    durability: Durability = FILE
    heartbeat: Heartbeat | None = None
    activations: Activations = field(default_factory=Activations)
    _ids_lock: threading.Lock = field(default_factory=threading.Lock)

    def absolute(self, file: str) -> str:
        """Return the whole path of a file that is named relative to the home."""
        return os.path.join(self.path, file)

    def has(self, file: str) -> bool:
        """Report whether something is at a path relative to the home."""
        return os.path.lexists(self.absolute(file))

    def size(self, file: str) -> int:
        """Return the bytes of a file that is named relative to the home.

        Raises:
            WorkbookMissing, StorageFailed: it can't be looked at.

        """
        path = self.absolute(file)
        with said_of(path):
            return os.stat(path).st_size

    def new_id(self) -> str:
        """Return a new id."""
        with self._ids_lock:
            return self.ids.text()

    def new_name(self, stem: str) -> str:
        """Return a name that nobody ever had, beginning with what can be kept of `stem`."""
        with self._ids_lock:
            return clone_name(stem, self.ids)

    @contextmanager
    def turn(self, name: str, *, wait: bool = False) -> Iterator[AgentRecord]:
        """Hold an agent's turn in this process, and give what the ledger says of it.

        Args:
            name: the agent's name or id.
            wait: until whoever has the turn is done.

        Raises:
            AgentUnknown: there is none.
            AgentBusy: somebody has the turn, and `wait` is off.

        """
        record = self.ledger.agent(name)
        with self.activations.turn(record.id, record.name, wait=wait):
            yield self.ledger.agent(record.id)

    def introduce(self, made: Iterable[AgentRecord | TemplateRecord]) -> None:
        """Have the replica get agents and templates that were made just now, so that a lost machine doesn't end them.

        The ledger knows them, and nobody holds their files.
        """
        if self.heartbeat is not None:
            self.heartbeat.meet((one.id, self.absolute(one.file)) for one in made)

    def now(self, asked: Asked) -> int:
        """Return the time that a move goes by, in µs UTC."""
        return self.clock.now_us() if asked.now is None else asked.now

    def note(self, asked: Asked, agent: str, size: int = 0, **details: Any) -> Note:
        """Return what the history is to say of a move.

        Args:
            asked: what was asked.
            agent: the id of the agent or template that it was done to.
            size: how many bytes were moved for it.
            details: what else there is to say.

        """
        return Note(
            agent=agent,
            verb=asked.verb,
            who=self.who,
            why=asked.why,
            time=self.clock.now_us(),
            bytes=size,
            ms=asked.ms,
            details=details,
        )

    def leftover(self, place: str, agent: str, claim: str) -> Leftover:
        """Return the ledger's row for what a move may leave behind.

        Args:
            place: a file's or a store's.
            agent: the id of the agent whose bytes are there.
            claim: the file, named relative to the home, whose claim guards it.

        """
        return Leftover(place=place, agent=agent, claim=claim, since=self.clock.now_us())

    def free_name(self, name: str, what: str = "an agent") -> None:
        """Refuse a name that can't be, or is, somebody's. The ledger looks again when it is given.

        Raises:
            NameRefused, NameTaken: it can't be given.

        """
        check_name(name, what)
        try:
            taken = self.ledger.agent(name)
        except AgentUnknown:
            pass
        else:
            raise NameTaken(name=name, owner=f"the {taken.state} agent {taken.name}")
        try:
            self.ledger.templates.get(name)
        except AgentUnknown:
            return
        raise NameTaken(name=name, owner=f"the template {name}")
