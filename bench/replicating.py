"""A thousand workbooks in one replica, beside a thousand databases under one Litestream; and what comes back."""

from __future__ import annotations

import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.agents import MIB, size_words
from bench.litestream import VERSION
from bench.measure import Figures, rounds, turn
from bench.report import Table, gap, micro, verdict

_TITLES: Final = {
    "heartbeat": "Torpor `heartbeat`, no replica, whole process",
    "replica": "Torpor `heartbeat` with a replica, whole process",
    "more": "**… what the replica adds to it**",
    "litestream": f"Litestream {VERSION}, its process alone",
}
_MEMORY_TARGET: Final = 1 / 5
_CPU_TARGET: Final = 1 / 2
_LAG_TARGET_S: Final = 1.5
_OBJECTS_TARGET: Final = 3.0
_RESTORE_TARGET_S: Final = 2.0
_FEW: Final = 3
"""Rounds of these take long, and differ little."""

_COMMITS: Final = 10
"""Commits of each agent that a power cut takes from its file."""


def run(
    home: Path,
    times: int,
    *,
    agents: int = 1000,
    rate: float = 500,
    seconds: float = 20,
    size: int = 100 * MIB,
) -> Table:
    """Measure what replicating takes, how far it lags, and how long it takes to come back."""
    heads = (
        "",
        "CPU",
        "of one core",
        "memory",
        "… at most",
        "lag p50",
        "lag p99",
        "worst",
        "objects/s",
    )
    times = min(times, _FEW)
    table = Table(
        f"16. Replicating {agents:,} workbooks",
        f"{rate:,.0f} messages of 1,024 characters a second in all, to {agents:,} files in turns, for {seconds:.0f} s"
        " and three more for the last of them to arrive; to a folder (`file://`). Median of"
        f" {times} interleaved rounds, each in a fresh process, after the first snapshots of all have arrived.",
        heads,
    )
    place = Path(tempfile.mkdtemp(dir=home, prefix="replicas-"))
    try:
        made = turn("beats.herd", place, place=f"{place}/herd", agents=agents)
        if "missing" in made:
            table.rows.append(gap(_TITLES["replica"], str(made["missing"]), heads))
            return table
        load: dict[str, Any] = {"agents": agents, "rate": rate, "seconds": seconds}
        figures = rounds(
            times,
            {name: partial(_fresh, place, how=name, **load) for name in ("heartbeat", "replica", "litestream")},
        )
        _rows(table, figures)
        _verdicts(table, figures)
        _comebacks(place, times, agents, size, table)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    table.notes += _NOTES
    return table


_NOTES: Final = [
    (
        "The memory is the resident set. Torpor replicates in the process that has the workbooks open, so what it takes"
        " for that is the difference to a process without a replica; the whole process is shown, and hence it is also"
        " a bound. Litestream's is its process alone, not the one that writes."
    ),
    (
        "Lag is from the commit until the object that has it got its name in the folder, of each message, found out"
        " afterwards by the files' times: of packs, by the records in them; of Litestream's segments, by the place in"
        " the log at which they begin. Both have their defaults: Torpor beats once a second; Litestream looks at each"
        " database once a second and sends once a second."
    ),
    (
        "Objects are files that were written into the replica. Litestream writes one for each database that has"
        " changed; on a store that is paid by the request, these are what is paid."
    ),
    (
        "The databases under Litestream are the plain ones of table 15, with a table and no index, and so are smaller"
        " than workbooks: its load is the lighter one. Every commit is synced by its writer, in all rows; and both sync"
        " each object that they write to the folder. Litestream also keeps a shadow of each database's log."
    ),
]


def _fresh(place: Path, *, how: str, **load: Any) -> dict[str, Any]:
    """Take one turn with a herd of its own: a home belongs to one replica."""
    ours = Path(tempfile.mkdtemp(dir=place, prefix="round-"))
    part = "raw" if how == "litestream" else "heartbeat"
    try:
        shutil.copytree(place / "herd" / part, ours / part)
        return turn("replicas.loaded", place, place=str(ours), how=how, **load)
    finally:
        shutil.rmtree(ours, ignore_errors=True)


def _rows(table: Table, figures: dict[str, Figures]) -> None:
    for name, title in _TITLES.items():
        found = figures["replica" if name == "more" else name]
        if found.missing:
            table.rows.append(gap(title, found.missing, table.heads))
            continue
        less = figures["heartbeat"] if name == "more" else None
        if less is not None and less.missing:
            continue
        parts = {
            part: found.median(part) - (less.median(part) if less is not None else 0.0)
            for part in ("cpu", "memory", "peak", "took")
        }
        ships = name in ("more", "litestream")
        table.rows.append(
            [
                title,
                f"{parts['cpu']:.2f} s",
                f"{parts['cpu'] / found.median('took'):.1%}",
                f"{parts['memory'] / MIB:,.1f} MiB",
                f"{parts['peak'] / MIB:,.1f} MiB",
                *[micro(found.median(f"lag {part}") * 1e6) if ships else "" for part in ("p50", "p99", "worst")],
                f"{found.median('objects'):,.2f}" if ships else "",
            ]
        )


def _verdicts(table: Table, figures: dict[str, Figures]) -> None:
    none, ours, theirs = (figures[name] for name in ("heartbeat", "replica", "litestream"))
    if ours.missing or none.missing:
        return
    if not theirs.missing:
        for what, part, target, words in (
            ("memory", "memory", _MEMORY_TARGET, "≤ 1/5"),
            ("CPU", "cpu", _CPU_TARGET, "≤ 1/2"),
        ):
            more = max(0.0, ours.median(part) - none.median(part)) / theirs.median(part)
            whole = ours.median(part) / theirs.median(part)
            said = verdict(f"{what}, what the replica adds / Litestream", words, f"{more:.3f}", met=more <= target)
            table.notes.append(f"{said} The whole process, with everything else that it does: {whole:.3f}.")
    lag, objects = ours.median("lag p99"), ours.median("objects")
    table.notes += [
        verdict("lag p99", "≤ 1.5 s", f"{lag:.2f} s", met=lag <= _LAG_TARGET_S),
        verdict("objects written", "≤ 3/s", f"{objects:.2f}/s", met=objects <= _OBJECTS_TARGET),
    ]


def _comebacks(place: Path, times: int, agents: int, size: int, table: Table) -> None:
    """Measure restores, and a recovery; each becomes a note, because none fits the columns."""
    table.notes += [
        *_one(place, times, size),
        *_all(place, times, agents),
        *_after_a_cut(place, times, agents),
    ]


def _one(place: Path, times: int, size: int) -> list[str]:
    made = turn("beats.replicate", place, place=f"{place}/one", replica=f"{place}/one-replica", size=size)
    if "missing" in made:
        return [f"Restore of one agent: {made['missing']}"]
    peer = turn(
        "replicas.replicate_by_litestream",
        place,
        place=f"{place}/one/agents/ada.workbook",
        replica=f"{place}/one-litestream",
    )
    rows = {"ours": partial(turn, "replicas.restored", place, replica=f"{place}/one-replica", agent=made["agent"])}
    if "missing" not in peer:
        rows["theirs"] = partial(turn, "replicas.restored_by_litestream", place, replica=f"{place}/one-litestream")
    found = rounds(times, rows)
    if found["ours"].missing:
        return [f"Restore of one agent: {found['ours'].missing}"]
    took = found["ours"].median("took")
    what = f"restore of {size_words(size)}, verified by its chain"
    said = verdict(what, "≤ 2 s", f"{took:.2f} s", met=took <= _RESTORE_TARGET_S)
    theirs = found.get("theirs")
    if theirs is None or theirs.missing:
        return [said]
    return [f"{said} Litestream, the same file: {theirs.median('took'):.2f} s."]


def _all(place: Path, times: int, agents: int) -> list[str]:
    replica = f"{place}/all-replica"
    load: dict[str, Any] = {"agents": agents, "rate": float(agents), "seconds": 3.0, "replica": replica}
    made = _fresh(place, how="replica", **load)
    if "missing" in made:
        return [f"Restore of all: {made['missing']}"]
    found = rounds(times, {"all": partial(turn, "beats.brought_back", place, replica=replica, agents=agents)})["all"]
    if found.missing:
        return [f"Restore of all: {found.missing}"]
    took = found.median("took")
    return [
        (
            f"`restore --all` of a lost machine with {agents:,} agents, each with some messages, restored and verified:"
            f" {took:.1f} s, {took / agents * 1e3:.1f} ms an agent."
        )
    ]


def _after_a_cut(place: Path, times: int, agents: int) -> list[str]:
    def once() -> dict[str, Any]:
        ours = Path(tempfile.mkdtemp(dir=place, prefix="cut-"))
        try:
            shutil.copytree(place / "herd" / "heartbeat", ours / "heartbeat")
            home = f"{ours}/heartbeat"
            made = turn("beats.written_and_killed", place, place=home, agents=agents, count=_COMMITS)
            return made if "missing" in made else turn("beats.recovered", place, place=home, expected=made["records"])
        finally:
            shutil.rmtree(ours, ignore_errors=True)

    found = rounds(times, {"cut": once})["cut"]
    if found.missing:
        return [f"Recovery: {found.missing}"]
    took = found.median("took")
    return [
        (
            f"Recovery of {agents:,} agents after a power cut, of whose files each lacks all of {_COMMITS} commits:"
            f" {took:.1f} s until the home is open, {took / agents * 1e3:.1f} ms an agent."
        )
    ]
