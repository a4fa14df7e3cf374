"""What may become of an agent: the edges, the ladder and the way back, as pure functions.

No clock, no file and no other room is known here: whoever calls brings the facts, and acts on the answer.
"""

from torpor.lifecycle.ladder import LADDER, Ladder, idle_seconds, next_state
from torpor.lifecycle.resume import Resume, resume_plan
from torpor.lifecycle.states import EDGES, STATES, VERBS, State, check_move, diagram, table

__all__ = [
    "EDGES",
    "LADDER",
    "STATES",
    "VERBS",
    "Ladder",
    "Resume",
    "State",
    "check_move",
    "diagram",
    "idle_seconds",
    "next_state",
    "resume_plan",
    "table",
]
