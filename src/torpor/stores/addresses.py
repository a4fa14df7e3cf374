"""What the addresses of stores and the keys in them look like, and which shelf an address means."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from torpor.base.errors import StoreRefused
from torpor.stores.folders import FolderShelf
from torpor.stores.shelves import Kind, Options, Shelf, bucket_shelf, memory_shelf

URL_MAX: Final = 1_000
"""Characters of a store's URL."""

_PART: Final = r"[0-9A-Za-z_-][0-9A-Za-z._-]*"
_KEY: Final = re.compile(rf"{_PART}(?:/{_PART})*")
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
_MEMORY: Final = re.compile(r"[0-9A-Za-z_-]{1,100}")
_BUCKETS: Final[dict[str, Kind]] = {"s3": "s3", "gs": "gs", "az": "az"}


def is_key(text: str) -> bool:
    """Return whether a text can be the key of an object: names of plain characters, with slashes between."""
    return _KEY.fullmatch(text) is not None


def shelf_of(url: str, home: str, options: Options) -> Shelf:
    """Return the shelf that a URL means. Nothing is made or asked yet, so it may not be there.

    Args:
        url: `file:///folder`, `/folder`, `folder` (of the home), `s3://bucket/folder`, `gs://bucket/folder`,
            `az://container/folder` or `memory://name`.
        home: the home's folder, absolute.
        options: how a store over a network is spoken to.

    Raises:
        StoreRefused: it means none.

    """
    if not url or len(url) > URL_MAX:
        raise StoreRefused(url=url[:URL_MAX], reason=f"it is empty, or has more than {URL_MAX} characters")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise StoreRefused(url=url, reason=str(error)) from error
    if parts.username is not None or parts.password is not None:
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        raise StoreRefused(url=bare, reason="it holds a name or a password; give keys in the environment")
    if "#" in url or "?" in url or not url.isprintable():
        raise StoreRefused(url=url, reason="it has a character that no store's address has: #, ? or an invisible one")
    return _shelf(url, parts, home, options)


def _shelf(url: str, parts: SplitResult, home: str, options: Options) -> Shelf:
    match parts.scheme:
        case "":
            return _folder(url, home)
        case "file":
            if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
                raise StoreRefused(url=url, reason="a file:// address has three slashes and a whole path")
            return _folder(unquote(parts.path, errors="surrogateescape"), home)
        case "s3" | "gs" | "az" as kind:
            return _bucket(_BUCKETS[kind], url, parts, options)
        case "memory":
            if not _MEMORY.fullmatch(parts.netloc) or parts.path.strip("/"):
                raise StoreRefused(url=url, reason="a memory:// address has a name of letters and digits")
            return memory_shelf(f"memory://{parts.netloc}", parts.netloc)
        case scheme:
            raise StoreRefused(url=url, reason=f"nothing here speaks {scheme}://")


def _bucket(kind: Kind, url: str, parts: SplitResult, options: Options) -> Shelf:
    prefix = parts.path.strip("/")
    if not _BUCKET.fullmatch(parts.netloc):
        raise StoreRefused(url=url, reason="it doesn't name a bucket")
    if prefix and not is_key(prefix):
        raise StoreRefused(url=url, reason="its folder has more than letters, digits, '.', '_' and '-'")
    return bucket_shelf(kind, parts.netloc, prefix, options)


def _folder(path: str, home: str) -> Shelf:
    folder = path.rstrip("/")
    if folder.startswith("/"):
        if any(part in ("", ".", "..") or not part.isprintable() for part in folder[1:].split("/")):
            raise StoreRefused(url=path, reason="a part of its path is empty, '.' or '..', or can't be seen")
        return FolderShelf(Path(folder).as_uri(), folder, own=False)
    if not re.fullmatch(_PART, folder):
        raise StoreRefused(url=path, reason="a folder of the home has one plain name")
    return FolderShelf(folder, os.path.join(home, folder), own=True)
