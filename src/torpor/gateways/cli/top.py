"""Who uses a node, for people: what the inspector answers, as tables for a terminal.

Names of functions and control groups are somebody's; nothing of them may steer the terminal (`shown`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from torpor.gateways.cli.show import shown, when
from torpor.gateways.cli.tables import size, some_of
from torpor.service.loads import AgentLoad, Cgroup, Child, Look, NodeLoad, Owner, Pressures, Spot, Stall, Top

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

UNKNOWN: Final = "-"
"""Stands where nobody knows."""

_LOUD: Final = 0.5
"""A share of the event loop from which on somebody keeps the others waiting."""

_TIGHT: Final = 10.0
"""Percent of time lost to pressure from which on it is felt."""


def top_in_tables(top: Top) -> RenderableType:
    """Return who uses a node, ready to be printed by rich."""
    from rich.console import Group  # noqa: PLC0415  (a library that most commands don't need)

    parts: list[RenderableType] = [_head(top), _agents(top)]
    if top.owners:
        parts.append(_owners(top.owners, top.owners_left_out))
    if top.children:
        parts.append(_children(top.children, top.children_left_out))
    if top.machine is not None:
        parts.append(_pressure(top.machine.pressure))
        if top.machine.groups:
            parts.append(_groups(top.machine.groups, more=top.machine.more))
    return Group(*parts)


def look_in_tables(look: Look) -> RenderableType:
    """Return one agent from near, ready to be printed by rich."""
    from rich.console import Group  # noqa: PLC0415

    load = look.load
    parts: list[RenderableType] = [
        _lines(
            [
                ("agent", load.agent if not load.tenant else f"{load.agent} of {load.tenant}"),
                ("state", load.state if load.awake else f"{load.state}, its workbook is closed"),
                ("busy", f"{_share(load.busy)} of the event loop, in {some_of(load.turns, 'turn')}"),
                *([("holds the loop", f"for {_length(load.running)} by now")] if load.running is not None else []),
                ("mailbox", _mailbox(load)),
                ("memory", _size(load.memory)),
                ("at", _spot(load.spot)),
                *([("busy in", f"{_spot(load.hot)}, {_share(load.hot_share)} of the looks")] if load.hot else []),
                ("has", _has(load)),
            ]
        )
    ]
    for task in look.tasks:
        head = f"{_line(task.task)}{' (running)' if task.running else ''}"
        stack = [f"  {_line(_spot(spot))}" for spot in task.stack]
        parts.append(_text("\n".join([head, *stack]), "bold" if task.running else ""))
    if look.tasks_left_out:
        parts.append(_text(f"and {some_of(look.tasks_left_out, 'more task')}"))
    if look.children:
        parts.append(_children(look.children, 0))
    return Group(*parts)


# --- parts ------------------------------------------------------------------------------------------------------------


def _head(top: Top) -> RenderableType:
    node = top.node
    rows = [
        ("node", f"process {node.pid}, {when(top.time)} UTC, over {_length(top.window_s)}"),
        ("event loop", _loop(node)),
        (
            "agents",
            f"{node.active:,} active, {some_of(node.tasks, 'task')}, {some_of(node.waiting, 'message')} waiting",
        ),
        ("memory", _memory(node)),
        ("descriptors", f"{node.descriptors:,} of {node.descriptors_max:,}"),
    ]
    if node.held_by:
        rows.insert(2, ("held by", f"{node.held_by}, for {_length(node.held_s)} by now"))
    return _lines(rows)


def _loop(node: NodeLoad) -> str:
    parts = [f"{_share(node.agents_busy)} by agents"]
    if node.loop is not None:
        parts.append(f"{_share(node.loop)} running")
    if node.loop_waited is not None:
        parts.append(f"{_share(node.loop_waited)} waiting for a core")
    return f"{', '.join(parts)}; the process took {_share(node.cpu)} of a core in {some_of(node.threads, 'thread')}"


def _memory(node: NodeLoad) -> str:
    if node.anon is None:
        return size(node.rss)
    return f"{size(node.rss)}: {size(node.anon)} its own, {_size(node.file)} of files, {_size(node.shmem)} shared"


def _agents(top: Top) -> RenderableType:
    heads = ("AGENT", "STATE", "BUSY", "TURNS", "WAITING", "OLDEST", "MEMORY", "TASKS", "SUBS", "PROCS", "AT")
    rows = [
        (
            load.agent,
            load.state if load.awake else f"{load.state} (closed)",
            _share(load.busy),
            f"{load.turns:,}",
            UNKNOWN if load.waiting is None else f"{load.waiting:,}",
            UNKNOWN if load.oldest_s is None else _length(load.oldest_s),
            _size(load.memory),
            f"{load.has.tasks:,}",
            f"{load.has.subscriptions:,}",
            f"{load.has.children:,}",
            _spot(load.hot or load.spot),
        )
        for load in top.agents
    ]
    loud = [load.busy >= _LOUD or load.running is not None for load in top.agents]
    return _table(heads, rows, right=heads[2:10], marked=loud, left_out=top.agents_left_out)


def _owners(owners: Sequence[Owner], left_out: int) -> RenderableType:
    heads = ("OWNER", "LIVES", "SUBS", "PROCS", "TASKS")
    rows = [
        (
            one.owner,
            "yes" if one.lives else "GONE",
            f"{one.has.subscriptions:,}",
            f"{one.has.children:,}",
            f"{one.has.tasks:,}",
        )
        for one in owners
    ]
    return _table(heads, rows, right=heads[2:], marked=[not one.lives for one in owners], left_out=left_out)


def _children(children: Sequence[Child], left_out: int) -> RenderableType:
    heads = ("PROCESS", "OWNER", "STATE", "CPU", "MEMORY", "WHAT")
    rows = [
        (
            str(one.pid),
            one.owner if one.owned else f"{one.owner} (GONE)",
            one.state,
            _share(one.busy),
            size(one.rss),
            one.what,
        )
        for one in children
    ]
    marked = [not one.owned or one.state != "lives" for one in children]
    return _table(heads, rows, right=("PROCESS", "CPU", "MEMORY"), marked=marked, left_out=left_out)


def _pressure(pressures: Pressures) -> RenderableType:
    heads = ("PRESSURE", "SOME 10 S", "60 S", "300 S", "ALL 10 S", "60 S", "300 S")
    rows, marked = [], []
    for name, pressure in (("cpu", pressures.cpu), ("memory", pressures.memory), ("io", pressures.io)):
        some, full = (pressure.some, pressure.full) if pressure is not None else (None, None)
        rows.append((name, *_stall(some), *_stall(full)))
        marked.append(full is not None and full.avg10 >= _TIGHT)
    return _table(heads, rows, right=heads[1:], marked=marked)


def _stall(stall: Stall | None) -> tuple[str, str, str]:
    if stall is None:
        return UNKNOWN, UNKNOWN, UNKNOWN
    return f"{stall.avg10:.1f} %", f"{stall.avg60:.1f} %", f"{stall.avg300:.1f} %"


def _groups(groups: Sequence[Cgroup], *, more: bool) -> RenderableType:
    heads = (
        *("GROUP", "CURRENT", "PEAK", "LIMIT", "ANON", "FILE ACT", "INACT"),
        *("KERNEL", "STACKS", "TABLES", "SLAB", "RECLAIMABLE", "MEM FULL 10 S"),
    )
    rows = []
    for one in groups:
        full = one.pressure.memory.full if one.pressure.memory is not None else None
        sizes = (
            *(one.current, one.peak, one.limit, one.anon, one.file_active, one.file_inactive),
            *(one.kernel, one.kernel_stack, one.page_tables, one.slab, one.reclaimable),
        )
        rows.append((one.path, *map(_size, sizes), _stall(full)[0]))
    marked = [bool(one.oom_kills) for one in groups]
    return _table(heads, rows, right=heads[1:], marked=marked, left_out=None if more else 0)


# --- words ------------------------------------------------------------------------------------------------------------


def _mailbox(load: AgentLoad) -> str:
    if load.waiting is None:
        return UNKNOWN
    if load.oldest_s is None:
        return some_of(load.waiting, "message")
    return f"{some_of(load.waiting, 'message')}, the oldest for {_length(load.oldest_s)}"


def _has(load: AgentLoad) -> str:
    has = load.has
    return ", ".join(
        (
            some_of(has.tasks, "task"),
            some_of(has.subscriptions, "subscription"),
            "1 process" if has.children == 1 else f"{has.children:,} processes",
        )
    )


def _share(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")


def _size(count: int | None) -> str:
    return UNKNOWN if count is None else size(count)


def _length(seconds: float) -> str:
    """Return a length of time with the digits that matter: "3.2 ms", "12 s", "4 h"."""
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def _spot(spot: Spot | None) -> str:
    return UNKNOWN if spot is None else f"{spot.module}:{spot.function}:{spot.line}"


def _lines(rows: Iterable[tuple[str, str]]) -> Text:
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    return _text("\n".join(f"{name:{width}}  {_line(value)}" for name, value in rows))


def _line(text: str) -> str:
    return text.replace("\n", " ")


def _text(text: str, style: str = "") -> Text:
    from rich.text import Text  # noqa: PLC0415

    return Text(shown(text), style=style)


def _table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str],
    marked: Sequence[bool],
    left_out: int | None = 0,
) -> RenderableType:
    """Return a table whose marked rows stand out; `left_out` is how many rows there are besides, None for some."""
    from rich.console import Group  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in heads:
        table.add_column(head, justify="right" if head in right else "left", overflow="fold")
    for row, loud in zip(rows, marked, strict=True):
        table.add_row(*(_text(_line(cell)) for cell in row), style="bold red" if loud else None)
    if left_out == 0:
        return Group(_text(""), table)
    words = "and more" if left_out is None else f"and {left_out:,} more"
    return Group(_text(""), table, _text(words))
