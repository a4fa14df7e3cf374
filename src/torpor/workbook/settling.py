"""Making what is committed durable, where commits themselves don't sync."""

from __future__ import annotations

import apsw


def settle(db: apsw.Connection) -> None:
    """Have everything that is committed survive a power loss, without any other log. No transaction is open.

    The write-ahead log is moved into the file, and both are synced on the way. Where a reader keeps a part of the log
    from being moved, the log is synced instead, by a commit that does so: after it, it is as complete as the file.

    Raises:
        apsw.Error: the storage failed.

    """
    level = db.pragma("synchronous")
    db.pragma("synchronous", "FULL")
    try:
        logged, moved = db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        if logged != moved:
            # Twice, because SQLite writes no page that is as it was. A commit without a page would sync nothing.
            db.execute("BEGIN IMMEDIATE")
            try:
                db.execute("UPDATE meta SET created = created + 1")
                db.execute("UPDATE meta SET created = created - 1")
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
    finally:
        db.pragma("synchronous", level)
