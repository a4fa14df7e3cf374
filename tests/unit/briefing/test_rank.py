from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor.base.errors import InternalError
from torpor.skills.briefing.item import Item
from torpor.skills.briefing.rank import EMBED_CHARS, embedding_text, rank


def item(title: str, text: str = "", published_us: int | None = None) -> Item:
    return Item(source="feed", url="", guid=title, title=title, text=text, published_us=published_us)


ITEMS = [
    item("Tomato soup", "Basil, garlic and a pan.", 300),
    item("Durable journals", "Systems that survive power loss keep a journal.", 100),
    item("A walk in the hills", "The journal of a hiker.", 200),
]


def titles(items: list[Item], *args: object) -> list[str]:
    return [items[entry.index].title for entry in rank(items, *args)]  # type: ignore[arg-type]


def test_nothing_ranks_as_nothing() -> None:
    assert rank([], "anything", [], [1.0]) == []


def test_the_readers_words_come_first() -> None:
    ranked = rank(ITEMS, "durable journal systems")
    assert [entry.index for entry in ranked] == [1, 2, 0]
    assert ranked[0].terms == ["durable", "systems", "journal"]
    assert ranked[0].identity == ITEMS[1].identity
    assert ranked[-1].score == 0.0


def test_meaning_finds_what_words_miss() -> None:
    vectors = [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]
    assert titles(ITEMS, "cooking", vectors, [1.0, 0.0]) == [
        "Tomato soup",
        "A walk in the hills",
        "Durable journals",
    ]


def test_both_together_beat_either_alone() -> None:
    items = [item("journal"), item("other"), item("journal too")]
    ranked = rank(items, "journal", [[0.0, 1.0], [0.8, 0.6], [0.8, 0.6]], [1.0, 0.0])
    assert ranked[0].index == 2


def test_the_title_counts_more_than_the_text() -> None:
    items = [item("soup", "journal and bread"), item("journal", "soup and bread")]
    assert titles(items, "journal") == ["journal", "soup"]


@pytest.mark.parametrize("interests", ["", "  \n"])
def test_without_interests_the_newest_come_first_and_undated_last(interests: str) -> None:
    items = [item("old", "", 1), item("none"), item("new", "", 9), item("none too")]
    ranked = rank(items, interests, [[1.0]] * 4, [1.0])
    assert [items[entry.index].title for entry in ranked] == ["new", "old", "none", "none too"]
    assert {entry.score for entry in ranked} == {0.0}


def test_equal_scores_go_by_date_and_then_by_place() -> None:
    items = [item("a", "journal", 1), item("b", "journal", 2), item("c", "journal", 2)]
    assert titles(items, "journal") == ["b", "c", "a"]


def test_a_batch_that_fits_nothing_is_not_talked_up() -> None:
    ranked = rank(ITEMS, "astronomy", [[0.05, 1.0]] * 3, [1.0, 0.0])
    assert max(entry.score for entry in ranked) < 0.2


def test_repeating_a_word_a_thousand_times_wins_little() -> None:
    items = [item("one", "journal " * 1_000), item("two", "durable journal systems")]
    assert titles(items, "durable journal systems") == ["two", "one"]


@pytest.mark.parametrize("interests", ["数据库", "データベース"])
def test_scripts_without_blanks_are_matched_by_pairs(interests: str) -> None:
    items = [item("天气很好"), item("新しいデータベース、新的数据库发布了"), item("番茄汤")]
    assert rank(items, interests)[0].index == 1


@pytest.mark.parametrize("interests", ["the and of", "!!!", "a", "zzz unknown"])
def test_interests_that_no_item_has_rank_by_date(interests: str) -> None:
    assert titles(ITEMS, interests) == ["Tomato soup", "A walk in the hills", "Durable journals"]


def test_items_without_a_word_are_ranked_last() -> None:
    items = [item(""), item("!!!"), item("journal")]
    assert [entry.index for entry in rank(items, "journal")] == [2, 0, 1]
    assert len(rank([item(""), item("")], "journal")) == 2


@pytest.mark.parametrize("vectors", [[[1.0]], [[1.0, 0.0]] * 3])
def test_vectors_that_do_not_fit_are_a_bug(vectors: list[list[float]]) -> None:
    with pytest.raises(InternalError, match="one vector"):
        rank(ITEMS, "journal", vectors, [1.0])


def test_a_zero_interest_vector_leaves_meaning_out() -> None:
    with_zero = rank(ITEMS, "journal", [[1.0]] * 3, [0.0])
    assert with_zero == rank(ITEMS, "journal")


UNIT = st.floats(0, 1).map(lambda x: [x, (1 - x * x) ** 0.5])
WORDS = st.sampled_from(["journal", "soup", "the", "数据库", "", "durable systems", "🚀"])
ANY_ITEM = st.builds(item, WORDS, st.lists(WORDS).map(" ".join), st.none() | st.integers(0, 5))


@given(st.lists(st.tuples(ANY_ITEM, UNIT), max_size=8), WORDS)
def test_every_item_comes_back_once_with_a_score_in_order(
    pairs: list[tuple[Item, list[float]]], interests: str
) -> None:
    items, vectors = [a for a, _ in pairs], [b for _, b in pairs]
    ranked = rank(items, interests, vectors, [1.0, 0.0])
    assert sorted(entry.index for entry in ranked) == list(range(len(items)))
    scores = [entry.score for entry in ranked]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert ranked == rank(items, interests, vectors, [1.0, 0.0])


def test_ten_thousand_items_are_ranked() -> None:
    items = [item(f"title {number}", "durable words " * 20) for number in range(10_000)]
    items.append(item("needle", "haystack"))
    ranked = rank(items, "needle")
    assert ranked[0].index == 10_000
    assert len(ranked) == 10_001


def test_ranking_prints_nothing() -> None:
    code = (
        "from torpor.skills.briefing.item import Item\n"
        "from torpor.skills.briefing.rank import rank\n"
        "rank([Item(source='s', url='', guid='g', title='a b', text='journal')], 'journal')\n"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_is_embedded_is_the_title_and_the_beginning() -> None:
    assert embedding_text(item("Title", "x" * 5_000)) == "Title\n" + "x" * EMBED_CHARS
    assert embedding_text(item("Title")) == "Title"
    assert embedding_text(item("", "text")) == "text"
