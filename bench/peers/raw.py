"""The floor: what SQLite itself can do through apsw, with the same durability and nothing else."""

from __future__ import annotations

from pathlib import Path

import apsw
import msgspec

from bench.measure import timed
from bench.payload import MESSAGE

_INSERT = "INSERT INTO events (body) VALUES (?)"
_LAST = "SELECT seq, body FROM events ORDER BY seq DESC LIMIT ?"


class Subject:
    """One table in one file."""

    def setup(self, folder: Path) -> None:
        self._db = apsw.Connection(str(folder / "raw.db"))
        self._db.pragma("journal_mode", "wal")
        self._db.pragma("synchronous", "FULL")
        self._db.execute("CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, body TEXT)")

    def operate(self, count: int) -> list[int]:
        execute, encode = self._db.execute, msgspec.json.Encoder().encode
        return timed(count, lambda: execute(_INSERT, (encode(MESSAGE).decode(),)))

    def batch(self, count: int, size: int) -> list[int]:
        execute, encode = self._db.execute, msgspec.json.Encoder().encode

        def one() -> None:
            execute("BEGIN")
            for _ in range(size):
                execute(_INSERT, (encode(MESSAGE).decode(),))
            execute("COMMIT")

        return timed(count, one)

    def facts(self) -> dict[str, str]:
        return {
            "sqlite": apsw.sqlite_lib_version(),
            "journal": str(self._db.pragma("journal_mode")),
            "synchronous": str(self._db.pragma("synchronous")),
        }

    def last(self, count: int) -> int:
        decode = msgspec.json.decode
        found = [(seq, decode(body)) for seq, body in self._db.execute(_LAST, (count,))]
        found.reverse()
        return len(found)

    def close(self) -> None:
        self._db.close()
