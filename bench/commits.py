"""One durable event per commit: how an agent works that answers only for what is on the disk."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from bench.measure import Figures, rounds, turn
from bench.peers import PEERS
from bench.report import Table, gap, micro, verdict
from bench.syncs import count_syncs, per

_COUNT = 1000
_TRACED = 500
_TARGET = 0.85
_SYNCHRONOUS = {"0": "OFF", "1": "NORMAL", "2": "FULL", "3": "EXTRA"}


def _count(peer: str, of: int) -> int:
    return int(of * PEERS[peer].pace)


def durability(figures: Figures) -> str:
    """Return the journal mode and `synchronous` that a peer's connection reported, and what they are called here."""
    facts: dict[str, Any] = figures.turns[0]
    level = _SYNCHRONOUS.get(facts["synchronous"], facts["synchronous"].upper())
    survives = "power loss" if level in ("FULL", "EXTRA") else "kill only"
    return f"{facts['journal'].upper()} + {level}: {survives}"


def run(home: Path, times: int) -> Table:
    """Measure every peer."""
    takes = {peer: partial(turn, "commits", home, peer=peer, count=_count(peer, _COUNT)) for peer in PEERS}
    figures = rounds(times, takes, thrice=("raw", "torpor"))
    heads = ("", "events/s", "of raw", "p50", "p99", "fsyncs/event", "durability, as reported", "SQLite")
    table = Table(
        "1. One durable event per commit",
        f"A message of 1,024 characters, durable when the call returns. Median of {times} interleaved rounds of"
        f" {_COUNT:,} events, each round in a fresh process and file.",
        heads,
    )
    for peer, found in figures.items():
        entry = PEERS[peer]
        if found.missing:
            table.rows.append(gap(entry.title, found.missing, heads))
            continue
        traced = _count(peer, _TRACED)
        syncs = count_syncs("commits", home, peer=peer, count=traced)
        table.rows.append(
            [
                entry.title,
                f"{found.median('rate'):,.0f}",
                f"{found.ratio('rate', figures['raw']):.0%}",
                micro(found.median("p50")),
                micro(found.median("p99")),
                per(syncs, traced),
                durability(found),
                str(found.turns[0]["sqlite"]),
            ]
        )
    ratio = figures["torpor"].ratio("rate", figures["raw"])
    table.notes = [
        verdict("Torpor/raw", f"≥ {_TARGET:.0%}", f"{ratio:.0%}", met=ratio >= _TARGET),
        "“of raw” is the median over the rounds of the ratio within a round, so it is not the quotient of two medians.",
        "What one event is: " + "; ".join(f"{e.title.strip('*')}: {e.does}" for e in PEERS.values()) + ".",
        *[
            f"{PEERS[peer].title}: {_count(peer, _COUNT):,} events per round, because it is slower."
            for peer in PEERS
            if PEERS[peer].pace < 1
        ],
        "LangGraph's growing list costs more with every message, so its figure falls the longer the conversation is.",
    ]
    return table
