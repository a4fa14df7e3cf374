"""Packs: what is put in comes out, for its agent only; whatever is wrong is an error that says where."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.heartbeat.replica_kit import ADA, BOB, HOME, agent, claimed, flipped, objects_in, placed, record

from torpor.base.errors import ReplicaDamaged
from torpor.heartbeat.catalog import Piece, log_key
from torpor.heartbeat.packs import (
    FOOTER_BYTES,
    HEAD_BYTES,
    NO_SNAPSHOT,
    Block,
    Head,
    Index,
    PackKind,
    build,
    chunks_of,
    index_range,
    join,
    read_head,
    read_index,
    records_of,
)
from torpor.heartbeat.reading import Reader
from torpor.heartbeat.records import Kind, Record

HEAD = Head(PackKind.RECORDS, HOME, "ab" * 16, 7, 3, 0, 0, 5, 6)


def made(records: list[Record]) -> bytes:
    return b"".join(build(HEAD, "node", chunks_of(records))[0])


def index_of(content: bytes) -> Index:
    begin, end = index_range("here", content, len(content))
    return read_index("here", content[begin:end], content[-FOOTER_BYTES:])


def content_of(content: bytes, block: Block) -> bytes:
    return content[block.offset : block.offset + block.length]


def read_all(content: bytes) -> list[Record]:
    found = [one for block in index_of(content).blocks for one in records_of("here", block, content_of(content, block))]
    return sorted(found, key=lambda one: one.lsn)


def test_what_is_put_in_comes_out() -> None:
    records = [record(9, ADA, txn=4), record(10, BOB, txn=8), record(11, ADA, txn=5, payload=b"x" * 10_000)]
    content = made(records)
    assert read_all(content) == records
    head = read_head("here", content)
    assert (head.number, head.claim, head.first_lsn, head.last_lsn) == (7, 3, 9, 11)
    assert (head.first_time, head.last_time) == (records[0].time, records[2].time)
    assert index_of(content).head == head


def test_the_index_says_what_a_block_reaches() -> None:
    records = [record(1, kind=Kind.LIFE, txn=3), record(2, txn=4), record(3, txn=5), record(4, kind=Kind.LEFT, txn=5)]
    (block,) = index_of(made(records)).blocks
    assert (block.agent, block.life, block.count) == (ADA, 1, 4)
    assert (block.first_lsn, block.last_lsn, block.first_txn, block.last_txn) == (1, 4, 4, 5)
    assert block.snapshot == NO_SNAPSHOT
    assert block.has(Kind.LEFT)
    assert not block.has(Kind.GONE)


def test_a_snapshot_begins_a_block_and_so_does_a_life() -> None:
    """RP-7: a block has the records of one agent in one life, and a snapshot only as the first of them."""
    records = [
        record(1, txn=1),
        record(2, kind=Kind.SNAPSHOT, txn=1),
        record(3, txn=2),
        record(4, kind=Kind.SNAPSHOT_AT, txn=2, payload=placed("snapshots/x")),
        record(5, kind=Kind.LIFE, life=5, txn=9),
        record(6, life=5, txn=10),
    ]
    blocks = index_of(made(records)).blocks
    assert [(block.first_lsn, block.last_lsn, block.snapshot, block.at) for block in blocks] == [
        (1, 1, NO_SNAPSHOT, ""),
        (2, 3, 1, ""),
        (4, 4, 2, "snapshots/x"),
        (5, 6, NO_SNAPSHOT, ""),
    ]


def test_blocks_that_are_put_together_have_the_records_of_both() -> None:
    first, second = [record(1, txn=1), record(2, txn=2)], [record(7, txn=3, payload=b"y" * 5_000), record(9, txn=4)]
    joined = join([*chunks_of(first), *chunks_of(second)])
    assert records_of("here", joined.block, joined.content) == first + second
    assert (joined.block.first_txn, joined.block.last_txn, joined.block.count) == (1, 4, 4)


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.sampled_from(list(Kind)), st.integers(1, 3), st.binary(max_size=200)),
        min_size=1,
        max_size=40,
    )
)
def test_any_records_come_back_and_each_block_is_one_agents(facts: list[tuple[int, Kind, int, bytes]]) -> None:
    """RP-7: whatever the records, a block is of one agent and life, with a snapshot at most at its beginning."""
    records = [
        record(
            lsn,
            agent(who),
            kind,
            life=life,
            txn=lsn,
            payload=placed("snapshots/a") if kind is Kind.SNAPSHOT_AT else raw,
        )
        for lsn, (who, kind, life, raw) in enumerate(facts, start=1)
    ]
    content = made(records)
    assert read_all(content) == records
    for block in index_of(content).blocks:
        found = records_of("here", block, content_of(content, block))
        assert {(one.agent, one.life) for one in found} == {(block.agent, block.life)}
        assert not any(one.kind in (Kind.SNAPSHOT, Kind.SNAPSHOT_AT) for one in found[1:])


@pytest.fixture(scope="module")
def sample() -> bytes:
    return made([record(lsn, agent(lsn % 3), txn=lsn, payload=bytes(range(256)) * lsn) for lsn in range(1, 12)])


def test_every_flipped_bit_is_found_and_no_agent_gets_anothers_records(sample: bytes) -> None:
    """RP-8: of damaged bytes nothing is taken; the error names the pack, and where."""
    whole = read_all(sample)
    for at in range(len(sample)):
        with pytest.raises(ReplicaDamaged) as caught:
            assert read_all(flipped(sample, at)) == whole
            read_head("here", flipped(sample, at))
        assert caught.value.place == "here"
        assert 0 <= caught.value.offset < len(sample)


def test_a_pack_that_is_cut_anywhere_is_damaged(sample: bytes) -> None:
    for size in range(len(sample)):
        with pytest.raises(ReplicaDamaged):
            index_of(sample[:size])


def test_a_block_under_another_agents_entry_is_refused() -> None:
    """RP-8: an index that points to another agent's block gives an error, not that agent's records."""
    content = made([record(1, ADA, txn=1), record(2, BOB, txn=1)])
    ada, bob = index_of(content).blocks
    wrong = type(ada)(**{**{name: getattr(bob, name) for name in bob.__struct_fields__}, "agent": ADA})
    with pytest.raises(ReplicaDamaged, match=ADA):
        records_of("here", wrong, content_of(content, bob))


def test_the_error_names_pack_and_offset_of_the_damaged_block(tmp_path: Path) -> None:
    objects = objects_in(tmp_path / "replica")
    claimed(objects).ship([record(1, ADA, txn=1), record(2, BOB, txn=1)])
    key = log_key(2)
    ada, bob = Reader(objects).index(key).blocks
    objects.overwrite(key, flipped(objects.content(key), bob.offset + 3))
    assert [one.lsn for one in Reader(objects).records([Piece(key, ada)])] == [1]
    with pytest.raises(ReplicaDamaged) as caught:
        Reader(objects).records([Piece(key, bob)])
    assert caught.value.place == objects.place(key)
    assert caught.value.offset == bob.offset


def test_a_long_index_is_read_too(tmp_path: Path) -> None:
    objects = objects_in(tmp_path / "replica")
    claimed(objects).ship([record(lsn, agent(lsn * 7919), txn=lsn) for lsn in range(1, 4_001)])
    index = Reader(objects).index(log_key(2))
    assert len(index.blocks) == 4_000
    assert index.blocks[0].offset == HEAD_BYTES
    begin, end = index_range("here", objects.content(log_key(2)), objects.size(log_key(2)) or 0)
    assert end - begin > 64 * 1024, "otherwise this test shows nothing"
