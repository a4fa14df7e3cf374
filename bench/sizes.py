"""Bytes on disk per message, with the file closed."""

from __future__ import annotations

from pathlib import Path

from bench.measure import turn
from bench.payload import TEXT
from bench.peers import PEERS
from bench.report import Table, gap, verdict

_COUNT = 10_000
_FEWER = {"langgraph-list": 500, "dbos": 1000, "agentfs": 5000}
_TARGET = 2048


def run(home: Path, times: int) -> Table:
    """Weigh every peer's files; a count of bytes needs no second round."""
    del times
    heads = ("", "bytes/message", "of raw", "of the text", "messages")
    table = Table(
        "3. Bytes on disk per message",
        f"Messages of {len(TEXT):,} characters, all files that remain after closing, divided by the messages. Counted"
        " once: it is no timing.",
        heads,
    )
    found = raw = 0.0
    for peer, entry in PEERS.items():
        count = _FEWER.get(peer, _COUNT)
        answer = turn("sizes", home, peer=peer, count=count)
        if "missing" in answer:
            table.rows.append(gap(entry.title, str(answer["missing"]), heads))
            continue
        each = answer["bytes"] / count
        found = each if peer == "torpor" else found
        raw = each if peer == "raw" else raw
        ratio = f"{each / raw:.2f} x" if raw else ""
        table.rows.append([entry.title, f"{each:,.0f}", ratio, f"{each / len(TEXT):.2f} x", f"{count:,}"])
    table.notes = [
        verdict("Torpor", f"≤ {_TARGET:,} bytes", f"{found:,.0f} bytes", met=0 < found <= _TARGET),
        (
            "LangGraph's growing list is quadratic: the figure is for the number of messages given, and doubles when"
            " that doubles. The others grow linearly."
        ),
    ]
    return table
