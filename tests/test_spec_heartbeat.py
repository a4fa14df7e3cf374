"""The chapter of SPEC.md on the heartbeat is true: its layouts, its kinds, and its invariants, each cited by a test."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import google_crc32c

from torpor.base.limits import LOG_SEGMENT_BYTES, MIB
from torpor.heartbeat.records import HEADER_BYTES, MAGIC, Kind, Record, decode, encode
from torpor.heartbeat.segment import BLOCK_BYTES, FORMAT, Heading, read_heading

ROOT = Path(__file__).parents[1]
SPEC = (ROOT / "SPEC.md").read_text(encoding="utf-8")
CHAPTER = SPEC[SPEC.index("\n## 12 The heartbeat\n") : SPEC.index("\n## 13 ")]
AGENT = "0198b7a0-1234-7000-8000-00000000c0de"


def rows(heading: str) -> list[list[str]]:
    """Return the rows of the chapter's table under such a heading."""
    found = re.search(rf"^\| {heading} \|.*\n\|[-| ]+\n((?:\|.*\n)+)", CHAPTER, re.MULTILINE)
    assert found, heading
    return [[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in found[1].splitlines()]


def fields(data: bytes, heading: str) -> dict[str, bytes]:
    """Cut some bytes as a table says, and insist that it says something of every one of them."""
    found, due = {}, 0
    for where, what in rows(heading):
        first, last = [int(number) for number in re.findall(r"\d+", where)] * (1 if "to" in where else 2)
        assert first == due
        due = last + 1
        found[re.split(r"[ ,:;']", what.removeprefix("the "))[0]] = data[first:due]
    return found


def number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def test_a_heading_is_as_the_page_says() -> None:
    heading = Heading(7, 99, LOG_SEGMENT_BYTES, AGENT, 1_764_000_000_000_000)
    block = heading.block()
    assert len(block) == BLOCK_BYTES == 4096
    for half in (block[:2048], block[2048:]):
        assert half[68:] == bytes(2048 - 68)
        cut = fields(half[:68], r"bytes \| of a heading")
        assert cut["letters"] == b"TORPORHB"
        assert [number(cut[name]) for name in ("format", "segment", "lsn", "its")] == [FORMAT, 7, 99, LOG_SEGMENT_BYTES]
        assert cut["home"].hex() == AGENT.replace("-", "")
        assert struct.unpack("<q", cut["when"]) == (heading.created,)
        assert number(cut["CRC-32C"]) == google_crc32c.value(half[:64]) == heading.seed
    assert read_heading(block) == heading
    assert LOG_SEGMENT_BYTES == 16 * MIB


def test_a_record_is_as_the_page_says() -> None:
    record = Record(12, 10, AGENT, 3, 44, 1_764_000_000_000_000, Kind.LEFT, b"payload")
    seed = 0x1234ABCD
    data = encode(record, seed)
    told = rows(r"bytes \| of a header")
    assert bytes.fromhex(told[0][1].split("`")[1]) == data[:4] == MAGIC
    offsets = {what.split(":")[0]: where for where, what in told}
    assert offsets["lsn"] == "16 to 23"
    assert offsets["group"] == "24 to 31"
    assert (number(data[8:12]), number(data[16:24]), number(data[24:32])) == (7, 12, 10)
    assert data[32:48].hex() == AGENT.replace("-", "")
    assert (number(data[48:56]), number(data[56:64]), number(data[64:72])) == (3, 44, record.time)
    assert (data[72], data[73:80]) == (Kind.LEFT, bytes(7))
    assert number(data[12:16]) == google_crc32c.value(b"payload")
    assert number(data[4:8]) == google_crc32c.extend(seed, data[8:80])
    assert data[HEADER_BYTES:] == b"payload\0"
    assert decode(data, 0, seed) == record


def test_the_seed_is_continued_as_if_the_header_followed_the_heading() -> None:
    heading = Heading(7, 99, LOG_SEGMENT_BYTES, AGENT, 5)
    data = encode(Record(99, 99, AGENT, 1, 1, 5, Kind.COMMIT, b""), heading.seed)
    assert number(data[4:8]) == google_crc32c.value(heading.block()[:64] + data[8:80])


def test_the_kinds_are_those_of_the_code() -> None:
    names = {int(row[0]): row[1] for row in rows(r"kind \| name")}
    assert names.keys() == {kind.value for kind in Kind}
    words = {"snapshot elsewhere": "SNAPSHOT_AT"}
    assert {words.get(name, name.upper()) for name in names.values()} == {kind.name for kind in Kind}


def test_every_invariant_is_stated_once_and_cited_by_a_test() -> None:
    listed = re.findall(r"^- \*\*(HB-\d+)\*\* (.*(?:\n  .*)*)", SPEC, re.MULTILINE)
    names = [name for name, _ in listed]
    assert names == [f"HB-{number}" for number in range(1, len(names) + 1)]
    assert all("MUST" in text for _, text in listed)
    cited = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        if path.name != Path(__file__).name
        for name in re.findall(r"HB-\d+", path.read_text(encoding="utf-8"))
    }
    assert cited == set(names)
