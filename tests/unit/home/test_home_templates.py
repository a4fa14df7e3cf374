"""Templates and clones: read-only, isolated, all or none, and called something that nobody ever was."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest
from tests.unit.home.kit import check_tidy, files_of, grown, kept

from torpor.base.errors import (
    AgentUnknown,
    DurationRefused,
    StorageFailed,
    TemplateTouched,
    WorkbookReadOnly,
)
from torpor.home import Home, Step, templates
from torpor.testing import fail_at
from torpor.workbook import Workbook


def template_path(home: Home) -> Path:
    return Path(home.path) / "templates/kind.workbook"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def kind(home: Home) -> Home:
    grown(home)
    home.templates.create("kind", "ada")
    return home


def test_a_template_is_one_file_that_nobody_writes(kind: Home) -> None:
    record = kind.ledger.templates.get("kind")
    path = template_path(kind)
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert record.digest == digest(path)
    assert (record.bytes, record.parent) == (path.stat().st_size, kind.ledger.agent("ada").id)
    with pytest.raises(WorkbookReadOnly):
        Workbook.open(path)
    assert record.digest == digest(path)
    assert [row.verb for row in kind.ledger.history("kind")] == ["template"]
    check_tidy(kind)


def test_making_a_template_does_not_stop_the_agent(home: Home) -> None:
    grown(home)
    with home.using("ada") as book:
        home.templates.create("kind", "ada")
        book.append("note.added", {"and": "on"})
    with home.using("ada") as book:
        assert [event.body for event in book.events()][-1] == {"and": "on"}


def test_clones_have_all_that_the_template_has_and_an_identity_of_their_own(kind: Home) -> None:
    with kind.reading("ada") as book:
        expected = kept(book)
        journal = [(event.seq, event.hash) for event in book.events()]
    clones = kind.templates.clone("kind", tenant="Acme & Sons", count=3)
    template = kind.ledger.templates.get("kind")
    for clone in clones:
        assert (clone.state, clone.tenant, clone.template) == ("created", "Acme & Sons", "kind")
        assert (clone.parent, clone.parent_seq) == (template.id, template.seq)
        assert clone.name.startswith("acme-sons-")
        with kind.using(clone.name) as book:
            assert book.agent == clone.id
            assert kept(book) == expected
            assert [(event.seq, event.hash) for event in book.events()][: len(journal)] == journal
            assert book.verify().problems == ()
    assert len({clone.id for clone in clones} | {clone.name for clone in clones}) == 6
    assert [child.name for child in kind.ledger.children(template.id)] == [clone.name for clone in clones]
    check_tidy(kind)


def test_two_tenants_never_see_each_others_writes(kind: Home) -> None:
    before = digest(template_path(kind))
    (one,) = kind.templates.clone("kind", tenant="one")
    (two,) = kind.templates.clone("kind", tenant="two")
    with kind.using(one.name) as first, kind.using(two.name) as second:
        first.write("workspace", "/secret.txt", b"of one")
        first.memory.remember("one is one")
        second.write("memory", "/a.txt", b"of two")
        assert {found.path for found in second.list("workspace")} == {"/a.txt"}
        assert {found.path for found in first.list("memory")} == {"/m.txt"}
        assert len(second.memory.entries()) == 1
    assert digest(template_path(kind)) == before
    assert kind.ledger.templates.get("kind").digest == before


def test_clones_begin_with_the_templates_thresholds(home: Home) -> None:
    grown(home)
    home.templates.create("kind", "ada", suspend_after_s=60.0, freeze_after_s=120.0)
    (clone,) = home.templates.clone("kind", tenant="acme")
    assert (clone.suspend_after_s, clone.freeze_after_s) == (60.0, 120.0)
    own = home.new("bob", template="kind", suspend_after_s=5.0, tenant="acme")
    assert (own.name, own.suspend_after_s, own.freeze_after_s, own.tenant) == ("bob", 5.0, 120.0, "acme")
    with pytest.raises(DurationRefused):
        home.templates.create("other", "ada", suspend_after_s=0.0)
    with pytest.raises(DurationRefused):
        home.new("eve", freeze_after_s=-1.0)
    check_tidy(home)


@pytest.mark.parametrize("point", ["copy.begun", "copy.synced", "copy.placed", "clone.copied", "ledger.committing"])
def test_clones_are_made_all_or_none(kind: Home, point: str) -> None:
    before = files_of(Path(kind.path))
    trouble = StorageFailed(path="disk", reason="the test says so")
    with pytest.raises(StorageFailed), fail_at(point, trouble, 2):
        kind.templates.clone("kind", tenant="acme", count=3)
    assert files_of(Path(kind.path)) == before
    assert kind.ledger.counts()["created"] == 0
    check_tidy(kind)


def flip(path: Path) -> None:
    """Change a byte of a template in its place."""
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    path.chmod(0o444)


def test_a_template_that_is_touched_while_it_is_cloned_has_no_clones(kind: Home) -> None:
    def touch(step: Step) -> None:
        assert step.stage == "copy"
        flip(template_path(kind))

    with pytest.raises(TemplateTouched):
        kind.templates.clone("kind", tenant="acme", watch=touch)
    check_tidy(kind)


def test_a_template_in_a_restored_home_is_known_by_its_bytes(kind: Home) -> None:
    path = template_path(kind)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    path.chmod(0o444)
    assert len(kind.templates.clone("kind", tenant="acme", count=2)) == 2
    flip(path)
    with pytest.raises(TemplateTouched, match="was written to, or is another file"):
        kind.templates.clone("kind", tenant="acme")


def test_a_look_is_enough_for_a_template_that_nobody_touched(kind: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "digest_of", lambda path: pytest.fail(f"{path} was read"))
    kind.templates.clone("kind", tenant="acme", count=2)
    (record,) = kind.ledger.templates.all()
    found = (Path(kind.path) / record.file).stat()
    assert (record.mtime_ns, record.ctime_ns, record.inode) == (found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def test_no_clones_are_none(kind: Home) -> None:
    assert kind.templates.clone("kind", tenant="acme", count=0) == []


def test_who_watches_is_told_of_each_clone(kind: Home) -> None:
    steps: list[Step] = []
    kind.templates.clone("kind", tenant="acme", count=3, watch=steps.append)
    size = kind.ledger.templates.get("kind").bytes
    assert [(step.done, step.total) for step in steps] == [(size * number, size * 3) for number in (1, 2, 3)]


def test_a_dropped_template_is_gone_and_its_clones_are_not(kind: Home) -> None:
    (clone,) = kind.templates.clone("kind", tenant="acme")
    kind.templates.drop("kind")
    assert not template_path(kind).exists()
    with pytest.raises(AgentUnknown):
        kind.templates.clone("kind", tenant="acme")
    with pytest.raises(AgentUnknown):
        kind.templates.drop("kind")
    assert [row.verb for row in kind.ledger.history("kind")] == ["template", "drop"]
    with kind.using(clone.name) as book:
        assert book.verify().problems == ()
    check_tidy(kind)


def test_a_template_can_be_made_of_a_clone(kind: Home) -> None:
    (clone,) = kind.templates.clone("kind", tenant="acme")
    with kind.using(clone.name) as book:
        book.write("workspace", "/more.txt", b"more")
    kind.templates.create("next", clone.name)
    (grandchild,) = kind.templates.clone("next", tenant="acme")
    with kind.using(grandchild.name) as book:
        assert book.read("workspace", "/more.txt") == b"more"
        assert book.verify().problems == ()


@pytest.mark.parametrize("name", ["nobody", "../kind", ""])
def test_a_template_that_is_none_is_unknown(home: Home, name: str) -> None:
    for act in (lambda: home.templates.clone(name, tenant="acme"), lambda: home.new("bob", template=name)):
        with pytest.raises(AgentUnknown):
            act()
    check_tidy(home)
