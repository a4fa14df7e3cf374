"""A real file system without room, under the log: commits wait for room, and nothing is lost or half there."""

from __future__ import annotations

from pathlib import Path

from tests.hazards.kit import told_by

FILL = """
import json, sys
from pathlib import Path
from tests.hazards.small_disk import limit_files, make_room
from tests.unit.heartbeat.log_kit import commit, numbers, open_log
from torpor.base.errors import HeartbeatFull
folder, limit = Path(sys.argv[1]) / "heartbeat", int(sys.argv[2])
log = open_log(folder)
limit_files(limit)
done, full = 0, 0
# Under a limit of the size of files, a record that needs a segment of its own has no room.
try:
    for number in range(1, 100_000):
        done = commit(log, number, 200_000 if limit and number == 50 else 3_000)
except HeartbeatFull:
    full += 1
try:
    commit(log, done + 2, 3_000)
except HeartbeatFull:
    full += 1
assert log.durable == done and log.last == done + 2 and not log.failed
make_room(limit, Path(sys.argv[1]) / "ballast")
commit(log, done + 3, 100)
found = numbers(log)
log.close()
with open_log(folder) as log:
    assert numbers(log) == found
print(json.dumps({"done": done, "full": full, "found": len(found), "last": found[-1], "first": found[0]}))
"""


def check(found: dict[str, int]) -> None:
    assert found["full"] == 2
    assert found["done"] > 20
    assert (found["first"], found["last"]) == (1, found["done"] + 3)
    assert found["found"] == found["done"] + 3


def test_a_limit_of_the_size_of_files_holds_commits_up_until_it_is_lifted(tmp_path: Path) -> None:
    check(told_by(FILL, tmp_path, 100_000))


def test_a_full_file_system_holds_commits_up_until_there_is_room(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=1m torpor {tmp_path} && head -c 300000 /dev/zero >{tmp_path}/ballast"
    check(told_by(FILL, tmp_path, 0, around=mount))
