"""What a workbook holds, as one value that can be compared."""

from __future__ import annotations

import hashlib

import msgspec

from torpor.workbook import VOLUMES, Volume, Workbook


class Portrait(msgspec.Struct, frozen=True):
    """Everything that can be read through the public door of one workbook."""

    last: int
    events: str
    """SHA-256 over every event, its hash included."""
    files: dict[str, tuple[int, int, str]]
    """Size, mode and SHA-256 of each file, by volume and path."""
    memory: list[tuple[int, str, str, str | None]]
    spend: dict[tuple[str, str], int]
    settings: dict[str, str]


def portrait(book: Workbook) -> Portrait:
    """Return what `book` holds."""
    digest = hashlib.sha256()
    for event in book.events():
        digest.update(msgspec.json.encode(event))
    return Portrait(
        last=book.last,
        events=digest.hexdigest(),
        files=_files(book),
        memory=[
            (entry.entry, entry.kind, entry.content, entry.source) for entry in book.memory.entries(limit=1_000_000)
        ],
        spend=book.spend.balances(),
        settings=book.settings.all(),
    )


def _files(book: Workbook) -> dict[str, tuple[int, int, str]]:
    volumes: tuple[Volume, ...] = VOLUMES
    found = {}
    for volume in volumes:
        for stat in book.list(volume, recursive=True):
            content = hashlib.sha256(book.read(volume, stat.path)).hexdigest()
            found[f"{volume}:{stat.path}"] = (stat.size, stat.mode, content)
    return found
