"""The command line, put together."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Annotated, Any, cast

import typer

from torpor.gateways.cli import brief, files, journal, memory
from torpor.gateways.cli.show import EXIT_CODES, MISUSED, complain
from torpor.service import Service


def build(service: Service) -> typer.Typer:
    """Return the command line of a service."""
    app = typer.Typer(
        name="torpor",
        help="A durable runtime for AI agents in which an agent is one file.",
        epilog="Example: torpor brief https://example.org/feed.xml --workbook ada.workbook\n\n" + EXIT_CODES,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def root(
        _version: Annotated[  # noqa: FBT002
            bool,
            typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
        ] = False,
    ) -> None:
        """Keep agents in files."""

    brief.add(app, service)
    journal.add(app, service)
    files.add(app, service)
    memory.add(app, service)
    return app


_Misuse = cast("type[Any]", typer.BadParameter.__base__)
"""Click's UsageError, which typer either imports or carries a copy of."""


def run(app: typer.Typer, words: Sequence[str]) -> int:
    """Run a command line and return its exit code.

    Args:
        app: what `build` returned.
        words: the arguments, without the program's name.

    """
    as_json = "--json" in words
    try:
        code = app(args=list(words), prog_name="torpor", standalone_mode=not as_json)
    except _Misuse as error:
        where = error.ctx.command_path if error.ctx else "torpor"
        complain(error.format_message(), f"Run `{where} --help`.", "TOR-100", as_json=True)
        return MISUSED
    except SystemExit as leaving:
        code = leaving.code
    return code if isinstance(code, int) else 0


def _print_version(asked: bool) -> None:  # noqa: FBT001  (typer calls it so)
    if asked:
        typer.echo(f"torpor {metadata.version('torpor')}")
        raise typer.Exit
