"""How the command line speaks: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
import typer

from torpor.base.clock import MICROSECONDS
from torpor.base.errors import TorporError, UnknownOutcome, UsageError

OK, FAILED, MISUSED, WITH_ERRORS, PARKED, INTERRUPTED, NOBODY_READS = 0, 1, 2, 3, 4, 130, 141

EXIT_CODES = (
    "Exit codes: 0 done · 1 failed, nothing acknowledged is lost · 2 wrong usage · 3 completed with errors · "
    "4 parked, the outcome of an effect is unknown · 130 interrupted · 141 nobody reads the output."
)

_JOINERS = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"
"""Not printable by themselves, and part of how words and emoji are written."""

_STEERING = re.compile(r"[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
"""What JSON leaves as it is and a terminal may obey: C1 controls (\x9b begins an escape), changes of direction."""


def say(text: str = "") -> None:
    """Print a line of the result, with nothing in it that could steer a terminal."""
    with writing():
        typer.echo(shown(text))


def say_json(value: Any) -> None:
    """Print a result as one line of JSON."""
    with writing():
        typer.echo(_json(value))


def complain(message: str, next_step: str = "", code: str = "", *, as_json: bool = False) -> None:
    """Print an error on standard error, as words or as one line of JSON."""
    if as_json:
        typer.echo(_json({"error": {"code": code, "message": message, "next_step": next_step}}), err=True)
        return
    typer.secho(f"error: {shown(message)}", fg=typer.colors.RED, err=True)
    if next_step:
        typer.echo(f"  next: {shown(next_step)}" + (f" [{code}]" if code else ""), err=True)


def shown(text: str) -> str:
    """Return a text as it may be put on a terminal: strange spaces are spaces, what isn't for reading is marked."""
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable() or character in _JOINERS:
        return character
    if character.isspace() and (character in "\n\t" or unicodedata.category(character) == "Zs"):
        return character if character in "\n\t" else " "
    return "\N{REPLACEMENT CHARACTER}"


def _json(value: Any) -> str:
    try:
        text = msgspec.json.encode(value).decode()
    except UnicodeEncodeError:  # a file's name that is no text, in an error
        text = json.dumps(value)
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


@contextmanager
def writing() -> Iterator[None]:
    """Turn an error of standard output into an exit code: whoever read it has left, or its disk is full.

    Raises:
        typer.Exit: there was one.

    """
    try:
        yield
    except BrokenPipeError as error:
        # There is nobody to tell, and what Python still holds must not fail once more at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(NOBODY_READS) from error
    except OSError as error:
        complain(f"standard output can't be written: {error.strerror}", "What the command did is done and kept.")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(FAILED) from error


def when(moment_us: int) -> str:
    """Return a time in words."""
    moment = datetime.fromtimestamp(moment_us / MICROSECONDS, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}"


@contextmanager
def errors_shown(*, as_json: bool) -> Iterator[None]:
    """Turn an error of ours into a message and an exit code.

    Raises:
        typer.Exit: there was one.

    """
    try:
        yield
    except TorporError as error:
        complain(error.message, error.next_step, error.code, as_json=as_json)
        raise typer.Exit(exit_code(error)) from error
    except KeyboardInterrupt as error:
        next_step = "Nothing is lost: the same command goes on where this stopped."
        complain("interrupted", next_step, as_json=as_json)
        raise typer.Exit(INTERRUPTED) from error


def exit_code(error: TorporError) -> int:
    """Return what a command exits with that ends with an error."""
    if isinstance(error, UnknownOutcome):
        return PARKED
    return MISUSED if isinstance(error, UsageError) else FAILED
