"""Stores to try: one of each kind, and a server that speaks S3 on this machine."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.request import Request, urlopen

import obstore
from moto.server import ThreadedMotoServer
from obstore.store import LocalStore, ObjectStore

from torpor.stores.folders import FolderShelf
from torpor.stores.shelves import FarShelf
from torpor.stores.stores import Options, Stores, Wanted, archive_key, cold_key
from torpor.testing.chance import Seeded

ROOT = Path(__file__).parents[2]
ENV = {"PYTHONPATH": str(ROOT / "src"), "PATH": os.defpath}
COLD, ARCHIVE = cold_key("ada", 1), archive_key("ada", 1)
KEYS = [COLD, ARCHIVE]

numbers = itertools.count(1)
"""For names that no other test of the process uses."""


@contextmanager
def serving_s3() -> Iterator[str]:
    """Run an S3 server on this machine, and give its address."""
    log = logging.getLogger("werkzeug")
    level = log.level
    log.setLevel(logging.ERROR)  # otherwise a line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    one_at_a_time(server)
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()
        log.setLevel(level)


def one_at_a_time(server: ThreadedMotoServer) -> None:
    """Let a server do one thing at a time: this one looks for an object, and then puts one, in two steps."""
    http: Any = server._server
    app, turn = http.app, Lock()

    def alone(environ: Any, start: Any) -> Any:
        with turn, closing(app(environ, start)) as answer:
            return list(answer)

    http.app = alone


def speaking_to(address: str, **more: Any) -> Options:
    """Return options for a server that answers at once or not at all."""
    config = {"endpoint": address, "access_key_id": "key", "secret_access_key": "secret", "region": "us-east-1"}
    quick = {"connect_s": 5.0, "read_s": 20.0, "retries": 0} | more
    return Options(config=config, allow_http=True, **quick)


def new_bucket(address: str) -> str:
    bucket = f"bucket-{next(numbers)}"
    urlopen(Request(f"{address}/{bucket}", method="PUT")).close()  # noqa: S310  (our own server)
    return bucket


class Lab:
    """One store, and what is needed to do it harm.

    Args:
        url: the store's.
        home: the folder of a home.
        options: for the store.

    """

    def __init__(self, url: str, home: Path, options: Options) -> None:
        self.options = options
        self.stores = Stores(str(home), options)
        self.store = self.stores.open(url)
        self._shelf = self.store._shelf

    def raw(self) -> ObjectStore:
        """Return the store as obstore sees it."""
        if isinstance(self._shelf, FolderShelf):
            return LocalStore(self._shelf.folder)
        assert isinstance(self._shelf, FarShelf)
        return self._shelf._connect()

    def read(self, key: str) -> bytes:
        return bytes(obstore.get(self.raw(), key).bytes())

    def replace(self, key: str, content: bytes) -> None:
        obstore.put(self.raw(), key, content)

    def keys(self) -> list[str]:
        return sorted(found["path"] for batch in obstore.list(self.raw()) for found in batch)


@cache
def content_of(size: int) -> bytes:
    """Return bytes of which one half is chance, and the other repeats itself."""
    half = size // 2
    return Seeded(size).token(half) + b"again and again " * ((size - half) // 16) + b"x" * ((size - half) % 16)


def wanted(content: bytes, name: str = "ada") -> Wanted:
    return Wanted(name=name, digest=hashlib.sha256(content).hexdigest(), size=len(content))


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())
