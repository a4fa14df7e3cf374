"""A replica behind a network that fails: errors, lies, lost and cut answers, answers from the past, and a real S3."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.contract.store_kit import new_bucket, serving_s3, speaking_to
from tests.unit.heartbeat.replica_kit import Watched, agent, claimed, node
from tests.unit.heartbeat.replica_model import AGENTS, Lives, by_then, expected
from tests.unit.heartbeat.test_replica_model import found_in
from tests.unit.workbook.kit import SetClock

from torpor.base.errors import HeartbeatFenced, ReplicaDamaged, StoreUnreachable
from torpor.heartbeat.replica import Replica
from torpor.heartbeat.retention import Pace, Upkeep
from torpor.stores.objects import open_objects
from torpor.testing.chance import Seeded
from torpor.testing.proxy import Harm, Proxy
from torpor.testing.proxy import Kind as HarmKind

PACE = Pace(tail_packs=2, merge_packs=4, manifest_packs=3)
TRIES = 200

HARMS: list[tuple[HarmKind, str]] = [
    ("refuse", "PUT"),
    ("refuse", "GET"),
    ("refuse", "HEAD"),
    ("refuse", "DELETE"),
    ("lie", "PUT"),
    ("lose", "PUT"),
    ("lose", "GET"),
    ("cut", "GET"),
    ("shorten", "GET"),
    ("lie", "DELETE"),
]


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with serving_s3() as address:
        yield address


@pytest.fixture
def proxy(s3: str) -> Iterator[Proxy]:
    with Proxy(s3) as between:
        yield between


@pytest.fixture
def bucket(s3: str) -> str:
    return new_bucket(s3)


def seen_through(address: str, bucket: str, folder: Path) -> Watched:
    return Watched(open_objects(f"s3://{bucket}/replica", str(folder), options=speaking_to(address)))


def until_done(replica: Replica, lives: Lives, upkeep: Upkeep) -> None:
    """Ship all, and keep the replica, however often it fails."""
    for _ in range(TRIES):
        try:
            replica.claim()
            replica.ship(lives.records)
            upkeep.run(caught_up=True, whole=True)
        except (StoreUnreachable, ReplicaDamaged):  # a cut answer is what damage looks like, too
            continue
        else:
            return
    raise AssertionError("the weather never ends")


@pytest.mark.parametrize(("kind", "method"), HARMS)
def test_bad_weather_loses_nothing_and_doubles_nothing(
    proxy: Proxy, bucket: str, s3: str, tmp_path: Path, kind: HarmKind, method: str
) -> None:
    """RP-3, RP-11: 500 and 503, answers that are lost, cut, shortened, or lie."""
    clear = seen_through(s3, bucket, tmp_path)
    lives, clock = Lives(3), SetClock()
    replica = node(seen_through(proxy.url, bucket, tmp_path), clock=clock)
    upkeep = Upkeep(replica, keep_s=20, pace=PACE)
    chance = Seeded(5)
    for _ in range(5):
        lives.pack()
        clock.now = lives.records[-1].time
        proxy.set(
            Harm(kind, method, times=1 + chance.below(3), status=500 + 3 * chance.below(2), size=chance.below(60))
        )
        until_done(replica, lives, upkeep)
        assert replica.shipped == lives.records[-1].lsn
    assert proxy.struck or method == "DELETE"
    proxy.lift()
    for number in range(AGENTS):
        assert found_in(clear, agent(number)) == expected(lives.records, agent(number))


def test_a_put_that_arrives_late_comes_before_its_successor_or_not_at_all(
    proxy: Proxy, bucket: str, s3: str, tmp_path: Path
) -> None:
    """RP-2: a pack that was held on its way, while another node claimed, is refused when it gets there."""
    lives = Lives(4)
    first = lives.pack()
    old = claimed(seen_through(proxy.url, bucket, tmp_path), 1)
    old.ship(first)
    clear = seen_through(s3, bucket, tmp_path)
    held = Harm("delay", "PUT")
    proxy.set(held)
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(old.ship, lives.pack())
        proxy.wait_until_held()
        new = claimed(clear, 2)
        proxy.release()
        with pytest.raises(HeartbeatFenced):
            late.result()
    assert new.shipped == old.shipped == first[-1].lsn
    new.ship(lives.records)
    for number in range(AGENTS):
        assert found_in(clear, agent(number)) == expected(lives.records, agent(number))


def test_a_claim_and_a_reader_see_through_lists_of_the_past(proxy: Proxy, bucket: str, s3: str, tmp_path: Path) -> None:
    """RP-4: the list is answered as it was when the replica was young."""
    far = seen_through(proxy.url, bucket, tmp_path)
    lives = Lives(6)
    first = claimed(seen_through(s3, bucket, tmp_path), 1)
    first.ship(lives.pack())
    assert [found.key for found in far.list("log")]
    for _ in range(5):
        first.ship(lives.pack())
    proxy.set(Harm("stale", "GET", path="list-type", times=10**6))
    new = node(far, 2)
    assert new.claim().last_lsn == lives.records[-1].lsn
    assert proxy.struck
    for number in range(AGENTS):
        assert found_in(far, agent(number)) == expected(lives.records, agent(number))
    with pytest.raises(HeartbeatFenced):
        first.ship(lives.pack())
    proxy.lift()
    before = by_then(lives.records, new.shipped)
    assert found_in(far, agent(0)) == expected(before, agent(0))
