"""`torpor brief`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import anyio
import typer

from torpor.gateways.cli.progress import Watch
from torpor.gateways.cli.show import EXIT_CODES, WITH_ERRORS, errors_shown, say, say_json
from torpor.service import Briefed, BriefRequest, Service

_EPILOG = (
    "Examples: torpor brief https://example.org/feed.xml --workbook ada.workbook --out briefings · "
    'torpor brief a.xml b.xml --workbook ada --interest "durable systems" · '
    "torpor brief feed.xml --json | jq .new\n\n" + EXIT_CODES
)

_Agent = Annotated[
    str,
    typer.Option(
        "--workbook",
        "-w",
        metavar="NAME|FILE",
        help="The agent's name, which wakes it; or its file, made where there is none.",
    ),
]


def add(app: typer.Typer, service: Service) -> None:
    """Add the command to the command line."""

    @app.command(epilog=_EPILOG)
    def brief(  # noqa: PLR0913, PLR0917  (one parameter an option)
        sources: Annotated[
            list[str],
            typer.Argument(help="RSS, Atom or JSON feeds: http(s) addresses or files.", show_default=False),
        ],
        workbook: _Agent = "briefing.workbook",
        out: Annotated[
            Path, typer.Option("--out", "-o", help="The folder for the briefing's Markdown and HTML.")
        ] = Path("briefings"),
        interest: Annotated[
            str | None,
            typer.Option(help="What to look for; the agent's own interests unless given.", show_default=False),
        ] = None,
        keep_interest: Annotated[  # noqa: FBT002
            bool, typer.Option("--keep-interest", help="Make --interest the agent's own.")
        ] = False,
        count: Annotated[int, typer.Option(min=0, max=1000, help="Summarise at most so many items.")] = 10,
        model: Annotated[
            str,
            typer.Option(
                envvar="TORPOR_MODEL",
                help="local (needs no key and no network), or openai:NAME for an OpenAI-compatible server"
                " (TORPOR_MODEL_URL, TORPOR_MODEL_KEY, TORPOR_EMBEDDING_MODEL).",
            ),
        ] = "local",
        as_json: Annotated[  # noqa: FBT002
            bool, typer.Option("--json", help="Print one JSON object, and no progress.")
        ] = False,
    ) -> None:
        """Read feeds and deliver a briefing of what is new, exactly once.

        Interrupted, even by kill -9, the same command goes on where it was. What was read before is remembered in
        the workbook and left out.
        """
        if keep_interest and interest is None:
            raise typer.BadParameter("there is no --interest to keep", param_hint="--keep-interest")
        request = BriefRequest(
            workbook=workbook,
            sources=sources,
            out=str(out),
            interest=interest,
            keep_interest=keep_interest,
            count=count,
            model=model,
        )
        with errors_shown(as_json=as_json), Watch(quiet=as_json) as watch:
            briefed = anyio.run(service.brief, request, watch)
        if as_json:
            say_json(briefed)
        else:
            _show(briefed)
        if briefed.problems:
            raise typer.Exit(WITH_ERRORS)


def _show(briefed: Briefed) -> None:
    for run in briefed.others_resumed:
        say(f"Finished run {run}, which was interrupted before.")
    if briefed.resumed:
        say("Resumed the interrupted run.")
    counts = f"{briefed.new} new, {briefed.already_read} already read"
    if briefed.delivered:
        say(f"{counts}.")
    else:
        say(
            f"{counts}: nothing to deliver." if briefed.problems else f"{counts}: nothing to deliver, and that is fine."
        )
    for place, choice in enumerate(briefed.chosen, 1):
        say(f"{place:3}. {choice.title}")
    for note in briefed.notes:
        say(f"note: {note.source}: {note.message}")
    for problem in briefed.problems:
        say(f"problem: {problem.message} {problem.next_step}".rstrip())
    for path in briefed.delivered:
        say(f"Delivered {path}")
    say(f"Run {briefed.run} {briefed.status}.")
