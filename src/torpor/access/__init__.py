"""Who may do what: tokens, scopes, tenants, and the one place where it is decided.

`Access.open` opens a home's folder `access/`: the root key, and one SQLite file with the issued tokens and the audit.
`Gate.decide` decides, `Desk` issues and revokes, `Tenancy.scope` gives what a decision reaches. Only this room
opens that file, and only here are tokens made or read.
"""

from torpor.access.access import Access
from torpor.access.actions import ACTIONS, Action, Target
from torpor.access.attempts import Attempts
from torpor.access.audit import Audit, Entry, Head
from torpor.access.credentials import (
    Bearer,
    Credential,
    Nobody,
    UnixPeer,
    is_loopback,
    peer_name,
    unix_peer,
)
from torpor.access.desk import Desk, Issued, TokenRecord
from torpor.access.gate import Decision, Gate
from torpor.access.scope import EVERYTHING, NOTHING, RIGHTS, Right, Scope, scope_of
from torpor.access.tenancy import Tenancy, View
from torpor.access.tokens import narrow

__all__ = [
    "ACTIONS",
    "EVERYTHING",
    "NOTHING",
    "RIGHTS",
    "Access",
    "Action",
    "Attempts",
    "Audit",
    "Bearer",
    "Credential",
    "Decision",
    "Desk",
    "Entry",
    "Gate",
    "Head",
    "Issued",
    "Nobody",
    "Right",
    "Scope",
    "Target",
    "Tenancy",
    "TokenRecord",
    "UnixPeer",
    "View",
    "is_loopback",
    "narrow",
    "peer_name",
    "scope_of",
    "unix_peer",
]
