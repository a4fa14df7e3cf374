"""One turn of one row, in its own process: `python -m bench.worker TASK FOLDER OPTIONS`; prints one line of JSON."""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from bench.measure import summary, timed
from bench.payload import MESSAGE, TEXT
from bench.peers import PEERS
from bench.syncs import mark

_WARM_UP = 20
_BATCH = 100


def commits(folder: Path, *, peer: str, count: int) -> dict[str, Any]:
    """Store messages one by one."""
    subject = PEERS[peer].make()
    subject.setup(folder)
    if not PEERS[peer].options.get("growing"):
        subject.operate(_WARM_UP)
    mark()
    taken = subject.operate(count)
    mark()
    facts = subject.facts()
    subject.close()
    return {**summary(taken), **facts}


def batches(folder: Path, *, peer: str, count: int, characters: int = len(TEXT)) -> dict[str, Any]:
    """Store messages, a hundred to a commit."""
    MESSAGE["text"] = TEXT[:characters]
    subject = PEERS[peer].make()
    subject.setup(folder)
    subject.batch(2, _BATCH)
    mark()
    taken = subject.batch(count, _BATCH)
    mark()
    subject.close()
    return summary(taken, _BATCH)


def sizes(folder: Path, *, peer: str, count: int) -> dict[str, Any]:
    """Store messages, close, and count the bytes that the folder's files take."""
    _fill(folder, peer, count)
    return {"bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())}


def _fill(folder: Path, peer: str, count: int) -> None:
    subject = PEERS[peer].make()
    subject.setup(folder)
    # LangGraph's hundred in a commit are pending writes, which aren't what a conversation is kept in.
    if PEERS[peer].batches and peer != "langgraph":
        subject.batch(count // _BATCH, _BATCH)
    else:
        subject.operate(count)
    subject.close()


def fill(folder: Path, *, peer: str, count: int, place: str) -> dict[str, Any]:
    """Make the file that `opening` opens, and leave it at `place`."""
    _fill(folder, peer, count)
    folder.rename(place)
    folder.mkdir()
    return {"count": count}


def opening(folder: Path, *, peer: str, place: str, count: int, last: int) -> dict[str, Any]:
    """Open the file at `place` and read its newest messages, `count` times; closing is not timed."""
    del folder
    readonly = peer == "torpor-readonly"
    entry = PEERS["torpor" if readonly else peer]
    taken: list[int] = []
    for number in range(count + 3):
        if readonly:
            from bench.peers.torpor_file import Subject

            subject: Any = Subject(readonly=True)
        else:
            subject = entry.make()

        def one(subject: Any = subject) -> None:
            subject.setup(Path(place))
            found = subject.last(last)
            if found != last:
                message = f"{found} messages where {last} were asked for"
                raise RuntimeError(message)

        took = timed(1, one)
        subject.close()
        if number >= 3:  # the first ones import modules and fill caches
            taken += took
    return summary(taken)


def briefed(folder: Path) -> dict[str, Any]:
    """Run the briefing's command twice in this process, on new workbooks; the second is timed."""
    from bench.briefing import arguments, is_whole
    from bench.feeds import write_feeds
    from torpor.main import main as command

    sources = write_feeds(folder)
    took = 0.0
    for name in ("cold", "warm"):
        place = folder / name
        place.mkdir()
        begun = time.perf_counter()
        with redirect_stdout(io.StringIO()) as said:
            try:
                command(arguments(place, sources))
            except SystemExit as ended:
                if ended.code:
                    return {"missing": f"failed: it ended with {ended.code}"}
        took = time.perf_counter() - begun
        if not is_whole(said.getvalue()):
            return {"missing": "failed: the briefing is not on every item"}
    return {"seconds": took}


def floor(folder: Path, *, count: int) -> dict[str, Any]:
    """Sync 4 KiB, overwritten in place with fdatasync, and appended with fsync."""
    page = os.urandom(4096)
    handle = os.open(folder / "floor", os.O_RDWR | os.O_CREAT)
    try:
        os.pwrite(handle, page, 0)
        os.fsync(handle)

        def overwrite() -> None:
            os.pwrite(handle, page, 0)
            os.fdatasync(handle)

        over = summary(timed(count, overwrite))
        os.lseek(handle, 0, os.SEEK_END)

        def append() -> None:
            os.write(handle, page)
            os.fsync(handle)

        behind = summary(timed(count, append))
    finally:
        os.close(handle)
    return {
        f"{name} {key}": value for name, part in (("over", over), ("behind", behind)) for key, value in part.items()
    }


TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    "commits": commits,
    "batches": batches,
    "sizes": sizes,
    "fill": fill,
    "opening": opening,
    "floor": floor,
    "briefed": briefed,
}
"""The tasks of this module; `MODULE.FUNCTION` is one of another module of `bench`."""


def _found(task: str) -> Callable[..., dict[str, Any]]:
    module, dot, name = task.rpartition(".")
    if not dot:
        return TASKS[task]
    found: Callable[..., dict[str, Any]] = getattr(importlib.import_module(f"bench.{module}"), name)
    return found


def main() -> None:
    """Do the task that the command line names."""
    task, folder, options = sys.argv[1:4]
    try:
        answer = _found(task)(Path(folder), **json.loads(options))
    except ImportError as error:
        answer = {"missing": f"not installed ({error})"}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
