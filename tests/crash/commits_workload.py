"""What is killed: a workbook's owner with a log in a plain file, a recovery from that, and a snapshot."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from torpor.workbook import Durability, Joining, Level, Replay, Standing, Workbook, snapshot


class FileLog:
    """A log that is a file: what was written to it before a kill is there after it."""

    level = Level.DURABLE
    reach = Level.DURABLE
    failed = None

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.place = folder / "log"
        self.member: Joining | None = None

    def join(self, member: Joining) -> FileLog:
        self.member = member
        return self

    def write(self, *words: object) -> None:
        with self.place.open("ab") as file:
            file.write(msgspec.json.encode(words) + b"\n")

    def add(self, txn: int, head: bytes, payload: bytes) -> FileLog:
        self.write("commit", txn, head.hex(), payload.hex())
        return self

    def broken(self, txn: int, head: bytes) -> FileLog:
        self.write("broken", txn, head.hex(), "")
        return self

    def wait(self, level: Level) -> None:
        pass

    async def arrive(self, level: Level) -> None:
        pass

    def settled(self, txn: int) -> None:
        self.write("settled", txn, "", "")

    def leave(self, standing: Standing | None) -> None:
        self.write("left", standing.txn if standing else -1, "", "")

    def read(self) -> list[tuple[str, int, str, str]]:
        if not self.place.exists():
            return []
        lines = self.place.read_bytes().splitlines()
        return [msgspec.json.decode(line, type=tuple[str, int, str, str]) for line in lines]

    def records(self, after: int = 0) -> Iterator[tuple[int, bytes]]:
        yield from (
            (txn, bytes.fromhex(data)) for what, txn, _, data in self.read() if what == "commit" and txn > after
        )


def live(folder: Path) -> None:
    """Live: each line of `acks` is the number of an event that was acknowledged."""
    log = FileLog(folder)
    with (
        (folder / "acks").open("a") as acks,
        Workbook.open(folder / "a.workbook", durability=Durability("heartbeat", "NORMAL", log=log)) as book,
    ):
        for number in range(4):
            print(book.append("note.added", {"number": number}), file=acks, flush=True)
            with book.transaction():
                book.write("workspace", f"/{number}.txt", b"x" * 5000)
                book.memory.remember(f"fact {number}")
                last = book.append("note.added", {"text": number}, key=f"k{number}")
            print(last, file=acks, flush=True)
            if number == 1:
                with book.transaction():
                    book._store.execute("CREATE TABLE mine (a)")
                    last = book.append("note.added", {"schema": True})
                print(last, file=acks, flush=True)
            assert log.member is not None
            log.member.settle()


def recover(folder: Path) -> None:
    """Bring the old copy forward, one record at a time."""
    log = FileLog(folder)
    with Replay.open(folder / "old.workbook") as replay:
        for txn, payload in log.records():
            replay.apply(txn, payload)
        replay.finish()


def copy(folder: Path) -> None:
    """Take a snapshot."""
    snapshot(folder / "a.workbook", str(folder / "copy.workbook"))


if __name__ == "__main__":
    {"live": live, "recover": recover, "copy": copy}[sys.argv[1]](Path(sys.argv[2]))
