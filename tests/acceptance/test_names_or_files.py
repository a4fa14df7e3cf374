"""Where a command takes a workbook, an agent's name does as well; and looking never makes a home."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.kit import Command, Payer, Zygote, left_in, rss, stories, torpor

from torpor import UnknownOutcome
from torpor.home import Home
from torpor.workbook import Workbook


@pytest.fixture
def ada(cli: Command) -> str:
    """Make an agent of that name, without a file."""
    assert cli("new", "ada").code == 0
    return "ada"


def agent(cli: Command, name: str) -> dict[str, Any]:
    shown = cli("show", name, "--json")
    assert shown.code == 0, shown.err
    found: dict[str, Any] = shown.json
    return found


# --- every command of files takes names


def test_files_go_into_and_out_of_an_agent_by_its_name(cli: Command, ada: str, tmp_path: Path) -> None:
    put = cli("files", "put", ada, "workspace:/a.txt", "-", stdin=b"hello")
    assert (put.code, put.out) == (0, "workspace:/a.txt: 5 bytes\n"), put.err
    assert cli("files", "ls", ada, "--json").json["path"] == "/a.txt"
    assert cli("files", "cat", ada, "/a.txt").raw == b"hello"
    assert cli("files", "get", ada, "/a.txt", "out.txt").code == 0
    assert (tmp_path / "out.txt").read_bytes() == b"hello"
    assert left_in(tmp_path) == ["home", "out.txt"], "no file has come to be called ada"


def test_the_journal_and_verification_take_names(cli: Command, ada: str) -> None:
    assert cli("files", "put", ada, "/a.txt", "-", stdin=b"hello").code == 0
    kinds = [json.loads(line)["kind"] for line in cli("events", ada, "--json").out.splitlines()]
    assert "file.written" in kinds
    assert cli("events", ada, "--last", "1").out.count("\n") == 1
    assert cli("verify", ada).out.startswith("ok: ")
    assert cli("runs", ada).out == ""


def test_a_briefing_is_made_by_an_agent_of_the_home_and_remembered(cli: Command, ada: str, tmp_path: Path) -> None:
    (tmp_path / "f.xml").write_bytes(rss(stories(6)))
    first = cli("brief", "f.xml", "--workbook", ada, "--out", "out")
    assert (first.code, "6 new, 0 already read" in first.out) == (0, True), first.err
    again = cli("brief", "f.xml", "--workbook", ada, "--out", "out")
    assert "0 new, 6 already read" in again.out
    found = cli("memory", "search", ada, "cats", "tin")
    assert "Story s1" in found.out
    assert [line.split()[-1] for line in cli("runs", ada).out.splitlines()] == ["completed", "completed"]
    assert left_in(tmp_path) == ["f.xml", "home", "out"]
    story = agent(cli, ada)
    assert story["state"] == "active"
    assert "brief" in {move["why"] for move in story["history"] if move["verb"] == "wake"}


@pytest.mark.anyio
async def test_settle_and_cancel_take_names(cli: Command, ada: str, home: Path) -> None:
    with Home.open(str(home)) as opened, opened.using(ada) as book, pytest.raises(UnknownOutcome):
        await Payer(book).send("pay")
    run_id = cli("runs", ada, "--json").json["run"]
    settled = cli("settle", ada, "pay-17", "--happened", "--json")
    assert (settled.code, settled.json["run"]) == (0, run_id), settled.err
    cancelled = cli("cancel", ada, run_id)
    assert (cancelled.code, cancelled.out) == (0, f"Run {run_id} is cancelled.\n"), cancelled.err


def test_rewind_and_diff_take_files(cli: Command, tmp_path: Path) -> None:
    with Workbook.open(tmp_path / "x.workbook") as book:
        book.write("workspace", "/a.txt", b"one")
        first = book.last
        book.write("workspace", "/a.txt", b"three")
    rewound = cli("rewind", "x.workbook", "--to", str(first), "--json")
    assert (rewound.code, rewound.json["to"]) == (0, first), rewound.err
    assert cli("files", "cat", "x.workbook", "/a.txt").raw == b"one"
    found = cli("diff", f"x.workbook@{first + 1}", "x.workbook")
    assert "~ workspace:/a.txt  5 bytes → 3 bytes" in found.out.splitlines(), found
    assert left_in(tmp_path) == ["x.workbook"], "and no home"


# --- which of the two a word means


def test_a_dot_or_a_slash_makes_a_word_a_file(cli: Command, ada: str, home: Path, tmp_path: Path) -> None:
    with Workbook.open(tmp_path / "ada") as book:
        book.append("note.added", {"text": "in the folder"})
    assert "in the folder" in cli("events", "./ada").out
    assert "in the folder" in cli("events", str(tmp_path / "ada")).out
    assert "in the folder" not in cli("events", ada).out, "the agent comes first"
    missing = cli("events", "ada.workbook", "--json")
    assert (missing.code, missing.error["code"]) == (1, "TOR-201"), "not the agent's file in the home"
    assert cli("events", str(home / "agents" / "ada.workbook")).code == 0


def test_a_word_that_no_agent_has_is_a_file_where_there_is_one(cli: Command, ada: str, tmp_path: Path) -> None:
    with Workbook.open(tmp_path / "eve") as book:
        book.append("note.added", {"text": "in the folder"})
    assert "in the folder" in cli("events", "eve").out
    assert cli("files", "put", "eve", "/a", "-", stdin=b"x").code == 0
    assert left_in(tmp_path) == ["eve", "home"]
    assert cli("ls", "--json").out.count("\n") == 1


def test_upper_and_lower_case_mean_the_same_agent(cli: Command, ada: str) -> None:
    assert cli("files", "put", "Ada", "/a.txt", "-", stdin=b"hello").code == 0
    assert cli("files", "cat", "ADA", "/a.txt").raw == b"hello"


@pytest.mark.parametrize("made", [False, True], ids=["no home", "a home"])
@pytest.mark.parametrize(
    "words",
    [
        ("events", "bob"),
        ("runs", "bob"),
        ("verify", "bob"),
        ("files", "ls", "bob"),
        ("files", "put", "bob", "/a", "-"),
        ("files", "get", "bob", "/a", "out"),
        ("memory", "search", "bob", "x"),
        ("settle", "bob", "k", "--happened"),
        ("cancel", "bob", "r"),
        ("brief", "f.xml", "--workbook", "bob"),
        ("rewind", "bob", "--to", "1"),
        ("diff", "bob", "bob@1"),
    ],
    ids=lambda words: words[0],
)
def test_a_name_that_nobody_has_is_said_and_nothing_is_made(
    cli: Command, tmp_path: Path, words: tuple[str, ...], *, made: bool
) -> None:
    if made:
        assert cli("new", "ada").code == 0
    before = left_in(tmp_path)
    ended = cli(*words, "--json")
    assert (ended.code, ended.error["code"]) == (1, "TOR-701"), ended
    assert "'bob'" in ended.error["message"]
    assert ended.error["next_step"]
    assert left_in(tmp_path) == before


@pytest.mark.parametrize("word", ["a b", "äda", "\udcff", "\N{CAT}", "a@b", "a\nb"])
def test_a_word_that_can_be_no_name_is_a_file(cli: Command, ada: str, tmp_path: Path, word: str) -> None:
    ended = cli("events", word, "--json")
    assert (ended.code, ended.error["code"]) == (1, "TOR-201"), ended
    assert left_in(tmp_path) == ["home"]


# --- looking wakes nobody, writing does


def test_looking_wakes_nobody(cli: Command, ada: str) -> None:
    assert cli("files", "put", ada, "/a.txt", "-", stdin=b"hello").code == 0
    assert cli("suspend", ada).code == 0
    for words in (
        ("events", ada),
        ("runs", ada),
        ("verify", ada),
        ("files", "ls", ada),
        ("files", "cat", ada, "/a.txt"),
        ("memory", "search", ada, "x"),
        ("diff", f"{ada}@1", ada),
        ("show", ada),
    ):
        assert cli(*words).code == 0, words
    story = agent(cli, ada)
    assert (story["state"], story["epoch"]) == ("suspended", 1)


def test_what_is_asleep_elsewhere_can_not_be_looked_at_and_is_woken_by_writing(cli: Command, ada: str) -> None:
    assert cli("files", "put", ada, "/a.txt", "-", stdin=b"hello").code == 0
    assert [cli(move, ada).code for move in ("suspend", "freeze")] == [0, 0]
    asleep = cli("files", "cat", ada, "/a.txt")
    assert (asleep.code, asleep.raw) == (1, b"")
    assert "ada is frozen" in asleep.err
    assert "torpor wake ada" in asleep.err
    assert cli("files", "put", ada, "/b.txt", "-", stdin=b"again").code == 0
    assert agent(cli, ada)["state"] == "active"
    assert cli("files", "cat", ada, "/a.txt").raw == b"hello"


def test_an_agent_that_somebody_writes_can_be_looked_at_and_not_written(cli: Command, ada: str, home: Path) -> None:
    with Home.open(str(home)) as opened, opened.using(ada) as book:
        book.append("note.added", {"text": "just now"})
        assert "just now" in cli("events", ada).out
        busy = cli("files", "put", ada, "/a", "-", "--json", stdin=b"x")
        assert (busy.code, busy.error["code"]) == (1, "TOR-703"), busy
        busy = cli("suspend", ada, "--json")
        assert (busy.code, busy.error["code"]) == (1, "TOR-703"), busy
    assert cli("verify", ada).code == 0


# --- an agent's own file


def test_an_agents_own_file_is_neither_read_as_a_file_nor_replaced(cli: Command, ada: str, home: Path) -> None:
    own = str(home / "agents" / "ada.workbook")
    assert cli("files", "put", ada, "/a", "-", stdin=b"x").code == 0
    for words in (("files", "put", ada, "/a", own), ("files", "get", ada, "/a", own, "--force")):
        ended = cli(*words)
        assert (ended.code, "it is the workbook itself" in ended.err) == (1, True), ended
    assert cli("verify", ada).code == 0


# --- where the home is


def test_the_home_is_where_the_option_says_wherever_that_stands(run: Zygote, tmp_path: Path) -> None:
    env = {"TORPOR_HOME": str(tmp_path / "other")}
    for number, words in enumerate(
        (
            ("--home", "there", "new", "a0"),
            ("new", "--home", "there", "a1"),
            ("new", "a2", "--home=there"),
            ("--home=there", "new", "--json", "a3"),
        )
    ):
        assert run(*words, cwd=tmp_path, env=env).code == 0, words
        assert (tmp_path / "there" / "agents" / f"a{number}.workbook").exists()
    assert left_in(tmp_path) == ["there"]
    assert run("ls", "--home", str(tmp_path / "there"), "--json", cwd=tmp_path, env=env).out.count("\n") == 4


def test_behind_two_dashes_an_option_is_a_word(cli: Command, home: Path) -> None:
    ended = cli("new", "--", "--home")
    assert (ended.code, "'--home'" in ended.err) == (2, True), ended


@pytest.mark.parametrize("words", [("--home",), ("ls", "--home"), ("ls", "--home", ""), ("ls", "--cold=")])
def test_a_home_that_is_not_said_is_misuse(cli: Command, tmp_path: Path, words: tuple[str, ...]) -> None:
    ended = cli(*words)
    assert (ended.code, "Traceback" in ended.err) == (2, False)
    assert left_in(tmp_path) == []


def test_without_any_setting_the_home_is_the_platforms_folder_for_data(tmp_path: Path) -> None:
    data = {"XDG_DATA_HOME": str(tmp_path / "data"), "TORPOR_HOME": ""}
    made = torpor("new", "ada", "--json", cwd=tmp_path, env=data)
    assert made.json["path"] == str(tmp_path / "data" / "torpor" / "agents" / "ada.workbook"), made.err


LOOKING = (
    ("ls",),
    ("show", "ada"),
    ("template", "ls"),
    ("tick",),
    ("tick", "--now", "+2h"),
    ("suspend", "ada"),
    ("wake", "ada"),
    ("wake", "ada", "--at", "+1h"),
    ("freeze", "ada"),
    ("prefetch", "ada"),
    ("archive", "ada"),
    ("delete", "ada"),
    ("fork", "ada"),
    ("rewind", "ada", "--to", "1"),
    ("diff", "ada", "eve"),
    ("export", "ada", "out.workbook"),
    ("template", "create", "t", "--from", "ada"),
    ("template", "drop", "t"),
    ("clone", "t", "--tenant", "acme"),
)


@pytest.mark.parametrize("words", LOOKING, ids=" ".join)
def test_only_what_makes_an_agent_makes_a_home(cli: Command, tmp_path: Path, words: tuple[str, ...]) -> None:
    ended = cli(*words)
    assert ended.code in {0, 1}, ended
    assert "Traceback" not in ended.err
    if ended.code:
        assert "There is no " in ended.err
    assert left_in(tmp_path) == []


def test_ls_says_where_the_home_would_be(cli: Command, home: Path) -> None:
    ended = cli("ls")
    assert (ended.code, str(home) in ended.out, "torpor new NAME" in ended.out) == (0, True, True)
    assert cli("ls", "--json").out == ""


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[Path]:
    """Return a folder that holds something else."""
    folder = tmp_path / "crowded"
    folder.mkdir()
    (folder / "ledger.db").write_text("this is no ledger")
    yield folder
    assert (folder / "ledger.db").read_text() == "this is no ledger", "what was there is as it was"


@pytest.mark.parametrize(
    "words", [("ls",), ("new", "ada"), ("show", "ada"), ("events", "ada"), ("tick",)], ids=" ".join
)
def test_a_folder_with_a_ledger_that_is_none_is_refused_and_left(
    run: Zygote, crowded: Path, words: tuple[str, ...]
) -> None:
    ended = run(*words, "--home", str(crowded), "--json", cwd=crowded.parent)
    assert (ended.code, ended.error["code"]) == (1, "TOR-712"), ended


def test_a_home_that_is_a_file_is_refused(run: Zygote, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for words in (("new", "ada"), ("ls",), ("show", "ada")):
        ended = run(*words, "--home", "file", "--json", cwd=tmp_path)
        assert ended.code in {0, 1, 2}, ended
        assert "Traceback" not in ended.err
    ended = run("new", "ada", "--home", "file", "--json", cwd=tmp_path)
    assert (ended.code, ended.error["code"]) == (2, "TOR-121"), ended
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("path", ["\udcff", "x" * 300, "/dev/null/x", "/proc/nowhere"])
def test_a_folder_that_no_home_can_be_in_is_refused_in_words(run: Zygote, tmp_path: Path, path: str) -> None:
    refused = run("new", "ada", "--home", path, "--json", cwd=tmp_path)
    assert (refused.code, refused.error["code"]) == (2, "TOR-121"), refused
    for words in (("ls",), ("show", "ada"), ("suspend", "ada")):
        ended = run(*words, "--home", path, cwd=tmp_path)
        assert (ended.code in {0, 1}, "Traceback" in ended.err) == (True, False), ended
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("option", ["--cold", "--archive"])
@pytest.mark.parametrize("url", ["memory://x", "memory:"])
def test_a_store_that_ends_with_the_command_is_refused(cli: Command, ada: str, option: str, url: str) -> None:
    ended = cli("ls", option, url, "--json")
    assert (ended.code, ended.error["code"]) == (2, "TOR-120"), ended
    assert "ends with this command" in ended.error["message"]


def test_the_stores_are_where_the_settings_say(run: Zygote, tmp_path: Path) -> None:
    env = {
        "TORPOR_HOME": str(tmp_path / "home"),
        "TORPOR_COLD": f"file://{tmp_path}/cold",
        "TORPOR_ARCHIVE": f"file://{tmp_path}/archive",
    }
    for words in (("new", "ada"), ("wake", "ada"), ("suspend", "ada")):
        assert run(*words, cwd=tmp_path, env=env).code == 0, words
    unmounted = run("freeze", "ada", "--json", cwd=tmp_path, env=env)
    assert (unmounted.code, unmounted.error["code"]) == (1, "TOR-709"), unmounted
    (tmp_path / "cold").mkdir()
    assert run("freeze", "ada", cwd=tmp_path, env=env).code == 0
    assert sum(len(files) for _, _, files in os.walk(tmp_path / "cold")) == 1
    assert run("wake", "ada", "--cold", "elsewhere", cwd=tmp_path, env=env).code == 0, "the ledger knows where it is"
    assert run("archive", "ada", "--archive", "attic", cwd=tmp_path, env=env).code == 0
    assert sum(len(files) for _, _, files in os.walk(tmp_path / "home" / "attic")) == 1
    assert not (tmp_path / "archive").exists()
