"""API tokens: biscuits (biscuitsec.org) that say only what a `Scope` says, in words that are read back.

A token is signed with the node's root key, and whoever has one may narrow it by blocks of his own, without asking. A
block of a biscuit can hold any Datalog. Of that, this node takes checks of four forms, and refuses any other block:

    check if operation("read") or operation("write");
    check if tenant("acme");
    check if agent("0190…") or agent("0191…");
    check if time($time), $time < 2027-01-31T00:00:00Z;

So each block is a `Scope`, the token's scope is what all blocks allow, and lists and streams can be cut to it. The
first block says which token it is besides: `token("ID");`. Strings are percent-encoded (RFC 3986), since the biscuit
library prints them without escaping. For that same reason what was read is not believed alone: biscuit's own engine
must come to the same answer (`agrees`).

No stranger's program is run by that: four forms of checks, at most so many blocks, a limit on characters.
"""

from __future__ import annotations

import functools
import hmac
import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast
from urllib.parse import quote, unquote

import msgspec

from torpor.access.scope import EVERYTHING, NOTHING, RIGHTS, Right, Scope, scope_of
from torpor.base.clock import MICROSECONDS
from torpor.base.errors import CredentialRefused, ExtraMissing, ScopeRefused
from torpor.base.limits import TOKEN_AGENTS_MAX, TOKEN_BLOCKS_MAX, TOKEN_CHARS_MAX

PREFIX: Final = "torpor_"
"""How a token begins, for people, and for programs that look for secrets where none should be."""

_TERM: Final = r'(operation|tenant|agent)\("([A-Za-z0-9._~%-]*)"\)'
_TERM_OF: Final = '{}("{}")'
_CHECK: Final = re.compile(rf"check if {_TERM}(?: or \1\(\"[A-Za-z0-9._~%-]*\"\))*", re.ASCII)
_VALUE: Final = re.compile(r'\("([^"]*)"\)')
_UNTIL: Final = re.compile(r"check if time\(\$(\w+)\), \$\1 < (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)", re.ASCII)
_IDENTITY: Final = re.compile(r'token\("([A-Za-z0-9-]{1,64})"\)', re.ASCII)
_AGENT: Final = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)

LATEST: Final = 253_402_300_799 * MICROSECONDS
"""The last second of the year 9999."""

_ENGINE_SECONDS: Final = 1.0
"""What biscuit's engine may take. Its own limit, a millisecond, is missed by a busy machine; the checks above need some
microseconds."""


class Known(msgspec.Struct, frozen=True):
    """A token whose signature holds.

    Attributes:
        id: which one it is.
        issued: the scope of its first block, with which it was issued.
        scope: what all its blocks allow.
        revocations: the signatures of its blocks, in hex; the first is that of the token as it was issued.
        biscuit: the token, for biscuit's engine.

    """

    id: str
    issued: Scope
    scope: Scope
    revocations: tuple[str, ...]
    biscuit: Any


class Root:
    """The root key, and what only it can do.

    Args:
        key: an Ed25519 seed.

    Attributes:
        public: the public key in hex.

    """

    def __init__(self, key: bytes) -> None:
        library = _library()
        self._pair = library.KeyPair.from_private_key(library.PrivateKey.from_bytes(key, library.Algorithm.Ed25519))
        self.public: str = bytes(self._pair.public_key.to_bytes()).hex()

    def mint(self, token: str, scope: Scope) -> tuple[str, str]:
        """Return the text of a new token, and its signature in hex.

        Args:
            token: its id, letters, digits and hyphens of ASCII.
            scope: what it allows; with an end, in whole seconds.

        Raises:
            ScopeRefused: tokens can't say that.

        """
        source, values = _checks(scope)
        builder = _library().BiscuitBuilder(f"token({{token}});{source}", {"token": token, **values})
        made = builder.build(self._pair.private_key)
        return _text(made), made.revocation_ids[0]

    def read(self, text: str) -> Known:
        """Return what a token says, whose signatures are this key's.

        Raises:
            CredentialRefused: it is none of this key's, or says what this node doesn't know.

        """
        if not text.startswith(PREFIX) or len(text) > TOKEN_CHARS_MAX or not text.isascii():
            raise CredentialRefused(reason="that is no token of a node")
        with _refusing("it is none of this node's tokens, or it was changed"):
            biscuit = _library().Biscuit.from_base64(text.removeprefix(PREFIX), self._pair.public_key)
            blocks: int = biscuit.block_count()
            if blocks > TOKEN_BLOCKS_MAX:
                raise CredentialRefused(reason=f"it has {blocks} blocks, more than {TOKEN_BLOCKS_MAX}")
            if _text(biscuit) != text:
                raise CredentialRefused(reason="it is written in another way than it was issued")
            if any(biscuit.block_external_key(number) is not None for number in range(blocks)):
                raise CredentialRefused(reason="it has a block that somebody else has signed")
            sources = [biscuit.block_source(number) for number in range(blocks)]
            revocations = tuple(biscuit.revocation_ids)
        identity, _, first = sources[0].partition(";\n")
        named = _IDENTITY.fullmatch(identity)
        if named is None:
            raise CredentialRefused(reason="it doesn't say which token it is")
        issued = _read_block(first)
        scope = functools.reduce(Scope.meet, map(_read_block, sources[1:]), issued)
        return Known(named[1], issued, scope, revocations, biscuit)


def agrees(known: Known, right: Right, now: int, tenant: str | None, agent: str | None) -> bool:
    """Report whether biscuit's engine, too, allows a token something.

    Args:
        known: the token.
        right: what is needed.
        now: the present time, µs since 1970 UTC.
        tenant: whose agents are meant; None for those of all.
        agent: the id of the agent that is meant, or of one of them; None for all.

    """
    library = _library()
    facts = "time({time}); operation({right}); allow if token({token});"
    values: dict[str, Any] = {"time": _moment(now), "right": right, "token": known.id}
    for name, value in (("tenant", tenant), ("agent", agent)):
        if value is not None:
            facts = f"{name}({{{name}}}); {facts}"
            values[name] = quote(value, safe="")
    try:
        with _refusing("its checks can't be run"):
            builder = library.AuthorizerBuilder(facts, values)
            limits = builder.limits()
            limits.max_time = timedelta(seconds=_ENGINE_SECONDS)
            builder.set_limits(limits)
            return bool(builder.build(known.biscuit).authorize() == 0)
    except CredentialRefused:
        return False


def narrow(text: str, scope: Scope, public: str) -> str:
    """Return a token that allows only what both another one and a scope allow. It needs no secret, and asks nobody.

    Args:
        text: the other token.
        scope: what is to be left of it.
        public: the node's public key in hex (the library reads no token without).

    Raises:
        CredentialRefused: that is no token.
        ScopeRefused: tokens can't say that.

    """
    if not text.startswith(PREFIX):
        raise CredentialRefused(reason="that is no token of a node")
    source, values = _checks(scope)
    library = _library()
    with _refusing("that is no token of a node"):
        key = library.PublicKey.from_bytes(bytes.fromhex(public), library.Algorithm.Ed25519)
        token = library.Biscuit.from_base64(text.removeprefix(PREFIX), key)
        return _text(token.append(library.BlockBuilder(source, values)))


def is_same(one: str, other: str) -> bool:
    """Compare two signatures, in a time that tells nothing of where they differ."""
    return hmac.compare_digest(one.encode(), other.encode())


def _checks(scope: Scope) -> tuple[str, dict[str, Any]]:
    """Return the Datalog that says what a scope says, and the values for it.

    Raises:
        ScopeRefused: it allows nothing, or more than a token can name.

    """
    if scope == NOTHING:
        raise ScopeRefused(reason="it would allow nothing")
    source = "" if scope.rights == RIGHTS else _any_of("operation", sorted(scope.rights))
    if scope.tenant is not None:
        source += _any_of("tenant", [quote(scope.tenant, safe="")])
    if scope.agents is not None:
        if len(scope.agents) > TOKEN_AGENTS_MAX:
            raise ScopeRefused(reason=f"it has {len(scope.agents)} agents, more than {TOKEN_AGENTS_MAX}")
        if not all(map(_AGENT.fullmatch, scope.agents)):
            raise ScopeRefused(reason="agents are named by their ids")
        source += _any_of("agent", sorted(scope.agents))
    if scope.until is None:
        return source, {}
    if not 0 <= scope.until <= LATEST:
        raise ScopeRefused(reason="its end is before 1970, or after the year 9999")
    return f"{source}check if time($time), $time < {{until}};", {"until": _moment(scope.until)}


def _any_of(name: str, values: list[str]) -> str:
    # What is put in here is letters, digits and "._~%-" only, so no string can end early.
    return f"check if {' or '.join(_TERM_OF.format(name, value) for value in values)};"


def _read_block(source: str) -> Scope:
    """Return the scope of a block, from its Datalog as the library prints it: each statement ends with ";" and a line.

    Raises:
        CredentialRefused: it has something else in it.

    """
    *statements, rest = source.split(";\n")
    if rest:
        raise CredentialRefused(reason="it has a block that this node doesn't know how to read")
    return functools.reduce(Scope.meet, map(_read_check, statements), EVERYTHING)


def _read_check(statement: str) -> Scope:
    if until := _UNTIL.fullmatch(statement):
        try:
            moment = datetime.fromisoformat(until[2])
        except ValueError as error:
            raise CredentialRefused(reason="it has a date that is none") from error
        return Scope(RIGHTS, until=int(moment.timestamp()) * MICROSECONDS)
    found = _CHECK.fullmatch(statement)
    if found is None:
        raise CredentialRefused(reason="it has a block that this node doesn't know how to read")
    values = [_plain(value) for value in _VALUE.findall(statement)]
    if found[1] == "operation" and RIGHTS.issuperset(values):
        return Scope(frozenset(cast("list[Right]", values)))
    if found[1] == "tenant" and len(values) == 1:
        return scope_of(RIGHTS, tenant=values[0])
    if found[1] == "agent":
        return scope_of(RIGHTS, agents=values)
    raise CredentialRefused(reason="it has a check that this node doesn't know how to read")


def _plain(value: str) -> str:
    """Return a percent-encoded text as it was, if it was encoded in the one way that this module does.

    Raises:
        CredentialRefused: it was not.

    """
    try:
        plain = unquote(value, errors="strict")
    except UnicodeDecodeError:
        plain = ""
    if quote(plain, safe="") != value:
        raise CredentialRefused(reason="it has a text that is written in another way than here")
    return plain


def _moment(time: int) -> datetime:
    """Return a time (µs since 1970 UTC) as biscuits have it, in whole seconds that are over."""
    return datetime.fromtimestamp(min(max(0, time), LATEST) // MICROSECONDS, UTC)


def _text(biscuit: Any) -> str:
    return f"{PREFIX}{biscuit.to_base64()}"


@contextmanager
def _refusing(reason: str) -> Iterator[None]:
    """Have what the library raises of a stranger's token refuse that token, whatever it is."""
    library = _library()
    try:
        yield
    except (
        library.DataLogError,
        library.AuthorizationError,
        library.BiscuitValidationError,
        library.BiscuitSerializationError,
        library.BiscuitBlockError,
        library.BiscuitBuildError,
        ValueError,
        OverflowError,
    ) as error:
        raise CredentialRefused(reason=reason) from error
    except BaseException as error:
        # A Rust panic comes as a class of its own, below BaseException, that can't be imported.
        if type(error).__name__ != "PanicException":
            raise
        raise CredentialRefused(reason=reason) from error


@functools.cache
def _library() -> Any:
    """Return biscuit's library, which only nodes need. Its type hints lack some of what it has.

    Raises:
        ExtraMissing: it is not installed.

    """
    try:
        return importlib.import_module("biscuit_auth")
    except ImportError as error:
        raise ExtraMissing(package="biscuit-python", extra="node") from error
