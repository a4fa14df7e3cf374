"""What a briefing tells whoever asked for it: how far it is, and how it came out."""

from __future__ import annotations

from typing import Literal

import msgspec

Stage = Literal["collect", "rank", "summarise", "deliver"]


class Progress(msgspec.Struct, frozen=True):
    """How far a run is, for whoever looks on; nothing depends on it."""

    stage: Stage
    done: int
    total: int


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the reader should know of a source or an item."""

    source: str
    message: str
    next_step: str = ""
    code: str = ""


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """An item that is in the briefing."""

    title: str
    url: str
    score: float
    summary: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How a briefing came out."""

    run: str
    new: int
    already_read: int
    interests: str
    model: str
    chosen: list[Chosen]
    delivered: list[str]
    """The Markdown and the HTML file; empty where nothing was new."""
    problems: list[Told]
    """What couldn't be read or summarised."""
    notes: list[Told]
    """What was odd and survived."""

    @property
    def complete(self) -> bool:
        """Whether nothing went wrong."""
        return not self.problems
