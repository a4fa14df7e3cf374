"""The control plane: which agents there are, in what state each is, where its copies are, and how it came to that.

`seam.py` says what a ledger promises; `SqliteLedger` keeps one in a file of the node's home. Only this room opens that
file.
"""

from torpor.ledger.seam import (
    AgentRecord,
    Changes,
    Ledger,
    Leftover,
    Mark,
    MoveRecord,
    Name,
    Note,
    Rung,
    TemplateRecord,
    Templates,
    Verb,
    together,
)
from torpor.ledger.sqlite import SqliteLedger

__all__ = [
    "AgentRecord",
    "Changes",
    "Ledger",
    "Leftover",
    "Mark",
    "MoveRecord",
    "Name",
    "Note",
    "Rung",
    "SqliteLedger",
    "TemplateRecord",
    "Templates",
    "Verb",
    "together",
]
