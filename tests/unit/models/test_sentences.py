from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor.models.sentences import split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        (" \n ", []),
        ("One.", ["One."]),
        ("Dr. Smith paid $3.50. He left.", ["Dr. Smith paid $3.50.", "He left."]),
        ("See e.g. the paper (Fig. 3). It helps.", ["See e.g. the paper (Fig. 3).", "It helps."]),
        ('"Stop!" he said. "Why?"', ['"Stop!" he said.', '"Why?"']),
        ("Use 3.11.2 or foo.bar() now. Go.", ["Use 3.11.2 or foo.bar() now.", "Go."]),
        ("At https://a.example/b.c?d=e it is. Go.", ["At https://a.example/b.c?d=e it is.", "Go."]),
        ("Title\n\nA sentence\nover two lines.", ["Title", "A sentence over two lines."]),
        ("他来了。你好吗?很好!", ["他来了。", "你好吗?", "很好!"]),
        ("一文です。二文です。", ["一文です。", "二文です。"]),
    ],
)  # fmt: skip
def test_text_is_cut_where_sentences_end(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@given(st.text(st.characters()))
def test_no_word_is_lost_or_moved(text: str) -> None:
    whole = text.encode(errors="replace").decode()
    assert "".join("".join(split_sentences(text)).split()) == "".join(whole.split())
