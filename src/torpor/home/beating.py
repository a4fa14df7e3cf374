"""How a home comes to its heartbeat: what the heartbeat is told of the agents, and who gets to have it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Final

import msgspec

from torpor.base.clock import Clock
from torpor.base.entropy import SystemEntropy
from torpor.base.errors import AgentUnknown, DurabilityRefused, HeartbeatOwned
from torpor.home.site import AGENTS, TEMPLATES, WORKBOOK
from torpor.ledger import Ledger, Mark
from torpor.stores.shelves import Options
from torpor.workbook import marked_in

if TYPE_CHECKING:
    from torpor.heartbeat import Heartbeat, News, Settings

CLASSES: Final = ("file", "heartbeat", "replicated")

_FOLDER: Final = "heartbeat"
_QUARANTINED: Final = "quarantined"
_mark: Final = msgspec.msgpack.Decoder(Mark).decode
"""Made once: the first use of a type by two threads at the same time is more than msgspec bears."""

_PAGE: Final = 1000
"""Records of the ledger in one record of the log."""


class LedgerRoster:
    """What a heartbeat is told of a home (`heartbeat.Roster`).

    Args:
        home: the folder, absolute.
        ledger: which agents there are.

    """

    def __init__(self, home: str, ledger: Ledger) -> None:
        self._home = home
        self._ledger = ledger

    def path(self, agent: str) -> str | None:
        """Return the file of an agent or a template, absolute; None where it has none here."""
        try:
            file = self._ledger.agent(agent).file
        except AgentUnknown:
            try:
                file = self._ledger.templates.get(agent).file
            except AgentUnknown:
                return None
        path = os.path.join(self._home, file)
        return path if file and os.path.lexists(path) else None

    def all(self) -> Iterator[tuple[str, str]]:
        """Yield the id and the file of each whose file is here."""
        for known, file in self._files():
            path = os.path.join(self._home, file)
            if os.path.lexists(path):
                yield known, path

    def marked(self) -> Iterator[tuple[str, str]]:
        """Yield the id and the file of each that has a mark beside its file: two listings, however many sleep."""
        marked = {
            f"{folder}/{name}" for folder in (AGENTS, TEMPLATES) for name in marked_in(os.path.join(self._home, folder))
        }
        for file in sorted(marked):
            with suppress(AgentUnknown):
                agent = self._ledger.agent(os.path.basename(file).removesuffix(WORKBOOK))
                if agent.file == file:
                    marked.remove(file)
                    yield agent.id, os.path.join(self._home, file)
        if marked:  # nobody's by its name
            yield from ((known, os.path.join(self._home, file)) for known, file in self._files() if file in marked)

    def _files(self) -> Iterator[tuple[str, str]]:
        """Yield the id of each, and its file, relative to the home, where it has one or would have."""
        files = ((template.id, template.file) for template in self._ledger.templates.all())
        return chain(files, ((agent.id, agent.file) for agent in self._ledger.agents()))

    def changes(self, since: bytes | None) -> News | None:
        """Return what has changed in the ledger since a mark; None for nothing."""
        mark = Mark() if since is None else _mark(since)
        found = self._ledger.changes(mark, _PAGE)
        if found is None:
            return None
        from torpor.heartbeat import News  # noqa: PLC0415  (as below)

        living = (agent.id for agent in found.agents if agent.state != "deleted")
        dead = (agent.id for agent in found.agents if agent.state == "deleted")
        return News(
            mark=msgspec.msgpack.encode(found.mark),
            payload=msgspec.msgpack.encode(found),
            there=(*living, *(template.id for template in found.templates)),
            gone=(*dead, *found.dropped),
        )


def check_durability(home: str, durability: str, settings: Settings | None) -> Settings | None:
    """Return the settings of the heartbeat that a class of durability needs; None where it needs none.

    Raises:
        DurabilityRefused: there is no such class, or it needs a replica.

    """
    if durability not in CLASSES:
        raise DurabilityRefused(path=home, asked=durability, reason=f"the classes are {', '.join(CLASSES)}")
    if durability == "file":
        if settings is not None and settings.replica:
            raise DurabilityRefused(
                path=home, asked=durability, reason="a replica is made by a heartbeat: ask for that class"
            )
        return None
    from torpor.heartbeat import Settings  # noqa: PLC0415  (compression and checksums, which class `file` does without)
    from torpor.workbook import Level  # noqa: PLC0415  (as above)

    settings = settings or Settings()
    if durability == "replicated" and not settings.replica:
        raise DurabilityRefused(
            path=home, asked=durability, reason="it needs a replica, and no address is given for one"
        )
    return msgspec.structs.replace(settings, level=Level.REPLICATED if durability == "replicated" else Level.DURABLE)


def begin(
    home: str,
    ledger: Ledger,
    settings: Settings | None,
    *,
    options: Options,
    clock: Clock,
    watch: Callable[[int, int], None] | None,
) -> Heartbeat | None:
    """Return the heartbeat of a home; None where it is to have none, or another process has it.

    Either way the agents' files are as they must be: recovered, after a power cut.

    Raises:
        HeartbeatFailed, HeartbeatDamaged: its files can't be used.
        StoreRefused: the replica's address means none.

    """
    roster = LedgerRoster(home, ledger)
    if settings is None:
        if os.path.lexists(os.path.join(home, _FOLDER)):
            from torpor.heartbeat import recover_if_needed  # noqa: PLC0415  (as above)

            recover_if_needed(home, roster, clock)
        return None
    from torpor.heartbeat import Heartbeat  # noqa: PLC0415  (as above)

    try:
        return Heartbeat.open(
            home, roster, settings, options=options, clock=clock, entropy=SystemEntropy(), watch=watch
        )
    except HeartbeatOwned:
        return None


# --- the quarantine: whoever has the heartbeat, and if nobody has


def is_quarantined(home: str, agent: str) -> bool:
    """Report whether an agent must not be opened, because its records could not all be applied."""
    return os.path.lexists(os.path.join(home, _FOLDER, _QUARANTINED, agent))


def refuse_quarantined(home: str, agent: str, name: str) -> None:
    """Refuse to open an agent that must not be.

    Raises:
        AgentQuarantined: it must not.

    """
    if is_quarantined(home, agent):
        from torpor.heartbeat import Quarantine  # noqa: PLC0415  (as above)

        Quarantine(os.path.join(home, _FOLDER)).refuse(agent, home, name)


def purge_quarantined(home: str, is_deleted: Callable[[str], bool]) -> None:
    """Remove what the quarantine has of agents that were deleted.

    Args:
        home: the folder.
        is_deleted: reports it for the id of one.

    Raises:
        HeartbeatFailed: it can't be removed now.

    """
    if os.path.lexists(os.path.join(home, _FOLDER, _QUARANTINED)):
        from torpor.heartbeat import Quarantine  # noqa: PLC0415  (as above)

        found = Quarantine(os.path.join(home, _FOLDER))
        for agent in found.agents():
            if is_deleted(agent):
                found.purge(agent)
