from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from torpor.models.extract import Matrix, centrality, choose, jump_bias, key_sentences, reads_well

GOOD = [
    "The journal of an agent is the canonical state of it.",
    "Every event of the journal carries a digest of the last.",
    "The weather in the mountains was unusually mild today.",
]


def rows(*pairs: tuple[float, float]) -> Matrix:
    table: Matrix = np.array(pairs, dtype=np.float32)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    return table


@given(arrays(np.float32, (7, 4), elements=st.floats(-1, 1, width=32)))
def test_centrality_is_a_distribution(table: Matrix) -> None:
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    vectors: Matrix = (table / np.where(lengths > 1e-6, lengths, 1)).astype(np.float32)
    shares = centrality((vectors @ vectors.T).astype(float), jump_bias(vectors, None))
    assert shares.min() > 0
    assert shares.sum() == pytest.approx(1.0)


def test_a_walk_without_bias_agrees_with_the_stationary_distribution() -> None:
    likeness = np.array([[1, 0.8, 0.2], [0.8, 1, 0.4], [0.2, 0.4, 1]])
    bias = np.full(3, 1 / 3)
    edges = likeness - np.eye(3)
    steps = 0.85 * edges / edges.sum(axis=1, keepdims=True) + 0.15 * bias
    values, left = np.linalg.eig(steps.T)
    expected = np.real(left[:, np.argmax(np.real(values))])
    expected /= expected.sum()
    assert centrality(likeness, bias) == pytest.approx(expected, abs=1e-7)


def test_the_focus_draws_the_walk() -> None:
    vectors = rows((1, 0), (0.9, 0.4), (0.2, 1))
    towards_last = jump_bias(vectors, rows((0, 1))[0])
    assert int(np.argmax(towards_last)) == 2
    assert towards_last.sum() == pytest.approx(1.0)


def test_what_was_said_is_not_chosen_again() -> None:
    likeness = np.array([[1.0, 1.0, 0.1], [1.0, 1.0, 0.1], [0.1, 0.1, 1.0]])
    assert choose(np.array([0.4, 0.39, 0.3]), likeness, [0, 1, 2], 2) == [0, 2]


def test_chosen_sentences_come_in_the_order_of_the_text() -> None:
    likeness = np.eye(3)
    assert choose(np.array([0.1, 0.2, 0.7]), likeness, [0, 1, 2], 2) == [1, 2]


def test_a_tie_goes_to_the_earlier_sentence() -> None:
    assert choose(np.full(3, 1 / 3), np.eye(3), [0, 1, 2], 1) == [0]


def test_fragments_are_chosen_only_where_there_is_nothing_else() -> None:
    vectors = rows((1, 0), (1, 0.1), (1, 0.2))
    assert key_sentences(["Heading", GOOD[0], "x = 1;"], vectors, None, 2) == [1]
    assert key_sentences(["Heading", "x = 1;", "Menu"], vectors, None, 2)


@pytest.mark.parametrize("sentence", [*GOOD, "他们发布了新的数据库。", "新しいデータベースだ。"])
def test_sentences_read_well(sentence: str) -> None:
    assert reads_well(sentence)


@pytest.mark.parametrize(
    "sentence",
    ["", "Two postures", "return x[0] + y[1]; // {}()", "No.", "1 2 3 4 5 6.", "w " * 500 + "."],
)
def test_fragments_do_not(sentence: str) -> None:
    assert not reads_well(sentence)
