"""Cold and archive stores: where an agent's file is while the agent is frozen or archived.

**A store** is named by a URL: a folder of the home (`cold`), any folder (`file:///srv/cold`), a part of an S3 bucket
(`s3://bucket/folder`), or this process's memory (`memory://name`, for tests and trials). **A key** names one object in
it, `AGENT/EPOCH.workbook`; one that ends in `.zst` is kept compressed. **A place**, `URL#KEY`, is how the ledger
remembers where an agent is, whatever the settings say by then.

**Putting.** The file is read once, a piece at a time, and hashed on the way. What was put is then made durable, read
back from the store, taken out of its compression and hashed again. Only when both hashes are the same does `put`
return: what it returns for may be the only copy a moment later.

**Getting.** Pieces go into a new file, which is synced, read back and hashed. Where its size or its hash isn't as
recorded, the file is removed: an agent is never made of something else. Nothing larger than the recorded size is
written, whatever a compressed object claims to hold.

Weather is an error of its own: a store that can't be reached says nothing about what is in it.
"""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Final

import msgspec
import zstandard

from torpor.base import faults
from torpor.base.errors import CopyDamaged, CopyMissing, StorageFailed, StoreRefused, TorporError
from torpor.stores.addresses import is_key, shelf_of
from torpor.stores.copies import Told, Watch, digest_in, digest_of, reading, said_of, telling, write_all, writing
from torpor.stores.folders import FolderShelf
from torpor.stores.pieces import Pieces, ahead, compressed, decompressed, pieces_of
from torpor.stores.shelves import Kind, Options, Shelf

__all__ = ["Options", "Put", "Store", "Stores", "Wanted", "archive_key", "cold_key", "open_store"]

_COMPRESSED: Final = ".zst"
_DEFAULTS: Final = Options()


class Put(msgspec.Struct, frozen=True):
    """What was put into a store.

    Attributes:
        place: where it is.
        digest: the SHA-256 of the file, not compressed.
        size: the bytes of the file.
        stored: the bytes that it takes in the store.

    """

    place: str
    digest: str
    size: int
    stored: int


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is expected of a store.

    Attributes:
        name: whose copy it is; for errors.
        digest: the SHA-256 of the file, not compressed.
        size: the bytes of the file.

    """

    name: str
    digest: str
    size: int


class Store:
    """One cold or archive store. Safe to be used by many threads, for different keys. Made by `open_store`.

    Attributes:
        url: its one spelling, as the ledger keeps it; a folder of the home stays relative, so the home can be moved.
        kind: "file", "s3" or "memory".

    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self.url = shelf.url
        self.kind: Kind = shelf.kind

    def place(self, key: str) -> str:
        """Return the place of a key: this store's URL and the key."""
        return f"{self.url}#{key}"

    def put(self, key: str, source: str, *, name: str, watch: Watch | None = None) -> Put:
        """Put a file into the store, verified and durable when this returns.

        An object already under the key, such as an earlier attempt's, is replaced. Where this fails, or the process is
        killed in it, something may be under the key: whoever asks makes a note of the place before.

        Args:
            key: its name there; compressed where it ends in ".zst".
            source: the file, which nobody writes meanwhile.
            name: whose copy it is; for errors.
            watch: is told how far it is, perhaps in another thread.

        Raises:
            CopyDamaged: what reads back is not what was put; it is removed again.
            StoreUnreachable, StorageFull: the store can't take it.
            WorkbookMissing, WorkbookReadOnly, StorageFailed: the file can't be read.

        """
        self._check(key)
        with reading(source) as (descriptor, size):
            tell = telling("put", size, watch)
            if isinstance(self._shelf, FolderShelf) and not key.endswith(_COMPRESSED):
                with ThreadPoolExecutor(1, "torpor-digest") as beside:
                    read = beside.submit(digest_in, descriptor, tell)
                    self._shelf.take(key, descriptor, size)
                    with said_of(source):
                        digest = read.result()
            else:
                try:
                    digest = self._stream(key, pieces_of(source, descriptor), size, tell)
                except zstandard.ZstdError as error:  # the size was promised, and isn't kept
                    raise StorageFailed(path=source, reason="it changed while it was read") from error
        faults.point("store.put")
        wanted = Wanted(name=name, digest=digest, size=size)
        stored = self._verify(key, wanted, watch)
        faults.point("store.verified")
        return Put(self.place(key), wanted.digest, size, stored)

    def get(self, key: str, target: str, wanted: Wanted, *, watch: Watch | None = None) -> None:
        """Bring a file back from the store: the one that was put, or none at all.

        Args:
            key: its name there.
            target: where to; nothing may be there. Readable by its owner only, its bytes on the disk when this returns.
            wanted: what it has to be.
            watch: is told how far it is.

        Raises:
            CopyMissing: nothing is there.
            CopyDamaged: it is something else.
            StoreUnreachable: that can't be known now.
            FileTaken: something is at `target`; it is left as it is.
            WorkbookMissing, WorkbookReadOnly, StorageFull, StorageFailed: `target` can't be written.

        """
        self._check(key)
        size = self._size(key, wanted)
        with writing(target) as descriptor:
            tell = telling("get", wanted.size, watch)
            if isinstance(self._shelf, FolderShelf) and not key.endswith(_COMPRESSED):
                self._shelf.give(key, descriptor, size, tell)
            else:
                with closing(self._content(key, size, wanted, tell)) as pieces:
                    for piece in pieces:
                        write_all(descriptor, piece)
            os.fsync(descriptor)
            self._require(key, wanted, digest_of(target, watch=watch))
            faults.point("store.got")

    def delete(self, key: str) -> bool:
        """Remove an object, and in a folder what a killed put left of it; returns whether any was there.

        S3 doesn't say what was there, so there the answer is always True.

        Raises:
            StoreUnreachable: it may still be there.

        """
        self._check(key)
        return self._shelf.delete(key)

    def has(self, key: str) -> bool:
        """Return whether there is an object of that name; what it holds is not looked at.

        Raises:
            StoreUnreachable: that can't be known now.

        """
        self._check(key)
        return self._shelf.size(key) is not None

    def _stream(self, key: str, pieces: Pieces, size: int, tell: Told) -> str:
        """Put pieces, in one thread while the next are read and hashed in another; returns their SHA-256."""
        found = hashlib.sha256()

        def hashed() -> Pieces:
            for piece in pieces:
                found.update(piece)
                tell(len(piece))
                yield piece

        with closing(ahead(hashed())) as plain:
            if key.endswith(_COMPRESSED):
                with closing(ahead(compressed(plain, size))) as packed:
                    self._shelf.write(key, packed, size)
            else:
                self._shelf.write(key, plain, size)
        return found.hexdigest()

    def _verify(self, key: str, wanted: Wanted, watch: Watch | None) -> int:
        """Read back what was put, and return the bytes that it takes."""
        try:
            size = self._size(key, wanted)
            found = hashlib.sha256()
            with closing(self._content(key, size, wanted, telling("verify", wanted.size, watch))) as pieces:
                for piece in pieces:
                    found.update(piece)
            self._require(key, wanted, found.hexdigest())
        except CopyDamaged:
            with suppress(TorporError):  # whoever reserved the place removes it
                self._shelf.delete(key)
            raise
        return size

    def _size(self, key: str, wanted: Wanted) -> int:
        size = self._shelf.size(key)
        if size is None:
            raise CopyMissing(name=wanted.name, place=self.place(key), reason="nothing is there")
        if not key.endswith(_COMPRESSED) and size != wanted.size:
            raise self._damaged(key, wanted, f"it has {size:,} bytes, not {wanted.size:,}")
        return size

    def _content(self, key: str, size: int, wanted: Wanted, tell: Told) -> Pieces:
        """Yield the file that an object of `size` bytes holds, as long as it can be the wanted one."""
        done = 0
        try:
            with closing(ahead(self._shelf.read(key, size))) as raw:
                plain = decompressed(raw) if key.endswith(_COMPRESSED) else raw
                for piece in plain:
                    done += len(piece)
                    if done > wanted.size:
                        raise self._damaged(key, wanted, f"it holds more than {wanted.size:,} bytes")
                    tell(len(piece))
                    yield piece
        except zstandard.ZstdError as error:
            raise self._damaged(key, wanted, str(error)) from error
        except FileNotFoundError as error:
            raise CopyMissing(name=wanted.name, place=self.place(key), reason="it went while it was read") from error
        if done < wanted.size:
            raise self._damaged(key, wanted, f"it ends after {done:,} of {wanted.size:,} bytes")

    def _require(self, key: str, wanted: Wanted, digest: str) -> None:
        if digest != wanted.digest:
            raise self._damaged(key, wanted, f"its SHA-256 is {digest}, not {wanted.digest}")

    def _damaged(self, key: str, wanted: Wanted, reason: str) -> CopyDamaged:
        return CopyDamaged(name=wanted.name, place=self.place(key), reason=reason)

    def _check(self, key: str) -> None:
        if not is_key(key):
            raise StoreRefused(url=self.place(key), reason="what follows # is no key of a copy")


class Stores:
    """The stores of one home, each made once. Safe to be used by many threads.

    Args:
        home: the home's folder, absolute.
        options: how those over a network are spoken to.

    """

    def __init__(self, home: str, options: Options = _DEFAULTS) -> None:
        self._home = home
        self._options = options
        self._known: dict[str, Store] = {}
        self._lock = threading.Lock()

    def open(self, url: str) -> Store:
        """Return the store of a URL; see `open_store`.

        Raises:
            StoreRefused: it means none.

        """
        with self._lock:
            if url not in self._known:
                store = open_store(url, self._home, options=self._options)
                self._known[url] = self._known.setdefault(store.url, store)
            return self._known[url]

    def at(self, place: str) -> tuple[Store, str]:
        """Return the store and the key of a place that a store once named.

        Raises:
            StoreRefused: it is no place.

        """
        url, mark, key = place.rpartition("#")
        if not mark or not is_key(key):
            raise StoreRefused(url=place, reason="it is not the place of a copy")
        return self.open(url), key


def cold_key(agent: str, epoch: int) -> str:
    """Return the key of an agent's cold copy."""
    return f"{agent}/{epoch}.workbook"


def archive_key(agent: str, epoch: int) -> str:
    """Return the key of an agent's archived copy, which is compressed."""
    return f"{agent}/{epoch}.workbook{_COMPRESSED}"


def open_store(url: str, home: str, *, options: Options = _DEFAULTS) -> Store:
    """Return the store that a URL means. Nothing is made or asked yet, so it may not be there.

    Args:
        url: `file:///folder`, `/folder`, `folder` (of the home), `s3://bucket/folder` or `memory://name`.
        home: the home's folder, absolute.
        options: how a store over a network is spoken to.

    Raises:
        StoreRefused: it means none.

    """
    shelf = shelf_of(url, home, options)
    if shelf.kind in ("gs", "az"):
        raise StoreRefused(url=url, reason=f"agents are not kept in {shelf.kind}://")
    return Store(shelf)
