"""The report of the benchmarks has all that there is to measure."""

from __future__ import annotations

import re
from pathlib import Path

from bench.__main__ import SUITES
from bench.report import report_parts

REPORT = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def test_the_report_has_every_suite_and_every_table() -> None:
    parts = report_parts(REPORT.read_text(encoding="utf-8"))
    assert list(parts) == [f"## The {suite}" for suite in SUITES]
    numbers = []
    for suite, tables in SUITES.items():
        part = parts[f"## The {suite}"]
        floor, *found = (int(number) for number in re.findall(r"^### (\d+)\. ", part, re.MULTILINE))
        assert floor == 0
        assert len(found) == len(tables), suite
        numbers += found
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_report_falls_into_its_suites_and_is_whole_again() -> None:
    text = REPORT.read_text(encoding="utf-8")
    parts = report_parts(text)
    assert text.endswith("".join(parts.values()))
    assert not re.search(r"^## ", text[: -len("".join(parts.values()))], re.MULTILINE)
