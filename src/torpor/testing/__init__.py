"""The fault kit and what tests of durable code need beside it; nothing in service imports it.

`faults` listens at the fault points, `crash` kills child processes there, `power` cuts the power, `disk` breaks the
disk, `chance` makes choices that can be repeated, and `portrait` says whether two workbooks hold the same. `logdisk`,
which tapes or breaks the disk of the heartbeat, is imported by its own name, as it needs that room; likewise `proxy`,
which stands before a server and does harm, as it needs the library's own HTTP.
"""

import warnings

from torpor.testing.chance import Seeded
from torpor.testing.crash import Ended, crash_call, crash_command, crash_script
from torpor.testing.disk import BrokenDisk, BrokenSync, Fault
from torpor.testing.faults import fail_at, kill_at, record
from torpor.testing.portrait import portrait
from torpor.testing.power import Image, PowerVFS, Tape, images

__all__ = [
    "BrokenDisk",
    "BrokenSync",
    "Ended",
    "Fault",
    "Image",
    "PowerVFS",
    "Seeded",
    "Tape",
    "crash_call",
    "crash_command",
    "crash_script",
    "fail_at",
    "images",
    "kill_at",
    "portrait",
    "record",
]

# `python -m torpor.testing.crash` loads this room, and so that module, before it runs it. Python warns that there are
# two of it then; it keeps nothing, so there may be.
warnings.filterwarnings("ignore", "'torpor.testing.crash' found in sys.modules", RuntimeWarning)
