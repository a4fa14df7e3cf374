"""Tokens: what is read is what was issued, narrowing only narrows, and whatever else is refused."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import biscuit_auth
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.access.kit import SECOND

from torpor.access import NOTHING, RIGHTS, Right, Scope, narrow, scope_of
from torpor.access.tokens import PREFIX, Known, Root, agrees
from torpor.base.errors import CredentialRefused, ScopeRefused
from torpor.base.limits import TOKEN_AGENTS_MAX, TOKEN_BLOCKS_MAX, TOKEN_CHARS_MAX

ROOT = Root(bytes(range(32)))
STRANGER = Root(bytes(range(1, 33)))
LATE = 4_000_000_000 * SECOND

AGENTS = ("a1", "b-2", "c_3")
tenants = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
scopes = st.builds(
    lambda rights, tenant, agents, until: scope_of(rights, tenant=tenant, agents=agents, until=until),
    st.sets(st.sampled_from(sorted(RIGHTS)), min_size=1),
    st.none() | tenants,
    st.none() | st.sets(st.sampled_from(AGENTS), min_size=1),
    st.none() | st.integers(1, 4_000).map(lambda seconds: seconds * SECOND),
)
few_scopes = scopes.map(lambda scope: scope_of(scope.rights, agents=scope.agents, until=scope.until))


def text_of(biscuit: biscuit_auth.Biscuit) -> str:
    return f"{PREFIX}{biscuit.to_base64()}"


def inner(text: str) -> biscuit_auth.Biscuit:
    """Return a token as its holder has it, who may append to it what he likes."""
    library: Any = biscuit_auth  # its type hints lack some of what it has
    public = library.PublicKey.from_bytes(bytes.fromhex(ROOT.public), library.Algorithm.Ed25519)
    return biscuit_auth.Biscuit.from_base64(text.removeprefix(PREFIX), public)


def with_block(source: str, scope: Scope | None = None) -> str:
    text, _ = ROOT.mint("t-1", scope or Scope(RIGHTS))
    return text_of(inner(text).append(biscuit_auth.BlockBuilder(source)))


def signed(source: str) -> str:
    """Return a token with the node's signature under something that the node would never issue."""
    library: Any = biscuit_auth
    key = library.PrivateKey.from_bytes(bytes(range(32)), library.Algorithm.Ed25519)
    return text_of(biscuit_auth.BiscuitBuilder(source).build(key))


@given(scopes)
def test_a_token_says_what_it_was_issued_for(scope: Scope) -> None:
    text, revocation = ROOT.mint("t-1", scope)
    known = ROOT.read(text)
    assert (known.id, known.issued, known.scope, known.revocations) == ("t-1", scope, scope, (revocation,))


@given(st.lists(scopes, min_size=2, max_size=5))
def test_narrowing_allows_what_all_blocks_allow(each: list[Scope]) -> None:
    text, revocation = ROOT.mint("t-1", each[0])
    met = each[0]
    for scope in each[1:]:
        text = narrow(text, scope, ROOT.public)
        met = met.meet(scope)
    known = ROOT.read(text)
    assert (known.issued, known.scope) == (each[0], met)
    assert known.revocations[0] == revocation
    assert len(set(known.revocations)) == len(each)


@given(
    st.lists(few_scopes, min_size=1, max_size=3),
    st.sampled_from(sorted(RIGHTS)),
    st.sampled_from(AGENTS),
    st.integers(0, 4_000),
)
def test_biscuits_own_engine_comes_to_the_same_answer(
    each: list[Scope], right: Right, agent: str, seconds: int
) -> None:
    # A block with admin means the other rights too, so it is only by our own words that all three are in it.
    text, _ = ROOT.mint("t-1", each[0])
    for scope in each[1:]:
        text = narrow(text, scope, ROOT.public)
    known = ROOT.read(text)
    now = seconds * SECOND
    allowed = right in known.scope.rights and known.scope.sees(agent, "") and known.scope.lasts(now)
    assert agrees(known, right, now, "", agent) == allowed


@given(tenants, tenants)
def test_biscuits_own_engine_keeps_tenants_apart(one: str, other: str) -> None:
    known = ROOT.read(ROOT.mint("t-1", scope_of(["read"], tenant=one))[0])
    assert agrees(known, "read", 0, one, None)
    assert agrees(known, "read", 0, other, None) == (one == other)
    assert not agrees(known, "read", 0, None, None)


def test_what_is_printed_in_one_way_and_means_another_is_not_allowed_by_the_engine() -> None:
    """The library prints strings without escaping: here one string looks like two."""
    text = with_block(r'check if operation("read\") or operation(\"write")')
    known = ROOT.read(text)
    assert known.scope == scope_of(["read", "write"])
    assert not agrees(known, "read", 0, None, None)
    assert not agrees(known, "write", 0, None, None)


@given(st.text(max_size=200))
def test_any_other_text_is_refused(text: str) -> None:
    for offered in (text, PREFIX + text):
        with pytest.raises(CredentialRefused):
            ROOT.read(offered)


@given(st.integers(min_value=0), st.integers(1, 255))
def test_a_token_with_a_changed_byte_is_refused(at: int, change: int) -> None:
    text = narrow(ROOT.mint("t-1", scope_of(["read"], tenant="acme", until=LATE))[0], scope_of(["read"]), ROOT.public)
    raw = bytearray(base64.urlsafe_b64decode(text.removeprefix(PREFIX)))
    raw[at % len(raw)] ^= change
    with pytest.raises(CredentialRefused):
        ROOT.read(PREFIX + base64.urlsafe_b64encode(raw).decode())


@given(st.integers(min_value=0))
def test_a_token_cut_short_is_refused(length: int) -> None:
    text, _ = ROOT.mint("t-1", scope_of(["read"], until=LATE))
    with pytest.raises(CredentialRefused):
        ROOT.read(text[: length % len(text)])


@pytest.mark.parametrize(
    "bend",
    [
        pytest.param(lambda text: text + "=", id="padding"),
        pytest.param(lambda text: text + "\n", id="a-line"),
        pytest.param(lambda text: f" {text}", id="a-blank"),
        pytest.param(lambda text: text.removeprefix(PREFIX), id="no-prefix"),
        pytest.param(lambda text: text.upper(), id="capitals"),
        pytest.param(lambda text: PREFIX + text, id="twice-the-prefix"),
        pytest.param(lambda text: text + "\0", id="nul"),
        pytest.param(lambda text: text + "A" * TOKEN_CHARS_MAX, id="too-long"),
        pytest.param(lambda text: text * 100_000, id="far-too-long"),
    ],
)
def test_a_token_written_in_another_way_is_refused(bend: Callable[[str], str]) -> None:
    text, _ = ROOT.mint("t-1", scope_of(["read"], until=LATE))
    with pytest.raises(CredentialRefused):
        ROOT.read(bend(text))


def test_a_token_of_another_key_is_refused() -> None:
    text, _ = STRANGER.mint("t-1", Scope(RIGHTS))
    with pytest.raises(CredentialRefused):
        ROOT.read(text)


@pytest.mark.parametrize(
    "source",
    [
        'right("admin")',
        'token("t-2")',
        "check if true",
        'check all operation("read")',
        'reject if operation("admin")',
        'check if operation("read"), operation("write")',
        'check if operation("read") or tenant("acme")',
        'check if operation("read") trusting previous',
        'check if operation("fly")',
        'check if tenant("acme") or tenant("rival")',
        'check if tenant("%61cme")',
        'check if tenant("%ff")',
        "check if agent($a)",
        'operation("admin") <- operation($any)',
        "check if time($time), $time > 2020-01-01T00:00:00Z",
        "check if time($time), $time <= 2020-01-01T00:00:00Z",
        'check if "a".matches("(a+)+")',
        'check if operation("read"); right("admin")',
    ],
)
def test_a_block_in_other_words_is_refused(source: str) -> None:
    text = with_block(source)
    with pytest.raises(CredentialRefused, match=r"know|another way"):
        ROOT.read(text)


@pytest.mark.parametrize("source", ["", 'right("read")', 'token("a"); token("b")', 'check if operation("read")'])
def test_the_keys_own_signature_under_other_words_is_refused(source: str) -> None:
    with pytest.raises(CredentialRefused):
        ROOT.read(signed(source))


def test_a_block_that_a_third_party_has_signed_is_refused() -> None:
    token = inner(ROOT.mint("t-1", Scope(RIGHTS))[0])
    third = biscuit_auth.KeyPair()
    block = token.third_party_request().create_block(
        third.private_key, biscuit_auth.BlockBuilder('check if operation("read")')
    )
    with pytest.raises(CredentialRefused, match="somebody else"):
        ROOT.read(text_of(token.append_third_party(third.public_key, block)))


def test_more_blocks_than_the_limit_are_refused() -> None:
    text, _ = ROOT.mint("t-1", Scope(RIGHTS))
    for _ in range(TOKEN_BLOCKS_MAX - 1):
        text = narrow(text, scope_of(["read"]), ROOT.public)
    assert ROOT.read(text).scope == scope_of(["read"])
    with pytest.raises(CredentialRefused, match="blocks"):
        ROOT.read(narrow(text, scope_of(["read"]), ROOT.public))


def test_the_last_block_can_not_be_taken_off() -> None:
    """Who got a narrowed token has no way back to the one before: its last proof is gone."""
    whole, _ = ROOT.mint("t-1", Scope(RIGHTS))
    narrowed = narrow(whole, scope_of(["read"]), ROOT.public)
    raw = base64.urlsafe_b64decode(narrowed.removeprefix(PREFIX))
    before = base64.urlsafe_b64decode(whole.removeprefix(PREFIX))
    proof = raw[-34:]
    with pytest.raises(CredentialRefused):
        ROOT.read(PREFIX + base64.urlsafe_b64encode(before[:-34] + proof).decode())


def test_a_token_holds_up_to_its_end_and_not_at_it() -> None:
    known = ROOT.read(ROOT.mint("t-1", scope_of(["read"], until=10 * SECOND))[0])
    assert agrees(known, "read", 10 * SECOND - 1, None, None)
    assert known.scope.lasts(10 * SECOND - 1)
    assert not agrees(known, "read", 10 * SECOND, None, None)
    assert not known.scope.lasts(10 * SECOND)


@pytest.mark.parametrize(
    "scope",
    [
        NOTHING,
        scope_of(["read"], agents=[f"a{number}" for number in range(TOKEN_AGENTS_MAX + 1)]),
        scope_of(["read"], agents=['a") or agent("b']),
        scope_of(["read"], agents=[""]),
    ],
)
def test_what_a_token_can_not_say_is_refused(scope: Scope) -> None:
    with pytest.raises(ScopeRefused):
        ROOT.mint("t-1", scope)
    with pytest.raises(ScopeRefused):
        narrow(ROOT.mint("t-1", Scope(RIGHTS))[0], scope, ROOT.public)


@given(st.sets(st.from_regex(r"[A-Za-z0-9_-]{1,36}", fullmatch=True), min_size=1, max_size=TOKEN_AGENTS_MAX))
def test_the_largest_token_is_within_the_limit(agents: set[str]) -> None:
    scope = scope_of(["read"], tenant="\U0001f600" * 200, agents=agents, until=LATE)
    assert ROOT.read(ROOT.mint("x" * 36, scope)[0]).scope == scope


def test_who_has_another_key_can_not_narrow() -> None:
    text, _ = ROOT.mint("t-1", Scope(RIGHTS))
    with pytest.raises(CredentialRefused):
        narrow(text, scope_of(["read"]), STRANGER.public)
    with pytest.raises(CredentialRefused):
        narrow("hello", scope_of(["read"]), ROOT.public)


def test_what_is_known_of_a_token_does_not_hold_its_text() -> None:
    text, _ = ROOT.mint("t-1", Scope(RIGHTS))
    known: Known = ROOT.read(text)
    assert text not in repr(known)
