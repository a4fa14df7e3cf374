"""Objects that are created once and never changed: what the heartbeat keeps in a store.

**Creating** is a conditional put: of all who create one key, however many machines they are on, one is told True and
the others False, and the object is his. The heartbeat's fence is made of nothing else, so this answer must never be
wrong; and it can get lost. A put whose answer didn't come, or was an error of a server that may have done it all the
same, is *in doubt*:

- The key is read back. The same bytes: it was done, True. Other bytes: somebody else's, False. Nothing, or no answer:
  the doubt stays, and is raised as the error that it is. The put may even arrive later.
- Asked again with the same bytes, a refusal alone means nothing: the key is read back, and what is there may be what
  the earlier try has put. So doubts are remembered here, by key and digest.
- A refusal without a doubt is an answer. Still it has to be shown something: some stores refuse while another put is
  under way that may yet fail.

Nothing is tried again in here, and nothing waits: whoever creates knows how long it is worth it. Bytes of two writers
that are equal can't be told apart after a lost answer, so there has to be something in them that is one writer's alone.

**Reading** gives exactly the bytes that were asked for, or an error that says whether the object is missing, ends too
early, or can't be read now.

**Listing** promises an order, and not that it is up to date: what is new may be missing, what is gone may be shown.
Whoever needs to know creates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import msgspec

from torpor.base.errors import (
    InternalError,
    ObjectCut,
    ObjectMissing,
    StorageFull,
    StoreRefused,
    StoreUnreachable,
    TorporError,
)
from torpor.stores.addresses import is_key, shelf_of
from torpor.stores.shelves import RANGE, Found, Kind, Options, Shelf

__all__ = ["Found", "Objects", "Options", "Tail", "open_objects"]

_DEFAULTS: Final = Options()


class Tail(msgspec.Struct, frozen=True):
    """The end of an object.

    Attributes:
        size: the bytes of the whole object.
        content: its last bytes: as many as were asked for, or all.

    """

    size: int
    content: bytes


class Objects:
    """The objects below one URL. Safe to be used by many threads. Made by `open_objects`.

    Attributes:
        url: its one spelling.
        kind: "file", "s3", "gs", "az" or "memory".

    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._doubts: dict[str, bytes] = {}
        self.url = shelf.url
        self.kind: Kind = shelf.kind

    def place(self, key: str) -> str:
        """Return where an object is, for people: this URL and the key."""
        return f"{self.url}#{key}"

    def create(self, key: str, content: bytes | memoryview) -> bool:
        """Create an object; whole and durable when this returns True. An object that is there is never replaced.

        Args:
            key: its name.
            content: its bytes, something of this writer's alone among them. They are sent in one request, within
                `Options.read_s`: what is much larger than 10 MB is for `put`.

        Returns:
            True where this created it, or an earlier try of the same bytes that had failed here; False where another
            object is there.

        Raises:
            StoreUnreachable, StorageFull: it is in doubt: there or not, or it may still come. Create the same bytes
                again, or read what is there.
            StoreRefused: this can't be a key; or the store can't create without replacing.

        """
        self._check(key)
        try:
            added = self._shelf.add(key, content)
        except (StoreUnreachable, StorageFull) as error:
            return self._after_failure(key, content, error)
        if not added:
            return self._after_refusal(key, content)
        self._doubts.pop(key, None)
        return True

    def put(self, key: str, pieces: Iterator[bytes | memoryview], size: int) -> None:
        """Put an object of any size, piece by piece, whole and durable when this returns; replaces one that is there.

        Args:
            key: its name, which nobody else uses: a digest or a nonce is a part of it.
            pieces: its bytes.
            size: how many they will be, at most.

        Raises:
            StoreUnreachable, StorageFull: it may not be there.
            StoreRefused: this can't be a key.

        """
        self._check(key)
        self._shelf.write(key, pieces, size)

    def read(self, key: str, start: int, end: int) -> bytes:
        """Return the bytes of an object from `start` up to `end`: so many, or an error.

        Raises:
            ObjectMissing: there is no such object.
            ObjectCut: it ends before `end`.
            StoreUnreachable: it can't be read now.
            StoreRefused: this can't be a key.

        """
        self._check(key)
        if not 0 <= start <= end:
            raise InternalError(promise=f"{start} to {end} is a part of an object")
        pieces = [self._piece(key, at, min(end, at + RANGE)) for at in range(start, end, RANGE)]
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)  # no copy where it is bytes already

    def tail(self, key: str, size: int) -> Tail:
        """Return the last bytes of an object, `size` of them or all, in two requests.

        Raises:
            ObjectMissing: there is no such object.
            StoreUnreachable: it can't be read now.
            StoreRefused: this can't be a key.

        """
        whole = self.size(key)
        if whole is None:
            raise ObjectMissing(place=self.place(key))
        return Tail(whole, self.read(key, max(0, whole - size), whole))

    def size(self, key: str) -> int | None:
        """Return the bytes of an object; None where there is none.

        Raises:
            StoreUnreachable: that can't be known now.
            StoreRefused: this can't be a key.

        """
        self._check(key)
        return self._shelf.size(key)

    def list(self, folder: str, *, after: str = "") -> Iterator[Found]:
        """Yield what is below a folder, by key in ascending order; it may be behind what was created and deleted.

        Args:
            folder: the key's first part or parts, without a slash at the end; "" for all.
            after: only keys behind this one.

        Raises:
            StoreUnreachable: it can't be known now, or not to its end: some may have been yielded.
            StoreRefused: these can't be a folder and a key.

        """
        for key in filter(None, (folder, after)):
            self._check(key)
        last = after
        for found in self._shelf.below(folder, after):
            if not is_key(found.key):  # a draft, or a stranger's
                continue
            if found.key <= last:
                reason = f"it lists {found.key} behind {last}, which is no order"
                raise StoreUnreachable(place=self.place(folder), reason=reason)
            last = found.key
            yield found

    def delete(self, key: str) -> bool:
        """Remove an object, for good; returns False where none was there, as far as the kind of store tells.

        Raises:
            StoreUnreachable: it may still be there.
            StoreRefused: this can't be a key.

        """
        self._check(key)
        return self._shelf.remove(key)

    def trial(self, key: str) -> None:
        """Find out whether the store keeps its word not to replace: some that speak S3 don't hear the condition.

        Args:
            key: one that nobody uses; an object is created there, and removed.

        Raises:
            StoreRefused: it doesn't, so it can't be used; or this can't be a key.
            StoreUnreachable, StorageFull: that can't be found out now.

        """
        first, second = (f"{key} {word} trial".encode() for word in ("first", "second"))
        if not self.create(key, first):
            raise InternalError(promise=f"nobody else tries {self.place(key)}")
        try:
            if self.create(key, second) or self.read(key, 0, len(first)) != first:
                raise StoreRefused(url=self.url, reason="it replaces objects when it is told not to")
        finally:
            with suppress(TorporError):  # one small object is left, which does no harm
                self.delete(key)

    def _after_failure(self, key: str, content: bytes | memoryview, error: TorporError) -> bool:
        """Say what a put has done whose answer was an error; raise that where it can't be known."""
        self._doubts[key] = hashlib.sha256(content).digest()
        try:
            same = self._is_there(key, content)
        except (StoreUnreachable, StorageFull):
            raise error from error.__cause__
        if same is None:
            raise error
        del self._doubts[key]
        return same

    def _after_refusal(self, key: str, content: bytes | memoryview) -> bool:
        """Say whose the object is for which a put was refused."""
        same = self._is_there(key, content)
        if same is None:
            reason = "it says that there is an object already, and shows none"
            raise StoreUnreachable(place=self.place(key), reason=reason)
        if not same or self._doubts.get(key) != hashlib.sha256(content).digest():
            return False
        del self._doubts[key]
        return True

    def _is_there(self, key: str, content: bytes | memoryview) -> bool | None:
        """Return whether an object holds these bytes and no others; None where there is none."""
        size = self._shelf.size(key)
        if size is None:
            return None
        try:
            same = size == len(content) and self.read(key, 0, size) == content
        except ObjectMissing:
            return None
        self._shelf.confirm(key)
        return same

    def _piece(self, key: str, start: int, end: int) -> bytes | memoryview:
        try:
            piece = self._shelf.piece(key, start, end)
        except FileNotFoundError as error:
            raise ObjectMissing(place=self.place(key)) from error
        except StoreUnreachable:
            with suppress(StoreUnreachable):
                self._require(key, end)
            raise
        if len(piece) != end - start:
            self._require(key, end)
            reason = f"it gave {len(piece):,} of {end - start:,} bytes"
            raise StoreUnreachable(place=self.place(key), reason=reason)
        return piece

    def _require(self, key: str, end: int) -> None:
        """Refuse an object that ends before `end`."""
        size = self._shelf.size(key)
        if size is not None and size < end:
            raise ObjectCut(place=self.place(key), size=size, wanted=end)

    def _check(self, key: str) -> None:
        if not is_key(key):
            raise StoreRefused(url=self.place(key), reason="what follows # is no key of an object")


def open_objects(url: str, home: str, *, options: Options = _DEFAULTS) -> Objects:
    """Return the objects below a URL. Nothing is made or asked yet, so it may not be there.

    Args:
        url: `file:///folder`, `/folder`, `folder` (of the home), `s3://bucket/folder`, `gs://bucket/folder`,
            `az://container/folder` or `memory://name`.
        home: the home's folder, absolute.
        options: how a store over a network is spoken to.

    Raises:
        StoreRefused: it means none.

    """
    return Objects(shelf_of(url, home, options))
