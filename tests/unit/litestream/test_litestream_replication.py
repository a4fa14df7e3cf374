"""The real Litestream beside a real owner: what is at the target, what is left here, and who keeps whom from moving."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from moto.server import ThreadedMotoServer
from tests.contract.store_kit import new_bucket, serving_s3
from tests.unit.litestream.lab import CLOCK, Replicating, alive, environment, eventually, program, target
from tests.unit.litestream.program import litestream
from tests.unit.workbook.kit import lived, see, tamper

from torpor.base.errors import AgentBusy, FileTaken, LitestreamFailed, LitestreamIdle, WorkbookMissing
from torpor.litestream import Shipped, Told, Trouble, replicate, replicating, restore, stop, target_of
from torpor.workbook import Workbook, adopt, at_rest, seal
from torpor.workbook.attachment import attachment_path
from torpor.workbook.mark import put_mark

LIVED = 28
"""Events in the workbook of `lived`."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return lived(tmp_path / "ada.workbook")


def nobody(_: Told) -> None:
    """Watch nothing."""


def beside(path: Path) -> list[str]:
    return sorted(found.name for found in path.parent.iterdir() if found.name.startswith((path.name, f".{path.name}")))


def test_what_is_committed_while_it_is_replicated_comes_back(path: Path, tmp_path: Path) -> None:
    there = target(tmp_path / "there")
    told: list[Told] = []
    with (
        Workbook.open(path) as book,
        replicate(str(path), there, program(), clock=CLOCK, watch=told.append) as replication,
    ):
        for number in range(50):
            book.append("note.added", {"number": number})
        book.write("workspace", "/new.txt", b"n" * 200_000)
        book.memory.remember("Ada likes durable systems", source="urn:ada")
        head, seen = book.head, see(book)
        assert replicating(str(path)) is not None
        assert alive(replication.record.child)

    restored = restore(there, str(tmp_path / "back.workbook"), program(), clock=CLOCK)

    assert (restored.seq, restored.head) == head
    with Workbook.open(tmp_path / "back.workbook", readonly=True) as book:
        assert book.verify().ok
        assert see(book) == seen
    assert not any(isinstance(one, Trouble) for one in told)
    assert {one.what for one in told if isinstance(one, Shipped)} == {"snapshot", "changes"}


def test_it_has_begun_only_when_the_workbook_is_there(path: Path, tmp_path: Path) -> None:
    there = target(tmp_path / "there")
    with (
        Workbook.open(path) as book,
        replicate(str(path), there, program(), clock=CLOCK, watch=nobody),
    ):
        restored = restore(there, str(tmp_path / "back.workbook"), program(), clock=CLOCK)

        assert (restored.agent, restored.seq) == (book.agent, book.last)


def test_afterwards_the_workbook_is_one_file(path: Path, tmp_path: Path) -> None:
    with replicate(str(path), target(tmp_path / "there"), program(), clock=CLOCK, watch=nobody):
        with Workbook.open(path) as book:
            book.append("note.added", {})
        assert f"{path.name}-wal" in beside(path), "the owner can't remove a log that Litestream reads"

    assert beside(path) == [path.name]
    with Workbook.open(path, readonly=True) as book:
        assert (book.last, book.verify().problems) == (LIVED + 1, ())


def test_the_owner_tidies_up_where_it_is_the_last(path: Path, tmp_path: Path) -> None:
    with Workbook.open(path) as book:
        with replicate(str(path), target(tmp_path / "there"), program(), clock=CLOCK, watch=nobody):
            book.append("note.added", {})
        book.append("note.added", {})

    assert beside(path) == [path.name]


def test_meanwhile_nobody_moves_the_workbook(path: Path, tmp_path: Path) -> None:
    with replicate(str(path), target(tmp_path / "there"), program(), clock=CLOCK, watch=nobody):
        with pytest.raises(AgentBusy, match=r"Litestream .* replicates it to file://"), at_rest(path):
            pass
        with Workbook.open(path) as book:
            book.append("note.added", {})
    with at_rest(path) as rest:
        assert rest.look().seq == LIVED + 1


def test_what_somebody_is_moving_is_not_replicated(path: Path, tmp_path: Path) -> None:
    there = target(tmp_path / "there")
    with (
        at_rest(path),
        pytest.raises(AgentBusy),
        replicate(str(path), there, program(), clock=CLOCK, watch=nobody),
    ):
        pass

    assert beside(path) == [path.name]
    assert list((tmp_path / "there").iterdir()) == []


MOVER = """
import sys
from torpor.workbook import at_rest
with at_rest(sys.argv[1]):
    print("moving", flush=True)
    sys.stdin.read()
"""


def test_what_another_process_is_moving_is_not_replicated(path: Path, tmp_path: Path) -> None:
    there = target(tmp_path / "there")
    words = [sys.executable, "-c", MOVER, str(path)]
    with subprocess.Popen(words, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as mover:
        assert mover.stdout is not None
        mover.stdout.readline()
        with (
            pytest.raises(AgentBusy, match=f"process {mover.pid} .* is about to copy, move or remove"),
            replicate(str(path), there, program(), clock=CLOCK, watch=nobody),
        ):
            pass
        assert beside(path) == [path.name, f"{path.name}-owner"]
        mover.communicate()


def test_a_workbook_is_replicated_once(path: Path, tmp_path: Path) -> None:
    there = target(tmp_path / "there")
    with (
        replicate(str(path), there, program(), clock=CLOCK, watch=nobody),
        pytest.raises(AgentBusy, match="replicates it"),
        replicate(str(path), target(tmp_path / "other"), program(), clock=CLOCK, watch=nobody),
    ):
        pass


def test_a_template_is_refused_and_left_as_it_is(path: Path, tmp_path: Path) -> None:
    adopt(str(path), agent="0190b6a0-0000-7000-8000-000000000001", parent="x", parent_seq=1, how="clone")
    seal(str(path))
    before = path.read_bytes()
    with (
        pytest.raises(Exception, match="template"),
        replicate(str(path), target(tmp_path / "there"), program(), clock=CLOCK, watch=nobody),
    ):
        pass

    assert path.read_bytes() == before
    assert beside(path) == [path.name]


def test_a_workbook_whose_commits_a_heartbeat_keeps_is_refused(path: Path, tmp_path: Path) -> None:
    put_mark(str(path), "/srv/agents")
    with (
        pytest.raises(AgentBusy, match="the heartbeat of /srv/agents keeps its commits"),
        replicate(str(path), target(tmp_path / "there"), program(), clock=CLOCK, watch=nobody),
    ):
        pass

    assert "_litestream_seq" not in path.read_bytes().decode("latin-1")


def test_where_nothing_arrives_it_is_given_up_with_what_litestream_says(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torpor.litestream.replication.PATIENCE_S", 0.5)
    keys = {"AWS_ENDPOINT": "http://127.0.0.1:9", "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "k"}
    keys |= {"AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1"}
    nowhere = target_of("s3://bucket/ada", {**os.environ, **keys}, program().version)
    with (
        pytest.raises(LitestreamFailed, match="connection refused") as failed,
        replicate(str(path), nowhere, program(), clock=CLOCK, watch=nobody),
    ):
        pass

    assert failed.value.lines
    assert beside(path) == [path.name]


def test_a_workbook_that_is_taken_away_ends_it(path: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(WorkbookMissing, match="moved, removed or replaced"),
        replicate(str(path), target(tmp_path / "there"), program(), clock=CLOCK, watch=nobody) as replication,
    ):
        path.rename(tmp_path / "elsewhere")
        replication.follow(nobody)

    assert not alive(replication.record.child)


# --- owners in processes of their own


def test_the_owner_killed_litestream_is_gone_too(path: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    with Replicating(str(path), there.as_uri(), cwd=tmp_path) as owner:
        assert alive(owner.litestream)
        owner.process.kill()
        owner.process.wait()

        eventually(lambda: not alive(owner.litestream))
    assert Path(attachment_path(str(path))).exists(), "a killed owner removes nothing"
    assert replicating(str(path)) is None
    with at_rest(path) as rest:
        assert rest.look().seq == LIVED
    assert beside(path) == [path.name]


def attach_again(path: Path, there: Path) -> None:
    with replicate(str(path), target(there), program(), clock=CLOCK, watch=nobody):
        pass


def bring_to_rest(path: Path, _: Path) -> None:
    with at_rest(path):
        pass


@pytest.mark.parametrize("finds_it", [attach_again, bring_to_rest, lambda path, _: replicating(str(path))])
def test_what_a_killed_owner_left_is_removed_by_whoever_finds_it(
    path: Path, tmp_path: Path, finds_it: Callable[[Path, Path], object]
) -> None:
    there, temporary = tmp_path / "there", tmp_path / "temporary"
    there.mkdir()
    temporary.mkdir()
    with Replicating(str(path), there.as_uri(), cwd=tmp_path, env={"TMPDIR": str(temporary)}) as owner:
        owner.process.kill()
        owner.process.wait()
        eventually(lambda: not alive(owner.litestream))
    assert len(list(temporary.iterdir())) == 1

    finds_it(path, there)

    assert list(temporary.iterdir()) == []
    assert f"{path.name}-attached" not in beside(path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_orderly_end_sends_what_is_left(path: Path, tmp_path: Path, number: signal.Signals) -> None:
    there = tmp_path / "there"
    there.mkdir()
    with Replicating(str(path), there.as_uri(), cwd=tmp_path) as owner:
        with Workbook.open(path) as book:
            head = (book.append("note.added", {"text": "at the last"}), book.head[1])
        owner.process.send_signal(number)
        assert owner.ended() == (0, "")
        assert not alive(owner.litestream)

    restored = restore(target(there), str(tmp_path / "back.workbook"), program(), clock=CLOCK)

    assert (restored.seq, restored.head) == head
    assert beside(path) == [path.name]


def test_stop_ends_another_process_replication_and_sends_what_is_left(path: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    with Replicating(str(path), there.as_uri(), cwd=tmp_path) as owner:
        with Workbook.open(path) as book:
            seq = book.append("note.added", {"text": "at the last"})

        found = stop(str(path))

        assert found.child == owner.litestream
        assert owner.ended() == (0, "")
    assert restore(target(there), str(tmp_path / "back.workbook"), program(), clock=CLOCK).seq == seq
    with pytest.raises(LitestreamIdle):
        stop(str(path))
    assert beside(path) == [path.name]


def test_litestream_killed_the_owner_says_so(path: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    with Replicating(str(path), there.as_uri(), cwd=tmp_path) as owner:
        os.kill(owner.litestream, signal.SIGKILL)
        code, err = owner.ended()

    assert (code, "TOR-832" in err) == (1, True)
    assert beside(path) == [path.name]


def test_to_s3_and_back(path: Path, tmp_path: Path) -> None:
    with serving_s3() as address:
        url = f"s3://{new_bucket(address)}/agents/ada"
        keys = {"AWS_ENDPOINT": address, "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "k"}
        keys |= {"AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1"}
        there = target_of(url, {**os.environ, **keys}, program().version)
        with (
            Workbook.open(path) as book,
            replicate(str(path), there, program(), clock=CLOCK, watch=nobody),
        ):
            seq = book.append("note.added", {"text": "to S3"})

        restored = restore(there, str(tmp_path / "back.workbook"), program(), clock=CLOCK)

        assert restored.seq == seq


@contextmanager
def serving_again(address: str) -> Iterator[None]:
    """Run the S3 server of this process once more at an address that it had."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=urlsplit(address).port or 0, verbose=False)
    server.start()
    try:
        yield
    finally:
        server.stop()


class EnoughError(Exception):
    """Ends the watching."""


def until(kind: type[Told]) -> Callable[[Told], None]:
    def watch(told: Told) -> None:
        if isinstance(told, kind):
            raise EnoughError

    return watch


def test_a_store_that_is_away_for_a_while_is_trouble_and_then_caught_up_with(path: Path, tmp_path: Path) -> None:
    with serving_s3() as address:  # what is in it stays in this process when it ends
        bucket = new_bucket(address)
    keys = {"AWS_ENDPOINT": address, "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "k"}
    keys |= {"AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1"}
    there = target_of(f"s3://{bucket}/ada", {**os.environ, **keys}, program().version)
    with ExitStack() as stay:
        with serving_again(address):
            book = stay.enter_context(Workbook.open(path))
            replication = stay.enter_context(replicate(str(path), there, program(), clock=CLOCK, watch=nobody))
        book.append("note.added", {"text": "while the store is away"})
        with pytest.raises(EnoughError):
            replication.follow(until(Trouble))
        found = replicating(str(path))
        assert found is not None
        assert "connection refused" in found.trouble
        stay.enter_context(serving_again(address))
        book.append("note.added", {"text": "it tries again when there is something new, or after a minute"})
        with pytest.raises(EnoughError):
            replication.follow(until(Shipped))
        assert replication.record.trouble == ""
        replication.end(nobody)

        restored = restore(there, str(tmp_path / "back.workbook"), program(), clock=CLOCK)

        assert restored.seq == book.last == LIVED + 2


# --- restoring


@pytest.fixture
def sent(path: Path, tmp_path: Path) -> Path:
    """Return the folder to which the workbook was sent."""
    with replicate(str(path), target(tmp_path / "there"), program(), clock=CLOCK, watch=nobody):
        pass
    return tmp_path / "there"


def test_nothing_is_restored_over_a_file(path: Path, sent: Path) -> None:
    before = path.read_bytes()

    with pytest.raises(FileTaken):
        restore(target(sent), str(path), program(), clock=CLOCK)

    assert path.read_bytes() == before


def test_nothing_is_restored_beside_the_log_of_another(sent: Path, tmp_path: Path) -> None:
    (tmp_path / "back.workbook-wal").write_bytes(b"a log")

    with pytest.raises(FileTaken, match=r"back\.workbook-wal"):
        restore(target(sent), str(tmp_path / "back.workbook"), program(), clock=CLOCK)


def test_nothing_is_there_to_restore(tmp_path: Path) -> None:
    with pytest.raises(LitestreamFailed, match=r"restore from file://"):
        restore(target(tmp_path / "empty"), str(tmp_path / "back.workbook"), program(), clock=CLOCK)

    assert sorted(found.name for found in tmp_path.iterdir()) == ["empty"]


def test_what_is_damaged_never_gets_the_name(sent: Path, tmp_path: Path) -> None:
    (snapshot,) = (found for found in sent.rglob("*") if "snapshot" in found.name and found.is_file())
    data = bytearray(snapshot.read_bytes())
    data[len(data) // 2] ^= 0xFF
    snapshot.write_bytes(data)

    with pytest.raises(Exception, match=r"TOR-(832|2\d\d)"):
        restore(target(sent), str(tmp_path / "back.workbook"), program(), clock=CLOCK)

    assert [found.name for found in tmp_path.iterdir() if found.name.startswith("back")] == []


def test_a_workbook_that_breaks_a_promise_never_gets_the_name(path: Path, tmp_path: Path) -> None:
    tamper(path, "UPDATE events SET body = '{}' WHERE seq = 2")
    there = target(tmp_path / "there")
    with replicate(str(path), there, program(), clock=CLOCK, watch=nobody):
        pass

    with pytest.raises(Exception, match="INV-4"):
        restore(there, str(tmp_path / "back.workbook"), program(), clock=CLOCK)

    assert [found.name for found in tmp_path.iterdir() if found.name.startswith("back")] == []


def test_the_program_is_the_real_one() -> None:
    assert program().version >= (0, 3, 13)
    assert Path(litestream()).stat().st_size > 1_000_000
