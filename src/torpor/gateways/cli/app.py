"""The command line, put together."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Annotated, Any, Final, cast

import typer

from torpor.gateways.cli.options import (
    ArchiveStore,
    ColdStore,
    DurabilityClass,
    HomeFolder,
    ReplicaStore,
    command_in,
    gathered,
)
from torpor.gateways.cli.show import EXIT_CODES, MISUSED, complain, errors_shown
from torpor.service import Service

PARTS: Final[dict[str, tuple[str, ...]]] = {
    "brief": ("brief",),
    "agents": ("new", "ls", "show", "wake", "suspend", "freeze", "prefetch", "archive", "delete"),
    "tick": ("tick",),
    "templates": ("clone", "template"),
    "branches": ("fork", "rewind", "diff"),
    "travel": ("export", "import"),
    "journal": ("events", "verify", "runs", "settle", "cancel"),
    "files": ("files",),
    "memory": ("memory",),
    "heartbeat": ("heartbeat",),
    "restore": ("restore",),
    "litestream": ("litestream",),
}
"""The modules of this room that have commands, and which. Only what a command line needs is loaded and built: to build
all of it takes a twentieth of a short command's time."""

_PANELS: Final = {
    "brief": "Agents in the box",
    "agents": "An agent's life",
    "tick": "An agent's life",
    "templates": "Templates, branches and travel",
    "branches": "Templates, branches and travel",
    "travel": "Templates, branches and travel",
    "journal": "What is in an agent",
    "files": "What is in an agent",
    "memory": "What is in an agent",
    "heartbeat": "Copies elsewhere",
    "restore": "Copies elsewhere",
    "litestream": "Copies elsewhere",
}


def build(service: Service, words: Sequence[str] | None = None) -> typer.Typer:
    """Return the command line of a service.

    Args:
        service: what it is to ask.
        words: a command line; only the part that it needs is built. Without it, all of it.

    """
    app = typer.Typer(
        name="torpor",
        help="A durable runtime for AI agents in which an agent is one file.",
        epilog="Examples: torpor brief https://example.org/feed.xml --workbook ada.workbook · torpor new ada · "
        "torpor --home /srv/agents ls\n\n" + EXIT_CODES,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def root(
        home: HomeFolder = None,
        cold: ColdStore = None,
        archive: ArchiveStore = None,
        durability: DurabilityClass = None,
        replica: ReplicaStore = None,
        _version: Annotated[  # noqa: FBT002
            bool,
            typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
        ] = False,
    ) -> None:
        """Keep agents in files."""
        given = {"--home": home, "--cold": cold, "--archive": archive, "--durability": durability, "--replica": replica}
        for option, value in given.items():
            if value == "":
                raise typer.BadParameter("it is empty", param_hint=option)
        service.homes.choose(home, cold=cold, archive=archive, durability=durability, replica=replica)

    asked = None if words is None else command_in(words)
    needed = [part for part, commands in PARTS.items() if asked in commands] or PARTS
    for part in needed:
        importlib.import_module(f"torpor.gateways.cli.{part}").add(app, service)
        made: Any  # a command or a group, as typer keeps them
        for made in (*app.registered_commands, *app.registered_groups):
            if not isinstance(made.rich_help_panel, str):
                made.rich_help_panel = _PANELS[part]
    return app


_Misuse = cast("type[Any]", typer.BadParameter.__base__)
"""Click's UsageError, which typer either imports or carries a copy of."""


def run(app: typer.Typer, words: Sequence[str], *, ending: Callable[[], None] = lambda: None) -> int:
    """Run a command line and return its exit code.

    Args:
        app: what `build` returned.
        words: the arguments, without the program's name.
        ending: called at the end, however that comes; its error is the command's where the command had none.

    """
    code = _run(app, words)
    try:
        with errors_shown(as_json="--json" in words):
            ending()
    except typer.Exit as leaving:
        return code or leaving.exit_code
    return code


def _run(app: typer.Typer, words: Sequence[str]) -> int:
    as_json = "--json" in words
    try:
        code = app(args=gathered(words), prog_name="torpor", standalone_mode=not as_json)
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
