"""Litestream for one workbook, for those who already run it: its program driven as a child that dies with its owner.

The only room but `testing` that starts processes. It knows Litestream's command line, its configuration and its log;
docs/decisions/0022 says what was found out about it, and what is not supported.
"""

from torpor.litestream.binary import Litestream, find
from torpor.litestream.replication import Replication, Shipped, Told, Trouble, replicate
from torpor.litestream.restoring import Restored, restore
from torpor.litestream.stopping import replicating, stop
from torpor.litestream.targets import Target, target_of

__all__ = [
    "Litestream",
    "Replication",
    "Restored",
    "Shipped",
    "Target",
    "Told",
    "Trouble",
    "find",
    "replicate",
    "replicating",
    "restore",
    "stop",
    "target_of",
]
