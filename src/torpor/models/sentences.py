"""Text cut into sentences, in any script.

The rules (abbreviations, decimals, initials, quotes, addresses, full stops of about 300 languages)
are those of `sentencex`, which Wikimedia keeps for its translation tools: in Rust, linear in time,
without data to download. Its English rules are used for every text: what they add is English
abbreviations only, and the full stops of all scripts are known to them.
"""

from __future__ import annotations

import sentencex


def split_sentences(text: str) -> list[str]:
    """Return the sentences in order, each on one line, with runs of white space made one blank.

    Args:
        text: Plain text; blank lines and list marks end a sentence, single line breaks don't.

    """
    # Lone surrogates can't cross into Rust; they carry no meaning.
    whole = text.encode(errors="replace").decode()
    lines = (" ".join(part.split()) for part in sentencex.segment("en", whole))
    return [line for line in lines if line]
