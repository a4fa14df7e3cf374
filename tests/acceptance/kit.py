"""What the acceptance tests share: feeds, command lines in processes, an agent, and a look at what they left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final, Protocol

from torpor.runtime import Agent, effect, on
from torpor.workbook import Event, Workbook

ROOT: Final = Path(__file__).parents[2]
FOLDER_OF_TESTS: Final = Path(__file__).parent

TOPICS: Final = (
    "Write-ahead logs make commits durable. A crash then loses nothing that was acknowledged.",
    "Cats sleep for most of the day. They wake when somebody opens a tin.",
    "A compiler turns text into machine code. Optimising it takes most of its time.",
    "Bread rises because yeast eats sugar. Warm dough rises faster than cold dough.",
    "Snapshots let a database read an old state. Readers then never wait for writers.",
    "The river floods in spring. Old maps show where the water used to go.",
)


@dataclass(frozen=True)
class Story:
    """One item of a feed."""

    name: str
    title: str = ""
    text: str = ""
    url: str = ""
    guid: str = ""
    date: str = "Sat, 01 Nov 2025 10:00:00 GMT"


def stories(count: int, prefix: str = "s") -> list[Story]:
    return [
        Story(f"{prefix}{i}", f"Story {prefix}{i}", f"Number {prefix}{i}. {TOPICS[i % len(TOPICS)]}")
        for i in range(count)
    ]


def rss(items: Sequence[Story], title: str = "A feed") -> bytes:
    parts = [
        f"<item><title>{escape(item.title or item.name)}</title>"
        f"<link>{escape(item.url or f'https://news.example/{item.name}')}</link>"
        f'<guid isPermaLink="false">{escape(item.guid or f"guid-{item.name}")}</guid>'
        f"<description>{escape(item.text or TOPICS[0])}</description><pubDate>{item.date}</pubDate></item>"
        for item in items
    ]
    return (
        f'<?xml version="1.0" encoding="utf-8"?><rss version="2.0"><channel><title>{escape(title)}</title>'
        f"<link>https://news.example/</link>{''.join(parts)}</channel></rss>"
    ).encode()


def atom(items: Sequence[Story], title: str = "An Atom feed") -> bytes:
    parts = [
        f"<entry><title>{escape(item.title or item.name)}</title><id>urn:example:{escape(item.name)}</id>"
        f'<link href="{escape(item.url or f"https://atom.example/{item.name}")}"/>'
        f"<summary>{escape(item.text or TOPICS[0])}</summary><updated>2025-11-01T10:00:00Z</updated></entry>"
        for item in items
    ]
    return (
        f'<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom"><title>{escape(title)}</title>'
        f"<id>urn:example:feed</id><updated>2025-11-01T10:00:00Z</updated>{''.join(parts)}</feed>"
    ).encode()


def json_feed(items: Sequence[Story], title: str = "A JSON feed") -> bytes:
    entries = [
        {
            "id": f"json-{item.name}",
            "title": item.title or item.name,
            "url": item.url or f"https://json.example/{item.name}",
            "content_text": item.text or TOPICS[0],
            "date_published": "2025-11-01T10:00:00Z",
        }
        for item in items
    ]
    feed = {"version": "https://jsonfeed.org/version/1.1", "title": title, "items": entries}
    return json.dumps(feed).encode()


@dataclass(frozen=True)
class Ended:
    """How a command line ended."""

    code: int
    out: str
    err: str
    raw: bytes = b""
    """Standard output as it came."""
    reached: tuple[str, ...] = ()
    """The fault points it passed, where that was asked for."""

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        """What --json says of an error: the last line of standard error, and nothing but JSON there."""
        lines = [json.loads(line) for line in self.err.splitlines()]
        found: dict[str, str] = lines[-1]["error"]
        return found


def said(ended: Ended) -> str:
    """Insist that a command line went well and complained of nothing, and return what it printed."""
    assert (ended.code, ended.err) == (0, ""), ended
    return ended.out


class Command(Protocol):
    """A `torpor` command line in the folder of a test, whose home is the folder `home` in it."""

    def __call__(self, *words: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Ended: ...


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TORPOR_", "PYTEST"))}
    ours = {"PYTHONPATH": str(ROOT / "src"), "COLUMNS": "100", "PYTHONWARNINGS": "error"}
    nowhere = {"TORPOR_HOME": "/nonexistent/home"}  # a test that needs a home says where; none looks into its user's
    return {**kept, **ours, **nowhere, **(more or {})}


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "torpor", *words]


def torpor(*words: str, cwd: Path, env: Mapping[str, str] | None = None, stdin: bytes = b"") -> Ended:
    """Run `torpor` as a process of its own, to its end."""
    done = subprocess.run(
        command(*words), cwd=cwd, env=environment(env), input=stdin, capture_output=True, timeout=60, check=False
    )
    return Ended(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(), done.stdout)


class Zygote:
    """Runs command lines in forked children of one warmed process; see zygote.py."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        script = str(FOLDER_OF_TESTS / "zygote.py")
        env = environment({"OPENBLAS_NUM_THREADS": "1"})  # numpy would start threads, and no child would have them
        self._process = subprocess.Popen(
            [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True
        )

    def close(self) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(10)

    def __call__(
        self,
        *words: str,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        kill: tuple[str, int] = ("", 0),
        kill_after: float | None = None,
        record: bool = False,
    ) -> Ended:
        """Run a command line to its end.

        Args:
            words: the arguments.
            cwd: its folder.
            env: added to the environment.
            stdin: its standard input.
            kill: die at this fault point, the so-many-th time it is reached.
            kill_after: die after so many seconds.
            record: say what fault points were reached.

        """
        names = {name: str(self._folder / name) for name in ("stdin", "stdout", "stderr", "reached")}
        Path(names["stdin"]).write_bytes(stdin)
        asked = {**names, "words": words, "cwd": str(cwd), "env": dict(env or {}), "point": kill[0], "nth": kill[1]}
        asked["reached"] = names["reached"] if record else ""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        timer = threading.Timer(60 if kill_after is None else kill_after, _kill, [pid])
        timer.start()
        code = int(self._process.stdout.readline())
        timer.cancel()
        timer.join()
        raw = Path(names["stdout"]).read_bytes()
        reached = tuple(json.loads(Path(names["reached"]).read_text())) if record else ()
        return Ended(code, raw.decode(errors="replace"), Path(names["stderr"]).read_text(), raw, reached)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it has ended by itself at this very moment


class Payer(Agent):
    """An agent whose payment may have happened or not: somebody has to say."""

    @effect(on_unknown="ask", name="pay")
    async def pay(self, *, key: str) -> str:
        raise OSError(f"the line went dead over {key}")

    @on("pay")
    async def handle(self) -> str:
        return await self.pay(key="pay-17")


def events(workbook: Path) -> list[Event]:
    with Workbook.open(workbook, readonly=True) as book:
        return list(book.events())


def steps(workbook: Path, kind: str, name: str) -> list[Event]:
    return [event for event in events(workbook) if event.kind == kind and event.body.get("name") == name]


def left_in(folder: Path) -> list[str]:
    """Return the names of all files in a folder, hidden ones as well."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def pages(folder: Path) -> tuple[str, str]:
    """Return the only briefing in a folder, Markdown and HTML, without what tells one run from another."""
    names = left_in(folder)
    assert [Path(name).suffix for name in names] == [".html", ".md"], names
    run = names[0].removeprefix("briefing-").removesuffix(".html")
    texts = [(folder / f"briefing-{run}{end}").read_text() for end in (".md", ".html")]
    markdown, html = (
        re.sub(r"\d\d? \w{3} 20\d\d,? \d\d:\d\d|20\d\d-\d\d-\d\d[T ][\d:]+Z?", "THEN", t.replace(run, "RUN"))
        for t in texts
    )
    return markdown, html
