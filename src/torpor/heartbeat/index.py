"""What the heartbeat knows of each agent: where its records stand, and what of it is in the replica.

A fold of the log, in a SQLite file of its own, so that an agent that sleeps takes no memory and a log that was read
once needs no reading again. It may be lost: what it doesn't know of an agent is found out when the agent is opened
next, at the price of one snapshot. So it is never in doubt either: one that can't be read is made anew.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final, LiteralString, Self

import apsw
import msgspec

from torpor.base.errors import HeartbeatFailed

FORMAT: Final = 2
NONE: Final = -1

_SCHEMA: Final = """
CREATE TABLE known (
  agent    TEXT PRIMARY KEY,
  life     INTEGER NOT NULL,
  txn      INTEGER NOT NULL,
  last     INTEGER NOT NULL,
  head     TEXT NOT NULL,
  schema   INTEGER NOT NULL,
  rest     INTEGER NOT NULL,
  snapshot INTEGER NOT NULL,
  at_lsn   INTEGER NOT NULL,
  since    INTEGER NOT NULL,
  full     INTEGER NOT NULL,
  gone     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX known_last ON known (last);
CREATE INDEX known_wanting ON known (agent) WHERE snapshot < 0 AND gone = 0;
CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
"""


class Known(msgspec.Struct, kw_only=True):
    """What is known of one agent.

    Attributes:
        agent: its id.
        life: the number of the record with which its life in the log began; 0 where it has none.
        txn: the newest transaction of which the log had a record.
        last: the number of its newest record.
        head: the hash of its newest event then, in hex.
        schema: the version of its tables then; 0 where it isn't known.
        rest: whether its file is complete without the log.
        snapshot: the transaction of its newest snapshot in this life; -1 for none.
        at_lsn: the number of that snapshot's record.
        since: bytes of its records after that.
        full: of the ledger: bytes of all of it, when it was last put into the log as a whole.
        gone: whether it was deleted.

    """

    agent: str
    life: int = 0
    txn: int = 0
    last: int = 0
    head: str = ""
    schema: int = 0
    rest: bool = True
    snapshot: int = NONE
    at_lsn: int = 0
    since: int = 0
    full: int = 0
    gone: bool = False


_FIELDS: Final[tuple[LiteralString, ...]] = Known.__struct_fields__
_COLUMNS: Final[LiteralString] = ", ".join(_FIELDS)
_SELECT: Final[LiteralString] = f"SELECT {_COLUMNS} FROM known"  # noqa: S608  (the names are ours)
_VALUES: Final[LiteralString] = ", ".join(f":{name}" for name in _FIELDS)
_PUT: Final[LiteralString] = f"INSERT OR REPLACE INTO known ({_COLUMNS}) VALUES ({_VALUES})"  # noqa: S608  (as above)
_THROUGH: Final = "through"


class Index:
    """The index of one home. Threads may share it; one process has it."""

    def __init__(self, path: str, db: apsw.Connection) -> None:
        self._path = path
        self._db = db
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: str) -> Self:
        """Open the index at `path`, or begin a new one where there is none that can be read.

        Raises:
            HeartbeatFailed: the system refuses.

        """
        try:
            return cls(path, _connect(path))
        except apsw.Error:
            for tail in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    os.unlink(path + tail)
        try:
            return cls(path, _connect(path))
        except apsw.Error as error:
            raise HeartbeatFailed(path=path, reason=str(error)) from error

    @property
    def through(self) -> int:
        """The last record of the log that is folded into the index."""
        value = self.fact(_THROUGH)
        return int(value) if value else 0

    def get(self, agent: str) -> Known | None:
        """Return what is known of an agent."""
        found = self._rows(f"{_SELECT} WHERE agent = ?", (agent,))
        return _known(found[0]) if found else None

    def put(self, known: Iterable[Known], *, through: int | None = None, facts: dict[str, bytes] | None = None) -> None:
        """Keep what is known now, all of it or nothing, durably.

        Args:
            known: of whom something has changed.
            through: up to which record of the log this goes; what was said before stands where it is None.
            facts: other things to keep, by name.

        Raises:
            HeartbeatFailed: it can't be written.

        """
        told = dict(facts or {})
        if through is not None:
            told[_THROUGH] = str(through).encode()
        with self._lock:
            try:
                with self._db:
                    self._db.executemany(_PUT, [msgspec.structs.asdict(one) for one in known])
                    self._db.executemany("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", told.items())
            except apsw.Error as error:
                raise HeartbeatFailed(path=self._path, reason=str(error)) from error

    def fact(self, name: str) -> bytes | None:
        """Return what was kept under a name."""
        found = self._rows("SELECT value FROM facts WHERE name = ?", (name,))
        return bytes(found[0][0]) if found else None

    def wanting(self, limit: int, after: str = "") -> list[Known]:
        """Return agents without a snapshot, in the order of their ids."""
        sql: LiteralString = f"{_SELECT} WHERE snapshot < 0 AND gone = 0 AND agent > ? ORDER BY agent LIMIT ?"
        return [_known(row) for row in self._rows(sql, (after, limit))]

    def count_wanting(self) -> int:
        """Return how many agents are without a snapshot."""
        return int(self._rows("SELECT count(*) FROM known WHERE snapshot < 0 AND gone = 0")[0][0])

    def behind(self, lsn: int, limit: int) -> list[Known]:
        """Return agents whose newest records stand behind a number, in the order of these."""
        sql: LiteralString = f"{_SELECT} WHERE last > ? ORDER BY last LIMIT ?"
        return [_known(row) for row in self._rows(sql, (lsn, limit))]

    def close(self) -> None:
        """Close it; twice is once."""
        with self._lock:
            self._db.close()

    def _rows(self, sql: LiteralString, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return list(self._db.execute(sql, values))
            except apsw.Error as error:
                raise HeartbeatFailed(path=self._path, reason=str(error)) from error


def _connect(path: str) -> apsw.Connection:
    db = apsw.Connection(path)
    try:
        db.set_busy_timeout(1000)
        db.pragma("journal_mode", "wal")
        db.pragma("synchronous", "FULL")
        found = db.pragma("user_version")
        if found != FORMAT:
            if found or list(db.execute("SELECT 1 FROM sqlite_schema LIMIT 1")):
                raise apsw.CorruptError("it is not of this format")  # noqa: TRY301  (as what can't be read)
            with db:
                db.execute(_SCHEMA)
                db.pragma("user_version", FORMAT)
        list(db.execute("SELECT 1 FROM known LIMIT 1"))
    except BaseException:
        db.close()
        raise
    return db


def _known(row: tuple[Any, ...]) -> Known:
    found = Known(**dict(zip(_FIELDS, row, strict=True)))
    found.rest, found.gone = bool(found.rest), bool(found.gone)
    return found
