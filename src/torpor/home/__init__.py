"""A folder of agents, and the moves between their states: sleep, wake, clone, fork, travel.

`Home` is the door. A move makes a copy, verifies it, has the ledger say so in one transaction, and removes the old
one; whatever it may leave behind is named in the ledger before it is made. So an agent is in one state or the other,
whenever the process is killed, and the next start clears the rest away.
"""

from torpor.home.copies import Step, Watch
from torpor.home.home import Home
from torpor.home.results import Exported, Failed, Moved, Passed, Rewound, Ticked, Woken
from torpor.home.stores import Options
from torpor.home.templates import Templates
from torpor.home.ticker import keep_ticking

__all__ = [
    "Exported",
    "Failed",
    "Home",
    "Moved",
    "Options",
    "Passed",
    "Rewound",
    "Step",
    "Templates",
    "Ticked",
    "Watch",
    "Woken",
    "keep_ticking",
]
