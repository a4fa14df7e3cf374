"""What an item is known by."""

from __future__ import annotations

from torpor.skills.briefing.parse import parse

NOW_US = 1_790_000_000_000_000


def feed(*entries: tuple[str, str]) -> bytes:
    items = "".join(f"<item><title>t</title><link>{link}</link><guid>{guid}</guid></item>" for link, guid in entries)
    return f'<rss version="2.0"><channel><title>f</title>{items}</channel></rss>'.encode()


def identities(*entries: tuple[str, str]) -> list[str]:
    return [item.identity for item in parse("s", feed(*entries), now_us=NOW_US).items]


def test_an_item_is_known_by_its_address() -> None:
    found = identities(("https://e.org/a#x", "1"), ("https://e.org/b?utm_source=f", "2"))

    assert found == ["https://e.org/a", "https://e.org/b"]


def test_entries_of_one_page_are_known_by_their_guids() -> None:
    found = identities(("https://e.org/log#v1", "v1"), ("https://e.org/log#v2", "v2"), ("https://e.org/b", "b"))

    assert found == ["s#v1", "s#v2", "https://e.org/b"]
