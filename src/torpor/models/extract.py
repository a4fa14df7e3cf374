"""A summary made of the text's own sentences: those that say most, about what is asked, once.

Four published steps, all deterministic:

1. **A graph.** Sentences are nodes; an edge weighs the cosine of their vectors where it is over a
   threshold, as in continuous LexRank (Erkan & Radev, "LexRank", JAIR 22, 2004, §3.3).
2. **A walk.** A sentence's centrality is its share of an endless random walk, found by power
   iteration (TextRank, Mihalcea & Tarau, EMNLP 2004). With probability 1 - `DAMPING` the walker
   jumps, not anywhere, but to where the bias lies (topic-sensitive PageRank, Haveliwala, WWW 2002;
   for questions: Otterbacher, Erkan & Radev, HLT 2005).
3. **The bias.** Towards sentences like the reader's focus, and mildly towards the opening: in news
   and posts the first sentences alone are a baseline that is hard to beat (Nenkova, AAAI 2005).
4. **The choice.** Maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998): the next sentence
   is the one with most centrality that says least of what was already chosen. They are given back
   in the order of the text.

Two rules keep the result readable. Headings, menus and code are no sentences: such fragments stay
in the graph but are chosen only where nothing else is. And a sentence that leans on the one before
it ("But they did.") says little alone, so its worth is cut (Paice, "Constructing literature
abstracts by computer", Information Processing & Management 26, 1990); the list of such openings is
English, other languages do without.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float64]

SENTENCES_MAX = 400
"""Sentences of a text that are compared; the matrix of them takes 1.3 MB and 1 ms a round."""

DAMPING = 0.85
"""Chance that the walker follows an edge; the value of both papers."""

EDGE_MIN = 0.1
"""Cosine under which two sentences are strangers; LexRank's threshold."""

LEAD_SHARE = 0.3
"""How much of a jump goes to the opening where the reader has a focus; all of it where there is
none.
"""

LEAD_SENTENCES = 6.0
"""Sentences after which the pull of the opening has fallen to 1/e."""

RELEVANCE_SHARE = 0.7
"""Lambda of maximal marginal relevance: the weight of centrality against novelty."""

ROUNDS_MAX = 100
"""Rounds of the power iteration; it gains a digit every 14, so the rest is under the rounding of
the scores.
"""

SCORE_DECIMALS = 9
"""Decimals that decide; sums whose order a linear-algebra library may change differ after them
only.
"""

_WIDE = re.compile(r"[\u1100-\u11ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]")
_NARROW = re.compile(r"[^\W\d_]")
_ENDS = re.compile(
    r"[.!?\u2026\u3002\uff01\uff0e\uff1f\u061f\u06d4\u0964\u0965][\"'\u2019\u201d\u00bb)\]\u300d\u300f\uff09]*$"
)

LETTERS_MIN = 20
LETTERS_MAX = 450
"""Letters in a sentence worth quoting; a character of a script that writes whole words or syllables
counts three.
"""

SHORT_LETTERS = 45
LONG_LETTERS = 220
"""Letters outside which a sentence says too little, or takes too long, for a summary of a few."""

AWKWARD = 0.6
"""Factor on the worth of a sentence for each way in which it reads badly alone."""

_LEANS = re.compile(
    r"[\"'\u2018\u201c(]*(?:[a-z]|(?i:and|also|because|both|but|each|for|he|hence|her|his|however|"
    r"instead|it|its|neither|nor|not|or|otherwise|same|she|so|still|such|that|their|then|therefore|"
    r"these|they|this|those|thus|too|which|yet)\b)"
)

LETTER_SHARE_MIN = 0.6
"""Letters among the characters that aren't blank; code and tables have fewer."""


def reads_well(sentence: str) -> bool:
    """Tell a sentence from a heading, a menu, a line of code or a wall of text."""
    narrow, wide = _letters(sentence)
    solid = sum(not character.isspace() for character in sentence)
    enough = LETTERS_MIN <= narrow + 3 * wide <= LETTERS_MAX
    return enough and narrow + wide >= LETTER_SHARE_MIN * solid and _ENDS.search(sentence) is not None


def _letters(sentence: str) -> tuple[int, int]:
    """Return the narrow letters and the wide ones, which write syllables or words."""
    wide = len(_WIDE.findall(sentence))
    return len(_NARROW.findall(sentence)) - wide, wide


def stands_alone(sentence: str) -> float:
    """Return how well a sentence reads by itself: 1, or less for each reason against it."""
    narrow, wide = _letters(sentence)
    letters = narrow + 3 * wide
    reasons = (
        _LEANS.match(sentence) is not None,
        letters < SHORT_LETTERS,
        letters > LONG_LETTERS,
        sentence.endswith(("?", "\uff1f", "\u061f", ":")),
    )
    return float(AWKWARD ** sum(reasons))


def jump_bias(vectors: Matrix, focus: Matrix | None) -> Vector:
    """Return where the walker lands when it jumps: a probability for each sentence."""
    lead = np.exp(-np.arange(len(vectors)) / LEAD_SENTENCES) + 0.05
    lead /= lead.sum()
    if focus is None:
        return lead
    likeness = np.clip(vectors @ focus, 0, None).astype(np.float64) ** 2
    total = float(likeness.sum())
    if total == 0:
        return lead
    bias: Vector = LEAD_SHARE * lead + (1 - LEAD_SHARE) * likeness / total
    return bias


def centrality(likeness: Vector, bias: Vector) -> Vector:
    """Return the share of a biased random walk that each node gets; the shares add up to 1.

    Args:
        likeness: Cosines, one row and column a node.
        bias: The probabilities of a jump.

    """
    edges = np.where(likeness >= EDGE_MIN, likeness, 0.0)
    np.fill_diagonal(edges, 0.0)
    sums = edges.sum(axis=1, keepdims=True)
    # A node without neighbours sends its walker on a jump.
    steps = np.where(sums > 0, edges / np.where(sums > 0, sums, 1.0), bias)
    shares = bias
    for _ in range(ROUNDS_MAX):
        moved: Vector = DAMPING * (shares @ steps) + (1 - DAMPING) * bias
        settled = float(np.abs(moved - shares).sum()) < 10.0**-SCORE_DECIMALS
        shares = moved
        if settled:
            break
    return shares


def choose(scores: Vector, likeness: Vector, allowed: Sequence[int], count: int) -> list[int]:
    """Return up to `count` allowed nodes, central and unlike each other, in ascending order."""
    top = float(scores.max(initial=0.0)) or 1.0
    chosen: list[int] = []
    left = list(allowed)
    while left and len(chosen) < count:
        best, best_worth = left[0], -np.inf
        for node in left:
            repeats = max((float(likeness[node, other]) for other in chosen), default=0.0)
            worth = RELEVANCE_SHARE * float(scores[node]) / top - (1 - RELEVANCE_SHARE) * repeats
            if round(worth, SCORE_DECIMALS) > best_worth:  # a tie goes to the earlier sentence
                best, best_worth = node, round(worth, SCORE_DECIMALS)
        chosen.append(best)
        left.remove(best)
    return sorted(chosen)


def key_sentences(sentences: Sequence[str], vectors: Matrix, focus: Matrix | None, count: int) -> list[int]:
    """Return the positions of the sentences that make the best summary, in ascending order.

    Args:
        sentences: In the order of the text; at most `SENTENCES_MAX`.
        vectors: One unit vector a sentence; zeros for one without a known word.
        focus: A unit vector of the reader's interests, or None.
        count: Sentences wanted at most.

    """
    allowed = [place for place, sentence in enumerate(sentences) if reads_well(sentence)]
    if not allowed:
        allowed = list(range(len(sentences)))
    if len(allowed) <= count:
        return allowed
    likeness = (vectors @ vectors.T).astype(np.float64)
    alone = np.array([stands_alone(sentence) for sentence in sentences])
    scores = centrality(likeness, jump_bias(vectors, focus)) * alone
    return choose(scores, likeness, allowed, count)
