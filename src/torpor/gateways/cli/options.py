"""What several commands take in the same words, and how such words are read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated, Final

import typer

from torpor.base.duration import seconds
from torpor.base.errors import DurationRefused

File = Annotated[
    str, typer.Argument(metavar="NAME|FILE", help="An agent's name, or a workbook's file.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The agent.", show_default=False)]
Names = Annotated[
    list[str],
    typer.Argument(metavar="NAME", help="The agents; when one fails, the others are moved.", show_default=False),
]
Why = Annotated[str, typer.Option(help="The reason, for the agent's history.")]
SuspendAfter = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="Suspend it when it was idle for so long, such as 30s, 15m, 12h or 7d; 15m unless given.",
        show_default=False,
    ),
]
FreezeAfter = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="Freeze it, once suspended, when it was idle for so long; 24h unless given.",
        show_default=False,
    ),
]

HomeFolder = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="The folder in which agents are kept; TORPOR_HOME, or else the platform's folder for data, unless given."
        " This option and the next four may stand behind the command too.",
        show_default=False,
    ),
]
ColdStore = Annotated[
    str | None,
    typer.Option(
        metavar="STORE",
        help="Where frozen agents go: a folder's name within the home, or an address such as file:///srv/cold or"
        " s3://bucket/folder; TORPOR_COLD, or else cold, unless given.",
        show_default=False,
    ),
]
ArchiveStore = Annotated[
    str | None,
    typer.Option(
        metavar="STORE",
        help="Where archived agents go; TORPOR_ARCHIVE, or else archive, unless given.",
        show_default=False,
    ),
]

DurabilityClass = Annotated[
    str | None,
    typer.Option(
        metavar="CLASS",
        help="What a commit survives once it is acknowledged: file or heartbeat, a power cut; replicated, the loss of"
        " the machine. TORPOR_DURABILITY, or else heartbeat where there is a replica and file where there is none,"
        " unless given.",
        show_default=False,
    ),
]
ReplicaStore = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Where the heartbeat copies all commits, each second: file:///srv/replica, s3://bucket/folder, gs://… or"
        " az://…; TORPOR_REPLICA unless given.",
        show_default=False,
    ),
]

ANYWHERE: Final = ("--home", "--cold", "--archive", "--durability", "--replica")
"""Options of `torpor` itself that may stand behind a command as well."""

_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9999, 1, 1, tzinfo=UTC)
_AHEAD_MAX_S: Final = 100 * 365.25 * 86_400


def gathered(words: Sequence[str]) -> list[str]:
    """Return a command line with the options that may stand anywhere moved to its front; what is behind -- stays."""
    front: list[str] = []
    rest: list[str] = []
    left = iter(words)
    for word in left:
        if word == "--":
            rest += [word, *left]
        elif word in ANYWHERE:
            front += [word, *islice(left, 1)]
        elif word.partition("=")[0] in ANYWHERE:
            front.append(word)
        else:
            rest.append(word)
    return front + rest


def command_in(words: Sequence[str]) -> str | None:
    """Return the command that a command line begins with; None where it has none."""
    left = iter(gathered(words))
    for word in left:
        if word in ANYWHERE:
            next(left, None)
        elif not word.startswith("-"):
            return word
    return None


def moment(text: str, option: str) -> datetime | timedelta:
    """Return the time, or the time from now, that a text means.

    Args:
        text: ISO 8601, UTC unless it says otherwise, or a duration such as "2h" or "+2h".
        option: whose text it is.

    Raises:
        typer.BadParameter: it means none, or one before 1970 or too far ahead.

    """
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        return timedelta(seconds=_ahead(text, option))
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    if not _FIRST <= at < _LAST:
        raise typer.BadParameter(f"{text!r} is not between 1970 and 9998", param_hint=option)
    return at


def _ahead(text: str, option: str) -> float:
    try:
        ahead_s = seconds(text.strip().removeprefix("+"))
    except DurationRefused as error:
        reason = f"{text!r} is neither a time such as 2027-03-01T18:00Z nor a duration such as 2h"
        raise typer.BadParameter(reason, param_hint=option) from error
    if ahead_s > _AHEAD_MAX_S:
        raise typer.BadParameter(f"{text!r} is more than a century", param_hint=option)
    return ahead_s
