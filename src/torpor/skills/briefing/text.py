"""Markup into plain text, and plain text without surprises.

A feed's titles and bodies are written by strangers and end up in a terminal, in a prompt and in a
page. So they are made plain here, once: no tags, no entities, no control characters (which drive
terminals), no characters that reorder or hide text (Unicode UAX #9 and the «Trojan Source» paper,
Boucher & Anderson 2021; the tag block U+E0000…U+E007F, which smuggles invisible instructions to
language models).

libxml2's HTML parser does the reading; it reports what it sees to a target, so no tree is built and
the depth of the nesting doesn't matter.
"""

from __future__ import annotations

import re

from lxml import etree

from torpor.base.limits import ITEM_LINE_MAX, ITEM_MARKUP_MAX, ITEM_TEXT_MAX


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SILENT = _names(
    "script style template noscript iframe object embed svg math head title select textarea button audio video canvas"
)
_PARAGRAPHS = _names(
    "p h1 h2 h3 h4 h5 h6 ul ol dl pre blockquote table figure hr section article header footer aside main details"
)
_LINES = _names("div li tr dt dd br figcaption summary address caption form fieldset")
_INLINE = _names(
    "a abbr acronym area b base basefont bdi bdo big body center cite code col colgroup data del "
    "dfn em font html i img input ins kbd label legend link map mark meta nav optgroup option "
    "output param picture progress q rp rt ruby s samp small source span strike strong sub sup "
    "tbody td tfoot th thead time track tt u var wbr"
)
_HTML = _SILENT | _PARAGRAPHS | _LINES | _INLINE
_PERMALINK_MARKS = frozenset("#¶§🔗")

_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9:_-]*)")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_STRANGE_TAG = re.compile(r"<(?=/?([A-Za-z][A-Za-z0-9:_-]*))")
_HIDDEN = re.compile(
    "[\u00ad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    "\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def is_markup(text: str) -> bool:
    """Tell whether a text, nominally plain, was meant as HTML.

    RSS doesn't say which of the two its fields hold. Markup has an end tag, a tag that needs none,
    or an entity, and no tags but HTML's: `List<String>` stays as it is. (The rule is feedparser's,
    a little widened.)

    Args:
        text: the field, its XML escapes already undone.

    """
    sample = text[:ITEM_MARKUP_MAX]
    tags = [(closing, name.lower()) for closing, name in _TAG.findall(sample)]
    if any(name not in _HTML for _, name in tags):
        return False
    ends = any(closing or name in {"br", "img", "hr", "p", "script", "style"} for closing, name in tags)
    return ends or _ENTITY.search(sample) is not None


def strange_tags_shown(text: str) -> str:
    """Return HTML in which tags that are not HTML's are escaped, so that they stay visible as text.

    Args:
        text: HTML in which `List<String>` may stand unescaped.

    """

    def show(found: re.Match[str]) -> str:
        return "<" if found[1].lower() in _HTML else "&lt;"

    return _STRANGE_TAG.sub(show, text)


def plain_line(text: str, *, markup: bool, limit: int = ITEM_LINE_MAX) -> str:
    """Return a title or a name as plain text on one line.

    Args:
        text: the field.
        markup: whether it is HTML.
        limit: characters kept.

    """
    if markup:
        text = _read(text, limit * 4)
    return shorten(" ".join(clean(text[:ITEM_MARKUP_MAX]).split()), limit)


def plain_text(text: str, *, markup: bool, limit: int = ITEM_TEXT_MAX) -> str:
    """Return a body as readable plain text; an empty line stands between paragraphs.

    Args:
        text: the field.
        markup: whether it is HTML.
        limit: characters kept.

    """
    body = _read(text, limit) if markup else text[:ITEM_MARKUP_MAX]
    lines = [line.rstrip() for line in clean(body).split("\n")]
    return shorten(re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n").strip(), limit)


def clean(text: str) -> str:
    """Return the text without control characters and without characters that hide or reorder text.

    Line feeds and tabs stay; carriage returns and Unicode's line and paragraph separators become
    line feeds.

    Args:
        text: any text, lone surrogates included.

    """
    text = re.sub("\r\n?|[\x0b\x0c\x85\u2028\u2029]", "\n", text)
    return _SURROGATE.sub("\ufffd", _CONTROL.sub("", _HIDDEN.sub("", text)))


def shorten(text: str, limit: int) -> str:
    """Return the text, or its beginning and an ellipsis: at most `limit` characters.

    Args:
        text: any text.
        limit: characters, at least 1.

    """
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _read(markup: str, limit: int) -> str:
    target = _Writer(limit)
    parser = etree.HTMLParser(target=target, remove_comments=True, remove_pis=True)
    # A parser given nothing but white space has nothing to close; NUL would end libxml2's input
    # early.
    source = _SURROGATE.sub("\ufffd", markup[:ITEM_MARKUP_MAX].replace("\0", ""))
    if not source.strip():
        return ""
    try:
        parser.feed(source)
        parser.close()
    except etree.XMLSyntaxError:
        # libxml2 gives up on some hopeless input (nesting over its limit); what was read until then
        # stands.
        return target.text()
    return target.text()


class _Writer:
    """Receives the parser's events and writes text with paragraph breaks, up to a limit."""

    def __init__(self, limit: int) -> None:
        self._parts: list[str] = []
        self._room = limit + 1
        self._silent = 0
        self._pre = 0
        self._gap = ""
        self._anchor: list[str] | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Take a start tag."""
        if tag in _SILENT:
            self._silent += 1
        elif tag in _PARAGRAPHS:
            self._break("\n\n")
            self._pre += tag == "pre"
        elif tag == "br":
            self._gap = "\n\n" if "\n" in self._gap else "\n"
        elif tag in _LINES:
            self._break("\n")
            if tag == "li":
                self._put("- ")
        elif tag in {"td", "th"}:
            self._break(" ")
        elif tag == "a" and attributes.get("href", "").startswith("#"):
            self._anchor = []

    def end(self, tag: str) -> None:
        """Take an end tag."""
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        elif tag in _PARAGRAPHS:
            self._break("\n\n")
            self._pre = max(0, self._pre - (tag == "pre"))
        elif tag in _LINES and tag != "br":
            self._break("\n")
        elif tag == "a" and self._anchor is not None:
            held, self._anchor = "".join(self._anchor), None
            if held.strip() not in _PERMALINK_MARKS:
                self._write(held)

    def data(self, text: str) -> None:
        """Take a piece of text."""
        if self._silent or self._room <= 0:
            return
        if self._anchor is not None:
            self._anchor.append(text)
        else:
            self._write(text)

    def close(self) -> str:
        """End the document."""
        return self.text()

    def text(self) -> str:
        """Return what was written."""
        return "".join(self._parts)

    def _write(self, text: str) -> None:
        if self._pre:
            self._put(text)
            return
        words = " ".join(text.split())
        if text[:1].isspace():
            self._break(" ")
        if words:
            self._put(words)
            if text[-1:].isspace():
                self._break(" ")

    def _break(self, gap: str) -> None:
        if len(gap) > len(self._gap) or (gap == "\n" and self._gap == " "):
            self._gap = gap

    def _put(self, text: str) -> None:
        if self._room <= 0:
            return
        if self._gap and self._parts and not (self._gap == " " and self._parts[-1].endswith(("- ", " "))):
            self._parts.append(self._gap)
        self._gap = ""
        self._parts.append(text[: self._room])
        self._room -= len(text)
