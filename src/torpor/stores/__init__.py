"""Places outside a home's own files: where sleeping agents are kept, and where the heartbeat is shipped to.

`Store` holds copies of workbooks, verified when they are put and when they are got. `Objects` are created once and
never changed. Both are below a URL: a folder, a bucket, or this process's memory.
"""

from torpor.stores.objects import Objects, Tail, open_objects
from torpor.stores.shelves import Found, Options
from torpor.stores.stores import Put, Store, Stores, Wanted, archive_key, cold_key, open_store

__all__ = [
    "Found",
    "Objects",
    "Options",
    "Put",
    "Store",
    "Stores",
    "Tail",
    "Wanted",
    "archive_key",
    "cold_key",
    "open_objects",
    "open_store",
]
