"""Cloning a template: as quick as the file system lets it be."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from bench.agents import MIB, size_words
from bench.grounds import Ground, grounds
from bench.measure import Figures, percentile, rounds, turn
from bench.report import Table, gap, micro, verdict
from bench.syncs import count_syncs, per

_SIZES = (MIB, 100 * MIB, 1024 * MIB)
_TARGET_US = 1000
_TARGET_RATIO = 1.15
_COUNT = 20
"""Clones in a turn, of a small template or where they share blocks."""

_AT_ONCE = 50
_TAKES = ("cloned", "plain", "many", "copied")
_BIG = 10 * MIB
_TRACED = 5


def run(home: Path, times: int, *, sizes: tuple[int, ...] = _SIZES) -> Table:
    """Measure clones of templates of each size, beside plain copies of the same files."""
    heads = ("", "p50", "p99", "plain copy", "of plain", "each of many at once", "copying alone", "fsyncs", "clones")
    table = Table(
        "9. Clone a template",
        f"`templates.clone`, one clone in a call, until it is durable: file, identity and ledger. In {times} rounds,"
        " interleaved with plain copies of the same file.",
        heads,
    )
    # The largest agent beside its template, the smaller templates, and room for what is not shared.
    with grounds(home, 2 * max(sizes) + 2 * sum(sizes[:-1]) + 256 * MIB) as places:
        for ground in places:
            if ground.missing:
                table.rows.append(gap(ground.name, ground.missing, heads))
            else:
                _measure(ground, times, sizes, table)
    table.notes += [
        (
            "The plain copy is `shutil.copyfile`, a sync of the file and one of its folder; where blocks can be shared,"
            " it is what `cp --reflink` does, with the same syncs. “Of plain” is the median over the rounds of the"
            " ratio within a round."
        ),
        (
            f"“Many at once” is a call for {_AT_ONCE} clones: file and identity are each clone's own, the ledger's two"
            " commits are shared. “Copying alone” is the step that depends on the size, before anything is synced."
            " fsyncs are those of a clone alone."
        ),
        (
            "Why not 1 ms: a clone that is an agent is synced four times, for its place in the ledger, its file and"
            " identity, its name, and the agent in the ledger. On such an XFS strace found 0.4 to 0.9 ms for each, so"
            " the syncs alone take more than 2 ms. Most of the rest is opening the copy to give it its identity. The"
            " plain copy has two of the four, and no ledger: that is what a small clone pays on ext4, too."
        ),
        "The XFS is in a file of the machine's own file system, which was written full before, mounted by a loop.",
    ]
    return table


def _measure(ground: Ground, times: int, sizes: tuple[int, ...], table: Table) -> None:
    place = f"{ground.folder}/home"
    made = turn("life.templated", ground.folder, place=place, sizes=list(sizes))
    if "missing" in made:
        table.rows.append(gap(ground.name, str(made["missing"]), table.heads))
        return
    for size in sizes:
        title = f"**{ground.name}, {size_words(size)}**"
        cheap = ground.reflinks or size <= _BIG
        figures = rounds(times, _takes(ground, place, size, made["files"][str(size)], cheap=cheap))
        found, plain, many, copied = (figures.get(name, Figures()) for name in _TAKES)
        if found.missing or plain.missing:
            table.rows.append(gap(title, found.missing or plain.missing, table.heads))
            continue
        each = found.pooled("each")
        p50, ratio = percentile(each, 0.5), found.ratio("took", plain)
        traced = _TRACED if cheap else 1
        syncs = count_syncs("life.cloned", ground.folder, place=place, size=size, count=traced, at_once=1)
        at_once = micro(many.median("took")) if many.turns else ""
        cells = [
            micro(p50),
            micro(percentile(each, 0.99)),
            micro(percentile(plain.pooled("each"), 0.5)),
            f"{ratio:.0%}",
        ]
        table.rows.append([title, *cells, at_once, _copying(copied), per(syncs, traced), f"{len(each):,}"])
        table.notes.append(_verdict(title.strip("*"), ground, p50, ratio, many))


def _copying(found: Figures) -> str:
    if not found.turns:
        return found.missing
    ways = sorted({turned["how"] for turned in found.turns})
    return f"{micro(percentile(found.pooled('each'), 0.5))}, {' or '.join(ways)}"


def _takes(ground: Ground, place: str, size: int, source: str, *, cheap: bool) -> dict[str, Any]:
    count = _COUNT if cheap else 1
    how = "reflinked" if ground.reflinks else "copied"
    takes = {
        "plain": partial(turn, "life.plain", ground.folder, source=source, how=how, count=count),
        "cloned": partial(turn, "life.cloned", ground.folder, place=place, size=size, count=count, at_once=1),
    }
    if cheap:
        takes["copied"] = partial(turn, "life.copied", ground.folder, source=source, count=count)
        takes["many"] = partial(turn, "life.cloned", ground.folder, place=place, size=size, count=1, at_once=_AT_ONCE)
    return takes


def _verdict(title: str, ground: Ground, p50: float, ratio: float, many: Figures) -> str:
    if ground.reflinks:
        others = f"; {micro(many.median('took'))} each of {_AT_ONCE} at once" if many.turns else ""
        return verdict(f"{title}", "≤ 1 ms", f"{micro(p50)}{others}", met=p50 <= _TARGET_US)
    return verdict(f"{title} within 15% of a plain copy", "≤ 115%", f"{ratio:.0%}", met=ratio <= _TARGET_RATIO)
