"""JSON Feed 1 and 1.1 (jsonfeed.org), read tolerantly: an odd item is left out, the others stay."""

from __future__ import annotations

import re

import msgspec

from torpor.skills.briefing.decode import byte_position
from torpor.skills.briefing.entry import Entries, Entry, Words
from torpor.skills.briefing.xmlfeed import NotXml

_Scalar = str | int | float | None


class _Author(msgspec.Struct):
    name: _Scalar = None


class _Item(msgspec.Struct):
    id: _Scalar = None
    url: str | None = None
    external_url: str | None = None
    title: _Scalar = None
    content_html: str | None = None
    content_text: str | None = None
    summary: str | None = None
    date_published: str | None = None
    date_modified: str | None = None
    author: _Author | None = None
    authors: list[_Author] | None = None


class _Feed(msgspec.Struct):
    version: _Scalar = None
    title: _Scalar = None
    items: list[msgspec.Raw] | None = None


def read_json(text: str, items_max: int) -> Entries:
    """Read a JSON Feed.

    Args:
        text: the document.
        items_max: entries to keep.

    Raises:
        NotXml: it is malformed, or some other JSON.

    """
    data = text.encode("utf-8")
    feed = _decoded(data)
    result = Entries(title=Words(_text(feed.title)))
    raws = feed.items or []
    result.more = len(raws) > items_max
    odd = 0
    for raw in raws[:items_max]:
        try:
            result.entries.append(_entry(msgspec.json.decode(raw, type=_Item)))
        except (msgspec.DecodeError, RecursionError):
            odd += 1
    if odd:
        result.notes.append(f"{odd:,} item(s) are not as JSON Feed wants them and were left out")
    return result


def _decoded(data: bytes) -> _Feed:
    try:
        feed = msgspec.json.decode(data, type=_Feed)
    except msgspec.ValidationError as error:
        # Valid JSON of another shape.
        raise _not_feed(data, f"it is JSON, but no JSON Feed ({error})") from None
    except msgspec.DecodeError as error:
        place = re.search(r"\(byte (\d+)\)", str(error))
        offset = int(place[1]) if place else len(data)
        reason = re.sub(r"^JSON is malformed: | \(byte \d+\)$", "", str(error))
        line, column = byte_position(data, offset)
        raise NotXml(f"broken JSON: {reason}", line, column, hopeless=True) from None
    except RecursionError:
        raise _not_feed(data, "its JSON is nested too deep") from None
    if feed.items is None and "jsonfeed.org" not in _text(feed.version):
        raise _not_feed(data, "it is JSON, but no JSON Feed: it has neither items nor a version")
    return feed


def _not_feed(data: bytes, reason: str) -> NotXml:
    line, column = byte_position(data, len(data) - len(data.lstrip()))
    return NotXml(reason, line, column, hopeless=True)


def _entry(item: _Item) -> Entry:
    plain = Words(item.content_text or item.summary or "")
    body = Words(item.content_html, "html") if item.content_html else plain
    authors = [_text(author.name) for author in [*(item.authors or []), item.author] if author]
    return Entry(
        title=Words(_text(item.title)),
        body=body,
        link=item.url or item.external_url or "",
        guid=_text(item.id),
        author=Words(", ".join(name for name in authors[:5] if name)),
        dates=[date for date in (item.date_published, item.date_modified) if date],
    )


def _text(value: _Scalar) -> str:
    return "" if value is None else str(value)
