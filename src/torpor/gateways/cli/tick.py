"""`torpor tick`."""

from __future__ import annotations

from typing import Annotated

import anyio
import typer

from torpor.base.duration import seconds
from torpor.base.errors import TorporError
from torpor.gateways.cli.agents import say_moved
from torpor.gateways.cli.options import Json, moment
from torpor.gateways.cli.progress import MoveWatch
from torpor.gateways.cli.show import EXIT_CODES, WITH_ERRORS, complain, errors_shown, say, say_json
from torpor.service import Service, TickView


def add(app: typer.Typer, service: Service) -> None:
    """Add the command to the command line."""

    @app.command(
        epilog="Examples: torpor tick · torpor tick --now +2h · torpor tick --now 2027-03-01T18:00Z · "
        "torpor tick --every 30s\n\n" + EXIT_CODES
    )
    def tick(
        now: Annotated[
            str | None,
            typer.Option(
                metavar="TIME",
                help="Do it as if it were this time: ISO 8601, UTC unless it says otherwise, or a duration from now"
                " such as 2h. The moves are real.",
                show_default=False,
            ),
        ] = None,
        every: Annotated[
            str | None,
            typer.Option(
                metavar="DURATION", help="Go on, with such a pause between passes, until Ctrl-C.", show_default=False
            ),
        ] = None,
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """Wake whoever is due, suspend who has been idle, freeze who has been suspended for long.

        Who is in use is left alone. One agent's trouble doesn't keep the others from being moved; it ends with 3.
        """
        if now is not None and every is not None:
            raise typer.BadParameter("there is one time, or a beat", param_hint="--now and --every")
        if every is not None:
            _keep_ticking(service, every, as_json=as_json)
            return
        at = None if now is None else moment(now, "--now")
        with errors_shown(as_json=as_json), MoveWatch("tick", quiet=as_json) as watch:
            ticked = service.agents.tick(at, watch=watch)
        _show(ticked, as_json=as_json)
        if not as_json and not any((ticked.moved, ticked.woken, ticked.skipped, ticked.failed, ticked.removed)):
            say("Nothing to do.")
        if ticked.failed:
            raise typer.Exit(WITH_ERRORS)


def _keep_ticking(service: Service, every: str, *, as_json: bool) -> None:
    def told(found: TickView | TorporError) -> None:
        if isinstance(found, TorporError):
            complain(found.message, found.next_step, found.code, as_json=as_json)
        else:
            _show(found, as_json=as_json)

    with errors_shown(as_json=as_json):
        beat_s = seconds(every)
        try:
            anyio.run(service.agents.keep_ticking, beat_s, told)
        except KeyboardInterrupt:
            return  # how one stops it


def _show(ticked: TickView, *, as_json: bool) -> None:
    if as_json:
        say_json(ticked)
        return
    for moved in (*ticked.woken, *ticked.moved):
        say_moved(moved)
    for passed in ticked.skipped:
        say(f"{passed.source}: left alone: {passed.message}")
    for place in ticked.removed:
        say(f"removed an old copy: {place}")
    for failed in ticked.failed:
        complain(f"{failed.source}: {failed.message}", failed.next_step, failed.code)
