"""Progress on standard error: bars on terminals; in pipes lines or nothing; nothing where a machine reads.

The library that draws takes a tenth of the time of a short command to load, so it is loaded when something is drawn.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

import typer

from torpor.gateways.cli.show import shown
from torpor.service import Moving
from torpor.service import Progress as Step

if TYPE_CHECKING:
    from rich.progress import Progress

PATIENCE_S: Final = 1.0
"""Seconds that a move may take before there is a bar."""

_STAGES = {
    "collect": "Reading sources",
    "rank": "Scoring items",
    "summarise": "Summarising",
    "deliver": "Delivering",
}

_PARTS = {"copy": "copying", "put": "storing", "get": "fetching", "verify": "verifying", "restore": "restoring"}
"""What a move does with bytes, in words; a stage that isn't here is its own word."""


class Watch:
    """Shows how far a briefing is: a bar on a terminal, lines in a pipe, nothing where a machine reads."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Progress | None = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Self:
        if not self._quiet and sys.stderr.isatty():
            self._bar = _counting()
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, step: Step) -> None:
        """Show that a stage has come so far."""
        words = _STAGES[step.stage]
        if self._bar is not None:
            task = self._tasks.get(step.stage)
            if task is None:
                task = self._tasks[step.stage] = self._bar.add_task(words, total=step.total)
            self._bar.update(task, completed=step.done, total=step.total)
        elif not self._quiet and step.done == step.total:
            with suppress(OSError):  # a run must not fail because nobody looks on
                typer.echo(f"{words}: {step.done} of {step.total}", err=True)


class MoveWatch:
    """Shows how far a move is, on a terminal, once it has taken more than a second; nothing anywhere else."""

    def __init__(self, what: str, *, quiet: bool) -> None:
        self._what = shown(what)
        self._draws = not quiet and sys.stderr.isatty()
        self._bar: Progress | None = None
        self._made = _flowing
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._since = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, step: Moving) -> None:
        """Show that so many bytes are done."""
        if not self._draws:
            return
        if self._bar is None:
            if time.perf_counter() - self._since < PATIENCE_S:
                return
            self._bar = self._made()
            self._bar.start()
        task = self._tasks.get(step.stage)
        if task is None:
            words = f"{self._what}: {_PARTS.get(step.stage, step.stage)}"
            task = self._tasks[step.stage] = self._bar.add_task(words, total=step.total)
        self._bar.update(task, completed=step.done, total=step.total)


class CountWatch(MoveWatch):
    """Shows how many of something are done, likewise."""

    def __init__(self, what: str, *, quiet: bool) -> None:
        super().__init__(what, quiet=quiet)
        self._made = _counting


def _counting() -> Progress:
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

    columns = (
        TextColumn("{task.description:16}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _flowing() -> Progress:
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)
