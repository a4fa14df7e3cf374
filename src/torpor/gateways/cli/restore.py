"""`torpor restore`: agents, or a whole lost home, back from the replica."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Final

import typer

from torpor.base.duration import seconds
from torpor.base.errors import DurationRefused, TorporError, UsageError
from torpor.gateways.cli.options import Json, Why, moment
from torpor.gateways.cli.progress import CountWatch, MoveWatch
from torpor.gateways.cli.show import (
    EXIT_CODES,
    FAILED,
    MISUSED,
    WITH_ERRORS,
    complain,
    errors_shown,
    say,
    say_json,
    when,
)
from torpor.gateways.cli.tables import size, some_of
from torpor.service import LostView, ReturnedView, Service

_EVENT: Final = re.compile(r"#?(\d{1,18})", re.ASCII)

_AT: Final = (
    "As it was then, not as new as it can be: a whole number such as 120 or #120 means after that event; else a time,"
    " ISO 8601, UTC unless it says otherwise; or a duration such as 2h, so long ago."
)


def add(app: typer.Typer, service: Service) -> None:
    """Add the command to the command line."""

    @app.command(
        epilog="Examples: torpor restore ada · torpor restore ada --at 120 · torpor restore ada bob --at 2h · "
        "torpor restore ada --at 2027-03-01T18:00Z --from s3://my-bucket/replica · "
        "torpor --home /srv/agents restore --all --from s3://my-bucket/replica\n\n" + EXIT_CODES
    )
    def restore(
        names: Annotated[
            list[str] | None,
            typer.Argument(
                metavar="NAME", help="The agents; when one fails, the others are restored.", show_default=False
            ),
        ] = None,
        everybody: Annotated[  # noqa: FBT002
            bool, typer.Option("--all", help="The whole home, which is lost: all of it comes into a new folder.")
        ] = False,
        at: Annotated[str | None, typer.Option(metavar="TIME|SEQ", help=_AT, show_default=False)] = None,
        source: Annotated[
            str | None,
            typer.Option(
                "--from", metavar="URL", help="The replica; --replica of `torpor` unless given.", show_default=False
            ),
        ] = None,
        why: Why = "asked",
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """Bring agents back from the replica, verified; with --all, a whole home that was lost.

        The file that an agent has is never destroyed: it goes into the home's folder `replaced`. An agent that somebody
        uses is left alone. With --all, who can't be brought back keeps no other from coming back; it ends with 3.
        """
        if everybody == bool(names):
            reason = "--all is for everybody" if names else "name an agent, or say --all for a whole home that was lost"
            raise typer.BadParameter(reason, param_hint="NAME")
        if source == "":
            raise typer.BadParameter("it is empty", param_hint="--from")
        if names is None or everybody:
            if at is not None:
                raise typer.BadParameter("a whole home comes back as new as it can be", param_hint="--at")
            _restore_all(service, source, as_json=as_json)
            return
        _restore_some(service, names, at, source, why, as_json=as_json)


def past_point(text: str, option: str) -> int | datetime | timedelta:
    """Return what a text means of an agent's past: an event's number, a time, or how long ago.

    Raises:
        typer.BadParameter: it means nothing of that.

    """
    if event := _EVENT.fullmatch(text.strip()):
        return int(event[1])
    try:
        return timedelta(seconds=seconds(text.strip().removeprefix("-")))
    except (DurationRefused, OverflowError):
        at = moment(text, option)
        return at if isinstance(at, datetime) else -at  # "+2h" is ahead: as new as it can be


def _restore_some(
    service: Service, names: Sequence[str], at: str | None, source: str | None, why: str, *, as_json: bool
) -> None:
    """Restore agents, each also when another's failed.

    Raises:
        typer.Exit: some failed; with the code for misuse where nothing but misuse came of it.

    """
    point = None if at is None else past_point(at, "--at")
    errors: list[TorporError] = []
    asked = list(dict.fromkeys(names))
    with errors_shown(as_json=as_json):
        for name in asked:
            try:
                with MoveWatch(name, quiet=as_json) as watch:
                    found = service.heartbeat.restore(name, at=point, source=source, why=why, watch=watch)
            except TorporError as error:
                complain(error.message, error.next_step, error.code, as_json=as_json)
                errors.append(error)
            else:
                _show(found, as_json=as_json)
    if errors:
        misused = len(errors) == len(asked) and all(isinstance(error, UsageError) for error in errors)
        raise typer.Exit(MISUSED if misused else FAILED)


def _show(found: ReturnedView, *, as_json: bool) -> None:
    if as_json:
        say_json(found)
        return
    then = f" of {when(found.time)} UTC" if found.time else ""
    what = f"restored, {found.after}, as of event {found.seq}{then}"
    if found.skipped:
        what = f"nothing to replace: {found.skipped}; {found.after}, as of event {found.seq}{then}"
    say(f"{found.name}: {what}, {size(found.bytes)} in {found.ms:.1f} ms; verified")
    if found.replaced:
        say(f"    the file that was there is {found.replaced}")
    if found.lost:
        say(f"    {some_of(found.lost, 'event')} that the home knew of are not in the replica")
    if not found.complete:
        say(f"    that is not all there was: {found.reason}")


def _restore_all(service: Service, source: str | None, *, as_json: bool) -> None:
    with errors_shown(as_json=as_json), CountWatch("Bringing the home back", quiet=as_json) as watch:
        found = service.heartbeat.restore_all(source, watch=watch)
    if as_json:
        say_json(found)
    else:
        _show_all(found)
    if found.failed:
        raise typer.Exit(WITH_ERRORS)


def _show_all(found: LostView) -> None:
    templates = f" and {some_of(found.templates, 'template')}" if found.templates else ""
    say(
        f"{found.path}: {some_of(found.agents, 'agent')}{templates} restored and verified,"
        f" {size(found.bytes)} in {found.ms / 1000:.1f} s"
    )
    say(f"    as of {when(found.until)} UTC, from {found.replica}")
    if found.elsewhere:
        say(f"    {some_of(found.elsewhere, 'agent')} in stores of their own, as they were")
    if found.deleted:
        say(f"    {some_of(found.deleted, 'agent')} deleted before")
    for told in found.incomplete:
        say(f"    {told.source}: not all there was: {told.message}")
    for told in found.failed:
        complain(f"{told.source}: {told.message}", told.next_step, told.code)
