"""`torpor heartbeat status` and `drill`."""

from __future__ import annotations

from typing import Annotated

import typer

from torpor.gateways.cli.options import Json
from torpor.gateways.cli.show import EXIT_CODES, WITH_ERRORS, errors_shown, say, say_json, when
from torpor.gateways.cli.tables import say_table, size, some_of
from torpor.service import DrillView, HeartbeatView, Service


def add(app: typer.Typer, service: Service) -> None:
    """Add the commands to the command line."""
    heartbeat = typer.Typer(
        no_args_is_help=True,
        help="See how the home's heartbeat is, and whether its replica is good.",
        epilog="Example: torpor heartbeat status\n\n" + EXIT_CODES,
    )
    app.add_typer(heartbeat, name="heartbeat")
    _add_status(heartbeat, service)
    _add_drill(heartbeat, service)


def _add_status(heartbeat: typer.Typer, service: Service) -> None:
    @heartbeat.command(
        epilog="Examples: torpor heartbeat status · torpor heartbeat status --json | jq .lag_seconds\n\n" + EXIT_CODES
    )
    def status(as_json: Json = False) -> None:  # noqa: FBT002
        """Show how far the replica is behind, how much of the disk the log takes, and how the last drill went.

        It asks nobody and begins nothing: it shows what the process that has the heartbeat has last written down.
        """
        with errors_shown(as_json=as_json):
            found = service.heartbeat.status()
        if as_json:
            say_json(found)
        else:
            _show(found)


def _show(found: HeartbeatView) -> None:
    at = "" if found.running else f", as of {when(found.time)} UTC"
    rows = [
        ("heartbeat", f"running, process {found.pid}" if found.running else f"not running{at}"),
        ("durability", found.durability),
        ("replica", f"{found.replica} ({found.state})" if found.replica else "none"),
    ]
    if found.replica:
        behind = f"{some_of(found.lag_records, 'record')}, {size(found.lag_bytes)}, {found.lag_seconds:.1f} s"
        rows += [
            ("lag", behind if found.lag_records else "none"),
            ("not in it yet", some_of(found.wanting, "agent") if found.wanting else "nobody"),
        ]
    rows.append(("log", f"{size(found.backlog)} of at most {size(found.backlog_max)}"))
    rows.append(("awake", some_of(found.awake, "agent")))
    rows.append(("last drill", _drill_in_words(found.drill) if found.drill is not None else "none"))
    if found.error:
        rows.append(("error", found.error))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        say(f"{name:{width}}  {value}")
    if found.quarantined:
        say()
        say("Quarantined; `torpor restore NAME` brings them back:")
        say_table(("NAME", "REASON"), [(one.name, one.reason) for one in found.quarantined])


def _drill_in_words(drill: DrillView) -> str:
    bad = [one.name for one in drill.agents if not one.ok]
    how = f"{', '.join(bad)} did not come back as they are" if bad else "all as they are"
    return f"{when(drill.time)} UTC, {some_of(len(drill.agents), 'agent')}, {how}"


def _add_drill(heartbeat: typer.Typer, service: Service) -> None:
    @heartbeat.command(
        epilog="Examples: torpor heartbeat drill · torpor heartbeat drill --count 20 --json\n\n" + EXIT_CODES
    )
    def drill(
        count: Annotated[
            int | None, typer.Option(min=1, max=1_000_000, help="How many; 3 unless given.", show_default=False)
        ] = None,
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """Restore a few agents from the replica, chosen by chance, and compare them with the living.

        Nothing of them is changed. It ends with 3 where one doesn't come back as it is; a new snapshot of it is taken.
        """
        with errors_shown(as_json=as_json):
            done = service.heartbeat.drill(count)
        if as_json:
            say_json(done)
        elif not done.agents:
            say("Nobody is in the replica yet.")
        else:
            rows = [
                (
                    one.name,
                    "as it is" if one.ok else "NOT AS IT IS",
                    str(one.txn),
                    f"{one.ms:.1f} ms",
                    one.reason or "-",
                )
                for one in done.agents
            ]
            say_table(("NAME", "RESTORED", "TRANSACTION", "TOOK", "WHY NOT"), rows, right=("TRANSACTION", "TOOK"))
        if not all(one.ok for one in done.agents):
            raise typer.Exit(WITH_ERRORS)
