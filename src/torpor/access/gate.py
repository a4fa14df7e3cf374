"""The one place where it is decided whether somebody may do something. What can't be decided is refused.

**Fail closed.** `decide` always returns a decision, and it allows only at the end of its one way, after everything was
looked at. An action that isn't in the table, a file that can't be read, an audit that can't be written, even a bug in
here: refused, with the error in the decision.

**A token** counts only if its signature is the root key's, its id and signature are in the file of tokens with the same
scope, it is not over, none of its blocks is revoked, and biscuit's engine agrees. The file is asked each time, so a
revocation by any process counts at once. Only the signature's verification is kept, for tokens that were accepted.

**Attempts** are counted where a token is refused, and then looked at no more for a while. Tokens that were accepted
lately pass by that, so that who guesses can't lock out who works.

**Existence.** An agent out of somebody's scope is answered like one that there isn't.

**What is audited**: every refusal, as far as a bounded number a time goes (how many were left out is said in the next
one), and what the table marks, before it is done. A refusal isn't synced: a power cut may take it back.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections import OrderedDict
from contextlib import suppress
from typing import Any, Final, Protocol

import anyio.to_thread
import msgspec

from torpor.access.actions import ACTIONS, ANY, Action, Target
from torpor.access.attempts import Attempts
from torpor.access.audit import Audit
from torpor.access.connection import Connection
from torpor.access.credentials import Bearer, Credential, Nobody, UnixPeer, same_user
from torpor.access.scope import EVERYTHING, NOTHING, RIGHTS, Scope
from torpor.access.tokens import Known, Root, agrees, is_same
from torpor.base.clock import MICROSECONDS, Clock
from torpor.base.errors import (
    AccessDenied,
    AccessError,
    AgentUnknown,
    AttemptsExceeded,
    CredentialMissing,
    CredentialRefused,
    InternalError,
    TorporError,
)
from torpor.base.limits import TOKEN_SKEW_SECONDS, TOKENS_KEPT
from torpor.home.names import check_tenant
from torpor.ledger import AgentRecord

_ROW: Final = (
    "SELECT scope, revocation, created, expires, expired,"
    " EXISTS (SELECT 1 FROM revoked WHERE revocation IN (SELECT value FROM json_each(?)))"
    " FROM tokens WHERE id = ?"
)
"""Of one token, by its id; and whether one of these blocks was revoked."""

_NOBODY: Final = "nobody"


class Agents(Protocol):
    """Who knows the agents: a ledger."""

    def agent(self, name_or_id: str) -> AgentRecord:
        """Return one agent, or raise AgentUnknown."""
        ...


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided. Made by a `Gate` only.

    Attributes:
        allowed: whether it may be done.
        action: what was asked for.
        who: who asked: `token:ID`, `uid:N`, or the address of somebody unknown.
        at: when, µs since 1970 UTC.
        scope: what is in reach of the action: the asker's scope, cut to what was asked for. Nothing, if refused.
        agent: the agent that it is about, if it is about one.
        tenant: for whom something is made, if that is what it is about.
        token: the id of the asker's token, if there was one.
        revocations: the signatures of its blocks.
        error: why not, if refused.

    """

    allowed: bool
    action: str
    who: str
    at: int
    scope: Scope = NOTHING
    agent: AgentRecord | None = None
    tenant: str = ""
    token: str | None = None
    revocations: tuple[str, ...] = ()
    error: TorporError | None = None

    def demand(self, action: str | None = None) -> Decision:
        """Return the decision if it allows what it is about.

        Args:
            action: what is about to be done, if that is to be compared.

        Raises:
            TorporError: why it is refused: AccessDenied, CredentialMissing, CredentialRefused, AttemptsExceeded,
                AgentUnknown, or what went wrong in deciding.

        """
        if self.error is not None:
            raise self.error
        if not self.allowed or (action is not None and action != self.action):
            raise AccessDenied(who=self.who, action=action or self.action, reason=f"{self.action} was decided on")
        return self


class _Asker(msgspec.Struct, frozen=True):
    """Who asks, and what their scope is."""

    who: str
    scope: Scope
    known: Known | None = None


class Gate:
    """Decides. Safe to be used by many threads.

    Args:
        connection: the file of tokens.
        audit: where decisions are noted.
        root: the root key.
        agents: who knows the agents, usually the ledger.
        home: the home's folder, for errors about agents.
        attempts: counts refused tokens.
        refusals: counts the entries of refusals in the audit.
        clock: where times come from.
        loopback: what is allowed to who comes without a credential from this machine's own addresses. Every program and
            every user of the machine can do that, and a web page in a browser may bring it about; so nothing, unless it
            is said otherwise.

    """

    def __init__(  # noqa: PLR0913  (what it stands on, each of its own kind)
        self,
        connection: Connection,
        audit: Audit,
        root: Root,
        *,
        agents: Agents,
        home: str,
        attempts: Attempts,
        refusals: Attempts,
        clock: Clock,
        loopback: Scope = NOTHING,
    ) -> None:
        self._connection = connection
        self._audit = audit
        self._root = root
        self._agents = agents
        self._home = home
        self._attempts = attempts
        self._refusals = refusals
        self._clock = clock
        self._loopback = loopback
        self._accepted: OrderedDict[bytes, Known] = OrderedDict()
        self._left_out = 0
        self._lock = threading.Lock()

    def decide(self, credential: Credential, action: str, target: Target = ANY) -> Decision:
        """Decide whether somebody may do something. Never raises; `Decision.demand` does.

        Args:
            credential: who asks.
            action: one of `ACTIONS`.
            target: what it is asked for.

        """
        decision = self._judge(credential, action, target)
        return self._noted(decision, target) if _is_noted(decision) else decision

    async def decide_async(self, credential: Credential, action: str, target: Target = ANY) -> Decision:
        """Decide, as `decide` does, and write to the audit in another thread, for that may wait for the disk."""
        decision = self._judge(credential, action, target)
        if not _is_noted(decision):
            return decision
        return await anyio.to_thread.run_sync(functools.partial(self._noted, decision, target))

    def holds(self, decision: Decision) -> bool:
        """Report whether a decision would still be made: what it allowed isn't over, and the token not revoked.

        For what goes on for long, such as a stream, to be asked now and then. What can't be told doesn't hold.
        """
        if not decision.allowed or not decision.scope.lasts(self._clock.now_us()):
            return False
        if decision.token is None:
            return True
        try:
            found = self._connection.rows(_ROW, (_json(decision.revocations), decision.token))
        except TorporError:
            return False
        return bool(found) and found[0][4] is None and not found[0][5]

    def _judge(self, credential: Credential, action: str, target: Target) -> Decision:
        now = self._clock.now_us()
        try:
            known = ACTIONS.get(action)
            if known is None:
                return self._refused(credential, action, now, InternalError(promise=f"{action!r:.80} is an action"))
            if known.about == "open":
                return Decision(allowed=True, action=action, who=_name(credential), at=now)
            asker = self._asker(credential, known, now)
        except TorporError as error:
            return self._refused(credential, action, now, error)
        except Exception as error:  # noqa: BLE001  (a bug must not open the door; it is in the decision)
            return self._refused(credential, action, now, _bug(error))
        try:
            return self._weigh(asker, known, target, now)
        except TorporError as error:
            return _refusal(asker, known, now, error)
        except Exception as error:  # noqa: BLE001  (likewise)
            return _refusal(asker, known, now, _bug(error))

    # --- who asks ---

    def _asker(self, credential: Credential, action: Action, now: int) -> _Asker:
        """Return who asks.

        Raises:
            CredentialMissing, CredentialRefused, AttemptsExceeded: nobody who is known.

        """
        match credential:
            case Bearer():
                return self._bearer(credential, now)
            case UnixPeer() if same_user(credential):
                return _Asker(_name(credential), EVERYTHING)
            case UnixPeer():
                raise CredentialRefused(reason=f"user {credential.uid} is not the one that the node runs as")
            case Nobody(loopback=True) if self._loopback != NOTHING:
                return _Asker(_name(credential), self._loopback)
            case Nobody():
                raise CredentialMissing(action=action.name)
        raise CredentialRefused(reason="that is no credential")

    def _bearer(self, credential: Bearer, now: int) -> _Asker:
        digest = hashlib.sha256(credential.token.encode(errors="replace")).digest()
        with self._lock:
            known = self._accepted.get(digest)
        if known is None:
            wait = self._attempts.wait_s(credential.peer)
            if wait:
                raise AttemptsExceeded(peer=credential.peer, retry_after_s=wait)
        try:
            known = known or self._root.read(credential.token)
            self._check(known, now)
        except CredentialRefused:
            self._attempts.spend(credential.peer)
            with self._lock:
                self._accepted.pop(digest, None)
            raise
        with self._lock:
            self._accepted[digest] = known
            self._accepted.move_to_end(digest)
            while len(self._accepted) > TOKENS_KEPT:
                self._accepted.popitem(last=False)
        return _Asker(f"token:{known.id}", known.scope, known)

    def _check(self, known: Known, now: int) -> None:
        """Refuse a token that doesn't count, or not any more.

        Raises:
            CredentialRefused: it doesn't.
            AccessFailed, AccessDamaged: it can't be told.

        """
        found = self._connection.rows(_ROW, (_json(known.revocations), known.id))
        if not found:
            raise CredentialRefused(reason="this node doesn't know the token")
        said, revocation, created, expires, expired, revoked = found[0]
        if not is_same(revocation, known.revocations[0]):
            raise CredentialRefused(reason="this node has issued another token of that id")
        try:
            scope = msgspec.json.decode(said, type=Scope)
        except msgspec.DecodeError:
            scope = NOTHING
        if scope != known.issued:
            raise CredentialRefused(reason="this node has issued it for something else")
        if revoked:
            raise CredentialRefused(reason="the token was revoked")
        if now < created - TOKEN_SKEW_SECONDS * MICROSECONDS:
            raise CredentialRefused(reason="the node's clock is behind the moment that the token was issued at")
        if expired is None and now >= expires:
            # Once found so, it stays so, also if the clock is set back.
            with self._connection.transaction(synced=False) as execute:
                execute("UPDATE tokens SET expired = ? WHERE id = ? AND expired IS NULL", (now, known.id))
        if expired is not None or now >= expires or not known.scope.lasts(now):
            raise CredentialRefused(reason="the token has expired")

    # --- what for ---

    def _weigh(self, asker: _Asker, action: Action, target: Target, now: int) -> Decision:
        """Return the decision on somebody who is known.

        Raises:
            AccessDenied, AgentUnknown, NameRefused: it is refused.
            LedgerFailed: it can't be told.

        """
        if action.right not in asker.scope.rights:
            raise AccessDenied(who=asker.who, action=action.name, reason=f"it needs the right to {action.right}")
        agent = None
        tenant = ""
        match action.about:
            case "node":
                scope = _whole(asker, action)
            case "agents":
                scope = asker.scope if target.tenant is None else _of_tenant(asker, action, target.tenant)
            case "tenant":
                tenant = (asker.scope.tenant or "") if target.tenant is None else target.tenant
                scope = _for_tenant(asker, action, tenant)
            case "agent":
                agent = self._find(asker, target)
                scope = asker.scope.meet(Scope(RIGHTS, agents=frozenset((agent.id,))))
            case _:
                raise InternalError(promise=f"{action.about} is something that an action is about")
        self._ask_engine(asker, action, agent, scope, now)
        return Decision(
            allowed=True,
            action=action.name,
            who=asker.who,
            at=now,
            scope=scope,
            agent=agent,
            tenant=tenant,
            token=None if asker.known is None else asker.known.id,
            revocations=() if asker.known is None else asker.known.revocations,
        )

    def _find(self, asker: _Asker, target: Target) -> AgentRecord:
        """Return the agent that is meant.

        Raises:
            AgentUnknown: there is none, or it is out of the asker's scope.

        """
        asked = target.agent
        if not asked:
            raise InternalError(promise="an action about an agent names it")
        record = self._agents.agent(asked)
        wanted = target.tenant is None or record.tenant == target.tenant
        if not wanted or not asker.scope.sees(record.id, record.tenant):
            raise AgentUnknown(name=asked, what="agent", home=self._home)
        return record

    def _ask_engine(self, asker: _Asker, action: Action, agent: AgentRecord | None, scope: Scope, now: int) -> None:
        """Have biscuit's engine come to the same answer.

        Raises:
            AccessDenied: it doesn't.

        """
        if asker.known is None:
            return
        tenant, one = scope.tenant, min(scope.agents, default=None) if scope.agents else None
        if agent is not None:
            tenant, one = agent.tenant, agent.id
        if not agrees(asker.known, action.right, now, tenant, one):
            raise AccessDenied(who=asker.who, action=action.name, reason="the token's own checks don't allow it")

    # --- what is noted ---

    def _refused(self, credential: Credential, action: str, now: int, error: TorporError) -> Decision:
        return Decision(allowed=False, action=str(action)[:100], who=_name(credential), at=now, error=error)

    def _noted(self, decision: Decision, target: Target) -> Decision:
        """Return a decision after it was put into the audit; where that fails, it is a refusal."""
        about: dict[str, Any] = {"action": decision.action, "agent": target.agent, "tenant": target.tenant}
        if decision.allowed:
            try:
                self._audit.note("decision.allowed", decision.who, **about)
            except TorporError as error:
                return msgspec.structs.replace(decision, allowed=False, scope=NOTHING, agent=None, error=error)
            return decision
        if not self._refusals.try_(decision.who):
            with self._lock:
                self._left_out += 1
            return decision
        with self._lock:
            left_out, self._left_out = self._left_out, 0
        if decision.error is not None:
            about |= {"code": decision.error.code, "reason": decision.error.message}
        with suppress(AccessError):  # it is refused all the same, and whoever asked is told why
            self._audit.note("decision.refused", decision.who, synced=False, **about, left_out=left_out or None)
        return decision


def _is_noted(decision: Decision) -> bool:
    return not decision.allowed or ACTIONS[decision.action].audited


def _refusal(asker: _Asker, action: Action, now: int, error: TorporError) -> Decision:
    token = None if asker.known is None else asker.known.id
    return Decision(allowed=False, action=action.name, who=asker.who, at=now, token=token, error=error)


def _bug(error: Exception) -> InternalError:
    bug = InternalError(promise=f"deciding raises nothing else ({type(error).__name__})")
    bug.__cause__ = error
    return bug


def _name(credential: Credential) -> str:
    match credential:
        case UnixPeer(uid=uid):
            return f"uid:{uid}"
        case Bearer(peer=peer) | Nobody(peer=peer):
            return peer or _NOBODY
    return _NOBODY


def _whole(asker: _Asker, action: Action) -> Scope:
    if not asker.scope.whole:
        raise AccessDenied(who=asker.who, action=action.name, reason="it is about the node as a whole")
    return asker.scope


def _of_tenant(asker: _Asker, action: Action, tenant: str) -> Scope:
    scope = asker.scope.meet(Scope(RIGHTS, tenant=tenant))
    if scope == NOTHING:
        raise AccessDenied(who=asker.who, action=action.name, reason="it is about another tenant")
    return scope


def _for_tenant(asker: _Asker, action: Action, tenant: str) -> Scope:
    if asker.scope.agents is not None:
        raise AccessDenied(who=asker.who, action=action.name, reason="its scope is some agents only")
    if tenant:
        check_tenant(tenant)
    return _of_tenant(asker, action, tenant)


def _json(revocations: tuple[str, ...]) -> str:
    return msgspec.json.encode(revocations).decode()
