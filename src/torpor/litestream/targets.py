"""Addresses and keys, as Torpor takes them everywhere, in the words of Litestream's configuration.

| address | Litestream's type | of the environment |
|---|---|---|
| `file:///folder` | `file` | |
| `s3://bucket/folder` | `s3` | `AWS_…`, as for stores |
| `gs://bucket/folder` | `gcs`, `gs` from 0.5 on | `GOOGLE_…` |
| `az://container/folder` | `abs` | `AZURE_STORAGE_…` |

Keys go into the child's environment and never into a file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec

from torpor.base.errors import StoreRefused, StoreUnreachable
from torpor.stores.addresses import shelf_of
from torpor.stores.shelves import Options

_YES: Final = ("1", "true", "on", "yes", "y", "t")
_RENAMED: Final = (0, 5, 0)
"""The version from which on Google's type is called `gs`."""


class Target(msgspec.Struct, frozen=True):
    """Where Litestream is to send a workbook, or to fetch it from.

    Attributes:
        url: the address, in its one spelling.
        settings: the replica, in the words of Litestream's configuration.
        environment: the whole environment of its process.

    """

    url: str
    settings: dict[str, Any]
    environment: dict[str, str]

    def __repr__(self) -> str:
        return f"Target({self.url!r}, …)"  # there are keys in the environment


def target_of(url: str, environment: Mapping[str, str], version: tuple[int, int, int]) -> Target:
    """Return what an address means to a Litestream of some version.

    Args:
        url: `file:///folder`, `s3://bucket/folder`, `gs://bucket/folder` or `az://container/folder`.
        environment: where the keys are.
        version: Litestream's.

    Raises:
        StoreRefused: it means no place that Litestream knows.
        StoreUnreachable: the folder isn't there.

    """
    shelf = shelf_of(url, "/", Options())
    known = {"file": _file, "s3": _s3, "gs": _gs, "az": _az}
    if shelf.kind not in known or "://" not in shelf.url:
        raise StoreRefused(url=url, reason="Litestream takes file://, s3://, gs:// and az://, and whole folders only")
    settings, more = known[shelf.kind](shelf.url, environment)
    if settings["type"] == "gcs" and version >= _RENAMED:
        settings["type"] = "gs"
    return Target(shelf.url, settings, {**environment, **more})


_Found = tuple[dict[str, Any], dict[str, str]]


def _file(url: str, _: Mapping[str, str]) -> _Found:
    path = unquote(urlsplit(url).path, errors="surrogateescape")
    if not os.path.isdir(path):  # Litestream would make it, on whatever disk is there instead
        raise StoreUnreachable(place=url, reason=f"there is no folder {path}; is its disk mounted?")
    return {"type": "file", "path": path}, {}


def _s3(url: str, environment: Mapping[str, str]) -> _Found:
    bucket, path = _parts(url)
    settings: dict[str, Any] = {"type": "s3", "bucket": bucket, "path": path}
    endpoint = _first(environment, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    if endpoint.startswith("http://") and not _is_yes(environment.get("AWS_ALLOW_HTTP", "")):
        raise StoreRefused(url=url, reason="its address is http://, which needs AWS_ALLOW_HTTP=true")
    if endpoint:
        virtual = _is_yes(environment.get("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", ""))
        settings |= {"endpoint": endpoint, "force-path-style": not virtual}
    if region := _first(environment, "AWS_REGION", "AWS_DEFAULT_REGION"):
        settings["region"] = region
    return settings, {}


def _gs(url: str, environment: Mapping[str, str]) -> _Found:
    bucket, path = _parts(url)
    key = _first(environment, "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH")
    return {"type": "gcs", "bucket": bucket, "path": path}, {"GOOGLE_APPLICATION_CREDENTIALS": key} if key else {}


def _az(url: str, environment: Mapping[str, str]) -> _Found:
    bucket, path = _parts(url)
    account = _first(environment, "AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")
    if not account:
        raise StoreRefused(url=url, reason="it needs AZURE_STORAGE_ACCOUNT_NAME")
    settings = {"type": "abs", "account-name": account, "bucket": bucket, "path": path}
    if endpoint := _first(environment, "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"):
        settings["endpoint"] = endpoint
    key = _first(
        environment, "LITESTREAM_AZURE_ACCOUNT_KEY", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY",
        "AZURE_STORAGE_MASTER_KEY",
    )  # fmt: skip
    return settings, {"LITESTREAM_AZURE_ACCOUNT_KEY": key} if key else {}


def _parts(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.netloc, parts.path.strip("/")


def _first(environment: Mapping[str, str], *names: str) -> str:
    """Return the first of some variables that is set; "" where none is."""
    return next((environment[name] for name in names if environment.get(name)), "")


def _is_yes(text: str) -> bool:
    return text.strip().lower() in _YES
