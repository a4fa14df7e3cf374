"""`torpor litestream …`, as people type it, with the real Litestream: by an agent's name and by a file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acceptance.kit import Command, Ended, left_in, said
from tests.unit.litestream.lab import Replicating
from tests.unit.litestream.program import litestream


@pytest.fixture
def torpor(cli: Command) -> Command:
    """Run a `torpor` command line that has Litestream."""

    def ended(*words: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> Ended:
        return cli(*words, stdin=stdin, env={"TORPOR_LITESTREAM": litestream(), **(env or {})})

    return ended  # type: ignore[return-value]


@pytest.fixture
def url(tmp_path: Path) -> str:
    (tmp_path / "there").mkdir()
    return (tmp_path / "there").as_uri()


@pytest.fixture
def replicating(ada: str, url: str, tmp_path: Path, home: Path) -> Iterator[Replicating]:
    with Replicating(ada, url, cwd=tmp_path, env={"TORPOR_HOME": str(home)}) as owner:
        yield owner


def test_an_agent_is_used_while_it_is_replicated_and_moved_after_it(
    torpor: Command, replicating: Replicating, url: str, tmp_path: Path
) -> None:
    said(torpor("files", "put", "ada", "/b.txt", "-", stdin=b"while it is replicated"))
    assert said(torpor("files", "cat", "ada", "/b.txt")) == "while it is replicated"

    status = said(torpor("litestream", "status", "ada"))
    assert f"ada: replicated to {url}" in status
    assert "Litestream v0." in status
    for move in ("suspend", "archive"):
        refused = torpor(move, "ada")
        assert (refused.code, "replicates it" in refused.err) == (1, True), refused
    ticked = torpor("tick", "--now", "+30m")
    assert (ticked.code, "ada: left alone: " in ticked.out) == (0, True), ticked
    said(torpor("fork", "ada"))
    said(torpor("export", "ada", "export.workbook"))

    assert said(torpor("litestream", "stop", "ada")).startswith("ada: stopped; ")
    assert replicating.ended() == (0, "")
    assert torpor("litestream", "status", "ada").code == 1
    said(torpor("suspend", "ada"))
    said(torpor("freeze", "ada"))

    back = said(torpor("litestream", "restore", url, "back.workbook"))
    assert back.rstrip().endswith("; verified")
    assert said(torpor("files", "cat", "./back.workbook", "/b.txt")) == "while it is replicated"
    said(torpor("import", "back.workbook", "--as", "eve"))
    assert left_in(tmp_path) == ["back.workbook", "export.workbook", "home", "there"]


def test_an_agent_that_is_not_here_is_not_replicated(torpor: Command, ada: str, url: str) -> None:
    for move in ("suspend", "freeze"):
        said(torpor(move, ada))

    refused = torpor("litestream", "replicate", ada, url, "--json")

    assert (refused.code, refused.error["code"]) == (1, "TOR-704")


def test_what_a_machine_reads_is_one_object_a_line(replicating: Replicating, torpor: Command, url: str) -> None:
    begun = replicating.said[-1]
    status = json.loads(said(torpor("litestream", "status", "ada", "--json")))

    assert {key: status[key] for key in ("url", "pid", "litestream")} == {
        "url": url,
        "pid": replicating.process.pid,
        "litestream": begun["litestream"],
    }
    assert next(line["what"] for line in replicating.said if "what" in line) == "snapshot"


def test_without_litestream_it_is_said_how_to_get_it(cli: Command, ada: str, url: str) -> None:
    nowhere = {"PATH": os.path.dirname(__file__)}
    lacking = [("replicate", ada, url), ("restore", url, "back.workbook")]
    for words in lacking:
        refused = cli("litestream", *words, env=nowhere)
        assert (refused.code, "npm package @flydotio/litestream-linux-x64" in refused.err) == (1, True)
        assert "[TOR-831]" in refused.err
    for word in ("stop", "status"):
        assert "[TOR-833]" in cli("litestream", word, ada, env=nowhere).err


MISUSES = {
    "address": ("replicate", "ada", "ftp://host/x"),
    "relative folder": ("replicate", "ada", "cold"),
    "key in the address": ("restore", "s3://key:secret@bucket/x", "back.workbook"),
    "no such agent": ("replicate", "nobody", "file:///"),
    "a time that is none": ("restore", "file:///", "back.workbook", "--at", "soon"),
    "a time to come": ("restore", "file:///", "back.workbook", "--at", "+2h"),
}


@pytest.mark.parametrize("words", MISUSES.values(), ids=MISUSES)
def test_misuse_is_refused_and_makes_nothing(torpor: Command, ada: str, tmp_path: Path, words: tuple[str, ...]) -> None:
    refused = torpor("litestream", *words)

    assert refused.code in {1, 2}
    assert refused.err
    assert "Traceback" not in refused.err
    assert "secret" not in refused.err
    assert left_in(tmp_path) == ["home"]


def test_an_earlier_time_is_restored_and_one_that_nothing_was_sent_at_is_an_error(
    torpor: Command, replicating: Replicating, url: str
) -> None:
    said(torpor("litestream", "stop", "ada"))

    early = torpor("litestream", "restore", url, "early.workbook", "--at", "2001-01-01", "--json")

    assert (early.code, early.error["code"]) == (1, "TOR-832")
