"""What may name an agent, a template and a tenant, and what clones are called."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor.base.clock import SystemClock
from torpor.base.entropy import SystemEntropy
from torpor.base.errors import NameRefused
from torpor.base.ids import IdSource
from torpor.home.names import NAME_MAX, TENANT_MAX, check_name, check_tenant, clone_name

HOSTILE: dict[str, tuple[Any, str]] = {
    "climbing": ("../x", "character '.'"),
    "a path": ("a/b", "character '/'"),
    "absolute": ("/etc/passwd", "character '/'"),
    "the folder": (".", "character '.'"),
    "the folder above": ("..", "character '.'"),
    "a file": ("ada.workbook", "character '.'"),
    "nul": ("ada\0", r"character '\x00'"),
    "empty": ("", "empty"),
    "an option": ("-x", "begins with '-'"),
    "an underscore first": ("_x", "begins with '_'"),
    "a line's end": ("ada\n", r"character '\n'"),
    "a line's end first": ("\nada", r"character '\n'"),
    "a blank": ("ada lovelace", "character ' '"),
    "four kilobytes": ("a" * 4096, "4,096 characters"),
    "one too many": ("a" * (NAME_MAX + 1), "101 characters"),
    "an emoji": ("ada🚀", r"character '\U0001f680'"),
    "another script": ("ада", r"character '\u0430'"),
    "a digit of another script": ("ada٣", r"character '\u0663'"),
    "wide letters": ("\uff41da", r"character '\uff41'"),
    "turned round": ("ada\u202egnp", r"character '\u202e'"),
    "half a character": ("ada\ud800", r"character '\ud800'"),
    "an escape": ("\x1b[31m", r"character '\x1b'"),
    "a wildcard": ("*", "character '*'"),
    "a variable": ("$HOME", "character '$'"),
    "a place's mark": ("a#b", "character '#'"),
    "bytes": (b"ada", "bytes is not text"),
    "nothing": (None, "NoneType is not text"),
}


@pytest.mark.parametrize("name", ["a", "A", "7", "ada", "Ada-2_b", "con", "NUL", "a-", "a_", "0" * NAME_MAX])
def test_a_plain_name_is_taken(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_name_is_refused_with_the_reason(case: str) -> None:
    name, reason = HOSTILE[case]
    with pytest.raises(NameRefused) as refused:
        check_name(name, "a template")
    assert reason in refused.value.reason
    assert "a template" in str(refused.value)
    assert str(refused.value).isprintable()


@given(st.text())
def test_whatever_is_taken_is_one_plain_word(name: str) -> None:
    try:
        check_name(name)
    except NameRefused:
        return
    assert name.isascii()
    assert name.replace("-", "").replace("_", "").isalnum()
    assert 1 <= len(name) <= NAME_MAX


@pytest.mark.parametrize("tenant", ["acme", "Acme & Söhne GmbH", "株式　会社", "a/b", "..", "🚀", "x" * TENANT_MAX])
def test_a_tenant_is_called_what_it_likes(tenant: str) -> None:
    check_tenant(tenant)


@pytest.mark.parametrize(
    "tenant",
    ["", " ", " acme", "acme ", "acme\n", "a\tb", "a\0b", "a\x1b[2Jb", "a\u202eb", "a\u2028b", "\ud800", "x" * 201, 7],
)
def test_a_tenant_that_cant_be_seen_or_is_too_long_is_refused(tenant: Any) -> None:
    with pytest.raises(NameRefused) as refused:
        check_tenant(tenant)
    assert "a tenant" in str(refused.value)


@pytest.fixture
def ids() -> IdSource:
    return IdSource(SystemClock(), SystemEntropy())


@pytest.mark.parametrize(
    ("tenant", "slug"),
    [
        ("acme", "acme"),
        ("Acme & Söhne GmbH", "acme-sohne-gmbh"),
        ("Straße 7", "strasse-7"),
        ("../../etc/passwd", "etc-passwd"),
        ("a__b--c", "a-b-c"),
        ("株式会社", "tenant"),
        ("---", "tenant"),
        ("🚀", "tenant"),
        ("ﬁn", "fin"),
        ("x" * 200, "x" * 60),
        ("x" * 59 + "-y", "x" * 59),
    ],
)
def test_a_clone_is_named_for_its_tenant(ids: IdSource, tenant: str, slug: str) -> None:
    name = clone_name(tenant, ids)
    assert name[:-27] == slug
    assert name[-27] == "-"
    check_name(name)


@given(st.text(min_size=1, max_size=TENANT_MAX))
def test_every_clones_name_is_a_name(tenant: str) -> None:
    check_name(clone_name(tenant, IdSource(SystemClock(), SystemEntropy())))


def test_clones_names_differ_whatever_the_case_and_sort_by_time(ids: IdSource) -> None:
    names = [clone_name("acme", ids) for _ in range(2_000)]
    assert len({name.casefold() for name in names}) == len(names)
    assert names == sorted(names)


class Still:
    """A clock that stands."""

    def now_us(self) -> int:
        return 1_700_000_000_000_000


def test_clones_made_within_one_tick_still_differ() -> None:
    ids = IdSource(Still(), SystemEntropy())
    names = [clone_name("acme", ids) for _ in range(100)]
    assert names == sorted(set(names))


def test_the_end_of_a_clones_name_is_its_id_in_crockfords_digits() -> None:
    twin, ids = (IdSource(Still(), Same()) for _ in range(2))
    number = 0
    for digit in clone_name("acme", ids)[-26:]:
        number = number * 32 + "0123456789abcdefghjkmnpqrstvwxyz".index(digit)
    assert number.to_bytes(16, "big") == twin.next(Still().now_us())


class Same:
    """Chance that always falls the same way."""

    def token(self, size: int) -> bytes:
        return b"\xa5" * size
