"""The fold: what the journal says the rest of the workbook must look like.

Pure: events go in, one by one; what the tables must hold comes out. `verify` compares the two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from torpor.base.limits import VOLUME_QUOTA_DEFAULT
from torpor.workbook.paths import VOLUMES

Parts = list[tuple[int, str]]
"""Sizes and SHA-256 digests of the pieces that make up a file, in order."""

Body = dict[str, Any]


class Folded:
    """The state that a journal describes.

    Attributes:
        files: mode and parts of each file, by volume and path.
        quotas: bytes that each volume may hold.
        memory: what is known of each entry, by its number.
        settings: each setting's value, by its name.
        spend: each booking's facts, by the number of its event.

    """

    def __init__(self) -> None:
        self.files: dict[tuple[str, str], tuple[int, Parts]] = {}
        self.quotas: dict[str, int] = dict.fromkeys(VOLUMES, VOLUME_QUOTA_DEFAULT)
        self.memory: dict[int, Body] = {}
        self.settings: dict[str, Any] = {}
        self.spend: dict[int, tuple[str, str, str, int, str]] = {}

    def take(self, seq: int, kind: str, body: Body) -> None:
        """Apply one event; kinds that change no table are passed over.

        Raises:
            KeyError, TypeError, ValueError: the body is not what its kind must have.

        """
        change = _CHANGES.get(kind)
        if change is not None:
            change(self, seq, body)

    def _written(self, _seq: int, body: Body) -> None:
        self.files[body["volume"], body["path"]] = (body["mode"], _parts(body))

    def _appended(self, _seq: int, body: Body) -> None:
        place = body["volume"], body["path"]
        mode, parts = self.files[place]
        self.files[place] = (mode, [*parts, *_parts(body)])

    def _moved(self, _seq: int, body: Body) -> None:
        volume, path, target = body["volume"], body["path"], body["target"]
        moving = {place: self.files.pop(place) for place in self._at(volume, path)}
        for (_, old), file in moving.items():
            self.files[volume, target + old[len(path) :]] = file

    def _deleted(self, _seq: int, body: Body) -> None:
        for place in self._at(body["volume"], body["path"]):
            del self.files[place]

    def _limited(self, _seq: int, body: Body) -> None:
        self.quotas[body["volume"]] = body["quota"]

    def _kept(self, _seq: int, body: Body) -> None:
        facts = {name: body[name] for name in ("kind", "source", "metadata", "sha256", "expires")}
        self.memory[body["entry"]] = {**facts, "aliases": sorted(body["aliases"])}

    def _forgotten(self, _seq: int, body: Body) -> None:
        for entry in body["entries"]:
            del self.memory[entry]

    def _set(self, _seq: int, body: Body) -> None:
        self.settings[body["name"]] = body["value"]

    def _booked(self, seq: int, body: Body) -> None:
        self.spend[seq] = (
            body["source"], body["target"], body["unit"], body["amount"], body["key"]
        )  # fmt: skip

    def _at(self, volume: str, path: str) -> list[tuple[str, str]]:
        if (volume, path) in self.files:
            return [(volume, path)]  # where a file stands, no folder does
        folder = path.rstrip("/") + "/"
        return [place for place in self.files if place[0] == volume and place[1].startswith(folder)]


_CHANGES: Final[dict[str, Callable[[Folded, int, Body], None]]] = {
    "file.written": Folded._written,  # noqa: SLF001  (the class's own table, which needs the class)
    "file.appended": Folded._appended,  # noqa: SLF001
    "file.moved": Folded._moved,  # noqa: SLF001
    "file.deleted": Folded._deleted,  # noqa: SLF001
    "volume.limited": Folded._limited,  # noqa: SLF001
    "memory.kept": Folded._kept,  # noqa: SLF001
    "memory.forgotten": Folded._forgotten,  # noqa: SLF001
    "setting.changed": Folded._set,  # noqa: SLF001
    "spend.booked": Folded._booked,  # noqa: SLF001
}


def matches(parts: Parts, chunks: Iterator[bytes]) -> bool:
    """Report whether a file's content, given chunk by chunk, is what its parts describe."""
    rest = memoryview(b"")
    for size, digest in parts:
        left, found = size, hashlib.sha256()
        while left:
            rest = rest or memoryview(next(chunks, b""))
            if not rest:
                return False
            piece, rest = rest[:left], rest[left:]
            found.update(piece)
            left -= len(piece)
        if found.hexdigest() != digest:
            return False
    return not rest and not next(chunks, b"")


def _parts(body: Body) -> Parts:
    return msgspec.convert(body["parts"], type=list[tuple[int, str]])
