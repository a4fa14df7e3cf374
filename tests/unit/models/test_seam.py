from __future__ import annotations

import math

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from torpor.base.limits import MODEL_TEXT_CHARS_MAX
from torpor.models import Local, Paired, Prompt
from torpor.models.openai import Endpoint, OpenAI
from torpor.models.seam import shown, unit

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(FINITE, max_size=50))
def test_a_scaled_vector_has_the_length_one_or_is_all_zeros(row: list[float]) -> None:
    length = math.hypot(*unit(row))
    assert math.isclose(length, 1.0, abs_tol=1e-4) if any(row) else length == 0.0


def test_scaling_keeps_the_direction() -> None:
    assert unit([3.0, 4.0]) == [0.6, 0.8]
    assert unit([-5e300, 0.0]) == [-1.0, 0.0]


@given(st.text(st.characters()))
def test_what_a_model_is_shown_can_be_encoded(text: str) -> None:
    assert len(shown(text).encode()) >= len(text)


def test_what_a_model_is_shown_is_bounded() -> None:
    assert len(shown("x" * (MODEL_TEXT_CHARS_MAX + 1))) == MODEL_TEXT_CHARS_MAX


def test_a_prompt_survives_a_journal() -> None:
    prompt = Prompt(text="a", focus="b", instructions="c", sentences=3)
    assert msgspec.json.decode(msgspec.json.encode(prompt), type=Prompt) == prompt


def test_a_pair_bears_the_name_and_tier_of_the_model_for_words() -> None:
    words = OpenAI(Endpoint(base_url="http://127.0.0.1:1/v1", model="talker", tier="heavy"))
    pair = Paired(generate_with=words, embed_with=Local())
    assert (pair.name, pair.tier) == ("openai/talker@127.0.0.1:1", "heavy")
