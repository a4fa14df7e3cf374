"""What can still be read of broken XML: feedparser's lenient reader, kept on a short lead.

feedparser finds entries where no XML parser goes on: unescaped `&` and `<br>`, unknown entities, a
missing end. Some of what it does takes time that grows with the square of the input (see
`xmlfeed.py`), so it is given at most `BROKEN_MAX` characters, without the categories and with very
long words cut, and never a document type or an entity. It is given bytes, never a name, so it opens
no file and no connection.
"""

from __future__ import annotations

import html
import re
from typing import Any

import feedparser

from torpor.skills.briefing.entry import Entries, Entry, Kind, Words

BROKEN_MAX = 1024 * 1024
"""Characters of a broken document that are looked at."""

_CATEGORIES = re.compile(r"</?(?:[\w.-]{1,40}:)?(?:category|subject|keywords|tags)\b[^<>]*>", re.IGNORECASE)
_LONG_WORD = re.compile(r"[A-Za-z0-9_.+-]{400,}")
_REFERENCE = re.compile(r"&#(?:[xX]([0-9A-Fa-f]+)|(\d+));?")
_DECLARED = re.compile(r"<!\s*(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_FIRST_TAG = re.compile(r"<[A-Za-z_]")
_SURROGATES = range(0xD800, 0xE000)
_CHARACTERS = range(0x20, 0x110000)
_DIGITS_MAX = 8


def declares(text: str) -> bool:
    """Tell whether a document type or an entity is declared before the first element.

    Args:
        text: the document.

    """
    first = _FIRST_TAG.search(text)
    return _DECLARED.search(text, 0, first.start() if first else len(text)) is not None


def read_broken(text: str, items_max: int) -> Entries:
    """Return the entries that can still be found in broken XML; perhaps none.

    Args:
        text: the document, declaring no document type and no entities (see `declares`).
        items_max: entries to keep.

    """
    result = Entries()
    if len(text) > BROKEN_MAX:
        text = text[:BROKEN_MAX]
        result.notes.append(f"being broken, only its first {BROKEN_MAX:,} characters were read")
    text = _LONG_WORD.sub(lambda found: found[0][:400], _CATEGORIES.sub("", text))
    data = _REFERENCE.sub(_possible, text).encode("utf-8")
    try:
        parsed = feedparser.parse(
            data,
            response_headers={"content-type": "application/xml; charset=utf-8"},
            resolve_relative_uris=False,
            sanitize_html=False,
        )
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError):
        # feedparser names no errors of its own for what trips it; what it can't read is simply not
        # read.
        return result
    entries: list[Any] = parsed["entries"]
    result.title = _words(parsed["feed"], "title")
    result.more = len(entries) > items_max
    result.entries = [_entry(found) for found in entries[:items_max]]
    return result


def _possible(found: re.Match[str]) -> str:
    digits, radix = (found[1], 16) if found[1] else (found[2], 10)
    code = int(digits, radix) if len(digits) <= _DIGITS_MAX else 0
    return found[0] if code in _CHARACTERS and code not in _SURROGATES else " "


def _entry(found: Any) -> Entry:
    bodies: list[Any] = dict.get(found, "content") or []
    body = next((_detail(content) for content in bodies if content.get("value")), None)
    link = str(dict.get(found, "link") or "")
    # dict.get, since feedparser's own get warns of «updated» where there is only «published».
    dates = [str(dict.get(found, name) or "") for name in ("published", "updated", "created")]
    return Entry(
        title=_words(found, "title"),
        body=body or _words(found, "summary"),
        link=link,
        guid=str(dict.get(found, "id") or ""),
        author=Words(str(dict.get(found, "author") or ""), "guess"),
        dates=[date for date in dates if date],
    )


def _words(holder: Any, name: str) -> Words:
    detail = dict.get(holder, f"{name}_detail")
    return _detail(detail) if detail else Words(str(dict.get(holder, name) or ""), "guess")


def _detail(detail: Any) -> Words:
    value = str(detail.get("value") or "")
    kind: Kind = "html" if "html" in str(detail.get("type") or "") else "guess"
    # What feedparser took for plain text of a broken feed still has the entities that it didn't
    # know.
    return Words(value, kind) if kind == "html" else Words(html.unescape(value), kind)
