"""Addresses as Torpor takes them, in the words of Litestream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from torpor.base.errors import LitestreamFailed, LitestreamMissing, StoreRefused, StoreUnreachable
from torpor.litestream import find, target_of

OLD, NEW = (0, 3, 13), (0, 5, 16)
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "PATH": "/nowhere"}


def test_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()

    found = target_of(folder.as_uri() + "/", KEYS, OLD)

    assert found.settings == {"type": "file", "path": str(folder)}
    assert found.url == folder.as_uri()
    assert found.environment == KEYS


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreUnreachable, match="is its disk mounted"):
        target_of((tmp_path / "none").as_uri(), {}, OLD)

    assert not (tmp_path / "none").exists()


S3: dict[str, Any] = {"type": "s3", "bucket": "my-bucket", "path": "a/b"}
MORE: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "nothing more": ({}, {}),
    "region": ({"AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "us-east-2"}, {"region": "eu-central-1"}),
    "default region": ({"AWS_DEFAULT_REGION": "us-east-2"}, {"region": "us-east-2"}),
    "endpoint": ({"AWS_ENDPOINT": "https://r2.example"}, {"endpoint": "https://r2.example", "force-path-style": True}),
    "endpoint url": (
        {"AWS_ENDPOINT_URL": "https://r2.example", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true"},
        {"endpoint": "https://r2.example", "force-path-style": False},
    ),
    "plain http": (
        {"AWS_ENDPOINT": "http://127.0.0.1:9", "AWS_ALLOW_HTTP": "true"},
        {"endpoint": "http://127.0.0.1:9", "force-path-style": True},
    ),
}


@pytest.mark.parametrize(("given", "due"), MORE.values(), ids=MORE)
def test_a_bucket_of_s3(given: dict[str, str], due: dict[str, Any]) -> None:
    found = target_of("s3://my-bucket/a/b/", {**KEYS, **given}, OLD)

    assert found.settings == S3 | due
    assert "secret" not in repr(found.settings)
    assert "secret" not in repr(found)


def test_plain_http_has_to_be_allowed() -> None:
    with pytest.raises(StoreRefused, match="AWS_ALLOW_HTTP"):
        target_of("s3://my-bucket/a", {"AWS_ENDPOINT": "http://127.0.0.1:9"}, OLD)


@pytest.mark.parametrize(("version", "name"), [(OLD, "gcs"), (NEW, "gs")])
def test_a_bucket_of_google(version: tuple[int, int, int], name: str) -> None:
    found = target_of("gs://my-bucket/a", {"GOOGLE_SERVICE_ACCOUNT": "/keys/me.json"}, version)

    assert found.settings == {"type": name, "bucket": "my-bucket", "path": "a"}
    assert found.environment["GOOGLE_APPLICATION_CREDENTIALS"] == "/keys/me.json"


def test_a_container_of_azure() -> None:
    keys = {"AZURE_STORAGE_ACCOUNT_NAME": "me", "AZURE_STORAGE_ACCOUNT_KEY": "secret"}

    found = target_of("az://my-container/a", keys, OLD)

    assert found.settings == {"type": "abs", "account-name": "me", "bucket": "my-container", "path": "a"}
    assert found.environment["LITESTREAM_AZURE_ACCOUNT_KEY"] == "secret"
    with pytest.raises(StoreRefused, match="AZURE_STORAGE_ACCOUNT_NAME"):
        target_of("az://my-container/a", {}, OLD)


@pytest.mark.parametrize(
    "url",
    ["", "cold", "memory://trial", "ftp://host/x", "s3://", "s3://key:secret@bucket/x", "s3://b", "file://host/x"],
)
def test_what_means_no_place_is_refused(url: str) -> None:
    with pytest.raises(StoreRefused):
        target_of(url, KEYS, OLD)


def test_without_a_litestream_it_is_said_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(LitestreamMissing) as refused:
        find("", {"PATH": str(tmp_path)})

    assert "@flydotio/litestream-linux-x64" in refused.value.next_step
    assert "TORPOR_LITESTREAM" in refused.value.next_step
    with pytest.raises(LitestreamMissing, match="is no program"):
        find(str(tmp_path / "none"), {"PATH": str(tmp_path)})


def test_a_program_that_can_not_be_run_is_an_error_of_ours(tmp_path: Path) -> None:
    broken = tmp_path / "litestream"
    broken.write_text("no program")
    broken.chmod(0o755)

    with pytest.raises(LitestreamFailed, match="be run from"):
        find("", {"PATH": str(tmp_path)})
