"""The one decision point: who gets in, who doesn't, and that whatever goes wrong is a refusal."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import anyio
import apsw
import pytest
from tests.unit.access.kit import DAY, MINUTE, PEER, SECOND, TENANTS, ids, lab, me, stranger, tamper
from tests.unit.ledger.kit import id_of
from tests.unit.workbook.kit import NOW

from torpor.access import ACTIONS, NOTHING, RIGHTS, Bearer, Decision, Nobody, Scope, Target, UnixPeer, narrow, scope_of
from torpor.access.access import REFUSALS_EACH, TOKENS_EACH
from torpor.access.tokens import Root
from torpor.base.errors import (
    AccessDenied,
    AccessFailed,
    AgentUnknown,
    AttemptsExceeded,
    CredentialMissing,
    CredentialRefused,
    InternalError,
    LedgerFailed,
    NameRefused,
)
from torpor.testing.faults import fail_at

READER = scope_of(["read"])
ACME = scope_of(["admin"], tenant="acme")


def refusal(decision: Decision) -> type[BaseException]:
    """Return why something was refused, after making sure that nothing of the decision can be used."""
    assert not decision.allowed
    assert (decision.scope, decision.agent) == (NOTHING, None)
    assert decision.error is not None
    with pytest.raises(type(decision.error)):
        decision.demand()
    return type(decision.error)


def test_the_nodes_own_user_may_do_everything(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        for name, action in ACTIONS.items():
            decision = there.owner(name, agent="eve" if action.about == "agent" else None)
            assert decision.allowed, name
            assert decision.demand(name) is decision


def test_only_what_is_open_is_done_without_a_credential(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        for who in (stranger(), Nobody("127.0.0.1", loopback=True)):
            allowed = {name for name in ACTIONS if there.access.gate.decide(who, name, Target(agent="ada")).allowed}
            assert allowed == {"node.live", "node.ready", "node.started", "tokens.join"}
        assert refusal(there.access.gate.decide(stranger(), "agents.list")) is CredentialMissing


def test_what_is_open_reaches_nothing(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        view = there.access.tenancy.scope(there.access.gate.decide(stranger(), "node.live"))
        assert not [*view.agents(), *view.templates()]
        assert not view.sees(id_of("ada"), "acme")
        with pytest.raises(AgentUnknown):
            view.agent("ada")


def test_loopback_is_let_in_only_where_that_was_said(tmp_path: Path) -> None:
    with lab(tmp_path, loopback=READER) as there:
        near, far = Nobody("127.0.0.1", loopback=True), Nobody("127.0.0.1")
        assert there.access.gate.decide(near, "agents.list").allowed
        assert refusal(there.access.gate.decide(near, "agents.new")) is AccessDenied
        assert refusal(there.access.gate.decide(far, "agents.list")) is CredentialMissing


@pytest.mark.parametrize(
    ("scope", "kinds"),
    [
        (scope_of(["read"]), {("node", "read"), ("agents", "read"), ("agent", "read")}),
        (scope_of(["write"]), {("tenant", "write"), ("agent", "write")}),
        (scope_of(["read"], tenant="acme"), {("agents", "read"), ("agent", "read")}),
        (
            scope_of(["admin"], agents=ids("ada")),
            {("agents", right) for right in RIGHTS} | {("agent", right) for right in RIGHTS},
        ),
        (
            scope_of(["admin"], tenant="acme"),
            {(about, right) for about in ("tenant", "agents", "agent") for right in RIGHTS},
        ),
        (scope_of(["admin"]), {(about, right) for about in ("node", "tenant", "agents", "agent") for right in RIGHTS}),
    ],
)
def test_each_action_needs_its_right_and_its_reach(tmp_path: Path, scope: Scope, kinds: set[tuple[str, str]]) -> None:
    with lab(tmp_path) as there:
        token = there.issue(scope)
        for name, action in ACTIONS.items():
            decision = there.ask(token, name, agent="ada" if action.about == "agent" else None)
            assert decision.allowed == (action.about == "open" or (action.about, action.right) in kinds), name
            assert decision.allowed or refusal(decision) is AccessDenied


@pytest.mark.parametrize("name", sorted(name for name, action in ACTIONS.items() if action.about == "agent"))
def test_another_tenants_agent_is_like_one_that_there_is_not(tmp_path: Path, name: str) -> None:
    with lab(tmp_path) as there:
        token = there.issue(ACME)
        for agent, tenant in TENANTS.items():
            for known_as in (agent, agent.upper(), id_of(agent)):
                decision = there.ask(token, name, agent=known_as)
                assert decision.allowed == (tenant == "acme")
                if decision.allowed:
                    assert decision.agent is not None
                    assert decision.agent.name == agent
                    assert decision.scope.agents == frozenset(ids(agent))
                    continue
                assert refusal(decision) is AgentUnknown
                missing = there.ask(token, name, agent="nobody-of-that-name")
                assert isinstance(missing.error, AgentUnknown)
                assert isinstance(decision.error, AgentUnknown)
                told = vars(decision.error) | {"name": ""}
                assert told == vars(missing.error) | {"name": ""}


def test_what_is_made_is_made_for_the_tokens_tenant(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        acme, whole = there.issue(ACME), there.issue(scope_of(["write"]))
        assert there.ask(acme, "agents.new").tenant == "acme"
        assert there.ask(acme, "agents.new", tenant="acme").tenant == "acme"
        for other in ("rival", ""):
            assert refusal(there.ask(acme, "agents.new", tenant=other)) is AccessDenied
        assert there.ask(whole, "agents.new").tenant == ""
        assert there.ask(whole, "agents.new", tenant="rival").tenant == "rival"
        assert refusal(there.ask(whole, "agents.new", tenant="ri\nval")) is NameRefused
        assert refusal(there.ask(there.issue(scope_of(["write"], agents=ids("ada"))), "agents.new")) is AccessDenied


def test_lists_are_cut_to_the_tenant_that_was_asked_for(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        acme, whole = there.issue(ACME), there.issue(READER)
        assert there.ask(whole, "agents.list", tenant="rival").scope.tenant == "rival"
        assert there.ask(acme, "agents.list").scope.tenant == "acme"
        assert refusal(there.ask(acme, "agents.list", tenant="rival")) is AccessDenied


def test_a_narrowed_token_allows_what_is_left(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        token = there.issue()
        public = there.access.public
        narrowed = narrow(token.text, scope_of(["read"], tenant="acme"), public)
        assert there.ask(narrowed, "agents.read", agent="ada").allowed
        assert refusal(there.ask(narrowed, "agents.read", agent="eve")) is AgentUnknown
        assert refusal(there.ask(narrowed, "agents.send", agent="ada")) is AccessDenied
        assert refusal(there.ask(narrowed, "node.status")) is AccessDenied
        listed = there.ask(narrowed, "agents.list")
        assert [each.name for each in there.access.tenancy.scope(listed).agents()] == ["ada", "bob"]
        brief = narrow(narrowed, scope_of(["read"], until=NOW + MINUTE), public)
        assert there.ask(brief, "agents.list").allowed
        there.clock.now += MINUTE
        assert refusal(there.ask(brief, "agents.list")) is CredentialRefused
        assert there.ask(narrowed, "agents.list").allowed


def test_a_narrowed_token_that_means_something_else_than_it_prints_is_refused(tmp_path: Path) -> None:
    import biscuit_auth

    with lab(tmp_path) as there:
        library: Any = biscuit_auth  # its type hints lack some of what it has
        public = library.PublicKey.from_bytes(bytes.fromhex(there.access.public), library.Algorithm.Ed25519)
        token = biscuit_auth.Biscuit.from_base64(there.issue().text.removeprefix("torpor_"), public)
        odd = token.append(biscuit_auth.BlockBuilder(r'check if operation("read\") or operation(\"write")'))
        decision = there.ask(f"torpor_{odd.to_base64()}", "agents.list")
        assert refusal(decision) is AccessDenied
        assert "own checks" in str(decision.error)


def test_a_token_of_another_node_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with lab(tmp_path / "one") as one, lab(tmp_path / "two") as two:
        token = one.issue()
        assert one.ask(token, "agents.list").allowed
        assert refusal(two.ask(token, "agents.list")) is CredentialRefused


def test_a_stolen_key_alone_makes_no_token(tmp_path: Path) -> None:
    """What the file of tokens doesn't know is refused, whatever its signature."""
    with lab(tmp_path) as there:
        root = Root(bytes.fromhex((there.folder / "root.key").read_text()))
        known = there.issue(READER)
        for token in ("made-up", known.record.id):
            for scope in (Scope(RIGHTS), known.record.scope):
                assert refusal(there.ask(root.mint(token, scope)[0], "agents.list")) is CredentialRefused
        assert there.ask(known, "agents.list").allowed


def test_a_changed_row_does_not_make_a_token_mightier(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        token = there.issue(READER)
    tamper(
        tmp_path / "access" / "access.db",
        """UPDATE tokens SET scope = json_set(scope, '$.rights', json('["admin"]'))""",
    )
    with lab(tmp_path) as there:
        assert refusal(there.ask(token, "agents.list")) is CredentialRefused


def test_a_token_ends(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        token = there.issue(READER, lifetime_s=60)
        there.clock.now += MINUTE - 1
        assert there.ask(token, "agents.list").allowed
        there.clock.now += 1
        assert refusal(there.ask(token, "agents.list")) is CredentialRefused


def test_a_token_that_was_refused_as_expired_stays_so_when_the_clock_is_set_back(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        token, unseen = there.issue(READER, lifetime_s=60), there.issue(READER, lifetime_s=60)
        there.clock.now += 2 * MINUTE
        assert refusal(there.ask(token, "agents.list")) is CredentialRefused
        there.clock.now -= 2 * MINUTE
        assert refusal(there.ask(token, "agents.list")) is CredentialRefused
        assert there.ask(unseen, "agents.list").allowed
    with lab(tmp_path) as there:
        assert refusal(there.ask(token, "agents.list")) is CredentialRefused


def test_a_clock_behind_the_issuing_is_noticed(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        token = there.issue(READER)
        there.clock.now -= 4 * MINUTE
        assert there.ask(token, "agents.list").allowed
        there.clock.now -= 30 * DAY
        decision = there.ask(token, "agents.list")
        assert refusal(decision) is CredentialRefused
        assert "clock" in str(decision.error)
        there.clock.now = NOW
        assert there.ask(token, "agents.list").allowed


def test_a_clock_before_1970_or_far_ahead_lets_nobody_in(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        token = there.issue(READER)
        for now in (-(10**15), 2**62, 10**18):
            there.clock.now = now
            assert refusal(there.ask(token, "agents.list")) is CredentialRefused


def test_revoked_is_revoked_at_once_also_for_who_was_let_in_before(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        token = there.issue(READER)
        narrowed = narrow(token.text, READER, there.access.public)
        decision = there.ask(token, "events.follow")
        assert there.access.gate.holds(decision)
        assert there.ask(narrowed, "agents.list").allowed
        with lab(tmp_path) as elsewhere:
            assert elsewhere.revoke(token.record.id) == (token.record.id,)
        assert refusal(there.ask(token, "agents.list")) is CredentialRefused
        assert refusal(there.ask(narrowed, "agents.list")) is CredentialRefused
        assert not there.access.gate.holds(decision)


def test_a_decision_holds_no_longer_than_its_token(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        decision = there.ask(there.issue(READER, lifetime_s=60), "events.follow")
        there.clock.now += MINUTE - 1
        assert there.access.gate.holds(decision)
        there.clock.now += 1
        assert not there.access.gate.holds(decision)
        assert there.access.gate.holds(there.owner("events.follow"))
        assert not there.access.gate.holds(there.ask("nonsense", "events.follow"))
        other = there.ask(there.issue(READER), "events.follow")
        there.access.close()
        assert not there.access.gate.holds(other)


def test_who_guesses_waits_and_who_works_does_not(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        burst, every_s = TOKENS_EACH
        works, comes_later = there.issue(READER), there.issue(READER)
        assert there.ask(works, "agents.list").allowed
        for number in range(burst):
            assert refusal(there.ask(f"torpor_guess{number}", "agents.list")) is CredentialRefused
        decision = there.ask("torpor_guess", "agents.list")
        assert refusal(decision) is AttemptsExceeded
        assert isinstance(decision.error, AttemptsExceeded)
        assert 0 < decision.error.retry_after_s <= every_s
        assert there.ask(works, "agents.list").allowed
        assert refusal(there.ask(comes_later, "agents.list")) is AttemptsExceeded
        assert there.ask(comes_later, "agents.list", peer="192.0.2.99").allowed
        assert there.ask(comes_later, "agents.list").allowed
        there.clock.now += int(every_s) * SECOND
        assert refusal(there.ask("torpor_guess", "agents.list")) is CredentialRefused


def test_a_revoked_token_that_is_tried_on_and_on_is_not_looked_at_any_more(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        token = there.issue(READER)
        assert there.ask(token, "agents.list").allowed
        there.revoke(token.record.id)
        found = [refusal(there.ask(token, "agents.list")) for _ in range(TOKENS_EACH[0] + 3)]
        assert found == [CredentialRefused] * TOKENS_EACH[0] + [AttemptsExceeded] * 3


@pytest.mark.parametrize("action", ["", "agents", "agents.fly", "Agents.List", "node.live ", "x" * 100_000])
def test_an_action_that_is_not_in_the_table_is_refused_to_everybody(tmp_path: Path, action: str) -> None:
    with lab(tmp_path) as there:
        assert refusal(there.owner(action)) is InternalError
        assert refusal(there.access.gate.decide(stranger(), action)) is InternalError
        assert len(there.owner(action).action) <= 100


@pytest.mark.parametrize("agent", [None, "", "../../etc/passwd", "\0", "\ud800", "a" * 1_000_000, "' OR 1=1 --"])
def test_hostile_names_find_nobody(tmp_path: Path, agent: str | None) -> None:
    with lab(tmp_path) as there:
        decision = there.owner("agents.read", agent=agent)
        assert refusal(decision) is (AgentUnknown if agent else InternalError)
        assert refusal(there.ask(there.issue(ACME), "agents.read", agent=agent)) is refusal(decision)
        there.access.audit.verify()


def test_no_credential_at_all_is_refused(tmp_path: Path) -> None:
    odd: list[Any] = [None, "torpor_x", object(), UnixPeer(0, 2**32 - 1, 2**32 - 1)]
    with lab(tmp_path) as there:
        for credential in odd:
            assert refusal(there.access.gate.decide(credential, "agents.list")) is CredentialRefused


def test_what_can_not_be_decided_is_refused(tmp_path: Path) -> None:
    class Odd(str):
        __slots__ = ()

        def encode(self, *_: Any, **__: Any) -> bytes:
            raise ZeroDivisionError

    with lab(tmp_path) as there:
        token = there.issue(READER)
        decision = there.access.gate.decide(Bearer(Odd("x"), PEER), "agents.list")
        assert refusal(decision) is InternalError
        assert decision.error is not None
        assert isinstance(decision.error.__cause__, ZeroDivisionError)
        there.ledger.close()
        assert refusal(there.ask(token, "agents.read", agent="ada")) is LedgerFailed
        there.access.close()
        assert refusal(there.ask(token, "agents.list")) is AccessFailed
        assert refusal(there.owner("node.stop")) is AccessFailed
        assert there.access.gate.decide(stranger(), "node.live").allowed


def test_what_is_to_be_audited_and_can_not_be_is_refused(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        before = there.access.audit.head()
        with fail_at("access.committing", apsw.FullError("disk is full")):
            assert refusal(there.owner("node.stop")) is AccessFailed
        assert there.access.audit.head() == before
        with fail_at("access.committing", apsw.FullError("disk is full")):
            assert there.owner("agents.list").allowed
        with fail_at("access.committing", apsw.FullError("disk is full")):
            assert refusal(there.ask("nonsense", "agents.list")) is CredentialRefused
        assert there.owner("node.stop").allowed
        assert there.access.audit.verify().seq == before.seq + 1


def test_the_audit_has_who_was_refused_what_and_why(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        token = there.issue(ACME)
        there.ask(token, "agents.read", agent="eve")
        there.ask(token, "node.stop")
        there.ask("nonsense", "agents.list", tenant="acme")
        there.ask(token, "agents.archive", agent="ada")
        there.ask(token, "agents.send", agent="ada")
        told = [(each.kind, each.who, each.body) for each in there.access.audit.entries(after=1)]
        who = f"token:{token.record.id}"
        assert [(kind, who) for kind, who, _ in told] == [
            ("decision.refused", who),
            ("decision.refused", who),
            ("decision.refused", PEER),
            ("decision.allowed", who),
        ]
        assert told[0][2].items() >= {"action": "agents.read", "agent": "eve", "code": "TOR-701"}.items()
        assert told[1][2].items() >= {"action": "node.stop", "code": "TOR-930"}.items()
        assert told[2][2].items() >= {"action": "agents.list", "tenant": "acme", "code": "TOR-932"}.items()
        assert told[3][2] == {"action": "agents.archive", "agent": "ada"}
        assert "nonsense" not in str(told)
        assert token.text not in str(told)


def test_refusals_fill_the_audit_only_so_fast(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        burst, every_s = REFUSALS_EACH
        for _ in range(burst + 70):
            there.access.gate.decide(stranger(), "agents.list")
        assert len(there.kinds()) == burst
        there.clock.now += int(every_s) * SECOND
        there.access.gate.decide(stranger(), "agents.list")
        assert [entry.body.get("left_out") for entry in there.access.audit.entries()] == [None] * burst + [70]


def test_many_threads_decide_at_once_and_a_revocation_counts_for_all(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        tokens = [there.issue(READER) for _ in range(4)]
        before: list[bool] = []
        after: list[bool] = []
        worked, revoked = threading.Barrier(9), threading.Event()

        def ask(found: list[bool]) -> None:
            found.extend(there.ask(token, "agents.read", agent="ada").allowed for token in tokens)

        def work() -> None:
            for _ in range(30):
                ask(before)
            worked.wait()
            revoked.wait()
            ask(after)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        worked.wait()
        for token in tokens:
            there.revoke(token.record.id)
        revoked.set()
        for thread in threads:
            thread.join()
        assert before == [True] * (8 * 30 * 4)
        assert after == [False] * (8 * 4)


def test_deciding_in_an_event_loop_is_the_same(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        token = there.issue(ACME)

        async def ask() -> None:
            for action in ACTIONS:
                for agent in ("ada", "eve"):
                    one = there.ask(token, action, agent=agent)
                    other = await there.access.gate.decide_async(Bearer(token.text, PEER), action, Target(agent=agent))
                    assert (one.allowed, one.scope, one.agent, type(one.error)) == (
                        other.allowed,
                        other.scope,
                        other.agent,
                        type(other.error),
                    )
            assert (await there.access.gate.decide_async(me(), "node.stop")).allowed

        anyio.run(ask)
        there.access.audit.verify()


def test_a_decision_is_good_for_what_it_was_made_for(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        decision = there.owner("tokens.list")
        assert decision.demand("tokens.list") is decision
        with pytest.raises(AccessDenied, match=r"tokens\.list was decided on"):
            decision.demand("tokens.issue")
