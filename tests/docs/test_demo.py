"""The demonstration, and the feed that it and the examples read."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.docs.blocks import ROOT

from torpor.base.clock import SystemClock
from torpor.skills.briefing.parse import parse

DEMO = ROOT / "demo" / "demo.py"


def test_the_demonstration_shows_what_it_claims_from_any_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(DEMO), str(tmp_path / "demo")],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\n") <= 60
    assert done.stdout.count("   ok  ") == 13
    assert "Every claim above was checked." in done.stdout


def test_the_demonstration_wipes_no_folder_that_it_was_given(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")

    done = subprocess.run([sys.executable, str(DEMO), str(tmp_path)], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "is not empty" in done.stderr
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_the_feed_has_twenty_four_short_articles_and_nothing_odd() -> None:
    path = ROOT / "demo" / "feed.xml"

    feed = parse(str(path), path.read_bytes(), now_us=SystemClock().now_us())

    assert feed.notes == []
    assert len({item.identity for item in feed.items}) == len({item.guid for item in feed.items}) == 24
    assert all(80 <= len(re.findall(r"\S+", item.text)) <= 150 for item in feed.items)
    assert all(item.published_us for item in feed.items)
    assert "<em>" in path.read_text().replace("&lt;", "<").replace("&gt;", ">")
    assert not any(re.search("[<>&]", item.title.replace(" & ", " ")) for item in feed.items)
