"""The commands of an agent's life: what they print for people and for machines, what they refuse, how they end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.kit import Command, Ended, Zygote, command, environment, left_in, said
from tests.acceptance.test_terminal import on_a_terminal

from torpor.base.clock import SystemClock
from torpor.base.errors import StorageFull
from torpor.gateways.cli import build
from torpor.gateways.cli import run as run_words
from torpor.gateways.cli.options import gathered
from torpor.gateways.cli.progress import MoveWatch
from torpor.gateways.cli.tables import say_table, size, span, until
from torpor.home import Home
from torpor.models import Local
from torpor.service import Moving, Service
from torpor.workbook import Workbook

HOUR_US = 3_600 * 1_000_000


def objects(ended: Ended) -> list[dict[str, Any]]:
    """Return what --json printed."""
    assert ended.code == 0, ended
    assert ended.err == ""
    return [json.loads(line) for line in ended.out.splitlines()]


def one(ended: Ended) -> dict[str, Any]:
    (found,) = objects(ended)
    return found


def state(cli: Command, name: str) -> str:
    found: str = one(cli("show", name, "--json"))["state"]
    return found


# --- new, ls


def test_new_makes_an_agent_and_says_where(cli: Command, home: Path) -> None:
    path = home / "agents" / "ada.workbook"
    assert said(cli("new", "ada")) == f"ada is created: {path}\n"
    made = one(cli("new", "eve", "--tenant", "acme", "--suspend-after", "5m", "--freeze-after", "7d", "--json"))
    assert (made["name"], made["tenant"], made["state"]) == ("eve", "acme", "created")
    assert (made["suspend_after_s"], made["freeze_after_s"]) == (300.0, 604_800.0)
    assert (made["template"], made["cold"], made["wake"], made["epoch"]) == (None, None, None, 0)
    assert made["bytes"] == path.stat().st_size
    with Workbook.open(made["path"], readonly=True) as book:
        assert book.agent == made["id"]


def test_a_name_is_given_once_whatever_its_case(cli: Command, ada: str) -> None:
    for name in ("ada", "ADA", "Ada"):
        taken = cli("new", name, "--json")
        assert (taken.code, taken.error["code"]) == (1, "TOR-702"), taken
    assert cli("files", "cat", ada, "/a.txt").raw == b"hello"


def test_ls_is_a_table_for_people(cli: Command, ada: str) -> None:
    assert cli("new", "bob", "--tenant", "Zoë \N{CAT}").code == 0
    assert cli("wake", "bob", "--at", "+30h").code == 0
    head, first, second = said(cli("ls")).splitlines()
    assert head.split() == ["NAME", "TENANT", "STATE", "SIZE", "IDLE", "NEXT", "WAKE", "TEMPLATE"]
    assert re.fullmatch(r"ada +- +active +\d+\.\d KiB +(now|\d+ s) +- +-", first), first
    assert re.fullmatch(r"bob +Zoë \N{CAT} +created +\d+\.\d KiB +(now|\d+ s) +in 1 d [56] h +-", second), second
    assert first.index("active") == head.index("STATE"), "columns are straight"


def test_ls_is_one_object_a_line_and_takes_filters(cli: Command, ada: str) -> None:
    assert cli("new", "bob", "--tenant", "acme").code == 0
    assert [agent["name"] for agent in objects(cli("ls", "--json"))] == ["ada", "bob"]
    assert [agent["name"] for agent in objects(cli("ls", "--tenant", "acme", "--json"))] == ["bob"]
    assert [agent["name"] for agent in objects(cli("ls", "--state", "active", "--json"))] == ["ada"]
    assert objects(cli("ls", "--tenant", "nobody", "--json")) == []
    assert said(cli("ls", "--tenant", "nobody")) == "No agents.\n"
    assert cli("ls", "--state", "sleepy").code == 2


def test_ls_leaves_out_the_deleted_unless_asked(cli: Command, ada: str) -> None:
    assert cli("archive", ada).code == 0
    assert cli("delete", ada).code == 0
    assert cli("new", "Zoe").code == 0
    assert cli("new", "abe").code == 0
    assert [agent["name"] for agent in objects(cli("ls", "--json"))] == ["abe", "Zoe"]
    assert [agent["name"] for agent in objects(cli("ls", "--all", "--json"))] == ["abe", "ada", "Zoe"]
    assert [agent["name"] for agent in objects(cli("ls", "--state", "deleted", "--json"))] == ["ada"]


# --- the moves


def test_an_agents_whole_life(cli: Command, ada: str, home: Path) -> None:
    live = home / "agents" / "ada.workbook"
    for verb, before, after, here in (
        ("suspend", "active", "suspended", True),
        ("freeze", "suspended", "frozen", False),
        ("prefetch", "frozen", "frozen", True),
        ("wake", "frozen", "active", True),
        ("archive", "active", "archived", False),
        ("wake", "archived", "active", True),
        ("archive", "active", "archived", False),
        ("delete", "archived", "deleted", False),
    ):
        moved = one(cli(verb, ada, "--json"))
        assert (moved["name"], moved["verb"], moved["before"], moved["after"]) == (ada, verb, before, after)
        assert (moved["skipped"], moved["left"], live.exists()) == ("", [], here)
        assert moved["bytes"] > 0
        assert moved["ms"] > 0
        if here:
            assert cli("files", "cat", ada, "/a.txt").raw == b"hello"
    stores = [path for store in ("cold", "archive") for path in (home / store).rglob("*") if path.is_file()]
    assert stores == [], "every copy is gone"
    assert state(cli, ada) == "deleted"
    taken = cli("new", "ADA", "--json")
    assert taken.error["code"] == "TOR-702", "its name stays its own"


@pytest.mark.parametrize(
    ("verb", "way", "words"),
    [
        ("suspend", (), r"ada: active → suspended, \d+\.\d KiB in \d+\.\d ms"),
        ("freeze", ("suspend",), r"ada: suspended → frozen, \d+\.\d KiB in \d+\.\d ms"),
        ("prefetch", ("suspend", "freeze"), r"ada: prefetched, frozen, \d+\.\d KiB in \d+\.\d ms"),
        ("wake", ("suspend",), r"ada: suspended → active \(cached\), \d+\.\d KiB in \d+\.\d ms"),
        ("wake", ("suspend", "freeze"), r"ada: frozen → active \(cold\), \d+\.\d KiB in \d+\.\d ms"),
        ("archive", (), r"ada: active → archived, \d+\.\d KiB in \d+\.\d ms"),
        ("delete", ("archive",), r"ada: archived → deleted, \d+\.\d KiB in \d+\.\d ms"),
    ],
)
def test_a_move_says_what_it_did(cli: Command, ada: str, verb: str, way: tuple[str, ...], words: str) -> None:
    for step in way:
        assert cli(step, ada).code == 0
    assert re.fullmatch(words + "\n", said(cli(verb, ada)))


@pytest.mark.parametrize(
    ("verb", "way"),
    [
        ("suspend", ("suspend",)),
        ("freeze", ("suspend", "freeze")),
        ("prefetch", ()),
        ("archive", ("archive",)),
        ("delete", ("archive", "delete")),
    ],
)
def test_what_is_done_already_is_said_and_is_no_failure(
    cli: Command, ada: str, verb: str, way: tuple[str, ...]
) -> None:
    for step in way:
        assert cli(step, ada).code == 0
    before = one(cli("show", ada, "--json"))["history"]
    assert re.fullmatch(r"ada: nothing to do: .+\n", said(cli(verb, ada)))
    assert one(cli(verb, ada, "--json"))["skipped"]
    assert one(cli("show", ada, "--json"))["history"] == before


ILLEGAL = {
    "suspend": (("suspend", "freeze"), "frozen", "active or archived"),
    "freeze": ((), "active", "suspended or archived"),
    "archive": (("suspend",), "suspended", "active or frozen"),
    "delete": ((), "active", "suspended or archived"),
    "wake": (("archive", "delete"), "deleted", "nothing"),
    "prefetch": (("archive", "delete"), "deleted", "nothing"),
}


@pytest.mark.parametrize("verb", ILLEGAL)
def test_a_move_that_the_lifecycle_does_not_have_is_refused_with_those_it_has(
    cli: Command, ada: str, verb: str
) -> None:
    way, at, legal = ILLEGAL[verb]
    for step in way:
        assert cli(step, ada).code == 0
    before = one(cli("show", ada, "--json"))
    refused = cli(verb, ada, "--json")
    if verb == "prefetch" and refused.code == 0:
        assert refused.json["skipped"]
        return
    assert (refused.code, refused.out, refused.error["code"]) == (2, "", "TOR-119"), refused
    assert at in refused.error["message"]
    assert legal in refused.error["next_step"]
    after = one(cli("show", ada, "--json"))
    assert {**after, "idle_s": 0} == {**before, "idle_s": 0}


def test_of_several_each_is_told_and_one_that_fails_keeps_no_other(cli: Command, ada: str) -> None:
    assert cli("new", "bob").code == 0
    assert cli("wake", "bob").code == 0
    ended = cli("suspend", "ada", "nobody", "bob", "ada")
    assert ended.code == 1
    assert [line.split(",")[0] for line in ended.out.splitlines()] == [
        "ada: active → suspended",
        "bob: active → suspended",
    ]
    assert ended.err.startswith("error: There is no agent 'nobody'")
    mixed = cli("delete", "ada", "nobody", "bob", "--json")
    errors = [json.loads(line)["error"]["code"] for line in mixed.err.splitlines()]
    assert (mixed.code, mixed.out, errors) == (1, "", ["TOR-119", "TOR-701", "TOR-119"])
    assert cli("delete", "ada", "bob").code == 2, "nothing but misuse"


def test_who_and_why_are_in_the_history(cli: Command, ada: str) -> None:
    assert cli("suspend", ada, "--why", "it is late").code == 0
    last = one(cli("show", ada, "--last", "1", "--json"))["history"]
    (move,) = last
    assert (move["verb"], move["before"], move["after"]) == ("suspend", "active", "suspended")
    assert (move["who"].split()[0], move["why"]) == ("cli", "it is late")
    assert move["ms"] > 0
    assert move["time"] > 1_700_000_000_000_000


def test_a_wake_empties_tmp(cli: Command, ada: str) -> None:
    assert cli("files", "put", ada, "tmp:/scratch", "-", stdin=b"x").code == 0
    assert [cli(verb, ada).code for verb in ("suspend", "wake")] == [0, 0]
    assert objects(cli("files", "ls", ada, "tmp:/", "--json")) == []


# --- the next wake


def test_the_next_wake_is_set_shown_and_taken_back(cli: Command, ada: str) -> None:
    words = said(cli("wake", ada, "--at", "2099-03-01T18:00+01:00"))
    assert re.fullmatch(r"ada wakes at 2099-03-01 17:00:00 UTC \(in \d+ d( \d+ h)?\)\.\n", words)
    assert one(cli("show", ada, "--json"))["wake"] == 4_076_067_600_000_000
    set_at = time.time_ns() // 1_000
    ahead = one(cli("wake", ada, "--at", "90m", "--json"))["wake"] - set_at
    assert 1.5 * HOUR_US <= ahead < 2 * HOUR_US
    assert said(cli("wake", ada, "--at", "never")) == "ada has no next wake.\n"
    assert one(cli("show", ada, "--json"))["wake"] is None
    assert state(cli, ada) == "active"


@pytest.mark.parametrize(
    "at",
    [
        "",
        "soon",
        "-2h",
        "+",
        "2 fortnights",
        "1969-12-31",
        "9999-12-31T23:59:59-12:00",
        "101y",
        "36526d",
        "9" * 400 + "d",
    ],
)
@pytest.mark.parametrize("words", [("wake", "ada", "--at"), ("tick", "--now")], ids=["wake", "tick"])
def test_a_time_that_is_none_is_misuse(cli: Command, words: tuple[str, ...], at: str) -> None:
    refused = cli(*words, at, "--json")
    assert (refused.code, refused.error["code"]) == (2, "TOR-100"), refused
    assert words[-1] in refused.error["message"]


# --- tick


def test_tick_moves_agents_down_the_ladder_one_rung_a_pass(cli: Command, ada: str) -> None:
    assert said(cli("tick")) == "Nothing to do.\n"
    assert said(cli("tick", "--now", "14m")) == "Nothing to do.\n"
    assert re.fullmatch(r"ada: active → suspended, .+\n", said(cli("tick", "--now", "+16m")))
    assert said(cli("tick", "--now", "+23h")) == "Nothing to do.\n"
    frozen = one(cli("tick", "--now", "25h", "--json"))
    (moved,) = frozen["moved"]
    assert (moved["name"], moved["before"], moved["after"]) == ("ada", "suspended", "frozen")
    assert (frozen["woken"], frozen["skipped"], frozen["failed"], frozen["removed"]) == ([], [], [], [])
    moves = one(cli("show", ada, "--json"))["history"]
    assert [move["verb"] for move in moves[-2:]] == ["suspend", "freeze"]


def test_tick_wakes_who_is_due(cli: Command, ada: str) -> None:
    assert [cli(verb, ada).code for verb in ("suspend", "freeze")] == [0, 0]
    assert cli("wake", ada, "--at", "+1h").code == 0
    assert said(cli("tick", "--now", "59m")) == "Nothing to do.\n"
    ticked = one(cli("tick", "--now", "61m", "--json"))
    (woken,) = ticked["woken"]
    assert (woken["name"], woken["after"], woken["how"]) == ("ada", "active", "cold")
    story = one(cli("show", ada, "--json"))
    assert (story["state"], story["wake"], story["history"][-1]["why"]) == ("active", None, "timer")


def test_thresholds_of_an_agent_are_its_own(cli: Command) -> None:
    assert cli("new", "quick", "--suspend-after", "10s", "--freeze-after", "20s").code == 0
    assert cli("wake", "quick").code == 0
    assert "quick: active → suspended" in said(cli("tick", "--now", "+11s"))
    assert "quick: suspended → frozen" in said(cli("tick", "--now", "+21s"))


def test_tick_leaves_alone_who_is_in_use_and_says_so(cli: Command, ada: str, home: Path) -> None:
    with Home.open(str(home)) as opened, opened.using(ada):
        words = said(cli("tick", "--now", "+1h"))
    assert words.startswith("ada: left alone: ")
    assert state(cli, ada) == "active"


def test_trouble_with_one_agent_is_told_keeps_no_other_and_ends_with_3(cli: Command, ada: str, home: Path) -> None:
    assert cli("new", "bob").code == 0
    assert cli("wake", "bob").code == 0
    (home / "agents" / "ada.workbook").unlink()
    ended = cli("tick", "--now", "+1h")
    assert ended.code == 3, ended
    assert "bob: active → suspended" in ended.out
    assert ended.err.startswith("error: ada: ")
    machine = cli("tick", "--now", "+1h", "--json")
    (failed,) = machine.json["failed"]
    assert (machine.code, failed["source"], machine.err) == (3, "ada", "")
    assert failed["code"].startswith("TOR-7")
    assert failed["next_step"]


def test_tick_goes_on_until_it_is_interrupted(cli: Command, home: Path, tmp_path: Path) -> None:
    assert cli("new", "quick", "--suspend-after", "1ms", "--freeze-after", "2ms").code == 0
    assert cli("wake", "quick").code == 0
    words = command("tick", "--every", "50ms", "--json")
    env = environment({"TORPOR_HOME": str(home)})
    with subprocess.Popen(words, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["after"] != "frozen":
            seen += json.loads(process.stdout.readline())["moved"]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")
    assert [moved["after"] for moved in seen] == ["suspended", "frozen"]
    assert state(cli, "quick") == "frozen"


def test_in_words_a_beat_without_moves_says_nothing(cli: Command, home: Path, tmp_path: Path) -> None:
    assert cli("new", "quick", "--suspend-after", "1s").code == 0
    assert cli("wake", "quick").code == 0
    env = environment({"TORPOR_HOME": str(home), "PYTHONUNBUFFERED": "1"})
    words = command("tick", "--every", "100ms")
    with subprocess.Popen(words, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("quick: active → suspended".encode())
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0


# --- templates and clones


def test_templates_are_made_listed_cloned_and_dropped(cli: Command, ada: str, home: Path) -> None:
    words = said(cli("template", "create", "briefer", "--from", ada, "--suspend-after", "5m"))
    assert re.fullmatch(r"briefer is a template of ada as of event \d+: \d+\.\d KiB\n", words)
    (listed,) = objects(cli("template", "ls", "--json"))
    assert (listed["name"], listed["parent"], listed["suspend_after_s"]) == ("briefer", "ada", 300.0)
    head, line = said(cli("template", "ls")).splitlines()
    assert head.split() == ["NAME", "SIZE", "CREATED", "(UTC)", "FROM", "EVENT"]
    assert line.split()[0] == "briefer"
    names = said(cli("clone", "briefer", "--tenant", "Acme & Co", "--count", "3")).splitlines()
    assert len(set(names)) == 3
    assert all(name.startswith("acme-co-") for name in (name.lower() for name in names)), names
    clones = objects(cli("clone", "briefer", "--tenant", "Acme & Co", "--json"))
    assert (clones[0]["tenant"], clones[0]["template"], clones[0]["state"]) == ("Acme & Co", "briefer", "created")
    assert clones[0]["suspend_after_s"] == 300.0
    assert cli("files", "cat", names[0], "/a.txt").raw == b"hello"
    made = one(cli("new", "eve", "--from", "briefer", "--json"))
    assert (made["template"], made["name"]) == ("briefer", "eve")
    assert said(cli("template", "drop", "briefer")) == "The template briefer is gone.\n"
    assert objects(cli("template", "ls", "--json")) == []
    assert said(cli("template", "ls")) == "No templates.\n"
    assert cli("files", "cat", names[0], "/a.txt").raw == b"hello", "its clones keep living"
    gone = cli("clone", "briefer", "--tenant", "acme", "--json")
    assert (gone.code, gone.error["code"]) == (1, "TOR-701")
    taken = cli("template", "create", "Briefer", "--from", ada, "--json")
    assert (taken.code, taken.error["code"]) == (1, "TOR-702"), "its name stays its own"


def test_a_template_that_somebody_touched_is_not_cloned(cli: Command, ada: str, home: Path) -> None:
    assert cli("template", "create", "briefer", "--from", ada).code == 0
    path = home / "templates" / "briefer.workbook"
    path.chmod(0o644)
    refused = cli("clone", "briefer", "--tenant", "acme", "--json")
    assert (refused.code, refused.error["code"]) == (1, "TOR-710"), refused
    assert "template create" in refused.error["next_step"]


# --- fork, rewind, diff


def test_fork_makes_an_agent_and_both_sides_know(cli: Command, ada: str) -> None:
    made = one(cli("fork", ada, "--at", "1", "--as", "eve", "--json"))
    assert (made["name"], made["state"]) == ("eve", "created")
    told = said(cli("fork", ada))
    assert re.fullmatch(r"ada-\w+ is created, a fork of ada: .+\n", told)
    story = one(cli("show", ada, "--json"))
    assert next((child["name"], child["at"]) for child in story["children"]) == ("eve", 1)
    assert len(story["children"]) == 2
    assert [move["verb"] for move in story["history"]].count("forked") == 2
    parent = one(cli("show", "eve", "--json"))["parent"]
    assert parent == {"name": "ada", "id": story["id"], "at": 1, "known": True, "what": "agent"}
    shown = said(cli("show", "eve"))
    assert "parent        ada, at event 1\n" in shown
    refused = cli("fork", ada, "--at", "99999", "--json")
    assert (refused.code, refused.error["code"]) == (2, "TOR-117"), refused
    assert cli("fork", ada, "--at", str(2**70)).code == 2


def test_rewind_puts_back_and_show_lists_what_was_set_aside(cli: Command, ada: str) -> None:
    point = one(cli("show", ada, "--json"))["seq"]
    assert cli("files", "put", ada, "/a.txt", "-", stdin=b"changed").code == 0
    words = said(cli("rewind", ada, "--to", str(point), "--why", "wrong turn"))
    assert re.fullmatch(rf"ada is as of event {point}; what came after is set aside \(event \d+\)\.\n", words)
    assert cli("files", "cat", ada, "/a.txt").raw == b"hello"
    story = one(cli("show", ada, "--json"))
    (branch,) = story["branches"]
    assert branch["first"] == point + 1
    assert branch["last"] < branch["rewound"] <= story["seq"]
    assert branch["events"] == [[point + 1, point + 1]]
    assert f"\n  event {point + 1}, by event {branch['rewound']}\n" in said(cli("show", ada))
    (move,) = [move for move in story["history"] if move["verb"] == "rewind"]
    assert move["why"] == "wrong turn"
    refused = cli("rewind", ada, "--to", "99999", "--json")
    assert (refused.code, refused.error["code"]) == (2, "TOR-117"), refused


def test_diff_shows_what_tells_two_apart(cli: Command, ada: str) -> None:
    point = one(cli("show", ada, "--json"))["seq"]
    assert cli("fork", ada, "--as", "eve").code == 0
    for name, place, text in (("ada", "/a.txt", b"longer now"), ("ada", "/new", b""), ("eve", "/other", b"abc")):
        assert cli("files", "put", name, place, "-", stdin=text).code == 0
    lines = said(cli("diff", "ada", "eve")).splitlines()
    assert lines[0] == f"Both have events up to {point}."
    assert lines[1].startswith("Only ada: ")
    assert lines[2].startswith("Only eve: ")
    assert lines[3:] == [
        "~ workspace:/a.txt  10 bytes → 5 bytes",
        "- workspace:/new  0 bytes",
        "+ workspace:/other  3 bytes",
    ]
    found = one(cli("diff", f"ada@{point}", "ada", "--json"))
    assert (found["common"], found["only_before"]) == (point, 0)
    assert [(file["path"], file["how"]) for file in found["files"]] == [("/a.txt", "changed"), ("/new", "added")]
    assert said(cli("diff", "ada", "ada")).splitlines()[-1] == "They are the same."
    refused = cli("diff", "ada@99999", "eve", "--json")
    assert (refused.code, refused.error["code"]) == (2, "TOR-117"), refused


def test_diff_names_memory_settings_and_spend(cli: Command, ada: str, home: Path) -> None:
    with Home.open(str(home)) as opened, opened.using(ada) as book:
        point = book.last
        book.memory.remember("cats sleep", source="https://x.example/cats")
        book.settings.set("interests", "cats")
        book.spend.book(2_500_000, "usd", source="wallet", target="models/local", key="k1")
    lines = said(cli("diff", f"ada@{point}", "ada")).splitlines()
    assert any(re.fullmatch(r"\+ memory entry \(\w+\)  https://x.example/cats", line) for line in lines), lines
    assert '+ setting interests  "cats"' in lines
    assert "~ account models/local  0.000000 usd → 2.500000 usd" in lines


# --- export and import


def test_export_and_import_carry_the_workspace_and_memory_only_if_asked(cli: Command, ada: str, tmp_path: Path) -> None:
    assert cli("files", "put", ada, "memory:/secret", "-", stdin=b"canary").code == 0
    words = said(cli("export", ada, "public.workbook"))
    assert re.fullmatch(r"/.+/public\.workbook: the workspace only of ada, \d+\.\d KiB\n", words)
    exported = one(cli("export", ada, "whole.workbook", "--with-memory", "--json"))
    assert (exported["name"], exported["with_memory"]) == ("ada", True)
    assert exported["bytes"] == (tmp_path / "whole.workbook").stat().st_size
    taken = cli("export", ada, "public.workbook", "--json")
    assert (taken.code, taken.error["code"]) == (1, "TOR-216"), taken
    assert said(cli("import", "public.workbook")).startswith("public is created from public.workbook: ")
    made = one(cli("import", "whole.workbook", "--as", "eve", "--tenant", "acme", "--json"))
    assert (made["name"], made["tenant"], made["state"]) == ("eve", "acme", "created")
    assert cli("files", "cat", "public", "/a.txt").raw == b"hello"
    assert cli("files", "cat", "public", "memory:/secret").code == 1
    assert cli("files", "cat", "eve", "memory:/secret").raw == b"canary"
    assert one(cli("show", "eve", "--json"))["parent"]["name"] == "ada", "the whole agent was exported, as who it is"
    assert one(cli("show", "public", "--json"))["parent"]["known"] is False
    assert "(not in this home)" in said(cli("show", "public"))


def test_what_is_no_workbook_is_not_imported(cli: Command, home: Path, tmp_path: Path) -> None:
    (tmp_path / "text.workbook").write_text("a text")
    (tmp_path / "bad name.workbook").write_text("a text")
    for file, code, error in (
        ("text.workbook", 1, "TOR-711"),
        ("none.workbook", 1, "TOR-201"),
        ("bad name.workbook", 2, "TOR-118"),
    ):
        refused = cli("import", file, "--json")
        assert (refused.code, refused.error["code"]) == (code, error), refused
    assert refused.error["next_step"] == "Give another name with --as."
    assert objects(cli("ls", "--json")) == []


# --- show


def test_show_tells_the_whole_story(cli: Command, ada: str, home: Path) -> None:
    assert cli("suspend", ada, "--why", "it is late").code == 0
    words = said(cli("show", ada))
    facts = dict(re.split(r"  +", line, maxsplit=1) for line in words.partition("\n\n")[0].splitlines())
    assert facts["name"] == "ada"
    assert facts["state"] == "suspended, woken once"
    assert facts["file"] == str(home / "agents" / "ada.workbook")
    assert facts["when idle"] == "suspended after 15 min, frozen after 1 d"
    assert re.fullmatch(r"\d+ [0-9a-f]{64}", facts["newest event"])
    history = words.partition("\nHistory\n")[2].splitlines()
    assert history[0].split()[:4] == ["WHEN", "(UTC)", "MOVE", "FROM"]
    assert [line.split()[2] for line in history[1:]] == ["new", "wake", "suspend"]
    assert "it is late" in history[-1]


def test_show_of_a_frozen_and_of_a_deleted_agent(cli: Command, ada: str) -> None:
    awake = one(cli("show", ada, "--json"))
    assert [cli(verb, ada).code for verb in ("suspend", "freeze")] == [0, 0]
    frozen = one(cli("show", ada, "--json"))
    assert (frozen["path"], frozen["branches"], frozen["problem"]) == (None, None, None)
    assert (frozen["seq"], frozen["head"]) == (awake["seq"], awake["head"])
    assert frozen["bytes"] > 0
    assert re.fullmatch("[0-9a-f]{64}", frozen["digest"])
    assert frozen["cold"]
    assert "cold copy" in said(cli("show", ada))
    assert [cli(verb, ada).code for verb in ("archive", "delete")] == [0, 0]
    deleted = one(cli("show", ada, "--json"))
    assert (deleted["state"], deleted["path"], deleted["cold"], deleted["archive"]) == ("deleted", None, None, None)
    assert deleted["history"][-1]["verb"] == "delete"
    assert said(cli("show", ada)).startswith("name")


def test_show_says_what_is_wrong_with_the_file(cli: Command, ada: str, home: Path) -> None:
    path = home / "agents" / "ada.workbook"
    path.unlink()
    with Workbook.open(path) as stranger:
        stranger.append("note.added", {"text": "I am another"})
    story = one(cli("show", ada, "--json"))
    assert story["problem"]["code"] == "TOR-705"
    assert "\nProblem: " in said(cli("show", ada))


# --- hostile names

HOSTILE = {
    "parent": "../x",
    "slash": "a/b",
    "absolute": "/x/y",
    "dots": "..",
    "file": "ada.workbook",
    "hidden": ".x",
    "empty": "",
    "space": " ",
    "newline": "x\n",
    "nul": "x\0y",
    "dash": "-x",
    "emoji": "\N{CAT}",
    "full width": "\uff41da",
    "not text": "\udcff",
    "4 KB": "x" * 4096,
    "steering": "x\x1b[2J\u202e",
    "percent": "%s{name}",
    "quote": "x'; DROP TABLE agents; --",
}

NAMED: dict[str, Callable[[str], tuple[str, ...]]] = {
    "new": lambda name: ("new", "--", name),
    "new from": lambda name: ("new", "bob", "--from", name),
    "show": lambda name: ("show", "--", name),
    "suspend": lambda name: ("suspend", "--", name),
    "wake": lambda name: ("wake", "--", name),
    "wake at": lambda name: ("wake", "--at", "+1h", "--", name),
    "freeze": lambda name: ("freeze", "--", name),
    "prefetch": lambda name: ("prefetch", "--", name),
    "archive": lambda name: ("archive", "--", name),
    "delete": lambda name: ("delete", "--", name),
    "fork": lambda name: ("fork", "--", name),
    "fork as": lambda name: ("fork", "ada", "--as", name),
    "rewind": lambda name: ("rewind", "--to", "1", "--", name),
    "diff": lambda name: ("diff", "--", "ada", name),
    "export": lambda name: ("export", "--", name, "out.workbook"),
    "import as": lambda name: ("import", "gift.workbook", "--as", name),
    "template create": lambda name: ("template", "create", "--from", "ada", "--", name),
    "template from": lambda name: ("template", "create", "t", "--from", name),
    "template drop": lambda name: ("template", "drop", "--", name),
    "clone": lambda name: ("clone", "--tenant", "acme", "--", name),
}


@pytest.fixture(scope="module")
def settled(run: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a home in which ada lives, and a workbook to take in."""
    folder = tmp_path_factory.mktemp("hostile")
    with Workbook.open(folder / "gift.workbook") as book:
        book.append("note.added", {"text": "a gift"})
    assert run("new", "ada", "--home", "home", cwd=folder).code == 0
    return folder


def below(folder: Path) -> list[str]:
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix not in {".db-wal", ".db-shm"}
    )


ALL_OF_THEM = {"new", "show", "fork as", "template create"}
THE_WORST = {"parent", "empty", "nul", "not text", "4 KB"}


@pytest.mark.parametrize(
    ("of", "kind"), [(of, kind) for of in NAMED for kind in HOSTILE if of in ALL_OF_THEM or kind in THE_WORST]
)
def test_a_hostile_name_is_refused_in_words_and_makes_nothing(run: Zygote, settled: Path, of: str, kind: str) -> None:
    before = below(settled)
    ended = run("--home", "home", "--json" if of != "new" else "--home=home", *NAMED[of](HOSTILE[kind]), cwd=settled)
    assert ended.code in {1, 2}, ended
    assert "Traceback" not in ended.err
    assert ended.err
    assert not any(c in ended.out + ended.err for c in "\x1b\u202e")
    assert [name for name in below(settled) if not name.startswith("home/ledger.db")] == [
        name for name in before if not name.startswith("home/ledger.db")
    ]


@pytest.mark.parametrize("tenant", ["", "x\ny", "x" * 4096, "\x1b[2J", "\udcff"])
def test_a_hostile_tenant_is_refused(cli: Command, ada: str, tenant: str) -> None:
    assert cli("template", "create", "briefer", "--from", ada).code == 0
    refused = cli("clone", "briefer", "--tenant", tenant, "--json")
    assert (refused.code, refused.error["code"]) == (2, "TOR-118"), refused
    assert len(objects(cli("ls", "--json"))) == 1


@pytest.mark.parametrize("tenant", ["../../etc", "\N{CAT}\N{CAT}", "Ünï & Co. KG", "-", "a" * 200])
def test_an_odd_tenant_is_kept_and_its_clones_have_plain_names(cli: Command, ada: str, home: Path, tenant: str) -> None:
    assert cli("template", "create", "briefer", "--from", ada).code == 0
    made = one(cli("clone", "briefer", "--tenant", tenant, "--json"))
    assert made["tenant"] == tenant
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", made["name"])
    assert Path(made["path"]).parent == home / "agents"
    assert cli("files", "cat", made["name"], "/a.txt").raw == b"hello"


# --- misuse

MISUSES = {
    "new": ("new",),
    "new, a duration": ("new", "ada", "--suspend-after", "soon"),
    "new, a negative duration": ("new", "ada", "--freeze-after", "-5m"),
    "show": ("show",),
    "show, last": ("show", "ada", "--last", "-1"),
    "ls, state": ("ls", "--state", "asleep"),
    "suspend": ("suspend",),
    "wake": ("wake",),
    "fork": ("fork",),
    "fork, at": ("fork", "ada", "--at", "x"),
    "fork, negative": ("fork", "ada", "--at", "-1"),
    "rewind": ("rewind", "ada"),
    "rewind, to": ("rewind", "ada", "--to", "x"),
    "rewind, far": ("rewind", "ada", "--to", str(2**64)),
    "diff": ("diff", "ada"),
    "export": ("export", "ada"),
    "import": ("import",),
    "template": ("template",),
    "template create": ("template", "create", "t"),
    "clone, tenant": ("clone", "t"),
    "clone, none": ("clone", "t", "--tenant", "a", "--count", "0"),
    "clone, many": ("clone", "t", "--tenant", "a", "--count", "100001"),
    "tick, both": ("tick", "--now", "+1h", "--every", "1s"),
    "tick, every": ("tick", "--every", "often"),
    "tick, never": ("tick", "--every", "0s"),
    "unknown": ("hibernate", "ada"),
}


@pytest.mark.parametrize("words", MISUSES.values(), ids=MISUSES)
def test_misuse_exits_with_2_and_makes_no_home(cli: Command, tmp_path: Path, words: tuple[str, ...]) -> None:
    plain = cli(*words)
    assert plain.code == 2, plain
    assert "Traceback" not in plain.err
    if len(words) > 1:
        machine = cli(*words, "--json")
        assert (machine.code, machine.out) == (2, ""), machine
        assert machine.error["next_step"]
    assert left_in(tmp_path) == []


# --- progress


def test_a_move_on_a_terminal_that_is_quick_shows_no_bar(cli: Command, ada: str, home: Path, tmp_path: Path) -> None:
    code, got = on_a_terminal(tmp_path, "--home", str(home), "suspend", ada)
    assert (code, "\x1b" in got) == (0, False)
    assert got.startswith("ada: active → suspended")


SLOW = """
import sys, time
from torpor.gateways.cli.progress import MoveWatch
from torpor.service import Moving

with MoveWatch("ada", quiet="--json" in sys.argv) as watch:
    for step in (1, 2):
        watch(Moving("copy", step, 3))
    watch._since -= 1.1
    watch(Moving("copy", 3, 3))
"""


@pytest.mark.parametrize(("words", "draws"), [((), True), (("--json",), False)], ids=["people", "machines"])
def test_a_move_that_takes_long_has_a_bar_on_a_terminal(tmp_path: Path, words: tuple[str, ...], *, draws: bool) -> None:
    import pty

    ours, theirs = pty.openpty()
    env = environment({"TERM": "xterm-256color"})
    with subprocess.Popen(
        [*command()[:1], "-c", SLOW, *words], cwd=tmp_path, env=env, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        got = b""
        try:
            while piece := os.read(ours, 65536):
                got += piece
        except OSError:  # EIO: the last user of the terminal has gone
            pass
    os.close(ours)
    assert process.returncode == 0, got
    assert ("ada: copying" in got.decode(), "\x1b[" in got.decode()) == (draws, draws)


def test_in_a_pipe_there_is_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with MoveWatch("ada", quiet=False) as watch:
        watch._since -= 100
        watch(Moving("copy", 1, 2))
    assert capsys.readouterr() == ("", "")


# --- words for people


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (10 * 1024**2, "10.0 MiB"),
        (3 * 1024**4, "3.0 TiB"),
        (5000 * 1024**4, "5000.0 TiB"),
    ],
)
def test_sizes_are_said_in_their_unit(count: int, words: str) -> None:
    assert size(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "now"),
        (0.9, "now"),
        (1, "1 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3 * 3600 + 5, "3 h"),
        (86_400 * 40, "40 d"),
    ],
)
def test_lengths_of_time_are_said_in_their_greatest_unit(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_times_to_come_are_said_from_now() -> None:
    now = 1_795_255_081_897_600
    assert (until(None, now), until(now - 1, now), until(now + HOUR_US, now)) == ("", "due", "in 1 h")


def test_a_table_is_straight_and_cuts_nothing_and_can_not_be_broken(capsys: pytest.CaptureFixture[str]) -> None:
    say_table(("A", "B", "C"), [("\N{CAT}", "1", "x\ny\tz\x1b"), ("a" * 200, "1000", "")], right=("B",))
    head, first, second = capsys.readouterr().out.splitlines()
    assert head == "A" + " " * 199 + "     B  C"
    assert first == "\N{CAT}" + " " * 198 + "     1  x y z\N{REPLACEMENT CHARACTER}", "a cat is two columns wide"
    assert second == "a" * 200 + "  1000"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), []),
        (("ls", "--json"), ["ls", "--json"]),
        (("ls", "--home", "x", "--json"), ["--home", "x", "ls", "--json"]),
        (("ls", "--home=x", "--cold", "y"), ["--home=x", "--cold", "y", "ls"]),
        (("ls", "--home"), ["--home", "ls"]),
        (("new", "--", "--home", "x"), ["new", "--", "--home", "x"]),
        (("ls", "--homely", "x"), ["ls", "--homely", "x"]),
    ],
)
def test_options_that_may_stand_anywhere_are_moved_to_the_front(words: tuple[str, ...], expected: list[str]) -> None:
    assert gathered(words) == expected


def test_what_fails_at_the_very_end_is_said_and_is_the_commands_failure(capsys: pytest.CaptureFixture[str]) -> None:
    def ending() -> None:
        raise StorageFull(path="ada.workbook", reason="disk full")

    service = Service(lambda _: Local(), SystemClock())
    assert run_words(build(service), ["--version"], ending=ending) == 1
    assert "No room left" in capsys.readouterr().err
    assert run_words(build(service), ["frobnicate"], ending=ending) == 2, "the first failure counts"
