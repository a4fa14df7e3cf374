"""A hundred events in one transaction: what is left of the cost when the sync is shared."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from bench.measure import rounds, turn
from bench.peers import PEERS
from bench.report import Table, gap, micro, verdict
from bench.syncs import count_syncs, per

_COUNT = 100
_SIZE = 100
_TARGET = 0.60
_FEWER_CHARACTERS = 1000
"""So many, and four of raw's rows fit into a page of 4 KiB: the worst case of the comparison."""


def run(home: Path, times: int) -> Table:
    """Measure every peer that can."""
    takes = {
        peer: partial(turn, "batches", home, peer=peer, count=_COUNT) for peer, entry in PEERS.items() if entry.batches
    }
    for peer in ("raw", "torpor"):
        takes[f"{peer} shorter"] = partial(turn, "batches", home, peer=peer, count=_COUNT, characters=_FEWER_CHARACTERS)
    figures = rounds(times, takes, thrice=("raw", "torpor", "raw shorter", "torpor shorter"))
    heads = ("", "events/s", "of raw", "commit p50", "commit p99", "fsyncs/event", "what it is")
    table = Table(
        f"2. {_SIZE} events in one transaction",
        f"All durable together. Median of {times} interleaved rounds of {_COUNT} commits of {_SIZE} events;"
        " durability as in table 1.",
        heads,
    )
    for peer, entry in PEERS.items():
        if peer not in figures:
            continue
        found = figures[peer]
        if found.missing:
            table.rows.append(gap(entry.title, found.missing, heads))
            continue
        syncs = count_syncs("batches", home, peer=peer, count=_COUNT)
        table.rows.append(
            [
                entry.title,
                f"{found.median('rate'):,.0f}",
                f"{found.ratio('rate', figures['raw']):.0%}",
                micro(found.median("p50")),
                micro(found.median("p99")),
                per(syncs, _COUNT * _SIZE),
                entry.batches,
            ]
        )
    ratio = figures["torpor"].ratio("rate", figures["raw"])
    shorter = figures["torpor shorter"].ratio("rate", figures["raw shorter"])
    others = [e.title for e in PEERS.values() if not e.batches and not e.options]
    table.notes = [
        verdict("Torpor/raw", f"≥ {_TARGET:.0%}", f"{ratio:.0%}", met=ratio >= _TARGET),
        (
            f"With {_FEWER_CHARACTERS:,} characters instead, Torpor reaches {shorter:.0%} of raw: four of raw's rows"
            " then go into a page of 4 KiB, and three of Torpor's, which are longer by id, time and hash: a third more"
            " pages are written. SHA-256 and the canonical text are most of the rest."
        ),
        f"Without such a call, hence not here: {', '.join(others)}.",
    ]
    return table
