"""Forks: another agent from any point of a life, while that goes on; and nothing is left of one that fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.unit.workbook.kit import NOW, Seen, SetClock, filled, lived, see, tamper

import torpor
from torpor.base import faults
from torpor.base.errors import (
    FileTaken,
    PointRefused,
    TorporError,
    WorkbookDamaged,
    WorkbookMissing,
    WorkbookOwned,
)
from torpor.runtime import Outcome, runs_in
from torpor.testing.chance import Seeded
from torpor.workbook import Durability, Workbook, at_rest, fork, seal

FAST = Durability("fast", "OFF")
ROOT = Path(__file__).parents[3]
ENV = {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}


def rows(book: Workbook, upto: int) -> list[Any]:
    """Return the events up to one, with every column as it is in the file."""
    return book._store.rows("SELECT * FROM events WHERE seq <= ? ORDER BY seq", (upto,))


def names(path: Path) -> list[str]:
    return sorted(found.name for found in path.parent.iterdir())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "fork.workbook"


# --- what a fork is ---


def test_a_fork_has_its_parents_journal_and_a_life_of_its_own(path: Path, target: Path) -> None:
    filled(path)
    made = fork(path, target, agent="the-fork", clock=SetClock(NOW + 5))
    with Workbook.open(path) as parent, Workbook.open(target, clock=SetClock(NOW + 6)) as book:
        assert rows(book, 17) == rows(parent, 17)
        assert see(book) == see(parent)
        (born,) = book.events(17)
        assert (born.kind, born.body) == (
            "agent.born", {"agent": "the-fork", "parent": parent.agent, "parent_seq": 17, "how": "fork"}
        )  # fmt: skip
        assert (book.agent, book.lineage) == ("the-fork", (parent.agent, 17))
        assert (made.agent, made.parent, made.parent_seq) == ("the-fork", parent.agent, 17)
        assert (made.seq, made.head) == book.head == (18, born.hash.hex())
        assert book._store.row("SELECT created, horizon, format FROM meta") == (NOW + 5, 17, 2)
        assert parent.lineage is None
        book.write("workspace", "/mine", b"the fork's")
        parent.write("workspace", "/mine", b"the parent's")
        assert book.verify().problems == ()
        assert parent.verify().problems == ()
        assert book.read("workspace", "/mine") == b"the fork's"
        assert book.list("tmp") == []
    assert names(path) == ["ada.workbook", "fork.workbook"]


def test_a_fork_is_a_whole_file_that_only_its_user_may_read(path: Path, target: Path) -> None:
    made = fork(filled(path), target, agent="the-fork")
    found = target.stat()
    assert (found.st_mode & 0o777, found.st_size, found.st_nlink) == (0o600, made.bytes, 1)
    assert target.read_bytes()[18:20] == b"\2\2", "a write-ahead log, as every owner wants it"


def test_a_fork_of_what_has_no_events_is_born_first(path: Path, target: Path) -> None:
    with Workbook.open(path) as book:
        book.write("tmp", "/t", b"t")
    made = fork(path, target, agent="the-fork")
    assert (made.seq, made.parent_seq) == (1, 0)
    with Workbook.open(target) as book:
        assert book.verify().problems == ()
        assert book.lineage is not None


def test_a_fork_at_a_point_has_what_was_committed_with_it(path: Path, target: Path) -> None:
    with Workbook.open(path) as book:
        with book.transaction():
            first = book.append("note.added", {})
            book.write("workspace", "/a", b"a")
        book.delete("workspace", "/a")
    made = fork(path, target, agent="the-fork", at=first)
    assert made.parent_seq == first + 1
    with Workbook.open(target) as book:
        assert book.read("workspace", "/a") == b"a"
    for point in (-1, 4, True, "1"):
        with pytest.raises(PointRefused):
            fork(path, path.with_name("no.workbook"), agent="x", at=point)  # type: ignore[arg-type]


def test_what_was_retired_or_scratch_or_half_written_is_not_carried(path: Path, target: Path) -> None:
    with Workbook.open(path) as book:
        book.write("workspace", "/a", b"retired content")
        book.write("workspace", "/a", b"present content")
        book.memory.remember("retired thought", source="a")
        book.memory.remember("present thought", source="a")
        book.write("tmp", "/t", b"scratch content")
        writer = book.writer("workspace", "/half")
        writer.write(b"half content" * 200_000)
        named, other = book.volumes.keep_value(b"named content"), book.volumes.keep_value(b"nameless content")
        book.append("note.added", {"value": named, "of": {"no": "value"}})
        book.append("note.added", {"said": f"it is sha256:{book.volumes.keep_value(b'mentioned content')}."})
        book.rewind(book.last)
        fork(path, target, agent="the-fork")
        writer.discard()
    content = target.read_bytes()
    for word in ("present", "named", "mentioned"):
        assert f"{word} content".encode() in content, word
    for word in ("retired", "scratch", "half", "nameless"):
        assert f"{word} content".encode() not in content, word
    assert b"present thought" in content
    assert b"retired thought" not in content
    with Workbook.open(target) as book:
        assert book.volumes.value(named) == b"named content"
        assert not book._store.rows("SELECT 1 FROM files WHERE path = ?", (f"/{other}",))
        assert book.verify().problems == ()


def test_values_named_after_the_point_are_not_carried(path: Path, target: Path) -> None:
    with Workbook.open(path) as book:
        early = book.volumes.keep_value(b"early")
        book.append("note.added", {"value": early})
        book.append("note.added", {"value": book.volumes.keep_value(b"late")})
    fork(path, target, agent="the-fork", at=1)
    with Workbook.open(target) as book:
        assert book._store.rows("SELECT path FROM files WHERE volume = 'values'") == [(f"/{early}",)]


def test_forks_of_forks_know_their_parents(path: Path, tmp_path: Path) -> None:
    before = filled(path)
    for generation in range(4):
        child = tmp_path / f"{generation}.workbook"
        with Workbook.open(before) as parent:
            agent, last = parent.agent, parent.last
        fork(before, child, agent=f"fork {generation}")
        with Workbook.open(child) as book:
            assert book.lineage == (agent, last)
            assert book.past.horizon == last
            assert book.verify().problems == ()
            book.write("workspace", "/generation", b"%d" % generation)
            was = see(book)
            book.delete("workspace", "/generation")
            book.rewind(last + 2)
            assert see(book) == was
            book.rewind(last)
            assert book.verify().problems == ()
        before = child


def test_a_fork_of_what_was_set_aside_takes_that_line(path: Path, target: Path) -> None:
    lived(path)
    fork(path, target, agent="the-fork", at=24)
    with Workbook.open(target) as book:
        assert [entry.content for entry in book.memory.entries()] == ["the lazy cat"]
        assert book.read("workspace", "/a/one.txt") == b"another one"
        assert book.branches() == []
        assert book.append("note.added", {"number": 9}, key="note-9") == 24
    target.unlink()
    made = fork(path, target, agent="the-fork")
    with Workbook.open(target) as book, Workbook.open(path, readonly=True) as parent:
        assert see(book) == see(parent)
        assert book.branches() == parent.branches()
        assert [event.seq for event in book.events(set_aside=False)] == [*range(1, 18), *range(25, 30)]
        with pytest.raises(PointRefused):
            book.rewind(24)
        assert made.seq == 29
        book.rewind(28)
        assert see(book) == see(parent)
        assert book.verify().problems == ()


# --- forks at any point ---

Step = Callable[[Workbook], object]


def life(chance: Seeded) -> Iterator[Step]:
    """Yield the steps of a life, without end."""

    def some(*choices: Any) -> Any:
        return choices[chance.below(len(choices))]

    while True:
        volume, path, other = some("workspace", "memory"), some("/a", "/b", "/f/a", "/f/b"), some("/c", "/g/c", "/f/a")
        below, entry, name = some(path, "/f", "/"), chance.below(6), some("x", "y")
        text, source, size = f"words {chance.below(99)}", some("one", "two", "three", None), chance.below(90_000)
        yield some(
            lambda book, v=volume, p=path, t=text, s=size: book.write(v, p, t.encode() * (s // 9 + 1)),
            lambda book, v=volume, p=path, t=text: book.volumes.append(v, p, t.encode()),
            lambda book, v=volume, p=path, s=size: book.volumes.append(v, p, b"x" * s),
            lambda book, v=volume, p=path, o=other: book.move(v, p, o, replace=True),
            lambda book, v=volume, p=below: book.delete(v, p, recursive=True),
            lambda book, t=text, s=source: book.memory.remember(t, source=s, aliases=[f"{s} too"] if s else []),
            lambda book, t=text, s=source: book.memory.remember(t, source=s, expires=NOW + len(t)),
            lambda book, e=entry: book.memory.forget(e),
            lambda book, n=name, t=text, s=size: book.settings.set(n, [t, s, 2**65]),
            lambda book, s=size: book.spend.book(s + 1, "usd", source="w", target="m", key=f"{book.last}"),
            lambda book, t=text: book.append("note.added", {"value": book.volumes.keep_value(t.encode())}),
            lambda book, s=size: book.rewind(s % (book.last + 1)),
        )


def test_forks_at_100_random_points_equal_a_replay_to_that_point(tmp_path: Path) -> None:
    path, target = tmp_path / "ada.workbook", tmp_path / "fork.workbook"
    steps = [step for step, _ in zip(life(Seeded(5)), range(400), strict=False)]
    clock = SetClock()
    was: dict[int, Seen] = {}
    with (
        Workbook.open(path, durability=FAST, clock=clock) as book,
        Workbook.open(tmp_path / "replay.workbook", durability=FAST, clock=clock) as replay,
    ):
        for number, step in enumerate(steps):
            clock.now = NOW + number
            outcomes = []
            for one in (book, replay):
                try:
                    step(one)
                    outcomes.append("")
                except TorporError as error:
                    outcomes.append(error.code)
            assert outcomes[0] == outcomes[1]
            was[replay.last] = see(replay)
        points = sorted(was)
        chance = Seeded(6)
        chosen = {points[chance.below(len(points))] for _ in range(400)}
        assert len(chosen) >= 100
        for point in sorted(chosen)[:: len(chosen) // 100][:100]:
            fork(path, target, agent="the-fork", at=point, clock=clock, durability=FAST)
            with Workbook.open(target, durability=FAST, clock=clock) as forked:
                assert see(forked) == was[point], point
                assert rows(forked, point) == rows(book, point)
                assert forked.verify().problems == ()
            target.unlink()
        assert book.verify().problems == ()


# --- while others go on ---

WRITER = """
import sys
from torpor.workbook import Workbook
with Workbook.open(sys.argv[1]) as book:
    print("ready", flush=True)
    number = 0
    while not sys.stdin.closed:
        with book.transaction():
            book.append("pair.begun", {"number": number})
            book.write("workspace", f"/{number % 7}", b"%d" % number * 2000)
            book.memory.remember(f"fact {number}", source=f"urn:{number % 5}")
            book.append("pair.ended", {"number": number})
        if number % 10 == 9:
            book.rewind(book.last - 7)
        number += 1
        if number == 5:
            print("going", flush=True)
        if number > 5 and not sys.stdin.readline().strip() == "on":
            break
"""


@contextmanager
def writer(path: Path) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENV
    )
    assert child.stdin
    assert child.stdout
    assert child.stdout.readline() == "ready\n"
    assert child.stdout.readline() == "going\n"
    try:
        yield child
    finally:
        child.stdin.close()
        assert child.wait(20) == 0
        child.stdout.close()


def check_forks(path: Path, tmp_path: Path, forks: int) -> None:
    """Insist that every fork is whole, and what its parent was."""
    with Workbook.open(path) as parent:
        assert parent.verify().problems == ()
        for number in range(forks):
            with Workbook.open(tmp_path / f"{number}.workbook") as book:
                assert book.verify().problems == ()
                assert book.lineage is not None
                point = book.lineage[1]
                assert rows(book, point) == rows(parent, point)
                kinds = [event.kind for event in book.events(set_aside=False)]
                assert kinds.count("pair.begun") == kinds.count("pair.ended")


def test_the_owner_in_another_process_goes_on_meanwhile(path: Path, tmp_path: Path) -> None:
    with writer(path) as child:
        assert child.stdin
        for number in range(12):
            for _ in range(4):
                child.stdin.write("on\n")
            child.stdin.flush()
            fork(path, tmp_path / f"{number}.workbook", agent=f"fork {number}")
    check_forks(path, tmp_path, 12)


def test_the_owner_in_another_thread_goes_on_meanwhile(path: Path, tmp_path: Path) -> None:
    done = threading.Event()
    with Workbook.open(path) as book:

        def go_on() -> None:
            number = 0
            while not done.is_set():
                with book.transaction():
                    book.append("pair.begun", {"number": number})
                    book.write("workspace", f"/{number % 7}", b"%d" % number * 2000)
                    book.append("pair.ended", {"number": number})
                number += 1

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            for number in range(12):
                fork(path, tmp_path / f"{number}.workbook", agent=f"fork {number}")
        finally:
            done.set()
            thread.join()
        assert book.verify().problems == ()
    check_forks(path, tmp_path, 12)


def test_an_open_transaction_is_not_in_a_fork(path: Path, target: Path) -> None:
    with Workbook.open(path) as book:
        book.append("note.added", {"committed": True})
        with book.transaction():
            book.append("note.added", {"committed": False})
            fork(path, target, agent="the-fork")
    with Workbook.open(target) as book:
        assert [event.kind for event in book.events()] == ["note.added", "agent.born"]


KILLED = """
import os, signal, sys
from torpor.workbook import Workbook
book = Workbook.open(sys.argv[1])
book.append("note.added", {"last": "words"})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_dead_owner_left_in_its_log_is_in_a_fork(path: Path, target: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False, env=ENV)
    assert "ada.workbook-wal" in names(path)
    fork(path, target, agent="the-fork")
    with Workbook.open(target) as book:
        assert next(iter(book.events())).body == {"last": "words"}
    assert "ada.workbook-wal" in names(path), "it is the next owner's to bring in"


def test_forking_leaves_nothing_beside_a_sleeping_source(path: Path, target: Path) -> None:
    filled(path)
    before = path.read_bytes()
    fork(path, target, agent="the-fork")
    assert names(path) == ["ada.workbook", "fork.workbook"]
    assert path.read_bytes() == before


def test_a_template_can_be_forked(path: Path, target: Path) -> None:
    seal(str(filled(path)))
    fork(path, target, agent="the-fork")
    assert names(path) == ["ada.workbook", "fork.workbook"]
    with Workbook.open(target) as book:
        assert book.verify().problems == ()
        book.append("note.added", {})


# --- what goes wrong ---


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
def test_nothing_is_ever_overwritten(path: Path, target: Path, make: Callable[[Path], object]) -> None:
    filled(path)
    make(target)
    with pytest.raises(FileTaken):
        fork(path, target, agent="the-fork")
    assert names(path) == ["ada.workbook", "fork.workbook"]


def test_a_fork_goes_to_where_a_link_leads(path: Path, target: Path) -> None:
    filled(path)
    target.symlink_to("elsewhere.workbook")
    fork(path, target, agent="the-fork")
    assert names(path) == ["ada.workbook", "elsewhere.workbook", "fork.workbook"]
    assert target.is_symlink()
    with pytest.raises(FileTaken, match="elsewhere"):
        fork(path, target, agent="the-fork")


@pytest.mark.parametrize("tail", ["-wal", "-journal"])
def test_the_log_of_a_lost_workbook_is_in_the_way(path: Path, target: Path, tail: str) -> None:
    """SQLite would take it for that of the new file, and bring the dead back."""
    filled(path)
    with Workbook.open(target) as book:
        for number in range(9):
            book.append("note.added", {"number": number})
        log = Path(f"{target}-wal").read_bytes() if tail == "-wal" else b"journal"
    target.unlink()
    left = Path(f"{target}{tail}")
    left.write_bytes(log)
    for make in (lambda: fork(path, target, agent="the-fork"), lambda: Workbook.open(target)):
        with pytest.raises(FileTaken, match=f"fork.workbook{tail} is there already"):
            make()
    assert names(path) == ["ada.workbook", left.name]
    left.write_bytes(b"")
    fork(path, target, agent="the-fork")
    with Workbook.open(target) as book:
        assert book.agent == "the-fork"


def test_where_there_is_no_folder_there_is_no_fork(path: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkbookMissing, match="its folder is not there"):
        fork(filled(path), tmp_path / "no" / "fork.workbook", agent="x")
    with pytest.raises(WorkbookMissing):
        fork(tmp_path / "nobody.workbook", tmp_path / "fork.workbook", agent="x")
    assert names(path) == ["ada.workbook"]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE chunks SET data = CAST('mime' AS BLOB) WHERE data = CAST('mine' AS BLOB)",
        "DELETE FROM chunks WHERE start = 65536",
        "DELETE FROM files WHERE path = '/m.txt'",
        "UPDATE memory SET content = 'the lazy cat' WHERE source = 'dog'",
        "DELETE FROM memory WHERE source = 'dog'",
        "UPDATE events SET body = '{}' WHERE kind = 'memory.kept'",
        "UPDATE chunks SET data = CAST('A BIG VALUE' AS BLOB) WHERE data = CAST('a big value' AS BLOB)",
        "DELETE FROM events WHERE seq > 3",
    ],
)
def test_a_damaged_parent_has_no_forks(path: Path, target: Path, damage: str) -> None:
    filled(path)
    with Workbook.open(path) as book:
        book.append("note.added", {"value": book.volumes.keep_value(b"a big value")})
    tamper(path, damage)
    if damage.startswith("DELETE FROM events"):
        fork(path, target, agent="the-fork")  # nobody can tell that there was more
        return
    with pytest.raises(WorkbookDamaged):
        fork(path, target, agent="the-fork")
    assert names(path) == ["ada.workbook"]


NO_ROOM = """
import resource, sys
from torpor.base.errors import StorageFull
from torpor.workbook import export, fork
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
source, target = sys.argv[1:3]
for make in (
    lambda: fork(source, target, agent="x"),
    lambda: export(source, target, with_memory=True),
    lambda: export(source, target),
):
    try:
        make()
    except StorageFull:
        print("full")
"""


@pytest.mark.parametrize("room", [0, 5_000, 60_000, 3_000_000])
def test_a_full_disk_leaves_nothing(path: Path, target: Path, room: int) -> None:
    with Workbook.open(path) as book:
        for number in range(8):
            book.write("workspace", f"/{number}", bytes([number]) * 1_000_000)
    done = subprocess.run(
        [sys.executable, "-c", NO_ROOM, str(path), str(target), str(room)],
        capture_output=True, text=True, check=False, env=ENV,
    )  # fmt: skip
    assert done.stdout.split() == ["full"] * 3, done.stderr
    assert names(path) == ["ada.workbook"]
    with Workbook.open(path) as book:
        assert book.verify().problems == ()


def test_two_can_not_make_the_same_file(path: Path, target: Path) -> None:
    filled(path)
    script = "import sys; from torpor.workbook import fork; fork(sys.argv[1], sys.argv[2], agent='second')"
    refused: list[str] = []

    def interfere(point: str) -> None:
        if point != "fork.copied":
            return
        faults.listen(None)
        with pytest.raises(WorkbookOwned, match=f"process {os.getpid()}"):
            fork(path, target, agent="second")
        with pytest.raises(WorkbookOwned):
            Workbook.open(target)
        done = subprocess.run(
            [sys.executable, "-c", script, str(path), str(target)], capture_output=True, text=True, check=False, env=ENV
        )
        refused.append(done.stderr)

    faults.listen(interfere)
    try:
        fork(path, target, agent="first")
    finally:
        faults.listen(None)
    assert "WorkbookOwned" in refused[0]
    with Workbook.open(target) as book:
        assert book.agent == "first"
        assert book.verify().problems == ()
    assert names(path) == ["ada.workbook", "fork.workbook"]


def test_who_comes_first_to_the_name_keeps_it(path: Path, target: Path) -> None:
    """Somebody without manners may make the file meanwhile."""
    filled(path)

    def interfere(point: str) -> None:
        if point == "fork.whole":
            target.write_text("mine")

    faults.listen(interfere)
    try:
        with pytest.raises(FileTaken):
            fork(path, target, agent="first")
    finally:
        faults.listen(None)
    assert target.read_text() == "mine"
    assert names(path) == ["ada.workbook", "fork.workbook"]


def test_what_a_killed_attempt_left_is_removed_by_the_next(path: Path, target: Path) -> None:
    filled(path)
    for tail in ("", "-wal", "-shm", "-journal"):
        shutil.copyfile(path, f"{target}-draft{tail}")
    fork(path, target, agent="the-fork")
    assert names(path) == ["ada.workbook", "fork.workbook"]


def test_who_holds_the_target_at_rest_may_fork_to_it(path: Path, target: Path) -> None:
    filled(path)
    with at_rest(target):
        fork(path, target, agent="the-fork")
    assert names(path) == ["ada.workbook", "fork.workbook"]


# --- effects in flight ---

WORLD: list[str] = []


@torpor.effect(on_unknown="retry")
async def post(text: str, *, key: str) -> str:
    WORLD.append(f"{text} {key}")
    await anyio.lowlevel.checkpoint()
    if text == "refuse":
        raise torpor.EffectRefused(reason="no such place")
    return text * (50_000 if text == "long" else 1)


class Poster(torpor.Agent):
    """Does something to the world."""

    @torpor.on("post")
    async def post(self, text: str) -> int:
        try:
            return len(await post(text, key=f"the {text} one"))
        except torpor.StepFailed:
            return -1


def in_flight(path: Path, text: str) -> int:
    """Make an agent that has done an effect; return the event at which that was in flight."""
    WORLD.clear()
    with Workbook.open(path) as book:
        agent = Poster(book)
        anyio.run(lambda: agent.send("post", text=text))
        return next(event.seq for event in book.events() if event.kind == "effect.intended")


def resumed(book: Workbook) -> list[Outcome]:
    return anyio.run(Poster(book).resume)


@pytest.mark.parametrize(("text", "returned"), [("short", 5), ("long", 200_000)])
def test_what_the_parent_has_done_since_is_told_and_not_done_again(
    path: Path, target: Path, text: str, returned: int
) -> None:
    point = in_flight(path, text)
    fork(path, target, agent="the-fork", at=point)
    with Workbook.open(target) as book:
        born, told = book.events(point)
        assert (born.kind, told.kind) == ("agent.born", "effect.settled")
        assert told.body["happened"] is True
        (outcome,) = resumed(book)
        assert outcome.error is None
        assert [info.state for info in runs_in(book)] == ["completed"]
        assert [event.body["result"] for event in book.events() if event.kind == "run.completed"] == [returned]
        assert book.verify().problems == ()
    assert len(WORLD) == 1, "it was done once, by the parent"


def test_what_failed_with_the_parent_is_told_too(path: Path, target: Path) -> None:
    point = in_flight(path, "refuse")
    fork(path, target, agent="the-fork", at=point)
    with Workbook.open(target) as book:
        told = list(book.events(point))[-1]
        assert (told.kind, told.body["happened"]) == ("effect.settled", False)
        resumed(book)
        assert [info.state for info in runs_in(book)] == ["completed"]


def test_what_was_done_at_the_fork_point_already_needs_no_telling(path: Path, target: Path) -> None:
    in_flight(path, "short")
    made = fork(path, target, agent="the-fork")
    with Workbook.open(target) as book:
        assert [event.kind for event in book.events(made.parent_seq or 0)] == ["agent.born"]
        assert resumed(book) == []
