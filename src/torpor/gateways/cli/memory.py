"""`torpor memory`."""

from __future__ import annotations

from typing import Annotated

import typer

from torpor.gateways.cli.options import File, Json
from torpor.gateways.cli.show import EXIT_CODES, errors_shown, say, say_json
from torpor.service import Service


def add(app: typer.Typer, service: Service) -> None:
    """Add the commands to the command line."""
    memory = typer.Typer(
        no_args_is_help=True,
        help="Look into what an agent remembers.",
        epilog="Example: torpor memory search ada.workbook write ahead log\n\n" + EXIT_CODES,
    )
    app.add_typer(memory, name="memory")

    @memory.callback()
    def group() -> None:
        """Look into what an agent remembers."""

    @memory.command(
        epilog="Examples: torpor memory search ada write ahead log · "
        "torpor memory search ada.workbook sqlite --kind article --json\n\n" + EXIT_CODES
    )
    def search(
        file: File,
        words: Annotated[
            list[str], typer.Argument(help="Words that an entry must have, all of them.", show_default=False)
        ],
        kind: Annotated[str | None, typer.Option(help="Only entries of this kind.", show_default=False)] = None,
        limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 10,
        as_json: Json = False,  # noqa: FBT002
    ) -> None:
        """Find entries by their words, best first."""
        with errors_shown(as_json=as_json):
            found = service.search_memory(file, " ".join(words), kind=kind, limit=limit)
        for entry in found:
            if as_json:
                say_json(entry)
            else:
                title = entry.content.partition("\n")[0][:100]
                say(f"{entry.score:7.3f}  {entry.kind:8} {title}")
                if entry.source:
                    say(f"                  {entry.source}")
        if not found and not as_json:
            say("Nothing has all these words.")
