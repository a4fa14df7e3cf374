"""An agent's own files, memory and spend, as its code uses them.

Within a run each call is a step that needs no intent: what it changes and its receipt are one transaction, so it
happens once, and a replay gets the answer that was given first even if the workbook has changed since.
Outside a run the calls go straight to the workbook.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from torpor.runtime.run import branch_here, run_here
from torpor.workbook import Embedding, Entry, FileStat, Found, Volume, Workbook

T = TypeVar("T")


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """An entry that is to be remembered."""

    content: str
    kind: str = "note"
    source: str | None = None
    aliases: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}


class _Own:
    """What the three have in common: they act on the agent's workbook, as a part of its run."""

    def __init__(self, book: Workbook) -> None:
        self._book = book

    def _do(self, name: str, arguments: dict[str, Any], do: Callable[[], T], type_: Any) -> T:
        branch = branch_here.get()
        if branch is None or branch.run.book is not self._book:
            return do()
        return branch.run.local(name, arguments, do, type_)

    def _together(self, do: Callable[[], T]) -> Callable[[], T]:
        def do_together() -> T:
            with self._book.transaction():
                return do()

        return do_together

    def _span(self) -> str | None:
        run = run_here.get()
        return run.id if run is not None and run.book is self._book else None


class AgentMemory(_Own):
    """What the agent learned."""

    def remember(  # noqa: PLR0913  (one for each part of an entry)
        self,
        content: str,
        *,
        kind: str = "note",
        source: str | None = None,
        aliases: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        embedding: Embedding | None = None,
        expires: int | None = None,
    ) -> int:
        """Keep an entry and return its number; see `Memory.remember`."""
        names = list(aliases)
        keep = partial(
            self._book.memory.remember,
            content,
            kind=kind,
            source=source,
            aliases=names,
            metadata=metadata,
            embedding=embedding,
            expires=expires,
            span=self._span(),
        )
        given = {"content": digest(content), "kind": kind, "source": source, "expires": expires}
        return self._do("memory.remember", given, keep, int)

    def remember_all(self, notes: Iterable[Note]) -> int:
        """Keep many entries at once and return how many they are."""
        kept = list(notes)

        def keep() -> int:
            for note in kept:
                self._book.memory.remember(
                    note.content,
                    kind=note.kind,
                    source=note.source,
                    aliases=note.aliases,
                    metadata=note.metadata,
                    span=self._span(),
                )
            return len(kept)

        given = {"notes": len(kept), "content": digest(msgspec.json.encode(kept).decode())}
        return self._do("memory.remember_all", given, self._together(keep), int)

    def unseen(self, things: Iterable[T], names: Callable[[T], Sequence[str]] | None = None) -> list[T]:
        """Return the things that memory doesn't know by any of their names, in order, each once.

        Args:
            things: texts, or objects with a `url`.
            names: the names of a thing; text itself, or the `url`, unless given.

        """
        called = names or _name
        listed = list(things)
        known = [[name for name in called(thing) if name] for thing in listed]

        def choose() -> list[int]:
            seen: set[str] = set()
            fresh = []
            for number, its_names in enumerate(known):
                if seen.isdisjoint(its_names) and len(self._book.memory.unseen(its_names)) == len(set(its_names)):
                    fresh.append(number)
                seen.update(its_names)
            return fresh

        given = {"things": len(listed), "names": digest(msgspec.json.encode(known).decode())}
        return [listed[number] for number in self._do("memory.unseen", given, choose, list[int])]

    def get(self, source: str) -> Entry | None:
        """Return the entry of that source or alias; see `Memory.get`."""
        find = partial(self._book.memory.get, source)
        return self._do("memory.get", {"source": source}, find, Entry | None)

    def search(self, words: str, *, kind: str | None = None, limit: int = 10) -> list[Found]:
        """Return the entries that have all these words, best first; see `Memory.search`."""
        find = partial(self._book.memory.search, words, kind=kind, limit=limit)
        given = {"words": words, "kind": kind, "limit": limit}
        return self._do("memory.search", given, find, list[Found])

    def nearest(self, embedding: Embedding, *, kind: str | None = None, limit: int = 10) -> list[Found]:
        """Return the entries whose embeddings are nearest, best first; see `Memory.nearest`."""
        find = partial(self._book.memory.nearest, embedding, kind=kind, limit=limit)
        vector = digest(msgspec.json.encode(embedding).decode())
        given = {"vector": vector, "kind": kind, "limit": limit}
        return self._do("memory.nearest", given, find, list[Found])

    def forget(self, entry: int) -> bool:
        """Remove an entry; returns whether it was there."""
        drop = partial(self._book.memory.forget, entry, span=self._span())
        return self._do("memory.forget", {"entry": entry}, drop, bool)


class AgentFiles(_Own):
    """The agent's files; the workspace unless another volume is named."""

    def read(self, path: str, *, volume: Volume = "workspace") -> bytes:
        """Return a file's content; see `Volumes.read`."""
        read = partial(self._book.volumes.read, volume, path)
        return self._do("files.read", {"volume": volume, "path": path}, read, bytes)

    def write(self, path: str, data: bytes, *, volume: Volume = "workspace") -> None:
        """Make a file, or replace it whole; see `Volumes.write`."""
        write = partial(self._book.volumes.write, volume, path, data, span=self._span())
        given = {"volume": volume, "path": path, "data": hashlib.sha256(data).hexdigest()}
        self._do("files.write", given, write, None)

    def append(self, path: str, data: bytes, *, volume: Volume = "workspace") -> None:
        """Add bytes to the end of a file; see `Volumes.append`."""
        append = partial(self._book.volumes.append, volume, path, data, span=self._span())
        given = {"volume": volume, "path": path, "data": hashlib.sha256(data).hexdigest()}
        self._do("files.append", given, append, None)

    def list(self, folder: str = "/", *, volume: Volume = "workspace", recursive: bool = False) -> list[FileStat]:
        """Return what is in a folder; see `Volumes.list`."""
        look = partial(self._book.volumes.list, volume, folder, recursive=recursive)
        given = {"volume": volume, "folder": folder, "recursive": recursive}
        return self._do("files.list", given, look, list[FileStat])

    def move(self, path: str, target: str, *, volume: Volume = "workspace", replace: bool = False) -> None:
        """Give a file or folder another path; see `Volumes.move`."""
        move = partial(self._book.volumes.move, volume, path, target, replace=replace, span=self._span())
        given = {"volume": volume, "path": path, "target": target, "replace": replace}
        self._do("files.move", given, move, None)

    def delete(self, path: str, *, volume: Volume = "workspace", recursive: bool = False) -> None:
        """Remove a file, or a folder with all below it; see `Volumes.delete`."""
        drop = partial(self._book.volumes.delete, volume, path, recursive=recursive, span=self._span())
        given = {"volume": volume, "path": path, "recursive": recursive}
        self._do("files.delete", given, drop, None)


class AgentSpend(_Own):
    """What the agent pays."""

    def book(self, amount: int, unit: str, *, source: str, target: str, key: str) -> int:
        """Move an amount, in micro-units, from one account to another, once; see `Spend.book`."""
        pay = partial(
            self._book.spend.book,
            amount,
            unit,
            source=source,
            target=target,
            key=key,
            span=self._span(),
        )
        given = {"amount": amount, "unit": unit, "source": source, "target": target, "key": key}
        return self._do("spend.book", given, pay, int)

    def balances(self) -> dict[str, int]:
        """Return each account's balance in micro-units, by "account unit"."""

        def read() -> dict[str, int]:
            found = self._book.spend.balances()
            return {f"{account} {unit}": amount for (account, unit), amount in found.items()}

        return self._do("spend.balances", {}, read, dict[str, int])


def digest(text: str) -> str:
    """Return a text's SHA-256 in hexadecimal: what stands for it where only its identity matters."""
    return hashlib.sha256(text.encode()).hexdigest()


def _name(thing: object) -> Sequence[str]:
    return [thing] if isinstance(thing, str) else [str(getattr(thing, "url", thing))]
