"""A real file system without room, under the tokens: what can't be kept isn't done, and what was told stays so."""

from __future__ import annotations

from pathlib import Path

from tests.hazards.kit import told_by

FILL = """
import json, sys
from pathlib import Path
from tests.hazards.small_disk import limit_files, make_room
from tests.unit.access.kit import PEER, lab
from torpor.base.errors import AccessFailed, JoinRefused
folder, limit = Path(sys.argv[1]), int(sys.argv[2])
told = {}
with lab(folder) as there:
    desk = there.access.desk
    join = desk.first_join()
    first, second = there.issue(), there.issue()
    limit_files(limit)
    issued, failed = [], 0
    try:
        while True:
            issued.append(there.issue(label="x" * 100))
    except AccessFailed:
        failed += 1
    try:
        while True:  # smaller ones may still fit
            there.access.audit.note("test.noted", "uid:0")
    except AccessFailed:
        failed += 1
    head = there.access.audit.verify()
    for attempt in (
        lambda: there.revoke(first.record.id),
        lambda: desk.join(join, PEER, label="me"),
        lambda: desk.invite(there.owner("tokens.invite")),
        lambda: there.owner("node.stop").demand(),
    ):
        try:
            attempt()
        except AccessFailed:
            failed += 1
    told["failed"] = failed
    told["unchanged"] = there.access.audit.verify() == head
    # What needs no room goes on, also saying no.
    told["accepted"] = there.ask(issued[-1], "agents.read", agent="ada").allowed
    told["refused"] = not there.ask("torpor_nonsense", "agents.list").allowed
    make_room(limit, folder / "ballast")
    told["revoked"] = list(there.revoke(first.record.id)) == [first.record.id]
    told["joined"] = there.ask(desk.join(join, PEER, label="me"), "node.stop").allowed
    told["issued"] = len(issued)
with lab(folder) as there:
    there.access.audit.verify(head)
    told["first"] = there.ask(first, "agents.list").allowed
    told["all"] = all(there.ask(token, "agents.list").allowed for token in (second, *issued))
print(json.dumps(told))
"""


def check(told: dict[str, int]) -> None:
    assert told.pop("issued") > 20
    assert told == {
        "failed": 6,
        "unchanged": True,
        "accepted": True,
        "refused": True,
        "revoked": True,
        "joined": True,
        "first": False,
        "all": True,
    }


def test_under_a_limit_of_the_size_of_files_nothing_is_done_by_halves(tmp_path: Path) -> None:
    check(told_by(FILL, tmp_path, 400_000))


def test_on_a_full_file_system_nothing_is_done_by_halves(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=2m torpor {tmp_path} && head -c 500000 /dev/zero >{tmp_path}/ballast"
    check(told_by(FILL, tmp_path, 0, around=mount))
