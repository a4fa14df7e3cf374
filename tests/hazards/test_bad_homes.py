"""Homes in which something is not as it should be: a typed error, and never an empty or an older agent."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest
from moto.server import ThreadedMotoServer
from tests.unit.home.kit import DAY, HOUR, brought, check_tidy, files_of, grown, open_home
from tests.unit.workbook.kit import NOW, SetClock, filled

from torpor.base.errors import (
    AgentAsleep,
    AgentBusy,
    AgentSwapped,
    AgentUnknown,
    CopyDamaged,
    CopyMissing,
    FileTaken,
    HomeRefused,
    ImportRefused,
    LedgerDamaged,
    MoveRefused,
    NameRefused,
    NameTaken,
    NotAWorkbook,
    StoreRefused,
    StoreUnreachable,
    TemplateTouched,
    TorporError,
    WorkbookMissing,
)
from torpor.home import Home, Options, Step
from torpor.lifecycle import EDGES, STATES, State
from torpor.workbook import Workbook

ROOT: Final = Path(__file__).parents[2]


def cold_copy(home: Home, name: str = "ada") -> Path:
    record = home.ledger.agent(name)
    place = record.cold or record.archive
    assert place is not None
    return Path(home.path) / place.replace("#", "/")


def live(home: Home, name: str = "ada") -> Path:
    return Path(home.path) / "agents" / f"{name}.workbook"


# --- the folder ---


def test_looking_for_a_home_makes_none(tmp_path: Path) -> None:
    with pytest.raises(HomeRefused, match="there is none"):
        Home.open(tmp_path / "home", create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["\0", "a" * 300, "file/home"])
def test_no_home_can_be_in_a_place_that_is_none(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("a file")
    with pytest.raises(HomeRefused):
        Home.open(f"{tmp_path}/{path}")


def test_a_file_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(HomeRefused, match="no folder"):
        Home.open(tmp_path / "home")
    assert (tmp_path / "home").read_text() == "a file"


def test_a_home_that_lost_its_ledger_is_not_made_anew(tmp_path: Path) -> None:
    with open_home(tmp_path) as home:
        grown(home)
    (tmp_path / "ledger.db").unlink()
    with pytest.raises(HomeRefused, match=r"1 workbooks in agents/, but no ledger\.db"):
        Home.open(tmp_path)
    assert files_of(tmp_path) == {"agents/ada.workbook"}


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100])
def test_a_home_whose_ledger_is_something_else_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    with open_home(tmp_path) as home:
        grown(home)
    (tmp_path / "ledger.db").write_bytes(content)
    with pytest.raises(LedgerDamaged):
        Home.open(tmp_path)
    assert (tmp_path / "ledger.db").read_bytes() == content


@pytest.mark.parametrize("url", ["ftp://cold", "s3://", "../cold", "file://host/cold", ""])
def test_an_address_that_means_no_store_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(StoreRefused):
        Home.open(tmp_path, cold=url)
    with pytest.raises(StoreRefused):
        Home.open(tmp_path, archive=url)


def test_a_closed_home_says_so(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    home.new("ada")
    home.close()
    home.close()
    with pytest.raises(TorporError, match="closed"):
        home.wake("ada")


def test_a_home_can_be_moved_while_its_agents_sleep(tmp_path: Path) -> None:
    with open_home(tmp_path / "old") as home:
        grown(home, "ada", "suspended")
        grown(home, "bob", "frozen")
        grown(home, "eve", "archived")
    (tmp_path / "old").rename(tmp_path / "new")
    with open_home(tmp_path / "new") as home:
        for name in ("ada", "bob", "eve"):
            with home.using(name) as book:
                assert book.read("workspace", "/a.txt") == name.encode() * 1000
        check_tidy(home)


# --- edges and names ---


MOVES: Final[dict[State, Callable[[Home], Any]]] = {
    "active": lambda home: home.wake("ada"),
    "suspended": lambda home: home.suspend("ada"),
    "frozen": lambda home: home.freeze("ada"),
    "archived": lambda home: home.archive("ada"),
    "deleted": lambda home: home.delete("ada"),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("asked", MOVES)
def test_a_move_is_made_along_an_edge_or_refused_with_those_that_there_are(
    tmp_path: Path, state: State, asked: State
) -> None:
    with open_home(tmp_path) as home:
        if state == "created":
            home.new("ada")
        else:
            grown(home, "ada", state)
    with open_home(tmp_path) as home:
        before, files = home.ledger.agent("ada"), files_of(tmp_path)
        if asked in EDGES[state] or (asked, state) == ("active", "active"):
            MOVES[asked](home)
            assert home.ledger.agent("ada").state == asked
        elif asked == state:
            assert MOVES[asked](home).skipped
            assert (home.ledger.agent("ada"), files_of(tmp_path)) == (before, files)
        else:
            with pytest.raises(MoveRefused) as refused:
                MOVES[asked](home)
            assert all(edge in refused.value.legal for edge in EDGES[state])
            assert (home.ledger.agent("ada"), files_of(tmp_path)) == (before, files)


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "a\0b", "x" * 4096, "🐈", "", "-x", "ada\n", ".", "a.b", "a b", "\u017f"]
)
def test_hostile_names_are_refused_and_make_nothing(tmp_path: Path, name: str) -> None:
    with open_home(tmp_path) as home:
        grown(home)
        before = files_of(tmp_path)
        for make in (
            lambda: home.new(name),
            lambda: home.fork("ada", new=name),
            lambda: home.templates.create(name, "ada"),
            lambda: home.import_(live(home), name),
        ):
            with pytest.raises(NameRefused):
                make()
        for look in (home.wake, home.suspend, home.delete, home.templates.drop):
            with pytest.raises(AgentUnknown):
                look(name)
        assert files_of(tmp_path) == before


def test_names_are_given_once_whatever_their_case_and_for_ever(tmp_path: Path) -> None:
    with open_home(tmp_path) as home:
        grown(home, "ada", "deleted")
        grown(home, "Bob")
        home.templates.create("kind", "Bob")
        for name in ("ada", "ADA", "bob", "BOB", "Kind"):
            for make in (
                lambda name=name: home.new(name),
                lambda name=name: home.fork("Bob", new=name),
                lambda name=name: home.templates.create(name, "Bob"),
            ):
                with pytest.raises(NameTaken):
                    make()
        home.templates.drop("kind")
        with pytest.raises(NameTaken):
            home.new("KIND")
        check_tidy(home)


@pytest.mark.parametrize("tenant", ["", " ", "a\nb", "\0", "x" * 500])
def test_hostile_tenants_are_refused(tmp_path: Path, tenant: str) -> None:
    with open_home(tmp_path) as home:
        grown(home)
        home.templates.create("kind", "ada")
        with pytest.raises(NameRefused):
            home.templates.clone("kind", tenant=tenant)
        if tenant:
            with pytest.raises(NameRefused):
                home.new("bob", tenant=tenant)
        check_tidy(home)


def test_a_tenant_may_be_called_anything_and_its_clones_are_called_something_safe(tmp_path: Path) -> None:
    with open_home(tmp_path) as home:
        grown(home)
        home.templates.create("kind", "ada")
        for tenant in ("../../etc/passwd", "ACME, Inc.", "🐈", "Zoë", "-rf"):
            (clone,) = home.templates.clone("kind", tenant=tenant)
            assert clone.tenant == tenant
            assert Path(home.path, clone.file).parent == tmp_path / "agents"
        check_tidy(home)


# --- copies ---


def missing(copy: Path, _: Path) -> None:
    copy.unlink()


def truncated(copy: Path, _: Path) -> None:
    os.truncate(copy, copy.stat().st_size - 4096)


def emptied(copy: Path, _: Path) -> None:
    os.truncate(copy, 0)


def swapped(copy: Path, other: Path) -> None:
    shutil.copyfile(other, copy)


def altered(copy: Path, _: Path) -> None:
    with copy.open("r+b") as file:
        file.seek(copy.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("state", ["frozen", "archived"])
@pytest.mark.parametrize("harm", [missing, truncated, emptied, swapped, altered])
def test_a_copy_that_is_not_what_was_put_there_wakes_nobody(
    tmp_path: Path, state: str, harm: Callable[[Path, Path], None]
) -> None:
    with open_home(tmp_path) as home:
        grown(home, "ada", state)
        grown(home, "bob", state)
        copy = cold_copy(home)
        good = copy.read_bytes()
        harm(copy, cold_copy(home, "bob"))
        before = home.ledger.agent("ada")
        for move in (home.wake, home.prefetch, home.archive) if state == "frozen" else (home.wake,):
            with pytest.raises(CopyMissing if harm is missing else CopyDamaged):
                move("ada")
        assert home.ledger.agent("ada") == before
        assert not live(home).exists()
        assert home.ledger.leftovers() == []
        copy.write_bytes(good)
        with home.using("ada") as book:
            assert book.read("workspace", "/a.txt") == b"ada" * 1000


def test_a_copy_of_an_earlier_freeze_wakes_nobody(tmp_path: Path) -> None:
    with open_home(tmp_path) as home:
        grown(home, "ada", "frozen")
        old = cold_copy(home).read_bytes()
        with home.using("ada") as book:
            book.append("note.added", {"later": True})
        home.suspend("ada")
        home.freeze("ada")
        cold_copy(home).write_bytes(old)
        with pytest.raises(CopyDamaged):
            home.wake("ada")
        assert not live(home).exists()


def old_file(home: Home) -> bytes:
    """Return the agent's file as it was before its newest event; the agent is suspended."""
    grown(home, "ada", "suspended")
    old = live(home).read_bytes()
    with home.using("ada") as book:
        book.append("note.added", {"later": True})
    home.suspend("ada")
    return old


def others_file(home: Home) -> bytes:
    """Return another agent's file."""
    grown(home, "ada", "suspended")
    grown(home, "bob", "suspended")
    return live(home, "bob").read_bytes()


def strayed_file(home: Home) -> bytes:
    """Return a file of the agent that went on by another way."""
    grown(home, "ada", "suspended")
    copy = live(home).with_name("elsewhere")
    shutil.copyfile(live(home), copy)
    with home.using("ada") as book:
        book.append("note.added", {"here": True})
    home.suspend("ada")
    with Workbook.open(copy) as book:
        for number in range(5):
            book.append("note.added", {"there": number})
    strayed = copy.read_bytes()
    copy.unlink()
    return strayed


@pytest.mark.parametrize("state", ["suspended", "frozen", "archived"])
@pytest.mark.parametrize("other", [old_file, others_file, strayed_file])
def test_a_file_that_is_not_the_agent_as_it_was_left_is_refused_and_left_alone(
    tmp_path: Path, state: str, other: Callable[[Home], bytes]
) -> None:
    with open_home(tmp_path) as home:
        wrong = other(home)
        if state == "frozen":
            home.freeze("ada")
        if state == "archived":
            home.wake("ada")
            home.archive("ada")
        live(home).write_bytes(wrong)
        before = home.ledger.agent("ada")
        moves: list[Callable[[], Any]] = [lambda: home.wake("ada"), lambda: home.reading("ada").__enter__()]
        if state != "archived":
            moves += [lambda: home.freeze("ada"), lambda: home.fork("ada"), lambda: home.templates.create("t", "ada")]
        if state == "frozen":
            moves += [lambda: home.archive("ada"), lambda: home.prefetch("ada")]
        for move in moves:
            with pytest.raises(AgentSwapped):
                move()
        assert home.ledger.agent("ada") == before
        assert live(home).read_bytes() == wrong
    with open_home(tmp_path) as home:
        assert live(home).read_bytes() == wrong
        assert home.ledger.agent("ada") == before


def test_an_active_agents_file_that_is_gone_makes_no_empty_agent(tmp_path: Path) -> None:
    with open_home(tmp_path) as home:
        for name, state in (("ada", "active"), ("bob", "suspended")):
            grown(home, name, state)
    (tmp_path / "agents/ada.workbook").unlink()
    (tmp_path / "agents/bob.workbook").unlink()
    with open_home(tmp_path) as home:
        for name in ("ada", "bob"):
            for act in (
                lambda name=name: home.wake(name),
                lambda name=name: home.reading(name).__enter__(),
                lambda name=name: home.fork(name),
            ):
                with pytest.raises(CopyMissing):
                    act()
            assert not live(home, name).exists()
        with pytest.raises(CopyMissing):
            home.suspend("ada")
        with pytest.raises(CopyMissing):
            home.archive("ada")
        with pytest.raises(CopyMissing):
            home.freeze("bob")
        assert home.ledger.leftovers() == []


def test_an_emptied_file_is_no_agent(tmp_path: Path) -> None:
    with open_home(tmp_path) as home:
        grown(home, "ada", "suspended")
        live(home).write_bytes(b"")
        for move in (home.wake, home.freeze):
            with pytest.raises(NotAWorkbook):
                move("ada")
        assert live(home).read_bytes() == b""


def test_a_fetched_copy_that_somebody_went_on_with_is_not_thrown_away(tmp_path: Path) -> None:
    with open_home(tmp_path) as home:
        grown(home, "ada", "frozen")
        home.prefetch("ada")
        with Workbook.open(live(home)) as book:
            book.append("note.added", {"by": "somebody"})
        with pytest.raises(AgentSwapped, match="goes on to event"):
            home.freeze("ada")
        with home.using("ada") as book:
            assert [event.body for event in book.events()][-1] == {"by": "somebody"}
        check_tidy(home)


def test_a_file_in_the_place_of_a_new_agent_is_not_replaced(tmp_path: Path) -> None:
    with open_home(tmp_path) as home:
        grown(home)
        home.templates.create("kind", "ada")
        stranger = live(home, "bob")
        stranger.write_bytes(b"a stranger's")
        with pytest.raises(FileTaken):
            home.new("bob")
        with pytest.raises(FileTaken):
            home.new("bob", template="kind")
        with pytest.raises(FileTaken):
            home.fork("ada", new="bob")
        assert stranger.read_bytes() == b"a stranger's"
        assert home.ledger.leftovers() == []


def test_a_strangers_file_where_a_frozen_agents_belongs_is_not_replaced(tmp_path: Path) -> None:
    with open_home(tmp_path) as home:
        grown(home, "ada", "frozen")
        live(home).write_bytes(b"a stranger's" * 100)
        for move in (home.wake, home.prefetch, home.archive):
            with pytest.raises(NotAWorkbook):
                move("ada")
        assert live(home).read_bytes() == b"a stranger's" * 100
        live(home).unlink()
        assert home.wake("ada").how == "cold"


# --- stores and devices ---


def bucket(address: str) -> dict[str, Any]:
    """Return settings of a home whose cold store is a bucket behind an address."""
    config = {
        "endpoint": address,
        "access_key_id": "nobody",
        "secret_access_key": "nothing",
        "region": "us-east-1",
    }
    options = Options(config=config, allow_http=True, connect_s=0.5, retries=0, retry_s=0.1)
    return {"cold": "s3://cold-store/agents", "options": options}


SERVERS: Final[dict[str, ThreadedMotoServer]] = {}


@contextmanager
def server(port: int = 0) -> Iterator[str]:
    """Serve the bucket, and give the address."""
    found = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    found.start()
    log = logging.getLogger("werkzeug")
    level = log.level
    log.setLevel(logging.ERROR)  # otherwise a line for each request
    host, taken = found.get_host_and_port()
    address = f"http://{host}:{taken}"
    with suppress(urllib.error.HTTPError):
        urllib.request.urlopen(urllib.request.Request(f"{address}/cold-store", method="PUT")).close()  # noqa: S310
    SERVERS[address] = found
    try:
        yield address
    finally:
        found.stop()
        log.setLevel(level)


def test_a_store_that_does_not_answer_loses_nothing(tmp_path: Path) -> None:
    with server() as silent:
        """Nobody is there any more."""
    with open_home(tmp_path) as home:
        grown(home, "ada", "suspended")
    with open_home(tmp_path, **bucket(silent)) as home:
        before = home.ledger.agent("ada")
        with pytest.raises(StoreUnreachable):
            home.freeze("ada")
        assert home.ledger.agent("ada") == before
        assert home.ledger.leftovers() != []  # whether the object is there can't be known
        with home.using("ada") as book:
            assert book.read("workspace", "/a.txt") == b"ada" * 1000
        home.suspend("ada")
        assert home.tick().removed == ()
    with open_home(tmp_path) as home:
        home.freeze("ada")
        assert home.ledger.agent("ada").state == "frozen"


def test_a_store_that_falls_silent_half_way_loses_nothing(tmp_path: Path) -> None:
    with server() as address, open_home(tmp_path, **bucket(address)) as home:
        home.new("ada")
        with home.using("ada") as book:
            book.write("workspace", "/big.bin", b"big" * 4_000_000)
        home.suspend("ada")
        before = home.ledger.agent("ada")
        silenced = ExitStack()

        def watch(step: Step) -> None:
            if step.done > step.total // 2:
                silenced.close()

        silenced.callback(SERVERS[address].stop)
        with pytest.raises(StoreUnreachable):
            home.freeze("ada", watch=watch)
        assert home.ledger.agent("ada") == before
        (leftover,) = home.ledger.leftovers()
        assert home.tick().removed == ()
        with home.using("ada") as book:
            assert book.stat("workspace", "/big.bin").size == 12_000_000
            assert book.verify().problems == ()
        home.suspend("ada")
        with server(int(address.rpartition(":")[2])):
            assert home.tick().removed == (leftover.place,)
            home.freeze("ada")
            assert home.wake("ada").how == "cold"
        assert home.ledger.leftovers() == []


def test_a_process_memory_ends_with_it_and_says_so(tmp_path: Path) -> None:
    script = (
        "import sys; from torpor.home import Home\n"
        "with Home.open(sys.argv[1], cold='memory://cold') as home:\n"
        "    home.new('ada'); home.wake('ada'); home.suspend('ada'); home.freeze('ada')"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path], check=True, env={"PYTHONPATH": str(ROOT / "src")})
    with open_home(tmp_path) as home, pytest.raises(CopyMissing):
        home.wake("ada")
    assert files_of(tmp_path) == {"ledger.db"}


FULL: Final = """
import json, resource, signal, sys
from torpor.base.errors import StorageFull, TorporError
from torpor.home import Home
folder, limit = sys.argv[1], int(sys.argv[2])
said = {}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Home.open(folder) as home:
    for move in ("freeze bob", "wake eve", "prefetch eve", "archive ada", "fork ada", "clone", "template", "export"):
        verb, _, name = move.partition(" ")
        before = {record.name: record for record in home.ledger.agents()}
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            match verb:
                case "clone": home.templates.clone("kind", tenant="acme", count=3)
                case "template": home.templates.create("other", "ada")
                case "export": home.export("ada", folder + "/out.workbook")
                case _: getattr(home, verb)(name)
            said[move] = "done"
        except TorporError as error:
            said[move] = type(error).__name__
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert before == {record.name: record for record in home.ledger.agents()}, move
        assert home.ledger.leftovers() == [], move
print(json.dumps(said))
"""


def test_a_full_device_loses_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    with open_home(tmp_path) as home:
        for name, state in (("ada", "active"), ("bob", "suspended"), ("eve", "frozen")):
            home.new(name)
            with home.using(name) as book:
                book.write("workspace", "/big.bin", os.urandom(600_000))
            brought(home, name, state)
        home.templates.create("kind", "ada")
    before = files_of(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path, "400000"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT / "src")},
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout).values()) == {"StorageFull"}
    assert files_of(tmp_path) == before
    with open_home(tmp_path) as home:
        check_tidy(home)
        for name in ("ada", "bob", "eve"):
            with home.using(name) as book:
                assert book.verify().problems == ()
                assert book.stat("workspace", "/big.bin").size == 600_000


def test_what_a_silent_store_kept_from_being_removed_is_removed_by_a_later_tick(tmp_path: Path) -> None:
    with server() as address, open_home(tmp_path, **bucket(address)) as home:
        grown(home, "ada", "frozen")
        place = home.ledger.agent("ada").cold
        assert place is not None
        home.prefetch("ada")
    with open_home(tmp_path, **bucket(address)) as home:
        woken = home.wake("ada")
        assert woken.left == (place,)
        assert home.ledger.agent("ada").state == "active"
        assert home.tick().removed == ()
        home.suspend("ada")
        assert [leftover.place for leftover in home.ledger.leftovers()] == [place]
        with server(int(address.rpartition(":")[2])):
            store, key = home._site.stores.at(place)
            assert store.has(key)
            assert home.tick().removed == (place,)
            assert not store.has(key)
        assert home.ledger.leftovers() == []


# --- clocks ---


def test_a_clock_that_steps_back_makes_nobody_old_and_nothing_stuck(tmp_path: Path) -> None:
    clock = SetClock(NOW)
    with open_home(tmp_path, clock) as home:
        grown(home)
        clock.now = NOW - 30 * DAY
        assert home.tick().moved == ()
        assert home.ledger.agent("ada").active == clock.now
        clock.now += HOUR
        assert [moved.after for moved in home.tick().moved] == ["suspended"]
        home.freeze("ada")
        home.wake("ada")
        assert home.ledger.agent("ada").active == clock.now


def test_a_clock_that_leaps_forward_moves_everybody_one_rung_and_no_further(tmp_path: Path) -> None:
    clock = SetClock(NOW)
    with open_home(tmp_path, clock) as home:
        grown(home)
        clock.now = NOW + 3650 * DAY
        assert [moved.after for moved in home.tick().moved] == ["suspended"]
        assert [moved.after for moved in home.tick().moved] == ["frozen"]
        assert home.tick().moved == ()
        clock.now = NOW
        with home.using("ada") as book:
            assert book.read("workspace", "/a.txt") == b"ada" * 1000
        assert home.tick().moved == ()


def test_a_clock_before_1970_breaks_nothing(tmp_path: Path) -> None:
    clock = SetClock(-DAY)
    with open_home(tmp_path, clock) as home:
        grown(home, "ada", "frozen")
        clock.now = 0
        home.wake("ada")
        clock.now = NOW
        assert [moved.after for moved in home.tick().moved] == ["suspended"]


# --- templates and imports ---


def opened(template: Path) -> None:
    Path(f"{template}-wal").write_bytes(b"")


def unsealed(template: Path) -> None:
    template.chmod(0o600)


def written(template: Path) -> None:
    template.chmod(0o600)
    with Workbook.open(template) as book:
        book.append("note.added", {"by": "somebody"})
    template.chmod(0o444)


def replaced(template: Path) -> None:
    content = bytearray(template.read_bytes())
    content[-1] ^= 1
    found = template.stat()
    other = template.with_name("other")  # made while the first is there, or the file system may give it the same inode
    other.write_bytes(content)
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    other.chmod(0o444)
    other.rename(template)


def written_in_place(template: Path) -> None:
    """Have the same inode, size and time of change, as a file may that has come into the place of one removed."""
    found = template.stat()
    template.chmod(0o644)
    with template.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    os.utime(template, ns=(found.st_atime_ns, found.st_mtime_ns))
    template.chmod(0o444)
    now = template.stat()
    assert (now.st_ino, now.st_size, now.st_mtime_ns) == (found.st_ino, found.st_size, found.st_mtime_ns)


def linked(template: Path) -> None:
    template.with_name("twin").hardlink_to(template)


def gone(template: Path) -> None:
    template.unlink()


@pytest.mark.parametrize("touch", [opened, unsealed, written, replaced, written_in_place, linked, gone])
def test_a_template_that_somebody_touched_is_not_cloned(tmp_path: Path, touch: Callable[[Path], None]) -> None:
    with open_home(tmp_path) as home:
        grown(home)
        home.templates.create("kind", "ada")
        touch(tmp_path / "templates/kind.workbook")
        before = files_of(tmp_path / "agents")
        for make in (
            lambda: home.templates.clone("kind", tenant="acme", count=3),
            lambda: home.new("b", template="kind"),
        ):
            with pytest.raises(TemplateTouched):
                make()
        assert files_of(tmp_path / "agents") == before
        assert home.ledger.leftovers() == []


@pytest.mark.parametrize("content", [b"", b"text" * 1000, b"SQLite format 3\0" + b"\0" * 4080])
def test_what_is_no_workbook_is_not_imported(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in.workbook").write_bytes(content)
    with open_home(tmp_path / "home") as home:
        with pytest.raises(ImportRefused):
            home.import_(tmp_path / "in.workbook", "ada")
        check_tidy(home)
        with pytest.raises(WorkbookMissing):
            home.import_(tmp_path / "none.workbook", "ada")
        with pytest.raises(ImportRefused):
            home.import_(tmp_path, "ada")
        check_tidy(home)
    assert (tmp_path / "in.workbook").read_bytes() == content


def test_a_workbook_that_breaks_a_promise_is_not_imported(tmp_path: Path) -> None:
    path = filled(tmp_path / "in.workbook")
    damaged = path.read_bytes().replace(b"the quick fox", b"the quick ox!")
    path.write_bytes(damaged)
    with open_home(tmp_path / "home") as home:
        with pytest.raises(ImportRefused, match="promises"):
            home.import_(path, "ada")
        check_tidy(home)
    assert path.read_bytes() == damaged


def test_a_workbook_that_is_open_is_not_imported(tmp_path: Path) -> None:
    with open_home(tmp_path / "home") as home, Workbook.open(tmp_path / "in.workbook"):
        with pytest.raises(ImportRefused, match="has it open"):
            home.import_(tmp_path / "in.workbook", "ada")
        check_tidy(home)


def test_a_fork_of_a_frozen_agent_asks_to_fetch_it_first(tmp_path: Path) -> None:
    with open_home(tmp_path) as home:
        grown(home, "ada", "frozen")
        for move in (
            lambda: home.fork("ada"),
            lambda: home.export("ada", tmp_path / "out.workbook"),
            lambda: home.templates.create("kind", "ada"),
            lambda: home.reading("ada").__enter__(),
        ):
            with pytest.raises(AgentAsleep):
                move()
        home.prefetch("ada")
        home.fork("ada", new="bob")
        assert home.ledger.agent("ada").state == "frozen"


def test_an_agent_in_use_is_not_moved(tmp_path: Path) -> None:
    with open_home(tmp_path) as home:
        grown(home)
        with home.using("ada") as book:
            for move in (home.suspend, home.archive):
                with pytest.raises(AgentBusy, match="1 user of this process"):
                    move("ada")
            with pytest.raises(AgentBusy):
                home.rewind("ada", 1)
            book.append("note.added", {"still": "here"})
        with home.reading("ada"), pytest.raises(AgentBusy, match="1 reader of this process"):
            home.suspend("ada")
        home.suspend("ada")
