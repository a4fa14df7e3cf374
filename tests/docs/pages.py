"""The reference pages, as the code itself has them: `python -m tests.docs.pages` writes them anew."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_origin

import msgspec
import typer
from tests.docs.blocks import ROOT

import torpor
import torpor.home
import torpor.ledger
import torpor.lifecycle
import torpor.testing
import torpor.workbook
from torpor.base import errors
from torpor.base.clock import SystemClock
from torpor.gateways.cli import build
from torpor.gateways.cli.show import EXIT_CODES
from torpor.main import Settings
from torpor.models import Local
from torpor.runtime.local import AgentFiles, AgentMemory, AgentSpend
from torpor.service import Service

COMMAND = "python -m tests.docs.pages"
NOTE = f"<!-- Written by `{COMMAND}` from the code. Change the code, then run that. -->\n"


@dataclasses.dataclass(frozen=True)
class Page:
    """A page that is made from the code."""

    path: Path
    text: Callable[[], str]


# --- errors -------------------------------------------------------------------------------------------------------


def all_errors() -> list[type[errors.TorporError]]:
    """Return every error class, by its code; those without a code of their own come last."""

    def below(error: type[errors.TorporError]) -> Iterator[type[errors.TorporError]]:
        for child in error.__subclasses__():
            if child.__module__ == errors.__name__:
                yield child
                yield from below(child)

    return sorted(below(errors.TorporError), key=lambda error: ("code" not in vars(error), error.code))


_FAMILIES = {
    "0": ("Bugs", "The run stops; nothing more is written."),
    "1": (
        "The call was wrong",
        """Nothing was touched. All of them are a `UsageError`; the command line exits with 2.
A wrong option or argument of a command is `TOR-100`.""",
    ),
    "2": ("The file", "All of them are a `WorkbookError`. What was acknowledged before is safe."),
    "3": ("Runs", "All of them are a `RunError`, about one handling of a message."),
    "4": ("Sources", "All of them are a `SourceError`, about one feed; the other feeds are not affected."),
    "5": ("Models", "All of them are a `ModelError`."),
    "6": ("Delivery", "The briefing is made and recorded; only its last step is open."),
    "7": (
        "Homes",
        """All of them are a `HomeError`, about an agent as a whole or about where agents are kept. A move that ends
with one leaves the agent whole and, unless the ledger failed in the midst of its commit, where it was. What the move
had begun is removed at once, or at the next start.""",
    ),
    "8": (
        "The heartbeat, its replica, and Litestream",
        """A `HeartbeatError` is about the home's log, a `ReplicaError` about its copy in a store, an `ObjectError`
about one object there, a `LitestreamError` about the program of that name.""",
    ),
    "9": (
        "The node",
        """What the running process refuses, or can't do just now. An `AccessError` is about who may do what: it was
refused, or can't be told, and nothing was done.""",
    ),
}


def errors_page() -> str:
    """Return the page of errors."""
    lines = [
        NOTE,
        "# Errors",
        "",
        "Every error that Torpor raises on purpose is a `torpor.TorporError`. It has a stable code, typed fields, a",
        "`message` that says what happened, and a `next_step`. The command line prints both. With `--json` it prints",
        '`{"error": {"code", "message", "next_step"}}` on standard error. Read the class or the fields in a program,',
        "never the text. Words in braces below are fields.",
    ]
    family = ""
    for error in all_errors():
        if "code" not in vars(error):
            continue
        if error.code[4] != family:
            family = error.code[4]
            title, about = _FAMILIES[family]
            lines += ["", f"## {title}", "", about]
        fields = ", ".join(f"`{name}`" for name in error.names)
        lines += [
            "",
            f"### {error.code} {error.__name__}",
            "",
            f"{first_line(error)}",
            "",
            f"- Message: {_inert(error.says)}",
            f"- Next step: {_inert(error.hint)}",
            f"- Fields: {fields or 'none'}",
        ]
    return _wrapped(lines)


def _inert(text: str) -> str:
    """Return a text in which Markdown sees nothing of its own, but for code."""
    parts = text.split("`")
    parts[::2] = [part.replace("_", r"\_").replace("<", r"\<").replace("*", r"\*") for part in parts[::2]]
    return "`".join(parts)


# --- the command line ---------------------------------------------------------------------------------------------


def commands() -> list[tuple[str, Any]]:
    """Return every command with its words: ("torpor files ls", …)."""
    app = typer.main.get_command(build(Service(lambda _name: Local(), SystemClock())))

    def below(path: str, command: Any) -> Iterator[tuple[str, Any]]:
        yield path, command
        for name, child in getattr(command, "commands", {}).items():
            yield from below(f"{path} {name}", child)

    return list(below("torpor", app))


_CLI_HEAD = """\
# The command line

Results go to standard output; progress and errors go to standard error. With `--json` a command prints JSON and no
progress, one object a line, and an error is one JSON object on standard error. `torpor COMMAND --help` says the same
as this page. A `VOLUME:/PATH` names a place in a workbook, such as `memory:/notes/today.txt`; the volumes are
`workspace`, `memory` and `tmp`.

## Names and files

A `NAME|FILE` is an agent's name or a workbook's file. A word with a dot or a slash is a file. Any other word is an
agent's name if the home has an agent of that name, else a file if there is one, else an error: `ada` is an agent,
`ada.workbook` and `./ada` are files.

Commands that only look (`events`, `verify`, `runs`, `files ls`, `files cat`, `files get`, `memory search`, `diff`) open
the workbook read-only, so they work beside its owner, and wake no agent. `fork`, `export` and `template create` don't
wake or stop the agent that they copy either. The others (`brief`, `settle`, `cancel`, `files put`, `rewind`) must own
the workbook, and wake an agent that sleeps.

A move of several agents (`torpor suspend ada bob`) goes on where one fails, says each, and then exits with 1, or with 2
where all of it was wrong usage.

The home is made by the first command that needs one, `new` or `import`; looking never makes one. `--home`, `--cold`,
`--archive`, `--durability` and `--replica` may stand before or behind the command.

## Exit codes

| code | meaning |
|---|---|
{codes}

After 3, `torpor tick` has moved all agents but those that it names, and `torpor restore --all` has restored all but
those. After 4, see
[how to settle an unknown outcome](../howto/settle-an-unknown-outcome.md).

## Settings of the environment

Settings are read once, when the command starts. There is no configuration file.

| variable | default | meaning |
|---|---|---|
| `TORPOR_MODEL` | `local` | the model of `torpor brief`, as for `--model` |
{settings}

Stores in S3 also have the [variables of S3](../howto/move-an-agent.md#s3).
"""


def cli_page() -> str:
    """Return the page of the command line."""
    about = _attributes(Settings)
    rows = []
    for field in msgspec.structs.fields(Settings):
        variable = f"TORPOR_{field.name.upper()}"
        text = about[field.name].removeprefix(variable).lstrip(", ").rstrip(".")
        rows.append(f"| `{variable}` | {f'`{field.default}`' if field.default else 'none'} | {text} |")
    codes = [code.partition(" ") for code in EXIT_CODES.removeprefix("Exit codes: ").rstrip(".").split(" · ")]
    head = _CLI_HEAD.format(
        settings="\n".join(rows), codes="\n".join(f"| {code} | {meaning} |" for code, _, meaning in codes)
    )
    lines = [NOTE, *head.rstrip().splitlines()]
    for path, command in commands():
        lines += ["", f"## {path}", "", " ".join((command.help or "").split())]
        examples, _, _ = (command.epilog or "").partition("\n\n")
        if examples.startswith("Example"):
            texts = examples.partition(": ")[2].split(" · ")
            lines += ["", "```text", *texts, "```"]
        table = [row for parameter in command.params for row in _parameter(parameter)]
        if table:
            lines += ["", "| argument or option | default | meaning |", "|---|---|---|", *table]
        children = list(getattr(command, "commands", {}))
        if children:
            lines += ["", "Commands: " + ", ".join(f"`{child}`" for child in children) + "."]
    return _wrapped(lines)


def _parameter(parameter: Any) -> Iterator[str]:
    if parameter.name == "help" or getattr(parameter, "hidden", False):
        return
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    is_option = parameter.opts[0].startswith("-")
    if not is_option:
        names = parameter.metavar or parameter.name.upper()
        names += "…" if parameter.nargs == -1 else ""
    default = "required" if parameter.required else _default(parameter.default)
    names = names.replace("|", r"\|")  # a bar in a table's cell, even as code
    yield f"| `{names}` | {default} | {(parameter.help or '').replace('|', '&#124;')} |"


def _default(value: Any) -> str:
    if value is None or value is False or value == "":
        return ""
    return f"`{value.value if isinstance(value, enum.Enum) else value}`"


# --- the public names ---------------------------------------------------------------------------------------------

_SHOWN: dict[Any, tuple[str, ...]] = {
    torpor.Run: ("attempt", "cancel"),
    torpor.home.Templates: ("clone", "create", "drop"),
    torpor.ledger.Ledger: ("agent", "agents", "children", "history"),
    torpor.ledger.Templates: ("all", "get"),
    torpor.workbook.Past: ("horizon", "line", "point", "state"),
}
"""Of these classes, only what is meant for others than the runtime and the home."""

_HIDDEN: dict[Any, tuple[str, ...]] = {
    torpor.workbook.Journal: ("upcoming",),
    torpor.workbook.Memory: ("restore", "retire"),
}
"""Of these classes, what is meant for the rest of their room."""

_NAMED: dict[ModuleType, tuple[str, ...]] = {
    torpor.ledger: ("AgentRecord", "Ledger", "MoveRecord", "TemplateRecord", "Templates"),
    torpor.lifecycle: ("LADDER", "Ladder", "State"),
}
"""Of these rooms, only what comes and goes through a home."""

_INNER: dict[ModuleType, frozenset[str]] = {torpor.workbook: frozenset({"adopt", "create", "is_sealed", "seal"})}
"""Of these rooms, what is meant for the home alone."""

ROOMS: dict[ModuleType, str] = {
    torpor: "What people who write agents need. `import torpor` loads each name when it is first used.",
    torpor.workbook: "The file and its parts. `Workbook`, `Event` and `Embedding` are in `torpor` too.",
    torpor.home: (
        "A folder of agents, and their moves. `Home` is in `torpor` too. See "
        "[how to keep many agents](../howto/keep-many-agents.md)."
    ),
    torpor.ledger: (
        "What `home.ledger` knows and answers; `home.ledger.templates` are its `Templates`. The home alone writes it."
    ),
    torpor.lifecycle: "The thresholds that `Home.open` takes.",
    torpor.testing: "For tests of code that uses Torpor. See [how to test](../howto/test-your-agent.md).",
}


OWN = {"memory": AgentMemory, "files": AgentFiles, "spend": AgentSpend}
"""What an agent's code uses through itself."""

_OWN = (
    "Within a run each call is recorded together with its change, once. Outside a run it goes straight to the workbook."
)


def api_page() -> str:
    """Return the page of public names."""
    lines = [
        NOTE,
        "# Public names",
        "",
        "One line each; the docstring (`help(torpor.Workbook)`) has arguments, units and errors. Everything that is",
        "not on this page may change without notice. Times are microseconds since 1970-01-01 UTC.",
    ]
    for room, about in ROOMS.items():
        lines += ["", f"## {room.__name__}", "", about]
        for name in public(room):
            lines += ["", *_name_lines(room, name)]
        if room is torpor:
            lines += ["", "## What an agent has", "", _OWN]
            for name, class_ in OWN.items():
                listed = [f"- `{_call(member, method)}`: {first_line(method)}" for member, method in members(class_)]
                lines += ["", f"**`self.{name}`**: {first_line(class_)}", "", *listed]
    return _wrapped(lines)


def public(room: ModuleType) -> tuple[str, ...]:
    """Return the names of a room that are for everybody."""
    names: list[str] = vars(room)["__all__"]
    return _NAMED.get(room, tuple(name for name in names if name not in _INNER.get(room, ())))


def _name_lines(room: ModuleType, name: str) -> list[str]:
    value = getattr(room, name)
    if room is not torpor and name in torpor.__all__:
        return [f"**`{name}`** is `torpor.{name}`."]
    if inspect.isclass(value):
        head = [f"**`{name}`**: {first_line(value)}"]
        fields = getattr(value, "__struct_fields__", ())
        if dataclasses.is_dataclass(value):
            fields = tuple(field.name for field in dataclasses.fields(value))
        fields = tuple(field for field in fields if not field.startswith("_"))
        if fields:
            head += ["", "Fields: " + ", ".join(f"`{field}`" for field in fields) + "."]
        elif about := _attributes(value):
            head += [
                "",
                "Attributes: " + "; ".join(f"`{name}`, {text.rstrip('.')}" for name, text in about.items()) + ".",
            ]
        listed = [
            f"- `{_call(member, method)}`: {first_line(method)}"
            for member, method in members(value)
            if member in _SHOWN.get(value, (member,)) and member not in _HIDDEN.get(value, ())
        ]
        return [*head, "", *listed] if listed else head
    if inspect.isfunction(value) or hasattr(value, "__wrapped__"):
        return [f"**`{_call(name, value)}`**: {first_line(value)}"]
    if isinstance(value, torpor.workbook.Durability):
        return [f"**`{name}`**: the durability class `{value.name}`, the default."]
    if get_origin(value) is Callable:
        taken = ", ".join(part.__name__ for part in get_args(value)[0])
        return [f"**`{name}`**: a function that takes `{taken}`."]
    parts = value if isinstance(value, tuple) else get_args(value)
    shown = ", ".join(f"`{part}`" for part in parts) if parts else f"`{value!r}`"
    return [f"**`{name}`**: {shown}"]


def members(class_: Any) -> list[tuple[str, Any]]:
    """Return the public methods and properties that a class of ours defines or inherits from one of ours."""
    if not inspect.isclass(class_):
        return []
    found = {}
    for owner in reversed(class_.__mro__):
        if not owner.__module__.startswith("torpor.") or owner.__module__ == errors.__name__:
            continue
        for name, value in vars(owner).items():
            plain = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            if not name.startswith("_") and (inspect.isfunction(plain) or isinstance(plain, property)):
                found[name] = plain
    return sorted(found.items())


def _call(name: str, value: Any) -> str:
    if isinstance(value, property):
        return name
    parameters = [
        parameter for parameter in inspect.signature(value).parameters.values() if parameter.name not in ("self", "cls")
    ]
    words: list[str] = []
    for place, parameter in enumerate(parameters):
        before = parameters[place - 1].kind if place else None
        if parameter.kind is parameter.KEYWORD_ONLY and before not in (
            parameter.KEYWORD_ONLY,
            parameter.VAR_POSITIONAL,
        ):
            words.append("*")
        stars = str(parameter).partition(parameter.name)[0]
        words.append(f"{stars}{parameter.name}" + ("" if parameter.default is parameter.empty else "=…"))
    return f"{name}({', '.join(words)})"


def first_line(value: Any) -> str:
    """Return the first line of a docstring, "" where there is none of its own."""
    text = value.__doc__ or ""
    if inspect.isclass(value) and "__doc__" not in vars(value):
        return ""
    return text.strip().partition("\n")[0]


def _attributes(class_: type) -> dict[str, str]:
    """Return what a docstring's «Attributes» say, by name."""
    text = inspect.getdoc(class_) or ""
    found: dict[str, str] = {}
    for line in text.partition("Attributes:\n")[2].splitlines():
        name, colon, about = line.strip().partition(": ")
        if colon and name.isidentifier():
            found[name] = about
        elif found and line.strip():
            found[next(reversed(found))] += f" {line.strip()}"
    return found


def _wrapped(lines: list[str]) -> str:
    """Return lines as a document, its long paragraphs and points wrapped."""
    out, fenced = [], False
    for line in lines:
        fenced ^= line.startswith("```")
        if fenced or len(line) <= 120 or line.startswith(("|", "#", "<!--")):
            out.append(line)
            continue
        later = "  " if line.startswith("- ") else ""
        out += textwrap.wrap(line, 120, subsequent_indent=later, break_long_words=False, break_on_hyphens=False)
    return "\n".join(out).rstrip() + "\n"


PAGES = (
    Page(ROOT / "docs" / "reference" / "errors.md", errors_page),
    Page(ROOT / "docs" / "reference" / "cli.md", cli_page),
    Page(ROOT / "docs" / "reference" / "api.md", api_page),
)


def main() -> None:
    """Write every page."""
    for page in PAGES:
        page.path.parent.mkdir(parents=True, exist_ok=True)
        page.path.write_text(page.text(), encoding="utf-8")
        sys.stdout.write(f"{page.path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
