"""A disk that fails, a disk that is full, somebody who holds the ledger too long: typed, and undone."""

from __future__ import annotations

import errno
import itertools
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from tests.hazards.kit import told_by
from tests.unit.ledger.kit import NOW, add, agent, bring, content, id_of, leftover, move, note, template

from torpor.base.errors import LedgerDamaged, LedgerFailed
from torpor.ledger import Ledger, SqliteLedger, opening
from torpor.testing import BrokenDisk, BrokenSync, Fault
from torpor.testing.disk import Call

DISK = (LedgerFailed, LedgerDamaged)
"""What is said of a disk that can't read: SQLite takes some of its errors for damage of the file system."""


def freeze(ledger: Ledger) -> None:
    move(ledger, ledger.agent("ada"), "frozen", left=[leftover("file:agents/ada.workbook")])


CHANGES: dict[str, Callable[[Ledger], object]] = {
    "add": lambda ledger: add(ledger, *(agent(f"clone-{number}") for number in range(50))),
    "move": freeze,
    "note": lambda ledger: ledger.note(note(id_of("ada"), "export")),
    "touch": lambda ledger: ledger.touch(id_of("ada"), NOW + 1),
    "schedule": lambda ledger: ledger.schedule(id_of("ada"), NOW + 1),
    "reserve": lambda ledger: ledger.reserve([leftover("file:b")]),
    "release": lambda ledger: ledger.release([leftover("file:a")]),
    "template": lambda ledger: ledger.templates.add(template("new"), note(id_of("new"), "template")),
    "drop": lambda ledger: ledger.templates.drop(ledger.templates.get("base"), note(id_of("base"), "drop")),
}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[BrokenDisk]:
    with BrokenDisk(tmp_path) as broken:
        yield broken


def filled(path: Path) -> SqliteLedger:
    ledger = SqliteLedger.open(path)
    bring(ledger, "suspended")
    ledger.reserve([leftover("file:a")])
    ledger.templates.add(template(), note(id_of("base"), "template"))
    return ledger


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_the_disk_refuses_is_undone_and_can_be_made_later(
    path: Path, disk: BrokenDisk, change: str, error: int
) -> None:
    with closing(filled(path)) as ledger:
        before = content(ledger)
        struck = 0
        for nth in range(1, 60):
            disk.set(Fault("write", nth, error, lasting=True))
            try:
                CHANGES[change](ledger)
            except LedgerFailed:
                struck += 1
            else:
                break
            finally:
                disk.lift()
            assert content(ledger) == before
        assert struck >= 2
        assert content(ledger) != before
        after = content(ledger)
    with closing(SqliteLedger.open(path)) as ledger:
        assert content(ledger) == after


@pytest.mark.parametrize("call", ["write", "truncate", "open", "read"])
def test_a_ledger_that_cant_be_made_is_not_there_or_whole(path: Path, disk: BrokenDisk, call: Call) -> None:
    struck = 0
    for nth in itertools.count(1, 7 if call == "write" else 1):
        disk.set(Fault(call, nth, errno.EIO))
        try:
            SqliteLedger.open(path).close()
        except DISK:
            struck += 1
        hit = disk.struck
        disk.lift()
        if path.exists():
            with closing(SqliteLedger.open(path)) as ledger:
                assert list(ledger.agents()) == []
            path.unlink()
        assert not path.with_name("ledger.db-wal").exists()
        if not hit:
            break
    assert struck or call == "truncate"


def test_a_ledger_that_cant_be_read_says_so_and_can_be_read_later(path: Path, disk: BrokenDisk) -> None:
    with closing(filled(path)) as ledger:
        add(ledger, *(agent(f"agent-{number}") for number in range(500)))
        before = content(ledger)
    with closing(SqliteLedger.open(path)) as ledger:
        disk.set(Fault("read", 1, errno.EIO, lasting=True))
        with pytest.raises(DISK):
            list(ledger.agents())
        disk.lift()
        assert content(ledger) == before


FILL = """
import json, sys
from pathlib import Path
from tests.hazards.small_disk import limit_files, make_room
from tests.unit.ledger.kit import add, agent, content, leftover, move, note
from torpor.base.errors import LedgerFailed
from torpor.ledger import SqliteLedger
path, limit = Path(sys.argv[1]), int(sys.argv[2])
limit_files(limit)
ledger = SqliteLedger.open(path)
added = full = 0
while full < 3:
    before = content(ledger, settled=False)
    try:
        add(ledger, *(agent(f"agent-{added}-{number}") for number in range(20)))
        added += 1
    except LedgerFailed:
        full += 1
        assert content(ledger, settled=False) == before, "not undone"
state = content(ledger, settled=False)
ledger.close()
# No room at all: then it is opened and read, for somebody has to find out what may be deleted.
again = SqliteLedger.open(path)
assert content(again) == state
again.close()
make_room(limit, path.with_name("ballast"))
ledger = SqliteLedger.open(path)
assert content(ledger) == state
add(ledger, agent("after"))
ledger.close()
print(json.dumps({"added": added}))
"""


def test_a_full_file_system_loses_nothing(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=2m tmpfs {tmp_path} && head -c 500000 /dev/zero > {tmp_path}/ballast"
    assert told_by(FILL, tmp_path / "ledger.db", 0, around=mount)["added"] > 3


def test_a_limit_on_the_size_of_files_loses_nothing(tmp_path: Path) -> None:
    assert told_by(FILL, tmp_path / "ledger.db", 1_000_000)["added"] > 3


# --- syncs that fail ----------------------------------------------------------------------------------------------


@pytest.fixture
def syncs() -> Iterator[BrokenSync]:
    with BrokenSync("broken-ledger-sync") as broken:
        yield broken


def crashed(path: Path, folder: Path) -> Path:
    """Return a copy of a ledger in use, as it is after a restart of a machine whose disk has all that was written.

    Another process makes it: the locks of this one would go with a descriptor that it closes.
    """
    folder.mkdir()
    for name in (path.name, f"{path.name}-wal"):
        subprocess.run(["cp", path.with_name(name), folder / name], check=True)
    return folder / path.name


def test_a_change_whose_sync_failed_is_undone(path: Path, syncs: BrokenSync) -> None:
    with closing(SqliteLedger.open(path, vfs=syncs.name)) as ledger, closing(SqliteLedger.open(path)) as other:
        bring(ledger, "suspended")
        before = content(ledger)
        syncs.count, syncs.nth = 0, 1
        with pytest.raises(LedgerFailed):
            freeze(ledger)
        assert content(ledger) == content(other) == before
        freeze(ledger)
        assert ledger.agent("ada").state == other.agent("ada").state == "frozen"


def test_a_change_whose_sync_failed_comes_back_with_the_machine_unless_it_was_settled(
    path: Path, tmp_path: Path, syncs: BrokenSync
) -> None:
    """Why nobody removes a copy before `leftovers` has returned: without it, the first half shows, ada loses both."""
    ledger = filled(path)
    ledger.close()
    with closing(SqliteLedger.open(path, vfs=syncs.name)) as ledger:
        ledger.schedule(id_of("ada"), NOW)
        syncs.count, syncs.nth = 0, 1
        with pytest.raises(LedgerFailed):
            freeze(ledger)
        assert ledger.agent("ada").state == "suspended"
        with closing(SqliteLedger.open(crashed(path, tmp_path / "unsettled"))) as doubtful:
            assert doubtful.agent("ada").state == "frozen"
        assert [each.place for each in ledger.leftovers()] == ["file:a"]
        with closing(SqliteLedger.open(crashed(path, tmp_path / "settled"))) as certain:
            assert certain.agent("ada").state == "suspended"
            assert [each.place for each in certain.leftovers()] == ["file:a"]


def test_each_change_asks_for_a_sync_but_a_touch(path: Path, syncs: BrokenSync) -> None:
    with closing(SqliteLedger.open(path, vfs=syncs.name)) as ledger:
        bring(ledger, "suspended")
        ledger.reserve([leftover("file:a")])
        ledger.templates.add(template(), note(id_of("base"), "template"))
        asked = {}
        for name, change in CHANGES.items():
            syncs.count = 0
            change(ledger)
            asked[name] = syncs.count
        assert asked == {name: int(name != "touch") for name in CHANGES}
        syncs.count = 0
        assert ledger.leftovers() != []
        assert syncs.count == 1


# --- somebody holds it --------------------------------------------------------------------------------------------


@pytest.fixture
def busy(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteLedger]:
    """Yield a ledger, soon out of patience, that somebody else is writing to."""
    monkeypatch.setattr(opening, "PATIENCE_S", 0.05)
    with closing(filled(path)) as ledger, closing(apsw.Connection(str(path))) as other:
        other.execute("BEGIN IMMEDIATE; UPDATE meta SET settled = settled")
        yield ledger


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_waits_for_another_process_and_then_gives_up(busy: SqliteLedger, change: str) -> None:
    with pytest.raises(LedgerFailed, match="another process has kept it busy"):
        CHANGES[change](busy)


def test_whoever_begins_a_change_has_the_right_to_write_from_its_beginning(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that asked for it only after it has read would be refused where somebody wrote in between."""
    monkeypatch.setattr(opening, "PATIENCE_S", 0.05)
    with closing(filled(path)) as ledger, closing(SqliteLedger.open(path)) as other:
        with ledger._connection.transaction(), pytest.raises(LedgerFailed, match="busy"):
            other.touch(id_of("ada"), NOW + 1)
        other.touch(id_of("ada"), NOW + 2)
        assert ledger.agent("ada").active == NOW + 2


def test_reading_waits_for_nobody(busy: SqliteLedger) -> None:
    assert content(busy, settled=False)["counts"]["suspended"] == 1


@pytest.mark.parametrize(
    ("setting", "value"), [("busy_timeout", 5000), ("synchronous", 2), ("journal_mode", "wal"), ("foreign_keys", 1)]
)
def test_a_connection_is_patient_synced_and_strict(path: Path, setting: str, value: int | str) -> None:
    with closing(SqliteLedger.open(path)) as ledger:
        assert ledger._connection.rows(f"PRAGMA {setting}") == [(value,)]


def test_a_touch_that_fails_leaves_later_changes_synced(busy: SqliteLedger) -> None:
    with pytest.raises(LedgerFailed):
        busy.touch(id_of("ada"), NOW)
    assert busy._connection.rows("PRAGMA synchronous") == [(2,)]
