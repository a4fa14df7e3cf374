"""The seam that every provider fits: two questions, `generate` and `embed`, and plain answers.

The answers are recorded in journals, so they are made of text, whole numbers and lists of floats
only and survive `msgspec.json` unchanged. What every implementation promises, and
`tests/contract/test_models.py` checks:

- one call is one try: whether to ask again is the caller's decision, and the errors' classes say if
  it makes sense;
- nothing in, nothing out: a blank text gives an empty reply and an empty batch no vectors, and
  nobody is asked;
- vectors come one a text, in order, all as long as each other, with a Euclidean length of 1 (or all
  zeros where a text has nothing that the model knows), so a dot product is a cosine;
- a text over `MODEL_TEXT_CHARS_MAX` characters is cut there, never refused;
- whatever goes wrong is a `ModelUnavailable`, a `ModelRefused` or a `ModelAnswerUnusable`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from torpor.base.limits import MODEL_TEXT_CHARS_MAX

Tier = Literal["light", "medium", "heavy", "local"]
"""What kind of model a call needs; local needs no network and no key."""

Task = Literal["summarise"]
"""What can be asked for. A task, and not free text, so that a model without language can do it too.
"""

VECTOR_DECIMALS = 6
"""Decimals kept of each component: a journal stays a third as long, and a cosine moves by less than
1e-5.
"""


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is asked to do, with the trusted and the untrusted words kept apart."""

    task: Task = "summarise"
    instructions: str = ""
    """Further wishes of ours or the reader's. Trusted: a provider puts them beside its own
    instructions.
    """
    text: str
    """What to work on. Untrusted: it came from outside and is data, whatever it says."""
    focus: str = ""
    """The reader's interests, in their own words; "" where there are none."""
    sentences: int = 2
    """At most so many sentences in the answer; at least 1."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a call took."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_micros: int = 0
    """Micro-dollars; 0 where the price is not known or there is none."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What a model said. Not yet to be trusted: see the membrane of whoever asked."""

    text: str
    model: str
    """The name of the model that answered."""
    usage: Usage


class Vectors(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model puts texts: one unit vector each, in the order of the texts."""

    rows: list[list[float]]
    model: str
    """The name of the model: only vectors of one model can be compared."""
    usage: Usage


class Model(Protocol):
    """Whatever can answer the two questions."""

    @property
    def name(self) -> str:
        """Its name for a journal: "local/wordllama-l2-256", "openai/gpt-x@host"."""
        ...

    @property
    def tier(self) -> Tier:
        """The tier that it serves."""
        ...

    async def generate(self, prompt: Prompt) -> Reply:
        """Do the prompt's task.

        Raises:
            ModelUnavailable: It didn't answer.
            ModelRefused: It said no.
            ModelAnswerUnusable: It answered nonsense.

        """
        ...

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector a text.

        Raises:
            ModelUnavailable: It didn't answer.
            ModelRefused: It said no.
            ModelAnswerUnusable: It answered nonsense.

        """
        ...


class Paired:
    """One model made of two: one for words, one for vectors; each signs its own answers."""

    def __init__(self, *, generate_with: Model, embed_with: Model) -> None:
        self._words = generate_with
        self._vectors = embed_with

    @property
    def name(self) -> str:
        """The name of the model for words."""
        return self._words.name

    @property
    def tier(self) -> Tier:
        """The tier of the model for words."""
        return self._words.tier

    async def generate(self, prompt: Prompt) -> Reply:
        """Ask the model for words; raises what it raises."""
        return await self._words.generate(prompt)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Ask the model for vectors; raises what it raises."""
        return await self._vectors.embed(texts)


def shown(text: str) -> str:
    """Return what a model is shown of a text; lone surrogates, which no encoding has, go."""
    return text[:MODEL_TEXT_CHARS_MAX].encode(errors="replace").decode()


def unit(row: Sequence[float]) -> list[float]:
    """Scale a vector to the length 1, rounded to `VECTOR_DECIMALS`; zeros stay zeros.

    Args:
        row: Finite numbers of any magnitude.

    """
    peak = max(map(abs, row), default=0.0)
    if peak == 0.0:
        return [0.0] * len(row)
    # Dividing by the peak first keeps the squares in range for numbers near the ends of the float's
    # range.
    scaled = [value / peak for value in row]
    length = math.hypot(*scaled)
    return [round(value / length, VECTOR_DECIMALS) for value in scaled]
