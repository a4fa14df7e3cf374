"""The briefing agent in this process: what it asks of its model, tells its watcher and keeps to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.kit import Story, pages, rss, stories

from torpor.base.errors import DeliveryFailed, ModelAnswerUnusable
from torpor.models import Local, Prompt, Reply, Tier, Vectors
from torpor.skills.briefing.agent import Briefing
from torpor.skills.briefing.report import Progress
from torpor.workbook import Workbook


class Moody:
    """A model that summarises as the local one does, until it is asked for something it dislikes."""

    name: str = "moody"
    tier: Tier = "local"

    def __init__(self, dislikes: str = "never said") -> None:
        self.dislikes = dislikes
        self.prompts: list[Prompt] = []
        self._local = Local()

    async def embed(self, texts: Any) -> Vectors:
        return await self._local.embed(texts)

    async def generate(self, prompt: Prompt) -> Reply:
        self.prompts.append(prompt)
        if self.dislikes in prompt.text:
            raise ModelAnswerUnusable(model=self.name, reason="it said nothing")
        return await self._local.generate(prompt)


def feed(folder: Path, items: list[Story]) -> list[str]:
    (folder / "f.xml").write_bytes(rss(items))
    return [str(folder / "f.xml")]


@pytest.mark.anyio
async def test_only_the_chosen_items_are_shown_to_the_model(tmp_path: Path) -> None:
    model = Moody()
    with Workbook.open(tmp_path / "x.workbook") as book:
        agent = Briefing(book, model)
        report = await agent.send("brief", sources=feed(tmp_path, stories(6)), out=str(tmp_path), count=2, guard=False)
    assert [prompt.text.partition(".")[0] for prompt in model.prompts] == ["Story s0", "Story s1"]
    assert (report.new, len(report.chosen), report.complete) == (6, 2, True)


@pytest.mark.anyio
async def test_a_briefing_of_no_items_at_all_is_a_page_that_counts_them(tmp_path: Path) -> None:
    with Workbook.open(tmp_path / "x.workbook") as book:
        agent = Briefing(book, Moody())
        report = await agent.send(
            "brief", sources=feed(tmp_path, stories(3)), out=str(tmp_path / "out"), count=0, guard=False
        )
    assert (report.new, report.chosen) == (3, [])
    assert "3 left out" in pages(tmp_path / "out")[0]


@pytest.mark.anyio
async def test_an_item_that_cannot_be_summarised_is_tried_again_and_then_reported(tmp_path: Path) -> None:
    model = Moody("poison")
    items = [*stories(1), Story("bad", title="Bad", text="poison")]
    with Workbook.open(tmp_path / "x.workbook") as book:
        agent = Briefing(book, model)
        report = await agent.send("brief", sources=feed(tmp_path, items), out=str(tmp_path), guard=False)
        kept = book.memory.get("https://news.example/bad")
    assert sum("poison" in prompt.text for prompt in model.prompts) == 3
    assert [bool(choice.summary) for choice in report.chosen] == [True, False]
    assert report.problems[0].message.startswith("«Bad» has no summary: ")
    assert kept is not None, "it was delivered, so it is read"


@pytest.mark.anyio
async def test_an_item_without_text_needs_no_model(tmp_path: Path) -> None:
    model = Moody()
    (tmp_path / "f.xml").write_text(
        "<rss version='2.0'><channel><title>t</title><item><title>Only a title</title>"
        "<link>https://x.example/1</link></item></channel></rss>"
    )
    with Workbook.open(tmp_path / "x.workbook") as book:
        agent = Briefing(book, model)
        report = await agent.send("brief", sources=[str(tmp_path / "f.xml")], out=str(tmp_path), guard=False)
    assert model.prompts == []
    assert (report.chosen[0].title, report.chosen[0].summary, report.problems) == ("Only a title", "", [])


@pytest.mark.anyio
async def test_with_the_guard_a_file_is_refused_and_reported(tmp_path: Path) -> None:
    with Workbook.open(tmp_path / "x.workbook") as book:
        report = await Briefing(book, Moody()).send("brief", sources=feed(tmp_path, stories(1)), out=str(tmp_path))
    assert report.new == 0
    assert "files are not for agents to read" in report.problems[0].message


@pytest.mark.anyio
async def test_a_delivery_that_fails_leaves_the_items_unread_and_says_where(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("in the way")
    with Workbook.open(tmp_path / "x.workbook") as book:
        agent = Briefing(book, Moody())
        sources = feed(tmp_path, stories(2))
        with pytest.raises(DeliveryFailed) as failed:
            await agent.send("brief", sources=sources, out=str(tmp_path / "out"), guard=False)
        assert failed.value.path == str(tmp_path / "out")
        assert failed.value.reason == "there is a file where the folder should be"
        assert book.memory.get("https://news.example/s0") is None
        assert [run.state for run in agent.runs()] == ["failed"]


@pytest.mark.anyio
async def test_the_watcher_hears_every_stage_to_its_end(tmp_path: Path) -> None:
    heard: list[Progress] = []
    with Workbook.open(tmp_path / "x.workbook") as book:
        agent = Briefing(book, Moody(), watch=heard.append)
        await agent.send("brief", sources=feed(tmp_path, stories(3)), out=str(tmp_path), guard=False)
    ends = [(told.stage, told.total) for told in heard if told.done == told.total]
    assert ends == [("collect", 1), ("rank", 1), ("summarise", 3), ("deliver", 1)]
    assert all(0 <= told.done <= told.total for told in heard)


@pytest.mark.anyio
async def test_a_password_in_an_address_is_in_no_page_and_no_report(tmp_path: Path) -> None:
    sources = [*feed(tmp_path, stories(1)), "http://ada:s3cret@127.0.0.1:9/feed.xml"]
    with Workbook.open(tmp_path / "x.workbook") as book:
        report = await Briefing(book, Moody()).send("brief", sources=sources, out=str(tmp_path / "out"), guard=False)
    assert report.problems[0].source == "http://127.0.0.1:9/feed.xml"
    assert "s3cret" not in str(report)
    assert "s3cret" not in "".join(pages(tmp_path / "out"))
