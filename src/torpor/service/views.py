"""What the use cases take and give: plain data, the same for every gateway. Times are microseconds since 1970 UTC."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from torpor.base.errors import PathRefused
from torpor.skills.briefing.report import Chosen, Told
from torpor.workbook import VOLUMES, Volume


class BriefRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A wish for a briefing."""

    workbook: str
    sources: list[str]
    """Addresses, or paths of files, as the user typed them."""
    out: str
    interest: str | None = None
    """What to look for this time; the agent's own interests unless given."""
    keep_interest: bool = False
    """Make `interest` the agent's own."""
    count: int = 10
    model: str = "local"


class Briefed(msgspec.Struct, frozen=True, kw_only=True):
    """How a briefing came out."""

    run: str
    status: Literal["completed", "completed with errors"]
    resumed: bool
    """Whether this finished a run that was interrupted before."""
    new: int
    already_read: int
    interests: str
    model: str
    delivered: list[str]
    """The Markdown and the HTML file; empty where nothing was new."""
    chosen: list[Chosen]
    problems: list[Told]
    notes: list[Told]
    others_resumed: list[str] = []
    """Runs with other wishes that were finished on the way."""


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """One event."""

    seq: int
    id: str
    time: int
    kind: str
    version: int
    body: dict[str, Any]
    span: str | None
    parent: int | None
    key: str | None
    hash: str


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    run: str
    message: str
    state: str
    started: int
    waits_for: str | None = None
    """The key of the effect whose outcome is unknown, where the run is parked."""
    reason: str | None = None


class FoundView(msgspec.Struct, frozen=True, kw_only=True):
    """A memory entry that answers a search."""

    entry: int
    kind: str
    content: str
    source: str | None
    metadata: dict[str, Any]
    score: float


class VerifyView(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found."""

    path: str
    ok: bool
    agent: str
    events: int
    files: int
    memories: int
    head: str
    problems: list[dict[str, str]]


class Place(msgspec.Struct, frozen=True):
    """A place in a volume, written `VOLUME:/path`."""

    volume: Volume
    path: str

    @classmethod
    def parse(cls, text: str) -> Place:
        """Return the place that a text names; the volume is `workspace` where it names none.

        Raises:
            PathRefused: it names none.

        """
        volume, colon, path = text.partition(":")
        if not colon:
            volume, path = "workspace", text
        if volume not in VOLUMES:
            reason = f"{volume!r} is no volume: {', '.join(VOLUMES)}"
            raise PathRefused(path=text, reason=reason)
        return cls(msgspec.convert(volume, type=Volume), path or "/")
