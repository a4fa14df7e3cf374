"""A store that fails in the middle of things: whatever is asked, the answer is right, or there is none and it is said.

The server behind the proxy is a real one of S3, and does what it was asked whether or not its answer arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.contract.store_kit import new_bucket, serving_s3, speaking_to

from torpor.base.errors import ObjectCut, StoreRefused, StoreUnreachable
from torpor.stores import Objects, open_objects
from torpor.stores.shelves import LISTED
from torpor.testing.chance import Seeded
from torpor.testing.proxy import Harm, Proxy

KEY, MINE, HERS = "log/1.pack", b"mine " * 2_000, b"hers " * 2_000
FAILURES = [500, 502, 503, 504]


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with serving_s3() as address:
        yield address


class Store:
    """One place, reached over a line that does harm, and over one that doesn't."""

    def __init__(self, address: str, proxy: Proxy) -> None:
        self.proxy = proxy
        self._url = f"s3://{new_bucket(address)}/some/folder"
        self.far = self.opened()
        self.impatient = self.opened(read_s=1.0)
        self.near = open_objects(self._url, "/nowhere", options=speaking_to(address))

    def opened(self, **more: Any) -> Objects:
        return open_objects(self._url, "/nowhere", options=speaking_to(self.proxy.url, **more))

    def asked_with(self, harm: Harm) -> Objects:
        """Return the far one that gives up waiting where nothing else would ever happen."""
        return self.impatient if harm.kind in ("hold", "delay") else self.far

    def puts(self) -> int:
        return sum(line.startswith("PUT") for line in self.proxy.seen)


@pytest.fixture
def store(s3: str) -> Iterator[Store]:
    with Proxy(s3) as proxy:
        yield Store(s3, proxy)


def created_at_last(objects: Objects, key: str, content: bytes) -> bool:
    while True:
        try:
            return objects.create(key, content)
        except StoreUnreachable:
            continue


# --- creating ---

UNSEEN = [
    *(Harm("lie", method="PUT", status=status) for status in FAILURES),
    Harm("lose", method="PUT"),
    Harm("hold", method="PUT"),
]
"""It is done, and the answer doesn't come."""


@pytest.mark.parametrize("harm", UNSEEN, ids=lambda harm: f"{harm.kind} {harm.status}")
def test_a_lost_answer_is_found_out(store: Store, harm: Harm) -> None:
    objects = store.asked_with(harm)
    store.proxy.set(harm)
    assert objects.create(KEY, MINE)
    assert store.proxy.struck == 1
    assert store.near.read(KEY, 0, len(MINE)) == MINE
    store.proxy.lift()
    assert not objects.create(KEY, MINE)


@pytest.mark.parametrize("harm", UNSEEN, ids=lambda harm: f"{harm.kind} {harm.status}")
@pytest.mark.parametrize("hers", [HERS, HERS[:-1], MINE[:-1] + b"!"])
def test_a_lost_refusal_is_found_out(store: Store, harm: Harm, hers: bytes) -> None:
    assert store.near.create(KEY, hers)
    store.proxy.set(harm)
    assert not store.asked_with(harm).create(KEY, MINE)
    assert store.proxy.struck == 1
    assert store.near.read(KEY, 0, len(hers)) == hers


@pytest.mark.parametrize("status", FAILURES)
def test_what_was_never_done_is_in_doubt_and_then_done_once(store: Store, status: int) -> None:
    store.proxy.set(Harm("refuse", method="PUT", status=status))
    with pytest.raises(StoreUnreachable):
        store.far.create(KEY, MINE)
    assert store.near.size(KEY) is None
    assert store.far.create(KEY, MINE)
    assert not store.far.create(KEY, MINE)


@pytest.mark.parametrize("harm", UNSEEN, ids=lambda harm: f"{harm.kind} {harm.status}")
@pytest.mark.parametrize("tries", [1, 3])
def test_a_doubt_that_lasts_is_resolved_exactly_once(store: Store, harm: Harm, tries: int) -> None:
    """It is done, the answer is lost, and nothing can be read back; the next tries are refused, and lost as well."""
    objects = store.asked_with(harm)
    for _ in range(tries):
        store.proxy.set(harm, Harm("refuse", method="HEAD"), Harm("refuse", method="GET"))
        with pytest.raises(StoreUnreachable):
            objects.create(KEY, MINE)
        store.proxy.lift()
    assert store.near.read(KEY, 0, len(MINE)) == MINE
    assert objects.create(KEY, MINE)
    assert not objects.create(KEY, MINE)


def test_a_doubt_whose_bytes_arent_the_same_is_no_success(store: Store) -> None:
    """Who comes back with other bytes is told False, and finds what there is by reading."""
    store.proxy.set(Harm("lose", method="PUT"), Harm("refuse", method="HEAD"))
    with pytest.raises(StoreUnreachable):
        store.far.create(KEY, MINE)
    assert not store.far.create(KEY, MINE + b"more")
    assert store.far.read(KEY, 0, len(MINE)) == MINE
    assert store.far.create(KEY, MINE), "the doubt about these stayed"


def test_a_put_that_arrives_late_is_mine_or_too_late(store: Store) -> None:
    store.proxy.set(Harm("delay", method="PUT"))
    with pytest.raises(StoreUnreachable):
        store.impatient.create(KEY, MINE)
    store.proxy.release()
    assert store.impatient.create(KEY, MINE)
    assert not store.impatient.create(KEY, MINE)
    store.proxy.set(Harm("delay", method="PUT"))
    with pytest.raises(StoreUnreachable):
        store.impatient.create("log/2.pack", MINE)
    assert store.near.create("log/2.pack", HERS)
    store.proxy.release()
    assert not store.impatient.create("log/2.pack", MINE)
    assert store.near.read("log/2.pack", 0, len(HERS)) == HERS


@pytest.mark.parametrize("status", [409, 412])
def test_a_refusal_that_can_show_nothing_is_none(store: Store, status: int) -> None:
    store.proxy.set(Harm("refuse", method="PUT", status=status))
    with pytest.raises(StoreUnreachable):
        store.far.create(KEY, MINE)
    assert store.far.create(KEY, MINE)


def test_reading_back_what_is_behind_leaves_the_doubt(store: Store) -> None:
    """The store has it, and for a while shows that it hasn't."""
    assert store.far.size(KEY) is None
    store.proxy.set(Harm("lose", method="PUT"), Harm("stale", method="HEAD", times=2))
    for _ in range(2):
        with pytest.raises(StoreUnreachable):
            store.far.create(KEY, MINE)
    assert store.far.create(KEY, MINE)
    assert not store.far.create(KEY, MINE)


def test_a_creation_is_asked_for_once_however_patient_the_options(store: Store) -> None:
    """A second try inside would meet what the first one did, and call it somebody else's."""
    patient = store.opened(retries=5)
    assert not patient.size(KEY)
    store.proxy.set(Harm("lie", method="PUT", status=503, times=9))
    assert patient.create(KEY, MINE)
    assert store.puts() == 1


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404])
def test_a_creation_that_isnt_allowed_is_said(store: Store, status: int) -> None:
    store.proxy.set(Harm("refuse", method="PUT", status=status))
    with pytest.raises(StoreUnreachable):
        store.far.create(KEY, MINE)
    assert store.near.size(KEY) is None


HARMS = [None, None, *(Harm("refuse", status=503, times=times) for times in (1, 2)),
         *(Harm("lie", status=500, times=times) for times in (1, 2, 3)),
         *(Harm("lose", times=times) for times in (1, 2, 3)), Harm("cut", times=2)]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_of_two_who_create_through_harms_exactly_one_has_done_it(store: Store, seed: int) -> None:
    chance = Seeded(seed)
    writers = [(store.opened(), MINE), (store.opened(), HERS)]
    for number in range(20):
        key = f"log/{number}.pack"
        harm = HARMS[chance.below(len(HARMS))]
        store.proxy.set(*([harm] if harm else []))
        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(lambda writer, key=key: created_at_last(writer[0], key, writer[1]), writers))
        assert sorted(done) == [False, True]
        winner = writers[done.index(True)][1]
        assert store.near.read(key, 0, len(winner)) == winner


def test_a_store_that_doesnt_hear_the_condition_fails_the_trial(store: Store, s3: str) -> None:
    with Proxy(s3, deaf_to="If-None-Match") as deaf:
        unfit = Store(s3, deaf)
        with pytest.raises(StoreRefused, match="replaces"):
            unfit.far.trial("trials/1")
        assert unfit.near.size("trials/1") is None
    store.far.trial("trials/1")


def test_a_trial_that_cant_be_made_condemns_nobody(store: Store) -> None:
    for harm in (Harm("refuse", method="PUT"), Harm("refuse", method="PUT", times=9)):
        store.proxy.set(harm)
        with pytest.raises(StoreUnreachable):
            store.far.trial("trials/1")
    store.proxy.lift()
    store.far.trial("trials/2")


# --- reading, listing, deleting ---

Use = Callable[[Objects], object]
USES: dict[str, Use] = {
    "read": lambda objects: objects.read(KEY, 5, 9_000),
    "tail": lambda objects: objects.tail(KEY, 100),
    "size": lambda objects: objects.size(KEY),
    "list": lambda objects: [found.key for found in objects.list("log")],
}
BREAKS = [*(Harm("refuse", status=status, times=9) for status in [*FAILURES, 401, 403]), Harm("lose", times=9),
          Harm("hold", times=9), Harm("delay", times=9)]  # fmt: skip


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("harm", BREAKS, ids=lambda harm: f"{harm.kind} {harm.status}")
def test_what_cant_be_read_is_weather_and_then_right(store: Store, harm: Harm, use: str) -> None:
    store.near.create(KEY, MINE)
    due = USES[use](store.near)
    store.proxy.set(harm)
    with pytest.raises(StoreUnreachable) as failed:
        USES[use](store.asked_with(harm))
    assert store.proxy.struck >= 1
    assert "\n" not in failed.value.reason
    store.proxy.lift()
    assert USES[use](store.far) == due


@pytest.mark.parametrize("use", ["read", "tail", "list"])
@pytest.mark.parametrize("kind", ["cut", "shorten"])
@pytest.mark.parametrize("size", [0, 1, 99])
def test_half_an_answer_is_none(store: Store, use: str, kind: Any, size: int) -> None:
    store.near.create(KEY, MINE)
    due = USES[use](store.near)
    store.proxy.set(Harm(kind, method="GET", size=size))
    with pytest.raises(StoreUnreachable):
        USES[use](store.far)
    assert store.proxy.struck == 1
    assert USES[use](store.far) == due


SHORT = [*((use, Harm(kind)) for use in USES for kind in ("refuse", "lose")),
         *((use, Harm("cut", method="GET", size=3)) for use in ("read", "tail"))]  # fmt: skip


@pytest.mark.parametrize(("use", "harm"), SHORT)
def test_a_short_break_is_got_over(store: Store, harm: Harm, use: str) -> None:
    store.near.create(KEY, MINE)
    patient = store.opened(retries=3)
    store.proxy.set(harm)
    assert USES[use](patient) == USES[use](store.near)
    assert store.proxy.struck == 1


def test_what_ends_too_early_is_told_from_what_cant_be_read(store: Store) -> None:
    store.near.create(KEY, MINE)
    with pytest.raises(ObjectCut):
        store.far.read(KEY, 5, len(MINE) + 1)
    store.proxy.set(Harm("refuse", times=9))
    with pytest.raises(StoreUnreachable):
        store.far.read(KEY, 5, len(MINE) + 1)
    store.proxy.set(Harm("refuse", method="HEAD", times=9))
    with pytest.raises(StoreUnreachable):
        store.far.read(KEY, 5, len(MINE) + 1)


def test_a_list_from_the_past_is_a_list_from_the_past(store: Store) -> None:
    """What is new is missing from it, and a creation there is refused all the same; what is gone is said when read."""
    store.near.create("log/1.pack", MINE)
    assert [found.key for found in store.far.list("log")] == ["log/1.pack"]
    store.near.create("log/2.pack", HERS)
    store.near.delete("log/1.pack")
    store.proxy.set(Harm("stale", method="GET", path="list-type=2"))
    assert [found.key for found in store.far.list("log")] == ["log/1.pack"]
    assert not store.far.create("log/2.pack", MINE)
    assert store.far.size("log/1.pack") is None
    assert [found.key for found in store.far.list("log")] == ["log/2.pack"]


def test_a_list_that_breaks_between_its_pages_is_no_list(store: Store) -> None:
    due = [f"log/{number:04}" for number in range(LISTED + 10)]
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda key: store.near.create(key, b"x"), due))
    store.proxy.set(Harm("refuse", method="GET", path="continuation-token", times=9))
    listed = store.far.list("log")
    assert [next(listed).key for _ in range(LISTED)] == due[:LISTED]
    with pytest.raises(StoreUnreachable):
        next(listed)
    store.proxy.lift()
    assert [found.key for found in store.far.list("log", after=due[LISTED - 1])] == due[LISTED:]


@pytest.mark.parametrize("status", [*FAILURES, 403])
def test_what_wasnt_deleted_is_said_and_still_there(store: Store, status: int) -> None:
    store.near.create(KEY, MINE)
    store.proxy.set(Harm("refuse", status=status))
    with pytest.raises(StoreUnreachable):
        store.far.delete(KEY)
    assert store.near.size(KEY) == len(MINE)
    store.far.delete(KEY)
    assert store.near.size(KEY) is None


@pytest.mark.parametrize("harm", [Harm("lie", status=500), Harm("lose"), Harm("hold")], ids=lambda harm: harm.kind)
def test_what_was_deleted_without_an_answer_can_be_deleted_again(store: Store, harm: Harm) -> None:
    store.near.create(KEY, MINE)
    store.proxy.set(harm)
    with pytest.raises(StoreUnreachable):
        store.asked_with(harm).delete(KEY)
    assert store.near.size(KEY) is None
    store.far.delete(KEY)


@pytest.mark.parametrize("harm", [Harm("refuse", times=99), Harm("lose", times=99)], ids=lambda harm: harm.kind)
def test_a_put_in_pieces_that_fails_is_said_and_can_be_repeated(store: Store, harm: Harm, tmp_path: Path) -> None:
    content = Seeded(2).token(6 << 20)
    pieces = [content[at : at + (1 << 20)] for at in range(0, len(content), 1 << 20)]
    store.proxy.set(harm)
    with pytest.raises(StoreUnreachable):
        store.far.put("snapshots/1", iter(pieces), len(content))
    store.proxy.lift()
    assert store.near.size("snapshots/1") is None
    store.far.put("snapshots/1", iter(pieces), len(content))
    assert store.near.read("snapshots/1", 0, len(content)) == content
