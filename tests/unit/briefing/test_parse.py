"""RSS, Atom and JSON Feed become items; what is no feed says where and why."""

from __future__ import annotations

import contextlib
import json
import time
import tracemalloc
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from torpor.base.errors import SourceMalformed
from torpor.base.limits import FEED_ITEMS_MAX, ITEM_LINE_MAX, ITEM_TEXT_MAX
from torpor.skills.briefing.item import Feed
from torpor.skills.briefing.parse import parse

NOW = int(datetime(2026, 11, 21, tzinfo=UTC).timestamp()) * 1_000_000


def read(data: bytes | str, content_type: str = "", *, address: str = "", items_max: int = 50) -> Feed:
    raw = data.encode() if isinstance(data, str) else data
    return parse("feed", raw, content_type, now_us=NOW, address=address, items_max=items_max)


def refused(data: bytes | str, content_type: str = "", *, address: str = "") -> SourceMalformed:
    with pytest.raises(SourceMalformed) as caught:
        read(data, content_type, address=address)
    assert caught.value.source == "feed"
    return caught.value


def rss(*items: str, head: str = "", root: str = "") -> str:
    inside = "".join(f"<item>{item}</item>" for item in items)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<rss version="2.0" '
        'xmlns:content="http://purl.org/rss/1.0/modules/content/" '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/" {root}>'
        f"<channel><title>News</title>{head}{inside}</channel></rss>"
    )


def us(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp()) * 1_000_000  # type: ignore[arg-type,misc]


RSS = rss(
    "<title>First</title><link>https://example.org/1?utm_source=rss</link>"
    '<guid isPermaLink="false">tag-1</guid><dc:creator>Ada</dc:creator>'
    "<pubDate>Sat, 13 Jun 2026 05:30:00 +0200</pubDate><description>Short.</description>"
    "<content:encoded><![CDATA[<p>Long &amp; <b>bold</b>.</p><p>Second.</p>]]></content:encoded>",
    "<title>Second</title><guid>https://example.org/2</guid><author>bob@example.org (Bob)</author>",
)

ATOM = """<?xml version="1.0" encoding="utf-8"?>
<feed xmlns="http://www.w3.org/2005/Atom" xml:base="https://example.org/blog/">
<title type="text">Atoms &amp; more</title>
<entry><title type="html">A &lt;em&gt;fine&lt;/em&gt; title</title><id>urn:1</id>
<link rel="self" href="self"/><link rel="enclosure" href="sound.mp3"/>
<link rel="alternate" type="text/html" href="one"/>
<updated>2026-06-14T00:00:00Z</updated><published>2026-06-13T05:30:00.5+02:00</published>
<author><email>eve@example.org</email><name>Eve</name></author>
<source><title>Elsewhere</title><id>urn:other</id></source>
<summary>Short</summary>
<content type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml"><p>1 &lt; 2</p><p>Two</p></div></content>
</entry>
<entry><title>Plain &lt;b&gt; stays</title><id>urn:2</id><link href="/two"/>
<updated>2026-06-14T00:00:00Z</updated><content type="text">a
b</content></entry>
</feed>"""

JSON = json.dumps(
    {
        "version": "https://jsonfeed.org/version/1.1",
        "title": "Jason",
        "items": [
            {
                "id": "j1",
                "url": "https://example.org/j1",
                "title": "One",
                "content_html": "<p>Hi</p><p>There</p>",
                "date_published": "2026-06-13T05:30:00Z",
                "authors": [{"name": "Ada"}, {"name": "Bob"}],
            },
            {"id": 2, "content_text": "Untitled text\nmore", "author": {"name": "Eve"}},
        ],
    },
    indent=1,
)

RDF = """<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"
 xmlns:dc="http://purl.org/dc/elements/1.1/"><channel rdf:about="x"><title>Old</title></channel>
<item rdf:about="y"><title>Entry</title><link>https://example.org/r</link><dc:date>2026-01-02</dc:date></item>
</rdf:RDF>"""


# --- formats


def test_rss_gives_its_items_in_order_with_all_that_is_known() -> None:
    feed = read(RSS)
    first, second = feed.items
    assert (feed.title, feed.notes) == ("News", [])
    assert (first.url, first.guid) == ("https://example.org/1", "tag-1")
    assert (first.title, first.author) == ("First", "Ada")
    assert first.text == "Long & bold.\n\nSecond."
    assert first.published_us == us(2026, 6, 13, 3, 30)
    assert (second.url, second.author) == ("https://example.org/2", "Bob")


def test_a_guid_that_is_no_permalink_is_no_address() -> None:
    (item,) = read(rss('<title>T</title><guid isPermaLink="false">https://a.org/1</guid>')).items
    assert (item.url, item.guid) == ("", "https://a.org/1")


def test_atom_gives_links_dates_content_and_names() -> None:
    feed = read(ATOM)
    first, second = feed.items
    assert feed.title == "Atoms & more"
    assert (first.title, first.url) == ("A fine title", "https://example.org/blog/one")
    assert (first.guid, first.author) == ("urn:1", "Eve")
    assert first.text == "1 < 2\n\nTwo"
    assert first.published_us == us(2026, 6, 13, 3, 30) + 500_000
    assert (second.title, second.url) == ("Plain <b> stays", "https://example.org/two")
    assert second.text == "a\nb"
    assert second.published_us == us(2026, 6, 14)


def test_json_feed_gives_its_items() -> None:
    feed = read(JSON, "application/feed+json")
    first, second = feed.items
    assert (feed.title, first.title, first.author) == ("Jason", "One", "Ada, Bob")
    assert (first.text, first.published_us) == ("Hi\n\nThere", us(2026, 6, 13, 5, 30))
    assert (second.guid, second.title, second.author) == ("2", "Untitled text", "Eve")


def test_rss_1_0_is_read_alongside() -> None:
    (item,) = read(RDF).items
    assert (item.title, item.url) == ("Entry", "https://example.org/r")
    assert item.published_us == us(2026, 1, 2)


def test_atom_links_inside_rss_do_not_replace_the_item_s_own() -> None:
    item = '<atom:link rel="self" href="https://a.org/self"/><link>https://a.org/1</link>'
    feed = read(rss(item, root='xmlns:atom="http://www.w3.org/2005/Atom"'))
    assert feed.items[0].url == "https://a.org/1"


def test_media_titles_do_not_replace_the_item_s_own() -> None:
    item = "<m:group><m:title>Not me</m:title><m:description>Words</m:description></m:group><title>Me</title>"
    (found,) = read(rss(item, root='xmlns:m="http://search.yahoo.com/mrss/"')).items
    assert (found.title, found.text) == ("Me", "Words")


def test_json_items_of_another_shape_are_left_out_with_a_note() -> None:
    data = {"version": "https://jsonfeed.org/version/1", "items": [{"id": "1", "title": []}, 7, {"id": "2"}]}
    data["items"].append({"id": "3", "title": "Good"})  # type: ignore[attr-defined]
    feed = read(json.dumps(data))
    assert [item.title for item in feed.items] == ["Good"]
    assert any(note.startswith("2 item(s) are not") for note in feed.notes)


def test_relative_links_are_resolved_against_the_feed_s_address() -> None:
    (item,) = read(rss("<title>T</title><link>../p/1</link>"), address="https://a.org/x/feed").items
    assert item.url == "https://a.org/p/1"


@pytest.mark.parametrize("link", ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd"])
def test_links_that_are_no_web_addresses_are_dropped(link: str) -> None:
    (item,) = read(rss(f"<title>T</title><link>{link}</link>"), address="https://a.org/").items
    assert item.url == ""


# --- text


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("AT&amp;amp;T", "AT&T"),
        ("A &lt;b&gt;bold&lt;/b&gt; claim", "A bold claim"),
        ("<![CDATA[<i>x</i> &eacute;]]>", "x é"),
        ("<b>unescaped</b> markup", "unescaped markup"),
        ("1 &lt; 2", "1 < 2"),
        ("List&lt;String&gt; in &lt;b&gt;Java&lt;/b&gt;", "List<String> in Java"),
        ("two\n  lines\t here", "two lines here"),
        ("&lt;script&gt;alert(1)&lt;/script&gt;Safe", "Safe"),
        ("a\u202egnp.exe", "agnp.exe"),
        ("a\u200bb\u2066c\u2069\ufeff", "abc"),
        ("a&#x9b;31m b&#133;c", "a31m b c"),
        ("hi\U000e0041\U000e0042", "hi"),
    ],
)
def test_a_title_is_plain_text_on_one_line(written: str, title: str) -> None:
    assert read(rss(f"<title>{written}</title><link>https://a.org/</link>")).items[0].title == title


def test_a_body_keeps_its_paragraphs_lists_and_code_and_drops_the_rest() -> None:
    html = (
        "<h2>Head<a href='#head'>¶</a></h2><p>One <a href='https://b.org'>link</a>,\n two.</p>"
        "<ul><li>a</li><li>b</li></ul><pre>  x = 1\n  y</pre><style>p {}</style><script>no()</script>"
        "line<br>break<!-- no --><img src=x><table><tr><td>1</td><td>2</td></tr></table>"
    )
    (item,) = read(rss(f"<description><![CDATA[{html}]]></description>")).items
    assert item.text == ("Head\n\nOne link, two.\n\n- a\n- b\n\n  x = 1\n  y\n\nline\nbreak\n\n1 2")
    assert item.title == "Head"


def test_a_plain_body_keeps_its_lines() -> None:
    (item,) = read(rss("<description>One.\n\nTwo &amp; three.\r\n\n\n\nFour.</description>")).items
    assert item.text == "One.\n\nTwo & three.\n\nFour."


def test_long_texts_are_cut() -> None:
    item = f"<title>{'t' * 5000}</title><description>{'word ' * 20_000}</description>"
    (found,) = read(rss(item)).items
    assert len(found.title) == ITEM_LINE_MAX
    assert ITEM_TEXT_MAX - 10 < len(found.text) <= ITEM_TEXT_MAX
    assert found.text.endswith("…")


def test_a_very_long_guid_is_kept_as_its_digest() -> None:
    one, two = read(
        rss(f"<guid>{'a' * 600}1</guid><title>1</title>", f"<guid>{'a' * 600}2</guid><title>2</title>")
    ).items
    assert one.guid.startswith("sha256:")
    assert one.guid != two.guid


# --- dates, repetitions, numbers


@pytest.mark.parametrize(
    "date",
    ["Mon, 01 Jan 1900 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT", "yesterday", "2026-13-45", "0", "9" * 5000],
)
def test_a_date_that_cannot_be_believed_is_none_with_a_note(date: str) -> None:
    feed = read(rss(f"<title>T</title><pubDate>{date}</pubDate>"))
    assert feed.items[0].published_us is None
    assert [note for note in feed.notes if "1 date(s)" in note and "'T'" in note]


def test_a_date_up_to_two_days_ahead_is_believed() -> None:
    feed = read(rss("<title>T</title><pubDate>Sun, 22 Nov 2026 23:00:00 GMT</pubDate>"))
    assert feed.items[0].published_us == us(2026, 11, 22, 23)
    assert feed.notes == []


def test_a_second_believable_date_stands_in_for_the_first() -> None:
    item = "<title>T</title><pubDate>nonsense</pubDate><dc:date>2026-01-02T03:04:05Z</dc:date>"
    assert read(rss(item)).items[0].published_us == us(2026, 1, 2, 3, 4, 5)


def test_of_repeated_guids_the_first_is_kept_and_the_number_told() -> None:
    items = [f"<guid>same</guid><title>{n}</title>" for n in range(4)]
    feed = read(rss(*items, "<guid>other</guid><title>x</title>"))
    assert [item.title for item in feed.items] == ["0", "x"]
    assert feed.notes == ["3 repeated item(s) were dropped; the first of each was kept"]


def test_items_without_guid_are_told_apart_by_address_and_title() -> None:
    feed = read(rss("<title>a</title>", "<title>b</title>", "<title>a</title>"))
    assert [item.title for item in feed.items] == ["a", "b"]


def test_empty_items_are_dropped_with_a_note() -> None:
    feed = read(rss("<guid>x</guid>", "<title>a</title>"))
    assert [item.title for item in feed.items] == ["a"]
    assert feed.notes == ["1 empty item(s) were dropped"]


@pytest.mark.parametrize("kind", ["rss", "json", "broken"])
def test_more_items_than_the_limit_are_cut_with_a_note(kind: str) -> None:
    if kind == "json":
        data = json.dumps({"items": [{"id": str(n), "title": str(n)} for n in range(9)]})
    else:
        data = rss(*[f"<title>{n}</title>" for n in range(9)])
        data = data.replace("</rss>", "") if kind == "broken" else data
    feed = read(data, items_max=3)
    assert [item.title for item in feed.items] == ["0", "1", "2"]
    assert feed.notes[-1] == "only its first 3 items were read"


def test_the_title_after_too_many_items_does_not_get_lost() -> None:
    assert read(rss(*[f"<title>{n}</title>" for n in range(9)]), items_max=2).title == "News"


def test_a_feed_without_items_is_a_feed() -> None:
    assert read(rss()).items == []
    assert read('{"version": "https://jsonfeed.org/version/1", "items": []}').items == []


# --- malformed


@pytest.mark.parametrize("data", [b"", b" \n\t ", b"\xef\xbb\xbf"])
def test_an_empty_body_is_malformed(data: bytes) -> None:
    assert refused(data).reason == "it is empty"


def test_broken_xml_without_items_tells_line_and_column() -> None:
    error = refused("<rss>\n <channel>\n  <títle>é &oops</títle>\n")
    assert (error.line, error.column) == (3, 17)
    assert "not well-formed" in error.reason


def test_xml_that_ends_early_tells_where() -> None:
    error = refused("<rss><channel>\n<title>x")
    assert (error.line, error.column, error.reason) == (2, 9, "it ends inside <title>")


def test_broken_xml_with_items_is_read_with_a_note() -> None:
    broken = rss("<title>Tom & Jerry</title>", "<title>Second</title>")
    feed = read(broken)
    assert [item.title for item in feed.items] == ["Tom & Jerry", "Second"]
    column = broken.split("\n")[1].index("& Jerry") + 2
    assert feed.notes[0].startswith(f"it is broken at line 2, column {column} (not well-formed")
    assert "2 item(s) could still be read" in feed.notes[0]


@pytest.mark.parametrize(
    ("data", "titles"),
    [
        (rss("<title>a<br>b</title>", "<title>c</title>"), ["a b", "c"]),
        (rss("<title>a&nbsp;b</title>"), ["a b"]),
        (rss("<title>a</title>", "<title>b</title><descr")[:-25], ["a", "b"]),
        (rss("<title>a</title>") + "trailing", ["a"]),
        (rss("<x:y>1</x:y><title>a</title>"), ["a"]),
        ("junk first " + rss("<title>a</title>"), ["a"]),
        ("\n\n" + rss("<title>a</title>"), ["a"]),
        (rss("<title>a\x0b\x00b</title>"), ["a b"]),
    ],
)
def test_common_breakage_still_gives_the_items(data: str, titles: list[str]) -> None:
    assert [item.title for item in read(data).items] == titles


def test_broken_json_tells_line_and_column() -> None:
    error = refused('{\n "é": 1,\n "items": [1,, 2]\n}')
    assert (error.line, error.column) == (3, 14)
    assert refused('{"items": [').line == 1


@pytest.mark.parametrize("data", ["[]", "{}", '{"items": 3}', "[1, 2]", '{"a": ' * 100_000, "[" * 100_000])
def test_other_json_is_no_feed(data: str) -> None:
    assert "JSON" in refused(data).reason


@pytest.mark.parametrize("data", ["hello", "%PDF-1.7", "\x7fELF", "<", "<<<", "&", "<!", "<?xml"])
def test_other_text_is_no_feed(data: str) -> None:
    error = refused(data)
    assert (error.line >= 1, error.column >= 1) == (True, True)


def test_other_xml_is_no_feed_and_its_first_element_is_named() -> None:
    error = refused('<?xml version="1.0"?>\n  <svg xmlns="http://www.w3.org/2000/svg"></svg>')
    assert (error.line, error.column) == (2, 3)
    assert "<svg>" in error.reason


def test_a_web_page_is_no_feed_and_tells_the_feeds_that_it_names() -> None:
    page = (
        "<!-- hi -->\n<!DOCTYPE html><html><head><link rel='stylesheet' href='/a.css'>"
        "<link rel='alternate' type='application/rss+xml' href='/feed.xml?x=1&amp;y=2'>"
        "<link rel='alternate' type='application/atom+xml' href='https://b.org/atom'></head><body>x</body></html>"
    )
    reason = refused(page, "text/html", address="https://a.org/blog/").reason
    assert reason == ("it is a web page, not a feed; its feed is https://a.org/feed.xml?x=1&y=2 or https://b.org/atom")
    assert refused("<html><body>no</body></html>").reason == "it is a web page, not a feed"


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(10))
    + "]><rss><channel><item><title>&k;</title></item></channel></rss>"
)
QUADRATIC = (
    f'<!DOCTYPE rss [<!ENTITY a "{"x" * 50_000}">]><rss><channel><item><title>'
    + "&a;" * 50_000
    + "</title></item></channel></rss>"
)


@pytest.mark.parametrize(
    "data",
    [
        BOMB,
        BOMB.replace("</rss>", ""),
        "junk " + BOMB,
        QUADRATIC,
        QUADRATIC.replace("</channel>", ""),
        '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><rss><channel><item><title>&x;</title></item></channel></rss>',
        '<!DOCTYPE rss SYSTEM "http://127.0.0.1:9/evil.dtd"><rss><channel/></rss>',
        '<!DOCTYPE rss PUBLIC "-//Netscape Communications//DTD RSS 0.91//EN" "x" [<!ENTITY a "b">]><rss/>',
        '<!DOCTYPE r [<!ENTITY % p SYSTEM "http://127.0.0.1:9/e.dtd">%p;]><rss><channel/></rss>',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_document_types_and_entities_are_refused_before_they_cost_anything(data: str, encoding: str) -> None:
    raw = data.encode(encoding)
    tracemalloc.start()
    begun = time.perf_counter()
    error = refused(raw)
    seconds = time.perf_counter() - begun
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "passwd" not in error.reason
    assert "root:" not in str(error)
    assert seconds < 5
    assert peak < 20 * 1024 * 1024


def test_the_document_type_of_rss_0_91_does_no_harm() -> None:
    doctype = '<!DOCTYPE rss PUBLIC "-//Netscape Communications//DTD RSS 0.91//EN" "http://my.netscape.com/x.dtd">'
    (item,) = read(doctype + "<rss version='0.91'><channel><item><title>a</title></item></channel></rss>").items
    assert item.title == "a"


@pytest.mark.parametrize(
    "data",
    [
        rss("<x>" * 5_000),
        rss("<title>" * 5_000 + "</title>" * 5_000),
        rss("<description>" + "&lt;b&gt;" * 100_000 + "</description>"),
        rss("<description>" + "<b>" * 200 + "</b>" * 200 + "</description>"),
        rss("<author>" + "a" * 500_000 + "</author><title>t</title>"),
        rss("".join(f"<category>{n}</category>" for n in range(20_000)) + "<title>t</title>"),
        rss("".join(f"<category>{n}</category>" for n in range(20_000)) + "<title>t</title>")[:-1],
        rss("<author>" + "a" * 200_000 + "</author><title>t</title>")[:-1],
        rss("<title>t</title>", *['<x xml:base="b"/>' * 50_000], root=f'xml:base="https://a.org/{"a/" * 1_900}"'),
        rss("<title>t</title>" * 5_000, root=f'xml:base="https://a.org/{"a/" * 500_000}"'),
    ],
    ids=["depth", "titles", "html-depth", "markup", "author", "tags", "tags-broken", "author-broken", "base", "bases"],
)
def test_hostile_shapes_take_little_time(data: str) -> None:
    begun = time.perf_counter()
    with contextlib.suppress(SourceMalformed):
        read(data)
    assert time.perf_counter() - begun < 5


def test_ten_thousand_items_take_little_time() -> None:
    items = [
        f"<title>T {n}</title><guid>{n}</guid><description>{'&lt;p&gt;some words&lt;/p&gt;' * 20}</description>"
        for n in range(FEED_ITEMS_MAX + 1)
    ]
    data = rss(*items)
    begun = time.perf_counter()
    feed = read(data, items_max=FEED_ITEMS_MAX)
    assert time.perf_counter() - begun < 10
    assert len(feed.items) == FEED_ITEMS_MAX
    assert feed.notes == ["only its first 10,000 items were read"]


# --- encodings


def test_invalid_utf_8_is_recovered_with_a_note() -> None:
    data = rss("<title>caf\xe9</title>").replace("café", "caf@").encode().replace(b"@", b"\xe9")
    feed = read(data)
    assert feed.items[0].title == "caf\ufffd"
    assert "not valid UTF-8" in feed.notes[0]
    assert "line 2" in feed.notes[0]


@pytest.mark.parametrize(
    ("encoding", "declared", "content_type"),
    [
        ("iso-8859-1", "iso-8859-1", ""),
        ("iso-8859-1", "utf-8", "application/rss+xml; charset=iso-8859-1"),
        ("windows-1252", "windows-1252", "text/xml"),
        ("utf-16", "utf-16", ""),
        ("utf-16-le", "utf-16", ""),
        ("utf-16-be", "utf-16", ""),
        ("utf-8-sig", "utf-8", ""),
        ("utf-8", "iso-8859-1", "text/xml; charset=us-ascii"),
        ("utf-8", "punycode", ""),
        ("utf-8", "no-such-encoding", "text/xml; charset=hex"),
    ],
)
def test_text_is_read_in_its_own_encoding(encoding: str, declared: str, content_type: str) -> None:
    text = rss("<title>é ü</title>").replace('encoding="UTF-8"', f'encoding="{declared}"')
    feed = read(text.encode(encoding), content_type)
    assert (feed.items[0].title, feed.notes) == ("é ü", [])


# --- the oracle

CORPUS = [data.encode() for data in (RSS, ATOM, JSON, RDF, BOMB, rss("<title>a & b<br></title>"))]
BITS = [b"<", b">", b"&", b"]]>", b"<![CDATA[", b"<!--", b"<!DOCTYPE", b"\0", b"\xff", b"&#x1;", b'"']
BITS += [b"&#99999999999;", b"<item>", b"</item>", b"<entry>", b"{", b"}", b"\xf0\x9f", b"\xed\xa0\x80", b"xmlns:a="]
BITS += [b"\\ud800", b"<title type='xhtml'>", b"<link href='http://['/>", b"xml:base='http://[' ", b"<guid>"]


def outcome(data: bytes, content_type: str, address: str) -> Feed | SourceMalformed:
    try:
        return parse("s", data, content_type, now_us=NOW, address=address, items_max=20)
    except SourceMalformed as error:
        return error


def holds(data: bytes, content_type: str = "", address: str = "") -> None:
    """Check the promise: a feed with sound items, or one kind of error."""
    found = outcome(data, content_type, address)
    if isinstance(found, SourceMalformed):
        assert 1 <= found.line <= data.count(b"\n") + 1
        assert found.column >= 1
        assert found.reason
        return
    for item in found.items:
        for text in (item.title, item.author, item.guid):
            assert not any(ord(char) < 32 or "\u202a" <= char <= "\u202e" for char in text)
        item.text.encode()
        assert item.url == "" or item.url.startswith(("http://", "https://"))
        assert len(item.title) <= ITEM_LINE_MAX
        assert len(item.text) <= ITEM_TEXT_MAX


@given(st.binary(max_size=300), st.sampled_from(["", "text/xml", "application/json; charset=utf-7", "x;charset=\x00"]))
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_any_bytes_are_a_feed_or_malformed(data: bytes, content_type: str) -> None:
    holds(data, content_type)


@given(st.data())
@settings(
    max_examples=500, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
def test_mutated_feeds_are_feeds_or_malformed(data: st.DataObject) -> None:
    base = bytearray(data.draw(st.sampled_from(CORPUS)))
    for _ in range(data.draw(st.integers(1, 6))):
        start = data.draw(st.integers(0, len(base)))
        size = data.draw(st.integers(0, 12))
        bit = data.draw(st.sampled_from(BITS) | st.binary(max_size=4) | st.just(bytes(base[:40])))
        base[start : start + size] = bit
    cut = data.draw(st.none() | st.integers(0, len(base)))
    holds(bytes(base[:cut]), address=data.draw(st.sampled_from(["", "https://a.org/", "http://["])))


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_any_text_in_any_field_is_made_plain(text: str) -> None:
    data = {"items": [{"id": text, "title": text, "content_html": text, "url": text}]}
    holds(json.dumps(data).encode())
