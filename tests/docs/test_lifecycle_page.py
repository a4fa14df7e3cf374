"""The page on the lifecycle shows the edges that the code has.

`python -m tests.docs.test_lifecycle_page` writes them anew.
"""

from __future__ import annotations

from tests.docs.blocks import ROOT

from torpor.lifecycle import LADDER, STATES, diagram, table

COMMAND = "python -m tests.docs.test_lifecycle_page"
PAGE = ROOT / "docs/concepts/lifecycle.md"
BEGIN = f"<!-- edges: written by `{COMMAND}` from the code -->\n"
END = "<!-- /edges -->\n"


def edges() -> str:
    """Return what stands between the markers."""
    return f"\n```mermaid\n{diagram()}\n```\n\n{table()}\n\n"


def parts() -> tuple[str, str, str]:
    """Return the page before, between and after the markers."""
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    between, end, after = rest.partition(END)
    assert begin, f"the marker is gone: {BEGIN}"
    assert end, f"the marker is gone: {END}"
    return before + begin, between, end + after


def test_the_page_shows_the_edges_of_the_code() -> None:
    assert parts()[1] == edges(), f"run `{COMMAND}`"


def test_the_page_explains_every_state() -> None:
    before = parts()[0]
    assert [line.split("**")[1] for line in before.splitlines() if line.startswith("| **")] == list(STATES)


def test_the_page_says_the_usual_thresholds() -> None:
    after = parts()[2]
    assert f"active for {LADDER.suspend_after_s / 60:g} minutes" in after
    assert f"{LADDER.freeze_after_s / 3600:g} hours" in after


def main() -> None:
    """Write the edges into the page."""
    before, _, after = parts()
    PAGE.write_text(before + edges() + after, encoding="utf-8")


if __name__ == "__main__":
    main()
