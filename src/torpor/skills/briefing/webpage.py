"""Web pages given where a feed was wanted: recognise them, and find the feeds that they name."""

from __future__ import annotations

import re
import urllib.parse

from lxml import etree

from torpor.skills.briefing.canonical import canonical_url

_HEAD_MAX = 256 * 1024
"""Characters of a page in which its feeds are looked for."""

_NAMED_MAX = 3
"""Feeds of one page that are told."""

_FEED_TYPES = frozenset({"application/rss+xml", "application/atom+xml", "application/feed+json", "application/rdf+xml"})
_PAGE = re.compile(r"(?:<!doctype\s+html\b|<(?:html|head|body)\b)", re.IGNORECASE)
_BEFORE = re.compile(r"\s+|<!--.*?-->|<\?[^>]*>", re.DOTALL)


def is_page(text: str) -> bool:
    """Tell whether a document is HTML.

    Args:
        text: the document.

    """
    index = 0
    while found := _BEFORE.match(text, index):
        index = found.end()
    return _PAGE.match(text, index) is not None


def feeds_named(text: str, address: str) -> list[str]:
    """Return the addresses of the feeds that a page names (rssboard.org/rss-autodiscovery).

    Args:
        text: the page.
        address: the page's own address, or "".

    """
    finder = _Finder()
    parser = etree.HTMLParser(target=finder)
    try:
        parser.feed(text[:_HEAD_MAX])
        parser.close()
    except etree.XMLSyntaxError:
        # libxml2 gave up; what the page named before stays.
        return _absolute(finder, address)
    return _absolute(finder, address)


def _absolute(finder: _Finder, address: str) -> list[str]:
    found: list[str] = []
    for href in finder.hrefs:
        try:
            joined = urllib.parse.urljoin(urllib.parse.urljoin(address, finder.base), href)
        except ValueError:
            continue  # no address
        url = canonical_url(joined)
        if url and url not in found:
            found.append(url)
    return found[:_NAMED_MAX]


class _Finder:
    """Receives the parser's events."""

    def __init__(self) -> None:
        self.hrefs: list[str] = []
        self.base = ""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        href = attributes.get("href", "").strip()
        rel = attributes.get("rel", "").lower().split()
        type_ = attributes.get("type", "").partition(";")[0].strip().lower()
        if tag == "base" and not self.base:
            self.base = href
        elif tag == "link" and href and "alternate" in rel and type_ in _FEED_TYPES:
            self.hrefs.append(href)

    def end(self, _tag: str) -> None:
        """Take an end tag; nothing hangs on it."""

    def data(self, _text: str) -> None:
        """Take text; none is wanted."""

    def close(self) -> None:
        """End the document."""
