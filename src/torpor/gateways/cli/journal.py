"""`torpor events`, `verify`, `runs`, `settle` and `cancel`."""

from __future__ import annotations

from typing import Annotated, Any

import anyio
import msgspec
import typer

from torpor.gateways.cli.options import File, Json
from torpor.gateways.cli.show import EXIT_CODES, FAILED, errors_shown, say, say_json, when
from torpor.service import EventView, Service

_BODY_CHARS = 100


def add(app: typer.Typer, service: Service) -> None:
    """Add the commands to the command line."""
    _add_events(app, service)
    _add_verify(app, service)
    _add_runs(app, service)
    _add_settle(app, service)
    _add_cancel(app, service)


def _add_events(app: typer.Typer, service: Service) -> None:
    @app.command(
        epilog="Examples: torpor events ada.workbook --last 20 · torpor events ada --follow · "
        "torpor events ada --json | jq .kind\n\n" + EXIT_CODES
    )
    def events(
        file: File,
        after: Annotated[int, typer.Option(min=0, help="Begin behind the event of this number.")] = 0,
        last: Annotated[int | None, typer.Option(min=0, help="Only the newest so many.", show_default=False)] = None,
        follow: Annotated[  # noqa: FBT002
            bool, typer.Option("--follow", "-f", help="Go on with new events as they are committed.")
        ] = False,
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """Show the journal of a workbook, also while its owner writes."""
        show = say_json if as_json else _show_event
        with errors_shown(as_json=as_json):
            if follow:
                _follow(service, file, after, last, show)
                return
            for event in service.events(file, after=after, last=last):
                show(event)


def _follow(service: Service, file: str, after: int, last: int | None, show: Any) -> None:
    async def follow() -> None:
        async for event in service.follow(file, after=after, last=last):
            show(event)

    try:
        anyio.run(follow)
    except KeyboardInterrupt:
        return  # how one stops following


def _show_event(event: EventView) -> None:
    body = msgspec.json.encode(event.body).decode()
    if len(body) > _BODY_CHARS:
        body = f"{body[:_BODY_CHARS]}…"
    say(f"{event.seq:6}  {when(event.time)}  {event.kind:18} {body}")


def _add_verify(app: typer.Typer, service: Service) -> None:
    @app.command(epilog="Examples: torpor verify ada.workbook · torpor verify ada\n\n" + EXIT_CODES)
    def verify(file: File, as_json: Json = False) -> None:  # noqa: FBT002
        """Prove that a workbook is whole: hash chain, files, memory, spend.

        Exits with 1 if an invariant of SPEC.md is broken, and names it.
        """
        with errors_shown(as_json=as_json):
            found = service.verify(file)
        if as_json:
            say_json(found)
        else:
            for problem in found.problems:
                say(f"{problem['invariant']}: {problem['what']}")
            counts = f"{found.events} events, {found.files} files, {found.memories} memories"
            say(f"{'ok' if found.ok else 'DAMAGED'}: {counts}")
            say(f"head {found.head}")
        if not found.ok:
            raise typer.Exit(FAILED)


def _add_runs(app: typer.Typer, service: Service) -> None:
    @app.command(epilog="Example: torpor runs ada\n\n" + EXIT_CODES)
    def runs(file: File, as_json: Json = False) -> None:  # noqa: FBT002
        """List the runs of a workbook: what was asked, and what became of it."""
        with errors_shown(as_json=as_json):
            found = service.runs(file)
        for run in found:
            if as_json:
                say_json(run)
                continue
            say(f"{run.run}  {when(run.started)}  {run.message:12} {run.state}")
            if run.waits_for is not None:
                say(f"    waits for a verdict on {run.waits_for!r}: {run.reason}")


def _add_settle(app: typer.Typer, service: Service) -> None:
    @app.command(
        epilog="Examples: torpor settle ada.workbook pay-17 --happened --result '\"receipt 4711\"' · "
        "torpor settle ada.workbook pay-17 --did-not-happen\n\n" + EXIT_CODES
    )
    def settle(
        file: File,
        key: Annotated[str, typer.Argument(help="The effect's key, as `torpor runs` shows it.")],
        happened: Annotated[
            bool,
            typer.Option("--happened/--did-not-happen", help="What the world says.", show_default=False),
        ],
        result: Annotated[str, typer.Option(help="The effect's result, as JSON.")] = "null",
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """Say whether an effect happened whose outcome is unknown; its run can then go on."""
        try:
            value = msgspec.json.decode(result)
        except msgspec.DecodeError as error:
            raise typer.BadParameter(str(error), param_hint="--result") from error
        with errors_shown(as_json=as_json):
            run = service.settle(file, key, happened=happened, result=value)
        if as_json:
            say_json({"run": run, "key": key, "happened": happened})
        else:
            say(f"Settled. Run {run} goes on when its agent is next woken.")


def _add_cancel(app: typer.Typer, service: Service) -> None:
    @app.command(epilog='Example: torpor cancel ada.workbook RUN --reason "not wanted any more"\n\n' + EXIT_CODES)
    def cancel(
        file: File,
        run: Annotated[str, typer.Argument(help="The run's id, as `torpor runs` shows it.")],
        reason: Annotated[str, typer.Option(help="Why, for the journal.")] = "asked to",
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """End an unfinished run that is not to go on; what it has done stays in the journal."""
        with errors_shown(as_json=as_json):
            service.cancel(file, run, reason=reason)
        if as_json:
            say_json({"run": run, "reason": reason})
        else:
            say(f"Run {run} is cancelled.")
