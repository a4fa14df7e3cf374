"""Where tokens are issued, exchanged and revoked. Everything here is one synced transaction together with its audit.

**The human floor.** The first credential must come from a person who can see what the node prints. A join token is
printed, is good for ten minutes and once, and is exchanged for an API token. Until a first API token was issued, each
start prints a new one and ends the one before: else a node that was killed between writing and printing would keep
everybody out. Its 130 bits of chance can't be guessed, so a plain SHA-256 of it is enough to keep.

**Nobody gives what they don't have**: a token is issued only with a scope, and an end, within that of who asks for it.

**Revoking** a token also revokes what was issued with it, unless that is not wished, and all that its holders made of
it by narrowing.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
from typing import Final, Literal

import msgspec

from torpor.access.attempts import Attempts
from torpor.access.audit import Audit
from torpor.access.connection import Connection, Execute, Row
from torpor.access.gate import Decision
from torpor.access.scope import EVERYTHING, NOTHING, Scope
from torpor.access.tokens import LATEST, PREFIX, Root
from torpor.base.clock import MICROSECONDS, Clock
from torpor.base.entropy import Entropy
from torpor.base.errors import (
    AccessDamaged,
    AccessFailed,
    AttemptsExceeded,
    CredentialRefused,
    InternalError,
    JoinRefused,
    ScopeRefused,
    TokenUnknown,
)
from torpor.base.ids import IdSource
from torpor.base.limits import (
    JOIN_SECONDS,
    TOKEN_LABEL_MAX,
    TOKEN_SECONDS_DEFAULT,
    TOKEN_SECONDS_MAX,
    TOKEN_SKEW_SECONDS,
)
from torpor.home.names import check_tenant

NODE: Final = "node"
"""Who made what nobody asked for."""

_JOIN_PREFIX: Final = "join"
_JOIN_CHARACTERS: Final = 26
_CROCKFORD: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_JOIN_TYPED_MAX: Final = 100
_GROUPS: Final = re.compile(r"[\s-]+")

_COLUMNS: Final = (
    "id, label, scope, created, expires, issuer, parent, expired,"
    " EXISTS (SELECT 1 FROM revoked WHERE revoked.revocation = tokens.revocation)"
)
_FAMILY: Final = """
WITH RECURSIVE family (id) AS (
  SELECT :id UNION SELECT tokens.id FROM tokens JOIN family ON tokens.parent = family.id WHERE :all
)
SELECT tokens.id, tokens.revocation FROM tokens JOIN family USING (id)
WHERE tokens.revocation NOT IN (SELECT revocation FROM revoked) ORDER BY tokens.created, tokens.id
"""


class TokenRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a token; the token itself is kept nowhere. Times are µs since 1970 UTC.

    Attributes:
        id: which one it is.
        label: what people call it.
        scope: what it allows.
        created: when it was issued.
        expires: when it ends.
        issuer: who issued it.
        parent: the id of the token that it was issued with, if it was one.
        state: whether it holds. `expired` also if it was found to be so by a clock that says otherwise now.

    """

    id: str
    label: str
    scope: Scope
    created: int
    expires: int
    issuer: str
    parent: str | None
    state: Literal["open", "expired", "revoked"]


class Issued(msgspec.Struct, frozen=True):
    """A new token. Its text is shown once."""

    text: str
    record: TokenRecord

    def __repr__(self) -> str:
        return f"Issued(text=…, record={self.record!r})"  # a token has no business in a log


class Desk:
    """Issues, exchanges and revokes the tokens of one node. Safe to be used by many threads and processes."""

    def __init__(
        self, connection: Connection, audit: Audit, root: Root, attempts: Attempts, *, clock: Clock, entropy: Entropy
    ) -> None:
        self._connection = connection
        self._audit = audit
        self._root = root
        self._attempts = attempts
        self._clock = clock
        self._entropy = entropy
        self._ids = IdSource(clock, entropy)

    def first_join(self) -> str | None:
        """Return a join token to print, if no API token was ever issued; else None.

        Raises:
            AccessFailed, AccessDamaged: it can't be kept.

        """
        with self._connection.transaction() as execute:
            if list(execute("SELECT 1 FROM tokens LIMIT 1")):
                return None
            return self._join_token(execute, NODE)

    def invite(self, decision: Decision) -> str:
        """Return a new join token; one that is open ends.

        Args:
            decision: allows `tokens.invite`.

        Raises:
            AccessDenied: it doesn't.
            AccessFailed, AccessDamaged: it can't be kept.

        """
        decision.demand("tokens.invite")
        with self._connection.transaction() as execute:
            return self._join_token(execute, decision.who)

    def join(
        self, text: str, peer: str, *, label: str, scope: Scope = EVERYTHING, lifetime_s: float | None = None
    ) -> Issued:
        """Exchange a join token for an API token.

        Args:
            text: the join token, as somebody has typed it.
            peer: from where (`peer_name`).
            label: what the new token is to be called.
            scope: what it is to allow.
            lifetime_s: seconds for which it is to hold; `TOKEN_SECONDS_DEFAULT` unless given.

        Raises:
            JoinRefused: it isn't accepted.
            AttemptsExceeded: too many have tried.
            ScopeRefused, NameRefused: there can't be such an API token; the join token is as it was.
            AccessFailed, AccessDamaged: it can't be kept. Whether the join token was used is settled by the next try.

        """
        now = self._clock.now_us()
        scope = _asked(label, scope, lifetime_s, now, EVERYTHING)
        if not self._attempts.try_(peer):
            raise AttemptsExceeded(peer=peer, retry_after_s=self._attempts.wait_s(peer))
        offered = _join_hash(text)
        with self._connection.transaction() as execute:
            found = _matching(execute, offered)
            if found is None:
                refusal = "it is none that is open"
            else:
                join, created, expires = found
                refusal = _too_old(created, expires, now)
                if not refusal:
                    issued = self._issue(execute, peer, label, scope, now, parent=None)
                    execute(
                        "UPDATE joins SET ended = ?, how = 'used', token = ? WHERE id = ?",
                        (now, issued.record.id, join),
                    )
                    self._audit.add(execute, "join.used", peer, join=join, token=issued.record.id)
                elif now >= expires:
                    execute("UPDATE joins SET ended = ?, how = 'expired' WHERE id = ?", (now, join))
            if refusal:
                self._audit.add(execute, "join.refused", peer, reason=refusal)
        if refusal:
            raise JoinRefused
        return issued

    def issue(self, decision: Decision, *, label: str, scope: Scope, lifetime_s: float | None = None) -> Issued:
        """Issue an API token.

        Args:
            decision: allows `tokens.issue`, and has at least this scope.
            label: what the token is to be called.
            scope: what it is to allow.
            lifetime_s: seconds for which it is to hold; unless given, `TOKEN_SECONDS_DEFAULT`, or as long as the token
                that it is issued with, if that is shorter.

        Raises:
            AccessDenied: the decision doesn't allow it.
            ScopeRefused, NameRefused: there can't be such a token, or not from this issuer.
            CredentialRefused: the issuer's token was revoked meanwhile.
            AccessFailed, AccessDamaged: it can't be kept.

        """
        decision.demand("tokens.issue")
        now = self._clock.now_us()
        scope = _asked(label, scope, lifetime_s, now, decision.scope)
        with self._connection.transaction() as execute:
            if decision.revocations and is_revoked(execute, decision.revocations):
                raise CredentialRefused(reason="it was revoked")
            return self._issue(execute, decision.who, label, scope, now, parent=decision.token)

    def revoke(self, decision: Decision, token: str, *, why: str = "", issued_too: bool = True) -> tuple[str, ...]:
        """Revoke a token: from now on, in every process, it is refused. Twice is once.

        Args:
            decision: allows `tokens.revoke`.
            token: its id. Or the text of one that was narrowed: then only that one, and what was made of it, is
                revoked.
            why: for the audit.
            issued_too: also what was issued with it.

        Returns:
            The ids of the tokens that were revoked now.

        Raises:
            AccessDenied: the decision doesn't allow it.
            TokenUnknown: there is none, or its scope is not within the decision's.
            CredentialRefused: that text is no token of this node.
            AccessFailed, AccessDamaged: it can't be kept.

        """
        decision.demand("tokens.revoke")
        narrowed = ""
        if token.startswith(PREFIX):
            known = self._root.read(token)
            token = known.id
            narrowed = known.revocations[-1] if len(known.revocations) > 1 else ""
        now = self._clock.now_us()
        with self._connection.transaction() as execute:
            found = list(execute(f"SELECT {_COLUMNS} FROM tokens WHERE id = ?", (token,)))
            if not found or not _within(decision, self._record(found[0], now)):
                raise TokenUnknown(token=token)
            if narrowed:
                family = [(token, narrowed)] if not is_revoked(execute, (narrowed,)) else []
            else:
                family = list(execute(_FAMILY, {"id": token, "all": issued_too}))
            for each, revocation in family:
                execute("INSERT INTO revoked (revocation, token, time) VALUES (?, ?, ?)", (revocation, each, now))
                self._audit.add(
                    execute, "token.revoked", decision.who, token=each, why=why, narrowed=bool(narrowed) or None
                )
        return tuple(each for each, _ in family)

    def tokens(self, decision: Decision) -> list[TokenRecord]:
        """Return the tokens within the decision's scope, oldest first.

        Args:
            decision: allows `tokens.list`.

        Raises:
            AccessDenied: it doesn't.
            AccessFailed, AccessDamaged: they can't be read.

        """
        decision.demand("tokens.list")
        now = self._clock.now_us()
        found = self._connection.rows(f"SELECT {_COLUMNS} FROM tokens ORDER BY created, id")
        records = [self._record(row, now) for row in found]
        return [record for record in records if _within(decision, record)]

    def _join_token(self, execute: Execute, who: str) -> str:
        now = self._clock.now_us()
        if now > LATEST:
            raise AccessFailed(path=self._connection.path, reason="the clock is beyond the year 9999")
        text = _new_join(self._entropy)
        join = self._ids.text()
        execute("UPDATE joins SET ended = ?, how = 'replaced' WHERE ended IS NULL", (now,))
        execute(
            "INSERT INTO joins (id, hash, created, expires) VALUES (?, ?, ?, ?)",
            (join, _join_hash(text), now, now + int(JOIN_SECONDS * MICROSECONDS)),
        )
        self._audit.add(execute, "join.made", who, join=join)
        return text

    def _issue(self, execute: Execute, who: str, label: str, scope: Scope, now: int, *, parent: str | None) -> Issued:
        if scope.until is None:
            raise InternalError(promise="every token has an end")
        token = self._ids.text()
        text, revocation = self._root.mint(token, scope)
        said = msgspec.json.encode(scope, order="deterministic").decode()
        execute(
            "INSERT INTO tokens (id, revocation, label, scope, created, expires, issuer, parent)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (token, revocation, label, said, now, scope.until, who, parent),
        )
        self._audit.add(
            execute, "token.issued", who, token=token, label=label, scope=msgspec.json.decode(said), parent=parent
        )
        (row,) = execute(f"SELECT {_COLUMNS} FROM tokens WHERE id = ?", (token,))
        return Issued(text, self._record(row, now))

    def _record(self, row: Row, now: int) -> TokenRecord:
        token, label, scope, created, expires, issuer, parent, expired, revoked = row
        return TokenRecord(
            id=token,
            label=label,
            scope=read_scope(self._connection.path, scope),
            created=created,
            expires=expires,
            issuer=issuer,
            parent=parent,
            state="revoked" if revoked else "expired" if expired is not None or now >= expires else "open",
        )


def is_revoked(execute: Execute, revocations: tuple[str, ...]) -> bool:
    """Report whether a token with blocks of these signatures was revoked."""
    sql = "SELECT 1 FROM revoked WHERE revocation IN (SELECT value FROM json_each(?)) LIMIT 1"
    return bool(list(execute(sql, (msgspec.json.encode(revocations).decode(),))))


def read_scope(path: str, text: str) -> Scope:
    """Return a scope as the file of tokens has it.

    Raises:
        AccessDamaged: it is none.

    """
    try:
        return msgspec.json.decode(text, type=Scope)
    except msgspec.DecodeError as error:
        raise AccessDamaged(path=path, reason=f"a scope in it is none ({error})") from error


def _within(decision: Decision, record: TokenRecord) -> bool:
    """Report whether a token's scope is within a decision's, whatever their ends."""
    return decision.scope.unending().covers(record.scope.unending())


def _asked(label: str, scope: Scope, lifetime_s: float | None, now: int, issuer: Scope) -> Scope:
    """Return the scope of a token that was asked for, with its end.

    Raises:
        ScopeRefused, NameRefused: there can't be such a token, or not from this issuer.

    """
    if not 0 < len(label) <= TOKEN_LABEL_MAX or not label.isprintable() or label != label.strip():
        raise ScopeRefused(reason=f"a token is named by 1 to {TOKEN_LABEL_MAX} characters that can be seen")
    if scope == NOTHING:
        raise ScopeRefused(reason="it would allow nothing")
    if scope.tenant is not None:
        check_tenant(scope.tenant)
    ends = [each for each in (scope.until, issuer.until if lifetime_s is None else None) if each is not None]
    seconds = TOKEN_SECONDS_DEFAULT if lifetime_s is None else lifetime_s
    if not (math.isfinite(seconds) and 0 < seconds <= TOKEN_SECONDS_MAX):
        raise ScopeRefused(reason=f"it would hold for {seconds:g} seconds; {TOKEN_SECONDS_MAX:,.0f} are the most")
    until = min(now + int(seconds * MICROSECONDS), *ends) if ends else now + int(seconds * MICROSECONDS)
    until -= until % MICROSECONDS  # a token counts in whole seconds
    if until > LATEST:
        raise ScopeRefused(reason="its end is after the year 9999")
    if until <= now:
        raise ScopeRefused(reason="it would be over at once")
    wanted = msgspec.structs.replace(scope, until=until)
    if not issuer.covers(wanted):
        raise ScopeRefused(reason="it would allow more, or hold longer, than what it is issued with")
    return wanted


def _new_join(entropy: Entropy) -> str:
    """Return a new join token, such as `join-4f2w-…`: 130 bits in the Base32 of Crockford, for people to type."""
    number = int.from_bytes(entropy.token(17), "big")
    digits = "".join(_CROCKFORD[number >> 5 * place & 31] for place in range(_JOIN_CHARACTERS))
    groups = [digits[begin : begin + 4] for begin in range(0, _JOIN_CHARACTERS, 4)]
    return "-".join((_JOIN_PREFIX, *groups))


def _join_hash(text: str) -> bytes:
    """Return what is kept of a join token, and what is compared. Hyphens, blanks and capitals don't matter."""
    plain = _GROUPS.sub("", text[:_JOIN_TYPED_MAX]).lower()
    return hashlib.sha256(b"torpor join token\0" + plain.encode(errors="replace")).digest()


def _matching(execute: Execute, offered: bytes) -> tuple[str, int, int] | None:
    """Return id, creation and end of the open join token with this hash. All are compared, each in constant time."""
    found = None
    for join, kept, created, expires in execute("SELECT id, hash, created, expires FROM joins WHERE ended IS NULL"):
        if hmac.compare_digest(kept, offered):
            found = (join, created, expires)
    return found


def _too_old(created: int, expires: int, now: int) -> str:
    if now >= expires:
        return "it is too old"
    if now < created - TOKEN_SKEW_SECONDS * MICROSECONDS:
        return "the clock is behind the moment that it was made at"
    return ""
