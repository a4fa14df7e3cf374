"""A workbook has one owner, who is named to whoever is refused, and whose claim ends with it by any route."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.hazards.stranger import Stranger

from torpor.base.errors import WorkbookMissing, WorkbookOwned, WorkbookReadOnly
from torpor.workbook import Workbook

HOLD = """
import sys
from torpor.workbook import Workbook
with Workbook.open(sys.argv[1]) as book:
    book.append("note.added", {"by": "holder"})
    print("held", flush=True)
    for line in sys.stdin:
        print(book.append("note.added", {"by": "holder"}), flush=True)
"""

RACE = """
import sys
from torpor.base.errors import WorkbookOwned
from torpor.workbook import Workbook
print("ready", flush=True)
sys.stdin.readline()
try:
    book = Workbook.open(sys.argv[1])
except WorkbookOwned as refused:
    print("refused", refused.pid, flush=True)
else:
    book.append("note.added", {"by": "winner"})
    print("owner", flush=True)
    sys.stdin.readline()
    book.close()
"""


@contextmanager
def process(script: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", script, *args]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert started.stdin
    assert started.stdout
    try:
        yield started
    finally:
        started.send_signal(signal.SIGCONT)
        started.stdin.close()
        started.wait(10)
        started.stdout.close()


def line(started: subprocess.Popen[str]) -> str:
    assert started.stdout
    return started.stdout.readline().strip()


def tell(started: subprocess.Popen[str]) -> None:
    assert started.stdin
    started.stdin.write("go\n")
    started.stdin.flush()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ada.workbook"


def beside(path: Path) -> list[str]:
    return sorted(found.name for found in path.parent.iterdir())


def test_a_second_opening_in_the_process_is_refused_and_names_it(path: Path) -> None:
    with Workbook.open(path) as book:
        with pytest.raises(WorkbookOwned) as refused:
            Workbook.open(path)
        assert refused.value.pid == os.getpid()
        assert book.append("note.added", {}) == 1


def test_a_second_opening_by_another_name_of_the_file_is_refused(path: Path) -> None:
    alias = path.parent / "alias.workbook"
    alias.symlink_to(path)
    with Workbook.open(path), pytest.raises(WorkbookOwned):
        Workbook.open(alias)


def test_another_process_is_refused_and_told_who_holds_it(path: Path) -> None:
    with process(HOLD, str(path)) as holder:
        assert line(holder) == "held"
        with pytest.raises(WorkbookOwned) as refused:
            Workbook.open(path)
        assert refused.value.pid == holder.pid
        assert str(holder.pid) in str(refused.value)
    with Workbook.open(path) as book:
        assert book.last == 1


def test_being_refused_does_not_harm_the_claim(path: Path) -> None:
    """Closing a descriptor of the claim's file would end it; the refused open has one."""
    with process(HOLD, str(path)) as holder:
        assert line(holder) == "held"
        for _ in range(3):
            with pytest.raises(WorkbookOwned):
                Workbook.open(path)
    with Workbook.open(path):
        with pytest.raises(WorkbookOwned):
            Workbook.open(path)
        with process(RACE, str(path)) as other:
            line(other)
            tell(other)
            assert line(other) == f"refused {os.getpid()}"


def test_after_closing_the_workbook_is_one_file(path: Path) -> None:
    with Workbook.open(path) as book:
        book.append("note.added", {})
        assert f"{path.name}-owner" in beside(path)
    assert beside(path) == [path.name]


def test_closing_twice_is_once_and_leaves_a_later_owner_alone(path: Path) -> None:
    book = Workbook.open(path)
    book.close()
    with Workbook.open(path):
        book.close()
        with pytest.raises(WorkbookOwned):
            Workbook.open(path)


def test_the_claim_of_a_killed_owner_is_gone_with_it(path: Path) -> None:
    with process(HOLD, str(path)) as holder:
        assert line(holder) == "held"
        holder.kill()
        holder.wait(10)
        assert f"{path.name}-owner" in beside(path)
        with Workbook.open(path) as book:
            assert book.last == 1
            book.verify().require()
    assert beside(path) == [path.name]


def test_a_stopped_owner_still_owns_and_is_named(path: Path) -> None:
    with process(HOLD, str(path)) as holder:
        assert line(holder) == "held"
        holder.send_signal(signal.SIGSTOP)
        with pytest.raises(WorkbookOwned) as refused:
            Workbook.open(path)
        assert refused.value.pid == holder.pid
        with Workbook.open(path, readonly=True) as reader:
            assert reader.last == 1
        holder.send_signal(signal.SIGCONT)
        tell(holder)
        assert line(holder) == "2"


@pytest.mark.parametrize("exists", [False, True])
def test_of_eight_processes_opening_at_once_one_owns(path: Path, exists: bool) -> None:  # noqa: FBT001
    if exists:
        Workbook.open(path).close()
    racers: list[subprocess.Popen[str]] = []
    command = [sys.executable, "-c", RACE, str(path)]
    for _ in range(8):
        racers.append(  # noqa: PERF401  (a comprehension would lose those started before one that fails)
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
    for racer in racers:
        assert line(racer) == "ready"
    for racer in racers:
        tell(racer)
    answers = [line(racer) for racer in racers]
    for racer in racers:
        racer.communicate("end\n" if racer.poll() is None else None, timeout=10)
    assert answers.count("owner") == 1
    owner = racers[answers.index("owner")].pid
    others = {answer for answer in answers if answer != "owner"}
    # Pid 0 says that the owner had locked the file and not yet written its name.
    assert others <= {f"refused {owner}", "refused 0"}
    with Workbook.open(path) as book:
        assert book.last == 1
        book.verify().require()
    assert beside(path) == [path.name]


def test_owners_that_come_and_go_at_once_never_overlap(path: Path) -> None:
    """Threads of one process race for the claim, and each that gets it counts alone."""
    Workbook.open(path).close()
    inside: list[int] = []
    overlaps: list[int] = []
    held = []

    def race() -> None:
        for _ in range(15):
            try:
                book = Workbook.open(path)
            except WorkbookOwned:
                continue
            inside.append(1)
            overlaps.append(len(inside))
            held.append(book.append("note.added", {}))
            inside.pop()
            book.close()

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(overlaps) == {1}
    assert sorted(held) == list(range(1, len(held) + 1))


def test_a_claims_file_removed_by_hand_doesnt_break_closing(path: Path) -> None:
    book = Workbook.open(path)
    Path(f"{path}-owner").unlink()
    book.append("note.added", {})
    book.close()
    assert beside(path) == [path.name]
    Workbook.open(path).close()


def test_a_claims_file_replaced_by_hand_is_left_alone(path: Path) -> None:
    book = Workbook.open(path)
    Path(f"{path}-owner").unlink()
    Path(f"{path}-owner").write_text("somebody else's")
    book.close()
    assert Path(f"{path}-owner").read_text() == "somebody else's"


# --- reading beside the owner ---


def test_a_reader_beside_a_writing_owner_sees_what_is_committed_and_only_that(path: Path) -> None:
    with Workbook.open(path) as book, Workbook.open(path, readonly=True) as reader:
        assert reader.last == 0
        book.append("note.added", {})
        assert reader.last == 1
        with book.transaction():
            book.append("note.added", {})
            with Stranger() as other:
                assert other.last(str(path)) == 1
        assert reader.last == 2
        with pytest.raises(WorkbookReadOnly):
            reader.append("note.added", {})
        reader.verify().require()


def test_a_reader_in_the_middle_of_reading_does_not_block_the_owner(path: Path) -> None:
    with Workbook.open(path) as book:
        book.write("workspace", "/a.txt", b"before")
        with Workbook.open(path, readonly=True) as other, other.reader("workspace", "/a.txt") as open_file:
            for n in range(30):
                book.append("note.added", {"n": n})
            book.write("workspace", "/a.txt", b"after")
            assert open_file.read() == b"before"
            assert other.read("workspace", "/a.txt") == b"after"


def test_a_reader_needs_no_owner_and_leaves_the_file_as_it_is(path: Path) -> None:
    with Workbook.open(path) as book:
        book.append("note.added", {})
    before = path.read_bytes()
    with Workbook.open(path, readonly=True) as reader:
        assert [event.seq for event in reader.events()] == [1]
    assert path.read_bytes() == before


def test_a_reader_sees_what_a_killed_owner_left_in_the_log(path: Path) -> None:
    with process(HOLD, str(path)) as holder:
        assert line(holder) == "held"
        holder.kill()
        holder.wait(10)
    with Workbook.open(path, readonly=True) as reader:
        assert reader.last == 1
        reader.verify().require()
    with Workbook.open(path) as book:
        assert book.last == 1


def test_a_reader_of_nothing_is_told_so(path: Path) -> None:
    with pytest.raises(WorkbookMissing):
        Workbook.open(path, readonly=True)
    assert beside(path) == []


def test_a_file_with_two_names_has_no_owner_until_one_is_gone(path: Path) -> None:
    with Workbook.open(path) as book:
        book.append("note.added", {})
    twin = path.with_name("twin.workbook")
    twin.hardlink_to(path)

    with pytest.raises(WorkbookReadOnly, match="2 names"):
        Workbook.open(path)
    with Workbook.open(path, readonly=True) as reader:
        assert reader.last == 1

    twin.unlink()
    with Workbook.open(path) as book:
        assert book.append("note.added", {}) == 2


def test_an_owner_waits_for_a_reader_that_tidies_up(path: Path) -> None:
    """A reader that closes holds the claim for a moment: nobody is refused because of it."""
    Workbook.open(path).close()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            Workbook.open(path, readonly=True).close()

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(40):
            with Workbook.open(path) as book:
                book.append("note.added", {})
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    with Workbook.open(path) as book:
        assert book.last == 40
    assert beside(path) == ["ada.workbook"]
