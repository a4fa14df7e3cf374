"""A folder of agents, and the moves between their states: sleep, wake, clone, fork, travel.

`Home` is the door. A move makes a copy, verifies it, has the ledger say so in one transaction, and removes the old
one; whatever it may leave behind is named in the ledger before it is made. So an agent is in one state or the other,
whenever the process is killed, and the next start clears the rest away.
"""

from torpor.home.home import Home, restore_all
from torpor.home.results import Came, Exported, Failed, Moved, Passed, Rebuilt, Returned, Rewound, Ticked, Woken
from torpor.home.templates import Templates
from torpor.home.ticker import keep_ticking
from torpor.stores.copies import Step, Watch
from torpor.stores.stores import Options

__all__ = [
    "Came",
    "Exported",
    "Failed",
    "Home",
    "Moved",
    "Options",
    "Passed",
    "Rebuilt",
    "Returned",
    "Rewound",
    "Step",
    "Templates",
    "Ticked",
    "Watch",
    "Woken",
    "keep_ticking",
    "restore_all",
]
