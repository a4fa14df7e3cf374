"""What the tests of access share: a ledger with agents of two tenants, a clock set by hand, people with tokens."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
from tests.unit.ledger.kit import add, agent, id_of
from tests.unit.workbook.kit import SetClock

from torpor.access import EVERYTHING, Access, Bearer, Decision, Issued, Nobody, Scope, Target, UnixPeer
from torpor.base.errors import NameTaken
from torpor.ledger import SqliteLedger

SECOND = 1_000_000
MINUTE = 60 * SECOND
DAY = 86_400 * SECOND

PEER = "192.0.2.7"
TENANTS = {"ada": "acme", "bob": "acme", "eve": "rival", "zoe": ""}
"""The agents of the home, and for whom they work."""


@dataclass
class Lab:
    """A home's access, and what its tests need to know."""

    path: Path
    clock: SetClock
    ledger: SqliteLedger
    access: Access

    @property
    def folder(self) -> Path:
        return self.path / "access"

    def ask(self, who: str | Issued, action: str, *, peer: str = PEER, **target: str | None) -> Decision:
        """Have it decided whether the bearer of a token may do something."""
        text = who.text if isinstance(who, Issued) else who
        return self.access.gate.decide(Bearer(text, peer), action, Target(**target))

    def owner(self, action: str, **target: str | None) -> Decision:
        """Have it decided for the node's own user, over its Unix socket."""
        return self.access.gate.decide(me(), action, Target(**target))

    def issue(self, scope: Scope = EVERYTHING, *, label: str = "a token", **more: Any) -> Issued:
        """Issue a token in the name of the node's own user."""
        return self.access.desk.issue(self.owner("tokens.issue"), label=label, scope=scope, **more)

    def revoke(self, token: str, **more: Any) -> tuple[str, ...]:
        return self.access.desk.revoke(self.owner("tokens.revoke"), token, **more)

    def kinds(self) -> list[str]:
        """Return the kinds of all entries of the audit."""
        return [entry.kind for entry in self.access.audit.entries()]


def me() -> UnixPeer:
    return UnixPeer(os.getpid(), os.geteuid(), os.getegid())


def stranger() -> Nobody:
    return Nobody(PEER)


@contextmanager
def lab(path: Path, clock: SetClock | None = None, **settings: Any) -> Iterator[Lab]:
    """Open the access of a home with four agents, which are added if it is new."""
    clock = clock or SetClock()
    ledger = SqliteLedger.open(path / "ledger.db")
    try:
        if not list(ledger.agents()):
            with suppress(NameTaken):  # another process was faster
                add(ledger, *(agent(name, tenant=tenant) for name, tenant in TENANTS.items()))
        with Access.open(path, ledger, clock=clock, **settings) as access:
            yield Lab(path, clock, ledger, access)
    finally:
        ledger.close()


def ids(*names: str) -> list[str]:
    return [id_of(name) for name in names]


def tamper(path: Path, *statements: str) -> None:
    """Change a closed file of tokens behind its back, as somebody with an SQLite shell would, and keep its triggers."""
    db = apsw.Connection(str(path))
    try:
        triggers = list(db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"))
        for name, _ in triggers:
            db.execute(f"DROP TRIGGER {name}")
        db.pragma("ignore_check_constraints", True)
        db.pragma("foreign_keys", False)
        for statement in statements:
            db.execute(statement)
        for _, sql in triggers:
            db.execute(sql)
    finally:
        db.close()
