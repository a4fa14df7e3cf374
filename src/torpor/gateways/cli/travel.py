"""`torpor export` and `torpor import`."""

from __future__ import annotations

from typing import Annotated

import typer

from torpor.base.errors import NameRefused, NameTaken, WorkbookMissing
from torpor.gateways.cli.agents import say_made
from torpor.gateways.cli.options import Json, Name
from torpor.gateways.cli.show import EXIT_CODES, complain, errors_shown, exit_code, say, say_json
from torpor.gateways.cli.tables import size
from torpor.service import Service


def add(app: typer.Typer, service: Service) -> None:
    """Add the commands to the command line."""
    _add_export(app, service)
    _add_import(app, service)


def _add_export(app: typer.Typer, service: Service) -> None:
    @app.command(
        epilog="Examples: torpor export ada ada-public.workbook · "
        "torpor export ada ada-whole.workbook --with-memory\n\n" + EXIT_CODES
    )
    def export(
        name: Name,
        file: Annotated[str, typer.Argument(metavar="FILE", help="Where to; a new name.", show_default=False)],
        with_memory: Annotated[  # noqa: FBT002
            bool,
            typer.Option(
                "--with-memory",
                help="The whole agent: journal, memory, spend and settings too. For yourself, not to give away.",
            ),
        ] = False,
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """Write an agent's workspace into a new workbook, to give away: no memory, no scratch files, no journal.

        The agent is not stopped.
        """
        with errors_shown(as_json=as_json):
            try:
                exported = service.agents.export(name, file, with_memory=with_memory)
            except WorkbookMissing as error:
                message = f"{name} can't be exported to {error.path}: {error.reason}."
                complain(message, "Make the folder, or name another.", error.code, as_json=as_json)
                raise typer.Exit(exit_code(error)) from error
        if as_json:
            say_json(exported)
        else:
            what = "the whole" if exported.with_memory else "the workspace only"
            say(f"{exported.path}: {what} of {exported.name}, {size(exported.bytes)}")


def _add_import(app: typer.Typer, service: Service) -> None:
    @app.command(
        "import",
        epilog="Examples: torpor import ada.workbook · torpor import gift.workbook --as eve --tenant acme\n\n"
        + EXIT_CODES,
    )
    def import_file(
        file: Annotated[
            str, typer.Argument(metavar="FILE", help="The workbook; it stays as it is.", show_default=False)
        ],
        name: Annotated[
            str | None,
            typer.Option("--as", metavar="NAME", help="The agent's name; the file's unless given.", show_default=False),
        ] = None,
        tenant: Annotated[str, typer.Option(help="Whose it is.", show_default=False)] = "",
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """Take a workbook in as a new agent, with an identity of its own."""
        with errors_shown(as_json=as_json):
            try:
                made = service.agents.import_(file, name=name, tenant=tenant)
            except (NameRefused, NameTaken) as error:
                if name is not None:
                    raise
                complain(error.message, "Give another name with --as.", error.code, as_json=as_json)
                raise typer.Exit(exit_code(error)) from error
        say_made(made, f"{made.name} is created from {file}: {made.path}", as_json=as_json)
