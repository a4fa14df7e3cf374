"""The tier that needs nobody: no key, no download, no network, the same answer every time.

It has vectors but no language of its own, so its summaries are extracts: see `extract.py` for how
sentences are chosen and `weights.py` for where the vectors come from. The first use in a process
reads 18 MB (about 0.3 s); after that a text of 10,000 characters takes some milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio.to_thread

from torpor.models.seam import Prompt, Reply, Tier, Usage, Vectors, shown, unit
from torpor.models.sentences import split_sentences

if TYPE_CHECKING:
    from torpor.models.weights import WordVectors

T = TypeVar("T")

CHARS_IN_PLACE_MAX = 20_000
"""Characters worked on in the event loop's own thread, about 10 ms; more go to a worker thread."""

SENTENCE_CHARS_MAX = 400
"""Characters of one sentence in a summary; a wall of text is cut at a word, with an ellipsis."""


class Local:
    """Vectors and extracts from `wordllama`'s weights. Light until first used; safe to share."""

    name = "local/wordllama-l2-256"
    tier: Tier = "local"

    def __init__(self, folder: Path | None = None) -> None:
        """Take the weights from another folder than the installed package's.

        Args:
            folder: Laid out as the package `wordllama`; None for the package itself.

        """
        self._folder = folder

    async def generate(self, prompt: Prompt) -> Reply:
        """Return the sentences that say most about the text and the focus, in their own order.

        Raises:
            ModelRefused: The weights are missing or damaged.

        """
        text = shown(prompt.text)
        if not text.strip():
            return Reply(text="", model=self.name, usage=Usage())
        return await self._work(len(text), lambda: self._summarise(prompt, text))

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector a text.

        Raises:
            ModelRefused: The weights are missing or damaged.

        """
        if not texts:
            return Vectors(rows=[], model=self.name, usage=Usage())
        cut = [shown(text) for text in texts]
        return await self._work(sum(map(len, cut)), lambda: self._embed(cut))

    async def _work(self, size: int, job: Callable[[], T]) -> T:
        from torpor.models.weights import loaded  # noqa: PLC0415  it brings numpy, which not every command needs

        if size <= CHARS_IN_PLACE_MAX and loaded(self._folder):
            return job()
        return await anyio.to_thread.run_sync(job)

    def _words(self) -> WordVectors:
        from torpor.models.weights import load  # noqa: PLC0415  as above

        return load(self._folder, model=self.name)

    def _embed(self, texts: list[str]) -> Vectors:
        rows, tokens = self._words().unit_rows(texts)
        usage = Usage(input_tokens=tokens)
        return Vectors(rows=[unit(row) for row in rows.tolist()], model=self.name, usage=usage)

    def _summarise(self, prompt: Prompt, text: str) -> Reply:
        from torpor.models.extract import SENTENCES_MAX, key_sentences  # noqa: PLC0415  as above

        words = self._words()
        sentences = split_sentences(text)[:SENTENCES_MAX]
        vectors, read = words.unit_rows(sentences)
        focus = None
        if prompt.focus.strip():
            rows, more = words.unit_rows([shown(prompt.focus)])
            focus, read = rows[0], read + more
        places = key_sentences(sentences, vectors, focus, max(1, prompt.sentences))
        summary = " ".join(_cut(sentences[place]) for place in places)
        usage = Usage(input_tokens=read, output_tokens=len(words.tokens(summary)))
        return Reply(text=summary, model=self.name, usage=usage)


def _cut(sentence: str) -> str:
    if len(sentence) <= SENTENCE_CHARS_MAX:
        return sentence
    head = sentence[: SENTENCE_CHARS_MAX - 1]
    # Scripts without blanks are cut between any two characters.
    return (head.rsplit(" ", 1)[0] if " " in head else head) + "\u2026"
