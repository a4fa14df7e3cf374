"""What somebody tries who has just installed it: each of these was once wrong, or said so that nobody understood."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.kit import Command, command, environment, left_in, said
from tests.contract.store_kit import new_bucket, serving_s3

from torpor.base.clock import SystemClock
from torpor.base.errors import AgentAsleep
from torpor.home import Home
from torpor.models import Local
from torpor.service import EventView, Homes, Service
from torpor.workbook import Workbook


def story(cli: Command, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(said(cli("show", name, "--json")))
    return found


# --- stores


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with serving_s3() as address:
        yield address


@pytest.mark.parametrize(("allowed", "goes"), [("true", True), (" TRUE ", True), ("false", False), ("", False)])
def test_a_store_without_encryption_is_used_where_the_environment_allows_it(
    cli: Command, ada: str, s3: str, allowed: str, *, goes: bool
) -> None:
    bucket = new_bucket(s3)
    env = {
        "AWS_ENDPOINT": s3,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": allowed,
        "TORPOR_ARCHIVE": f"s3://{bucket}/archive",
    }
    assert cli("suspend", ada).code == 0
    frozen = cli("freeze", ada, "--cold", f"s3://{bucket}/cold", "--json", env=env)
    if not goes:
        assert (frozen.code, frozen.error["code"]) == (1, "TOR-709"), frozen
        assert "AWS_ALLOW_HTTP" in frozen.error["message"]
        return
    assert (frozen.code, frozen.json["after"]) == (0, "frozen"), frozen
    assert story(cli, ada)["cold"].startswith(f"s3://{bucket}/cold#")
    assert "(cold)" in said(cli("wake", ada, env=env))
    assert cli("files", "cat", ada, "/a.txt").raw == b"hello"
    assert "archived" in said(cli("archive", ada, env=env))
    assert story(cli, ada)["archive"].startswith(f"s3://{bucket}/archive#")
    assert "(cold)" in said(cli("wake", ada, env=env))
    assert cli("files", "cat", ada, "/a.txt").raw == b"hello"


# --- rewinds


def test_show_lists_what_is_set_aside_now_and_not_what_was_once(cli: Command) -> None:
    def put(text: bytes) -> None:
        assert cli("files", "put", "ada", "/a.txt", "-", stdin=text).code == 0

    def aside() -> list[str]:
        return said(cli("show", "ada")).partition("Set aside by rewinds\n")[2].partition("\n\n")[0].splitlines()

    assert cli("new", "ada").code == 0
    for text in (b"1", b"2", b"3", b"4"):
        put(text)
    assert cli("rewind", "ada", "--to", "1").code == 0
    assert aside() == ["  events 2 to 4, by event 5"]
    assert cli("rewind", "ada", "--to", "3").code == 0
    assert aside() == ["  event 4, by event 5", "  event 5, by event 6"]
    assert [branch["first"] for branch in story(cli, "ada")["branches"]] == [4, 5]
    put(b"7")
    assert cli("rewind", "ada", "--to", "5").code == 0
    assert aside() == ["  events 2 to 4, by event 5", "  events 2 to 3 and 6 to 7, by event 8"]
    assert story(cli, "ada")["branches"][1] == {"first": 2, "last": 7, "events": [[2, 3], [6, 7]], "rewound": 8}
    assert cli("rewind", "ada", "--to", "4").code == 0
    assert aside() == ["  events 6 to 7, by event 8", "  events 5 and 8, by event 9"]


def test_going_into_a_transaction_goes_to_its_end_and_says_so(cli: Command, ada: str, home: Path) -> None:
    with Home.open(str(home)) as opened, opened.using(ada) as book:
        begin = book.last + 1
        with book.transaction():
            for number in range(5):
                book.append("note.added", {"number": number})
        end = book.last
        book.append("note.added", {"number": 5})
    assert end == begin + 4
    within = f"event {end}, which was committed together with event {begin}"
    assert said(cli("fork", ada, "--at", str(begin), "--as", "eve")).startswith(
        f"eve is created, a fork of ada as of {within}: "
    )
    assert json.loads(said(cli("fork", ada, "--at", str(begin), "--json")))["at"] == end
    assert said(cli("rewind", ada, "--to", str(begin))) == (
        f"ada is as of {within}; what came after is set aside (event {end + 2}).\n"
    )
    assert cli("export", ada, "ada.workbook", "--with-memory").code == 0
    assert cli("import", "ada.workbook", "--as", "bob").code == 0
    own = str(home / "agents" / "ada.workbook")
    back = json.loads(said(cli("rewind", own, "--to", str(begin), "--json")))
    assert (back["asked"], back["to"]) == (begin, end)
    assert f"is as of event {end};" in said(cli("rewind", own, "--to", str(end)))


# --- the ticker, and others beside it


def test_what_a_ticker_wakes_is_everybodys(cli: Command, ada: str, home: Path, tmp_path: Path) -> None:
    assert cli("suspend", ada).code == 0
    assert cli("wake", ada, "--at", "1ms").code == 0
    words = command("tick", "--every", "20ms", "--json")
    env = environment({"TORPOR_HOME": str(home)})
    with subprocess.Popen(words, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        while not json.loads(process.stdout.readline())["woken"]:
            pass
        assert story(cli, ada)["state"] == "active"
        assert said(cli("files", "put", ada, "/b.txt", "-", stdin=b"x")) == "workspace:/b.txt: 1 bytes\n"
        assert said(cli("suspend", ada)).startswith("ada: active → suspended")
        assert process.poll() is None, "all that beside a ticker that goes on"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")


def test_a_ticker_without_a_home_is_refused_at_once(cli: Command, home: Path) -> None:
    refused = cli("tick", "--every", "1h", "--json")
    assert (refused.code, refused.error["code"]) == (2, "TOR-121"), refused
    assert not home.exists()


@pytest.mark.anyio
async def test_following_goes_on_with_the_file_that_has_come_in_its_place(cli: Command, ada: str, home: Path) -> None:
    service = Service(lambda _: Local(), SystemClock(), Homes(str(home)))
    followed = service.follow(ada)
    seen: list[EventView] = [await anext(followed)]
    for verb in ("suspend", "freeze", "wake"):
        assert cli(verb, ada).code == 0
    assert cli("files", "put", ada, "/b.txt", "-", stdin=b"there").code == 0
    seen.append(await anext(followed))
    assert [event.seq for event in seen] == [1, 2], "nothing is missed, and nothing told twice"
    assert seen[1].body["path"] == "/b.txt"
    for verb in ("suspend", "freeze"):
        assert cli(verb, ada).code == 0
    with pytest.raises(AgentAsleep):
        await anext(followed)
    service.close()


@pytest.mark.anyio
async def test_following_a_file_begins_anew_with_another_agents(tmp_path: Path) -> None:
    file, other = tmp_path / "a.workbook", tmp_path / "b.workbook"
    for path, count in ((file, 2), (other, 1)):
        with Workbook.open(path) as book:
            for number in range(count):
                book.append("note.added", {"file": path.name, "number": number})
    followed = Service(lambda _: Local(), SystemClock()).follow(str(file), last=1)
    assert (await anext(followed)).seq == 2
    other.replace(file)
    assert (await anext(followed)).body == {"file": "b.workbook", "number": 0}


def test_following_ends_with_what_is_wrong_when_the_agent_is_frozen(
    cli: Command, ada: str, home: Path, tmp_path: Path
) -> None:
    words = command("events", ada, "--follow", "--json")
    env = environment({"TORPOR_HOME": str(home), "PYTHONUNBUFFERED": "1"})
    with subprocess.Popen(words, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["seq"] == 1
        for verb in ("suspend", "freeze"):
            assert cli(verb, ada).code == 0
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, b"")
    assert json.loads(err)["error"]["code"] == "TOR-704"


# --- waking


def test_who_is_active_is_not_woken_again(cli: Command, ada: str) -> None:
    assert cli("files", "put", ada, "tmp:/scratch", "-", stdin=b"x").code == 0
    before = story(cli, ada)
    assert said(cli("wake", ada)) == "ada: nothing to do: it is active already\n"
    assert json.loads(said(cli("wake", ada, "--json")))["skipped"]
    after = story(cli, ada)
    assert (after["epoch"], after["history"]) == (before["epoch"], before["history"])
    assert "/scratch" in said(cli("files", "ls", ada, "tmp:/")), "nothing was done"


def test_a_timer_that_is_due_is_kept_by_waking(cli: Command, ada: str) -> None:
    assert cli("wake", ada, "--at", "2020-01-01").code == 0
    assert "active (cached)" in said(cli("wake", ada))
    assert story(cli, ada)["wake"] is None


def test_waking_says_what_is_wrong_with_the_file_of_an_active_agent(cli: Command, ada: str, home: Path) -> None:
    (home / "agents" / "ada.workbook").unlink()
    refused = cli("wake", ada, "--json")
    assert (refused.code, refused.error["code"]) == (1, "TOR-707"), refused


@pytest.mark.parametrize(
    ("typed", "words"),
    [("+2h", "in 2 h"), ("+3d", "in 3 d"), ("90m", "in 1 h 30 min"), ("+1s", "in 1 s"), ("36h", "in 1 d 12 h")],
)
def test_a_duration_comes_back_as_it_was_typed(cli: Command, ada: str, typed: str, words: str) -> None:
    assert re.fullmatch(rf"ada wakes at \S+ \S+ UTC \({words}\)\.\n", said(cli("wake", ada, "--at", typed)))


# --- templates


def test_a_clone_names_its_template_as_its_parent(cli: Command, ada: str) -> None:
    assert cli("template", "create", "briefer", "--from", ada).code == 0
    assert cli("new", "eve", "--from", "briefer").code == 0
    parent = story(cli, "eve")["parent"]
    assert (parent["name"], parent["what"], parent["known"]) == ("briefer", "template", True)
    assert re.search(r"^parent +briefer \(template\), at event \d+$", said(cli("show", "eve")), re.MULTILINE)
    assert cli("template", "drop", "briefer").code == 0
    assert re.search(r"^parent +briefer \(dropped template\), at event \d+$", said(cli("show", "eve")), re.MULTILINE)


def test_a_template_can_be_shown_and_read(cli: Command, ada: str, home: Path) -> None:
    assert cli("template", "create", "briefer", "--from", ada, "--suspend-after", "5m").code == 0
    assert cli("clone", "briefer", "--tenant", "acme", "--count", "2").code == 0
    found = story(cli, "briefer")
    assert (found["name"], found["parent"], found["clones"]) == ("briefer", "ada", 2)
    assert [move["verb"] for move in found["history"]][:1] == ["template"]
    words = said(cli("show", "Briefer"))
    assert "a template, read-only, of which 2 agents were made" in words
    assert re.search(r"^made from +ada, at event 1$", words, re.MULTILINE)
    assert re.search(r"^clones idle +suspended after 5 min$", words, re.MULTILINE)
    assert said(cli("events", "briefer")).count("\n") == found["seq"]
    assert said(cli("verify", "briefer")).startswith("ok: ")
    assert cli("files", "cat", "briefer", "/a.txt").raw == b"hello"
    assert said(cli("diff", ada, "briefer")).startswith("Both have events up to 1.")
    assert left_in(home / "templates") == ["briefer.workbook"]
    assert cli("new", "eve", "--from", "briefer").code == 0, "looking has not touched it"


@pytest.mark.parametrize(
    "words",
    [
        ("wake", "briefer"),
        ("suspend", "briefer"),
        ("wake", "briefer", "--at", "+1h"),
        ("fork", "briefer"),
        ("rewind", "briefer", "--to", "1"),
        ("export", "briefer", "x.workbook"),
        ("files", "put", "briefer", "/x", "-"),
        ("template", "create", "other", "--from", "briefer"),
    ],
    ids=" ".join,
)
def test_what_a_template_is_no_good_for_is_refused_with_what_it_is_good_for(
    cli: Command, ada: str, home: Path, words: tuple[str, ...]
) -> None:
    assert cli("template", "create", "briefer", "--from", ada).code == 0
    before = (home / "templates" / "briefer.workbook").read_bytes()
    refused = cli(*words, "--json")
    assert (refused.code, refused.error["code"]) == (1, "TOR-714"), refused
    assert "`torpor clone briefer --tenant NAME` makes agents of it" in refused.error["next_step"]
    assert (home / "templates" / "briefer.workbook").read_bytes() == before


def test_a_file_of_a_templates_name_is_a_file(cli: Command, ada: str, tmp_path: Path) -> None:
    assert cli("template", "create", "briefer", "--from", ada).code == 0
    with Workbook.open(tmp_path / "briefer") as book:
        book.append("note.added", {"text": "a file"})
    assert "a file" in said(cli("events", "briefer"))


# --- leaving and coming


def test_an_export_into_no_folder_is_refused_in_the_words_of_the_user(cli: Command, ada: str, tmp_path: Path) -> None:
    before = story(cli, ada)["history"]
    refused = cli("export", ada, "nowhere/x.workbook")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.splitlines() == [
        "error: ada can't be exported to nowhere/x.workbook: there is no folder nowhere.",
        "  next: Make the folder, or name another. [TOR-201]",
    ]
    assert story(cli, ada)["history"] == before
    assert left_in(tmp_path) == ["home"]


def test_of_a_file_that_is_not_there_no_name_is_discussed(cli: Command, ada: str, home: Path) -> None:
    for words in (("import", "ada.workbook"), ("import", "bad name.workbook"), ("import", "none", "--as", "ada")):
        refused = cli(*words, "--json")
        assert (refused.code, refused.error["code"]) == (1, "TOR-201"), refused
        assert words[1] in refused.error["message"]


def test_importing_nothing_makes_no_home(cli: Command, tmp_path: Path) -> None:
    assert cli("import", "none.workbook").code == 1
    assert left_in(tmp_path) == []


# --- what is left out


def test_where_no_bytes_were_moved_no_size_is_shown(cli: Command, ada: str) -> None:
    assert cli("fork", ada).code == 0
    assert cli("rewind", ada, "--to", "0").code == 0
    lines = said(cli("show", ada)).partition("\nHistory\n")[2].splitlines()
    moves = {line.split()[2]: line.split()[5:7] for line in lines[1:]}
    assert moves["forked"][0] == moves["rewind"][0] == "-"
    assert moves["new"][1] == "KiB"


def test_of_who_is_deleted_only_what_is_so_is_shown(cli: Command, ada: str) -> None:
    for verb in ("archive", "delete"):
        assert cli(verb, ada).code == 0
    facts = [line.partition("  ")[0] for line in said(cli("show", ada)).partition("\n\n")[0].splitlines()]
    assert "state" in facts
    assert not {"size", "when idle", "file"} & set(facts)


def test_the_module_that_kills_at_a_fault_point_runs_without_a_warning(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "torpor.testing.crash", "never", "1", "--", "--version"]
    done = subprocess.run(
        words, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done
