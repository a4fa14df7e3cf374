"""One address has one canonical spelling."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from torpor.skills.briefing.canonical import URL_MAX, canonical_url

SAME = [
    ("HTTPS://Example.ORG/a", "https://example.org/a"),
    ("https://example.org:443/a", "https://example.org/a"),
    ("http://example.org:80/a", "http://example.org/a"),
    ("https://example.org:8443/a", "https://example.org:8443/a"),
    ("https://example.org", "https://example.org/"),
    ("https://example.org/a#part", "https://example.org/a"),
    ("https://example.org/a?b=2&a=1", "https://example.org/a?a=1&b=2"),
    ("https://example.org/a?utm_source=rss&utm_medium=feed&id=7", "https://example.org/a?id=7"),
    ("https://example.org/a?UTM_Source=rss", "https://example.org/a"),
    ("https://example.org/a?fbclid=x&gclid=y&mc_cid=z&mc_eid=q", "https://example.org/a"),
    ("https://example.org/a?", "https://example.org/a"),
    ("https://example.org/%7euser/%e2%82%ac", "https://example.org/~user/%E2%82%AC"),
    ("https://example.org/a/../b", "https://example.org/b"),
    ("https://ada:secret@example.org/a", "https://example.org/a"),
    ("  https://example.org/a\n", "https://example.org/a"),
    ("https://münchen.example/ü", "https://xn--mnchen-3ya.example/%C3%BC"),
    ("https://example.org./a", "https://example.org/a"),
    ("http://[::0:1]:8080/a", "http://[::1]:8080/a"),
]

NONE = [
    "",
    "javascript:alert(1)",
    "JAVASCRIPT:alert(1)",
    "data:text/html,hello",
    "file:///etc/passwd",
    "mailto:ada@example.org",
    "ftp://example.org/a",
    "/relative",
    "//example.org/a",
    "www.example.org",
    "https://",
    "https:///path",
    "http://[::1",
    "http://example.org:99999/",
    "http://exa mple.org/",
    "https://example.org/" + "a" * URL_MAX,
]


@pytest.mark.parametrize(("spelled", "canonical"), SAME)
def test_different_spellings_have_one_form(spelled: str, canonical: str) -> None:
    assert canonical_url(spelled) == canonical


@pytest.mark.parametrize("text", NONE)
def test_what_is_no_web_address_has_none(text: str) -> None:
    assert canonical_url(text) == ""


def test_http_and_https_stay_apart() -> None:
    assert canonical_url("http://example.org/a") != canonical_url("https://example.org/a")


def test_arguments_that_only_look_like_tracking_stay() -> None:
    url = "https://example.org/a?ref=main&source=b&utm=c"
    assert canonical_url(url) == url


PIECES = st.sampled_from(
    [
        "http://",
        "https://",
        "a.org",
        "A",
        ":80",
        ":443",
        "/",
        "//",
        "..",
        ".",
        "%",
        "%25",
        "%2e",
        "?",
        "&",
        "=",
        "+",
        " ",
        "#",
        ";",
        "utm_a=1",
        "é",
        "@",
        "[",
        "]",
        "::1",
        "\\",
        "\t",
        "%2F",
    ]
)


@given(st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=40).map("https://a.org/".__add__))
@settings(derandomize=True, database=None)
@example("http://a.org/%2525")
@example("http://a.org:/")
def test_the_canonical_form_is_its_own_canonical_form(url: str) -> None:
    once = canonical_url(url)
    assert canonical_url(once) == once
    assert once == "" or once.startswith(("http://", "https://"))
    assert once.isascii()
    assert once.isprintable()


@given(st.text(max_size=60))
@settings(derandomize=True, database=None)
def test_any_text_has_an_answer(url: str) -> None:
    assert isinstance(canonical_url(url), str)
