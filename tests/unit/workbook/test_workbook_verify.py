"""Each invariant of SPEC.md, broken on purpose, is reported under its number. Cites INV-1 to INV-22."""

from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
from tests.unit.workbook.kit import filled, lived, tamper

from torpor.base.errors import TorporError, WorkbookDamaged
from torpor.workbook import Workbook, fork

BREAKS = [
    ("INV-1", "DELETE FROM memory WHERE source = 'dog'"),  # its alias now leads nowhere
    ("INV-1", "UPDATE files SET mode = 9999"),  # against a CHECK
    ("INV-1", "UPDATE memory SET content = CAST(x'ff41' AS TEXT)"),  # no UTF-8
    ("INV-2", "DELETE FROM meta"),
    ("INV-2", "UPDATE meta SET format = 3"),
    ("INV-2", "DROP INDEX events_span"),
    ("INV-2", "DROP VIEW runs"),
    ("INV-3", "DELETE FROM events WHERE seq = 2"),
    ("INV-4", "UPDATE events SET body = '{\"number\":9}' WHERE seq = 1"),
    ("INV-4", "UPDATE events SET time = time + 1 WHERE seq = 3"),
    ("INV-4", "UPDATE events SET hash = zeroblob(32) WHERE seq = 5"),
    ("INV-4", "UPDATE events SET span = NULL WHERE seq = 5"),
    ("INV-5", "UPDATE events SET id = (SELECT id FROM events WHERE seq = 1) WHERE seq = 2"),
    ("INV-5", "UPDATE events SET id = zeroblob(16) WHERE seq = 2"),
    ("INV-6", "UPDATE events SET body = '[1]' WHERE seq = 1"),
    ("INV-6", "UPDATE events SET body = '{}' WHERE kind = 'file.written'"),
    ("INV-6", "UPDATE events SET kind = 'Note' WHERE seq = 1"),
    ("INV-6", "UPDATE events SET body = '{\"x\":\"' || printf('%0300000d', 0) || '\"}' WHERE seq = 1"),
    ("INV-7", "UPDATE events SET parent = 0 WHERE seq = 2"),
    ("INV-7", "UPDATE events SET kind = 'step.failed', parent = 6 WHERE seq = 8"),
    ("INV-8", "UPDATE events SET kind = 'run.failed', span = 'r-1' WHERE seq = 1"),
    ("INV-9", "DELETE FROM chunks WHERE start = 65536"),
    ("INV-9", "UPDATE files SET size = size + 1 WHERE path = '/m.txt'"),
    ("INV-10", "UPDATE volumes SET used = used + 1 WHERE volume = 'workspace'"),
    ("INV-10", "UPDATE volumes SET quota = 2000000 WHERE volume = 'memory'"),
    ("INV-11", "UPDATE chunks SET data = CAST('your' AS BLOB) WHERE data = CAST('mine' AS BLOB)"),
    ("INV-11", "UPDATE files SET mode = 511 WHERE path = '/m.txt'"),
    ("INV-11", "UPDATE files SET path = '/n.txt' WHERE path = '/m.txt'"),
    ("INV-12", "UPDATE chunks SET data = CAST('A BIG VALUE' AS BLOB) WHERE data = CAST('a big value' AS BLOB)"),
    ("INV-13", "UPDATE memory SET metadata = '{\"legs\":5}' WHERE source = 'dog'"),
    ("INV-13", "UPDATE memory SET content = 'the lazy cat' WHERE source = 'dog'"),
    ("INV-13", "UPDATE memory_aliases SET alias = 'cat'"),
    ("INV-13", "UPDATE memory SET expires = 1 WHERE source = 'fox'"),
    ("INV-14", "UPDATE spend SET amount = 8"),
    ("INV-14", "DELETE FROM spend"),
    ("INV-15", "UPDATE settings SET value = '1'"),
    ("INV-15", "INSERT INTO settings VALUES ('more', 'null', 1)"),
    ("INV-16", "UPDATE events SET txn = 1 WHERE seq = 5"),
    ("INV-16", "UPDATE meta SET txn = (SELECT txn FROM events WHERE seq = 5)"),
    ("INV-17", "INSERT INTO memory_text (rowid, content) VALUES (1, 'unheard')"),
    ("INV-17", "INSERT INTO memory_text (memory_text) VALUES ('delete-all')"),
    ("INV-18", "UPDATE files SET path = '/a/../b' WHERE path = '/m.txt'"),
    ("INV-18", ("UPDATE files SET path = '/a' WHERE path = '/t.txt';"
     " INSERT INTO files (volume, path, mode, size, mtime) VALUES ('tmp', '/a/b', 420, 0, 0)")),
]  # fmt: skip

BREAKS_OF_THE_PAST = [
    ("INV-1", "UPDATE files SET grown = NULL WHERE path = '/m.txt'"),
    ("INV-1", "UPDATE rewinds SET target = event + 5"),
    ("INV-2", "DROP VIEW line"),
    ("INV-2", "DROP TABLE set_aside"),
    ("INV-6", "UPDATE events SET body = '{}' WHERE kind = 'journal.rewound'"),
    ("INV-6", "UPDATE events SET body = 'nonsense' WHERE kind = 'journal.rewound'"),
    ("INV-6", "UPDATE events SET body = '{\"to\":99}' WHERE kind = 'journal.rewound'"),
    ("INV-6", "UPDATE events SET body = '{\"to\":-1}' WHERE kind = 'journal.rewound'"),
    ("INV-8", "UPDATE events SET kind = 'run.failed', span = 'r-1', key = NULL WHERE seq = 28"),
    ("INV-9", "UPDATE files SET size = size + 1 WHERE volume = 'past'"),
    ("INV-10", "UPDATE volumes SET used = used + 1 WHERE volume = 'past'"),
    ("INV-11", "UPDATE files SET born = born - 1 WHERE volume = 'memory'"),
    ("INV-11", "UPDATE files SET grown = grown + 1 WHERE volume = 'workspace'"),
    ("INV-13", "UPDATE memory SET born = born - 1 WHERE source = 'fox'"),
    ("INV-14", "INSERT INTO spend SELECT max(seq), 'a', 'b', 'usd', 9, 'c' FROM events WHERE kind = 'spend.booked'"),
    ("INV-15", "UPDATE settings SET value = '\"cats\"'"),
    ("INV-19", "DELETE FROM rewinds"),
    ("INV-19", "UPDATE rewinds SET target = target - 1"),
    ("INV-19", "DELETE FROM set_aside"),
    ("INV-19", "UPDATE set_aside SET last = last - 1"),
    ("INV-19", "INSERT INTO set_aside VALUES (1, 2)"),
    ("INV-19", "UPDATE meta SET horizon = 999"),
    ("INV-20", "UPDATE events SET key = 'note-1' WHERE key = 'note-9'"),
    ("INV-21", "DELETE FROM files WHERE path = '/26/12/12'; DELETE FROM chunks WHERE data = CAST('mine' AS BLOB)"),
    ("INV-21", "UPDATE files SET path = '/27/12/12' WHERE path = '/26/12/12'"),
    ("INV-21", "UPDATE files SET grown = grown + 1 WHERE path = '/26/12/12'"),
    ("INV-21", ("INSERT INTO files (volume, path, mode, size, mtime, born, grown)"
     " VALUES ('past', '/20/9/9', 420, 0, 0, 9, 9)")),
    ("INV-21", "UPDATE chunks SET data = CAST('ANOTHER one' AS BLOB) WHERE data = CAST('another one' AS BLOB)"),
    ("INV-21", "UPDATE meta SET horizon = 1 + (SELECT max(retired) FROM memory_past)"),
    ("INV-21", "UPDATE memory_past SET content = 'the lazy dog' WHERE content = 'the lazy cat'"),
    ("INV-21", "UPDATE memory_past SET retired = retired + 1 WHERE content = 'the quick fox'"),
    ("INV-21", "DELETE FROM memory_past WHERE content = 'the quick fox'"),
    ("INV-21", "INSERT INTO memory_past VALUES (1, 2, 'x', NULL, NULL, 0)"),
    ("INV-22", "UPDATE meta SET parent_agent = 'somebody', parent_seq = 1"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "invariant", "statement"),
    [*((filled, *found) for found in BREAKS), *((lived, *found) for found in BREAKS_OF_THE_PAST)],
)
def test_a_broken_invariant_is_reported_under_its_number(
    tmp_path: Path, make: Callable[[Path], Path], invariant: str, statement: str
) -> None:
    path = make(tmp_path / "ada.workbook")
    tamper(path, statement)
    with Workbook.open(path) as book:  # SQLite shows a broken CHECK to those only who could have made it
        found = book.verify()
        assert invariant in {problem.invariant for problem in found.problems}
        with pytest.raises(WorkbookDamaged, match=f"{found.problems[0].invariant}: "):
            found.require()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE meta SET agent = 'somebody'",
        "UPDATE meta SET parent_agent = 'somebody'",
        "UPDATE meta SET parent_seq = parent_seq - 1",
        "UPDATE meta SET parent_agent = NULL, parent_seq = NULL",
    ],
)
def test_a_fork_with_another_identity_than_it_was_born_with_is_reported(tmp_path: Path, statement: str) -> None:
    fork(filled(tmp_path / "ada.workbook"), tmp_path / "fork.workbook", agent="the-fork")
    tamper(tmp_path / "fork.workbook", statement)
    with Workbook.open(tmp_path / "fork.workbook") as book:
        assert {problem.invariant for problem in book.verify().problems} == {"INV-22"}


def test_a_workbook_that_was_rewound_has_no_problems(tmp_path: Path) -> None:
    with Workbook.open(lived(tmp_path / "ada.workbook"), readonly=True) as book:
        found = book.verify()
        assert found.problems == ()
        assert (found.events, found.files, found.memories) == (28, 3, 2), "what is kept of the past doesn't count"


def test_what_a_rewind_set_aside_may_contradict_the_line(path: Path) -> None:
    with Workbook.open(path) as book:
        book.append("run.started", {"message": "go"}, span="r")
        intent = book.append("step.intended", {"name": "look"}, span="r")
        for kind in ("step.completed", "step.failed"):
            book.append(kind, {}, span="r", parent=intent)
            book.append("run.completed", {}, span="r", key="end")
            assert book.verify().problems == ()
            book.rewind(intent)
        assert book.journal.runs()[0][2] == "started"
        assert book.verify().problems == ()


def test_a_whole_workbook_has_no_problems_and_says_what_is_in_it(tmp_path: Path) -> None:
    path = filled(tmp_path / "ada.workbook")
    with Workbook.open(path, readonly=True) as book:
        found = book.verify()
        found.require()
        assert found.ok
        assert (found.events, found.files, found.memories) == (17, 4, 2)
        assert found.head == [event.hash for event in book.events()][-1].hex()
        assert found.agent == book.agent


def test_verify_inside_a_transaction_sees_what_is_written_so_far(path: Path) -> None:
    with Workbook.open(path) as book, book.transaction():
        book.write("workspace", "/a", b"a")
        assert book.verify().ok
        assert book.verify().events == 1


def test_verify_changes_nothing_and_leaves_no_tables_behind(path: Path) -> None:
    filled(path)
    before = path.read_bytes()
    with Workbook.open(path, readonly=True) as book:
        assert book.verify().ok
        assert book.verify().ok
    assert path.read_bytes() == before


def test_tables_of_others_in_the_file_are_left_alone(path: Path) -> None:
    filled(path)
    tamper(path, "CREATE TABLE mine (a); INSERT INTO mine VALUES (1)", checks=True)
    with Workbook.open(path) as book:
        assert book.verify().ok


@pytest.mark.parametrize("table", ["events", "spend"])
@pytest.mark.parametrize("change", ["UPDATE {} SET {} = {}", "DELETE FROM {}"])
def test_events_and_spend_are_append_only_for_every_sqlite_shell(path: Path, table: str, change: str) -> None:
    filled(path)
    column = {"events": "time", "spend": "amount"}[table]
    db = apsw.Connection(str(path))
    try:
        with pytest.raises(apsw.ConstraintError, match=f"{table}? (are|is) append-only"):
            db.execute(change.format(table, column, column))
    finally:
        db.close()


def _try_everything(path: Path) -> bool:
    """Use a workbook in every way; return whether its journal is beyond doubt."""
    with Workbook.open(path) as book:
        found = book.verify()
        list(book.events())
        for volume in ("workspace", "memory", "tmp"):
            for file in book.list(volume, recursive=True):
                book.read(volume, file.path)
        book.memory.search("dog")
        book.memory.entries()
        book.memory.get("hound")
        book.spend.balances()
        book.settings.all()
        book.branches()
        before = list(book.events())
        try:
            book.rewind(17)
        except TorporError:
            assert list(book.events()) == before, "a rewind that failed has changed something"
            raise
        return found.ok


@pytest.mark.parametrize("part", range(4))
def test_a_flipped_byte_is_a_typed_error_or_a_problem_and_never_passes_for_an_event(tmp_path: Path, part: int) -> None:
    whole = lived(tmp_path / "whole.workbook").read_bytes()
    with Workbook.open(tmp_path / "whole.workbook", readonly=True) as book:
        truth = list(book.events())
    path = tmp_path / "ada.workbook"
    places = sorted({*range(108), *range(100, len(whole), 613)})
    for place in places[part::4]:
        damaged = bytearray(whole)
        damaged[place] ^= 0x15
        path.write_bytes(damaged)
        for tail in ("-wal", "-shm"):
            Path(f"{path}{tail}").unlink(missing_ok=True)
        try:
            sound = _try_everything(path)
            with Workbook.open(path, readonly=True) as book:
                told = list(book.events())
        except TorporError as error:
            assert error.code != "TOR-001", f"byte {place}: {error!r}"  # noqa: PT017  (most places end here, not all)
            continue
        assert told[: len(truth)] == truth or not sound, f"byte {place}: events changed and nobody noticed"


def test_a_truncated_file_is_a_typed_error_at_every_length(tmp_path: Path) -> None:
    whole = filled(tmp_path / "whole.workbook").read_bytes()
    path = tmp_path / "ada.workbook"
    lengths = {0, 1, 15, 16, 17, 50, 99, 100, 101, 511, 512, 1024, 4095, len(whole) - 1, len(whole) - 4096}
    for length in sorted(lengths | set(range(4096, len(whole), 4096 * 5))):
        path.write_bytes(whole[:length])
        with pytest.raises(TorporError) as caught:
            Workbook.open(path)
        assert caught.value.code in ("TOR-205", "TOR-207"), length
        assert path.read_bytes() == whole[:length], "what is damaged is left as it is"
