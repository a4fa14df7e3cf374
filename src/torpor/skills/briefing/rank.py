"""Which items the reader cares for: words and meaning, in one number.

Two signals see different things. BM25 (Robertson & Zaragoza, "The Probabilistic Relevance
Framework", 2009; here in Lucene's form, by the library bm25s) finds the reader's own words and
prefers rare ones; the cosine of embeddings finds the same thing said otherwise.

They are put together as a convex sum, each first brought to 0..1 with its *theoretical* least value
as zero: Bruch, Gai and Ingber ("An Analysis of Fusion Functions for Hybrid Retrieval", ACM TOIS 42,
2023) found that better than reciprocal rank fusion (Cormack, 2009), which forgets by how much one
item beats another. The upper end is the best item of the batch, so that one briefing's scores
spread out, but never less than a floor: where nothing fits the interests, noise isn't stretched
into a recommendation. Lucene's BM25 can't exceed the sum of the query terms' weights, so a text
that repeats one word a thousand times doesn't push the others down.

The title counts as if it stood there twice more (weighting of fields by repetition: Robertson,
Zaragoza and Taylor, "Simple BM25 Extension to Multiple Weighted Fields", CIKM 2004).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from torpor.base.errors import InternalError
from torpor.skills.briefing.item import Item

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Scores = npt.NDArray[np.float64]

WORDS_SHARE = 0.5
"""Weight of BM25 against the cosine."""

WORDS_FLOOR = 0.3
"""Share of the interests' total weight that an item must reach to be scored 1 for its words."""

MEANING_FLOOR = 0.35
"""Cosine that an item must reach to be scored 1 for its meaning; unrelated texts reach 0.1 to 0.2.
"""

TITLE_COUNTS = 3
"""How often the title's words count."""

RANK_CHARS = 2_500
"""Characters of an item's text whose words count; 10,000 items are then ranked within some seconds.
"""

EMBED_CHARS = 400
"""Characters of an item's text that go into its vector: a mean of more words says less. Tried on
the posts of two blogs with the local model, 150 and 400 put the right post first, 2,000 did not."""

TERMS_MAX = 4
"""Words of the interests that are named as reasons."""

SCORE_DECIMALS = 6
"""Decimals kept of a score: the order doesn't hang on how a processor rounds."""

_WIDE_RUN = re.compile(r"[\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]+")


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """An item's place in the order."""

    index: int
    """Where it stood in the sequence that was ranked."""
    identity: str
    """The name under which memory knows it."""
    score: float
    """0 to 1; 0 for every item where the reader has no interests."""
    bm25: float
    """Its raw BM25 score; comparable within one batch only."""
    similarity: float
    """The cosine of its vector and the interests', -1 to 1; 0 where there are no vectors."""
    terms: list[str] = []
    """The words of the interests that it has, weightiest first."""


def embedding_text(item: Item) -> str:
    """Return what stands for an item when embedded: its title and its text's beginning."""
    return f"{item.title}\n{item.text[:EMBED_CHARS]}".strip()


def rank(
    items: Sequence[Item],
    interests: str,
    item_vectors: Sequence[Sequence[float]] | None = None,
    interest_vector: Sequence[float] | None = None,
) -> list[Scored]:
    """Order items by how well they fit the interests; the newer first where that is equal.

    Items without a date follow those with one, and what is equal in that too stays in its order.

    Args:
        items: What to rank.
        interests: The reader's own words; blank ranks by date alone.
        item_vectors: One unit vector an item, of one model; None leaves meaning out.
        interest_vector: A unit vector of the same model; None leaves meaning out.

    Raises:
        InternalError: There is not one vector for each item, or their lengths differ.

    """
    if not items:
        return []
    count = len(items)
    words, weight = [0.0] * count, 0.0
    terms: list[list[str]] = [[] for _ in items]
    meaning = [0.0] * count
    if interests.strip():
        words, weight, terms = _words(items, interests)
        if item_vectors is not None and interest_vector is not None and any(interest_vector):
            meaning = _meaning(item_vectors, interest_vector, count)
    scores = _fused(words, WORDS_FLOOR * weight, meaning)
    scored = [
        Scored(
            index=place,
            identity=item.identity,
            score=scores[place],
            bm25=round(words[place], SCORE_DECIMALS),
            similarity=round(meaning[place], SCORE_DECIMALS),
            terms=terms[place],
        )
        for place, item in enumerate(items)
    ]
    return sorted(scored, key=lambda entry: _order(entry, items[entry.index]))


def _order(entry: Scored, item: Item) -> tuple[float, bool, int, int]:
    return (-entry.score, item.published_us is None, -(item.published_us or 0), entry.index)


def _fused(words: list[float], words_floor: float, meaning: list[float]) -> list[float]:
    top_words = max(*words, words_floor, 1e-12)
    top_meaning = max(*meaning, MEANING_FLOOR)
    # With one signal only, as for an item without known words, the other's share is not lost.
    share = 1.0 if not any(meaning) else WORDS_SHARE
    return [
        round(share * word / top_words + (1 - share) * max(0.0, like) / top_meaning, SCORE_DECIMALS)
        for word, like in zip(words, meaning, strict=True)
    ]


def _meaning(rows: Sequence[Sequence[float]], interest: Sequence[float], count: int) -> list[float]:
    import numpy as np  # noqa: PLC0415  0.2 s that commands which rank nothing need not pay

    if len(rows) != count or any(len(row) != len(interest) for row in rows):
        raise InternalError(promise="every item has one vector as long as the interests'")
    cosines: Scores = np.asarray(rows, dtype=np.float64) @ np.asarray(interest, dtype=np.float64)
    return [float(value) for value in np.clip(cosines, -1.0, 1.0)]


def _words(items: Sequence[Item], interests: str) -> tuple[list[float], float, list[list[str]]]:
    """Return each item's BM25 score, the most that is possible, and each item's terms."""
    import bm25s  # noqa: PLC0415  as above

    texts = [f"{item.title}\n" * TITLE_COUNTS + item.text[:RANK_CHARS] for item in items]
    documents = bm25s.tokenize(_spaced(texts), stopwords="en", show_progress=False)
    (asked,) = bm25s.tokenize(_spaced([interests]), stopwords="en", return_ids=False, show_progress=False)
    terms: list[list[str]] = [[] for _ in items]
    known = [term for term in dict.fromkeys(asked) if term in documents.vocab]
    if not known:
        return [0.0] * len(items), 0.0, terms
    index = bm25s.BM25(method="lucene", backend="numpy")
    index.index(documents, show_progress=False)
    parts = {term: index.get_scores([term]) for term in known}
    weights = {term: _weight(len(items), int((parts[term] > 0).sum())) for term in known}
    for term in sorted(known, key=lambda term: -weights[term]):
        for place in parts[term].nonzero()[0]:
            terms[place].append(term)
    scores = [float(score) for score in sum(parts.values())]
    return scores, sum(weights.values()), [some[:TERMS_MAX] for some in terms]


def _weight(documents: int, having: int) -> float:
    """Return a term's weight, which is also the most that it can add to a score."""
    return math.log(1 + (documents - having + 0.5) / (having + 0.5))


def _spaced(texts: list[str]) -> list[str]:
    """Cut the runs of scripts without blanks into pairs of neighbours, as Lucene does."""
    return [_WIDE_RUN.sub(_pairs, text) for text in texts]


def _pairs(run: re.Match[str]) -> str:
    characters = run.group()
    pairs = (characters[place : place + 2] for place in range(max(1, len(characters) - 1)))
    return f" {' '.join(pairs)} "
