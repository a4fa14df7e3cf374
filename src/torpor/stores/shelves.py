"""The places behind a store: what each has to do, and those that obstore reaches. Folders are in `folders.py`.

obstore gives buckets of S3, GCS and Azure and this process's memory one interface and whole puts. Its errors are long
texts with the cause somewhere inside: `_words` makes one line of them.

**Tried again or not.** Whatever may be done twice is tried again by obstore itself, as `Options` say. What adds an
object only where there is none (`add`) is not: a second try would meet what the first one added, and the answer would
be the wrong one. It goes over a connection of its own, which asks once.

**fork.** obstore's threads don't survive it: a child that called it would wait for ever, so it is told no.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import msgspec

from torpor.base.errors import StoreRefused, StoreUnreachable, TorporError
from torpor.base.limits import MIB
from torpor.stores.pieces import Pieces

if TYPE_CHECKING:
    from obstore.store import ObjectStore

Kind = Literal["file", "s3", "gs", "az", "memory"]

PART: Final = 5 * MIB
"""Bytes of one part of an upload: the least that S3 allows, because a part must be sent within `Options.read_s`."""

PARTS_MAX: Final = 9_000
"""Parts of one upload; S3 allows 10,000."""

UPLOADS_AT_ONCE: Final = 2
"""Parts under way at the same time."""

RANGE: Final = 8 * MIB
"""Bytes asked for at a time."""

REASON_MAX: Final = 300
"""Characters kept of what a store says."""

LISTED: Final = 1_000
"""Objects in one answer of a list, at most."""

_CAUSES: Final = (
    ("169.254.169.254", "there is no key for it: {keys}"),
    ("metadata.google.internal", "there is no key for it: {keys}"),
    ("Account must be specified", "there is no key for it: {keys}"),
    ("BadScheme", "its address is http://, which needs AWS_ALLOW_HTTP=true"),
    ("NoSuchBucket", "there is no such bucket"),
    ("dns error", "the name of its host is not known"),
    ("TimedOut", "it doesn't answer in time"),
    ("Connection refused", "nobody answers at its address: connection refused"),
)
"""What is looked for in an error's text, and how it is said."""

_KEYS: Final[dict[Kind, str]] = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS to the path of a service account's file",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
"""Where the credentials of a kind of store are looked for."""

_used = False
_forked = False
_memories: dict[str, ObjectStore] = {}
_memories_lock = threading.Lock()


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a store over the network is spoken to.

    Attributes:
        config: obstore's own settings of the kind of store, such as `endpoint` or `access_key_id` of S3. What isn't
            here, obstore takes from the environment's `AWS_…`, `GOOGLE_…` and `AZURE_…`.
        allow_http: whether an endpoint may be http://. (The environment's `AWS_ALLOW_HTTP` is for the caller to read:
            obstore leaves it alone where it is given options of its own.)
        connect_s: seconds to reach it.
        read_s: seconds without an answer, the sending of one part included.
        request_s: seconds for one request, which moves 8 MiB at most.
        retries: how often one request is tried again.
        retry_s: seconds after which it isn't any more.

    """

    config: dict[str, str] = {}
    allow_http: bool = False
    connect_s: float = 5.0
    read_s: float = 20.0
    request_s: float = 120.0
    retries: int = 3
    retry_s: float = 10.0

    def __repr__(self) -> str:
        return "Options(…)"  # there are keys among them


class Found(msgspec.Struct, frozen=True):
    """One object of a list.

    Attributes:
        key: its name.
        size: its bytes.
        modified: when it was made, in microseconds since 1970 by the store's own clock; S3 tells whole seconds.

    """

    key: str
    size: int
    modified: int


class Shelf(Protocol):
    """One place where objects are, by key.

    Attributes:
        url: how people know it.
        kind: of which kind it is.

    """

    url: str
    kind: Kind

    def write(self, key: str, pieces: Iterator[bytes | memoryview], size: int) -> None:
        """Put an object, whole and durable, in place of any that is there.

        Args:
            key: its name.
            pieces: its bytes.
            size: how many they will be, at most.

        Raises:
            StoreUnreachable, StorageFull: it isn't there, or not for good.
            TorporError: whatever `pieces` raises; it isn't there then.

        """

    def add(self, key: str, content: bytes | memoryview) -> bool:
        """Put an object where there is none, whole and durable; returns False where there is one, and leaves it.

        Raises:
            StoreUnreachable, StorageFull: it may be there or not, or come later.
            StoreRefused: this kind of store can't.

        """

    def confirm(self, key: str) -> None:
        """Make sure that an object which is there is still there after a power cut.

        Raises:
            StoreUnreachable, StorageFull: it may not be.

        """

    def size(self, key: str) -> int | None:
        """Return the bytes of an object; None where there is none.

        Raises:
            StoreUnreachable: that can't be known.

        """

    def read(self, key: str, size: int) -> Pieces:
        """Yield the bytes of an object, of which there are `size`.

        Raises:
            FileNotFoundError: it is gone.
            StoreUnreachable: it can't be read.

        """
        for start in range(0, size, RANGE):
            yield self.piece(key, start, min(size, start + RANGE))

    def piece(self, key: str, start: int, end: int) -> bytes | memoryview:
        """Return the bytes of an object from `start` up to `end`, which is behind it; fewer where it ends before.

        Raises:
            FileNotFoundError: there is none.
            StoreUnreachable: they can't be read; or the object ends before `start`.

        """

    def below(self, folder: str, after: str) -> Iterator[Found]:
        """Yield the objects below a folder ("" for all) whose keys are behind `after`, in the order of their keys.

        What is no key may be among them: drafts, and what strangers have put there.

        Raises:
            StoreUnreachable: they can't be known; some may have been yielded.

        """

    def delete(self, key: str) -> bool:
        """Remove an object and what killed puts left of it; returns whether any was there, as far as the kind tells.

        Raises:
            StoreUnreachable: it may still be there.

        """

    def remove(self, key: str) -> bool:
        """Remove an object that was added; see `delete`."""


class FarShelf(Shelf):
    """A place that obstore reaches.

    Args:
        url: how people know it; for errors.
        kind: of which kind it is.
        connect: makes obstore's side of it, when that is first needed.
        connect_once: makes one that never tries anything again; `connect` where that one doesn't either.

    """

    def __init__(
        self,
        url: str,
        kind: Kind,
        connect: Callable[[], ObjectStore],
        connect_once: Callable[[], ObjectStore] | None = None,
    ) -> None:
        self.url = url
        self.kind = kind
        self._connect = connect
        self._connect_once = connect_once or connect
        self._made: dict[bool, ObjectStore] = {}

    def write(self, key: str, pieces: Iterator[bytes | memoryview], size: int) -> None:
        """Put an object, in parts where it is large; see `Shelf.write`."""
        import obstore  # noqa: PLC0415  (30 ms that only those pay who move an agent)

        first: list[bytes | memoryview] = []
        while sum(map(len, first)) <= PART and (piece := next(pieces, None)) is not None:
            first.append(piece)
        with self._saying(key) as store:
            try:
                if sum(map(len, first)) <= PART:
                    obstore.put(store, key, b"".join(first))
                else:
                    part = max(PART, size // PARTS_MAX)
                    content = chain(first, pieces)
                    obstore.put(store, key, content, chunk_size=part, max_concurrency=UPLOADS_AT_ONCE)
            except FileNotFoundError as error:
                raise self._said(key, error) from error

    def add(self, key: str, content: bytes | memoryview) -> bool:
        """Put an object where there is none; see `Shelf.add`."""
        import obstore.exceptions  # noqa: PLC0415  (as above)

        with self._saying(key, once=True) as store:
            try:
                obstore.put(store, key, content, mode="create", use_multipart=False)
            except obstore.exceptions.AlreadyExistsError:
                return False
            except FileNotFoundError as error:
                raise self._said(key, error) from error
            except (obstore.exceptions.NotSupportedError, NotImplementedError) as error:
                raise StoreRefused(url=self.url, reason="it can't add an object without replacing one") from error
        return True

    def confirm(self, key: str) -> None:
        """Do nothing: what such a store shows is there for good."""

    def size(self, key: str) -> int | None:
        """Return the bytes of an object; see `Shelf.size`."""
        import obstore  # noqa: PLC0415  (as above)

        with self._saying(key) as store:
            try:
                return int(obstore.head(store, key)["size"])
            except FileNotFoundError:
                return None

    def piece(self, key: str, start: int, end: int) -> memoryview:
        """Return a part of an object; see `Shelf.piece`."""
        import obstore  # noqa: PLC0415  (as above)

        with self._saying(key) as store:
            return memoryview(obstore.get_range(store, key, start=start, end=end))

    def below(self, folder: str, after: str) -> Iterator[Found]:
        """Yield objects in the order of their keys; see `Shelf.below`."""
        import obstore  # noqa: PLC0415  (as above)

        with self._saying(folder) as store:
            listed = iter(obstore.list(store, folder or None, offset=after or None, chunk_size=LISTED))
        while True:
            with self._saying(folder):
                batch = next(listed, None)
            if batch is None:
                return
            for found in batch:
                yield Found(found["path"], found["size"], round(found["last_modified"].timestamp() * 1_000_000))

    def delete(self, key: str) -> bool:
        """Remove an object; see `Shelf.delete`."""
        import obstore  # noqa: PLC0415  (as above)

        with self._saying(key) as store:
            try:
                obstore.delete(store, key)
            except FileNotFoundError:
                return False
        return True

    def remove(self, key: str) -> bool:
        """Remove an object; see `Shelf.remove`."""
        return self.delete(key)

    @contextmanager
    def _saying(self, key: str, *, once: bool = False) -> Iterator[ObjectStore]:
        """Give obstore's side of the shelf, and say its errors as ours; `FileNotFoundError` stays."""
        global _used  # noqa: PLW0603  (obstore's threads are the process's too)
        import obstore.exceptions  # noqa: PLC0415  (as above)

        place = f"{self.url}#{key}"
        if _forked:
            raise StoreUnreachable(place=place, reason="the process was forked from one that had used a store")
        _used = True
        try:
            if once not in self._made:
                self._made[once] = self._connect_once() if once else self._connect()
            yield self._made[once]
        except (TorporError, FileNotFoundError):
            raise
        except obstore.exceptions.UnknownConfigurationKeyError as error:
            raise StoreRefused(url=self.url, reason=_words(error, self.kind)) from error
        except (obstore.exceptions.BaseError, ValueError, OSError) as error:
            raise self._said(key, error) from error

    def _said(self, key: str, error: Exception) -> TorporError:
        return StoreUnreachable(place=f"{self.url}#{key}", reason=_words(error, self.kind))


def memory_shelf(url: str, name: str) -> Shelf:
    """Return the shelf of that name in this process's memory: always the same one."""

    def connect() -> ObjectStore:
        from obstore.store import MemoryStore  # noqa: PLC0415  (as above)

        with _memories_lock:
            return _memories.setdefault(name, MemoryStore())

    return FarShelf(url, "memory", connect)


def bucket_shelf(kind: Kind, bucket: str, prefix: str, options: Options) -> Shelf:
    """Return a part of a bucket of S3 ("s3") or Google ("gs"), or of a container of Azure ("az")."""

    def connect(retries: int) -> ObjectStore:
        from obstore.store import AzureStore, GCSStore, S3Store  # noqa: PLC0415  (as above)

        client: Any = {
            "connect_timeout": timedelta(seconds=options.connect_s),
            "read_timeout": timedelta(seconds=options.read_s),
            "timeout": timedelta(seconds=options.request_s),
        }
        if options.allow_http:
            client["allow_http"] = True
        maker: Any = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}[kind]
        made: ObjectStore = maker(
            bucket,
            prefix=prefix or None,
            config=options.config,
            client_options=client,
            retry_config={
                "max_retries": retries,
                "retry_timeout": timedelta(seconds=options.retry_s),
                "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=2), "base": 2},
            },
        )
        return made

    url = f"{kind}://{bucket}/{prefix}".rstrip("/")
    return FarShelf(url, kind, partial(connect, options.retries), partial(connect, 0))


def _words(error: Exception, kind: Kind) -> str:
    """Return one line for what obstore said: the cause where it is known, else its own first line."""
    text = str(error)
    for sign, words in _CAUSES:
        if sign in text:
            return words.format(keys=_KEYS.get(kind, "set one"))
    first = " ".join(text.partition("\n\nDebug source")[0].split())
    return first[:REASON_MAX] or type(error).__name__


def _after_fork() -> None:
    global _forked, _memories_lock  # noqa: PLW0603  (it is the process that was forked)
    _forked = _used
    _memories_lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
