"""One agent's file: its schema, transactions, volumes, journal, memory, spend, verification, and what it was before.

The only package that talks to SQLite for workbooks. SPEC.md describes the file for those who come without it.
"""

from torpor.workbook.aside import as_it_is, put_in_stead
from torpor.workbook.commits import FILE, CommitLog, Durability, Joining, Lane, Level, Standing, Ticket
from torpor.workbook.diff import Difference, diff
from torpor.workbook.fork import export, fork
from torpor.workbook.journal import Event, Journal
from torpor.workbook.mark import awaits, marked_in
from torpor.workbook.memory import Embedding, Entry, Found, Memory
from torpor.workbook.opening import create
from torpor.workbook.past import Branch, Past
from torpor.workbook.paths import VOLUMES, Volume
from torpor.workbook.replay import Replay
from torpor.workbook.rest import Look, Made, Rest, adopt, at_rest, is_sealed, seal
from torpor.workbook.settings import Settings
from torpor.workbook.snapshot import digest, image, snapshot
from torpor.workbook.spend import MICRO, Booking, Spend
from torpor.workbook.streams import FileReader, FileWriter
from torpor.workbook.trees import Usage
from torpor.workbook.verify import Problem, Verification
from torpor.workbook.volumes import FileStat, Volumes
from torpor.workbook.workbook import Workbook

__all__ = [
    "FILE",
    "MICRO",
    "VOLUMES",
    "Booking",
    "Branch",
    "CommitLog",
    "Difference",
    "Durability",
    "Embedding",
    "Entry",
    "Event",
    "FileReader",
    "FileStat",
    "FileWriter",
    "Found",
    "Joining",
    "Journal",
    "Lane",
    "Level",
    "Look",
    "Made",
    "Memory",
    "Past",
    "Problem",
    "Replay",
    "Rest",
    "Settings",
    "Spend",
    "Standing",
    "Ticket",
    "Usage",
    "Verification",
    "Volume",
    "Volumes",
    "Workbook",
    "adopt",
    "as_it_is",
    "at_rest",
    "awaits",
    "create",
    "diff",
    "digest",
    "export",
    "fork",
    "image",
    "is_sealed",
    "marked_in",
    "put_in_stead",
    "seal",
    "snapshot",
]
