"""The quarantine: agents that nobody may open, because what the log has of them could not be brought into their files.

    quarantined/AGENT                       says why, as JSON; its being there is the quarantine
    quarantined/AGENT-FIRST-LAST.records    records that could not be applied, by their numbers in hexadecimal

The folder is the truth, and nothing else is: neither the index, which may be lost, nor anybody's memory, since a second
process may work with the same home. So the file is written, synced with its name, before the log may let go of a record
of the agent, and after the records were kept. It goes when a restored file has its own beginning in the log, or when
the agent is deleted. A file that can't be read quarantines as well.

Records that were kept are left for people to look at; they go with the agent.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from torpor.base.errors import AgentQuarantined, HeartbeatFailed
from torpor.base.faults import point
from torpor.heartbeat.records import Record, agent_bytes, agent_text, encode
from torpor.heartbeat.small import sync_names, write_small

FOLDER: Final = "quarantined"
"""The folder, below the heartbeat's."""

_RECORDS: Final = ".records"


class Quarantined(msgspec.Struct, frozen=True):
    """An agent that must not be opened.

    Attributes:
        agent: its id.
        reason: why.
        segment: the file of the log that is damaged; "" where it is none.
        offset: where in it, in bytes.

    """

    agent: str
    reason: str
    segment: str = ""
    offset: int = 0


_found: Final = msgspec.json.Decoder(Quarantined).decode


class Quarantine:
    """The quarantine of one home. It remembers nothing: any number of them, in any process, say the same.

    Args:
        folder: the heartbeat's.

    """

    def __init__(self, folder: str) -> None:
        self._above = folder
        self._folder = os.path.join(folder, FOLDER)

    def why(self, agent: str) -> Quarantined | None:
        """Return why an agent must not be opened; None where it may be."""
        path = self._path(agent)
        try:
            return _found(Path(path).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            return Quarantined(agent, f"{path}, which says why, can't be read ({error})")

    def refuse(self, agent: str, path: str, name: str) -> None:
        """Refuse to have an agent opened that must not be.

        Args:
            agent: its id.
            path: its file, or the home's, for the error.
            name: its name, likewise.

        Raises:
            AgentQuarantined: it must not.

        """
        found = self.why(agent)
        if found is not None:
            raise AgentQuarantined(path=path, name=name, reason=found.reason.rstrip("."))

    def all(self) -> tuple[Quarantined, ...]:
        """Return who must not be opened, and why, in the order of the ids."""
        agents = sorted(name for name in self._names() if name == _agent_in(name))
        return tuple(found for agent in agents if (found := self.why(agent)) is not None)

    def put(self, found: Quarantined) -> None:
        """Have an agent quarantined, durably.

        Raises:
            HeartbeatFailed: that can't be written.

        """
        try:
            self._make()
            write_small(self._folder, found.agent, msgspec.json.encode(found).decode())
        except OSError as error:
            raise self._failed(error) from error
        point("quarantine.put")

    def keep(self, agent: str, records: Sequence[Record]) -> None:
        """Put records aside, durably, that stand in the log one after the other; once is enough.

        Raises:
            HeartbeatFailed: they can't be written.

        """
        first, last = records[0].lsn, records[-1].lsn
        for name in self._names():
            span = _span(name, agent)
            if span is not None and span[0] <= first and last <= span[1]:
                return
        path = Path(self._folder, f"{agent}-{first:016x}-{last:016x}{_RECORDS}")
        try:
            self._make()
            draft = path.with_name(f"{path.name}-draft")
            with draft.open("wb") as file:
                for record in records:
                    file.write(encode(record))
                file.flush()
                os.fsync(file)
            draft.rename(path)
            sync_names(self._folder)
        except OSError as error:
            raise self._failed(error) from error
        point("quarantine.kept")

    def lift(self, agent: str) -> None:
        """End an agent's quarantine, durably; its records stay.

        Raises:
            HeartbeatFailed: that can't be written.

        """
        try:
            os.unlink(self._path(agent))
            sync_names(self._folder)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._failed(error) from error
        point("quarantine.lifted")

    def purge(self, agent: str) -> None:
        """Remove all that there is of an agent that was deleted.

        Raises:
            HeartbeatFailed: it can't be removed.

        """
        names = [name for name in self._names() if _agent_in(name) == agent]
        try:
            for name in names:
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(self._folder, name))
            if names:
                sync_names(self._folder)
        except OSError as error:
            raise self._failed(error) from error

    def agents(self) -> set[str]:
        """Return the ids of all of whom anything is here."""
        return {agent for name in self._names() if (agent := _agent_in(name))}

    def _path(self, agent: str) -> str:
        return os.path.join(self._folder, agent_text(agent_bytes(agent)))

    def _names(self) -> list[str]:
        try:
            return os.listdir(self._folder)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._failed(error) from error

    def _make(self) -> None:
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        sync_names(self._above)

    def _failed(self, error: OSError) -> HeartbeatFailed:
        return HeartbeatFailed(path=self._folder, reason=str(error))


_ID_CHARS: Final = 36


def _agent_in(name: str) -> str:
    """Return whose file it is by its name; "" where it is nobody's."""
    with suppress(ValueError):
        if agent_text(agent_bytes(name[:_ID_CHARS])) == name[:_ID_CHARS]:
            return name[:_ID_CHARS]
    return ""


def _span(name: str, agent: str) -> tuple[int, int] | None:
    """Return the first and the last record that a file of an agent's records has; None where it is none."""
    if not (name.startswith(f"{agent}-") and name.endswith(_RECORDS)):
        return None
    first, _, last = name.removesuffix(_RECORDS).removeprefix(f"{agent}-").partition("-")
    try:
        return int(first, 16), int(last, 16)
    except ValueError:
        return None
