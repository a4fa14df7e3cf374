"""Figures as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Table:
    """One table of the report.

    Attributes:
        title: its heading.
        lead: what was done, said before the figures.
        heads: the columns' names.
        rows: the cells, as text.
        notes: what must be known to read the figures rightly.

    """

    title: str
    lead: str
    heads: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return the table as Markdown; figures stand to the right."""
        rule = ["---", *["---:"] * (len(self.heads) - 1)]
        lines = [f"| {' | '.join(cells)} |" for cells in (self.heads, rule, *self.rows)]
        notes = [f"- {note}" for note in self.notes]
        return "\n".join([f"### {self.title}", "", self.lead, "", *lines, "", *notes, ""])


def report_parts(report: str) -> dict[str, str]:
    """Return the suites of a report that was written earlier, by their headings."""
    found: dict[str, str] = {}
    heading = ""
    for line in report.splitlines(keepends=True):
        if line.startswith("## "):
            heading = line.strip()
        if heading:
            found[heading] = found.get(heading, "") + line
    return found


def gap(title: str, reason: str, heads: Sequence[str]) -> list[str]:
    """Return the row of something that could not be measured."""
    return [title, reason.replace("|", "/")[:160], *[""] * (len(heads) - 2)]


def micro(value: float) -> str:
    """Return microseconds, as ms where that reads better."""
    return f"{value / 1000:,.2f} ms" if value >= 1000 else f"{value:,.0f} µs"


def verdict(what: str, target: str, found: str, *, met: bool) -> str:
    """Return a target beside what was found."""
    return f"**Target** {what} {target}: {found}, {'**met**' if met else '**not met**'}."
