"""What a user sees and does: terminals, pipes, signals."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.acceptance.kit import Zygote, command, environment, events, left_in, pages, rss, stories, torpor
from tests.unit.briefing.feeds_server import feeds_server, silent

BOOK = ("--workbook", "x.workbook", "--out", "out")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "f.xml").write_bytes(rss(stories(6)))
    return tmp_path


def started(
    home: Path, *words: str, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command(*words), cwd=home, env=environment(), stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
    )


def on_a_terminal(home: Path, *words: str) -> tuple[int, str]:
    """Run `torpor` on a pseudo-terminal and return its exit code and all that the terminal got."""
    ours, theirs = pty.openpty()
    env = environment({"TERM": "xterm-256color"})
    with subprocess.Popen(command(*words), cwd=home, env=env, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        got = bytearray()
        while select.select([ours], [], [], 60)[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # EIO: the last user of the terminal has gone
                break
            if not piece:
                break
            got += piece
    os.close(ours)
    return process.returncode, got.decode()


def test_on_a_terminal_there_is_a_bar_that_leaves_only_the_result(home: Path) -> None:
    code, got = on_a_terminal(home, "brief", "f.xml", *BOOK)
    assert code == 0
    assert "Summarising" in got
    assert "\x1b[" in got
    result = got[got.index("6 new, 0 already read") :]
    assert "\x1b" not in result, "the bar is gone before the result begins"
    assert got.count("\x1b[?25l") == got.count("\x1b[?25h") == 1, "the cursor is given back"
    assert result.rstrip().endswith("completed.")


def test_in_a_pipe_progress_is_plain_lines_on_standard_error(home: Path) -> None:
    ended = torpor("brief", "f.xml", *BOOK, cwd=home)
    assert ended.err.splitlines() == [
        "Reading sources: 1 of 1",
        "Scoring items: 1 of 1",
        "Summarising: 6 of 6",
        "Delivering: 1 of 1",
    ]
    assert "\x1b" not in ended.out


def test_with_json_standard_output_is_one_object_and_standard_error_is_empty(home: Path) -> None:
    ended = torpor("brief", "f.xml", *BOOK, "--json", cwd=home)
    assert ended.out.count("\n") == 1
    assert ended.json["status"] == "completed"
    assert set(ended.json) == {
        "run", "status", "resumed", "new", "already_read", "interests", "model",
        "delivered", "chosen", "problems", "notes", "others_resumed",
    }  # fmt: skip
    assert ended.err == ""


@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c_ends_with_130_and_a_message_and_the_same_command_goes_on(home: Path, as_json: bool) -> None:  # noqa: FBT001
    with feeds_server() as server:
        server.answers["/slow"] = silent
        words = ["brief", "f.xml", server.url("/slow"), *BOOK, *(["--json"] if as_json else [])]
        with started(home, *words) as process:
            wait_for(lambda: bool(server.requests))
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    assert b"Traceback" not in err
    assert b"the same command goes on where this stopped" in err
    assert out == b""
    if as_json:
        assert json.loads(err)["error"]["message"] == "interrupted"
    assert left_in(home / "out") == []
    assert left_in(home) == ["f.xml", "x.workbook"], "an orderly end"
    again = torpor(*words, cwd=home)
    assert again.code == 3, "the server is gone, the file is not"
    assert '"resumed":true' in again.out if as_json else "Resumed the interrupted run." in again.out
    assert "Story s5" in pages(home / "out")[0]


def test_sigterm_ends_it_and_the_same_command_goes_on(home: Path) -> None:
    with feeds_server() as server:
        server.answers["/slow"] = silent
        words = ("brief", "f.xml", server.url("/slow"), *BOOK)
        with started(home, *words) as process:
            wait_for(lambda: bool(server.requests))
            process.terminate()
            process.communicate(timeout=20)
    assert process.returncode == -signal.SIGTERM
    again = torpor(*words, cwd=home)
    assert (again.code, "Resumed" in again.out) == (3, True), again.err
    assert "Story s5" in pages(home / "out")[0]
    assert left_in(home) == ["f.xml", "out", "x.workbook"]


def test_a_reader_that_leaves_ends_the_listing_quietly(run: Zygote, home: Path) -> None:
    assert run("brief", "f.xml", *BOOK, cwd=home).code == 0
    with started(home, "events", "x.workbook", "--follow") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"     1  ")
        process.stdout.close()
        run("files", "put", "x.workbook", "/a", "f.xml", cwd=home)
        assert process.wait(20) == 141
        assert process.stderr.read() == b""


def test_a_full_disk_behind_standard_output_is_said(run: Zygote, home: Path) -> None:
    assert run("brief", "f.xml", *BOOK, cwd=home).code == 0
    with Path("/dev/full").open("wb") as full, started(home, "events", "x.workbook", stdout=full.fileno()) as process:
        _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert err.startswith(b"error: standard output can't be written: No space left on device")
    assert b"Traceback" not in err


def test_a_briefing_is_made_though_nobody_reads_its_progress(home: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with started(home, "brief", "f.xml", *BOOK, stderr=writer) as process:
        os.close(writer)
        out, _ = process.communicate(timeout=20)
    assert (process.returncode, b"6 new" in out) == (0, True)


def test_following_sees_every_event_of_a_briefing_elsewhere_in_order(run: Zygote, home: Path) -> None:
    assert run("brief", "f.xml", *BOOK, cwd=home).code == 0
    (home / "g.xml").write_bytes(rss(stories(8, "g")))
    after = len(events(home / "x.workbook")) - 2
    with started(home, "events", "x.workbook", "--follow", "--json", "--after", str(after)) as process:
        assert process.stdout is not None
        seen = [json.loads(process.stdout.readline()), json.loads(process.stdout.readline())]
        assert run("brief", "g.xml", *BOOK, cwd=home).code == 0
        whole = events(home / "x.workbook")
        while len(seen) < len(whole) - after:
            seen.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=20)
    assert (process.returncode, rest, err) == (0, b"", b"")
    assert [(event["seq"], event["hash"]) for event in seen] == [(e.seq, e.hash.hex()) for e in whole[after:]]
    assert left_in(home) == ["f.xml", "g.xml", "out", "x.workbook"]


def wait_for(happened: object, seconds: float = 20.0) -> None:
    """Wait until a condition holds that another process brings about."""
    assert callable(happened)
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)
