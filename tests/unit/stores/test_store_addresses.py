"""Which addresses mean a store, and which store; and what remembers where a copy is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.contract.store_kit import (
    COLD,
    content_of,
    numbers,
    wanted,
)

from torpor.base.errors import StoreRefused, StoreUnreachable
from torpor.stores import Options, Stores, open_objects, open_store


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(content_of(300_001))
    return path


@pytest.mark.parametrize("place", ["", "cold", "cold#", "#ada/1.workbook", "cold#../x", "ftp://x#ada/1.workbook"])
def test_what_is_no_place_is_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(StoreRefused):
        Stores(str(tmp_path)).at(place)


def test_a_home_can_be_moved_with_the_copies_in_it(tmp_path: Path, source: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    place = Stores(str(home)).open("cold").put(COLD, str(source), name="ada").place
    assert place == f"cold#{COLD}"
    home.rename(tmp_path / "elsewhere")
    store, key = Stores(str(tmp_path / "elsewhere")).at(place)
    store.get(key, str(tmp_path / "target"), wanted(source.read_bytes()))


@pytest.mark.parametrize(
    ("url", "kind", "spelled"),
    [
        ("cold", "file", "cold"),
        ("cold/", "file", "cold"),
        ("/srv/cold", "file", "file:///srv/cold"),
        ("/srv/cold/", "file", "file:///srv/cold"),
        ("file:///srv/cold", "file", "file:///srv/cold"),
        ("file://localhost/srv/cold/", "file", "file:///srv/cold"),
        ("FILE:///srv/cold", "file", "file:///srv/cold"),
        ("file:///srv/my%20cold", "file", "file:///srv/my%20cold"),
        ("/srv/my cold", "file", "file:///srv/my%20cold"),
        ("s3://bucket", "s3", "s3://bucket"),
        ("s3://bucket/", "s3", "s3://bucket"),
        ("s3://my.bucket-1/a/b/", "s3", "s3://my.bucket-1/a/b"),
        ("memory://name", "memory", "memory://name"),
    ],
)
def test_a_store_has_one_spelling(url: str, kind: str, spelled: str) -> None:
    store = open_store(url, "/nowhere")
    assert (store.kind, store.url) == (kind, spelled)
    assert open_store(spelled, "/nowhere").url == spelled


REFUSED = [
    "",
    "x" * 1_001,
    "../cold",
    "a/b",
    ".cold",
    "-cold cold",
    "/",
    "/srv/../etc",
    "/srv//cold",
    "file://srv/cold",
    "file:cold",
    "file:///",
    "file:///srv/%2e%2e/etc",
    "file:///srv/cold#1",
    "file:///srv/cold?a=b",
    "file:///srv/%00",
    "s3://",
    "s3://B",
    "s3://Bucket",
    "s3:///folder",
    "s3://bucket/a b",
    "s3://bucket/../x",
    "s3://bucket:80/x",
    "memory://",
    "memory://a/b",
    "memory://a b",
    "ftp://host/folder",
    "http://127.0.0.1/",
    "gs://bucket/folder",
    "az://container/folder",
    "cold\n",
    "cold\x1b[2J",
    "s3://[bucket",
]


OBJECTS = [
    ("gs://bucket", "gs", "gs://bucket"),
    ("gs://my_bucket/a/b/", "gs", "gs://my_bucket/a/b"),
    ("az://container/a", "az", "az://container/a"),
    ("s3://bucket/a/", "s3", "s3://bucket/a"),
    ("/srv/my replica/", "file", "file:///srv/my%20replica"),
    ("replica", "file", "replica"),
    ("memory://name", "memory", "memory://name"),
]


@pytest.mark.parametrize(("url", "kind", "spelled"), OBJECTS)
def test_objects_have_one_spelling_too_and_more_places(url: str, kind: str, spelled: str) -> None:
    objects = open_objects(url, "/nowhere")
    assert (objects.kind, objects.url) == (kind, spelled)
    assert objects.place("log/1") == f"{spelled}#log/1"


@pytest.mark.parametrize(
    "url", [url for url in REFUSED if url[:5] not in ("gs://", "az://")] + ["gs://", "az://A/b", "az://a"]
)
def test_what_means_no_objects_is_refused_with_a_reason(url: str) -> None:
    with pytest.raises(StoreRefused) as refused:
        open_objects(url, "/nowhere")
    assert refused.value.reason


def test_an_account_that_isnt_named_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("AZURE_")]:
        monkeypatch.delenv(name)
    with pytest.raises(StoreUnreachable, match="set AZURE_STORAGE_ACCOUNT_NAME"):
        open_objects("az://container/folder", str(tmp_path)).size("log/1")


@pytest.mark.parametrize("url", REFUSED)
def test_what_means_no_store_is_refused_with_a_reason(url: str) -> None:
    with pytest.raises(StoreRefused) as refused:
        open_store(url, "/nowhere")
    assert refused.value.reason


def test_a_key_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(StoreRefused) as refused:
        open_store("s3://AKIAKEY:topsecret@bucket/folder", "/nowhere")
    said = f"{refused.value} {refused.value!r}"
    assert "topsecret" not in said
    assert "AKIAKEY" not in said


def test_options_dont_show_their_keys() -> None:
    assert "topsecret" not in repr(Options(config={"secret_access_key": "topsecret"}))


def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    store = open_store("s3://bucket", str(tmp_path), options=Options(config={"no_such_setting": "x"}))
    with pytest.raises(StoreRefused):
        store.has(COLD)


# --- memory ---


def test_a_name_in_memory_is_one_store_in_the_process(tmp_path: Path, source: Path) -> None:
    name = f"shared-{next(numbers)}"
    open_store(f"memory://{name}", str(tmp_path)).put(COLD, str(source), name="ada")
    assert Stores(str(tmp_path / "other")).open(f"memory://{name}").has(COLD)
    assert not open_store(f"memory://{name}-2", str(tmp_path)).has(COLD)
