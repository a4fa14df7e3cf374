"""Shows Torpor at work: an agent is killed with SIGKILL in the middle of its work, and goes on.

::

    python demo/demo.py [FOLDER]

Works in `.demo/` beside this folder, which is wiped first, or in FOLDER, which must be new or empty. Needs no network.
Ends with 0 only if everything that it claims was checked.
"""

# A script of its own, in no package (INP001), that starts our own commands (S603).
# ruff: noqa: INP001, S603

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TORPOR = str(Path(sys.executable).parent / "torpor")
INTEREST = "durable systems and databases that survive a power cut"
ITEMS = 24
COUNT = 10
DIES_AT = 7
"""The receipt at which the process dies: setting out, reading, ranking, then the fourth of ten summaries."""
LATEST = 4
"""Receipts that the four summaries make."""

failures = 0


def main(arguments: list[str]) -> int:
    """Run the demonstration and return its exit code."""
    folder = _folder(arguments)
    book, out = str(folder / "ada.workbook"), folder / "briefings"
    brief = ["brief", str(HERE / "feed.xml"), "-w", book, "-o", str(out)]
    brief += ["--interest", INTEREST, "--count", str(COUNT), "--model", "local"]

    say(f"1. A briefing of {ITEMS} articles; the process gets SIGKILL when the fourth summary is recorded.\n")
    killed = run_and_die(brief)
    before = journal(book)
    check("The process was killed by signal 9.", killed == -signal.SIGKILL)

    say("\n2. What the one file holds now:\n")
    show(before)
    check(f"{LATEST} of {COUNT} summaries are recorded.", receipts(before, "summarise") == LATEST)
    check("Nothing was delivered.", not kinds(before)["effect.completed"] and not delivered(out))

    say("\n3. The same command again:\n")
    status, text = torpor(*brief)
    say("".join(f"   {line}\n" for line in text.splitlines()))
    after = journal(book)
    check("It ended well, and says that it resumed.", status == 0 and "Resumed the interrupted run." in text)
    check("There is exactly one briefing, of one run.", len(delivered(out)) == kinds(after)["run.started"] == 1)
    check("What was recorded before the kill is there unchanged.", after[: len(before)] == before)
    check("No step has two receipts: what was finished was not done again.", one_receipt_each(after))
    check(f"The other {COUNT - LATEST} summaries came after the kill.", receipts(after, "summarise") == COUNT)
    deliveries = (kinds(after)["effect.intended"], kinds(after)["effect.completed"])
    check("The delivery was intended once and done once.", deliveries == (1, 1))

    say("\n4. Is the file whole?\n")
    status, text = torpor("verify", book)
    say("".join(f"   {line}\n" for line in text.splitlines()))
    check("Every invariant of SPEC.md holds.", status == 0 and text.startswith("ok: "))

    say("\n5. The same command once more:\n")
    status, text = torpor(*brief)
    say(f"   {text.splitlines()[0]}\n" if text else "")
    check("The agent remembers.", status == 0 and text.startswith(f"0 new, {ITEMS} already read"))
    check("There is still one briefing.", len(delivered(out)) == 1)
    check("At rest the agent is one file.", [path.name for path in folder.glob("ada*")] == ["ada.workbook"])

    say(f"\nLook at it:\n   {delivered(out)[0].with_suffix('.html')}\n" if delivered(out) else "")
    say(f"   torpor events {shlex.quote(book)}\n   sqlite3 -readonly {shlex.quote(book)} .schema\n")
    say(f"\n{failures} claims failed.\n" if failures else "\nEvery claim above was checked.\n")
    return 1 if failures else 0


def say(text: str) -> None:
    """Print a text."""
    sys.stdout.write(text)
    sys.stdout.flush()


def check(claim: str, holds: bool) -> None:  # noqa: FBT001  (a claim and whether it holds read as one sentence)
    """Print a claim and whether it holds."""
    global failures  # noqa: PLW0603  (one script, one count)
    failures += not holds
    say(f"   {'ok' if holds else 'NO'}  {claim}\n")


def torpor(*words: str) -> tuple[int, str]:
    """Run a torpor command and return its exit code and what it printed."""
    done = subprocess.run([TORPOR, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        say(done.stderr)
    return done.returncode, done.stdout


def run_and_die(words: list[str]) -> int:
    """Run a torpor command in a process that gets SIGKILL at a step's receipt; return how it ended."""
    command = [sys.executable, "-m", "torpor.testing.crash", "step.recorded", str(DIES_AT), "--", *words]
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode


def journal(book: str) -> list[dict[str, Any]]:
    """Return the events of a workbook, as `torpor events` tells them."""
    return [json.loads(line) for line in torpor("events", book, "--json")[1].splitlines()]


def kinds(events: list[dict[str, Any]]) -> Counter[str]:
    """Return how many events there are of each kind."""
    return Counter(event["kind"] for event in events)


def receipts(events: list[dict[str, Any]], step: str) -> int:
    """Return how many calls of a step are finished."""
    return sum(event["kind"] == "step.completed" and event["body"]["name"] == step for event in events)


def one_receipt_each(events: list[dict[str, Any]]) -> bool:
    """Report whether no step and no effect has two receipts."""
    ends = ("step.completed", "step.failed", "effect.completed", "effect.failed")
    found = Counter(event["body"]["position"] for event in events if event["kind"] in ends)
    return bool(found) and max(found.values()) == 1


def show(events: list[dict[str, Any]]) -> None:
    """Print the steps that are recorded, one line each, with what became of them."""
    ends = {event["parent"] or event["seq"]: event["seq"] for event in events if event["kind"] == "step.completed"}
    for event in events:
        if event["kind"] == "run.started":
            say(f"   event {event['seq']:2}   run {event['span']} began\n")
        elif event["kind"] == "step.intended" or (event["kind"] == "step.completed" and event["parent"] is None):
            end = ends.get(event["seq"])
            became = "no receipt: it was under way" if end is None else f"receipt in event {end}"
            say(f"   event {event['seq']:2}   step {event['body']['position']:6} {event['body']['name']:14} {became}\n")


def delivered(out: Path) -> list[Path]:
    """Return the briefings in a folder, by their Markdown files."""
    return sorted(out.glob("briefing-*.md"))


def _folder(arguments: list[str]) -> Path:
    if not arguments:
        folder = HERE.parent / ".demo"
        shutil.rmtree(folder, ignore_errors=True)
    else:
        folder = Path(arguments[0]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        sys.exit(f"{folder} is not empty; name a new folder")
    return folder


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
