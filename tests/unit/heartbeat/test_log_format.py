"""The bytes of the log: every flipped one is noticed, and damage is told apart from a torn tail."""

from __future__ import annotations

import struct
from pathlib import Path

import google_crc32c
import msgspec
import pytest
from tests.unit.heartbeat.log_kit import AGENTS, HOME, SMALL, add, commit, damage, numbers, open_log, payload_of

from torpor.base.clock import SystemClock
from torpor.base.errors import HeartbeatDamaged
from torpor.heartbeat.log import Log
from torpor.heartbeat.records import HEADER_BYTES, Flaw, Kind, Record, decode, decode_all, encode, encoded_size, sealed
from torpor.heartbeat.segment import BLOCK_BYTES, Heading, Walk, number_in, read_heading, segment_name

RECORD = Record(7, 5, AGENTS[1], 3, 12, 1_764_000_000_000_000, Kind.SNAPSHOT, b"payload of some length")
HEADING = Heading(3, 41, SMALL, HOME, 1_764_000_000_000_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "heartbeat"


def segment(folder: Path, number: int = 1) -> Path:
    return folder / segment_name(number)


def flip(path: Path, offset: int, bits: int = 0x40) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= bits
    path.write_bytes(data)


def places(folder: Path, number: int = 1) -> list[int]:
    """Return where the records of a segment begin."""
    data = segment(folder, number).read_bytes()
    heading = read_heading(data)
    assert isinstance(heading, Heading)
    found, offset = [], BLOCK_BYTES
    while isinstance(record := decode(data, offset, heading.seed), Record):
        found.append(offset)
        offset += encoded_size(len(record.payload))
    return found


# --- records ---


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 100_000])
@pytest.mark.parametrize("seed", [0, 1, 0xFFFFFFFF])
def test_a_record_is_read_as_it_was_written(size: int, seed: int) -> None:
    record = msgspec.structs.replace(RECORD, payload=payload_of(1, size))
    data = encode(record, seed)
    assert len(data) == encoded_size(size)
    assert len(data) % 8 == 0
    assert decode(b"before" + data + b"behind", 6, seed) == record


def test_a_record_has_the_layout_of_the_specification() -> None:
    """HB-4, in words of its own."""
    data = encode(RECORD, 99)
    rest = struct.pack(
        "<IIQQ16sQQqBB6x", len(RECORD.payload), google_crc32c.value(RECORD.payload), 7, 5,
        bytes.fromhex(AGENTS[1].replace("-", "")), 3, 12, RECORD.time, 3, 0,
    )  # fmt: skip
    head = b"\xd7TRB" + struct.pack("<I", google_crc32c.extend(99, rest))
    assert data == head + rest + RECORD.payload + bytes(-len(RECORD.payload) % 8)
    assert len(head + rest) == HEADER_BYTES


def test_every_flipped_bit_of_header_and_payload_is_noticed() -> None:
    data = encode(RECORD, 99)
    for offset in range(HEADER_BYTES + len(RECORD.payload)):
        for bit in range(8):
            broken = bytearray(data)
            broken[offset] ^= 1 << bit
            assert isinstance(decode(bytes(broken), 0, 99), Flaw), (offset, bit)


def test_every_shortened_record_is_noticed() -> None:
    data = encode(RECORD)
    for size in range(HEADER_BYTES + len(RECORD.payload)):
        assert isinstance(decode(data[:size]), Flaw)


def test_a_record_of_one_place_is_none_in_another() -> None:
    data = encode(RECORD, 99)
    assert isinstance(decode(data, 0, 98), Flaw)
    assert decode(sealed(data, 98), 0, 98) == RECORD


def test_records_back_to_back_are_read_and_the_first_flaw_is_told() -> None:
    many = [msgspec.structs.replace(RECORD, lsn=lsn, payload=payload_of(lsn)) for lsn in range(1, 20)]
    data = b"".join(encode(record) for record in many)
    assert decode_all(data) == many
    assert decode_all(b"") == []
    assert isinstance(decode_all(data[:-9]), Flaw)
    assert isinstance(decode_all(data + bytes(8)), Flaw)


def test_an_unknown_kind_is_a_flaw() -> None:
    rest = bytearray(encode(RECORD)[8:HEADER_BYTES])
    rest[64] = 200
    data = (
        b"\xd7TRB" + struct.pack("<I", google_crc32c.value(bytes(rest))) + bytes(rest) + encode(RECORD)[HEADER_BYTES:]
    )
    found = decode(data)
    assert isinstance(found, Flaw)
    assert "kind 200" in found.reason


# --- headings ---


def test_a_heading_has_the_layout_of_the_specification() -> None:
    """HB-2, in words of its own."""
    home = bytes.fromhex(HOME.replace("-", ""))
    packed = struct.pack("<8sIIQQQ16sq", b"TORPORHB", 1, 0, 3, 41, SMALL, home, HEADING.created)
    half = packed + struct.pack("<I", google_crc32c.value(packed))
    half += bytes(2048 - len(half))
    assert HEADING.block() == half + half
    assert HEADING.seed == google_crc32c.value(packed)


def test_either_half_of_a_heading_will_do() -> None:
    block = HEADING.block()
    for offset in range(64):
        for half in (0, 2048):
            broken = bytearray(block)
            broken[half + offset] ^= 1
            assert read_heading(bytes(broken)) == HEADING
        broken[offset] ^= 1
        assert isinstance(read_heading(bytes(broken)), str)


def test_a_newer_format_is_told() -> None:
    packed = struct.pack("<8sIIQQQ16sq", b"TORPORHB", 2, 0, 3, 41, SMALL, bytes(16), 0)
    assert "format 2" in str(read_heading(packed + struct.pack("<I", google_crc32c.value(packed))))


@pytest.mark.parametrize("name", ["1.segment", "index.db", "0123456789abcdeg.segment", "0000000000000001.spare", ""])
def test_the_names_of_other_things_have_no_number(name: str) -> None:
    assert number_in(name) is None


def test_a_name_has_its_number() -> None:
    assert number_in(segment_name(0xAB)) == 0xAB
    assert segment_name(0xAB) == "00000000000000ab.segment"


# --- damage and torn tails ---


def grouped(folder: Path) -> None:
    """Write groups of 3, 1, 3 and 2 records into one segment."""
    with open_log(folder) as log:
        for first, count in ((1, 3), (4, 1), (5, 3), (8, 2)):
            for number in range(first, first + count):
                add(log, number, 300)
            log.wait(log.last)
        assert [each.group for each in log.scan() if isinstance(each, Record)] == [1, 1, 1, 4, 5, 5, 5, 8, 8]


@pytest.mark.parametrize("number", range(1, 8))
@pytest.mark.parametrize("part", ["magic", "header", "payload"])
def test_damage_before_the_last_group_is_told_with_its_place_and_nothing_else_is_lost(
    folder: Path, number: int, part: str
) -> None:
    """HB-7."""
    grouped(folder)
    place = places(folder)[number - 1]
    flip(segment(folder), place + {"magic": 1, "header": 40, "payload": HEADER_BYTES + 17}[part])
    with open_log(folder) as log:
        assert log.durable == 9
        (found,) = damage(log)
        assert (found.segment, found.offset, found.lsn, found.until) == (1, place, number, number + 1)
        assert found.agent == (AGENTS[number % 5] if part == "payload" else None)
        others = [each.txn for each in log.scan() if isinstance(each, Record)]
        assert others == [each for each in range(1, 10) if each != number]
        assert commit(log, 10) == 10


def test_a_record_with_the_right_number_and_another_writes_group_is_not_due() -> None:
    data = HEADING.block() + b"".join(
        encode(msgspec.structs.replace(RECORD, lsn=lsn, group=group), HEADING.seed)
        for lsn, group in ((41, 41), (42, 42), (43, 42), (44, 41), (45, 45))
    )
    walk = Walk(data, HEADING, None)
    assert [each.lsn for each in walk] == [41, 42, 43, 44, 45]
    short = Walk(data[: -encoded_size(len(RECORD.payload))], HEADING, None)
    assert [each.lsn for each in short] == [41, 42, 43]
    assert short.litter()


def test_damage_over_several_records_is_one(folder: Path) -> None:
    grouped(folder)
    begin, end = places(folder)[1], places(folder)[6]
    data = bytearray(segment(folder).read_bytes())
    data[begin + 5 : end - 5] = b"\xff" * (end - begin - 10)
    segment(folder).write_bytes(data)
    with open_log(folder) as log:
        (found,) = damage(log)
        assert (found.lsn, found.until, found.agent) == (2, 7, None)
        assert [each.txn for each in log.scan() if isinstance(each, Record)] == [1, 7, 8, 9]


@pytest.mark.parametrize("number", [8, 9])
def test_a_tear_in_the_last_group_is_the_end_of_the_log(folder: Path, number: int) -> None:
    """HB-8."""
    grouped(folder)
    flip(segment(folder), places(folder)[number - 1] + 50)
    with open_log(folder) as log:
        assert numbers(log) == list(range(1, number))
        assert log.last == log.durable == number - 1
        assert commit(log, number) == number
    with open_log(folder) as log:
        assert numbers(log) == list(range(1, number + 1))


def test_what_a_torn_group_left_behind_the_tear_never_comes_back(folder: Path) -> None:
    """HB-9: records of the same size in the same places would fit, if the log went on there."""
    with open_log(folder) as log:
        commit(log, 1, 300)
        for number in range(2, 6):
            add(log, number, 300)
        log.wait(log.last)
    flip(segment(folder), places(folder)[1] + 50)
    with open_log(folder) as log:
        assert numbers(log) == [1]
        assert [facts.number for facts in log.segments()] == [1, 2]
        commit(log, 12, 300)
    with open_log(folder) as log:
        assert numbers(log) == [1, 12]
        commit(log, 13, 300)
        assert numbers(log) == [1, 12, 13]


def test_a_log_without_a_torn_tail_goes_on_in_the_same_segment(folder: Path) -> None:
    for number in range(1, 5):
        with open_log(folder) as log:
            commit(log, number, 100)
            assert len(log.segments()) == 1


def test_damage_at_the_end_of_a_segment_is_proved_by_the_next(folder: Path) -> None:
    with open_log(folder) as log:
        number = 0
        while len(log.segments()) < 2:
            number += 1
            commit(log, number, 700)
    last = len(places(folder))
    flip(segment(folder), places(folder)[-1] + 50)
    with open_log(folder) as log:
        (found,) = damage(log)
        assert (found.segment, found.lsn, found.until) == (1, last, last + 1)


def test_a_missing_segment_is_damage(folder: Path) -> None:
    with open_log(folder) as log:
        number = 0
        while len(log.segments()) < 3:
            number += 1
            commit(log, number, 700)
    here = len(places(folder, 1))
    gone = len(places(folder, 2))
    segment(folder, 2).unlink()
    with open_log(folder) as log:
        (found,) = damage(log)
        assert (found.segment, found.lsn, found.until) == (2, here + 1, here + gone + 1)
        assert log.durable == number


def test_a_segment_without_a_heading_is_damage_if_it_is_not_the_last(folder: Path) -> None:
    with open_log(folder) as log:
        number = 0
        while len(log.segments()) < 3:
            number += 1
            commit(log, number, 700)
    here, gone = len(places(folder, 1)), len(places(folder, 2))
    for half in (0, 2048):
        flip(segment(folder, 2), half + 20)
    with open_log(folder) as log:
        (found,) = damage(log)
        assert (found.segment, found.offset, found.lsn, found.until) == (2, 0, here + 1, here + gone + 1)
        with pytest.raises(HeartbeatDamaged):
            log.read(here, 10_000)
        assert [record.txn for record in log.read(here + gone, 10_000)] == list(range(here + gone + 1, number + 1))


def test_a_last_segment_without_a_heading_is_refused(folder: Path) -> None:
    grouped(folder)
    for half in (0, 2048):
        flip(segment(folder), half + 20)
    with pytest.raises(HeartbeatDamaged) as refused:
        open_log(folder)
    assert refused.value.path == str(segment(folder))
    assert not (folder / "owner").exists()


def test_another_homes_segments_are_refused(folder: Path) -> None:
    grouped(folder)
    with pytest.raises(HeartbeatDamaged, match="another home"):
        Log.open(str(folder), AGENTS[0], SystemClock(), segment_bytes=SMALL)


def test_what_an_earlier_use_left_in_a_segment_is_never_read(folder: Path) -> None:
    """HB-3: the same sizes in the same places, one record fewer."""
    with open_log(folder) as log:
        number = 0
        while len(log.segments()) < 4:
            number += 1
            commit(log, number, 700)
        used = len(places(folder, 1))
        log.release(log.durable)
        while len(log.segments()) < 2:
            number += 1
            commit(log, number, 700)
        latest = segment(folder, log.segments()[-1].number)
        end = BLOCK_BYTES + log.segments()[-1].used
    data = latest.read_bytes()
    assert not any(data[end : -(-end // BLOCK_BYTES) * BLOCK_BYTES]), "old content stands in the last block"
    assert data.count(b"\xd7TRB") > 1, "nothing of the earlier use is there: this would show nothing"
    assert used > 1
    with open_log(folder) as log:
        assert log.durable == number
        assert numbers(log)[-1] == number


def test_a_payload_that_holds_records_of_this_very_log_confuses_nobody(folder: Path) -> None:
    grouped(folder)
    copy = segment(folder).read_bytes()[BLOCK_BYTES:7000]
    with open_log(folder, segment_bytes=16 * BLOCK_BYTES) as log:
        lsn = log.add(AGENTS[0], 1, 10, Kind.COMMIT, copy)
        log.wait(lsn)
        commit(log, 11, 100)
        commit(log, 12, 100)
        number = log.segments()[-1].number
    flip(segment(folder, number), places(folder, number)[9 if number == 1 else 0] + 50)
    with open_log(folder, segment_bytes=16 * BLOCK_BYTES) as log:
        (found,) = damage(log)
        assert (found.lsn, found.until) == (10, 11)
        assert [each.txn for each in log.scan() if isinstance(each, Record)] == [*range(1, 10), 11, 12]
