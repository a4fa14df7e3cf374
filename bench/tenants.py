"""A thousand tenants: an agent for each, cloned from one template."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from bench.agents import MIB, size_words
from bench.grounds import Ground, grounds
from bench.measure import rounds, turn
from bench.report import Table, gap, micro, verdict

_SIZE = MIB
_TARGET_US = 3_000_000
_XFS = 1024 * MIB
_ROWS = {"one call": "**one call**", "each": "**a call for each tenant**"}


def run(home: Path, times: int, *, clones: int = 1000) -> Table:
    """Measure both ways on both file systems."""
    clones -= clones % times
    heads = ("", "seconds", "a clone", "plain copies", "of plain")
    table = Table(
        f"10. {clones:,} clones of a template of {size_words(_SIZE)}",
        f"All durable when it returns. {times} interleaved rounds, each in a fresh process; the clones of a round are"
        f" removed after it. Of one call and of the copies the median is given; of the calls for each tenant, which are"
        f" {clones // times:,} in a round, the sum.",
        heads,
    )
    with grounds(home, _XFS) as places:
        for ground in places:
            if ground.missing:
                table.rows.append(gap(ground.name, ground.missing, heads))
            else:
                _measure(ground, times, clones, table)
    table.notes += [
        (
            "The plain copies are as many, one after the other, as in table 9: each synced with its name. One call"
            " (`--count`) makes all clones or none, for one tenant, and syncs their folder once; a call for each"
            " tenant is durable before the next begins."
        ),
        "The XFS is in a file of the machine's own file system, mounted by a loop.",
    ]
    return table


def _measure(ground: Ground, times: int, clones: int, table: Table) -> None:
    place = f"{ground.folder}/home"
    made = turn("life.templated", ground.folder, place=place, sizes=[_SIZE])
    if "missing" in made:
        table.rows.append(gap(ground.name, str(made["missing"]), table.heads))
        return
    source, how = made["files"][str(_SIZE)], "reflinked" if ground.reflinks else "copied"
    takes = {"plain": partial(turn, "life.multiplied_plain", ground.folder, source=source, count=clones, how=how)}
    clone = partial(turn, "life.multiplied", ground.folder, place=place, size=_SIZE)
    takes["one call"] = partial(clone, count=clones, how="one call")
    takes["each"] = partial(clone, count=clones // times, how="each")
    figures = rounds(times, takes)
    for name, way in _ROWS.items():
        title = f"{ground.name}, {way}"
        found, plain = figures[name], figures["plain"]
        if found.missing or plain.missing:
            table.rows.append(gap(title, found.missing or plain.missing, table.heads))
            continue
        took = sum(float(one["took"]) for one in found.turns) if name == "each" else found.median("took")
        floor = plain.median("took")
        cells = [f"{took / 1e6:.2f}", micro(took / clones), f"{floor / 1e6:.2f}", f"{took / floor:.0%}"]
        table.rows.append([title, *cells])
        said = title.replace("*", "")
        table.notes.append(verdict(said, "≤ 3 s", f"{took / 1e6:.2f} s", met=took <= _TARGET_US))
