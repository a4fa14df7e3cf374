from __future__ import annotations

import base64
import hashlib
import re

import lxml.html
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from torpor.skills.briefing.render import (
    Briefing,
    Entry,
    Problem,
    moment,
    safe_link,
    to_html,
    to_markdown,
)

MADE = 1_781_500_000_000_000
HOSTILE = [
    "<script>alert(1)</script>",
    "</title></style><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "](javascript:alert(1))",
    "[click](javascript:alert(1))",
    "![x](https://evil.example/track.png)",
    "<https://evil.example>",
    "`code` **bold** _em_ ~~gone~~ # $x$ &lt;b&gt; &#106;avascript",
    "\\](javascript:alert(1))",
    "- item", "1. item", "> quote", "# head", "+ item", "---", "===", "    code", "| a | b |",
    "```\nfence", "line\n\n# second", "[ref]: javascript:alert(1)", "\u202eexe.txt", "\x1b[31m",
    "${style} $title $$", "\ud800",
]  # fmt: skip
URLS = [
    "javascript:alert(1)", "JaVaScRiPt:alert(1)", " javascript:alert(1)", "java\nscript:alert(1)",
    "data:text/html,<script>alert(1)</script>", "vbscript:x", "file:///etc/passwd",
    "//evil.example",
    "ftp://a.example/", "mailto:a@b.example", "", "/relative", "http:", "http://", "https:///x",
    "http://[::1", "http://a b.example/", "https://a.example/\x00", "tel:1", "httpx://a.example",
]  # fmt: skip


def entry(**fields: object) -> Entry:
    return Entry(**{"title": "T", "url": "https://a.example/", "source": "S", **fields})  # type: ignore[arg-type]


def briefing(*entries: Entry, **fields: object) -> Briefing:
    whole = {"title": "Brief", "run_id": "R1", "made_us": MADE, "entries": list(entries), **fields}
    return Briefing(**whole)  # type: ignore[arg-type]


def filled_with(text: str) -> Briefing:
    return briefing(
        entry(title=text, url=text, source=text, summary=text, why=[text], score=0.5),
        entry(title=text, url=f"https://a.example/{text}", source=text, summary=text),
        title=text,
        run_id=text,
        interests=text,
        model=text,
        problems=[Problem(source=text, message=text, next_step=text)],
    )


def tokens(markdown: str) -> list[Token]:
    found = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(markdown)
    return [token for block in found for token in (block, *(block.children or []))]


def check_html(page: str) -> None:
    """Hold a page to what every page promises, whatever was put into it."""
    root = lxml.html.document_fromstring(page)
    assert set(root.xpath("//*[local-name()!='svg']//@href")) >= {"#entries"}
    for link in root.xpath("//@href"):
        assert link == "#entries" or re.match(r"https?://[^\s\"'<>]+\Z", link)
    assert not root.xpath("//script | //img | //iframe | //link | //object | //form | //base")
    assert not root.xpath("//@src | //@style | //@*[starts-with(name(), 'on')]")
    assert len(root.xpath("//style")) == len(root.xpath("//title")) == len(root.xpath("//h1")) == 1


def check_markdown(markdown: str, shape: list[str]) -> None:
    found = tokens(markdown)
    assert not [token for token in found if token.type.startswith(("html", "image", "table"))]
    links = [str(token.attrGet("href")) for token in found if token.type == "link_open"]
    assert all(link.startswith(("http://", "https://")) for link in links)
    assert [token.type for token in found if token.nesting == 1 and token.type != "link_open"] == shape


SHAPE = [token.type for token in tokens(to_markdown(filled_with("plain")))
         if token.nesting == 1 and token.type != "link_open"]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE + URLS[:8])
def test_hostile_text_is_inert_in_html(text: str) -> None:
    check_html(to_html(filled_with(text)))


@pytest.mark.parametrize("text", [text for text in HOSTILE if text.isprintable() or "\n" in text])
def test_hostile_text_is_inert_in_markdown(text: str) -> None:
    check_markdown(to_markdown(filled_with(text)), SHAPE)


ANYTHING = st.one_of(
    st.text(st.characters()),
    st.lists(st.sampled_from([*HOSTILE, *"[](){}<>&\"'`*_#!|\\~$-+=.:;/ \n", "a"])).map("".join),
)


@given(ANYTHING)
def test_any_text_is_inert_in_html(text: str) -> None:
    check_html(to_html(filled_with(text)))


@given(ANYTHING.map(lambda text: f"a{text}"))
@example("a&copy; &#x41;")
def test_any_text_is_inert_in_markdown(text: str) -> None:
    check_markdown(to_markdown(filled_with(text)), SHAPE)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
@example("__0__")
def test_escaped_text_reads_as_it_was(text: str) -> None:
    found = tokens(to_markdown(briefing(entry(summary=f"x {text} x"))))
    assert f"x {text} x" in [token.content for token in found if token.type == "text"] or (
        f"x {text} x" in "".join(token.content for token in found if token.type.startswith("text"))
    )
    root = lxml.html.document_fromstring(to_html(briefing(entry(summary=f"x {text} x"))))
    assert root.xpath("string(//p[@class='summary'])") == f"x {text} x"


@pytest.mark.parametrize("url", URLS)
def test_other_addresses_are_no_links(url: str) -> None:
    assert safe_link(url) is None
    root = lxml.html.document_fromstring(to_html(briefing(entry(url=url))))
    assert root.xpath("//@href") == ["#entries"]
    assert "](" not in to_markdown(briefing(entry(url=url)))


@pytest.mark.parametrize(
    ("url", "href", "host"),
    [
        ("https://a.example/x?y=1&z=2#q", "https://a.example/x?y=1&z=2#q", "a.example"),
        ("HTTPS://WWW.A.example/", "HTTPS://WWW.A.example/", "a.example"),
        ("https://a.example/(x)[y]", "https://a.example/%28x%29%5By%5D", "a.example"),
        ("https://a.example/'x'", "https://a.example/%27x%27", "a.example"),
        ("https://a.example/ü", "https://a.example/%C3%BC", "a.example"),
        ("https://a.example/%20", "https://a.example/%20", "a.example"),
        ("https://good@evil.example/", "https://good@evil.example/", "evil.example"),
        ("https://a.example/\ud800", "https://a.example/?", "a.example"),
    ],
)  # fmt: skip
def test_web_addresses_are_links_with_their_true_host(url: str, href: str, host: str) -> None:
    assert safe_link(url) == (href, host)


def test_an_entity_in_an_address_stays_as_it_is() -> None:
    url = "https://a.example/?a=1&copy;=2"
    links = [token for token in tokens(to_markdown(briefing(entry(url=url)))) if token.attrs]
    assert "&copy;=2" in str(links[0].attrGet("href"))


def test_the_page_says_everything() -> None:
    page = briefing(
        entry(title="Pumps", published_us=MADE, score=0.42, summary="They fail.", why=["seal"]),
        interests="pumps",
        model="local/x",
        new=3,
        already_read=21,
        skipped=2,
        problems=[Problem(source="f.xml", message="Gone.", next_step="Look.")],
    )
    said = ["Brief", "15 Jun 2026, 05:06 UTC", "3", "21", "2", "pumps", "Pumps", "S", "a.example",
            "15 Jun 2026", "They fail.", "seal", "f.xml", "Gone.", "Look.", "R1",
            "local/x"]  # fmt: skip
    shown = lxml.html.document_fromstring(to_html(page)).text_content()
    written = "".join(token.content for token in tokens(to_markdown(page)))
    assert [words for words in said if words not in shown or words not in written] == []
    assert "fit 42 of 100" in shown
    assert "fit 42 %" in written


def test_nothing_new_is_said() -> None:
    assert "Nothing new" in to_html(briefing())
    assert "Nothing new" in to_markdown(briefing())


def test_what_is_not_known_is_left_out() -> None:
    bare = briefing(entry(title="", url="", source=""))
    root = lxml.html.document_fromstring(to_html(bare))
    assert root.xpath("string(//h2)") == "Untitled"
    assert not root.xpath("//*[@class='fit' or @class='summary' or @class='why']")
    assert "## 1. Untitled" in to_markdown(bare)


@pytest.mark.parametrize("score", [-1.0, 0.0, 0.5, 1.0, 7.0])
def test_bars_stay_in_their_track(score: float) -> None:
    root = lxml.html.document_fromstring(to_html(briefing(entry(score=score))))
    track, level = (float(width) for width in root.xpath("//rect/@width"))
    assert 0 <= level <= track


def test_the_policy_allows_the_one_style_sheet_and_nothing_else() -> None:
    page = to_html(briefing(entry()))
    style = page.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert f'content="{policy}"' in page
    assert "url(" not in style
    assert "@import" not in style


def test_the_page_has_a_language_landmarks_and_headings() -> None:
    problems = [Problem(source="f", message="m")]
    root = lxml.html.document_fromstring(to_html(briefing(entry(), problems=problems)))
    assert root.get("lang") == "en"
    assert all(len(root.xpath(f"//{name}")) == 1 for name in ("header", "main", "footer", "section"))
    assert root.xpath("//section/@aria-labelledby") == root.xpath("//section/h2/@id")
    assert root.xpath("//meta[@name='viewport']")


@pytest.mark.parametrize(
    ("when", "shown"),
    [(0, "1 Jan 1970"), (-1, "31 Dec 1969"), (10**30, ""), (-(10**30), ""), (MADE, "15 Jun 2026")],
)
def test_days_are_shown_in_utc_whatever_the_machine_says(when: int, shown: str) -> None:
    assert moment(when, with_time=False) == shown
    check_html(to_html(briefing(entry(published_us=when), made_us=when)))


def test_the_same_briefing_is_the_same_page() -> None:
    assert to_html(filled_with("x")) == to_html(filled_with("x"))
