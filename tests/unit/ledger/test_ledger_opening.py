"""A ledger is made whole or not at all, and what is no whole ledger is refused and left as it is."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from tests.hazards.kit import printed_by
from tests.unit.ledger.kit import add, agent, bring, content, leftover, note, template

from torpor.base.errors import HomeRefused, LedgerDamaged, LedgerFailed, TorporError
from torpor.ledger import SqliteLedger, opening
from torpor.ledger.opening import APPLICATION_ID, FORMAT
from torpor.lifecycle import STATES
from torpor.workbook import Workbook

PAGE_BYTES = 4096


def beside(path: Path) -> list[str]:
    return sorted(found.name for found in path.parent.iterdir())


def make(path: Path) -> None:
    """Make a ledger with something in each table."""
    with closing(SqliteLedger.open(path)) as ledger:
        for state in STATES:
            bring(ledger, state, f"is-{state}", tenant="acme", parent="p")
        add(ledger, *(agent(f"agent-{number}") for number in range(60)))
        base = template()
        ledger.templates.add(base, note(base.id, "template"))
        ledger.reserve([leftover("file:x")])


def alter(path: Path, sql: str) -> None:
    db = apsw.Connection(str(path))
    db.execute(sql)
    db.close()


def test_a_new_ledger_is_one_private_file_that_tools_recognise(path: Path) -> None:
    with closing(SqliteLedger.open(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert beside(path) == ["ledger.db"]
    header = path.read_bytes()[:100]
    assert header[68:72] == APPLICATION_ID.to_bytes(4) == b"TRPL"
    assert int.from_bytes(header[60:64]) == FORMAT


def test_opening_again_keeps_what_is_there(path: Path) -> None:
    make(path)
    with closing(SqliteLedger.open(path, create=False)) as ledger:
        assert ledger.agent("agent-7") == agent("agent-7")
    assert beside(path) == ["ledger.db"]


def test_a_look_makes_no_ledger(path: Path) -> None:
    with pytest.raises(HomeRefused) as refused:
        SqliteLedger.open(path, create=False)
    assert refused.value.path == str(path.parent)
    assert beside(path) == []


def test_a_folder_is_not_made(tmp_path: Path) -> None:
    for folder in (tmp_path / "absent", tmp_path / "file"):
        (tmp_path / "file").touch()
        with pytest.raises(HomeRefused):
            SqliteLedger.open(folder / "ledger.db")
    assert not (tmp_path / "absent").exists()


def test_a_link_to_a_ledger_is_followed(path: Path, tmp_path: Path) -> None:
    make(path)
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "ledger.db").symlink_to(path)
    with (
        closing(SqliteLedger.open(tmp_path / "link" / "ledger.db")) as linked,
        closing(SqliteLedger.open(path)) as real,
    ):
        bring(linked, "active")
        assert real.agent("ada").state == "active"
        assert linked.path == str(path)


# --- what is no ledger --------------------------------------------------------------------------------------------


def foreign(path: Path) -> None:
    alter(path, "CREATE TABLE agents (id)")


def workbook(path: Path) -> None:
    Workbook.open(path.with_name("x.workbook")).close()
    path.with_name("x.workbook").rename(path)


def altered(sql: str) -> Callable[[Path], None]:
    def build(path: Path) -> None:
        make(path)
        alter(path, sql)

    return build


STRANGE: dict[str, Callable[[Path], object]] = {
    "empty": Path.touch,
    "a few bytes": lambda path: path.write_bytes(b"SQLite format 3\0"),
    "zeros": lambda path: path.write_bytes(bytes(8192)),
    "text": lambda path: path.write_text("no ledger\n" * 2000),
    "a database of something else": foreign,
    "a workbook": workbook,
    "of a later Torpor": altered(f"PRAGMA user_version = {FORMAT + 1}"),
    "of no format": altered("PRAGMA user_version = 0"),
    "without a table": altered("DROP TABLE leftovers"),
    "without a trigger": altered("DROP TRIGGER history_is_final"),
    "without an index": altered("DROP INDEX agents_file"),
    "with another column": altered("ALTER TABLE agents ADD COLUMN mood TEXT"),
}


@pytest.mark.parametrize("what", STRANGE)
@pytest.mark.parametrize("create", [True, False])
def test_what_is_no_ledger_is_refused_and_left_as_it_is(path: Path, what: str, create: bool) -> None:  # noqa: FBT001
    STRANGE[what](path)
    before = path.read_bytes()
    with pytest.raises(LedgerDamaged) as refused:
        SqliteLedger.open(path, create=create)
    assert refused.value.path == str(path)
    assert path.read_bytes() == before
    assert beside(path) == ["ledger.db"]


def test_a_newer_format_is_said_to_be_one(path: Path) -> None:
    STRANGE["of a later Torpor"](path)
    with pytest.raises(LedgerDamaged, match="its format is 2, of a later Torpor; this one knows 1"):
        SqliteLedger.open(path)


def test_what_is_no_regular_file_is_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(LedgerDamaged, match="regular"):
        SqliteLedger.open(path)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(LedgerDamaged, match="regular"):
        SqliteLedger.open(path)


def test_a_ledger_of_two_names_is_refused(path: Path, tmp_path: Path) -> None:
    make(path)
    os.link(path, tmp_path / "second")
    with pytest.raises(LedgerDamaged, match="2 names"):
        SqliteLedger.open(path)


def test_a_log_without_its_ledger_is_left_and_no_new_ledger_is_made(path: Path) -> None:
    log = path.with_name("ledger.db-wal")
    log.write_bytes(b"a log")
    with pytest.raises(LedgerDamaged, match="its log"):
        SqliteLedger.open(path)
    assert beside(path) == ["ledger.db-wal"]
    assert log.read_bytes() == b"a log"


# --- damage -------------------------------------------------------------------------------------------------------


def test_a_ledger_cut_short_anywhere_is_refused(path: Path) -> None:
    make(path)
    whole = path.read_bytes()
    assert len(whole) > 20 * PAGE_BYTES
    for size in (*range(0, len(whole), PAGE_BYTES), 511, 513, PAGE_BYTES + 1, len(whole) - 1, len(whole) - 512):
        path.write_bytes(whole[:size])
        with pytest.raises(LedgerDamaged):
            SqliteLedger.open(path)
        assert path.read_bytes() == whole[:size]
    path.write_bytes(whole)
    SqliteLedger.open(path).close()


def test_a_ledger_that_grows_while_it_is_looked_at_is_not_cut_short(path: Path) -> None:
    """Its size was read before another process made it longer."""
    make(path)
    with closing(apsw.Connection(str(path))) as db:
        db.pragma("page_count")
        opening._check_size(str(path), db, PAGE_BYTES)


@pytest.mark.parametrize("junk", [bytes(PAGE_BYTES), b"\xa5" * PAGE_BYTES], ids=["zeros", "noise"])
def test_a_spoilt_page_is_an_error_and_never_a_different_answer(path: Path, junk: bytes) -> None:
    make(path)
    with closing(SqliteLedger.open(path)) as ledger:
        expected = content(ledger, settled=False)
    whole = path.read_bytes()
    refused = 0
    for start in range(0, len(whole), PAGE_BYTES):
        path.write_bytes(whole[:start] + junk + whole[start + PAGE_BYTES :])
        try:
            with closing(SqliteLedger.open(path)) as ledger:
                assert content(ledger, settled=False) == expected
        except LedgerDamaged:
            refused += 1
    assert refused > len(whole) // PAGE_BYTES // 2


def test_a_text_that_is_none_is_damage(path: Path) -> None:
    make(path)
    alter(
        path,
        "INSERT INTO history (agent, verb, who, why, time, bytes, ms, details)"
        " SELECT id, 'export', CAST(x'ff61' AS TEXT), '', 1, 0, 0, '{}' FROM names WHERE name = 'agent-1'",
    )
    with closing(SqliteLedger.open(path)) as ledger:
        with pytest.raises(LedgerDamaged, match="UTF-8"):
            ledger.history("agent-1")
        assert len(ledger.history("agent-2")) == 1


# --- making one ---------------------------------------------------------------------------------------------------


def test_what_a_killed_maker_left_is_no_hindrance(path: Path) -> None:
    for tail in ("", "-journal", "-wal", "-shm"):
        path.with_name(f"ledger.db-new{tail}").write_bytes(b"half a ledger")
    make(path)
    assert beside(path) == ["ledger.db"]


MAKER = """
import sys
from tests.unit.ledger.kit import add, agent
from torpor.ledger import SqliteLedger
print("ready", flush=True)
sys.stdin.readline()
ledger = SqliteLedger.open(sys.argv[1])
add(ledger, agent(sys.argv[2]))
ledger.close()
"""


def test_of_processes_that_make_it_at_once_none_loses_what_it_wrote(path: Path) -> None:
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", MAKER, str(path), f"maker-{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
            env={"PYTHONPATH": "src:."},
        )
        for number in range(6)
    ]
    for maker in makers:
        assert maker.stdout
        assert maker.stdout.readline() == "ready\n"
    for maker in makers:
        assert maker.stdin
        maker.stdin.write("go\n")
        maker.stdin.flush()
    for maker in makers:
        maker.communicate(timeout=60)
        assert maker.returncode == 0
    with closing(SqliteLedger.open(path)) as ledger:
        assert [record.name for record in ledger.agents()] == [f"maker-{number}" for number in range(6)]
    assert beside(path) == ["ledger.db"]


def test_a_maker_that_stands_still_is_waited_for_and_then_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "PATIENCE_S", 0.05)
    descriptor = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(LedgerFailed, match="another process is making it"):
        SqliteLedger.open(path)
    assert beside(path) == []
    os.close(descriptor)
    SqliteLedger.open(path).close()


# --- places that can't be written ---------------------------------------------------------------------------------

LOOK = """
import os, sys
from torpor.base.errors import TorporError
from torpor.ledger import SqliteLedger
if os.getuid() == 0 and len(sys.argv) > 2:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    SqliteLedger.open(sys.argv[1])
except TorporError as error:
    print(error.code, error.message)
else:
    print("opened")
"""


@pytest.mark.parametrize("there", [True, False])
def test_a_read_only_mount_is_said_to_be_one(path: Path, there: bool) -> None:  # noqa: FBT001
    if there:
        make(path)
    found = beside(path)
    folder = path.parent
    said = printed_by(LOOK, path, around=f"mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}")
    assert said.startswith("TOR-713")
    assert ("its folder can't be written" if there else "Read-only file system") in said
    assert beside(path) == found


def test_a_folder_that_is_not_ours_is_said_to_be_one(path: Path) -> None:
    if os.getuid() == 0:
        said = printed_by(LOOK, "/mnt/ledger.db", "as nobody", around="mount -t tmpfs -o mode=755 tmpfs /mnt")
    else:
        path.parent.chmod(0o555)
        said = printed_by(LOOK, path)
        path.parent.chmod(0o755)
    assert said.startswith("TOR-713")
    assert "its folder can't be written" in said


def test_every_refusal_is_an_error_of_ours(path: Path) -> None:
    """Also where a part of the path is too long, or a file, or in a circle."""
    (path.parent / "circle").symlink_to("circle")
    (path.parent / "file").touch()
    for strange in ("x" * 300, "circle/ledger.db", "file/ledger.db", "circle"):
        with pytest.raises(TorporError):
            SqliteLedger.open(path.parent / strange)
