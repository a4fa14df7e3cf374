"""Opening a long-lived agent's file and reading what happened last: the cost of waking."""

from __future__ import annotations

import shutil
import tempfile
from functools import partial
from pathlib import Path

from bench.measure import Figures, rounds, turn
from bench.peers import PEERS
from bench.report import Table, gap, micro, verdict

_EVENTS = 100_000
_LAST = 50
_OPENS = 100
_TARGET_US = 2000
_ROWS = {
    "raw": (PEERS["raw"].title, "raw"),
    "torpor": ("**Torpor, as owner**", "torpor"),
    "torpor-readonly": ("**Torpor, read-only**", "torpor"),
    "openai": (PEERS["openai"].title, "openai"),
}


def run(home: Path, times: int) -> Table:
    """Fill the files once, then let everybody open theirs in turns."""
    heads = ("", "p50", "of raw", "p99", "worst")
    table = Table(
        f"4. Open a file of {_EVENTS:,} events and read the last {_LAST}",
        f"Open, read and decode; closing is not timed. Median of {times} interleaved rounds of {_OPENS} openings, with"
        " modules imported and the file in the page cache.",
        heads,
    )
    places = Path(tempfile.mkdtemp(dir=home, prefix="opened-"))
    try:
        figures = _measure(home, places, times)
    finally:
        shutil.rmtree(places, ignore_errors=True)
    for name, (title, _) in _ROWS.items():
        found = figures[name]
        if found.missing:
            table.rows.append(gap(title, found.missing, heads))
            continue
        p50, p99, worst = [micro(found.median(part)) for part in ("p50", "p99", "worst")]
        ratio = "" if figures["raw"].missing else f"{found.ratio('p50', figures['raw']):.1f} x"
        table.rows.append([title, p50, ratio, p99, worst])
    owner = figures["torpor"].median("p99")
    table.notes = [
        verdict("Torpor as owner, p99", "≤ 2 ms", micro(owner), met=owner <= _TARGET_US),
        (
            "The owner's opening claims the file by a lock that no other process can share; raw and the session have no"
            " such thing, and check neither format nor owner."
        ),
    ]
    return table


def _measure(home: Path, places: Path, times: int) -> dict[str, Figures]:
    missing = {}
    for peer in {peer for _, peer in _ROWS.values()}:
        answer = turn("fill", home, peer=peer, count=_EVENTS, place=str(places / peer))
        if "missing" in answer:
            missing[peer] = str(answer["missing"])
    takes = {
        name: partial(turn, "opening", home, peer=name, place=str(places / peer), count=_OPENS, last=_LAST)
        for name, (_, peer) in _ROWS.items()
        if peer not in missing
    }
    figures = rounds(times, takes)
    absent = {name: Figures(missing=missing[peer]) for name, (_, peer) in _ROWS.items() if peer in missing}
    return {**figures, **absent}
