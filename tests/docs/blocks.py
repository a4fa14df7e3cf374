"""The fenced code blocks of a document, and how to run them.

A fence's info string says what becomes of the block:

- ``python``: run, in one namespace with the document's other blocks
- ``python file=NAME``: saved under that name, for a later shell block
- ``sh``: run by bash; the installed `torpor` and `python` come first on its path
- ``sh exit=N``: run, and must end with N
- ``sh needs=litestream``: run with Litestream on the path, from here on; the document is skipped where there is none
- ``text output``: what the block before it must print; `…` stands for anything
- ``… notest: REASON``: shown only, for that reason
- ``sqlite``: queries of `ada.workbook`, run by the SQLite shell; without one, a small workbook is made
- ``sql``, ``text``, ``json``, ``toml``: shown only

All blocks of a document run in order, in one folder, which holds this repository's `demo/feed.xml`. What a shell block
exports, later ones have, as in one terminal. Where no home is named, agents are kept in that folder too, never in the
user's own. Where the machine has no `sqlite3`, a few lines of Python stand in for it.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.unit.litestream.program import litestream

from torpor import Workbook

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"^(?P<fence>```+)(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=fence)[ \t]*$", re.DOTALL | re.MULTILINE)
SHOWN_ONLY = {"text", "sql", "json", "toml", "mermaid"}
RUN = {"python", "sh", "sqlite"}


_SQLITE3 = """
import sqlite3, sys
*flags, name, statements = sys.argv[1:]
db = sqlite3.connect(f"file:{name}" + ("?mode=ro" if flags else ""), uri=True, isolation_level=None)
for statement in filter(str.strip, statements.split(";")):
    for row in db.execute(statement):
        print(*(c.decode() if isinstance(c, bytes) else "" if c is None else c for c in row), sep="|")
"""


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    path: Path
    line: int
    language: str
    flags: str
    text: str

    @property
    def place(self) -> str:
        """Where it stands, for a message."""
        return f"{self.path.relative_to(ROOT)}:{self.line}"

    @property
    def skipped(self) -> bool:
        """Whether it is only shown."""
        return self.flags.startswith("notest:") or (self.language in SHOWN_ONLY and not self.expected)

    @property
    def expected(self) -> bool:
        """Whether it is the output of the block before it."""
        return (self.language, self.flags) == ("text", "output")

    def flag(self, name: str) -> str | None:
        """Return the value of `name=value` in the info string."""
        found = re.search(rf"\b{name}=(\S+)", self.flags)
        return found[1] if found else None


def documents() -> list[Path]:
    """Return every document of the project."""
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def blocks(path: Path) -> list[Block]:
    """Return the fenced blocks of a document, in order."""
    text = path.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        language, _, flags = match["info"].strip().partition(" ")
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(path, line, language, flags.strip(), match["text"]))
    return found


class Desk:
    """Where the blocks of one document run.

    Args:
        folder: an empty folder.
        sqlite3: the SQLite shell of this machine, if it has one.

    """

    def __init__(self, folder: Path, sqlite3: str | None = shutil.which("sqlite3")) -> None:
        self.folder = folder
        self._names: dict[str, Any] = {"__name__": "example"}
        self.said = ""
        (folder / "demo").mkdir()
        shutil.copy(ROOT / "demo" / "feed.xml", folder / "demo")
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("TORPOR_", "AWS_"))},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "src"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "XDG_DATA_HOME": str(folder / ".data"),
        }
        if sqlite3 is None:
            self._stand_in_for_sqlite3()

    def run(self, block: Block) -> None:
        """Do what the block's info string says; fails where the block does."""
        if block.skipped:
            return
        if block.expected:
            assert matches(block.text, self.said), f"{block.place} promises\n{block.text}\nbut it was\n{self.said}"
        elif block.language == "sh":
            if block.flag("needs") == "litestream":
                self._environment["PATH"] = f"{Path(litestream()).parent}:{self._environment['PATH']}"
            self._run_shell(block, block.text)
        elif block.language == "sqlite":
            self._make_workbook()
            self._run_shell(block, f"sqlite3 -readonly ada.workbook {shlex.quote(block.text)}")
        elif block.language == "python" and (name := block.flag("file")):
            (self.folder / name).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            self._run_python(block)
        else:
            raise AssertionError(f"{block.place}: nobody knows how to run {block.language!r}")

    def _run_shell(self, block: Block, script: str) -> None:
        exported = self.folder / ".exported"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"trap 'env -0 >{shlex.quote(str(exported))}' EXIT\n{script}"],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        expected = int(block.flag("exit") or 0)
        assert done.returncode == expected, f"{block.place} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        self.said = done.stdout
        if exported.exists():
            told = os.fsdecode(exported.read_bytes()).rstrip("\0").split("\0")
            self._environment = dict(variable.split("=", 1) for variable in told)
            exported.unlink()

    def _make_workbook(self) -> None:
        path = self.folder / "ada.workbook"
        if path.exists():
            return
        with Workbook.open(path) as book:
            book.append("note.added", {"text": "hello"})
            book.write("workspace", "/a/one.txt", b"one")
            book.memory.remember("The dog barks at night.", source="talk:1")
            book.spend.book(1_500_000, "usd", source="wallet", target="models/x", key="1")

    def _stand_in_for_sqlite3(self) -> None:
        shell = self.folder / ".bin" / "sqlite3"
        shell.parent.mkdir()
        shell.write_text(f"#!{sys.executable}\n{_SQLITE3}", encoding="utf-8")
        shell.chmod(0o755)
        self._environment["PATH"] = f"{shell.parent}:{self._environment['PATH']}"

    def _run_python(self, block: Block) -> None:
        # Padded, so that an error names the line of the document.
        source = "\n" * block.line + block.text
        code = compile(source, str(block.path), "exec", dont_inherit=True)
        said = io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(said):
            exec(code, self._names)  # noqa: S102  (the documents are ours)
        self.said = said.getvalue()


def matches(promise: str, said: str) -> bool:
    """Report whether an output is the promised one: `…` stands for any text, trailing blanks don't count."""
    lines = [line.rstrip() for line in promise.rstrip().splitlines()]
    pattern = ".*?".join(re.escape(part) for part in "\n".join(lines).split("…"))
    told = "\n".join(line.rstrip() for line in said.rstrip().splitlines())
    return re.fullmatch(pattern, told, re.DOTALL) is not None
