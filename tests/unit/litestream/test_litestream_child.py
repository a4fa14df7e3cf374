"""One owned process: it ends with its owner, also where that is a thread, and where it doesn't want to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.unit.litestream.lab import alive, eventually

from torpor.base.errors import LitestreamFailed
from torpor.litestream import leashed
from torpor.litestream.child import Child, Line

ENV = {"PATH": os.defpath}
STUBBORN = [
    sys.executable, "-c",
    "import signal, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\nsignal.pause()",
]  # fmt: skip


def all_of(child: Child) -> list[Line]:
    lines = []
    while not child.silent:
        lines += child.hear(1.0)
    return lines


def test_it_ends_with_the_thread_that_started_it() -> None:
    made: list[Child] = []

    def own() -> None:
        made.append(Child(STUBBORN, ENV))
        eventually(lambda: made[0].hear(1.0))  # it has begun; one that hasn't yet would be the process's

    thread = threading.Thread(target=own)
    thread.start()
    thread.join()

    eventually(lambda: not alive(made[0].pid))
    assert made[0].wait() == -signal.SIGKILL


def test_one_that_does_not_want_to_end_is_killed() -> None:
    child = Child(STUBBORN, ENV)
    assert [line.text for line in eventually(lambda: child.hear(1.0))] == ["ready"]
    child.ask_to_end()

    assert child.wait(0.2) == -signal.SIGKILL


def test_an_ended_one_may_be_ended_again() -> None:
    child = Child(["/bin/true"], ENV)
    assert child.wait() == 0
    child.ask_to_end()
    assert child.kill() == 0
    assert child.hear(1.0) == []


def test_what_it_says_is_read_line_by_line_whatever_it_is() -> None:
    said = [
        '{"level":"INFO","msg":"wal segment written","sz":42}',
        '{"level":"ERROR","msg":"monitor error","error":"no route"}',
        'time=2026 level=ERROR msg="failed to run"',
        "plain \\377",
        '{"level":"INFO","msg":"half',
    ]
    child = Child(["/usr/bin/printf", "\\n".join(said).replace('"', '\\"')], ENV)

    found = all_of(child)

    assert child.wait() == 0
    assert [(line.level, line.said, line.bytes) for line in found] == [
        ("INFO", "wal segment written", 42),
        ("ERROR", "monitor error: no route", 0),
        ("ERROR", said[2], 0),
        ("", "plain \N{REPLACEMENT CHARACTER}", 0),
        ("", said[4], 0),
    ]


def test_a_flood_of_words_is_kept_within_bounds() -> None:
    child = Child([sys.executable, "-c", "print('x' * 3_000_000)\nprint('the end')"], ENV)

    assert all_of(child)[-1].text == "the end"
    assert max(map(len, child.last)) <= 2_000
    assert child.wait() == 0


def test_its_last_words_are_in_the_error() -> None:
    child = Child(["/bin/ls", "/nonexistent/folder"], {"PATH": os.defpath, "LC_ALL": "C"})
    all_of(child)
    child.wait()

    error = child.failed("list that")

    assert "No such file or directory" in error.message
    assert error.lines


def test_a_program_that_is_none_ends_with_an_error() -> None:
    child = Child(["/nonexistent/program"], ENV)
    all_of(child)

    assert child.wait() != 0
    assert "No such file" in child.failed("be run").message


def test_words_that_no_program_can_have_are_an_error_of_ours() -> None:
    with pytest.raises(LitestreamFailed, match="be started"):
        Child(["/bin/true", "a\0b"], ENV)


def test_it_does_not_begin_where_its_parent_has_ended_already() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(Path(leashed.__file__)), "1", "/bin/echo", "begun"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (1, "", "the parent has ended\n")
