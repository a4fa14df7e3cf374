"""The key and the file of tokens: made whole, kept private, and refused if they are not what they should be."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
from tests.unit.access.kit import lab, tamper

from torpor.access import Access, narrow, scope_of
from torpor.access.opening import APPLICATION_ID, schema_text
from torpor.base.errors import AccessDamaged, AccessFailed, JoinRefused
from torpor.testing.chance import Seeded

ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(__file__).parents[3] / part) for part in ("src", "."))}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def used(path: Path) -> str:
    """Make a home's access, and return a token of it."""
    with lab(path) as there:
        return there.issue().text


def test_what_is_made_is_for_the_nodes_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with lab(tmp_path) as there:
            there.issue()
            assert mode(there.folder) == 0o700
            assert {path.name: mode(path) for path in there.folder.iterdir()} == {
                "root.key": 0o600,
                "access.db": 0o600,
                "access.db-wal": 0o600,
                "access.db-shm": 0o600,
            }
    finally:
        os.umask(before)
    assert sorted(os.listdir(there.folder)) == ["access.db", "root.key"]


def test_key_and_tokens_are_there_again(tmp_path: Path) -> None:
    token = used(tmp_path)
    for _ in range(2):
        with lab(tmp_path) as there:
            assert there.ask(token, "node.stop").allowed


def test_the_key_comes_from_the_entropy_that_was_given(tmp_path: Path) -> None:
    found = []
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        (tmp_path / name).mkdir()
        with lab(tmp_path / name, entropy=Seeded(seed)) as there:
            found.append(there.access.public)
    assert found[0] == found[1] != found[2]


def overwritten(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def replaced_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replaced_by_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda path: path.chmod(0o640), id="its-group-may-read"),
        pytest.param(lambda path: path.chmod(0o602), id="others-may-write"),
        pytest.param(overwritten(b""), id="empty"),
        pytest.param(overwritten(b"ab" * 31 + b"\n"), id="short"),
        pytest.param(overwritten(b"ab" * 33 + b"\n"), id="long"),
        pytest.param(overwritten(b"AB" * 32 + b"\n"), id="capitals"),
        pytest.param(overwritten(b"a b" * 22), id="blanks"),
        pytest.param(overwritten(b"\xff" * 64), id="no-text"),
        pytest.param(overwritten(b"x" * 10_000_000), id="huge"),
        pytest.param(replaced_by_a_folder, id="a-folder"),
        pytest.param(replaced_by_a_pipe, id="a-pipe"),
        pytest.param(linked, id="a-link"),
        pytest.param(Path.unlink, id="gone"),
        pytest.param(overwritten(b"cd" * 32 + b"\n"), id="another"),
    ],
)
def test_a_key_that_is_not_right_opens_nothing(tmp_path: Path, harm: Callable[[Path], object]) -> None:
    used(tmp_path)
    harm(tmp_path / "access" / "root.key")
    with pytest.raises((AccessDamaged, AccessFailed)) as refusal, lab(tmp_path):
        pass
    assert "abab" not in str(refusal.value)
    assert "cdcd" not in str(refusal.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_key_of_another_user_opens_nothing(tmp_path: Path) -> None:
    used(tmp_path)
    os.chown(tmp_path / "access" / "root.key", 54_321, 54_321)
    with pytest.raises(AccessDamaged, match="belongs to user 54321"), lab(tmp_path):
        pass


def cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def of_something_else(path: Path) -> None:
    path.unlink()
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE x (y)")
    db.close()


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(overwritten(b""), id="empty"),
        pytest.param(overwritten(b"x" * 10_000), id="no-database"),
        pytest.param(of_something_else, id="of-something-else"),
        pytest.param(cut_in_half, id="cut-in-half"),
        pytest.param(linked, id="a-link"),
        pytest.param(replaced_by_a_folder, id="a-folder"),
        pytest.param(lambda path: os.link(path, path.with_name("twin")), id="two-names"),
        pytest.param(lambda path: tamper(path, "PRAGMA user_version = 2"), id="of-a-later-torpor"),
        pytest.param(lambda path: tamper(path, "DROP INDEX joins_open"), id="an-index-is-missing"),
        pytest.param(lambda path: tamper(path, "ALTER TABLE revoked ADD COLUMN x TEXT"), id="a-table-is-another"),
        pytest.param(
            lambda path: tamper(path, "CREATE TRIGGER x AFTER INSERT ON audit BEGIN DELETE FROM revoked; END"),
            id="a-trigger-of-somebody-else",
        ),
        pytest.param(lambda path: tamper(path, "UPDATE meta SET public = '00'"), id="of-another-key"),
    ],
)
def test_a_file_of_tokens_that_is_not_right_opens_nothing(tmp_path: Path, harm: Callable[[Path], object]) -> None:
    used(tmp_path)
    path = tmp_path / "access" / "access.db"
    harm(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises((AccessDamaged, AccessFailed)), lab(tmp_path):
        pass
    assert before is None or path.read_bytes() == before


def test_without_its_file_the_key_lets_nobody_in(tmp_path: Path) -> None:
    """An empty file of tokens knows nobody; what was revoked in the old one doesn't come back either."""
    token = used(tmp_path)
    (tmp_path / "access" / "access.db").unlink()
    with lab(tmp_path) as there:
        assert not there.ask(token, "agents.list").allowed
        assert not there.ask(narrow(token, scope_of(["read"]), there.access.public), "agents.list").allowed
        assert there.access.desk.first_join()


def test_a_log_without_its_file_opens_nothing(tmp_path: Path) -> None:
    used(tmp_path)
    (tmp_path / "access" / "access.db").rename(tmp_path / "access" / "access.db-wal")
    with pytest.raises(AccessDamaged, match="log"), lab(tmp_path):
        pass


def test_a_folder_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "access").symlink_to("elsewhere")
    with pytest.raises(AccessFailed), lab(tmp_path):
        pass
    assert os.listdir(tmp_path / "elsewhere") == []


def test_many_who_open_a_new_home_at_once_have_one_key(tmp_path: Path) -> None:
    source = """
import sys
from pathlib import Path
from tests.unit.access.kit import lab
sys.stdin.readline()
with lab(Path(sys.argv[1])) as there:
    print(there.access.public, there.issue().text)
"""
    with lab(tmp_path):
        pass  # the ledger has its agents
    for path in (tmp_path / "access").iterdir():
        path.unlink()
    children = [
        subprocess.Popen(
            [sys.executable, "-c", source, str(tmp_path)], env=ENV, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(4)
    ]
    said = []
    for child in children:
        assert child.stdin
        child.stdin.write(b"go\n")
        child.stdin.flush()
    for child in children:
        out, _ = child.communicate()
        assert child.returncode == 0
        said.append(out.decode().split())
    assert len({public for public, _ in said}) == 1
    with lab(tmp_path) as there:
        assert all(there.ask(token, "agents.list").allowed for _, token in said)
        assert there.access.audit.verify().seq == 4


def test_many_threads_and_processes_keep_one_audit(tmp_path: Path) -> None:
    source = """
import sys
from pathlib import Path
from tests.unit.access.kit import lab
with lab(Path(sys.argv[1])) as there:
    for _ in range(25):
        there.issue()
"""
    with lab(tmp_path) as there:
        children = [subprocess.Popen([sys.executable, "-c", source, str(tmp_path)], env=ENV) for _ in range(2)]
        threads = [threading.Thread(target=lambda: [there.issue() for _ in range(25)]) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [child.wait() for child in children] == [0, 0]
        assert there.access.audit.verify().seq == 100
        assert len(there.access.desk.tokens(there.owner("tokens.list"))) == 100


def test_a_forked_child_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        token = there.issue()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            decision = there.ask(token, "agents.list")
            os.write(writing, b"in" if decision.allowed else type(decision.error).__name__.encode())
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        assert os.read(reading, 100) == b"AccessFailed"
        os.close(reading)
        os.close(writing)
        assert there.ask(token, "agents.list").allowed
        there.issue()
        there.access.audit.verify()


def test_after_closing_everything_is_refused(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        join = there.access.desk.first_join()
        assert join
        token = there.issue()
        there.access.close()
        there.access.close()
        assert not there.ask(token, "agents.list").allowed
        with pytest.raises(AccessFailed, match="closed"):
            there.access.desk.join(join, "x", label="me")
    with lab(tmp_path) as there, pytest.raises(JoinRefused):
        there.access.desk.join("join", "x", label="me")


def test_a_home_that_is_not_there_has_no_access(tmp_path: Path) -> None:
    with lab(tmp_path) as there, pytest.raises(AccessFailed):
        Access.open(tmp_path / "nowhere", there.ledger)


def test_the_schema_is_of_this_format(tmp_path: Path) -> None:
    used(tmp_path)
    db = apsw.Connection(str(tmp_path / "access" / "access.db"))
    other = apsw.Connection(":memory:")
    other.execute(schema_text())
    schema = "SELECT type, name, sql FROM sqlite_schema ORDER BY type, name"
    assert list(db.execute(schema)) == list(other.execute(schema))
    assert (db.pragma("application_id"), db.pragma("user_version")) == (APPLICATION_ID, 1)
    db.close()
    other.close()


def test_without_the_extra_it_is_said_what_to_install(tmp_path: Path) -> None:
    source = """
import sys
from pathlib import Path
sys.modules["biscuit_auth"] = None
from tests.unit.access.kit import lab
from torpor.base.errors import ExtraMissing
try:
    with lab(Path(sys.argv[1])):
        pass
except ExtraMissing as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", source, str(tmp_path)], env=ENV, capture_output=True, text=True, check=False
    )
    assert 'pip install "torpor[node]"' in done.stdout, done.stderr
