"""What every place for objects promises, whichever kind it is: created once, read exactly, listed in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from tests.contract.cloud_kit import Azure, Google, Unordered, serving
from tests.contract.store_kit import files, new_bucket, numbers, serving_s3, speaking_to

from torpor.base.errors import InternalError, ObjectCut, ObjectMissing, StoreRefused, StoreUnreachable
from torpor.base.limits import MIB
from torpor.stores import Objects, Options, open_objects
from torpor.stores.shelves import LISTED, RANGE
from torpor.testing.chance import Seeded

Opens = Callable[[], Objects]


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with serving_s3() as address:
        yield address


@pytest.fixture(scope="module")
def google() -> Iterator[Options]:
    with serving(Google) as options:
        yield options


@pytest.fixture(scope="module")
def azure() -> Iterator[Options]:
    with serving(Azure) as options:
        yield options


@pytest.fixture(params=["file", "own folder", "s3", "gs", "az", "memory"])
def opens(request: pytest.FixtureRequest, tmp_path: Path) -> Opens:
    """Return what opens the same place anew each time: each is another writer."""
    options = Options()
    match request.param:
        case "file":
            (tmp_path / "replica").mkdir()
            url = (tmp_path / "replica").as_uri()
        case "own folder":
            url = "replica"
        case "s3":
            address = request.getfixturevalue("s3")
            options = speaking_to(address)
            url = f"s3://{new_bucket(address)}/some/folder"
        case "gs" | "az" as kind:
            options = request.getfixturevalue("google" if kind == "gs" else "azure")
            url = f"{kind}://bucket/some/folder-{next(numbers)}"
        case _:
            url = f"memory://objects-{next(numbers)}"
    return lambda: open_objects(url, str(tmp_path), options=options)


@pytest.fixture
def objects(opens: Opens) -> Objects:
    return opens()


def keys(objects: Objects, folder: str = "", after: str = "") -> list[str]:
    return [found.key for found in objects.list(folder, after=after)]


# --- creating ---


@pytest.mark.parametrize("size", [0, 1, 4096, 5 * MIB + 1, RANGE + 1])
def test_what_was_created_is_there_and_whole(opens: Opens, size: int) -> None:
    content = Seeded(size).token(size)
    assert opens().create("log/1.pack", content)
    other = opens()
    assert other.size("log/1.pack") == size
    assert other.read("log/1.pack", 0, size) == content
    assert other.tail("log/1.pack", size + 1).content == content


def test_a_view_of_bytes_can_be_created_too(objects: Objects) -> None:
    assert objects.create("log/1.pack", memoryview(bytearray(b"0123456789"))[2:5])
    assert objects.read("log/1.pack", 0, 3) == b"234"


@pytest.mark.parametrize("second", [b"mine", b"hers", b"something longer", b""])
def test_what_is_there_is_never_replaced(opens: Opens, second: bytes) -> None:
    assert opens().create("log/1.pack", b"mine")
    assert not opens().create("log/1.pack", second)
    assert opens().read("log/1.pack", 0, 4) == b"mine"


def test_without_a_doubt_the_same_writer_is_refused_too(objects: Objects) -> None:
    assert objects.create("log/1.pack", b"mine")
    assert not objects.create("log/1.pack", b"mine")


def test_of_many_who_create_one_key_one_does(opens: Opens) -> None:
    writers = 6
    at_once = Barrier(writers)

    def create(number: int) -> int | None:
        objects = opens()
        objects.size("log/0.pack")  # it is connected
        at_once.wait()
        return number if objects.create("log/1.pack", f"writer {number}".encode()) else None

    with ThreadPoolExecutor(writers) as pool:
        won = [number for number in pool.map(create, range(writers)) if number is not None]
    assert len(won) == 1
    assert opens().read("log/1.pack", 0, 8) == f"writer {won[0]}".encode()
    assert keys(opens()) == ["log/1.pack"]


def test_a_key_that_was_deleted_can_be_created_again(objects: Objects) -> None:
    assert objects.create("log/1.pack", b"first")
    assert objects.delete("log/1.pack")
    assert objects.create("log/1.pack", b"second")
    assert objects.read("log/1.pack", 0, 6) == b"second"


def test_a_place_that_keeps_its_word_passes_the_trial_and_holds_nothing_of_it(objects: Objects) -> None:
    objects.trial("trials/1")
    assert keys(objects) == []


# --- putting ---


@pytest.mark.parametrize("size", [0, 1, 12 * MIB])
def test_what_was_put_in_pieces_is_there_and_whole(opens: Opens, size: int) -> None:
    content = Seeded(size).token(size)
    opens().put("snapshots/1", (content[at : at + MIB] for at in range(0, size, MIB)), size)
    assert opens().read("snapshots/1", 0, size) == content


# --- reading ---


@pytest.mark.parametrize(("start", "end"), [(0, 0), (0, 1), (3, 7), (9, 10), (10, 10), (0, 10)])
def test_exactly_what_was_asked_for_is_read(objects: Objects, start: int, end: int) -> None:
    objects.create("log/1.pack", b"0123456789")
    assert objects.read("log/1.pack", start, end) == b"0123456789"[start:end]


def test_a_long_part_is_read_whole(objects: Objects) -> None:
    content = Seeded(3).token(2 * RANGE + 7)
    objects.create("log/1.pack", content)
    assert objects.read("log/1.pack", 5, len(content) - 1) == content[5:-1]


@pytest.mark.parametrize(("start", "end"), [(0, 11), (9, 11), (10, 11), (11, 12), (500, 600)])
def test_what_ends_too_early_is_said_and_not_cut_silently(objects: Objects, start: int, end: int) -> None:
    objects.create("log/1.pack", b"0123456789")
    with pytest.raises(ObjectCut) as cut:
        objects.read("log/1.pack", start, end)
    assert (cut.value.size, cut.value.wanted) == (10, end)
    assert cut.value.place == f"{objects.url}#log/1.pack"


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (3, 2)])
def test_what_is_no_part_is_a_bug(objects: Objects, start: int, end: int) -> None:
    with pytest.raises(InternalError):
        objects.read("log/1.pack", start, end)


@pytest.mark.parametrize("size", [0, 1, 5, 10, 11, 65_536])
def test_a_tail_is_the_end_and_the_size(objects: Objects, size: int) -> None:
    objects.create("log/1.pack", b"0123456789")
    tail = objects.tail("log/1.pack", size)
    assert tail.size == 10
    assert tail.content == b"0123456789"[max(0, 10 - size) :]


def test_what_isnt_there_is_said(objects: Objects) -> None:
    objects.create("log/1.pack", b"x")
    assert objects.size("log/2.pack") is None
    assert not keys(objects, "manifests")
    for use in (lambda: objects.read("log/2.pack", 0, 1), lambda: objects.tail("log/2.pack", 1)):
        with pytest.raises(ObjectMissing) as missing:
            use()
        assert missing.value.place == f"{objects.url}#log/2.pack"


def test_where_nothing_ever_was_nothing_is(objects: Objects) -> None:
    assert keys(objects) == []
    assert objects.size("log/1.pack") is None
    with pytest.raises(ObjectMissing):
        objects.tail("log/1.pack", 1)


# --- listing ---

SCATTERED = ["a-b/x", "a/x", "a/y/z", "a0", "log/0000", "log/0001", "log/000a", "logs/0000", "manifests/1", "z"]


def test_a_list_is_in_the_order_of_the_keys(objects: Objects) -> None:
    for key in reversed(SCATTERED):
        objects.create(key, key.encode())
    assert keys(objects) == sorted(SCATTERED)
    assert keys(objects, "log") == ["log/0000", "log/0001", "log/000a"]
    assert keys(objects, "a") == ["a/x", "a/y/z"]
    assert keys(objects, "a/y") == ["a/y/z"]
    assert keys(objects, "lo") == []


@pytest.mark.parametrize("after", ["0", "a/x", "a/y", "a/y/z", "a/y0", "log/0000", "log/00005", "zz", *SCATTERED])
def test_a_list_begins_behind_a_key_that_need_not_be_there(objects: Objects, after: str) -> None:
    for key in SCATTERED:
        objects.create(key, b"x")
    assert keys(objects, after=after) == sorted(key for key in SCATTERED if key > after)
    in_log = sorted(key for key in SCATTERED if key > after and key.startswith("log/"))
    assert keys(objects, "log", after) == in_log


def test_a_list_tells_size_and_time(objects: Objects) -> None:
    before = time.time()
    objects.create("log/1.pack", b"0123456789")
    (found,) = objects.list("log")
    assert (found.key, found.size) == ("log/1.pack", 10)
    assert before - 2 <= found.modified / 1e6 <= time.time() + 2


def test_a_long_list_is_whole(objects: Objects) -> None:
    due = [f"log/{number:016x}.pack" for number in range(LISTED + 100)]
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda key: objects.create(key, b"x"), due))
    assert keys(objects, "log") == due
    assert keys(objects, "log", due[LISTED]) == due[LISTED + 1 :]


def test_a_list_without_an_order_is_none() -> None:
    with serving(Unordered) as options:
        objects = open_objects("gs://bucket", "/nowhere", options=options)
        for number in range(3):
            objects.create(f"log/{number}", b"x")
        with pytest.raises(StoreUnreachable, match="which is no order"):
            list(objects.list("log"))


# --- deleting ---


def test_what_was_deleted_is_gone_and_the_rest_is_not(objects: Objects) -> None:
    for number in range(3):
        objects.create(f"log/{number}.pack", b"x")
    assert objects.delete("log/1.pack")
    assert keys(objects) == ["log/0.pack", "log/2.pack"]
    objects.delete("log/1.pack")
    objects.delete("never/was")
    assert keys(objects) == ["log/0.pack", "log/2.pack"]


# --- refusing ---


@pytest.mark.parametrize("key", ["", "/", "a/", "/a", "a//b", "../a", "a/../b", ".a", "a b", "a#0", "ä", "a\n"])
def test_what_can_be_no_key_is_refused(objects: Objects, tmp_path: Path, key: str) -> None:
    before = files(tmp_path)
    for use in (
        lambda: objects.create(key, b"x"),
        lambda: objects.put(key, iter(()), 0),
        lambda: objects.read(key, 0, 1),
        lambda: objects.tail(key, 1),
        lambda: objects.size(key),
        lambda: objects.delete(key),
        lambda: objects.trial(key),
        lambda: list(objects.list(key or "/")),
        lambda: list(objects.list("log", after=key or "/")),
    ):
        with pytest.raises(StoreRefused):
            use()
    assert files(tmp_path) == before
