"""How the command line speaks."""

from __future__ import annotations

import json

import pytest
import typer

from torpor.base.errors import DeliveryFailed, PathRefused, UnknownOutcome
from torpor.gateways.cli.show import complain, errors_shown, say, say_json, shown, when, writing


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("\x1b[31mred", "\ufffd[31mred"),
        ("\x9b31mred", "\ufffd31mred"),
        ("a\u202eb\u2066c", "a\ufffdb\ufffdc"),
        ("a\rb\x00c\x7f", "a\ufffdb\ufffdc\ufffd"),
        ("line\nnext\ttab", "line\nnext\ttab"),
        ("\u00a0\u2009\u3000", "   "),
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e"),
        ("\udcff", "\ufffd"),
        ("\u2028\u2029\ufeff", "\ufffd\ufffd\ufffd"),
    ],
)
def test_what_could_steer_a_terminal_is_marked_and_what_is_for_reading_stays(text: str, expected: str) -> None:
    assert shown(text) == expected


@pytest.mark.parametrize("text", ["\x9b31m", "\u202e", "\u2066x\u2069", "\x1b[2J", "\x7f", "\u2028"])
def test_json_escapes_what_could_steer_a_terminal_and_means_the_same(
    capsys: pytest.CaptureFixture[str], text: str
) -> None:
    say_json({"text": text})
    out = capsys.readouterr().out
    assert out[:-1].isprintable()
    assert json.loads(out) == {"text": text}


def test_an_error_is_said_in_words_with_its_next_step_and_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as leaving, errors_shown(as_json=False):
        raise DeliveryFailed(path="\x1b[2J", reason="it is full")
    assert leaving.value.exit_code == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "error: The briefing can't be delivered to \ufffd[2J: it is full." in said.err
    assert "  next: Make the folder writable" in said.err
    assert said.err.rstrip().endswith("[TOR-601]")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PathRefused(path="a", reason="b"), 2),
        (DeliveryFailed(path="a", reason="b"), 1),
        (UnknownOutcome(run="r", name="n", key="k", reason="b"), 4),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_kind_of_error_has_its_exit_code_and_is_json_where_asked(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    with pytest.raises(typer.Exit) as leaving, errors_shown(as_json=True):
        raise error
    assert leaving.value.exit_code == code
    said = json.loads(capsys.readouterr().err)["error"]
    assert set(said) == {"code", "message", "next_step"}
    assert all(said[name] for name in ("message", "next_step"))


def test_a_bug_is_not_dressed_up() -> None:
    with pytest.raises(ZeroDivisionError), errors_shown(as_json=False):
        raise ZeroDivisionError


def test_a_name_that_is_no_text_is_said_in_json_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    complain("\udcff is missing", as_json=True)
    assert json.loads(capsys.readouterr().err)["error"]["message"] == "\udcff is missing"


def test_times_are_in_utc() -> None:
    assert when(1_795_255_081_897_600) == "2026-11-21 09:58:01"


def test_an_error_that_is_not_of_the_output_passes() -> None:
    with pytest.raises(KeyError), writing():
        raise KeyError
    say()
