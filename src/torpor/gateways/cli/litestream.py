"""`torpor litestream replicate`, `stop`, `restore`, `status`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from types import FrameType
from typing import Annotated

import typer

from torpor.base.errors import LitestreamFailed
from torpor.gateways.cli.options import File, Json, moment
from torpor.gateways.cli.show import EXIT_CODES, complain, errors_shown, say, say_json, when
from torpor.gateways.cli.tables import size
from torpor.service import ReplicationView, Sent, SentTrouble, Service

Url = Annotated[
    str,
    typer.Argument(
        metavar="URL",
        help="One place for one workbook: file:///folder, s3://bucket/folder, gs://… or az://….",
        show_default=False,
    ),
]


def add(app: typer.Typer, service: Service) -> None:
    """Add the commands to the command line."""
    litestream = typer.Typer(
        no_args_is_help=True,
        help="Have Litestream copy one workbook elsewhere, as it changes, and bring it back.",
        epilog="Example: torpor litestream replicate ada s3://my-bucket/ada\n\n" + EXIT_CODES,
    )
    app.add_typer(litestream, name="litestream")
    _add_replicate(litestream, service)
    _add_stop(litestream, service)
    _add_restore(litestream, service)
    _add_status(litestream, service)


def _add_replicate(litestream: typer.Typer, service: Service) -> None:
    @litestream.command(
        epilog="Examples: torpor litestream replicate ada s3://my-bucket/ada · "
        "torpor litestream replicate ada.workbook file:///srv/replicas/ada\n\n" + EXIT_CODES
    )
    def replicate(workbook: File, url: Url, as_json: Json = False) -> None:  # noqa: FBT002
        """Replicate a workbook, which may be in use, until Ctrl-C or `torpor litestream stop`.

        Litestream ends with this command, however that ends. Meanwhile the agent can't be suspended, frozen or deleted.
        """
        watch = _Watch(as_json=as_json)
        with errors_shown(as_json=as_json), _ended_like_ctrl_c():
            view = service.litestream.replicate(workbook, url, begun=watch.begun, watch=watch)
        if as_json:
            say_json(view)
        else:
            say(f"{workbook}: stopped; {_how_far(view)}")


class _Watch:
    """Shows what is sent: a line for each on a terminal, troubles anywhere, objects where a machine reads."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._draws = not as_json and sys.stderr.isatty()

    def begun(self, view: ReplicationView) -> None:
        if self._as_json:
            say_json(view)
        else:
            say(f"{view.workbook}: replicated to {view.url} by {view.program}, process {view.litestream}")
        sys.stdout.flush()

    def __call__(self, told: Sent | SentTrouble) -> None:
        if isinstance(told, SentTrouble):
            error = LitestreamFailed(what="send anything just now", reason=told.text)
            complain(error.message, "It goes on trying.", error.code, as_json=self._as_json)
        elif self._as_json:
            say_json(told)
        elif self._draws:
            typer.echo(f"  sent {told.what}: {size(told.bytes)}", err=True)


@contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """Have SIGTERM end the block as Ctrl-C does, so that what is left is sent."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _add_stop(litestream: typer.Typer, service: Service) -> None:
    @litestream.command(
        epilog="Examples: torpor litestream stop ada · torpor litestream stop ada.workbook --json\n\n" + EXIT_CODES
    )
    def stop(workbook: File, as_json: Json = False) -> None:  # noqa: FBT002
        """End the replication of a workbook, whoever runs it, after it has sent what is left."""
        with errors_shown(as_json=as_json):
            view = service.litestream.stop(workbook)
        if as_json:
            say_json(view)
        else:
            say(f"{workbook}: stopped; {_how_far(view)}")


def _add_restore(litestream: typer.Typer, service: Service) -> None:
    @litestream.command(
        epilog="Examples: torpor litestream restore s3://my-bucket/ada ada-back.workbook · "
        "torpor litestream restore file:///srv/replicas/ada ada-back.workbook --at 2027-03-01T18:00Z\n\n" + EXIT_CODES
    )
    def restore(
        url: Url,
        file: Annotated[str, typer.Argument(metavar="FILE", help="Where to; a new name.", show_default=False)],
        at: Annotated[
            str | None,
            typer.Option(
                metavar="TIME",
                help="As it was then: ISO 8601, UTC unless it says otherwise, to the second; the newest unless given.",
                show_default=False,
            ),
        ] = None,
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """Bring a workbook back to a new file, which is verified before it has its name."""
        moment_at = None if at is None else moment(at, "--at")
        if moment_at is not None and not isinstance(moment_at, datetime):
            raise typer.BadParameter(f"{at!r} is no time such as 2027-03-01T18:00Z", param_hint="--at")
        with errors_shown(as_json=as_json):
            restored = service.litestream.restore(url, file, at=moment_at)
        if as_json:
            say_json(restored)
        else:
            say(
                f"{restored.path}: agent {restored.agent}, up to event {restored.seq}, {size(restored.bytes)}; verified"
            )


def _add_status(litestream: typer.Typer, service: Service) -> None:
    @litestream.command(
        epilog="Examples: torpor litestream status ada · torpor litestream status ada.workbook --json\n\n" + EXIT_CODES
    )
    def status(workbook: File, as_json: Json = False) -> None:  # noqa: FBT002
        """Show by which process a workbook is replicated, to where, and how far it is; exits with 1 if it isn't."""
        with errors_shown(as_json=as_json):
            view = service.litestream.status(workbook)
        if as_json:
            say_json(view)
            return
        say(f"{workbook}: replicated to {view.url} since {when(view.since)} UTC")
        say(f"    by {view.program}, process {view.litestream}, owned by process {view.pid}")
        say(f"    {_how_far(view)}")
        if view.trouble:
            say(f"    since then: {view.trouble}")


def _how_far(view: ReplicationView) -> str:
    if view.last is None:
        return "nothing was sent yet"
    return f"{size(view.sent)} sent, last at {when(view.last)} UTC"
