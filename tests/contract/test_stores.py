"""What every store promises, whichever kind it is: folders, S3, memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import obstore
import pytest
import zstandard
from tests.contract.store_kit import (
    ARCHIVE,
    COLD,
    ENV,
    KEYS,
    Lab,
    content_of,
    files,
    new_bucket,
    numbers,
    serving_s3,
    speaking_to,
    wanted,
)

from torpor.base import faults
from torpor.base.errors import (
    CopyDamaged,
    CopyMissing,
    FileTaken,
    StorageFailed,
    StoreRefused,
    WorkbookMissing,
)
from torpor.base.limits import MIB
from torpor.stores.copies import Step
from torpor.stores.pieces import PIECE
from torpor.stores.shelves import PART, RANGE
from torpor.stores.stores import Options, Store, Stores, archive_key, cold_key
from torpor.testing.chance import Seeded
from torpor.testing.faults import fail_at, record


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with serving_s3() as address:
        yield address


@pytest.fixture(params=["file", "own folder", "s3", "memory"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Lab:
    home = tmp_path / "home"
    home.mkdir()
    options = Options()
    match request.param:
        case "file":
            (tmp_path / "cold").mkdir()
            url = (tmp_path / "cold").as_uri()
        case "own folder":
            (home / "cold").mkdir()  # for obstore's own eyes; the store would make it
            url = "cold"
        case "s3":
            address = request.getfixturevalue("s3")
            options = speaking_to(address)
            url = f"s3://{new_bucket(address)}/some/folder"
        case _:
            url = f"memory://lab-{next(numbers)}"
    return Lab(url, home, options)


@pytest.fixture
def store(lab: Lab) -> Store:
    return lab.store


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(content_of(300_001))
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file that takes more than one part of an upload, even compressed."""
    path = tmp_path / "large"
    path.write_bytes(Seeded(1).token(PART + MIB) + content_of(100_000))
    return path


# --- what was put comes back ---


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, PART, PART + 1, RANGE, 2 * RANGE + 7])
def test_what_was_put_comes_back(store: Store, tmp_path: Path, key: str, size: int) -> None:
    content = content_of(size)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(content)
    put = store.put(key, str(source), name="ada")
    assert (put.place, put.digest, put.size) == (f"{store.url}#{key}", wanted(content).digest, size)
    store.get(key, str(target), wanted(content))
    assert target.read_bytes() == content
    assert target.stat().st_mode & 0o7777 == 0o600
    assert source.read_bytes() == content


def test_an_archive_is_compressed_and_a_cold_copy_is_not(lab: Lab, source: Path) -> None:
    content = source.read_bytes()
    cold = lab.store.put(COLD, str(source), name="ada")
    archive = lab.store.put(ARCHIVE, str(source), name="ada")
    assert lab.read(COLD) == content
    assert cold.stored == len(content)
    frame = lab.read(ARCHIVE)
    assert archive.stored == len(frame) < len(content) * 2 // 3
    assert zstandard.get_frame_parameters(frame).has_checksum
    assert zstandard.ZstdDecompressor().decompress(frame) == content


def test_keys_are_what_the_ledger_expects() -> None:
    assert cold_key("0198-ab", 7) == "0198-ab/7.workbook"
    assert archive_key("0198-ab", 7) == "0198-ab/7.workbook.zst"


@pytest.mark.parametrize("key", KEYS)
def test_putting_again_replaces_what_an_earlier_attempt_left(lab: Lab, large: Path, tmp_path: Path, key: str) -> None:
    lab.replace(key, b"half of somethi")
    lab.store.put(key, str(large), name="ada")
    lab.store.put(key, str(large), name="ada")
    lab.store.get(key, str(tmp_path / "target"), wanted(large.read_bytes()))
    assert lab.keys() == [key]


def test_what_is_deleted_is_gone_and_deleting_twice_is_once(lab: Lab, source: Path) -> None:
    store = lab.store
    store.put(COLD, str(source), name="ada")
    store.put(ARCHIVE, str(source), name="ada")
    assert store.has(COLD)
    assert store.delete(COLD)
    assert not store.has(COLD)
    assert store.has(ARCHIVE)
    assert store.delete(COLD) in (False, store.kind != "file")  # only a folder says what was there
    assert store.delete(ARCHIVE)
    assert lab.keys() == []


def test_many_agents_may_come_and_go_at_once(store: Store, tmp_path: Path) -> None:
    def come_and_go(number: int) -> bool:
        content = content_of(300_000 + number)
        source, target = tmp_path / f"source-{number}", tmp_path / f"target-{number}"
        source.write_bytes(content)
        key = (cold_key, archive_key)[number % 2](f"agent-{number}", 1)
        store.put(key, str(source), name="ada")
        store.get(key, str(target), wanted(content))
        store.delete(key)
        return target.read_bytes() == content and not store.has(key)

    with ThreadPoolExecutor(8) as many:
        assert list(many.map(come_and_go, range(24))) == [True] * 24


@pytest.mark.parametrize("key", KEYS)
def test_a_watch_hears_of_every_byte(store: Store, large: Path, tmp_path: Path, key: str) -> None:
    size = large.stat().st_size
    steps: list[Step] = []
    store.put(key, str(large), name="ada", watch=steps.append)
    put = list(steps)
    steps.clear()
    store.get(key, str(tmp_path / "target"), wanted(large.read_bytes()), watch=steps.append)
    for heard, stages in ((put, ["put", "verify"]), (steps, ["get", "verify"])):
        assert list(dict.fromkeys(step.stage for step in heard)) == stages
        for stage in stages:
            done = [step.done for step in heard if step.stage == stage]
            assert done == sorted(done)
            assert done[-1] == size
        assert {step.total for step in heard} == {size}


@pytest.mark.parametrize("key", KEYS)
def test_nothing_stays_open(store: Store, source: Path, tmp_path: Path, key: str) -> None:
    content = source.read_bytes()
    store.put(key, str(source), name="ada")
    store.get(key, str(tmp_path / "target"), wanted(content))
    (tmp_path / "target").unlink()
    with pytest.raises(CopyDamaged):
        store.get(key, str(tmp_path / "target"), wanted(content[:-1] + b"?"))
    names = [os.path.realpath(f"/proc/self/fd/{found}") for found in os.listdir("/proc/self/fd")]
    assert [name for name in names if name.startswith(str(tmp_path))] == []


# --- what was not put doesn't ---


@pytest.mark.parametrize("key", KEYS)
def test_a_missing_copy_is_told_and_nothing_is_made(store: Store, tmp_path: Path, key: str) -> None:
    with pytest.raises(CopyMissing) as missing:
        store.get(key, str(tmp_path / "target"), wanted(b"content"))
    assert (missing.value.name, missing.value.place) == ("ada", f"{store.url}#{key}")
    assert not store.has(key)
    assert "target" not in files(tmp_path)


HARM: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "one byte": lambda content: content[:1],
    "cut in the middle": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "one bit": lambda content: content[:1000] + bytes([content[1000] ^ 1]) + content[1001:],
    "the last bit": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "zeros": lambda content: bytes(len(content)),
    "a page of zeros": lambda content: content[:4096] + bytes(4096) + content[8192:],
    "twice": lambda content: content + content,
    "text": lambda _: b"<html>Not the object you are looking for</html>",
}


@pytest.mark.parametrize("harm", HARM)
def test_a_damaged_cold_copy_makes_no_agent(lab: Lab, source: Path, tmp_path: Path, harm: str) -> None:
    content = source.read_bytes()
    lab.store.put(COLD, str(source), name="ada")
    lab.replace(COLD, HARM[harm](content))
    before = lab.read(COLD)
    with pytest.raises(CopyDamaged) as damaged:
        lab.store.get(COLD, str(tmp_path / "target"), wanted(content))
    assert (damaged.value.name, damaged.value.place) == ("ada", f"{lab.store.url}#{COLD}")
    assert not (tmp_path / "target").exists()
    assert lab.read(COLD) == before


@pytest.mark.parametrize("harm", [harm for harm in HARM if harm not in ("one byte short", "twice")])
def test_a_damaged_archive_makes_no_agent(lab: Lab, source: Path, tmp_path: Path, harm: str) -> None:
    content = source.read_bytes()
    lab.store.put(ARCHIVE, str(source), name="ada")
    lab.replace(ARCHIVE, HARM[harm](lab.read(ARCHIVE)))
    with pytest.raises(CopyDamaged):
        lab.store.get(ARCHIVE, str(tmp_path / "target"), wanted(content))
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("harm", ["one byte short", "twice"])
def test_an_archive_that_still_gives_the_right_bytes_is_right(
    lab: Lab, source: Path, tmp_path: Path, harm: str
) -> None:
    """What counts is the agent: without the last byte of its own checksum, an archive has the SHA-256 as a witness."""
    content = source.read_bytes()
    lab.store.put(ARCHIVE, str(source), name="ada")
    lab.replace(ARCHIVE, HARM[harm](lab.read(ARCHIVE)))
    lab.store.get(ARCHIVE, str(tmp_path / "target"), wanted(content))
    assert (tmp_path / "target").read_bytes() == content


@pytest.mark.parametrize("make", [cold_key, archive_key])
def test_a_swapped_copy_makes_no_agent(lab: Lab, tmp_path: Path, make: Callable[[str, int], str]) -> None:
    """Two agents' copies, whole and equally long, have changed places."""
    ada, bob = make("ada", 1), make("bob", 1)
    contents = [Seeded(number).token(100_000) for number in (1, 2)]
    for key, content in zip((ada, bob), contents, strict=True):
        (tmp_path / "source").write_bytes(content)
        lab.store.put(key, str(tmp_path / "source"), name="ada")
    objects = lab.read(ada), lab.read(bob)
    lab.replace(ada, objects[1])
    lab.replace(bob, objects[0])
    for key, content in zip((ada, bob), contents, strict=True):
        with pytest.raises(CopyDamaged, match="SHA-256"):
            lab.store.get(key, str(tmp_path / "target"), wanted(content))
    assert not (tmp_path / "target").exists()


def test_an_archive_of_a_little_that_claims_to_be_a_lot_is_stopped(lab: Lab, tmp_path: Path) -> None:
    """Some KiB that unpack to 256 MiB of zeros."""
    lab.replace(ARCHIVE, zstandard.ZstdCompressor().compress(bytes(256 * MIB)))
    largest = 0

    def look(_: Step) -> None:
        nonlocal largest
        largest = max(largest, (tmp_path / "target").stat().st_size)

    with pytest.raises(CopyDamaged, match="more than"):
        lab.store.get(ARCHIVE, str(tmp_path / "target"), wanted(bytes(3 * MIB)), watch=look)
    assert largest <= 3 * MIB
    assert not (tmp_path / "target").exists()


def test_an_archive_that_asks_for_much_memory_is_refused(lab: Lab, tmp_path: Path) -> None:
    content = Seeded(3).token(12 * MIB)
    greedy = zstandard.ZstdCompressionParameters.from_level(3, window_log=24, source_size=len(content))
    frame = zstandard.ZstdCompressor(compression_params=greedy).compressobj()
    lab.replace(ARCHIVE, frame.compress(content) + frame.flush())
    with pytest.raises(CopyDamaged, match="memory"):
        lab.store.get(ARCHIVE, str(tmp_path / "target"), wanted(content))


@pytest.mark.parametrize("key", KEYS)
def test_a_target_that_is_taken_is_left_alone(store: Store, source: Path, tmp_path: Path, key: str) -> None:
    store.put(key, str(source), name="ada")
    (tmp_path / "target").write_text("taken")
    with pytest.raises(FileTaken):
        store.get(key, str(tmp_path / "target"), wanted(source.read_bytes()))
    assert (tmp_path / "target").read_text() == "taken"


@pytest.mark.parametrize("key", KEYS)
def test_a_source_that_cant_be_read_puts_nothing(lab: Lab, tmp_path: Path, key: str) -> None:
    with pytest.raises(WorkbookMissing):
        lab.store.put(key, str(tmp_path / "nothing"), name="ada")
    with pytest.raises(StorageFailed):
        lab.store.put(key, str(tmp_path), name="ada")
    assert lab.keys() == []


@pytest.mark.parametrize("key", KEYS)
def test_a_source_that_changes_meanwhile_makes_no_copy(lab: Lab, large: Path, key: str) -> None:
    """Nobody should write into it; if somebody does, that is found out."""

    def cut(step: Step) -> None:
        if step.stage == "put":
            os.truncate(large, 1000)

    with pytest.raises((CopyDamaged, StorageFailed)):
        lab.store.put(key, str(large), name="ada", watch=cut)
    assert lab.keys() == []


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("harm", ["one bit", "one byte short", "empty", "gone"])
def test_a_copy_that_doesnt_read_back_is_no_copy(lab: Lab, source: Path, key: str, harm: str) -> None:
    """The store answers that it has taken the object, and has something else."""
    if (key, harm) == (ARCHIVE, "one byte short"):
        harm = "cut in the middle"

    def spoil(point: str) -> None:
        if point == "store.put" and harm == "gone":
            obstore.delete(lab.raw(), key)
        elif point == "store.put":
            lab.replace(key, HARM[harm](lab.read(key)))

    faults.listen(spoil)
    try:
        with pytest.raises(CopyMissing if harm == "gone" else CopyDamaged):
            lab.store.put(key, str(source), name="ada")
    finally:
        faults.listen(None)
    assert lab.keys() == []
    assert source.exists()


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("stage", ["put", "verify"])
def test_a_put_that_is_stopped_can_be_done_again(lab: Lab, large: Path, key: str, stage: str) -> None:
    def stop(step: Step) -> None:
        if step.stage == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lab.store.put(key, str(large), name="ada", watch=stop)
    lab.store.put(key, str(large), name="ada")
    assert lab.keys() == [key]
    assert lab.store.delete(key)
    assert lab.keys() == []


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("stage", ["get", "verify"])
def test_a_get_that_is_stopped_leaves_nothing(store: Store, large: Path, tmp_path: Path, key: str, stage: str) -> None:
    def stop(step: Step) -> None:
        if step.stage == stage:
            raise KeyboardInterrupt

    store.put(key, str(large), name="ada")
    with pytest.raises(KeyboardInterrupt):
        store.get(key, str(tmp_path / "target"), wanted(large.read_bytes()), watch=stop)
    assert not (tmp_path / "target").exists()
    assert store.has(key)


# --- places ---


def test_a_place_leads_back_to_the_copy(lab: Lab, source: Path, tmp_path: Path) -> None:
    place = lab.store.put(COLD, str(source), name="ada").place
    for stores in (lab.stores, Stores(str(tmp_path / "home"), lab.options)):
        store, key = stores.at(place)
        store.get(key, str(tmp_path / "target"), wanted(source.read_bytes()))
        (tmp_path / "target").unlink()
    assert lab.stores.at(place)[0] is lab.store


@pytest.mark.parametrize(
    "key", ["", "../x", "a/../b", "/etc/passwd", "a//b", "a/", ".hidden", "a\0b", "a b", "a#b", "a\n", "a/b?c"]
)
def test_what_is_no_key_is_refused(store: Store, source: Path, tmp_path: Path, key: str) -> None:
    for use in (
        lambda: store.put(key, str(source), name="ada"),
        lambda: store.get(key, str(tmp_path / "target"), wanted(b"")),
        lambda: store.delete(key),
        lambda: store.has(key),
    ):
        with pytest.raises(StoreRefused):
            use()


# --- killed ---

POINTS = ["store.put", "store.verified", "store.got"]


@pytest.mark.parametrize("key", KEYS)
def test_the_points_come_in_order(store: Store, source: Path, tmp_path: Path, key: str) -> None:
    with record() as reached:
        store.put(key, str(source), name="ada")
        store.get(key, str(tmp_path / "target"), wanted(source.read_bytes()))
    assert reached == POINTS


def test_a_get_that_fails_at_its_end_leaves_nothing(store: Store, source: Path, tmp_path: Path) -> None:
    store.put(COLD, str(source), name="ada")
    with fail_at("store.got", OSError(5, "the disk is broken")), pytest.raises(StorageFailed):
        store.get(COLD, str(tmp_path / "target"), wanted(source.read_bytes()))
    assert not (tmp_path / "target").exists()


# --- memory and fork ---

PEAK = """
import json, re, sys
import msgspec
from torpor.stores.stores import Options, Wanted, open_store
home, url, options, small, large = sys.argv[1:]
store = open_store(url, home, options=msgspec.json.decode(options, type=Options))
def round_trip(source):
    for key in ("ada/1.workbook", "ada/1.workbook.zst"):
        put = store.put(key, source, name="ada")
        store.get(key, f"{source}-{key[-3:]}", Wanted(name="ada", digest=put.digest, size=put.size))
    with open("/proc/self/status") as status:  # what getrusage says begins with what the parent had
        return int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read())[1]) * 1024
before = round_trip(small)
print(json.dumps(round_trip(large) - before))
"""


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_a_large_agent_takes_no_more_memory_than_some_pieces(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    url, options = "cold", Options()
    if kind == "s3":
        address = request.getfixturevalue("s3")
        url, options = f"s3://{new_bucket(address)}", speaking_to(address)
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"small")
    with large.open("xb") as file:
        for _ in range(96):
            file.write(content_of(MIB))
    said = msgspec.json.encode(options).decode()
    command = [sys.executable, "-c", PEAK, str(tmp_path), url, said, str(small), str(large)]
    done = subprocess.run(command, env=ENV, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 60 * MIB


FORK = """
import os, signal, sys
from torpor.base.errors import StoreUnreachable
from torpor.stores.stores import open_store
store = open_store("memory://forked", sys.argv[1])
def in_child():
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        try:
            store.put("ada/1.workbook", sys.argv[2], name="ada")
        except StoreUnreachable:
            os._exit(7)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
before = in_child()
store.put("ada/1.workbook", sys.argv[2], name="ada")
print(before, in_child(), store.has("ada/1.workbook"))
"""


def test_a_forked_child_is_told_no_instead_of_waiting_for_ever(tmp_path: Path, source: Path) -> None:
    command = [sys.executable, "-c", FORK, str(tmp_path), str(source)]
    done = subprocess.run(command, env=ENV, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["0", "7", "True"], done.stderr
