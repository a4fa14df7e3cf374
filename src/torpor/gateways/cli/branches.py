"""`torpor fork`, `rewind` and `diff`."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Final

import typer

from torpor.gateways.cli.agents import say_made
from torpor.gateways.cli.options import File, Json, Name, Why
from torpor.gateways.cli.show import EXIT_CODES, errors_shown, say, say_json
from torpor.gateways.cli.tables import size
from torpor.service import Difference, Service

_SEQ_MAX: Final = 2**62
"""A number that no event has."""

_MARKS: Final = {"added": "+", "removed": "-", "changed": "~"}


def add(app: typer.Typer, service: Service) -> None:
    """Add the commands to the command line."""
    _add_fork(app, service)
    _add_rewind(app, service)
    _add_diff(app, service)


def _add_fork(app: typer.Typer, service: Service) -> None:
    @app.command(epilog="Examples: torpor fork ada · torpor fork ada --at 120 --as ada-again --json\n\n" + EXIT_CODES)
    def fork(
        name: Name,
        at: Annotated[
            int | None,
            typer.Option(
                metavar="SEQ",
                min=0,
                max=_SEQ_MAX,
                help="The last event that both have; the newest unless given.",
                show_default=False,
            ),
        ] = None,
        new: Annotated[
            str | None,
            typer.Option("--as", metavar="NEW", help="The new agent's name; made up unless given.", show_default=False),
        ] = None,
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """Branch a new agent from one that goes on living, now or at an earlier event."""
        with errors_shown(as_json=as_json):
            made = service.agents.fork(name, at=at, new=new)
        where = "" if at in {None, made.at} else f" as of {_point(at, made.at)}"
        say_made(made, f"{made.name} is created, a fork of {name}{where}: {made.path}", as_json=as_json)


def _add_rewind(app: typer.Typer, service: Service) -> None:
    @app.command(epilog='Example: torpor rewind ada --to 120 --why "wrong turn"\n\n' + EXIT_CODES)
    def rewind(
        file: File,
        to: Annotated[
            int,
            typer.Option(metavar="SEQ", min=0, max=_SEQ_MAX, help="The event to go back to.", show_default=False),
        ],
        why: Why = "asked",
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """Put an agent back to an earlier event: files, memory, spend, settings and runs.

        What came after stays in the journal, set aside. `torpor show` lists what was set aside.
        """
        with errors_shown(as_json=as_json):
            rewound = service.agents.rewind(file, to, why=why)
        if as_json:
            say_json(rewound)
        elif rewound.skipped:
            say(f"{rewound.name}: nothing to do: {rewound.skipped}")
        else:
            where = _point(rewound.asked, rewound.to)
            say(f"{rewound.name} is as of {where}; what came after is set aside (event {rewound.seq}).")


def _point(asked: int, reached: int) -> str:
    """Return in words which event was gone to, and why that one where it is not the one that was asked for."""
    return f"event {reached}" + (f", which was committed together with event {asked}" if reached != asked else "")


def _add_diff(app: typer.Typer, service: Service) -> None:
    @app.command(
        epilog="Examples: torpor diff ada ada-again · torpor diff ada@120 ada · "
        "torpor diff before.workbook after.workbook --json\n\n" + EXIT_CODES
    )
    def diff(
        one: Annotated[
            str,
            typer.Argument(
                metavar="A",
                help="An agent's name or a workbook's file; with @SEQ, as of that event.",
                show_default=False,
            ),
        ],
        other: Annotated[str, typer.Argument(metavar="B", help="The same.", show_default=False)],
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """Show what tells two workbooks, or two points of one, apart: events, files, memory, spend, settings."""
        with errors_shown(as_json=as_json):
            found = service.agents.diff(one, other)
        if as_json:
            say_json(found)
        else:
            _say_difference(one, other, found)


def _say_difference(one: str, other: str, found: Difference) -> None:
    say(f"Both have events up to {found.common}." if found.common else "They have no event in common.")
    for word, count, kinds in (
        (one, found.only_before, found.kinds_before),
        (other, found.only_after, found.kinds_after),
    ):
        if count:
            events = "1 event" if count == 1 else f"{count} events"
            say(f"Only {word}: {events} ({', '.join(f'{kind} {many}' for kind, many in kinds.items())})")
    for file in found.files:
        say(f"{_MARKS[file.how]} {file.volume}:{file.path}  {_change(*map(_size, (file.before, file.after)))}")
    for entry in found.memory:
        say(f"{_MARKS[entry.how]} memory entry ({entry.kind})  {entry.source or f'sha256 {entry.sha256}'}")
    for setting in found.settings:
        say(f"{_mark(setting.before, setting.after)} setting {setting.name}  {_change(setting.before, setting.after)}")
    for balance in found.spend:
        amounts = (f"{Decimal(amount).scaleb(-6):f} {balance.unit}" for amount in (balance.before, balance.after))
        say(f"~ account {balance.account}  {_change(*amounts)}")
    if found.same:
        say("They are the same.")


def _mark(before: str | None, after: str | None) -> str:
    return _MARKS["added" if before is None else "removed" if after is None else "changed"]


def _size(count: int | None) -> str | None:
    return None if count is None else size(count)


def _change(before: str | None, after: str | None) -> str:
    """Return two sides in words; one where the other isn't there, or is the same to look at."""
    sides = dict.fromkeys(side for side in (before, after) if side is not None)
    return " → ".join(sides)
