"""The images of a power cut are those that the model allows: hand-made tapes with known answers."""

from __future__ import annotations

from torpor.testing import Image, Tape, images
from torpor.testing.power import (
    Acknowledged,
    Begun,
    FolderSynced,
    Made,
    Op,
    Removed,
    Renamed,
    Shortened,
    Synced,
    Wrote,
)

BASE: tuple[Op, ...] = (Made("a", 1), Wrote(1, 0, b"old"), Synced(1), FolderSynced())


def ends(*ops: Op, budget: int = 800) -> list[dict[str, bytes]]:
    """Return the disks that a cut at the end of the tape could leave."""
    return [image.files for image in last(*ops, budget=budget)]


def last(*ops: Op, budget: int = 800) -> list[Image]:
    # An image that was yielded for an earlier moment doesn't come again; the mark makes those of the end new.
    tape = Tape([*ops, Acknowledged(9)])
    return [image for image in images(tape, seed=1, budget=budget) if image.acknowledged == 9]


def test_what_was_synced_is_in_every_image() -> None:
    assert ends(*BASE) == [{"a": b"old"}]


def test_an_unsynced_write_is_there_or_not() -> None:
    found = ends(*BASE, Wrote(1, 0, b"new"))
    assert {files["a"] for files in found} == {b"old", b"new"}


def test_unsynced_writes_are_independent_of_their_order() -> None:
    found = ends(*BASE, Wrote(1, 0, b"1"), Wrote(1, 1, b"2"))
    assert {files["a"] for files in found} == {b"old", b"1ld", b"o2d", b"12d"}


def test_a_write_is_torn_at_sectors() -> None:
    base = (Made("a", 1), Wrote(1, 0, b"-" * 1536), Synced(1), FolderSynced())
    found = {files["a"] for files in ends(*base, Wrote(1, 256, b"+" * 1024))}
    # It covers the end of the first sector, all of the second, and the beginning of the third.
    parts = {(body[256:512], body[512:1024], body[1024:1280]) for body in found}
    assert len(parts) == 8
    assert all(len(set(part)) == 1 for three in parts for part in three)
    assert all(body[:256] + body[1280:] == b"-" * 512 for body in found)


def test_writes_to_two_files_are_reordered() -> None:
    two = (*BASE, Made("b", 2), Wrote(2, 0, b"old"), Synced(2), FolderSynced())
    found = ends(*two, Wrote(1, 0, b"new"), Wrote(2, 0, b"new"))
    assert len({(files["a"], files["b"]) for files in found}) == 4


def test_what_was_lost_at_the_end_of_a_file_may_be_zeros_or_garbage() -> None:
    found = {files["a"] for files in ends(*BASE, Wrote(1, 3, b"x" * 512), Wrote(1, 600, b"y"))}
    assert b"old" in found
    assert b"old" + bytes(597) + b"y" in found
    assert any(len(body) == 515 and body != b"old" + b"x" * 512 for body in found)
    assert all(body.startswith(b"old") for body in found)


def test_a_truncation_is_there_or_not() -> None:
    found = ends(*BASE, Shortened(1, 1))
    assert {files["a"] for files in found} == {b"old", b"o"}


def test_a_name_is_certain_only_after_a_sync_of_the_folder() -> None:
    loose = ends(Made("a", 1), Wrote(1, 0, b"old"), Synced(1))
    assert {"a": b"old"} in loose
    assert {} in loose
    assert ends(Made("a", 1), Wrote(1, 0, b"old"), Synced(1), FolderSynced()) == [{"a": b"old"}]


def test_a_rename_is_atomic_and_brings_what_is_certain_of_the_content() -> None:
    found = ends(*BASE, Wrote(1, 0, b"new"), Renamed("a", "b", 1))
    assert {tuple(files.items()) for files in found} == {
        (("a", b"old"),),
        (("a", b"new"),),
        (("b", b"old"),),
        (("b", b"new"),),
    }


def test_a_removed_name_may_come_back() -> None:
    found = ends(*BASE, Removed("a"))
    assert {"a": b"old"} in found
    assert {} in found


def test_images_know_what_was_acknowledged() -> None:
    tape = Tape([*BASE, Acknowledged(0), Begun(1), Wrote(1, 0, b"new"), Synced(1), Acknowledged(1)])
    marks = {(image.acknowledged, image.begun, image.files.get("a")) for image in images(tape, seed=1, budget=100)}
    assert {mark for mark in marks if mark[0] >= 0} == {
        (0, -1, b"old"),
        (0, 1, b"old"),
        (0, 1, b"new"),
        (1, 1, b"new"),
    }


def test_the_same_seed_gives_the_same_images() -> None:
    tape = Tape([*BASE, *(Wrote(1, n * 700, bytes([n]) * 700) for n in range(20))])
    one, same, other = ([image.files for image in images(tape, seed=seed, budget=100)] for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_no_image_comes_twice_and_the_budget_holds() -> None:
    tape = Tape([*BASE, *(Wrote(1, n * 700, bytes([n]) * 700) for n in range(20))])
    found = [(image.acknowledged, image.files["a"]) for image in images(tape, seed=1, budget=200) if image.files]
    assert len(found) == len(set(found))
    assert 100 < len(found) <= 200
