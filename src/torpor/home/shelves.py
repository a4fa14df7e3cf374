"""The three kinds of place behind a store, each reached through obstore: a folder, a bucket, this process's memory.

obstore gives all three one interface and whole puts. Its errors are long texts with the cause somewhere inside:
`_words` makes one line of them.

**Folders.** What obstore leaves open there is done here: nothing that it writes is synced, its files can be read by
everybody, and a put that was killed leaves `NAME#1` beside the name. And where both ends are files, it is the slow way:
the bytes go through this process, which costs a third more processor time than a plain copy, and the blocks can't be
shared. So a copy that isn't compressed is taken and given by the kernel (`take`, `give`, `copies.fill`).

**fork.** obstore's threads don't survive it: a child that called it would wait for ever, so it is told no.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import msgspec

from torpor.base.errors import StorageFull, StoreRefused, StoreUnreachable, TorporError
from torpor.base.limits import MIB
from torpor.home.copies import Told, fill
from torpor.home.pieces import Pieces

if TYPE_CHECKING:
    from obstore.store import ObjectStore, S3Config

Kind = Literal["file", "s3", "memory"]

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

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_SYSTEM: Final = re.compile(r"\(os error (\d+)\)|\bcode: (\d+)")
_CAUSES: Final = (
    ("169.254.169.254", "there is no key for it: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    ("BadScheme", "its address is http://, which needs AWS_ALLOW_HTTP=true"),
    ("NoSuchBucket", "there is no such bucket"),
    ("dns error", "the name of its host is not known"),
    ("TimedOut", "it doesn't answer in time"),
    ("Connection refused", "nobody answers at its address: connection refused"),
)
"""What is looked for in an error's text, and how it is said."""

_used = False
_forked = False
_memories: dict[str, ObjectStore] = {}
_memories_lock = threading.Lock()


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a store over the network is spoken to.

    Attributes:
        config: obstore's own settings of S3, such as `endpoint` or `access_key_id`. What isn't here, obstore takes from
            the environment's `AWS_…`.
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


class Shelf:
    """One place where objects are, by key. This class is all of it for S3 and for memory.

    Args:
        url: how people know it; for errors.
        kind: of which kind it is.
        connect: makes obstore's side of it, when that is first needed.

    """

    def __init__(self, url: str, kind: Kind, connect: Callable[[], ObjectStore]) -> None:
        self.url = url
        self.kind = kind
        self._connect = connect
        self._made: ObjectStore | None = None

    def write(self, key: str, pieces: Pieces, size: int) -> None:
        """Put an object, whole and durable, in place of any that is there.

        Args:
            key: its name.
            pieces: its bytes.
            size: how many they will be, at most.

        Raises:
            StoreUnreachable, StorageFull: it isn't there.
            TorporError: whatever `pieces` raises; it isn't there then either.

        """
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
                raise StoreUnreachable(place=f"{self.url}#{key}", reason=_words(error)) from error

    def size(self, key: str) -> int | None:
        """Return the bytes of an object; None where there is none.

        Raises:
            StoreUnreachable: that can't be known.

        """
        import obstore  # noqa: PLC0415  (as above)

        with self._saying(key) as store:
            try:
                return int(obstore.head(store, key)["size"])
            except FileNotFoundError:
                return None

    def read(self, key: str, size: int) -> Pieces:
        """Yield the bytes of an object, of which there are `size`.

        Raises:
            FileNotFoundError: it is gone.
            StoreUnreachable: it can't be read.

        """
        import obstore  # noqa: PLC0415  (as above)

        for start in range(0, size, RANGE):
            with self._saying(key) as store:
                piece = obstore.get_range(store, key, start=start, end=min(size, start + RANGE))
            yield memoryview(piece)

    def delete(self, key: str) -> bool:
        """Remove an object; returns whether one was there, as far as the kind of shelf tells.

        Raises:
            StoreUnreachable: it may still be there.

        """
        import obstore  # noqa: PLC0415  (as above)

        with self._saying(key) as store:
            try:
                obstore.delete(store, key)
            except FileNotFoundError:
                return False
        return True

    @contextmanager
    def _saying(self, key: str) -> Iterator[ObjectStore]:
        """Give obstore's side of the shelf, and say its errors as ours; `FileNotFoundError` stays."""
        global _used  # noqa: PLW0603  (obstore's threads are the process's too)
        import obstore.exceptions  # noqa: PLC0415  (as above)

        place = f"{self.url}#{key}"
        if _forked:
            raise StoreUnreachable(place=place, reason="the process was forked from one that had used a store")
        _used = True
        try:
            if self._made is None:
                self._made = self._connect()
            yield self._made
        except (TorporError, FileNotFoundError):
            raise
        except obstore.exceptions.UnknownConfigurationKeyError as error:
            raise StoreRefused(url=self.url, reason=_words(error)) from error
        except (obstore.exceptions.BaseError, ValueError, OSError) as error:
            raise self._said(key, error) from error

    def _said(self, key: str, error: Exception) -> TorporError:
        return StoreUnreachable(place=f"{self.url}#{key}", reason=_words(error))


class FolderShelf(Shelf):
    """A folder on this machine.

    Args:
        url: how people know it.
        folder: its path.
        own: whether it is a part of the home: then it is made when it is needed, and where it is missing, nothing is in
            it. Any other has to be there: where it is missing, its disk may be.

    """

    def __init__(self, url: str, folder: str, *, own: bool) -> None:
        super().__init__(url, "file", self._open)
        self._folder = folder
        self._own = own

    def write(self, key: str, pieces: Pieces, size: int) -> None:
        """Put an object as a file that only its owner can read, and sync it and its name; see `Shelf.write`."""
        self._make_room(key)
        super().write(key, pieces, size)
        with self._system(key):
            os.chmod(self._path(key), 0o600)
            _sync(self._path(key))
            self._sync_names(key)

    def take(self, key: str, descriptor: int, size: int) -> None:
        """Put an open file of `size` bytes as an object, the cheapest way that the file system offers; see `write`."""
        self._make_room(key)
        path = self._path(key)
        draft = f"{path}#0"
        with self._system(key), suppress(FileNotFoundError):
            os.unlink(draft)  # an earlier attempt's
        with self._system(key):
            new = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                fill(descriptor, new, size, _nobody)
                os.fsync(new)
                os.replace(draft, path)
            except BaseException:
                with suppress(OSError):  # the failure is what counts
                    os.unlink(draft)
                raise
            finally:
                os.close(new)
            self._sync_names(key)

    def give(self, key: str, descriptor: int, size: int, tell: Told) -> None:
        """Bring an object of `size` bytes into an empty open file, the cheapest way that the file system offers.

        Raises:
            OSError: it can't be written.
            StoreUnreachable: it can't be read.

        """
        with self._system(key):
            old = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
        try:
            fill(old, descriptor, size, tell)
        finally:
            os.close(old)

    def size(self, key: str) -> int | None:
        """Return the bytes of an object; None where there is none; see `Shelf.size`."""
        with self._system(key):
            if not self._there(key):
                return None
            try:
                found = os.stat(self._path(key))
            except (FileNotFoundError, NotADirectoryError):
                return None
        # obstore would wait for whoever writes into a pipe.
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def delete(self, key: str) -> bool:
        """Remove an object and what killed puts left of it, for good; see `Shelf.delete`."""
        above, name = os.path.split(self._path(key))
        ours = re.compile(re.escape(name) + r"(?:#\d+)?")
        with self._system(key):
            if not self._there(key) or not os.path.isdir(above):
                return False
            found = [other for other in os.listdir(above) if ours.fullmatch(other)]
            for other in found:
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(above, other))
            _sync(above)
            with suppress(OSError):  # other copies of the agent may be in it
                os.rmdir(above)
        return bool(found)

    def _open(self) -> ObjectStore:
        from obstore.store import LocalStore  # noqa: PLC0415  (as above)

        return LocalStore(self._folder)

    def _make_room(self, key: str) -> None:
        """Make the folders that an object needs; obstore would make them for everybody to read."""
        with self._system(key):
            if self._own:
                os.makedirs(self._folder, mode=0o700, exist_ok=True)
            if self._there(key):
                os.makedirs(os.path.dirname(self._path(key)), mode=0o700, exist_ok=True)

    def _sync_names(self, key: str) -> None:
        _sync(os.path.dirname(self._path(key)))
        _sync(self._folder)
        if self._own:
            _sync(os.path.dirname(self._folder))

    def _path(self, key: str) -> str:
        return os.path.join(self._folder, key)

    def _there(self, key: str) -> bool:
        """Report whether the folder is there; where it has to be and isn't, refuse."""
        there = os.path.isdir(self._folder)
        if not there and not self._own:
            reason = f"there is no folder {self._folder}; is its disk mounted?"
            raise StoreUnreachable(place=f"{self.url}#{key}", reason=reason)
        return there

    @contextmanager
    def _system(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._said(key, error) from error

    def _said(self, key: str, error: Exception) -> TorporError:
        number = error.errno if isinstance(error, OSError) else _errno(error)
        if number in _NO_ROOM:
            return StorageFull(path=self._path(key), reason=os.strerror(number))
        reason = os.strerror(number) if number else _words(error)
        return StoreUnreachable(place=f"{self.url}#{key}", reason=reason)


def memory_shelf(url: str, name: str) -> Shelf:
    """Return the shelf of that name in this process's memory: always the same one."""

    def connect() -> ObjectStore:
        from obstore.store import MemoryStore  # noqa: PLC0415  (as above)

        with _memories_lock:
            return _memories.setdefault(name, MemoryStore())

    return Shelf(url, "memory", connect)


def bucket_shelf(url: str, bucket: str, prefix: str, options: Options) -> Shelf:
    """Return a part of an S3 bucket."""

    def connect() -> ObjectStore:
        from obstore.store import S3Store  # noqa: PLC0415  (as above)

        client: Any = {
            "connect_timeout": timedelta(seconds=options.connect_s),
            "read_timeout": timedelta(seconds=options.read_s),
            "timeout": timedelta(seconds=options.request_s),
        }
        if options.allow_http:
            client["allow_http"] = True
        return S3Store(
            bucket,
            prefix=prefix or None,
            config=cast("S3Config", options.config),
            client_options=client,
            retry_config={
                "max_retries": options.retries,
                "retry_timeout": timedelta(seconds=options.retry_s),
                "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=2), "base": 2},
            },
        )

    return Shelf(url, "s3", connect)


def _nobody(_: int) -> None:
    """Watch nothing: whoever hashes the file at the same time tells how far it is."""


def _errno(error: Exception) -> int:
    """Return the number of the system's error inside one of obstore's; 0 where there is none."""
    found = _SYSTEM.search(str(error))
    return int(found[1] or found[2]) if found else 0


def _words(error: Exception) -> str:
    """Return one line for what obstore said: the cause where it is known, else its own first line."""
    text = str(error)
    for sign, words in _CAUSES:
        if sign in text:
            return words
    first = " ".join(text.partition("\n\nDebug source")[0].split())
    return first[:REASON_MAX] or type(error).__name__


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _after_fork() -> None:
    global _forked, _memories_lock  # noqa: PLW0603  (it is the process that was forked)
    _forked = _used
    _memories_lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
