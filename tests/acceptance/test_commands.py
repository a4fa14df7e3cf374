"""The commands beside `brief`: journal, files, memory, verdicts; help and misuse of all of them."""

from __future__ import annotations

import os
import random
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from tests.acceptance.kit import Payer, Zygote, command, environment, events, left_in, rss, stories

from torpor import Happened, UnknownOutcome
from torpor.base.clock import SystemClock
from torpor.gateways.cli import build
from torpor.gateways.cli.app import PARTS
from torpor.models import Local
from torpor.service import Service
from torpor.workbook import Workbook

BIG = 50 * 1024 * 1024


@pytest.fixture(scope="module")
def home(run: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a workbook that has delivered a briefing."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "f.xml").write_bytes(rss(stories(6)))
    assert run("brief", "f.xml", "--workbook", "x.workbook", "--out", "out", cwd=folder).code == 0
    return folder


# --- journal


def test_events_are_listed_whole_or_in_part(run: Zygote, home: Path) -> None:
    whole = events(home / "x.workbook")
    listed = run("events", "x.workbook", cwd=home).out.splitlines()
    assert [int(line.split()[0]) for line in listed] == [event.seq for event in whole]
    assert "run.started" in listed[0]
    assert len(run("events", "x.workbook", "--last", "3", cwd=home).out.splitlines()) == 3
    assert run("events", "x.workbook", "--last", "0", cwd=home).out == ""
    assert run("events", "x.workbook", "--after", str(len(whole) - 1), cwd=home).out.startswith(f"{len(whole):6}  ")
    assert run("events", "x.workbook", "--after", "999999", cwd=home).out == ""
    assert all(len(line) < 160 for line in listed)


def test_runs_are_listed_with_their_state(run: Zygote, home: Path) -> None:
    (line,) = run("runs", "x.workbook", cwd=home).out.splitlines()
    assert line.endswith("completed")
    assert run("runs", "x.workbook", "--json", cwd=home).json["state"] == "completed"


def test_verify_counts_what_it_proved(run: Zygote, home: Path) -> None:
    ended = run("verify", "x.workbook", cwd=home)
    assert ended.code == 0
    first, head = ended.out.splitlines()
    assert first.startswith(f"ok: {len(events(home / 'x.workbook'))} events, ")
    assert head == f"head {events(home / 'x.workbook')[-1].hash.hex()}"


@pytest.mark.anyio
async def test_a_parked_run_is_listed_and_settled(run: Zygote, tmp_path: Path) -> None:
    with Workbook.open(tmp_path / "p.workbook") as book, pytest.raises(UnknownOutcome):
        await Payer(book).send("pay")
    listed = run("runs", "p.workbook", cwd=tmp_path)
    assert "parked" in listed.out
    assert "waits for a verdict on 'pay-17'" in listed.out
    assert "the line went dead" in listed.out
    assert run("settle", "p.workbook", "pay-18", "--happened", cwd=tmp_path).code == 2
    assert run("settle", "p.workbook", "pay-17", cwd=tmp_path).code == 2
    bad = run("settle", "p.workbook", "pay-17", "--happened", "--result", "{no json", cwd=tmp_path)
    assert (bad.code, "--result" in bad.err) == (2, True)
    settled = run("settle", "p.workbook", "pay-17", "--happened", "--result", '"receipt 4711"', cwd=tmp_path)
    assert settled.code == 0, settled.err
    assert run("settle", "p.workbook", "pay-17", "--happened", cwd=tmp_path).code == 2, "once"
    with Workbook.open(tmp_path / "p.workbook") as book:
        (outcome,) = await Payer(book).resume()
    assert outcome.result == "receipt 4711"
    assert Happened("x").result == "x"


@pytest.mark.anyio
async def test_a_run_that_is_not_to_go_on_is_cancelled(run: Zygote, tmp_path: Path) -> None:
    with Workbook.open(tmp_path / "p.workbook") as book, pytest.raises(UnknownOutcome):
        await Payer(book).send("pay")
    with Workbook.open(tmp_path / "p.workbook", readonly=True) as book:
        span = next(book.events(limit=1)).span or ""
    ended = run("cancel", "p.workbook", span, "--reason", "wrong amount", cwd=tmp_path)
    assert (ended.code, ended.out) == (0, f"Run {span} is cancelled.\n")
    again = run("cancel", "p.workbook", span, cwd=tmp_path)
    assert (again.code, "it is cancelled already" in again.err) == (2, True)
    assert run("cancel", "p.workbook", "no-such-run", cwd=tmp_path).code == 2
    with Workbook.open(tmp_path / "p.workbook") as book:
        assert await Payer(book).resume() == []
        last = list(book.events())[-1]
    assert (last.kind, last.body["reason"], last.body["in_doubt"]) == ("run.cancelled", "wrong amount", ["0"])


def test_settling_and_cancelling_make_no_workbook(run: Zygote, tmp_path: Path) -> None:
    assert run("settle", "none.workbook", "k", "--happened", cwd=tmp_path).code == 1
    assert run("cancel", "none.workbook", "r", cwd=tmp_path).code == 1
    assert list(tmp_path.iterdir()) == []


# --- files


def test_files_go_in_and_out_as_they_are(run: Zygote, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(200_001)  # noqa: S311  (any bytes)
    (tmp_path / "a.bin").write_bytes(data)
    with Workbook.open(tmp_path / "x.workbook"):
        pass
    put = run("files", "put", "x.workbook", "workspace:/d/a.bin", "a.bin", cwd=tmp_path)
    assert put.out == "workspace:/d/a.bin: 200001 bytes\n"
    assert run("files", "put", "x.workbook", "memory:/b.bin", "-", cwd=tmp_path, stdin=data[::-1]).code == 0
    assert run("files", "cat", "x.workbook", "/d/a.bin", cwd=tmp_path).raw == data
    assert run("files", "get", "x.workbook", "memory:/b.bin", "b.bin", cwd=tmp_path).code == 0
    assert (tmp_path / "b.bin").read_bytes() == data[::-1]
    listed = run("files", "ls", "x.workbook", cwd=tmp_path).out
    assert listed.rstrip().endswith("/d/")
    listed = run("files", "ls", "x.workbook", "workspace:/", "--recursive", "--json", cwd=tmp_path).out
    assert '"path":"/d/a.bin"' in listed
    assert '"size":200001' in listed
    assert left_in(tmp_path) == ["a.bin", "b.bin", "x.workbook"]


def test_get_never_replaces_a_file_unless_told_and_leaves_no_draft(run: Zygote, tmp_path: Path) -> None:
    with Workbook.open(tmp_path / "x.workbook") as book:
        book.write("workspace", "/a", b"from the workbook")
    target = tmp_path / "a"
    target.write_text("mine")
    refused = run("files", "get", "x.workbook", "/a", "a", cwd=tmp_path)
    assert (refused.code, "is there already" in refused.err, target.read_text()) == (1, True, "mine")
    (tmp_path / "link").symlink_to("nowhere")
    assert run("files", "get", "x.workbook", "/a", "link", cwd=tmp_path).code == 1
    for words in (
        ("/none", "new"),
        ("/a", "no/folder"),
        ("/a", "."),
        ("/a", "x.workbook"),
        ("/a", "x.workbook", "--force"),
    ):
        ended = run("files", "get", "x.workbook", *words, "--json", cwd=tmp_path)
        assert ended.code == 1, words
        assert ended.error["message"]
    assert run("files", "get", "x.workbook", "/a", "a", "--force", cwd=tmp_path).code == 0
    assert target.read_bytes() == b"from the workbook"
    assert left_in(tmp_path) == ["a", "link", "x.workbook"]
    assert run("verify", "x.workbook", cwd=tmp_path).code == 0


def test_put_keeps_the_old_file_where_its_input_breaks_off(run: Zygote, tmp_path: Path) -> None:
    with Workbook.open(tmp_path / "x.workbook") as book:
        book.write("workspace", "/a", b"old")
    words = ("files", "put", "x.workbook", "/a", "-")
    with subprocess.Popen(command(*words), cwd=tmp_path, env=environment(), stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(bytes(1_000_000))
        process.stdin.flush()
        process.kill()
    assert run("files", "cat", "x.workbook", "/a", cwd=tmp_path).raw == b"old"
    for source in ("missing", ".", "x.workbook"):
        ended = run("files", "put", "x.workbook", "/a", source, cwd=tmp_path)
        assert (ended.code, ended.err.startswith("error: ")) == (1, True), source
    assert run("files", "cat", "x.workbook", "/a", cwd=tmp_path).raw == b"old"
    assert run("verify", "x.workbook", cwd=tmp_path).code == 0
    assert run("files", "put", "x.workbook", "/b", "-", cwd=tmp_path).code == 0, "its space was given back"
    assert left_in(tmp_path) == ["x.workbook"]


@pytest.fixture
def big(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "big"
    block = os.urandom(1024 * 1024)
    with path.open("wb") as file:
        for _ in range(BIG // len(block)):
            file.write(block)
    yield path
    path.unlink()


def test_fifty_megabytes_are_streamed_in_bounded_memory(tmp_path: Path, big: Path) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (120 * 1024 * 1024, 120 * 1024 * 1024))

    with Workbook.open(tmp_path / "x.workbook"):
        pass
    for words in (("put", "x.workbook", "/big", "big"), ("get", "x.workbook", "/big", "copy")):
        done = subprocess.run(
            command("files", *words),
            cwd=tmp_path,
            env=environment(),
            preexec_fn=limited,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy").read_bytes() == big.read_bytes()


# --- memory


def test_memory_is_searched_by_words_whatever_they_mean_to_a_query_language(run: Zygote, home: Path) -> None:
    found = run("memory", "search", "x.workbook", "cats", "tin", cwd=home)
    assert "Story s1" in found.out
    assert "https://news.example/s1" in found.out
    for words in (
        ('"',),
        ("NOT",),
        ("cats", "AND", "NEAR("),
        ("*",),
        ("a:b",),
        ("^", "-cats"),
        ("--", "-cats"),
        ("",),
        ("(",),
    ):
        ended = run("memory", "search", "x.workbook", *words, cwd=home)
        assert ended.code in {0, 2}, (words, ended)
        assert "Traceback" not in ended.err
    none = run("memory", "search", "x.workbook", "zeppelin", cwd=home)
    assert (none.code, none.out) == (0, "Nothing has all these words.\n")
    assert run("memory", "search", "x.workbook", "zeppelin", "--json", cwd=home).out == ""
    one = run("memory", "search", "x.workbook", "story", "--limit", "1", "--kind", "article", "--json", cwd=home)
    assert one.json["kind"] == "article"


# --- help and misuse


def walk(found: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, found
    for name, inner in getattr(found, "commands", {}).items():
        yield from walk(inner, (*path, name))


def all_commands() -> list[tuple[tuple[str, ...], Any]]:
    return list(walk(typer.main.get_command(build(Service(lambda _: Local(), SystemClock())))))


def test_every_command_and_group_has_help_with_exit_codes_and_every_command_an_example() -> None:
    names = [" ".join(path) for path, _ in all_commands()]
    assert names == [
        "", "brief", "new", "ls", "show", "wake", "suspend", "freeze", "prefetch", "archive", "delete", "tick",
        "clone", "fork", "rewind", "diff", "export", "import", "events", "verify", "runs", "settle", "cancel",
        "restore",
        "template", "template create", "template ls", "template drop",
        "files", "files ls", "files cat", "files put", "files get", "memory", "memory search",
        "heartbeat", "heartbeat status", "heartbeat drill",
        "litestream", "litestream replicate", "litestream stop", "litestream restore", "litestream status",
    ]  # fmt: skip
    for path, found in all_commands():
        assert found.help, path
        assert "Exit codes: 0 done" in found.epilog, path
        assert "torpor " + " ".join(path) in found.epilog, path
        for parameter in found.params:
            assert getattr(parameter, "help", ""), (path, parameter.name)


@pytest.mark.parametrize("name", [name for names in PARTS.values() for name in names])
def test_a_command_line_builds_the_part_that_has_its_command_and_no_other(name: str) -> None:
    service = Service(lambda _: Local(), SystemClock())
    (part,) = [part for part, names in PARTS.items() if name in names]
    app = typer.main.get_command(build(service, ("--home", "events", name, "--json")))
    assert set(getattr(app, "commands", {})) == set(PARTS[part])


@pytest.mark.parametrize("words", [(), ("--help",), ("--home", "events"), ("frobnicate",), ("--", "-x")])
def test_a_command_line_without_a_known_command_builds_all(words: tuple[str, ...]) -> None:
    app = typer.main.get_command(build(Service(lambda _: Local(), SystemClock()), words))
    assert set(getattr(app, "commands", {})) == {name for names in PARTS.values() for name in names}


def test_help_is_printed_with_its_examples_and_exit_codes(run: Zygote, tmp_path: Path) -> None:
    for path in ((), ("brief",), ("files", "put"), ("memory",), ("wake",), ("template", "create")):
        ended = run(*path, "--help", cwd=tmp_path)
        assert ended.code == 0
        assert "Example" in ended.out, path
        assert "130 interrupted" in " ".join(ended.out.split()), path


MISUSES = {
    "nothing": (),
    "files": ("files",),
    "unknown command": ("frobnicate",),
    "unknown option": ("brief", "f.xml", "--frobnicate"),
    "no source": ("brief",),
    "negative count": ("brief", "f.xml", "--count", "-1"),
    "count that is no number": ("brief", "f.xml", "--count", "many"),
    "nothing to keep": ("brief", "f.xml", "--keep-interest"),
    "after a word": ("events", "x.workbook", "--after", "abc"),
    "after a negative number": ("events", "x.workbook", "--after", "-1"),
    "volume": ("files", "ls", "x.workbook", "attic:/"),
    "path": ("files", "cat", "x.workbook", "/a/../b"),
}


@pytest.mark.parametrize("words", MISUSES.values(), ids=MISUSES)
def test_misuse_exits_with_2_says_what_is_wrong_and_makes_nothing(
    run: Zygote, tmp_path: Path, words: tuple[str, ...]
) -> None:
    with Workbook.open(tmp_path / "x.workbook"):
        pass
    plain = run(*words, cwd=tmp_path)
    assert plain.code == 2
    assert plain.err or "Usage" in plain.out
    assert "Traceback" not in plain.err
    if len(words) > 1:
        machine = run(*words, "--json", cwd=tmp_path)
        if words[:2] != ("files", "cat"):  # whose output is the file itself: it has no --json
            assert (machine.code, machine.out) == (2, "")
            assert machine.error["next_step"]
    assert left_in(tmp_path) == ["x.workbook"]


@pytest.mark.parametrize(
    "words", [("brief", "\udcff.xml"), ("events", "\udcff.workbook"), ("brief", "f.xml", "-w", "\udcff")]
)
def test_a_name_that_is_no_text_is_refused_in_words(run: Zygote, tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "f.xml").write_bytes(rss(stories(1)))
    for more in ((), ("--json",)):
        ended = run(*words, *more, cwd=tmp_path)
        assert ended.code in {1, 2}
        assert "Traceback" not in ended.err
        assert ended.err


def test_nothing_that_a_workbook_holds_can_steer_the_terminal(run: Zygote, tmp_path: Path) -> None:
    nasty = "evil \x1b[2J \x9b31m \u202egnp \u2066x\u2069 \x07"
    with Workbook.open(tmp_path / "x.workbook") as book:
        book.append("note.added", {"text": nasty})
        book.memory.remember(nasty, source="https://x.example/evil")
        book.write("workspace", "/evil \u202egnp", b"")
    listings = (
        ("events", "x.workbook"),
        ("memory", "search", "x.workbook", "evil"),
        ("files", "ls", "x.workbook"),
        ("files", "cat", "x.workbook", f"/no {nasty}"),
        ("brief", f"{nasty}.xml", "--workbook", "y.workbook"),
        ("runs", f"{nasty}.workbook"),
    )
    for words in listings:
        for more in ((), ("--json",)):
            ended = run(*words, *more, cwd=tmp_path)
            assert "evil" in ended.out + ended.err or words[:2] == ("files", "cat"), (words, ended)
            assert not any(c in ended.out + ended.err for c in "\x1b\x9b\x07\u202e\u2066\u2069"), (words, ended)
