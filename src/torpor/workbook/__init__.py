"""One agent's file: its schema, transactions, volumes, journal, memory, spend and verification.

The only package that talks to SQLite. SPEC.md describes the file for those who come without it.
"""

from torpor.workbook.journal import Event, Journal
from torpor.workbook.memory import Embedding, Entry, Found, Memory
from torpor.workbook.paths import VOLUMES, Volume
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
    "Durability",
    "Embedding",
    "Entry",
    "Event",
    "FileReader",
    "FileStat",
    "FileWriter",
    "Found",
    "Journal",
    "Memory",
    "Problem",
    "Settings",
    "Spend",
    "Usage",
    "Verification",
    "Volume",
    "Volumes",
    "Workbook",
]
