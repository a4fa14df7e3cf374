"""Join tokens and API tokens: exchanged once, issued within what the issuer has, revoked with what came of them."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.unit.access.kit import DAY, MINUTE, PEER, SECOND, ids, lab
from tests.unit.workbook.kit import NOW, SetClock

from torpor.access import EVERYTHING, NOTHING, Issued, Scope, narrow, scope_of
from torpor.access.access import JOINS_EACH, JOINS_TOGETHER
from torpor.base.errors import (
    AccessDenied,
    AttemptsExceeded,
    CredentialRefused,
    JoinRefused,
    NameRefused,
    ScopeRefused,
    TokenUnknown,
    TorporError,
)
from torpor.base.limits import JOIN_SECONDS, TOKEN_SECONDS_DEFAULT, TOKEN_SECONDS_MAX
from torpor.testing.chance import Seeded

ACME = scope_of(["admin"], tenant="acme")


def test_a_join_token_becomes_an_api_token_once(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        join = there.access.desk.first_join()
        assert join
        made = there.access.desk.join(join, PEER, label="ada's laptop")
        assert there.ask(made, "node.stop").allowed
        assert made.record.label == "ada's laptop"
        assert made.record.scope == Scope(EVERYTHING.rights, until=NOW + int(TOKEN_SECONDS_DEFAULT * SECOND))
        with pytest.raises(JoinRefused):
            there.access.desk.join(join, PEER, label="a replay")
    with lab(tmp_path) as there:
        with pytest.raises(JoinRefused):
            there.access.desk.join(join, "192.0.2.8", label="a replay")
        assert there.ask(made, "node.stop").allowed
        assert there.access.desk.first_join() is None


def test_join_tokens_look_like_this() -> None:
    """So that people can type them, and texts can speak of them."""
    import re

    from torpor.access.desk import _new_join

    texts = {_new_join(Seeded(seed)) for seed in range(200)}
    assert len(texts) == 200
    assert all(re.fullmatch(r"join(-[0-9a-hjkmnp-tv-z]{4}){6}-[0-9a-hjkmnp-tv-z]{2}", text) for text in texts)


@pytest.mark.parametrize("form", ["{0}", "  {0} \n", "{1}", "{2}"])
def test_a_join_token_may_be_typed_in_many_ways(tmp_path: Path, form: str) -> None:
    with lab(tmp_path) as there:
        join = there.access.desk.first_join()
        assert join
        typed = form.format(join, join.upper(), join.replace("-", " ").title())
        assert there.access.desk.join(typed, PEER, label="me").text


def test_until_somebody_joined_each_start_makes_a_new_join_token_and_ends_the_one_before(tmp_path: Path) -> None:
    joins = []
    for _ in range(3):
        with lab(tmp_path) as there:
            joins.append(there.access.desk.first_join())
    assert len(set(joins)) == 3
    with lab(tmp_path) as there:
        for join in joins[:2]:
            assert join
            with pytest.raises(JoinRefused):
                there.access.desk.join(join, PEER, label="me")
        assert joins[2]
        there.access.desk.join(joins[2], PEER, label="me")
        assert there.access.desk.first_join() is None


def test_a_join_token_is_too_old_after_ten_minutes_and_stays_so(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        join = there.access.desk.first_join()
        assert join
        there.clock.now += int(JOIN_SECONDS) * SECOND
        with pytest.raises(JoinRefused):
            there.access.desk.join(join, PEER, label="me")
        there.clock.now -= MINUTE
        with pytest.raises(JoinRefused):
            there.access.desk.join(join, PEER, label="me")
        later = there.access.desk.invite(there.owner("tokens.invite"))
        there.clock.now += int(JOIN_SECONDS) * SECOND - 1
        assert there.access.desk.join(later, PEER, label="me").text


def test_a_clock_far_behind_ends_no_join_token_and_takes_none(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        join = there.access.desk.first_join()
        assert join
        there.clock.now -= DAY
        with pytest.raises(JoinRefused):
            there.access.desk.join(join, PEER, label="me")
        there.clock.now += DAY
        assert there.access.desk.join(join, PEER, label="me").text


def test_of_many_who_use_a_join_token_at_once_one_gets_in(tmp_path: Path) -> None:
    with lab(tmp_path) as there, lab(tmp_path) as too:
        join = there.access.desk.first_join()
        assert join
        got: list[Issued] = []
        refused: list[TorporError] = []
        start = threading.Barrier(8)

        def try_it(number: int) -> None:
            desk = (there, too)[number % 2].access.desk
            start.wait()
            try:
                got.append(desk.join(join, f"192.0.2.{number}", label="me"))
            except JoinRefused as error:
                refused.append(error)

        threads = [threading.Thread(target=try_it, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(got), len(refused)) == (1, 7)
        assert there.access.audit.verify() == too.access.audit.head()


@pytest.mark.parametrize("text", ["", "join", "x" * 10_000_000, "\0", "\ud800", "join-" + "0" * 26, "é" * 90])
def test_what_is_no_join_token_is_refused_and_leaves_the_real_one(tmp_path: Path, text: str) -> None:
    with lab(tmp_path) as there:
        join = there.access.desk.first_join()
        assert join
        with pytest.raises(JoinRefused):
            there.access.desk.join(text, PEER, label="me")
        assert there.access.desk.join(join, PEER, label="me").text
        there.access.audit.verify()


def test_who_guesses_join_tokens_waits(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        join = there.access.desk.first_join()
        assert join
        for number in range(JOINS_EACH[0]):
            with pytest.raises(JoinRefused):
                there.access.desk.join(f"join-{number}", PEER, label="me")
        with pytest.raises(AttemptsExceeded) as refusal:
            there.access.desk.join(join, PEER, label="me")
        assert refusal.value.retry_after_s == JOINS_EACH[1]
        assert there.access.desk.join(join, "192.0.2.99", label="me").text


def test_all_who_guess_join_tokens_wait(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        refused = []
        for number in range(JOINS_TOGETHER[0] + 5):
            with pytest.raises((JoinRefused, AttemptsExceeded)) as refusal:
                there.access.desk.join("join-guess", f"192.0.2.{number}", label="me")
            refused.append(refusal.type)
        assert refused == [JoinRefused] * JOINS_TOGETHER[0] + [AttemptsExceeded] * 5


def test_what_is_asked_for_in_vain_does_not_use_up_the_join_token(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        join = there.access.desk.first_join()
        assert join
        with pytest.raises(ScopeRefused):
            there.access.desk.join(join, PEER, label="")
        with pytest.raises(NameRefused):
            there.access.desk.join(join, PEER, label="me", scope=scope_of(["read"], tenant=""))
        made = there.access.desk.join(join, PEER, label="me", scope=scope_of(["read"], tenant="acme"), lifetime_s=60)
        assert made.record.scope == scope_of(["read"], tenant="acme", until=NOW + MINUTE)


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"label": ""}, ScopeRefused),
        ({"label": " x"}, ScopeRefused),
        ({"label": "x" * 101}, ScopeRefused),
        ({"label": "a\nb"}, ScopeRefused),
        ({"label": "\ud800"}, ScopeRefused),
        ({"scope": NOTHING}, ScopeRefused),
        ({"scope": scope_of(["read"], agents=['x") or agent("y'])}, ScopeRefused),
        ({"scope": scope_of(["read"], agents=[str(number) for number in range(65)])}, ScopeRefused),
        ({"scope": scope_of(["read"], tenant="\0")}, NameRefused),
        ({"scope": scope_of(["read"], until=NOW)}, ScopeRefused),
        ({"scope": scope_of(["read"], until=-1)}, ScopeRefused),
        ({"lifetime_s": 0}, ScopeRefused),
        ({"lifetime_s": -1.0}, ScopeRefused),
        ({"lifetime_s": 0.000_001}, ScopeRefused),
        ({"lifetime_s": float("nan")}, ScopeRefused),
        ({"lifetime_s": float("inf")}, ScopeRefused),
        ({"lifetime_s": TOKEN_SECONDS_MAX + 1}, ScopeRefused),
    ],
)
def test_there_are_tokens_that_are_not_issued(tmp_path: Path, asked: dict[str, Any], error: type[TorporError]) -> None:
    with lab(tmp_path) as there:
        with pytest.raises(error):
            there.issue(**asked)
        assert there.access.desk.tokens(there.owner("tokens.list")) == []
        assert "token.issued" not in there.kinds()


def test_a_clock_far_ahead_issues_nothing(tmp_path: Path) -> None:
    with lab(tmp_path, SetClock(10**18)) as there, pytest.raises(ScopeRefused, match="9999"):
        there.issue()


def test_nobody_gives_what_they_do_not_have(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        issuer = there.issue(ACME, lifetime_s=3600)
        decision = there.ask(issuer, "tokens.issue")
        for scope in (
            EVERYTHING,
            scope_of(["read"]),
            scope_of(["read"], tenant="rival"),
            scope_of(["read"], agents=ids("ada")),
        ):
            with pytest.raises(ScopeRefused, match="more"):
                there.access.desk.issue(decision, label="more", scope=scope)
        with pytest.raises(ScopeRefused, match="longer"):
            there.access.desk.issue(decision, label="longer", scope=ACME, lifetime_s=3601)
        less = there.access.desk.issue(
            decision, label="less", scope=scope_of(["read"], tenant="acme", agents=ids("ada"))
        )
        assert less.record.expires == issuer.record.expires
        assert less.record.parent == issuer.record.id
        assert less.record.issuer == f"token:{issuer.record.id}"
        assert there.ask(less, "agents.read", agent="ada").allowed
        assert not there.ask(less, "agents.read", agent="bob").allowed


def test_each_thing_at_the_desk_needs_its_own_decision(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        desk = there.access.desk
        token = there.issue()
        for wrong in (there.owner("agents.list"), there.owner("tokens.join")):
            with pytest.raises(AccessDenied):
                desk.issue(wrong, label="x", scope=EVERYTHING)
            with pytest.raises(AccessDenied):
                desk.revoke(wrong, token.record.id)
            with pytest.raises(AccessDenied):
                desk.tokens(wrong)
            with pytest.raises(AccessDenied):
                desk.invite(wrong)
        refused = there.ask(there.issue(scope_of(["read", "write"])), "tokens.issue")
        with pytest.raises(AccessDenied, match="right to admin"):
            desk.issue(refused, label="x", scope=scope_of(["read"]))


def test_revoking_takes_along_what_was_issued_with_it(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        desk = there.access.desk
        chain = [there.issue()]
        for number in range(3):
            decision = there.ask(chain[-1], "tokens.issue")
            chain.append(desk.issue(decision, label=f"child {number}", scope=EVERYTHING))
        other = there.issue()
        assert there.revoke(chain[3].record.id) == (chain[3].record.id,)
        assert set(there.revoke(chain[1].record.id)) == {each.record.id for each in chain[1:3]}
        assert there.revoke(chain[1].record.id) == ()
        assert [there.ask(each, "agents.list").allowed for each in (*chain, other)] == [True, False, False, False, True]
        with pytest.raises(CredentialRefused):
            there.ask(chain[2], "tokens.issue").demand()


def test_revoking_may_leave_what_was_issued_with_it(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        parent = there.issue()
        child = there.access.desk.issue(there.ask(parent, "tokens.issue"), label="child", scope=EVERYTHING)
        assert there.revoke(parent.record.id, issued_too=False) == (parent.record.id,)
        assert [there.ask(each, "agents.list").allowed for each in (parent, child)] == [False, True]


def test_one_narrowed_copy_can_be_revoked_alone(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        token = there.issue()
        public = there.access.public
        leaked, kept = (narrow(token.text, scope_of(["read"]), public) for _ in range(2))
        further = narrow(leaked, scope_of(["read"], tenant="acme"), public)
        assert there.revoke(leaked) == (token.record.id,)
        assert there.revoke(leaked) == ()
        assert [there.ask(each, "agents.list").allowed for each in (leaked, further, kept, token)] == [
            False, False, True, True,
        ]  # fmt: skip
        assert there.access.desk.tokens(there.owner("tokens.list"))[0].state == "open"
        assert there.revoke(token.text) == (token.record.id,)
        assert not there.ask(kept, "agents.list").allowed


def test_a_token_that_was_revoked_while_it_was_decided_on_issues_nothing(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        issuer = there.issue()
        decision = there.ask(issuer, "tokens.issue")
        there.revoke(issuer.record.id)
        with pytest.raises(CredentialRefused, match="revoked"):
            there.access.desk.issue(decision, label="too late", scope=EVERYTHING)


def test_tokens_of_others_are_neither_listed_nor_revoked(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        acme, rival = there.issue(ACME, label="acme"), there.issue(scope_of(["admin"], tenant="rival"), label="rival")
        one = there.issue(scope_of(["read"], tenant="acme", agents=ids("ada")), label="one agent")
        whole = there.issue(label="whole")
        listed = there.access.desk.tokens(there.ask(acme, "tokens.list"))
        assert [record.label for record in listed] == ["acme", "one agent"]
        everything = there.access.desk.tokens(there.ask(whole, "tokens.list"))
        assert [record.label for record in everything] == ["acme", "rival", "one agent", "whole"]
        for out_of_reach in (rival.record.id, whole.record.id, "no such token", "", "\0", rival.text):
            with pytest.raises(TokenUnknown):
                there.access.desk.revoke(there.ask(acme, "tokens.revoke"), out_of_reach)
        assert there.access.desk.revoke(there.ask(acme, "tokens.revoke"), one.record.id) == (one.record.id,)
        assert [there.ask(each, "agents.list").allowed for each in (rival, whole, one)] == [True, True, False]


def test_a_list_says_how_each_token_stands(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        revoked, brief, lasting = there.issue(), there.issue(lifetime_s=60), there.issue()
        there.revoke(revoked.record.id)
        there.clock.now += MINUTE
        states = [record.state for record in there.access.desk.tokens(there.owner("tokens.list"))]
        assert states == ["revoked", "expired", "open"]
        there.ask(brief, "agents.list")
        there.clock.now = NOW
        states = [record.state for record in there.access.desk.tokens(there.owner("tokens.list"))]
        assert states == ["revoked", "expired", "open"]
        assert there.ask(lasting, "agents.list").allowed


def test_the_audit_tells_of_all_that_is_done_at_the_desk(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        desk = there.access.desk
        join = desk.first_join()
        assert join
        with pytest.raises(JoinRefused):
            desk.join("join-guess", PEER, label="me")
        human = desk.join(join, PEER, label="me")
        bot = desk.issue(there.ask(human, "tokens.issue"), label="bot", scope=ACME)
        desk.revoke(there.ask(human, "tokens.revoke"), bot.record.id, why="leaked")
        assert there.kinds() == [
            "join.made", "join.refused", "token.issued", "join.used", "token.issued", "token.revoked",
        ]  # fmt: skip
        last = list(there.access.audit.entries())[-1]
        assert (last.who, last.body) == (f"token:{human.record.id}", {"token": bot.record.id, "why": "leaked"})
        there.access.audit.verify()


def test_no_secret_is_kept_or_shown(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        join = there.access.desk.first_join()
        assert join
        made = there.access.desk.join(join, PEER, label="me")
        assert made.text not in repr(made)
        there.ask("torpor_somebodys_secret", "agents.list")
    plain = join.replace("-", "")
    for path in there.folder.iterdir():
        content = path.read_bytes()
        for secret in (join, plain, plain.removeprefix("join"), made.text, made.text.removeprefix("torpor_"), "bodys"):
            assert secret.encode() not in content, path.name


def test_ids_of_tokens_rise(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        made = [there.issue().record.id for _ in range(5)]
        assert all(one < other for one, other in itertools.pairwise(made))
