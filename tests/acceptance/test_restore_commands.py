"""`torpor restore` and `torpor heartbeat`, as people and machines use them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.acceptance.kit import ROOT, Command, Ended, command, environment, said

from torpor.gateways.cli.restore import past_point
from torpor.workbook import Workbook


class Kept:
    """A command line in a home that has a replica."""

    def __init__(self, cli: Command, replica: Path) -> None:
        self.cli = cli
        self.replica = replica
        self.env: Mapping[str, str] = {"TORPOR_REPLICA": replica.as_uri()}

    def __call__(self, *words: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Ended:
        return self.cli(*words, stdin=stdin, env={**self.env, **(env or {})})

    def put(self, name: str, text: str) -> int:
        """Write a file of an agent anew, and return its newest event."""
        assert self("files", "put", name, "/note.txt", "-", stdin=text.encode()).code == 0
        return self.last(name)

    def last(self, name: str) -> int:
        return len(self("events", name, "--json").out.splitlines())

    def read(self, name: str) -> str:
        ended = self("files", "cat", name, "/note.txt")
        assert ended.code == 0, ended
        return ended.out


@pytest.fixture
def kept(cli: Command, tmp_path: Path) -> Kept:
    replica = tmp_path / "replica"
    replica.mkdir()
    found = Kept(cli, replica)
    assert found("new", "ada").code == 0
    return found


def one(ended: Ended) -> dict[str, Any]:
    assert (ended.code, ended.err) == (0, ""), ended
    found: dict[str, Any] = json.loads(ended.out)
    return found


# --- one agent


def test_an_agent_is_put_back_to_an_event(kept: Kept, home: Path) -> None:
    first = kept.put("ada", "one")
    kept.put("ada", "two")
    told = said(kept("restore", "ada", "--at", str(first)))
    lines = told.splitlines()
    assert re.fullmatch(
        rf"ada: restored, suspended, as of event {first} of [-\d]+ [:\d]+ UTC, \d+\.\d KiB in [\d.]+ ms; verified",
        lines[0],
    )
    aside = lines[1].removeprefix("    the file that was there is ")
    assert Path(aside).parent == home / "replaced"
    with Workbook.open(aside, readonly=True) as book:
        assert book.read("workspace", "/note.txt") == b"two"
    assert kept.read("ada") == "one"
    assert [move["verb"] for move in one(kept("show", "ada", "--json"))["history"]][-1] == "restore"


def test_it_is_said_in_json(kept: Kept) -> None:
    first = kept.put("ada", "one")
    kept.put("ada", "two")
    found = one(kept("restore", "ada", "--at", f"#{first}", "--json"))
    assert set(found) == {
        "name", "before", "after", "seq", "time", "bytes", "read", "ms",
        "complete", "reason", "lost", "replaced", "skipped",
    }  # fmt: skip
    assert (found["before"], found["after"], found["seq"]) == ("active", "suspended", first)
    assert Path(found["replaced"]).exists()


def test_a_time_and_a_duration_are_points_too(kept: Kept) -> None:
    kept.put("ada", "one")
    between = datetime.now(UTC)
    kept.put("ada", "two")
    kept.put("ada", "three")
    assert kept("restore", "ada", "--at", between.isoformat()).code == 0
    assert kept.read("ada") == "one"
    refused = kept("restore", "ada", "--at", "3650d", "--json")
    assert (refused.code, refused.error["code"]) == (1, "TOR-814")
    assert kept.read("ada") == "one"


def test_a_file_that_was_removed_comes_back(kept: Kept, home: Path) -> None:
    kept.put("ada", "one")
    assert kept("suspend", "ada").code == 0
    (home / "agents" / "ada.workbook").unlink()
    assert kept("files", "cat", "ada", "/note.txt").code == 1
    assert len(said(kept("restore", "ada")).splitlines()) == 1
    assert kept.read("ada") == "one"
    again = said(kept("restore", "ada"))
    assert "nothing to replace: its file is just that already" in again


def test_another_replica_is_named_with_from(kept: Kept, home: Path, tmp_path: Path) -> None:
    kept.put("ada", "one")
    elsewhere = shutil.copytree(kept.replica, tmp_path / "elsewhere")
    assert kept("suspend", "ada").code == 0
    (home / "agents" / "ada.workbook").unlink()
    shutil.rmtree(kept.replica)
    kept.replica.mkdir()
    ended = kept.cli("restore", "ada", "--from", elsewhere.as_uri())
    assert ended.code == 0, ended
    assert kept.read("ada") == "one"


def test_one_that_fails_keeps_no_other(kept: Kept) -> None:
    first = kept.put("ada", "one")
    kept.put("ada", "two")
    ended = kept("restore", "nobody", "ada", "--at", str(first))
    assert ended.code == 1
    assert ended.out.startswith("ada: restored")
    assert "nobody" in ended.err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("restore",), "TOR-100"),
        (("restore", "ada", "--all"), "TOR-100"),
        (("restore", "--all", "--at", "3"), "TOR-100"),
        (("restore", "ada", "--at", "yesterday"), "TOR-100"),
        (("restore", "ada", "--from", ""), "TOR-100"),
        (("restore", "ada", "--from", "ftp://x"), "TOR-120"),
        (("--replica", "", "ls"), "TOR-100"),
        (("--durability", "strong", "ls"), "TOR-122"),
        (("--durability", "replicated", "--replica", "nowhere?", "ls"), "TOR-120"),
        (("heartbeat", "drill", "--count", "0"), "TOR-100"),
    ],
)
def test_what_makes_no_sense_is_misuse(kept: Kept, words: tuple[str, ...], code: str) -> None:
    ended = kept(*words, "--json")
    assert (ended.code, ended.error["code"]) == (2, code), ended


def test_without_a_replica_it_says_how_to_name_one(cli: Command) -> None:
    assert cli("new", "ada").code == 0
    ended = cli("restore", "ada", "--json")
    assert (ended.code, ended.error["code"]) == (2, "TOR-120")
    assert "--from" in ended.error["message"]


def test_a_template_and_a_stranger_are_named(kept: Kept) -> None:
    assert kept("template", "create", "kind", "--from", "ada").code == 0
    assert kept("restore", "kind", "--json").error["code"] == "TOR-714"
    assert kept("restore", "nobody", "--json").error["code"] == "TOR-701"


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("120", 120),
        ("#120", 120),
        ("20270301", 20270301),
        ("2h", timedelta(hours=2)),
        ("-90s", timedelta(seconds=90)),
        ("2027-03-01", datetime(2027, 3, 1, tzinfo=UTC)),
        ("2027-03-01T18:00Z", datetime(2027, 3, 1, 18, tzinfo=UTC)),
        ("+2h", timedelta(hours=-2)),
    ],
)
def test_a_point_in_the_past_is_a_number_a_time_or_how_long_ago(text: str, point: object) -> None:
    assert past_point(text, "--at") == point


@pytest.mark.parametrize("text", ["", "yesterday", "1.5", "#", "##1", "12x", "9999-12-31", "1" * 19])
def test_anything_else_is_none(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        past_point(text, "--at")


# --- a whole home


def test_a_lost_home_comes_back(kept: Kept, home: Path) -> None:
    kept.put("ada", "one")
    assert kept("new", "bob").code == 0
    assert kept("template", "create", "kind", "--from", "ada").code == 0
    assert kept("ls").code == 0
    shutil.rmtree(home)
    told = said(kept("restore", "--all"))
    first, second = told.splitlines()
    pattern = rf"{re.escape(str(home))}: 2 agents and 1 template restored and verified, [\d.]+ KiB in [\d.]+ s"
    assert re.fullmatch(pattern, first), told
    assert re.fullmatch(rf"    as of [-\d]+ [:\d]+ UTC, from {kept.replica.as_uri()}", second), told
    assert kept.read("ada") == "one"
    assert kept("clone", "kind", "--tenant", "acme").code == 0


def test_a_home_that_is_there_is_left_alone(kept: Kept) -> None:
    kept.put("ada", "one")
    ended = kept("restore", "--all", "--json")
    assert (ended.code, ended.error["code"]) == (2, "TOR-121")
    assert kept.read("ada") == "one"


def test_whoever_does_not_come_back_is_named_and_it_ends_with_3(kept: Kept, home: Path) -> None:
    kept.put("ada", "one")
    assert kept("new", "bob").code == 0
    kept.put("bob", "other")
    snapshots_of(kept.replica, one(kept("show", "bob", "--json"))["id"])
    shutil.rmtree(home)
    ended = kept("restore", "--all")
    assert ended.code == 3, ended
    assert "bob: " in ended.err
    assert "1 agent restored and verified" in ended.out
    assert kept.read("ada") == "one"
    assert kept("files", "cat", "bob", "/note.txt").code == 1


def snapshots_of(replica: Path, agent: str) -> None:
    """Damage all that a replica has of one agent."""
    script = """
import sys
from pathlib import Path
from torpor.heartbeat.reading import Reader
from torpor.stores.objects import open_objects
store = Path(sys.argv[1])
reader = Reader(open_objects(store.as_uri(), str(store)))
for key, index in list(reader.newest_first(reader.catalog())):
    content = bytearray((store / key).read_bytes())
    for block in index.blocks:
        if block.agent == sys.argv[2]:
            content[block.offset : block.offset + block.length] = bytes(block.length)
    (store / key).write_bytes(content)
"""
    subprocess.run(
        [sys.executable, "-c", script, str(replica), agent], env=environment(), check=True, capture_output=True
    )


def test_it_shows_how_many_are_done_on_a_terminal(tmp_path: Path) -> None:
    import pty

    script = """
from torpor.gateways.cli.progress import CountWatch
from torpor.service import Moving
with CountWatch("Bringing the home back", quiet=False) as watch:
    watch(Moving("restore", 1, 3))
    watch._since -= 1.1
    watch(Moving("restore", 2, 3))
"""
    ours, theirs = pty.openpty()
    env = environment({"TERM": "xterm-256color"})
    words = [*command()[:1], "-c", script]
    with subprocess.Popen(words, cwd=tmp_path, env=env, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        got = b""
        try:
            while piece := os.read(ours, 65536):
                got += piece
        except OSError:  # EIO: the last user of the terminal has gone
            pass
    os.close(ours)
    assert process.returncode == 0, got
    assert "Bringing the home back: restoring" in got.decode()
    assert "2/3" in got.decode()


# --- the heartbeat


def test_the_status_is_a_page_for_people(kept: Kept) -> None:
    kept.put("ada", "one")
    lines = said(kept("heartbeat", "status")).splitlines()
    found = {line.partition("  ")[0]: line.partition("  ")[2].strip() for line in lines}
    assert list(found) == ["heartbeat", "durability", "replica", "lag", "not in it yet", "log", "awake", "last drill"]
    assert found["heartbeat"].startswith("not running, as of ")
    assert found["durability"] == "heartbeat"
    assert found["replica"].startswith(kept.replica.as_uri())
    assert (found["lag"], found["awake"], found["last drill"]) == ("none", "0 agents", "none")
    assert re.fullmatch(r"[\d.]+ MiB of at most 1\.0 GiB", found["log"])


def test_the_status_of_a_node_that_runs_is_seen_from_outside(kept: Kept, home: Path) -> None:
    kept.put("ada", "one")
    script = """
import sys
from torpor.heartbeat import Settings
from torpor.home import Home
with Home.open(sys.argv[1], durability="heartbeat", heartbeat=Settings(replica=sys.argv[2], drill_s=0)) as home:
    with home.using("ada") as book:
        book.append("note.added", {})
        home.heartbeat.flush()
        home.heartbeat._tell()
        print("ready", flush=True)
        input()
"""
    words = [sys.executable, "-c", script, str(home), kept.replica.as_uri()]
    env = environment({"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"})
    with subprocess.Popen(words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as node:
        assert node.stdout is not None
        assert node.stdout.readline() == b"ready\n"
        found = one(kept("heartbeat", "status", "--json"))
        drill = kept("heartbeat", "drill", "--json")
        busy = kept("restore", "ada", "--at", "1", "--json")
        node.communicate(b"\n")
    assert (found["running"], found["pid"], found["awake"]) == (True, node.pid, 1)
    assert (drill.code, drill.error["code"]) == (1, "TOR-802")
    assert str(node.pid) in drill.error["message"]
    assert (busy.code, busy.error["code"]) == (1, "TOR-703")


def test_a_home_without_a_heartbeat_says_so(cli: Command) -> None:
    for _ in range(2):
        ended = cli("heartbeat", "status", "--json")
        assert (ended.code, ended.error["code"]) == (2, "TOR-121")
        assert cli("new", "ada").code in {0, 1}


def test_a_drill_restores_and_compares(kept: Kept) -> None:
    kept.put("ada", "one")
    head, row = said(kept("heartbeat", "drill")).splitlines()
    assert head.split() == ["NAME", "RESTORED", "TRANSACTION", "TOOK", "WHY", "NOT"]
    assert re.fullmatch(r"ada +as it is +\d+ +[\d.]+ ms +-", row)
    done = one(kept("heartbeat", "drill", "--count", "5", "--json"))
    assert [(agent["name"], agent["ok"]) for agent in done["agents"]] == [("ada", True)]
    assert "1 agent, all as they are" in said(kept("heartbeat", "status"))
    assert one(kept("heartbeat", "status", "--json"))["drill"]["agents"][0]["name"] == "ada"


def test_a_drill_without_a_replica_is_misuse(cli: Command) -> None:
    assert cli("--durability", "heartbeat", "new", "ada").code == 0
    ended = cli("--durability", "heartbeat", "heartbeat", "drill", "--json")
    assert (ended.code, ended.error["code"]) == (2, "TOR-120")


def test_the_durability_may_be_named_behind_the_command(kept: Kept, home: Path) -> None:
    kept.put("ada", "one")
    assert kept.cli("suspend", "ada", "--durability", "file").code == 0
    shutil.rmtree(home / "heartbeat")
    assert kept.cli("wake", "ada", "--durability", "heartbeat").code == 0
    assert (home / "heartbeat" / "id").exists()
