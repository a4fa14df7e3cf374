"""An owner with a log in memory, which appends an event and is killed at some point of it."""

from __future__ import annotations

import sys

from torpor.workbook import Durability, Joining, Level, Standing, Workbook


class Log:
    """A log that says yes to everything."""

    level = Level.DURABLE
    reach = Level.DURABLE
    failed = None
    folder = "/srv/home"

    def join(self, member: Joining) -> Log:
        del member
        return self

    def add(self, txn: int, head: bytes, payload: bytes) -> Log:
        del txn, head, payload
        return self

    def broken(self, txn: int, head: bytes) -> Log:
        del txn, head
        return self

    def wait(self, level: Level) -> None:
        pass

    async def arrive(self, level: Level) -> None:
        pass

    def settled(self, txn: int) -> None:
        pass

    def leave(self, standing: Standing | None) -> None:
        pass


if __name__ == "__main__":
    with Workbook.open(sys.argv[-1], durability=Durability("heartbeat", "NORMAL", log=Log())) as book:
        book.append("note.added", {"number": 1})
