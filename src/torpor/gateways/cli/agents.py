"""`torpor new`, `ls`, `show`, and the moves of an agent's life: `suspend`, `wake`, `freeze`, `prefetch`, …."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Annotated

import typer

from torpor.base.errors import TorporError, UsageError
from torpor.gateways.cli.options import FreezeAfter, Json, Name, Names, SuspendAfter, Why, moment
from torpor.gateways.cli.progress import MoveWatch
from torpor.gateways.cli.show import EXIT_CODES, FAILED, MISUSED, complain, errors_shown, say, say_json, when
from torpor.gateways.cli.story import say_story, say_template
from torpor.gateways.cli.tables import say_table, size, span, until
from torpor.service import AgentView, MovedView, Newborn, Service, State, TemplateStory, Verb

_MICROSECOND = timedelta(microseconds=1)

_MOVES: dict[Verb, tuple[str, str]] = {
    "suspend": (
        "Put agents to rest: each is one file then, and costs nothing but disk.",
        "An agent that is in use is left alone.",
    ),
    "freeze": (
        "Move suspended agents into the cold store; their files here are removed once the copies are proved.",
        "The store is --cold of `torpor`.",
    ),
    "prefetch": (
        "Bring frozen agents' files back without waking the agents, so that a later wake is quick.",
        "The copy in the cold store stays.",
    ),
    "archive": (
        "Move active or frozen agents, compressed, into the archive store.",
        "The store is --archive of `torpor`. An archived agent can be woken or deleted.",
    ),
    "delete": (
        "Delete archived agents for ever: every copy is removed; a tombstone keeps the name and the history.",
        "Only an archived agent can be deleted.",
    ),
}


def add(app: typer.Typer, service: Service) -> None:
    """Add the commands to the command line."""
    _add_new(app, service)
    _add_ls(app, service)
    _add_show(app, service)
    _add_wake(app, service)
    for verb in _MOVES:
        _add_move(app, service, verb)


def _add_new(app: typer.Typer, service: Service) -> None:
    @app.command(
        epilog="Examples: torpor new ada · torpor new bob --from briefer --tenant acme · "
        "torpor new eve --suspend-after 5m --freeze-after 7d\n\n" + EXIT_CODES
    )
    def new(
        name: Annotated[
            str,
            typer.Argument(
                metavar="NAME",
                help="Letters, digits, - and _, beginning with a letter or digit; never used before.",
                show_default=False,
            ),
        ],
        source: Annotated[
            str | None,
            typer.Option("--from", metavar="TEMPLATE", help="Begin as a copy of this template.", show_default=False),
        ] = None,
        tenant: Annotated[str, typer.Option(help="Whose it is.", show_default=False)] = "",
        suspend_after: SuspendAfter = None,
        freeze_after: FreezeAfter = None,
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """Make an agent. The home is made with it where there is none."""
        wish = Newborn(name=name, source=source, tenant=tenant, suspend_after=suspend_after, freeze_after=freeze_after)
        with errors_shown(as_json=as_json):
            made = service.agents.new(wish)
        say_made(made, f"{made.name} is created: {made.path}", as_json=as_json)


def say_made(made: AgentView, words: str, *, as_json: bool) -> None:
    """Print that an agent was made."""
    if as_json:
        say_json(made)
    else:
        say(words)


def _add_ls(app: typer.Typer, service: Service) -> None:
    @app.command("ls", epilog="Examples: torpor ls · torpor ls --tenant acme --json | jq .name\n\n" + EXIT_CODES)
    def list_agents(
        tenant: Annotated[str | None, typer.Option(help="Only this tenant's.", show_default=False)] = None,
        state: Annotated[State | None, typer.Option(help="Only those in this state.", show_default=False)] = None,
        everybody: Annotated[bool, typer.Option("--all", "-a", help="Deleted ones too.")] = False,  # noqa: FBT002
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """List the agents: state, size, how long they have been idle, when they wake next."""
        with errors_shown(as_json=as_json):
            found = service.agents.list_agents(tenant=tenant, state=state, everybody=everybody)
            if as_json:
                for agent in found:
                    say_json(agent)
                return
            rows = list(found)
            now = service.agents.now_us()
        if rows:
            _say_agents(rows, now)
        elif service.homes.made:
            say("No agents.")
        else:
            say(f"No agents: there is no home at {service.homes.path} yet. `torpor new NAME` makes it.")


def _say_agents(agents: Sequence[AgentView], now_us: int) -> None:
    heads = ("NAME", "TENANT", "STATE", "SIZE", "IDLE", "NEXT WAKE", "TEMPLATE")
    rows = [
        (
            agent.name,
            agent.tenant or "-",
            agent.state,
            size(agent.bytes),
            span(agent.idle_s),
            until(agent.wake, now_us) or "-",
            agent.template or "-",
        )
        for agent in agents
    ]
    say_table(heads, rows, right=("SIZE", "IDLE"))


def _add_show(app: typer.Typer, service: Service) -> None:
    @app.command(epilog="Examples: torpor show ada · torpor show ada --last 5 --json\n\n" + EXIT_CODES)
    def show(
        name: Name,
        last: Annotated[
            int | None, typer.Option(min=0, help="Only the newest so many moves.", show_default=False)
        ] = None,
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """Show all that is known of an agent: its record, its parent and children, its branches, its history.

        Of a template: its record and its history.
        """
        with errors_shown(as_json=as_json):
            story = service.agents.show(name, last=last)
        if as_json:
            say_json(story)
        elif isinstance(story, TemplateStory):
            say_template(story)
        else:
            say_story(story, service.agents.now_us())


def _add_wake(app: typer.Typer, service: Service) -> None:
    @app.command(
        epilog="Examples: torpor wake ada · torpor wake ada bob --why upgrade · torpor wake ada --at +2h · "
        "torpor wake ada --at 2027-03-01T18:00Z · torpor wake ada --at never\n\n" + EXIT_CODES
    )
    def wake(
        names: Names,
        at: Annotated[
            str | None,
            typer.Option(
                metavar="TIME",
                help="Don't wake them now, but at the first tick after this time: ISO 8601, UTC unless it says"
                " otherwise, or a duration from now such as 2h; never takes the time back.",
                show_default=False,
            ),
        ] = None,
        why: Why = "asked",
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """Wake agents, from wherever they are; the `tmp` volume of one that wakes is emptied."""
        if at is None:
            _move_all(names, lambda name: _move(service, "wake", name, why, as_json=as_json), as_json=as_json)
            return
        moment_at = None if at == "never" else moment(at, "--at")

        def schedule(name: str) -> None:
            agent = service.agents.schedule(name, moment_at)
            if as_json:
                say_json(agent)
            elif agent.wake is None:
                say(f"{agent.name} has no next wake.")
            else:
                # A duration counts from when it was said: what the user typed is what comes back.
                ahead = moment_at // _MICROSECOND if isinstance(moment_at, timedelta) else None
                now_us = service.agents.now_us() if ahead is None else agent.wake - ahead
                say(f"{agent.name} wakes at {when(agent.wake)} UTC ({until(agent.wake, now_us)}).")

        _move_all(names, schedule, as_json=as_json)


def _add_move(app: typer.Typer, service: Service, verb: Verb) -> None:
    first, more = _MOVES[verb]

    @app.command(
        verb,
        help=f"{first}\n\n{more}",
        epilog=f"Examples: torpor {verb} ada · torpor {verb} ada bob --json\n\n" + EXIT_CODES,
    )
    def move(names: Names, why: Why = "asked", as_json: Json = False) -> None:  # noqa: FBT002
        _move_all(names, lambda name: _move(service, verb, name, why, as_json=as_json), as_json=as_json)


def _move(service: Service, verb: Verb, name: str, why: str, *, as_json: bool) -> None:
    with MoveWatch(name, quiet=as_json) as watch:
        moved = service.agents.move(verb, name, why=why, watch=watch)
    if as_json:
        say_json(moved)
    else:
        say_moved(moved)


def say_moved(moved: MovedView) -> None:
    """Print how a move came out."""
    if moved.skipped:
        say(f"{moved.name}: nothing to do: {moved.skipped}")
        return
    change = moved.after if moved.before in {None, moved.after} else f"{moved.before} → {moved.after}"
    how = f" ({moved.how})" if moved.how else ""
    verb = " prefetched," if moved.verb == "prefetch" else ""
    say(f"{moved.name}:{verb} {change}{how}, {size(moved.bytes)} in {moved.ms:.1f} ms")
    for place in moved.left:
        say(f"    an old copy stays at {place} until its store answers; the next tick removes it")


def _move_all(names: Sequence[str], one: Callable[[str], None], *, as_json: bool) -> None:
    """Do something to each agent, also when another's failed.

    Raises:
        typer.Exit: some failed; with the code for misuse where nothing but misuse came of it.

    """
    errors: list[TorporError] = []
    asked = list(dict.fromkeys(names))
    with errors_shown(as_json=as_json):
        for name in asked:
            try:
                one(name)
            except TorporError as error:
                complain(error.message, error.next_step, error.code, as_json=as_json)
                errors.append(error)
    if errors:
        misused = len(errors) == len(asked) and all(isinstance(error, UsageError) for error in errors)
        raise typer.Exit(MISUSED if misused else FAILED)
