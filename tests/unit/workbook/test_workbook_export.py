"""Exports: what is private doesn't leave, not even as bytes that nobody reads; a private move takes all that counts."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest
from tests.unit.workbook.kit import SetClock, filled, lived, see, tamper

from torpor.base.errors import FileTaken, PointRefused, WorkbookDamaged
from torpor.workbook import Embedding, Workbook, export, fork

PRIVATE = "canary"
PUBLIC = "public"


def word(place: str) -> str:
    """Return a word that only this place holds, long enough not to occur by chance."""
    return f"{PRIVATE}-{place}-bird"


def full_of_secrets(path: Path) -> list[str]:
    """Make a workbook with a secret in every place there is; return the secrets."""
    told: list[str] = []

    def secret(place: str) -> str:
        told.append(word(place))
        return word(place)

    with Workbook.open(path, clock=SetClock()) as book:
        book.write("workspace", "/public.txt", f"{PUBLIC} content".encode())
        book.write("workspace", "/folder/large.bin", f"{PUBLIC} bytes".encode() * 30_000, mode=0o755)
        book.write("workspace", "/replaced.txt", secret("replaced").encode() * 5000)
        book.write("workspace", "/replaced.txt", f"{PUBLIC} now".encode())
        book.write("workspace", "/shorter.txt", b"-" * 65_536 + secret("overwritten").encode() * 50)
        book.write("workspace", "/shorter.txt", b"-" * 65_536)
        book.write("workspace", f"/{secret('moved-path')}", b"public")
        book.move("workspace", f"/{word('moved-path')}", "/moved.txt")
        book.write("workspace", f"/{secret('deleted-path')}", secret("deleted").encode())
        book.delete("workspace", f"/{word('deleted-path')}")
        book.write("memory", f"/{secret('memory-path')}", secret("memory-file").encode() * 900)
        book.memory.remember(
            secret("entry"),
            kind=secret("kind"),
            source=secret("source"),
            aliases=[secret("alias")],
            metadata={secret("field"): secret("metadata")},
            embedding=Embedding(secret("model"), [1.0]),
        )
        book.memory.forget(book.memory.remember(secret("forgotten")))
        book.settings.set("tone", secret("setting"))
        book.spend.book(1, "usd", source=secret("payer"), target=secret("payee"), key=secret("booking"))
        book.append("note.added", {"text": secret("event")}, span=secret("span"), key=secret("key"))
        book.append(f"note.{PRIVATE}_kind_bird", {})
        told.append(f"{PRIVATE}_kind_bird")
        book.volumes.keep_value(secret("value").encode() * 900)
        then = book.last
        book.write("workspace", "/aside.txt", secret("set-aside").encode())
        book.rewind(then, why=secret("why"))
        abandoned = book.writer("workspace", "/half.txt")
        abandoned.write(secret("half").encode() * 100_000)
        abandoned.discard()
        book.write("tmp", f"/{secret('tmp-path')}", secret("tmp-file").encode())
        book.write("tmp", "/gone", secret("tmp-deleted").encode() * 50_000)
        book.delete("tmp", "/gone")
        told.append(book.agent)
    return told


def test_of_what_is_private_no_byte_leaves(path: Path, tmp_path: Path) -> None:
    secrets = full_of_secrets(path)
    source = path.read_bytes()
    assert [secret for secret in secrets if secret.encode() not in source] == [], "the proof that they can be found"
    target = tmp_path / "out.workbook"
    export(path, target)
    found = target.read_bytes()
    assert [secret for secret in secrets if secret.encode() in found] == []
    assert PRIVATE.encode() not in found
    assert found.count(f"{PUBLIC} ".encode()) >= 30_000
    assert sorted(tmp_path.iterdir()) == [path, target]


def test_a_fork_of_a_fork_tells_nothing_of_its_parents_when_it_is_exported(path: Path, tmp_path: Path) -> None:
    secrets = full_of_secrets(path)
    fork(path, tmp_path / "fork.workbook", agent=f"{PRIVATE}-fork")
    export(tmp_path / "fork.workbook", tmp_path / "out.workbook")
    found = (tmp_path / "out.workbook").read_bytes()
    assert [secret for secret in (*secrets, PRIVATE) if secret.encode() in found] == []


def test_an_export_is_a_whole_agent_with_the_files_of_the_workspace(path: Path, tmp_path: Path) -> None:
    with Workbook.open(path) as source:
        source.write("workspace", "/a/one.txt", b"one" * 50_000, mode=0o640)
        source.volumes.append("workspace", "/a/one.txt", b"two")
        source.write("workspace", "/empty", b"", mode=0)
        source.write("workspace", "/Zürich ☂", b"umlaut", mode=0o777)
        source.write("memory", "/m", b"m" * 50)
        source.volumes.set_quota("workspace", 7_000_000)
        source.volumes.set_quota("memory", 100)
        agent, files = source.agent, source.list("workspace", recursive=True)
    made = export(path, tmp_path / "out.workbook")
    assert made.bytes == (tmp_path / "out.workbook").stat().st_size
    with Workbook.open(tmp_path / "out.workbook") as book:
        assert book.verify().problems == ()
        assert [(file.path, file.size, file.mode) for file in book.list("workspace", recursive=True)] == [
            (file.path, file.size, file.mode) for file in files
        ]
        assert book.read("workspace", "/a/one.txt") == b"one" * 50_000 + b"two"
        assert book.volumes.usage("workspace").quota == 7_000_000
        assert book.volumes.usage("memory").quota == 4 * 1024**3
        assert (made.agent, made.seq, made.head) == (book.agent, *book.head)
        assert book.agent != agent
        assert (book.lineage, made.parent, made.parent_seq) == (None, None, None)
        assert [event.kind for event in book.events()] == ["volume.limited", *["file.written"] * 3]
        book.write("workspace", "/a/one.txt", b"changed")
        book.rewind(4)
        assert book.verify().problems == ()
        assert book.rewind(0) == 7


def test_an_empty_agent_makes_an_empty_export(path: Path, tmp_path: Path) -> None:
    Workbook.open(path).close()
    assert export(path, tmp_path / "out.workbook").seq == 0
    with Workbook.open(tmp_path / "out.workbook", readonly=True) as book:
        assert book.verify().problems == ()


def test_an_export_has_no_free_pages(path: Path, tmp_path: Path) -> None:
    full_of_secrets(path)
    for with_memory in (False, True):
        target = tmp_path / f"{with_memory}.workbook"
        export(path, target, with_memory=with_memory)
        db = apsw.Connection(str(target), flags=apsw.SQLITE_OPEN_READONLY)
        assert db.pragma("freelist_count") == 0
        db.close()


def test_an_export_while_its_owner_writes_is_of_one_moment(path: Path, tmp_path: Path) -> None:
    with Workbook.open(path) as book:
        book.write("workspace", "/a", b"a")
        with book.transaction():
            book.write("workspace", "/b", b"b")
            export(path, tmp_path / "out.workbook")
        book.verify().require()
    with Workbook.open(tmp_path / "out.workbook") as exported:
        assert [file.path for file in exported.list("workspace")] == ["/a"]


@pytest.mark.parametrize("with_memory", [False, True])
def test_nothing_is_overwritten_and_nothing_left(path: Path, tmp_path: Path, with_memory: bool) -> None:  # noqa: FBT001
    filled(path)
    target = tmp_path / "out.workbook"
    target.write_text("mine")
    with pytest.raises(FileTaken):
        export(path, target, with_memory=with_memory)
    assert target.read_text() == "mine"
    target.unlink()
    tamper(path, "DELETE FROM chunks WHERE start = 65536")
    with pytest.raises(WorkbookDamaged):
        export(path, target, with_memory=with_memory)
    assert list(tmp_path.iterdir()) == [path]


# --- private moves ---


def test_a_private_move_is_the_same_agent_without_scratch_and_what_was_retired(path: Path, tmp_path: Path) -> None:
    lived(path)
    target = tmp_path / "out.workbook"
    with Workbook.open(path, clock=SetClock()) as old:
        old.write("tmp", "/t", b"scratch")
        old.write("tmp", "/t", b"scratch again")
        counted = old._store.read_head()[2]
        made = export(path, target, with_memory=True)
        with Workbook.open(target, clock=SetClock()) as new:
            assert new.verify().problems == ()
            assert see(new) == see(old)
            columns = "SELECT * FROM events ORDER BY seq"
            assert new._store.rows(columns) == old._store.rows(columns)
            assert new.branches() == old.branches()
            meta = "SELECT agent, created, parent_agent, parent_seq FROM meta"
            assert new._store.row(meta) == old._store.row(meta)
            assert (new.agent, new.head, new.list("tmp")) == (old.agent, old.head, [])
            assert (made.agent, made.seq, made.head) == (old.agent, *old.head)
            assert new._store.read_head()[2] == counted + 1, "transactions are counted on"
            with pytest.raises(PointRefused):
                new.rewind(24)
            was = see(new)
            new.delete("workspace", "/", recursive=True)
            new.rewind(28)
            assert see(new) == was
            assert new.verify().problems == ()
    for gone in (b"scratch", b"the lazy cat", b"another one"):
        assert gone in path.read_bytes()
        assert gone not in target.read_bytes()


def test_a_fork_that_moves_keeps_its_parent(path: Path, tmp_path: Path) -> None:
    fork(filled(path), tmp_path / "fork.workbook", agent="the-fork")
    made = export(tmp_path / "fork.workbook", tmp_path / "out.workbook", with_memory=True)
    with Workbook.open(tmp_path / "out.workbook") as book:
        assert book.verify().problems == ()
        assert (book.agent, book.lineage) == ("the-fork", (made.parent, 17))


def test_an_empty_agent_can_move(path: Path, tmp_path: Path) -> None:
    with Workbook.open(path) as book:
        book.write("tmp", "/t", b"t")
        agent, counted = book.agent, book._store.read_head()[2]
    export(path, tmp_path / "out.workbook", with_memory=True)
    with Workbook.open(tmp_path / "out.workbook") as book:
        assert (book.agent, book.last) == (agent, 0)
        assert book._store.read_head()[2] == counted + 1
        assert book.verify().problems == ()
