"""The words of the briefing: what a source yields, before anything is decided about it."""

from __future__ import annotations

import msgspec


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a feed, as plain text."""

    source: str
    """The feed it came from, as the user or the agent named it."""
    url: str
    """Canonical address, or "" where the feed gives none."""
    guid: str
    """The feed's own name for the entry, or "" where it gives none."""
    title: str
    """Plain text on one line."""
    text: str
    """Plain text of the body or, where there is none, of the feed's summary."""
    author: str = ""
    published_us: int | None = None
    """Microseconds since 1970 UTC, where the feed gives a date that can be believed."""

    shares_page: bool = False
    """Whether other entries of the feed have the same address, as in a changelog; it then names none of them."""

    @property
    def identity(self) -> str:
        """The name under which memory knows the entry: its address, else its guid within the feed, else its title."""
        return (self.url if not self.shares_page else "") or self.alias or f"{self.source}#title:{self.title}"

    @property
    def alias(self) -> str:
        """The guid, made unique by its feed; "" where there is none."""
        return f"{self.source}#{self.guid}" if self.guid else ""


class Validators(msgspec.Struct, frozen=True, kw_only=True):
    """What a server gave us to ask «has it changed?» with (RFC 9110 §13.1)."""

    etag: str = ""
    modified: str = ""


class Feed(msgspec.Struct, frozen=True, kw_only=True):
    """What one source yielded."""

    source: str
    title: str
    items: list[Item]
    validators: Validators
    unchanged: bool = False
    """True where the server answered «not modified»; `items` is then empty."""
    notes: list[str] = []
    """What was odd but survivable, in words for the user."""
