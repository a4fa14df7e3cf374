"""`torpor template create`, `template ls`, `template drop`, and `torpor clone`."""

from __future__ import annotations

from typing import Annotated

import typer

from torpor.gateways.cli.options import FreezeAfter, Json, SuspendAfter
from torpor.gateways.cli.progress import MoveWatch
from torpor.gateways.cli.show import EXIT_CODES, errors_shown, say, say_json, when
from torpor.gateways.cli.tables import say_table, size
from torpor.service import Newborn, Service

Template = Annotated[str, typer.Argument(metavar="TEMPLATE", help="The template.", show_default=False)]


def add(app: typer.Typer, service: Service) -> None:
    """Add the commands to the command line."""
    template = typer.Typer(
        no_args_is_help=True,
        help="Make, list and drop templates: read-only workbooks that agents are cloned from.",
        epilog="Example: torpor template create briefer --from ada\n\n" + EXIT_CODES,
    )
    app.add_typer(template, name="template")
    _add_create(template, service)
    _add_ls(template, service)
    _add_drop(template, service)
    _add_clone(app, service)


def _add_create(template: typer.Typer, service: Service) -> None:
    @template.command(
        "create",
        epilog="Examples: torpor template create briefer --from ada · "
        "torpor template create briefer --from ada --suspend-after 5m\n\n" + EXIT_CODES,
    )
    def create(
        name: Annotated[
            str,
            typer.Argument(
                metavar="NAME", help="The template's name, which no agent may have or have had.", show_default=False
            ),
        ],
        source: Annotated[
            str,
            typer.Option("--from", metavar="AGENT", help="The agent to copy; it is not stopped.", show_default=False),
        ],
        suspend_after: SuspendAfter = None,
        freeze_after: FreezeAfter = None,
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """Make a template from an agent as it is now: all it holds, memory as well."""
        wish = Newborn(name=name, source=source, suspend_after=suspend_after, freeze_after=freeze_after)
        with errors_shown(as_json=as_json):
            made = service.agents.create_template(wish)
        if as_json:
            say_json(made)
        else:
            say(f"{made.name} is a template of {made.parent} as of event {made.parent_seq}: {size(made.bytes)}")


def _add_ls(template: typer.Typer, service: Service) -> None:
    @template.command("ls", epilog="Example: torpor template ls\n\n" + EXIT_CODES)
    def list_templates(as_json: Json = False) -> None:  # noqa: FBT002
        """List the templates."""
        with errors_shown(as_json=as_json):
            found = service.agents.list_templates()
        if as_json:
            for made in found:
                say_json(made)
        elif found:
            heads = ("NAME", "SIZE", "CREATED (UTC)", "FROM", "EVENT")
            rows = [
                (
                    made.name,
                    size(made.bytes),
                    when(made.created),
                    made.parent or "-",
                    "-" if made.parent_seq is None else str(made.parent_seq),
                )
                for made in found
            ]
            say_table(heads, rows, right=("SIZE", "EVENT"))
        else:
            say("No templates.")


def _add_drop(template: typer.Typer, service: Service) -> None:
    @template.command("drop", epilog="Example: torpor template drop briefer\n\n" + EXIT_CODES)
    def drop(name: Template, as_json: Json = False) -> None:  # noqa: FBT002
        """Remove a template; its clones keep living, its name stays taken."""
        with errors_shown(as_json=as_json):
            dropped = service.agents.drop_template(name)
        if as_json:
            say_json(dropped)
        else:
            say(f"The template {dropped.name} is gone.")


def _add_clone(app: typer.Typer, service: Service) -> None:
    @app.command(
        epilog="Examples: torpor clone briefer --tenant acme · "
        "torpor clone briefer --tenant acme --count 100 --json | jq .name\n\n" + EXIT_CODES
    )
    def clone(
        template: Template,
        tenant: Annotated[
            str, typer.Option(help="Whose the clones are; their names begin with it.", show_default=False)
        ],
        count: Annotated[int, typer.Option(min=1, max=100_000, help="How many.")] = 1,
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """Make agents from a template, all or none; prints their names."""
        with errors_shown(as_json=as_json), MoveWatch(template, quiet=as_json) as watch:
            made = service.agents.clone(template, tenant=tenant, count=count, watch=watch)
        for agent in made:
            if as_json:
                say_json(agent)
            else:
                say(agent.name)
