"""Three feeds of eight items each, of the length that feeds have; the same in every run."""

from __future__ import annotations

import random
from html import escape
from pathlib import Path
from typing import Final

_FEEDS: Final = ("systems", "databases", "agents")
_EACH: Final = 8

_SUBJECTS: Final = (
    "the write-ahead log",
    "a scheduler under load",
    "the page cache",
    "a queue of messages",
    "the planner",
    "an agent that resumes",
    "the snapshot format",
    "a vector index",
    "the retry policy",
    "a replicated journal",
    "the file system",
    "a model's answer",
    "the lock table",
    "an idle process",
    "the checksum",
    "a tenant's quota",
)
_VERBS: Final = (
    "keeps its promise after",
    "slows down before",
    "was rewritten because of",
    "loses its order without",
    "can be measured against",
    "explains most of",
    "is simpler than",
    "does not survive",
)
_ENDS: Final = (
    "the power goes",
    "the second fsync",
    "a crash in the middle of a commit",
    "the budget is spent",
    "a week of production traffic",
    "the last release",
    "ten thousand sleeping agents",
    "a cold start",
    "the first million rows",
    "a noisy neighbour",
    "the cache is empty",
    "an upgrade of the kernel",
)


def write_feeds(folder: Path) -> list[str]:
    """Write the feeds as RSS into `folder` and return their paths."""
    chance = random.Random(24)  # noqa: S311  (the same feeds in every run)
    paths = []
    for name in _FEEDS:
        items = "".join(_item(chance, name, number) for number in range(_EACH))
        path = folder / f"{name}.xml"
        path.write_text(
            '<?xml version="1.0" encoding="UTF-8"?>\n<rss version="2.0"><channel>'
            f"<title>Notes on {name}</title><link>https://{name}.example/</link>"
            f"<description>Notes on {name}</description>{items}</channel></rss>\n",
            encoding="utf-8",
        )
        paths.append(str(path))
    return paths


def _sentence(chance: random.Random) -> str:
    said = f"{chance.choice(_SUBJECTS)} {chance.choice(_VERBS)} {chance.choice(_ENDS)}"
    return said[0].upper() + said[1:] + "."


def _item(chance: random.Random, name: str, number: int) -> str:
    paragraphs = "".join(f"<p>{' '.join(_sentence(chance) for _ in range(5))}</p>" for _ in range(6))
    link = f"https://{name}.example/{number}"
    return (
        f"<item><title>{escape(_sentence(chance)[:-1])} ({name} {number})</title><link>{link}</link><guid>{link}</guid>"
        f"<pubDate>Mon, {number + 1:02d} Sep 2025 08:00:00 GMT</pubDate>"
        f"<description>{escape(paragraphs)}</description></item>"
    )
