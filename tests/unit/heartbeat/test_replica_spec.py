"""What SPEC.md says of the replica is so."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from uuid import UUID

import google_crc32c
import msgspec
import zstandard
from tests.unit.heartbeat.replica_kit import ADA, HOME, claimed, objects_in, record, ship_each
from tests.unit.workbook.kit import NOW

from torpor.base.limits import SNAPSHOT_INLINE_MAX
from torpor.heartbeat.records import HEADER_BYTES, Kind
from torpor.heartbeat.retention import Pace, Upkeep

ROOT = Path(__file__).parents[3]
SPEC = (ROOT / "SPEC.md").read_text(encoding="utf-8")


def test_every_invariant_of_the_replica_is_cited_by_a_test() -> None:
    listed = re.findall(r"^- \*\*(RP-\d+)\*\* (.*(?:\n  .*)*)", SPEC, re.MULTILINE)
    names = [name for name, _ in listed]
    assert names == [f"RP-{number}" for number in range(1, len(names) + 1)]
    assert all("MUST" in text or "counts only" in text or "by creating" in text for _, text in listed)
    cited = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        if path.name != "test_replica_spec.py"
        for name in re.findall(r"RP-\d+", path.read_text(encoding="utf-8"))
    }
    assert cited == set(names)


def test_a_pack_is_laid_out_as_the_page_says(tmp_path: Path) -> None:
    """By the words of the page, and nothing of our code."""
    objects = objects_in(tmp_path / "replica")
    replica = claimed(objects)
    replica.ship([record(5, kind=Kind.SNAPSHOT, txn=1, payload=b"first"), record(6, txn=2, payload=b"second")])
    pack = objects.content("log/0000000000000002.pack")
    assert pack[:8] == b"TORPORPK"
    written, kind, home, nonce, number, claim, first, last, begin, end = struct.unpack("<II16s16sQQQQqq", pack[8:96])
    assert (written, kind, number, claim, first, last) == (1, 1, 2, 1, 5, 6)
    assert str(UUID(bytes=home)) == HOME
    assert nonce.hex() == replica.nonce
    assert (begin, end) == (NOW + 5_000_000, NOW + 6_000_000)
    assert struct.unpack("<I", pack[124:128])[0] == google_crc32c.value(pack[:124])
    at, length, crc, size, magic = struct.unpack("<QIIQ8s", pack[-32:])
    assert (size, magic, at + length) == (len(pack), b"TORPORPK", len(pack) - 32)
    assert crc == google_crc32c.value(pack[at:-32])
    head, node, blocks, base = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(pack[at:-32]))
    assert head == [1, HOME, replica.nonce, 2, 1, 5, 6, begin, end]
    assert (node, base) == ("node 1", None)
    (block,) = blocks
    start, length, crc, raw = block[2:6]
    content = pack[start : start + length]
    assert google_crc32c.value(content) == crc
    records = zstandard.ZstdDecompressor().decompress(content)
    assert len(records) == raw == 2 * HEADER_BYTES + 16
    assert [block[at] for at in (0, 1, 6, 7, 8, 9, 10)] == [ADA, 1, 2, 5, 6, 2, 2]
    assert block[11:] == [begin, end, 2**Kind.COMMIT + 2**Kind.SNAPSHOT, 1, ""]


def test_keys_floor_and_manifest_are_as_the_page_says(tmp_path: Path) -> None:
    objects = objects_in(tmp_path / "replica")
    replica = claimed(objects)
    ship_each(replica, *([record(lsn, txn=lsn)] for lsn in range(1, 5)))
    Upkeep(replica, pace=Pace(tail_packs=2)).run(caught_up=True, whole=True)
    assert objects.keys("") == [
        "floor",
        "log/0000000000000001.pack",
        "log/0000000000000004.pack",
        "log/0000000000000005.pack",
        "log/0000000000000006.pack",
        "manifests/0000000000000006",
        "packs/0000000000000001-00000001",
    ]
    assert objects.content("floor") == b"0000000000000003\n"
    manifest = objects.content("manifests/0000000000000006")
    assert manifest[:8] == b"TORPORM1"
    assert struct.unpack("<I", manifest[8:12])[0] == google_crc32c.value(manifest[12:])
    told = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(manifest[12:]))
    home, number, highest, latest, base, claims, agents = told
    assert (home, number, highest, latest, claims) == (HOME, 6, 4, NOW + 4_000_000, [])
    assert base[0] == 3
    assert [source[0] for source in base[1]] == ["packs/0000000000000001-00000001"]
    assert base[2:] == [[1], []]
    assert [key for key, _ in agents[ADA]] == [
        "packs/0000000000000001-00000001",
        "log/0000000000000004.pack",
        "log/0000000000000005.pack",
    ]


def test_the_size_of_a_snapshot_that_is_a_record_is_that_of_the_page() -> None:
    assert "larger than 4 MiB" in SPEC
    assert SNAPSHOT_INLINE_MAX == 4 * 2**20
