"""A briefing that is killed goes on where it was: nothing lost, nothing twice, the pages as if nothing had been."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.acceptance.kit import Ended, Zygote, events, left_in, pages, rss, stories

from torpor.base import faults
from torpor.workbook import Event, Workbook

COMMAND = ("brief", "a.xml", "b.xml", "--workbook", "x.workbook", "--out", "out", "--interest", "durable commits")
FAMILIES = ("append", "transaction", "step", "effect", "run", "delivery")
"""What a briefing passes; the moves between states have crash tests of their own."""
POINTS = tuple(point for point in faults.POINTS if point.partition(".")[0] in FAMILIES)
FINISHED_ONLY_IN_RUNS = {"run.finishing", "run.finished"}


@dataclass(frozen=True)
class Undisturbed:
    """What the command does where nobody disturbs it."""

    pages: tuple[str, str]
    reached: Counter[str]


def feeds(folder: Path, count: int = 3) -> Path:
    folder.mkdir()
    (folder / "a.xml").write_bytes(rss(stories(count, "a"), "Feed A"))
    (folder / "b.xml").write_bytes(rss(stories(count, "b"), "Feed B"))
    return folder


@pytest.fixture(scope="module")
def undisturbed(run: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = feeds(tmp_path_factory.mktemp("crash") / "whole")
    ended = run(*COMMAND, cwd=folder, record=True)
    assert ended.code == 0, ended.err
    return Undisturbed(pages(folder / "out"), Counter(ended.reached))


def journal(folder: Path) -> list[Event]:
    path = folder / "x.workbook"
    if not path.exists():
        return []
    try:
        return events(path)
    except FileNotFoundError:
        return []


def assert_whole(folder: Path, expected: tuple[str, str], summaries: int) -> None:
    """Insist that a folder is as an undisturbed run leaves it, and the workbook in order."""
    assert pages(folder / "out") == expected
    assert left_in(folder) == ["a.xml", "b.xml", "out", "x.workbook"]
    with Workbook.open(folder / "x.workbook", readonly=True) as book:
        assert book.verify().ok
    kept = journal(folder)
    ends = [event.kind for event in kept if event.kind in {"run.completed", "run.failed", "run.cancelled"}]
    assert set(ends) == {"run.completed"}
    intended = Counter(
        (event.span, event.body["position"]) for event in kept if event.kind in {"step.intended", "effect.intended"}
    )
    received = Counter(
        (event.span, event.body["position"])
        for event in kept
        if event.kind in {"step.completed", "effect.completed", "step.failed", "effect.failed"}
    )
    assert set(intended.values()) == {1}, "a step that was begun is not begun anew"
    assert set(received.values()) == {1}, "a step that was finished is not done again"
    assert not set(intended) - set(received), "nothing was left undone"
    done = [e for e in kept if e.kind == "step.completed" and e.body["name"] == "summarise"]
    assert len(done) == summaries
    articles = [e.body["source"] for e in kept if e.kind == "memory.kept" and e.body["kind"] == "article"]
    assert len(articles) == len(set(articles)), "each item is remembered once"


def killed_and_resumed(run: Zygote, folder: Path, point: str, nth: int) -> Ended:
    killed = run(*COMMAND, cwd=folder, kill=(point, nth))
    assert killed.killed, (point, nth, killed)
    before = journal(folder)
    again = run(*COMMAND, cwd=folder)
    assert again.code == 0, again.err
    after = journal(folder)
    assert [e.hash for e in after[: len(before)]] == [e.hash for e in before], "what was acknowledged is there"
    return again


def test_a_briefing_passes_every_fault_point(undisturbed: Undisturbed) -> None:
    assert set(undisturbed.reached) == set(POINTS)


@pytest.mark.parametrize("point", POINTS)
def test_a_briefing_killed_at_a_fault_point_delivers_once_when_run_again(
    run: Zygote, tmp_path: Path, undisturbed: Undisturbed, point: str
) -> None:
    times = undisturbed.reached[point]
    for nth in sorted({1, times // 2 + 1}):
        folder = feeds(tmp_path / str(nth))
        again = killed_and_resumed(run, folder, point, nth)
        assert_whole(folder, undisturbed.pages, summaries=6)
        delivered_before = point == "run.finished"
        assert ("0 new, 6 already read" in again.out) == delivered_before, again.out


@pytest.mark.torture
@pytest.mark.parametrize("point", POINTS)
def test_a_briefing_killed_at_any_reaching_of_a_fault_point_delivers_once(
    run: Zygote, tmp_path: Path, undisturbed: Undisturbed, point: str
) -> None:
    for nth in range(1, undisturbed.reached[point] + 1):
        folder = feeds(tmp_path / str(nth))
        killed_and_resumed(run, folder, point, nth)
        assert_whole(folder, undisturbed.pages, summaries=6)


def storm(run: Zygote, root: Path, kills: int, *, seed: int, count: int, longest: float) -> int:
    """Kill the command at random moments, again and again until it comes through, in folder after folder.

    Returns how many briefings came through.
    """
    chance = random.Random(seed)  # noqa: S311  (a repeatable choice, not a secret)
    whole = feeds(root / "whole", count)
    assert run(*COMMAND, cwd=whole).code == 0
    expected = pages(whole / "out")
    happened = finished = 0
    while happened < kills:
        folder = feeds(root / f"storm-{finished}", count)
        seen: list[Event] = []
        while True:
            ended = run(*COMMAND, cwd=folder, kill_after=chance.uniform(0.0, longest) if happened < kills else None)
            now = journal(folder)
            assert [e.hash for e in now[: len(seen)]] == [e.hash for e in seen], "what was acknowledged is there"
            seen = now
            if not ended.killed:
                assert ended.code == 0, ended.err
                break
            happened += 1
        assert_whole(folder, expected, summaries=min(2 * count, 10))
        finished += 1
    return finished


def test_twelve_kills_at_random_moments_lose_nothing_and_repeat_nothing(run: Zygote, tmp_path: Path) -> None:
    assert storm(run, tmp_path, 12, seed=20251101, count=3, longest=0.7) >= 1


@pytest.mark.torture
def test_fifty_kills_at_random_moments_lose_nothing_and_repeat_nothing(run: Zygote, tmp_path: Path) -> None:
    assert storm(run, tmp_path, 50, seed=7, count=12, longest=1.2) >= 1


def half_delivered(run: Zygote, folder: Path, point: str = "effect.performed") -> list[Path]:
    """Kill a briefing behind its delivery, before that is on record; returns the files."""
    assert run(*COMMAND, cwd=folder, kill=(point, 1)).killed
    return sorted((folder / "out").iterdir())


def test_a_delivered_file_that_was_deleted_before_the_delivery_was_on_record_is_delivered_again(
    run: Zygote, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    folder = feeds(tmp_path / "f")
    html, markdown = half_delivered(run, folder)
    html.unlink()
    before = markdown.stat()
    assert run(*COMMAND, cwd=folder).code == 0
    assert_whole(folder, undisturbed.pages, summaries=6)
    assert markdown.stat().st_mtime_ns == before.st_mtime_ns, "what is there is not written again"


def test_a_delivered_file_that_somebody_changed_is_never_replaced_and_the_next_run_delivers_all(
    run: Zygote, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    folder = feeds(tmp_path / "f")
    html, markdown = half_delivered(run, folder)
    markdown.write_text("my own notes")
    first = run(*COMMAND, "--json", cwd=folder)
    assert first.code == 1
    assert first.error["code"] == "TOR-601"
    assert f"another file of the name {markdown.name} is there" in first.error["message"]
    assert markdown.read_text() == "my own notes"
    html.unlink()
    markdown.rename(folder / "mine.txt")
    assert run(*COMMAND, cwd=folder).code == 0
    assert pages(folder / "out") == undisturbed.pages


def test_a_delivered_file_that_was_deleted_after_the_delivery_was_on_record_stays_deleted(
    run: Zygote, tmp_path: Path
) -> None:
    folder = feeds(tmp_path / "f")
    for path in half_delivered(run, folder, "effect.recorded"):
        path.unlink()
    ended = run(*COMMAND, cwd=folder)
    assert ended.code == 0
    assert "Resumed" in ended.out
    assert left_in(folder / "out") == []


def test_a_run_killed_in_one_folder_is_resumed_from_another(
    run: Zygote, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    folder = feeds(tmp_path / "f")
    (tmp_path / "elsewhere").mkdir()
    assert run(*COMMAND, cwd=folder, kill=("effect.begun", 1)).killed
    words = ("brief", "../f/a.xml", "../f/b.xml", "--workbook", "../f/x.workbook", "--out", "../f/out")
    ended = run(*words, "--interest", "durable commits", cwd=tmp_path / "elsewhere")
    assert ended.code == 0, ended.err
    assert_whole(folder, undisturbed.pages, summaries=6)


def test_an_interrupted_run_is_finished_before_another_wish_is_served(
    run: Zygote, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    folder = feeds(tmp_path / "f")
    (folder / "c.xml").write_bytes(rss(stories(2, "c"), "Feed C"))
    assert run(*COMMAND, cwd=folder, kill=("step.recorded", 5)).killed
    ended = run("brief", "c.xml", "--workbook", "x.workbook", "--out", "other", "--json", cwd=folder)
    assert ended.code == 0, ended.err
    assert ended.json["new"] == 2
    assert ended.json["resumed"] is False
    assert len(ended.json["others_resumed"]) == 1
    assert pages(folder / "out") == undisturbed.pages
    assert "Story c0" in pages(folder / "other")[0]


def test_an_interrupted_run_that_cannot_be_finished_is_reported_and_the_new_wish_is_served(
    run: Zygote, tmp_path: Path
) -> None:
    folder = feeds(tmp_path / "f")
    assert run(*COMMAND, cwd=folder, kill=("effect.begun", 1)).killed
    (folder / "out").write_text("a file where the folder was to be")
    ended = run("brief", "a.xml", "--workbook", "x.workbook", "--out", "other", cwd=folder)
    assert ended.code == 3, ended.err
    assert "interrupted before, could not be finished" in ended.out
    assert "3 new, 0 already read" in ended.out
    assert "Story a0" in pages(folder / "other")[0]


def test_a_run_keeps_to_its_model_name_and_its_pages_when_resumed_with_another_model(
    run: Zygote, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    folder = feeds(tmp_path / "f")
    assert run(*COMMAND, cwd=folder, kill=("effect.intended", 1)).killed
    env = {"TORPOR_MODEL": "openai:never-asked", "TORPOR_MODEL_URL": "http://127.0.0.1:9/v1"}
    assert run(*COMMAND, cwd=folder, env=env).code == 0
    assert_whole(folder, undisturbed.pages, summaries=6)
