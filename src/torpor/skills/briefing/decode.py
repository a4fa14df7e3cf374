"""Bytes into text, whatever the feed says its encoding is.

The order: a byte order mark; then UTF-8 where the bytes are valid UTF-8 (text in another encoding
hardly ever is by chance); then what the HTTP header, then the document says; then UTF-8 with the
invalid bytes replaced. Whoever checks a text and whoever reads it must see the same characters, so
this happens once, before anything else: a DOCTYPE hidden in UTF-16 or UTF-7 can't slip past the
check.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from dataclasses import dataclass

from w3lib.encoding import (
    html_body_declared_encoding,
    http_content_type_encoding,
    read_bom,
    resolve_encoding,
)

# Codecs that are no character sets of documents: some raise whatever the error handler, some run
# escapes.
_NOT_CHARSETS = frozenset({"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape", "utf-7"})
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Decoded:
    """A document as text."""

    text: str
    """Without byte order mark; characters that XML and JSON forbid are replaced by spaces."""
    notes: tuple[str, ...]
    """What was odd, in words for the user."""


def decode(data: bytes, content_type: str = "") -> Decoded:
    """Return the text of a document.

    Args:
        data: the document.
        content_type: the HTTP header of that name, or "".

    """
    bom_encoding, bom = read_bom(data)
    notes: list[str] = []
    if bom_encoding is not None and bom is not None:
        text, invalid = _strictly_or_not(data[len(bom) :], bom_encoding)
    else:
        text, invalid = _guessed(data, content_type)
    if invalid:
        # Only for a document with invalid bytes is U+FFFD their trace; the first one tells where.
        line, column = position(text, text.find("\ufffd"))
        place = f"first at line {line}, column {column}"
        notes.append(f"some bytes are not valid {invalid} and were replaced, {place}")
    found = _FORBIDDEN.search(text)
    if found:
        line, column = position(text, found.start())
        text, count = _FORBIDDEN.subn(" ", text)
        place = f"first at line {line}, column {column}"
        notes.append(f"{count:,} forbidden control character(s) were dropped, {place}")
    return Decoded(text, tuple(notes))


def position(text: str, index: int) -> tuple[int, int]:
    """Return line and column of a character, both counted from 1.

    Args:
        text: the whole text.
        index: the character's index; the text's length stands for its end.

    """
    index = max(0, min(index, len(text)))
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)


def byte_position(data: bytes, offset: int) -> tuple[int, int]:
    """Return line and column of a byte of UTF-8, both counted from 1; columns are characters.

    Args:
        data: the whole text in UTF-8.
        offset: the byte's offset; the length stands for the end.

    """
    offset = max(0, min(offset, len(data)))
    start = data.rfind(b"\n", 0, offset) + 1
    return data.count(b"\n", 0, offset) + 1, len(data[start:offset].decode("utf-8", "ignore")) + 1


def _guessed(data: bytes, content_type: str) -> tuple[str, str]:
    # ISO-2022 text is ASCII bytes with escapes; only its label can tell.
    if b"\x1b" not in data and b"\0" not in data[:64]:
        with contextlib.suppress(UnicodeDecodeError):  # not UTF-8: the labels are asked next
            return data.decode("utf-8"), ""
    for label in _labels(data, content_type):
        try:
            return data.decode(label), ""
        except (UnicodeError, LookupError):
            # LookupError: a codec of Python's that isn't for text (hex, zip).
            continue
    return _strictly_or_not(data, "utf-8")


def _labels(data: bytes, content_type: str) -> list[str]:
    head = data[:1024]
    named = [
        http_content_type_encoding(content_type),
        # The declaration of UTF-16 without a byte order mark: `<` and NUL in turn.
        "utf-16-le" if head.startswith(b"<\0") else "utf-16-be" if head.startswith(b"\0<") else None,
        html_body_declared_encoding(head),
    ]
    labels = []
    for name in named:
        known = resolve_encoding(name) if name else None
        if known and codecs.lookup(known).name.replace("_", "-") not in _NOT_CHARSETS:
            labels.append(known)
    return labels


def _strictly_or_not(data: bytes, encoding: str) -> tuple[str, str]:
    try:
        return data.decode(encoding), ""
    except UnicodeDecodeError:
        return data.decode(encoding, "replace"), encoding.upper()
