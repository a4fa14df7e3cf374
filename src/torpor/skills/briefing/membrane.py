"""Where a model's words become a `Summary`: plain, short, safe to show. Nowhere else.

A model repeats what it read, and it read a stranger's feed. So an answer may carry markup, scripts,
terminal escapes, marks that turn the direction of writing, or nothing at all. What passes here is
one line of plain text in which no character is invisible, except the joiners that Persian, Indic
scripts and emoji need.

It stays text: `a < b` may be in it, and whoever shows it as HTML or Markdown escapes it as
everything else.
"""

from __future__ import annotations

import html
import re
import unicodedata

import msgspec
import nh3

from torpor.base.errors import ModelAnswerUnusable
from torpor.base.limits import SUMMARY_ANSWER_CHARS_MAX, SUMMARY_CHARS_MAX
from torpor.models import Reply, split_sentences

HIDDEN_ELEMENTS = {"script", "style", "think", "thinking", "template", "noscript", "title"}
"""Elements whose content goes too: it is no part of the answer. Some models think aloud in them."""

PASSES_MAX = 8
"""Rounds of taking markup out of what the last round left; wrapped deeper, every `<` and `&` goes.
"""

_JOINERS = "\u200c\u200d"
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_MARKED_LINE = re.compile(r"^[ \t]*(?:#{1,6}|[-*+\u2022]|\d{1,2}[.)]|>)[ \t]+", re.MULTILINE)
_STRONG = re.compile(r"(?<!\w)\*\*(?=\S)(.{1,300}?)(?<=\S)\*\*(?!\w)")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\((?:[^()\s]|\([^()\s]*\))*\)")


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A few sentences that a reader may be shown."""

    text: str
    """One line of plain text, at most `SUMMARY_CHARS_MAX` characters, never empty."""
    model: str
    """Who said it."""


def admit(reply: Reply, *, sentences: int) -> Summary:
    """Make a reply a summary.

    Args:
        reply: What the model said.
        sentences: At most so many are kept.

    Raises:
        ModelAnswerUnusable: It is far too long for what was asked, or nothing readable is left of
            it.

    """
    if len(reply.text) > SUMMARY_ANSWER_CHARS_MAX:
        reason = f"{len(reply.text):,} characters came where {sentences} sentence(s) were asked for"
        raise ModelAnswerUnusable(model=reply.model, reason=reason)
    said = split_sentences(unmarked(reply.text))[: max(1, sentences)]
    text = shortened(" ".join(said), SUMMARY_CHARS_MAX)
    if not any(character.isalnum() for character in text):
        raise ModelAnswerUnusable(model=reply.model, reason="no readable word is in it")
    return Summary(text=text, model=reply.model)


def printable(text: str) -> str:
    """Return the text on one line, without what can't be seen: controls, direction marks."""
    seen = (_visible(character) for character in unicodedata.normalize("NFC", text))
    return " ".join("".join(seen).split())


def _visible(character: str) -> str:
    if character.isspace():
        return " "
    hidden = unicodedata.category(character) in _UNSEEN and character not in _JOINERS
    return "" if hidden else character


def shortened(text: str, limit: int) -> str:
    """Cut a line to at most `limit` characters, at a blank where there is one, with an ellipsis."""
    if len(text) <= limit:
        return text
    head = text[: limit - 1]
    return (head.rsplit(" ", 1)[0] if " " in head else head) + "\u2026"


def unmarked(text: str) -> str:
    """Return the text without HTML and the commonest Markdown, one printable line a line."""
    lines = "\n".join(printable(line) for line in text.splitlines())
    lines = _untagged(lines)
    lines = _MARKED_LINE.sub("", lines)
    lines = _LINK.sub(r"\1", lines)
    return "\n".join(printable(line) for line in _STRONG.sub(r"\1", lines).splitlines())


def _untagged(text: str) -> str:
    # What one round takes out may join what stands left and right of it into a new tag, and
    # entities may hide one.
    for _ in range(PASSES_MAX):
        clean = nh3.clean(text, tags=set(), clean_content_tags=HIDDEN_ELEMENTS)
        plain = html.unescape(clean)
        if plain == text:
            return text
        text = plain
    return text.replace("<", "").replace("&", "")
