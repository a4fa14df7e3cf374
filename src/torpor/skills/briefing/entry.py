"""What the readers of the formats hand on: an entry as the feed spelled it, not yet made plain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["plain", "html", "guess"]
"""How a field is written; RSS doesn't say, so it has to be guessed."""


@dataclass(slots=True)
class Words:
    """A field of text and how it is written."""

    value: str = ""
    kind: Kind = "plain"


@dataclass(slots=True)
class Entry:
    """One entry of a feed."""

    title: Words = field(default_factory=Words)
    body: Words = field(default_factory=Words)
    link: str = ""
    """As written; relative to `base`."""
    base: str = ""
    """The entry's xml:base, or ""."""
    guid: str = ""
    author: Words = field(default_factory=Words)
    dates: list[str] = field(default_factory=list)
    """Best first."""


@dataclass(slots=True)
class Entries:
    """A feed's entries in its own order, and what was odd about it."""

    title: Words = field(default_factory=Words)
    entries: list[Entry] = field(default_factory=list)
    more: bool = False
    """True where the feed has more entries than were asked for."""
    notes: list[str] = field(default_factory=list)
