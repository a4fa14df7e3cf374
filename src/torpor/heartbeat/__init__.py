"""The node's write-ahead log: one stream of syncs for all agents, off the box within a second, and back."""

from torpor.heartbeat.heartbeat import Heartbeat, Settings, recover_if_needed
from torpor.heartbeat.log import Log
from torpor.heartbeat.quarantine import Quarantine, Quarantined
from torpor.heartbeat.records import NOBODY, Damage, Kind, Record
from torpor.heartbeat.recovery import Recovered
from torpor.heartbeat.rounds import News, Roster
from torpor.heartbeat.status import Drill, Drilled, Status, read_status

__all__ = [
    "NOBODY",
    "Damage",
    "Drill",
    "Drilled",
    "Heartbeat",
    "Kind",
    "Log",
    "News",
    "Quarantine",
    "Quarantined",
    "Record",
    "Recovered",
    "Roster",
    "Settings",
    "Status",
    "read_status",
    "recover_if_needed",
]
