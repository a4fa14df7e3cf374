"""Another process, with SQLite and no Torpor: what a curious person's database browser does to a workbook.

Run as a script it reads commands from its standard input, one a line, and answers each with a line:

``touch PATH``  connect, commit a transaction that changes nothing, close
``last PATH``   connect, read the number of the newest event, close
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from types import TracebackType
from typing import Any, Self


class Stranger:
    """Such a process, from the outside. A context manager.

    Args:
        library: the SQLite to use: "sqlite3" is the system's, often years old, and "apsw" is that of the owner.

    """

    def __init__(self, library: str = "sqlite3") -> None:
        self._library = library

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, __file__, self._library], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def touch(self, path: str) -> None:
        answer = self._ask(f"touch {path}")
        assert answer == "done", answer

    def last(self, path: str) -> int:
        return int(self._ask(f"last {path}"))

    def _ask(self, question: str) -> str:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{question}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


def serve() -> None:
    library: Any = importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        what, path = line.rstrip("\n").split(" ", 1)
        db = library.Connection(path)
        try:
            if what == "touch":
                for statement in (
                    "BEGIN IMMEDIATE",
                    "UPDATE meta SET txn = txn + 1",
                    "UPDATE meta SET txn = txn - 1",
                    "COMMIT",
                ):
                    db.execute(statement)
                answer = "done"
            else:
                answer = str(db.execute("SELECT max(seq) FROM events").fetchall()[0][0])
        except library.Error as error:
            answer = repr(error)
        db.close()
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
