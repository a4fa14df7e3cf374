"""Opening: what is a workbook is opened, by one owner; what isn't is refused by its kind and left as it is."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import apsw
import pytest
from tests.unit.workbook.kit import filled, tamper

from torpor.base.errors import (
    NewerFormat,
    NotAWorkbook,
    TorporError,
    WorkbookDamaged,
    WorkbookMissing,
    WorkbookOwned,
)
from torpor.workbook import Workbook

BOTH = pytest.mark.parametrize("readonly", [False, True], ids=["owner", "reader"])


def only(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@BOTH
def test_a_newer_format_is_refused_by_its_number(path: Path, readonly: bool) -> None:  # noqa: FBT001
    filled(path)
    tamper(path, "PRAGMA user_version = 3")
    before = path.read_bytes()
    with pytest.raises(NewerFormat, match="has format 3; this Torpor knows formats up to 2") as caught:
        Workbook.open(path, readonly=readonly)
    assert (caught.value.found, caught.value.known) == (3, 2)
    assert path.read_bytes() == before


@BOTH
@pytest.mark.parametrize("version", [0, -1])
def test_a_format_that_never_was_is_refused(path: Path, version: int, readonly: bool) -> None:  # noqa: FBT001
    filled(path)
    tamper(path, f"PRAGMA user_version = {version}")
    with pytest.raises(NotAWorkbook, match=f"its format is {version}, which never was"):
        Workbook.open(path, readonly=readonly)


@BOTH
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty, as no workbook ever is"),
        (b"SQLite format 3\0", "it has only 16 bytes"),
        (b"Dear diary, " * 1000, "file is not a database"),
        (b"\0" * 8192, "file is not a database"),
    ],
)
def test_a_file_of_something_else_is_refused_and_left_as_it_is(
    path: Path, content: bytes, reason: str, readonly: bool  # noqa: FBT001
) -> None:  # fmt: skip
    path.write_bytes(content)
    with pytest.raises(NotAWorkbook, match=reason):
        Workbook.open(path, readonly=readonly)
    assert path.read_bytes() == content
    assert only(path.parent) == [path.name]


@BOTH
def test_the_database_of_another_program_is_refused(path: Path, readonly: bool) -> None:  # noqa: FBT001
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY, body TEXT)")
        db.execute("INSERT INTO events VALUES (1, 'theirs')")
    db.close()
    before = path.read_bytes()
    with pytest.raises(NotAWorkbook, match="an SQLite database of something else"):
        Workbook.open(path, readonly=readonly)
    assert path.read_bytes() == before


@BOTH
def test_a_folder_and_a_pipe_are_refused_without_being_opened(tmp_path: Path, readonly: bool) -> None:  # noqa: FBT001
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotAWorkbook, match="it is a folder"):
        Workbook.open(tmp_path / "folder", readonly=readonly)
    with pytest.raises(NotAWorkbook, match="it is not a regular file"):
        Workbook.open(tmp_path / "pipe", readonly=readonly)
    assert only(tmp_path) == ["folder", "pipe"]


def test_a_missing_folder_or_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(WorkbookMissing, match="No such file or directory"):
        Workbook.open(tmp_path / "none" / "ada.workbook")
    with pytest.raises(WorkbookMissing, match="unless it opens read-only"):
        Workbook.open(tmp_path / "ada.workbook", readonly=True)
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(WorkbookMissing, match="Not a directory"):
        Workbook.open(tmp_path / "file" / "ada.workbook")
    assert only(tmp_path) == ["file"]


@BOTH
def test_a_name_that_no_file_can_have_is_missing(tmp_path: Path, readonly: bool) -> None:  # noqa: FBT001
    (tmp_path / "round").symlink_to(tmp_path / "about")
    (tmp_path / "about").symlink_to(tmp_path / "round")
    for name in ("a\0b", "half\udcff", "x" * 300, "round"):
        with pytest.raises(WorkbookMissing):
            Workbook.open(tmp_path / name, readonly=readonly)


def test_a_second_owner_is_told_who_holds_it_and_a_reader_is_welcome(path: Path) -> None:
    with Workbook.open(path) as book:
        book.append("a.b", {})
        with pytest.raises(WorkbookOwned, match=f"held for writing by process {os.getpid()}") as caught:
            Workbook.open(path)
        assert caught.value.pid == os.getpid()
        assert "readonly=True" in caught.value.next_step
        with Workbook.open(path, readonly=True) as reader:
            assert reader.last == 1
    with Workbook.open(path) as book:
        assert book.last == 1


def test_a_link_to_a_workbook_shares_its_ownership(path: Path) -> None:
    link = path.with_name("link.workbook")
    link.symlink_to(path)
    with Workbook.open(link) as book:  # created where the link leads
        book.append("a.b", {})
        assert book.path == str(path)
        with pytest.raises(WorkbookOwned):
            Workbook.open(path)
    with Workbook.open(path) as book:
        with pytest.raises(WorkbookOwned):
            Workbook.open(link)
        assert book.last == 1
    assert only(path.parent) == ["ada.workbook", "link.workbook"]


def test_at_rest_an_agent_is_one_file_that_only_its_user_reads(path: Path) -> None:
    filled(path)
    assert only(path.parent) == [path.name]
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_a_killed_creation_left_behind_is_swept_away(path: Path) -> None:
    for name in ("ada.workbook-new", "ada.workbook-new-wal", "ada.workbook-owner"):
        path.with_name(name).write_bytes(b"half of something")
    with Workbook.open(path) as book:
        assert book.verify().ok
    assert only(path.parent) == [path.name]


def test_a_damaged_file_is_given_back_to_whoever_repairs_it(path: Path) -> None:
    whole = filled(path).read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(WorkbookDamaged, match=f"it has {len(whole) - 100:,} of its {len(whole):,} bytes"):
        Workbook.open(path)
    path.write_bytes(whole)
    with Workbook.open(path) as book:
        assert book.verify().ok


def test_a_failure_while_opening_leaves_neither_claim_nor_connection(path: Path) -> None:
    filled(path)
    tamper(path, "DROP TABLE volumes", "UPDATE files SET volume = 'staging' WHERE path = '/t.txt'")
    for _ in range(2):
        with pytest.raises(WorkbookDamaged, match="its tables are not those of the format"):
            Workbook.open(path)
    assert only(path.parent) == [path.name]


@pytest.mark.parametrize("name", ["50%.workbook", "what?.workbook", "a#b.workbook", "ü 🦥.workbook", "file:x.workbook"])
def test_any_file_name_is_only_a_name_also_where_the_folder_cant_be_written(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "shelf?mode=memory"
    folder.mkdir()
    path = filled(folder / name)
    path.chmod(0o644)
    folder.chmod(0o555)
    for parent in (tmp_path, *list(tmp_path.parents)[:3]):
        parent.chmod(parent.stat().st_mode | 0o055)
    code = (
        "import os, sys\n"
        "from torpor.workbook import Workbook\n"
        "from torpor.base.errors import WorkbookReadOnly\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "with Workbook.open(sys.argv[1], readonly=True) as book:\n"
        "    found = book.verify()\n"
        "    assert found.ok, found\n"
        "    print(found.events)\n"
        "try: Workbook.open(sys.argv[1])\n"
        "except WorkbookReadOnly as error: print(error.code)\n"
    )
    if os.getuid() != 0:
        pytest.skip("only root can become a user who may not write")
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True, text=True, check=False, env={"PYTHONPATH": "src"},
    )  # fmt: skip
    assert done.stdout.split() == ["17", "TOR-204"], done.stderr
    assert only(folder) == [name]


def test_a_damaged_body_is_a_typed_error_to_its_reader(path: Path) -> None:
    filled(path)
    tamper(path, "UPDATE events SET body = '{\"half' WHERE seq = 1", "UPDATE memory SET metadata = '[1'")
    with Workbook.open(path, readonly=True) as book:
        with pytest.raises(WorkbookDamaged, match="event 1 can't be read"):
            list(book.events())
        with pytest.raises(WorkbookDamaged, match="memory entry 2 can't be read"):
            book.memory.entries()


def test_a_torn_file_is_never_read_short(path: Path) -> None:
    filled(path)
    tamper(path, "DELETE FROM chunks WHERE start = 65536")
    with Workbook.open(path, readonly=True) as book:
        with pytest.raises(WorkbookDamaged, match=r"workspace:/a/one.txt has 84,467 of its 150,003 bytes"):
            book.read("workspace", "/a/one.txt")
        with book.reader("workspace", "/a/one.txt") as reader:
            assert len(reader.read(65536) or b"") == 65536
            with pytest.raises(WorkbookDamaged):
                reader.read(1)


def test_text_that_is_no_text_is_a_typed_error_to_its_reader(path: Path) -> None:
    filled(path)
    tamper(path, "UPDATE events SET body = CAST(x'7bff7d' AS TEXT) WHERE seq = 1")
    with Workbook.open(path, readonly=True) as book:
        with pytest.raises(WorkbookDamaged, match="a text is not UTF-8"):
            list(book.events())
        assert not book.verify().ok


def test_a_table_that_is_gone_is_damage_and_not_a_bug_of_ours(path: Path) -> None:
    filled(path)
    tamper(path, "ALTER TABLE memory RENAME TO remembered")
    with Workbook.open(path, readonly=True) as book, pytest.raises(WorkbookDamaged, match="no such table"):
        book.memory.entries()


def test_an_sqlite_shell_can_read_a_workbook_that_is_in_use(path: Path) -> None:
    with Workbook.open(path) as book:
        book.append("a.b", {"n": 1})
        code = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT kind FROM events').fetchall())"
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[('a.b',)]"
        book.append("a.b", {"n": 2})
    with Workbook.open(path) as book:
        assert book.last == 2


def test_every_refusal_to_open_names_the_path(tmp_path: Path) -> None:
    for name in ("a.workbook", "b.workbook"):
        (tmp_path / name).write_bytes(b"x" * 1000)
        with pytest.raises(TorporError) as caught:
            Workbook.open(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_a_full_file_is_storage_full_and_what_was_acknowledged_is_kept(path: Path) -> None:
    from torpor.base.errors import StorageFull, TransactionLost

    with Workbook.open(path) as book:
        book.append("a.b", {"n": 1})
        pages = book._store.db.pragma("page_count")
        book._store.db.pragma("max_page_count", pages + 2)
        with pytest.raises(StorageFull, match="No room left to write"):
            book.write("workspace", "/big", b"x" * 100_000)
        with pytest.raises(TransactionLost, match="already rolled back"), book.transaction():
            book.append("a.b", {"n": 2})
            with pytest.raises(StorageFull):
                book.write("workspace", "/big", b"x" * 100_000)
            assert not book._store.db.in_transaction, "SQLite has rolled back by itself"
            with pytest.raises(TransactionLost):
                book.append("a.b", {"n": 3})
            with pytest.raises(TransactionLost):
                book.read("workspace", "/big")
        book._store.db.pragma("max_page_count", 1_000_000)
        assert [event.body["n"] for event in book.events()] == [1]
        book.append("a.b", {"n": 4})
        assert book.verify().ok


def test_apsw_is_the_sqlite_that_was_chosen() -> None:
    assert tuple(map(int, apsw.sqlite_lib_version().split("."))) >= (3, 51, 3), "older ones can lose the log"
