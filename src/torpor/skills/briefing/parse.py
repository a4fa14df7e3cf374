"""Bytes into items: which format it is, what can be read of it, what can be believed of it."""

from __future__ import annotations

import hashlib
import re
import urllib.parse
from collections import Counter
from collections.abc import Iterable

import msgspec

from torpor.base.errors import SourceMalformed
from torpor.base.limits import FEED_ITEMS_MAX
from torpor.skills.briefing.broken import declares, read_broken
from torpor.skills.briefing.canonical import URL_MAX, canonical_url
from torpor.skills.briefing.dates import believable, read_date
from torpor.skills.briefing.decode import decode, position
from torpor.skills.briefing.entry import Entries, Entry, Words
from torpor.skills.briefing.item import Feed, Item, Validators
from torpor.skills.briefing.jsonfeed import read_json
from torpor.skills.briefing.text import clean, is_markup, plain_line, plain_text, strange_tags_shown
from torpor.skills.briefing.webpage import feeds_named, is_page
from torpor.skills.briefing.xmlfeed import NotXml, read_xml

GUID_MAX = 512
"""Characters; a longer guid is replaced by its SHA-256."""

_NAMED_ADDRESS = re.compile(r"^[^\s@]{1,100}@[^\s@]{1,100} \((.+)\)$")
"""How RSS writes an author: ada@example.org (Ada Lovelace)."""

_UNTITLED_MAX = 80
"""Characters of the body that stand in for a missing title."""


def parse(
    source: str,
    data: bytes,
    content_type: str = "",
    *,
    now_us: int,
    address: str = "",
    items_max: int = FEED_ITEMS_MAX,
) -> Feed:
    """Read a feed: RSS, Atom or JSON Feed.

    Args:
        source: the feed, as the user or the agent named it.
        data: its bytes, decompressed.
        content_type: the HTTP header of that name, or "".
        now_us: the present, in microseconds since 1970 UTC; later dates are not believed.
        address: what relative links are relative to, or "".
        items_max: items to keep; the feed's first ones are.

    Returns:
        The feed, its items in its own order, without validators. `notes` tells what was odd.

    Raises:
        SourceMalformed: there is no feed in the bytes; with line and column, both counted from 1.

    """
    decoded = decode(data, content_type)
    text = decoded.text
    notes = list(decoded.notes)
    try:
        found = _entries(text, items_max, address)
    except NotXml as error:
        raise SourceMalformed(source=source, line=error.line, column=error.column, reason=error.reason) from None
    notes += found.notes
    if found.more:
        notes.append(f"only its first {items_max:,} items were read")
    items = _items(source, found.entries, address, now_us, notes)
    title = _line(found.title)
    return Feed(source=source, title=title, items=items, validators=Validators(), notes=notes)


def _entries(text: str, items_max: int, address: str) -> Entries:
    body = text.lstrip()
    line, column = position(text, len(text) - len(body))
    if not body:
        raise NotXml("it is empty", 1, 1, hopeless=True)
    if body[0] in "{[":
        return read_json(text, items_max)
    if body[0] != "<":
        return _recovered(text, items_max, NotXml("it is neither XML nor JSON", line, column, hopeless=False))
    if is_page(body):
        named = feeds_named(body, address)
        more = f"; its feed is {' or '.join(named)}" if named else ""
        raise NotXml(f"it is a web page, not a feed{more}", line, column, hopeless=True)
    try:
        return read_xml(text, items_max)
    except NotXml as error:
        if error.hopeless:
            raise
        return _recovered(text, items_max, error)


def _recovered(text: str, items_max: int, error: NotXml) -> Entries:
    if declares(text):
        raise error
    found = read_broken(text, items_max)
    if not found.entries:
        raise error
    note = f"it is broken at line {error.line}, column {error.column} ({error.reason})"
    found.notes.insert(0, f"{note}; {len(found.entries):,} item(s) could still be read")
    return found


def _items(source: str, entries: Iterable[Entry], address: str, now_us: int, notes: list[str]) -> list[Item]:
    items: list[Item] = []
    seen: set[str] = set()
    twins = empty = 0
    undated: list[str] = []
    for entry in entries:
        item = _item(source, entry, address)
        if not (item.title or item.text or item.url):
            empty += 1
            continue
        name = item.alias or item.identity
        if name in seen:
            twins += 1
            continue
        seen.add(name)
        published = _published(entry, now_us)
        if published is None and entry.dates:
            undated.append(f"{entry.dates[0][:40]!r} of {item.title!r}")
        items.append(_dated(item, published))
    if twins:
        notes.append(f"{twins:,} repeated item(s) were dropped; the first of each was kept")
    if empty:
        notes.append(f"{empty:,} empty item(s) were dropped")
    if undated:
        notes.append(f"{len(undated):,} date(s) are not believed, the first is {clean(undated[0])}")
    return _told_apart(items)


def _item(source: str, entry: Entry, address: str) -> Item:
    text = _body(entry.body)
    title = _line(entry.title)
    if not title and text:
        title = plain_line(text.partition("\n")[0], markup=False, limit=_UNTITLED_MAX)
    guid = " ".join(clean(entry.guid).split())
    if len(guid) > GUID_MAX:
        guid = f"sha256:{hashlib.sha256(guid.encode()).hexdigest()}"
    return Item(
        source=source,
        url=_absolute(entry, address),
        guid=guid,
        title=title,
        text=text,
        author=_NAMED_ADDRESS.sub(r"\1", _line(entry.author)),
    )


def _dated(item: Item, published_us: int | None) -> Item:
    return item if published_us is None else msgspec.structs.replace(item, published_us=published_us)


def _told_apart(items: list[Item]) -> list[Item]:
    """Mark the items that share their address with another: it is their page's, and no name of theirs."""
    pages = Counter(item.url for item in items if item.guid)
    return [
        msgspec.structs.replace(item, shares_page=True) if item.guid and pages[item.url] > 1 else item for item in items
    ]


def _published(entry: Entry, now_us: int) -> int | None:
    moments = (read_date(date) for date in entry.dates)
    return next((moment for moment in moments if moment is not None and believable(moment, now_us)), None)


def _absolute(entry: Entry, address: str) -> str:
    link = re.sub(r"[\t\r\n]", "", entry.link).strip()
    if not link or len(link) > URL_MAX:
        return ""
    try:
        base = urllib.parse.urljoin(address, entry.base) if entry.base else address
        return canonical_url(urllib.parse.urljoin(base, link))
    except ValueError:
        # urljoin refuses hosts such as «[»: no address.
        return ""


def _line(words: Words) -> str:
    if words.kind == "plain":
        return plain_line(words.value, markup=False)
    shown = strange_tags_shown(words.value)
    return plain_line(shown, markup=True) if _is_html(words, shown) else plain_line(words.value, markup=False)


def _body(words: Words) -> str:
    if words.kind == "plain":
        return plain_text(words.value, markup=False)
    if words.kind == "html":
        return plain_text(words.value, markup=True)
    shown = strange_tags_shown(words.value)
    return plain_text(shown, markup=True) if is_markup(shown) else plain_text(words.value, markup=False)


def _is_html(words: Words, shown: str) -> bool:
    return words.kind == "html" or is_markup(shown)
