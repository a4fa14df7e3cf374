"""What the access of a home is killed under: everything that changes tokens or the audit, each in one transaction.

    python access_workload.py steps|endless FOLDER

What the child was told is done, it notes in FOLDER/acks, synced line by line, with the text of the token that it got.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from tests.unit.access.kit import PEER, Lab, lab, stranger

from torpor.access import EVERYTHING

Texts = dict[str, str]
"""The texts of the tokens of earlier steps, by a name for each."""


def first_join(there: Lab, texts: Texts) -> None:
    texts["join"] = there.access.desk.first_join() or ""


def join(there: Lab, texts: Texts) -> None:
    texts["human"] = there.access.desk.join(texts["join"], PEER, label="human").text


def issue(there: Lab, texts: Texts) -> None:
    decision = there.ask(texts["human"], "tokens.issue")
    texts["bot"] = there.access.desk.issue(decision, label="bot", scope=EVERYTHING).text


def issue_another(there: Lab, texts: Texts) -> None:
    texts["other"] = there.issue(label="other").text


def revoke(there: Lab, texts: Texts) -> None:
    there.revoke(texts["bot"])


def stop(there: Lab, _: Texts) -> None:
    assert there.owner("node.stop").allowed


def invite(there: Lab, texts: Texts) -> None:
    texts["join again"] = there.access.desk.invite(there.owner("tokens.invite"))


def join_again(there: Lab, texts: Texts) -> None:
    texts["second"] = there.access.desk.join(texts["join again"], PEER, label="second").text


def be_refused(there: Lab, _: Texts) -> None:
    assert not there.access.gate.decide(stranger(), "agents.list").allowed


def revoke_all(there: Lab, texts: Texts) -> None:
    there.revoke(texts["second"])


STEPS: tuple[tuple[Callable[[Lab, Texts], None], tuple[str, ...]], ...] = (
    (first_join, ("join.made",)),
    (join, ("token.issued", "join.used")),
    (issue, ("token.issued",)),
    (issue_another, ("token.issued",)),
    (revoke, ("token.revoked",)),
    (stop, ("decision.allowed",)),
    (invite, ("join.made",)),
    (join_again, ("token.issued", "join.used")),
    (be_refused, ("decision.refused",)),
    (revoke_all, ("token.revoked",)),
)
"""Each step, and what the audit has of it. A step is one transaction."""


def acknowledge(folder: Path, said: object) -> None:
    descriptor = os.open(folder / "acks", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(descriptor, f"{json.dumps(said)}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def steps(folder: Path) -> None:
    """Do every step once."""
    with lab(folder) as there:
        texts: Texts = {}
        for step, _ in STEPS:
            step(there, texts)
            acknowledge(folder, texts)


def endless(folder: Path) -> None:
    """Issue and revoke tokens until killed."""
    with lab(folder) as there:
        print("ready", flush=True)  # noqa: T201  (the parent waits for it)
        for number in itertools.count():
            token = there.issue(label=f"{os.getpid()}-{number}")
            acknowledge(folder, ["issued", token.text])
            if number % 2:
                there.revoke(token.record.id)
                acknowledge(folder, ["revoked", token.text])


if __name__ == "__main__":
    {"steps": steps, "endless": endless}[sys.argv[1]](Path(sys.argv[2]))
