"""What is killed: a script for a child process, and the same agents for the process that resumes them.

    python workload.py append|transactions|runs|long FOLDER

Everything outside the workbook is in FOLDER too: `acks`, what the child was told is durable, and `world`, what its
effects did. Both are synced line by line, as whoever heard of it would remember it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio

import torpor
from torpor import Agent, Happened, Workbook
from torpor.runtime import runs_in

STEPS = 30


class Outside:
    """The folder outside the workbook."""

    folder = Path()

    @classmethod
    def note(cls, file: str, line: str) -> None:
        descriptor = os.open(cls.folder / file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(descriptor, f"{line}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @classmethod
    def lines(cls, file: str) -> list[str]:
        path = cls.folder / file
        return path.read_text().splitlines() if path.exists() else []


def append(book: Workbook) -> None:
    """Append events and note each number that was returned."""
    for number in range(6):
        seq = book.append("note.added", {"number": number})
        Outside.note("acks", f"{seq} note.added {number}")


def transactions(book: Workbook) -> None:
    """Write facts that belong together."""
    for number in range(4):
        with book.transaction():
            seq = book.append("pair.begun", {"number": number})
            book.write("workspace", f"/{number}.txt", b"%d" % number)
            with book.transaction():
                book.append("pair.ended", {"number": number})
        Outside.note("acks", f"{seq} pair.begun {number}")


@torpor.step
async def measure(run: str, number: int) -> int:
    """Note that it was called."""
    Outside.note("world", f"measure {run} {number}")
    await anyio.lowlevel.checkpoint()
    return number * number


async def posted(text: str, *, key: str) -> Happened[str] | None:
    """Ask the world."""
    return Happened(f"posted {text}") if f"post {key}" in Outside.lines("world") else None


@torpor.effect(on_unknown="check", check=posted)
async def post(text: str, *, key: str) -> str:
    """Be seen by a world that doesn't know keys."""
    Outside.note("world", f"post {key}")
    await anyio.lowlevel.checkpoint()
    return f"posted {text}"


@torpor.effect(on_unknown="retry")
async def put(text: str, *, key: str) -> str:
    """Be seen by a world that knows keys."""
    if f"put {key}" not in Outside.lines("world"):
        Outside.note("world", f"put {key}")
    return f"put {text}"


class Worker(Agent):
    """Does a little of everything."""

    @torpor.on("work")
    async def work(self) -> list[int]:
        run = torpor.run().id
        first = await measure(run, 1)
        Outside.note("acks", f"receipt {run} 0")
        self.memory.remember(f"first {first} {run}", source=f"urn:{run}")
        Outside.note("acks", f"receipt {run} 1")
        await post("hello", key=f"hello-{run}")
        Outside.note("acks", f"receipt {run} 2")
        some = await torpor.gather(self.one(run, 2), self.two(run), self.one(run, 5))
        self.files.append("/log.txt", b"%d\n" % first)
        await put("end", key=f"end-{run}")
        Outside.note("acks", f"receipt {run} 5")
        return [first, *[number for part in some for number in part]]

    async def one(self, run: str, number: int) -> list[int]:
        """Be a branch of one step."""
        return [await measure(run, number)]

    async def two(self, run: str) -> list[int]:
        """Be a branch of two steps with an effect between."""
        third = await measure(run, 3)
        await post("between", key=f"between-{run}")
        return [third, await measure(run, 4)]


WORK_RESULT = [1, 4, 9, 16, 25]


class Walker(Agent):
    """Takes many steps, and has one effect in the middle."""

    @torpor.on("walk")
    async def walk(self) -> int:
        run = torpor.run().id
        total = 0
        for number in range(STEPS):
            total += await amble(run, number)
            if number == STEPS // 2:
                await post("half", key=f"half-{run}")
        return total


finished: set[tuple[str, int]] = set()
"""The steps that had a receipt when this process began."""


@torpor.step
async def amble(run: str, number: int) -> int:
    """Take a moment."""
    word = "again" if (run, number) in finished else "amble"
    Outside.note("world", f"{word} {run} {number}")
    await anyio.sleep(0.002)
    return 1


async def finish(agent: Agent, message: str, runs: int) -> None:
    """Resume what is unfinished and send what is missing, so that so many runs are done."""
    for outcome in await agent.resume():
        if outcome.error is not None:
            raise outcome.error
    while len(runs_in(agent.book)) < runs:
        await agent.send(message)
        Outside.note("acks", f"sent {runs_in(agent.book)[-1].id} x")


def long(book: Workbook) -> None:
    """Walk without end, until killed."""
    for event in book.events():
        if event.kind == "step.completed":
            intent = next(book.events(after=(event.parent or 0) - 1, limit=1)).body["arguments"]
            finished.add((intent["run"], intent["number"]))
    anyio.run(walk_on, Walker(book))


async def walk_on(agent: Agent) -> None:
    """Say that it begins, and walk."""
    print("ready", flush=True)  # noqa: T201  (the parent waits for it)
    await finish(agent, "walk", 1_000)


def main(what: str, folder: str) -> None:
    """Do one workload."""
    Outside.folder = Path(folder)
    with Workbook.open(Path(folder) / "ada.workbook") as book:
        match what:
            case "append":
                append(book)
            case "transactions":
                transactions(book)
            case "runs":
                anyio.run(finish, Worker(book), "work", 2)
            case "long":
                long(book)


if __name__ == "__main__":
    main(*sys.argv[1:])
