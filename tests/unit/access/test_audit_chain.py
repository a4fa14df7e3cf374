"""The audit: whatever is changed in it is found, and whatever is put into it fits."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.access.kit import Lab, lab, tamper
from tests.unit.workbook.kit import SetClock

from torpor.access import Head
from torpor.base.errors import AccessDamaged
from torpor.base.limits import AUDIT_BODY_MAX


def fill(there: Lab, count: int = 5) -> list[Head]:
    """Add entries, and return the head after each."""
    heads = []
    for number in range(count):
        there.access.audit.note("test.noted", "uid:0", number=number)
        heads.append(there.access.audit.head())
    return heads


def test_entries_have_numbers_without_gaps_and_say_who_what_and_when(tmp_path: Path) -> None:
    clock = SetClock()
    with lab(tmp_path, clock) as there:
        assert there.access.audit.head() == Head(0, "00" * 32)
        assert there.access.audit.verify() == Head(0, "00" * 32)
        fill(there, 1203)
        entries = list(there.access.audit.entries())
        assert [entry.seq for entry in entries] == list(range(1, 1204))
        assert [entry.body["number"] for entry in entries] == list(range(1203))
        assert {(entry.kind, entry.who, entry.time) for entry in entries} == {("test.noted", "uid:0", clock.now)}
        assert [entry.seq for entry in there.access.audit.entries(after=600, limit=700)] == list(range(601, 1204))
        assert [entry.seq for entry in there.access.audit.entries(after=5, limit=2)] == [6, 7]
        assert there.access.audit.verify() == Head(1203, entries[-1].hash)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE audit SET time = time + 1 WHERE seq = 3", "entry 3"),
        ("UPDATE audit SET who = 'uid:1' WHERE seq = 3", "entry 3"),
        ("UPDATE audit SET kind = 'test.other' WHERE seq = 5", "entry 5"),
        ("UPDATE audit SET body = '{\"number\":2 }' WHERE seq = 3", "entry 3"),
        ("UPDATE audit SET hash = zeroblob(32) WHERE seq = 2", "entry 2"),
        ("DELETE FROM audit WHERE seq = 1", "entry 1 of the audit is missing"),
        ("DELETE FROM audit WHERE seq = 4", "entry 4 of the audit is missing"),
        ("UPDATE audit SET seq = -seq WHERE seq IN (2, 3)", "missing"),
        (
            "UPDATE audit SET body = (SELECT body FROM audit AS o WHERE o.seq = 5 - audit.seq) WHERE seq IN (2, 3)",
            "entry 2",
        ),
    ],
)
def test_any_change_is_found(tmp_path: Path, statement: str, said: str) -> None:
    with lab(tmp_path) as there:
        fill(there)
        path = there.folder / "access.db"
    tamper(path, statement)
    with lab(tmp_path) as there, pytest.raises(AccessDamaged, match=said):
        there.access.audit.verify()


def test_an_end_that_was_cut_off_is_found_by_a_head_that_was_kept(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        heads = fill(there)
        for head in heads:
            assert there.access.audit.verify(head) == heads[-1]
        assert there.access.audit.verify(Head(0, "00" * 32)) == heads[-1]
        path = there.folder / "access.db"
    tamper(path, "DELETE FROM audit WHERE seq > 3")
    with lab(tmp_path) as there:
        assert there.access.audit.verify(heads[1]) == heads[2]
        with pytest.raises(AccessDamaged, match="had 5 entries and has 3"):
            there.access.audit.verify(heads[4])
        there.access.audit.note("test.noted", "uid:0", number="other")
        with pytest.raises(AccessDamaged, match="entry 4 of the audit is another"):
            there.access.audit.verify(heads[3])


INSERT = "INSERT INTO audit VALUES (9, 0, 'k', 'w', '{}', zeroblob(32))"


@pytest.mark.parametrize("statement", ["UPDATE audit SET who = 'x'", "DELETE FROM audit", INSERT])
def test_the_file_itself_refuses_changes(tmp_path: Path, statement: str) -> None:
    import apsw

    with lab(tmp_path) as there:
        fill(there)
        db = apsw.Connection(str(there.folder / "access.db"))
        with pytest.raises(apsw.ConstraintError):
            db.execute(statement)
        db.close()


def test_what_strangers_send_is_cut_and_stored_whatever_it_is(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        there.access.audit.note("test.noted", "\ud800" * 5, long="x" * 10_000_000, half="a\ud800b", nul="a\0b")
        there.access.audit.note("test.noted", "x", many=["y" * 200] * 1000)
        one, two = there.access.audit.entries()
        assert one.who == "?????"
        assert (len(one.body["long"]), one.body["half"], one.body["nul"]) == (300, "a?b", "a\0b")
        assert two.body == {"left_out_bytes": 203_010}
        assert two.body["left_out_bytes"] > AUDIT_BODY_MAX
        there.access.audit.verify()
