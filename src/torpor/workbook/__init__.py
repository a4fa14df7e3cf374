"""One agent's file: its schema, transactions, volumes, journal, memory, spend, verification, and what it was before.

The only package that talks to SQLite for workbooks. SPEC.md describes the file for those who come without it.
"""

from torpor.workbook.diff import Difference, diff
from torpor.workbook.fork import export, fork
from torpor.workbook.journal import Event, Journal
from torpor.workbook.memory import Embedding, Entry, Found, Memory
from torpor.workbook.opening import create
from torpor.workbook.past import Branch, Past
from torpor.workbook.paths import VOLUMES, Volume
from torpor.workbook.rest import Look, Made, Rest, adopt, at_rest, is_sealed, seal
from torpor.workbook.settings import Settings
from torpor.workbook.spend import MICRO, Booking, Spend
from torpor.workbook.store import FILE, Durability
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
    "Difference",
    "Durability",
    "Embedding",
    "Entry",
    "Event",
    "FileReader",
    "FileStat",
    "FileWriter",
    "Found",
    "Journal",
    "Look",
    "Made",
    "Memory",
    "Past",
    "Problem",
    "Rest",
    "Settings",
    "Spend",
    "Usage",
    "Verification",
    "Volume",
    "Volumes",
    "Workbook",
    "adopt",
    "at_rest",
    "create",
    "diff",
    "export",
    "fork",
    "is_sealed",
    "seal",
]
