"""RSS and Atom, read in one pass that nothing in the document can make expensive.

Theory. feedparser reads more dialects than we do, but it isn't made for hostile input: the author's
e-mail is looked for with a pattern that takes quadratic time, and so does collecting the categories
of one entry (measured: 16,000 categories, 3.4 s; the time grows with the square). So well-formed
XML is read here, on expat's events, and feedparser sees only what is broken, and little of it
(`broken.py`). What makes this reader safe:

* a document type declaration ends the reading before anything in it is used, so there are no
  entities but XML's own
  five: no expansion (billion laughs, quadratic blow-up), no file, no network (CWE-776, CWE-611);
* no tree is built; of an entry, only the fields that a briefing needs are kept, each up to a cap;
* elements have a limit, in depth and in number; entries over the limit are counted out, not kept.

expat checks the rest of the document even after the last wanted entry, so a document is called
well-formed only if all of it is. Positions are expat's byte offsets, turned into lines and columns
of characters.

Formats: RSS 2.0 (rssboard.org/rss-specification) with RSS 0.9x and 1.0 alongside, Atom (RFC 4287)
with 0.3, and the modules content, Dublin Core, iTunes and Media RSS as far as they carry a title,
an author, a date or a text.
"""

from __future__ import annotations

import functools
import html
import re
import urllib.parse
from dataclasses import dataclass, field
from xml.parsers import expat

from torpor.base.limits import ITEM_MARKUP_MAX
from torpor.skills.briefing.canonical import URL_MAX
from torpor.skills.briefing.decode import byte_position
from torpor.skills.briefing.entry import Entries, Entry, Kind, Words

DEPTH_MAX = 256
"""Elements inside one another."""

ELEMENTS_MAX = 2_000_000
"""Elements in one document; an entry has some twenty, so this is far over ten thousand entries."""

_LINKS_MAX = 100
"""Links of one entry that are looked at."""

_ENTRY_DEPTH_MAX = 3
"""<rss><channel><item>; anything deeper that is called so belongs to another vocabulary."""

_ROOTS = frozenset({"rss", "feed", "rdf", "channel"})
_SPACES = {
    "": "",
    "http://www.w3.org/2005/atom": "",
    "http://purl.org/atom/ns": "",
    "http://purl.org/rss/1.0": "",
    "http://purl.org/net/rss1.1": "",
    "http://my.netscape.com/rdf/simple/0.9": "",
    "http://backend.userland.com/rss2": "",
    "http://purl.org/rss/1.0/modules/content": "content:",
    "http://purl.org/dc/elements/1.1": "dc:",
    "http://purl.org/dc/terms": "dc:",
    "http://www.itunes.com/dtds/podcast-1.0.dtd": "itunes:",
    "http://search.yahoo.com/mrss": "media:",
}
_BODIES = (
    "content:encoded",
    "content",
    "description",
    "summary",
    "dc:description",
    "itunes:summary",
    "media:description",
)
_DATES = ("pubdate", "published", "issued", "dc:date", "updated", "modified", "created")
_AUTHORS = ("author", "dc:creator", "itunes:author")
_FIELDS = frozenset({"title", "dc:title", "link", "guid", "id", *_BODIES, *_DATES, *_AUTHORS})
_XML = "http://www.w3.org/XML/1998/namespace "
_DECLARATION = re.compile(r"\s*<\?xml\s[^<>]*\?>")
# The one document type that well-meant feeds carry; its DTD is never loaded.
_HARMLESS_DOCTYPE = "-//Netscape Communications//DTD RSS 0.9"


class NotXml(Exception):
    """The document is no well-formed XML, or no feed."""

    def __init__(self, reason: str, line: int, column: int, *, hopeless: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line
        self.column = column
        self.hopeless = hopeless
        """True where nobody should try to recover anything from it."""


def read_xml(text: str, items_max: int) -> Entries:
    """Read a well-formed feed.

    Args:
        text: the document; what it says about its encoding is ignored.
        items_max: entries to keep.

    Raises:
        NotXml: it is malformed, dangerous, or something else than a feed.

    """
    # Blank space before the XML declaration is a common slip; blanks in its place keep all
    # positions.
    declaration = _DECLARATION.match(text)
    if declaration:
        text = re.sub(r"[^\n]", " ", declaration[0]) + text[declaration.end() :]
    data = text.encode("utf-8")
    reader = _Reader(items_max)
    parser = reader.parser
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        line, column = byte_position(data, parser.ErrorByteIndex)
        raise NotXml(reader.explained(error), line, column, hopeless=False) from None
    except _Refused as refused:
        line, column = byte_position(data, refused.offset)
        raise NotXml(refused.reason, line, column, hopeless=True) from None
    return reader.result


class _Refused(Exception):
    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.offset = offset


@dataclass(slots=True)
class _Field:
    """The field that is being read."""

    name: str
    depth: int
    kind: Kind
    escape: bool
    """True where it is XHTML: what the parser unescaped has to be escaped again."""
    parts: list[str] = field(default_factory=list)
    room: int = ITEM_MARKUP_MAX

    def add(self, text: str) -> None:
        if self.room > 0:
            self.parts.append(text[: self.room])
            self.room -= len(text)


@dataclass(slots=True)
class _Draft:
    """The entry (or the feed's head) that is being read."""

    depth: int
    texts: dict[str, Words] = field(default_factory=dict)
    links: list[tuple[str, str, str, str]] = field(default_factory=list)
    """Of each: relation, type, its own xml:base, address."""
    base: str = ""
    permalink: bool = True


class _Reader:
    """expat's callbacks; `result` is what they gathered."""

    def __init__(self, items_max: int) -> None:
        self.result = Entries()
        self.parser = expat.ParserCreate("utf-8", namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.EntityDeclHandler = self._entity
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._data
        self._items_max = items_max
        self._open: list[str] = []
        self._bases: list[str] = []
        self._elements = 0
        self._head = _Draft(depth=0)
        self._draft: _Draft | None = None
        self._field: _Field | None = None

    def explained(self, error: expat.ExpatError) -> str:
        """Return expat's verdict in words that say where in the document it was."""
        reason = expat.ErrorString(error.code)
        inside = f"<{self._open[-1].rpartition(' ')[2]}>" if self._open else ""
        if error.code == expat.errors.codes[expat.errors.XML_ERROR_NO_ELEMENTS] and inside:
            return f"it ends inside {inside}"
        return f"{reason}, inside {inside}" if inside else reason

    # --- callbacks

    def _refuse(self, reason: str) -> None:
        raise _Refused(reason, self.parser.CurrentByteIndex)

    def _doctype(self, _name: str, system: str | None, public: str | None, internal: int) -> None:
        if internal or system or public:
            if not internal and (public or "").startswith(_HARMLESS_DOCTYPE):
                return
            self._refuse("it declares a document type (DTD), which feeds don't need and attacks use")

    def _entity(self, *_declaration: object) -> None:
        self._refuse("it declares entities, which feeds don't need and attacks use")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        depth = len(self._open) + 1
        self._elements += 1
        if depth > DEPTH_MAX:
            self._refuse(f"its elements are nested more than {DEPTH_MAX} deep")
        if self._elements > ELEMENTS_MAX:
            self._refuse(f"it has more than {ELEMENTS_MAX:,} elements")
        name = _short(tag)
        if depth == 1 and name.rpartition(":")[2] not in _ROOTS:
            local = tag.rpartition(" ")[2]
            self._refuse(f"it is XML, but no feed: its first element is <{local[:60]}>")
        self._open.append(tag)
        # Joined only where an entry needs it: joining for every element could be made expensive.
        base = attributes.get(f"{_XML}base", "")
        self._bases.append(base if len(base) <= URL_MAX else "")
        if self._field is not None and self._field.name == "author":
            # RSS's <author> holds text, Atom's holds elements: the name is wanted, or else any
            # text.
            self._field.add(" ")
            if name == "name":
                self._field = _Field("author", depth, "plain", escape=False)
        elif self._field is not None:
            self._field.add(_opening(tag, attributes))
        elif self._draft is None and depth <= _ENTRY_DEPTH_MAX and name in {"item", "entry"}:
            self._begin(depth)
        else:
            self._begin_field(name, depth, attributes)

    def _end(self, tag: str) -> None:
        depth = len(self._open)
        self._open.pop()
        self._bases.pop()
        held = self._field
        if held is not None and depth > held.depth:
            held.add(" " if held.name == "author" else f"</{tag.rpartition(' ')[2]}>")
        elif held is not None:
            self._keep(held)
            self._field = None
        elif self._draft is not None and depth == self._draft.depth:
            self._finish(self._draft)
            self._draft = None
        elif depth == 1:
            self.result.title = self._head.texts.get("title", Words())

    def _data(self, text: str) -> None:
        if self._field is not None:
            self._field.add(html.escape(text, quote=False) if self._field.escape else text)

    # --- entries

    def _begin(self, depth: int) -> None:
        if len(self.result.entries) >= self._items_max:
            # The rest is only checked to be well-formed: with no draft, no field is kept.
            self.result.more = True
            self.parser.CharacterDataHandler = None
            self.parser.StartElementHandler = self._start_unread
            return
        self._draft = _Draft(depth=depth, base=functools.reduce(_joined, self._bases, ""))

    def _start_unread(self, tag: str, _attributes: dict[str, str]) -> None:
        self._open.append(tag)
        self._bases.append("")
        self._elements += 1
        if len(self._open) > DEPTH_MAX:
            self._refuse(f"its elements are nested more than {DEPTH_MAX} deep")
        if self._elements > ELEMENTS_MAX:
            self._refuse(f"it has more than {ELEMENTS_MAX:,} elements")

    def _begin_field(self, name: str, depth: int, attributes: dict[str, str]) -> None:
        draft = self._draft
        if draft is None:
            # Of the feed's head only the title is wanted: <feed><title> or <channel><title>.
            parent = _short(self._open[-2]) if depth > 1 else ""
            if name == "title" and parent.rpartition(":")[2] in _ROOTS:
                self._field = _Field(name, depth, *_kind(name, attributes))
            return
        nested = depth - draft.depth
        if name == "link" and nested == 1 and "href" in attributes:
            if len(draft.links) < _LINKS_MAX:
                rel, type_ = attributes.get("rel", "alternate"), attributes.get("type", "")
                draft.links.append((rel, type_, self._bases[-1], attributes["href"]))
            return
        # <media:group> holds the only text of some entries; other deeper elements belong to
        # somebody else.
        if (nested == 1 and name in _FIELDS) or name == "media:description":
            if name == "guid":
                draft.permalink = attributes.get("isPermaLink", "true").strip().lower() != "false"
            self._field = _Field(name, depth, *_kind(name, attributes))

    def _keep(self, held: _Field) -> None:
        into = self._draft or self._head
        words = Words("".join(held.parts).strip(), held.kind)
        if words.value:
            into.texts.setdefault(held.name, words)

    def _finish(self, draft: _Draft) -> None:
        texts = draft.texts
        guid = texts.get("guid") or texts.get("id") or Words()
        entry = Entry(base=draft.base, guid=guid.value)
        entry.title = texts.get("title") or texts.get("dc:title") or Words()
        entry.body = next((texts[name] for name in _BODIES if name in texts), Words())
        entry.author = next((texts[name] for name in _AUTHORS if name in texts), Words())
        entry.dates = [texts[name].value for name in _DATES if name in texts]
        entry.link = _link(draft)
        self.result.entries.append(entry)


def _short(tag: str) -> str:
    """Return a name with its well-known prefix, as in `content:encoded`; "?:x" for other spaces."""
    space, _, local = tag.rpartition(" ")
    if not space:
        return local.lower()
    return _SPACES.get(space.lower().rstrip("/#"), "?:") + local.lower()


def _kind(name: str, attributes: dict[str, str]) -> tuple[Kind, bool]:
    """Return how a field is written, and whether it is XHTML (RFC 4287 §3.1.1, §4.1.3)."""
    if name == "content:encoded":
        return "html", False
    type_ = attributes.get("type", "").strip().lower()
    if type_ == "xhtml" or type_.endswith(("+xml", "/xml")):
        return "html", True
    if type_ in {"html", "text/html"}:
        return "html", False
    if type_ in {"text", "text/plain"} or name in {"content", "published", "updated"}:
        return "plain", False
    return "guess", False


def _link(draft: _Draft) -> str:
    texts = draft.texts
    if "link" in texts:
        return texts["link"].value
    alternates = [link for link in draft.links if link[0] in {"alternate", ""}]
    pages = [link for link in alternates if "html" in link[1] or not link[1]]
    if alternates:
        _, _, base, href = pages[0] if pages else alternates[0]
        return _joined(base, href)
    guid = texts.get("guid") or texts.get("id") or Words()
    if draft.permalink and re.match(r"https?://", guid.value, re.IGNORECASE):
        return guid.value
    return ""


def _joined(base: str, address: str) -> str:
    address = address.strip() if len(address) <= URL_MAX else ""
    if not base or not address:
        return address or base
    try:
        joined = urllib.parse.urljoin(base, address)
    except ValueError:
        # «http://[» and the like: no address at all.
        return ""
    return joined if len(joined) <= URL_MAX else base


def _opening(tag: str, attributes: dict[str, str]) -> str:
    href = attributes.get("href")
    shown = f' href="{html.escape(href)}"' if href else ""
    return f"<{tag.rpartition(' ')[2]}{shown}>"
