"""No public operation makes the owner lose the locks that protect what it commits.

POSIX locks of a file go when the process closes any descriptor of it. Then a stranger who opens and
closes the workbook believes that nobody else has it, moves the log into the file and removes the log;
what the owner commits afterwards goes into a file without a name.

An older SQLite, such as the one that Python brings, is harmful as soon as the locks on the workbook are
gone. The one of apsw 3.54 asks for the lock on the shared index too before it removes a log.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.hazards.operations import CASES, OWN_TESTS, furnish, public_names
from tests.hazards.stranger import Stranger

from torpor.workbook import Workbook


@pytest.fixture(scope="module", params=["sqlite3", "apsw"])
def stranger(request: pytest.FixtureRequest) -> Iterator[Stranger]:
    with Stranger(request.param) as process:
        yield process


@pytest.fixture(scope="module")
def reader() -> Iterator[Stranger]:
    with Stranger() as process:
        yield process


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Workbook]:
    with Workbook.open(tmp_path / "ada.workbook") as opened:
        furnish(opened)
        yield opened


def committed(book: Workbook, stranger: Stranger, reader: Stranger) -> bool:
    """Report whether what the owner commits after a stranger's visit is seen by a third process."""
    stranger.touch(book.path)
    seq = book.append("note.added", {"after": "the visit"})
    return reader.last(book.path) == seq


def locks(book: Workbook) -> set[tuple[str, ...]]:
    """Return the POSIX locks that this process has on the workbook and what is beside it (proc(5), locks)."""
    inodes = {
        str(path.stat().st_ino): path.name
        for path in Path(book.path).parent.iterdir()
        if path.name.startswith("ada.workbook")
    }
    found = set()
    # The kernel makes the text a page at a time: where others lock and unlock meanwhile, a line may be left out. So it
    # is read more than once; a lock that is gone is in none of them.
    text = "".join(Path("/proc/locks").read_text(encoding="ascii") for _ in range(5))
    for line in text.splitlines():
        _, kind, _, access, pid, place, *span = line.split()[-8:]
        inode = place.rpartition(":")[2]
        if kind == "POSIX" and pid == str(os.getpid()) and inode in inodes:
            found.add((inodes[inode], access, *span))
    return found


def test_every_public_operation_has_a_case() -> None:
    assert public_names() == CASES.keys() | OWN_TESTS


@pytest.mark.parametrize("name", CASES)
def test_after_the_operation_a_commit_is_seen_by_others(
    name: str, book: Workbook, stranger: Stranger, reader: Stranger
) -> None:
    kept = CASES[name](book)  # what it returns, such as an open stream, stays alive meanwhile
    assert committed(book, stranger, reader), f"{name} lost a commit"
    book.verify().require()
    del kept


@pytest.mark.parametrize("name", CASES)
def test_the_operation_leaves_every_lock_in_place(name: str, book: Workbook) -> None:
    before = locks(book)
    assert {lock[0] for lock in before} == {
        "ada.workbook",
        "ada.workbook-shm",
        "ada.workbook-owner",
    }
    CASES[name](book)
    gc.collect()  # a stream that was left open goes, and with it its connection
    assert locks(book) >= before


@pytest.mark.parametrize("suffix", ["", "-shm"])
def test_a_stray_descriptor_is_seen_in_the_locks(suffix: str, book: Workbook) -> None:
    """The proof that the test above bites."""
    before = locks(book)
    Path(f"{book.path}{suffix}").read_bytes()
    assert not locks(book) >= before


def read_it(path: str) -> None:
    Path(path).read_bytes()


def copy_it(path: str) -> None:
    shutil.copyfile(path, f"{path}-copy")


@pytest.mark.parametrize("stray", [read_it, copy_it])
def test_a_stray_descriptor_in_the_owner_loses_a_commit(
    stray: Callable[[str], None], tmp_path: Path, stranger: Stranger, reader: Stranger
) -> None:
    """The proof that the visits above bite: with stray descriptors of the workbook and its index they find a loss."""
    book = Workbook.open(tmp_path / "ada.workbook")
    book.append("note.added", {})
    stray(book.path)
    stray(f"{book.path}-shm")
    assert not committed(book, stranger, reader)
    book.close()


LISTENER = """
import json, os, sys
from pathlib import Path
from tests.hazards.operations import CASES, furnish
from torpor.workbook import Workbook
folder = Path(sys.argv[1])
touched, now = [], ""

def hear(event, args):
    # Whatever Python does to a file says so here; only the file names of SQLite's own C code are not heard.
    names = [os.fsdecode(arg) for arg in args if isinstance(arg, (str, bytes, os.PathLike))]
    if any(name.startswith(str(folder)) for name in names):
        touched.append((now, event, *names[:2]))

sys.addaudithook(hear)
for now, case in CASES.items():
    path = folder / f"{now}.workbook"
    with Workbook.open(path) as book:
        furnish(book)
        kept = case(book)
        del kept
    touched.append((now, "end"))
if sys.argv[2:]:
    path.open("rb").close()
print(json.dumps(touched))
"""


def heard(tmp_path: Path, *more: str) -> list[list[str]]:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", LISTENER, str(tmp_path), *more],
        capture_output=True, text=True, check=False, cwd=root,
        env={"PYTHONPATH": f"{root}:{root / 'src'}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[list[str]] = json.loads(done.stdout)
    return found


def opened(heard: list[list[str]]) -> list[list[str]]:
    """Return what made a descriptor of a workbook or of the files that SQLite keeps beside it."""
    ends = (".workbook", ".workbook-wal", ".workbook-shm", "-new", "-new-wal", "-new-shm")
    harmless = {"os.remove", "os.rename", "os.chmod", "os.listdir", "sqlite3.connect"}
    return [line for line in heard if len(line) > 2 and line[2].endswith(ends) and line[1] not in harmless]


def test_no_public_operation_opens_the_files_in_python(tmp_path: Path) -> None:
    lines = heard(tmp_path)
    assert {line[0] for line in lines if line[1] == "end"} == CASES.keys()
    assert any(line[1] == "open" and line[2].endswith("-owner") for line in lines), "nothing was heard"
    assert opened(lines) == []


def test_an_opening_in_python_is_heard(tmp_path: Path) -> None:
    assert [line[1] for line in opened(heard(tmp_path, "stray"))] == ["open"]
