"""`Access`: all of this room over one folder of a home."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final

from torpor.access.attempts import Attempts
from torpor.access.audit import Audit
from torpor.access.desk import Desk
from torpor.access.gate import Gate
from torpor.access.opening import open_folder
from torpor.access.scope import NOTHING, Scope
from torpor.access.tenancy import Tenancy
from torpor.base.clock import Clock, SystemClock
from torpor.base.entropy import Entropy, SystemEntropy
from torpor.ledger import Ledger

FOLDER: Final = "access"
"""Below the home."""

TOKENS_EACH: Final = (20, 5.0)
"""Refused tokens of one peer, and the seconds after which one more may be tried."""
TOKENS_TOGETHER: Final = (1_000, 0.05)
JOINS_EACH: Final = (5, 60.0)
"""Join tokens that one peer may try, and the seconds after which one more."""
JOINS_TOGETHER: Final = (20, 10.0)
REFUSALS_EACH: Final = (20, 30.0)
"""Refusals of one asker that go into the audit, and the seconds after which one more."""
REFUSALS_TOGETHER: Final = (500, 2.0)


class Access(AbstractContextManager["Access"]):
    """Who may do what in one home. Made by `Access.open`, best in a `with` block.

    Attributes:
        gate: decides.
        desk: issues, exchanges and revokes tokens.
        audit: tells what was.
        tenancy: what a decision reaches.
        public: the node's public key in hex, with which holders narrow their tokens.

    """

    def __init__(
        self, path: str, ledger: Ledger, *, clock: Clock, entropy: Entropy, loopback: Scope, vfs: str | None
    ) -> None:
        root, self._connection = open_folder(os.path.join(path, FOLDER), entropy, vfs=vfs)
        self.public = root.public
        self.audit = Audit(self._connection, clock)
        self.desk = Desk(
            self._connection,
            self.audit,
            root,
            Attempts(clock, JOINS_EACH, JOINS_TOGETHER),
            clock=clock,
            entropy=entropy,
        )
        self.gate = Gate(
            self._connection,
            self.audit,
            root,
            agents=ledger,
            home=path,
            attempts=Attempts(clock, TOKENS_EACH, TOKENS_TOGETHER),
            refusals=Attempts(clock, REFUSALS_EACH, REFUSALS_TOGETHER),
            clock=clock,
            loopback=loopback,
        )
        self.tenancy = Tenancy(ledger, path)

    @classmethod
    def open(
        cls,
        home: str | os.PathLike[str],
        ledger: Ledger,
        *,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        loopback: Scope = NOTHING,
        vfs: str | None = None,
    ) -> Access:
        """Open the access of a home, making key and file where there are none.

        Args:
            home: the home's folder; it must exist.
            ledger: the home's ledger.
            clock: where times come from; the system's unless given.
            entropy: where chance comes from; the system's unless given.
            loopback: what is allowed without a credential, from this machine's own addresses; see `Gate`.
            vfs: the SQLite file layer to use; None is the system's.

        Raises:
            AccessDamaged: the key or the file of tokens is not what it should be.
            AccessFailed: they can't be used just now.
            ExtraMissing: what nodes need isn't installed.

        """
        return cls(
            os.path.realpath(home),
            ledger,
            clock=clock or SystemClock(),
            entropy=entropy or SystemEntropy(),
            loopback=loopback,
            vfs=vfs,
        )

    def close(self) -> None:
        """Give the file up; twice is once. From then on everything is refused."""
        self._connection.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
