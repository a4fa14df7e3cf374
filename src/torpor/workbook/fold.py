"""The fold: what the journal says the rest of the workbook must look like.

Pure: events go in, one by one; what the tables must hold comes out. `verify` compares the two, and a fork or a rewind
makes the tables from it. `Folded` is the state along one line of events; `Chronicle` folds a whole journal, rewinds
included, and knows besides what was retired: replaced or removed, and kept for going back.

What a file holds is named by two events: the one that made it (`born`) and the one that last added to it (`grown`).
That is unique in a journal, whatever was set aside meanwhile, and needs no look at the content.
"""

from __future__ import annotations

import copy
import hashlib
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from torpor.base.limits import VOLUME_QUOTA_DEFAULT
from torpor.workbook.paths import VOLUMES, below

Parts = tuple[tuple[int, str], ...]
"""Sizes and SHA-256 digests of the pieces that make up a file, in order."""

Place = tuple[str, str]
"""A volume and a path."""

Content = tuple[int, int]
"""The numbers of the events that made a file and that last added to it: they name what it holds."""

Booked = tuple[str, str, str, int, str]
"""A booking's source, target, unit, amount and key."""

REWOUND: Final = "journal.rewound"
"""The kind of the event by which a rewind is recorded."""

BORN: Final = "agent.born"
"""The kind of the event by which a workbook that was made from another begins a life of its own."""

UNFOLDABLE: Final = (msgspec.MsgspecError, KeyError)
"""What the fold raises where an event doesn't fit what its kind must have, or what was before it."""


@dataclass(frozen=True, slots=True, eq=False)
class FoldedFile:
    """A file, as the journal describes it. One that was appended to leads back to what it was before."""

    mode: int
    born: int
    grown: int
    size: int
    last: Parts
    before: FoldedFile | None = None

    @property
    def content(self) -> Content:
        """The name of what it holds: moving leaves that the same."""
        return (self.born, self.grown)

    def parts(self) -> Parts:
        """Return the pieces that make it up, in order."""
        found, file = [], self
        while file.before is not None:
            found.append(file.last)
            file = file.before
        found.append(file.last)
        return tuple(part for parts in reversed(found) for part in parts)


class FoldedEntry(msgspec.Struct, frozen=True):
    """A memory entry, as the journal describes it."""

    kind: str
    source: str | None
    aliases: tuple[str, ...]
    metadata: str
    """JSON, as the event has it."""
    sha256: str
    expires: int | None
    born: int
    """Number of the event that kept it."""


class Folded:
    """The state that a line of events describes.

    Attributes:
        files: each file.
        quotas: bytes that each volume may hold.
        memory: each entry, by its number.
        settings: the text of each setting's value, and the number of the event that gave it, by its name.
        spend: each booking, by the number of its event.
        dropped: the files and memory entries that went out of it since this was last cleared.

    """

    def __init__(self) -> None:
        self.files: dict[Place, FoldedFile] = {}
        self.quotas: dict[str, int] = dict.fromkeys(VOLUMES, VOLUME_QUOTA_DEFAULT)
        self.memory: dict[int, FoldedEntry] = {}
        self.settings: dict[str, tuple[str, int]] = {}
        self.spend: dict[int, Booked] = {}
        self.dropped: list[FoldedFile | FoldedEntry] = []
        self._places: list[Place] = []
        """Those of the files, sorted: what is below a folder is found without a look at all of them."""

    def take(self, seq: int, kind: str, body: str) -> None:
        """Apply one event; kinds that change no table are passed over.

        Raises:
            MsgspecError, KeyError: the body is not what its kind must have (`UNFOLDABLE`).

        """
        change = _CHANGES.get(kind)
        if change is not None:
            decode, apply = change
            apply(self, seq, decode(body))

    def copy(self) -> Folded:
        """Return the same state, to go on from independently."""
        twin = Folded()
        for name, table in vars(self).items():
            setattr(twin, name, copy.copy(table))
        return twin

    def contents(self) -> dict[Content, FoldedFile]:
        """Return the files by the names of what they hold."""
        return {file.content: file for file in self.files.values()}

    def entries(self) -> dict[int, FoldedEntry]:
        """Return the memory entries by the events that kept them."""
        return {entry.born: entry for entry in self.memory.values()}

    # --- one kind each ---

    def _written(self, seq: int, facts: _Written) -> None:
        self._put((facts.volume, facts.path), FoldedFile(facts.mode, seq, seq, _size(facts.parts), facts.parts))

    def _appended(self, seq: int, facts: _Appended) -> None:
        place = facts.volume, facts.path
        file = self.files[place]
        size = file.size + _size(facts.parts)
        self.files[place] = FoldedFile(file.mode, file.born, seq, size, facts.parts, file)

    def _moved(self, _seq: int, facts: _Moved) -> None:
        for place, file in self._take_away(facts.volume, facts.path):
            self._put((facts.volume, facts.target + place[1][len(facts.path) :]), file)

    def _deleted(self, _seq: int, facts: _Deleted) -> None:
        self.dropped += (file for _, file in self._take_away(facts.volume, facts.path))

    def _limited(self, _seq: int, facts: _Limited) -> None:
        self.quotas[facts.volume] = facts.quota

    def _remembered(self, seq: int, facts: _Remembered) -> None:
        if facts.entry in self.memory:
            self.dropped.append(self.memory[facts.entry])
        self.memory[facts.entry] = FoldedEntry(
            facts.kind,
            facts.source,
            tuple(sorted(facts.aliases)),
            bytes(facts.metadata).decode(),
            facts.sha256,
            facts.expires,
            seq,
        )

    def _forgotten(self, _seq: int, facts: _Forgotten) -> None:
        self.dropped += (self.memory.pop(entry) for entry in facts.entries)

    def _changed(self, seq: int, facts: _Changed) -> None:
        self.settings[facts.name] = (bytes(facts.value).decode(), seq)

    def _booked(self, seq: int, facts: _Booked) -> None:
        self.spend[seq] = (facts.source, facts.target, facts.unit, facts.amount, facts.key)

    # --- the places ---

    def _put(self, place: Place, file: FoldedFile) -> None:
        if place in self.files:
            self.dropped.append(self.files[place])
        else:
            insort(self._places, place)
        self.files[place] = file

    def _take_away(self, volume: str, path: str) -> list[tuple[Place, FoldedFile]]:
        """Take the file at a path, or all below it, out of its place."""
        first, end = below(path.rstrip("/"))
        if (volume, path) in self.files:  # where a file stands, no folder does
            first, end = path, f"{path}\0"
        start = bisect_left(self._places, (volume, first))
        stop = bisect_left(self._places, (volume, end))
        gone = self._places[start:stop]
        del self._places[start:stop]
        return [(place, self.files.pop(place)) for place in gone]


class Chronicle:
    """The fold of a whole journal, rewinds included.

    Attributes:
        now: the state that the events taken so far describe.
        files: what was retired and is kept of the files, and the number of the event that retired it.
        texts: the memory entries that were retired and are kept, by birth, and the number of the event.

    Args:
        targets: the events that rewinds go back to, each as often as one does.
        horizon: what was retired by events up to this one is not kept.

    """

    def __init__(self, targets: Iterable[int], horizon: int) -> None:
        self.now = Folded()
        self.files: dict[Content, tuple[int, FoldedFile]] = {}
        self.texts: dict[int, tuple[int, FoldedEntry]] = {}
        self._horizon = horizon
        self._due = Counter(targets)
        self._states = {0: Folded()}

    def take(self, seq: int, kind: str, body: str) -> None:
        """Apply one event.

        Raises:
            MsgspecError, KeyError: the body is not what its kind must have (`UNFOLDABLE`).

        """
        if kind == REWOUND:
            self._rewind(seq, rewound_to(body))
        else:
            self.now.take(seq, kind, body)
            for gone in self.now.dropped:
                self._retire(seq, gone)
            self.now.dropped.clear()
        if self._due[seq]:
            self._states[seq] = self.now.copy()

    def _retire(self, seq: int, gone: FoldedFile | FoldedEntry) -> None:
        if seq <= self._horizon:
            return
        if isinstance(gone, FoldedFile):
            self.files[gone.content] = (seq, gone)
        else:
            self.texts[gone.born] = (seq, gone)

    def _rewind(self, seq: int, target: int) -> None:
        before, after = self.now, self._states[target]
        self._due[target] -= 1
        if self._due[target]:
            after = after.copy()
        elif target:
            del self._states[target]  # nobody comes back to it: what is held at a time is what is still due
        else:
            self._states[0] = Folded()
        contents, entries = after.contents(), after.entries()
        for file in before.files.values():
            if file.content not in contents:
                self._retire(seq, file)
        for entry in before.memory.values():
            if entry.born not in entries:
                self._retire(seq, entry)
        for content in contents:
            self.files.pop(content, None)
        for born in entries:
            self.texts.pop(born, None)
        self.now = after


def rewound_to(body: str) -> int:
    """Return the number of the event that a rewind went back to, from the body of its own.

    Raises:
        MsgspecError: it says none.

    """
    return _decode_rewound(body).to


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


def _size(parts: Parts) -> int:
    return sum(size for size, _ in parts)


# --- the bodies that change a table; SPEC.md §4 ---


class _Written(msgspec.Struct):
    volume: str
    path: str
    mode: int
    parts: Parts


class _Appended(msgspec.Struct):
    volume: str
    path: str
    parts: Parts


class _Moved(msgspec.Struct):
    volume: str
    path: str
    target: str


class _Deleted(msgspec.Struct):
    volume: str
    path: str


class _Limited(msgspec.Struct):
    volume: str
    quota: int


class _Remembered(msgspec.Struct):
    entry: int
    kind: str
    source: str | None
    aliases: list[str]
    metadata: msgspec.Raw
    sha256: str
    expires: int | None


class _Forgotten(msgspec.Struct):
    entries: list[int]


class _Changed(msgspec.Struct):
    name: str
    value: msgspec.Raw


class _Booked(msgspec.Struct):
    source: str
    target: str
    unit: str
    amount: int
    key: str


class _Rewound(msgspec.Struct):
    to: int


_decode_rewound = msgspec.json.Decoder(_Rewound).decode


def _change(facts: type[Any], apply: Callable[[Folded, int, Any], None]) -> tuple[Callable[[str], Any], Any]:
    return msgspec.json.Decoder(facts).decode, apply


_CHANGES: Final = {
    "file.written": _change(_Written, Folded._written),  # noqa: SLF001  (the class's own table, which needs the class)
    "file.appended": _change(_Appended, Folded._appended),  # noqa: SLF001
    "file.moved": _change(_Moved, Folded._moved),  # noqa: SLF001
    "file.deleted": _change(_Deleted, Folded._deleted),  # noqa: SLF001
    "volume.limited": _change(_Limited, Folded._limited),  # noqa: SLF001
    "memory.kept": _change(_Remembered, Folded._remembered),  # noqa: SLF001
    "memory.forgotten": _change(_Forgotten, Folded._forgotten),  # noqa: SLF001
    "setting.changed": _change(_Changed, Folded._changed),  # noqa: SLF001
    "spend.booked": _change(_Booked, Folded._booked),  # noqa: SLF001
}

FOLDED_KINDS: Final = tuple(_CHANGES)
"""The kinds of the events that change a table."""
