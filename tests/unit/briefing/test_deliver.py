"""Delivery: two files, both there whole or none, and nobody's file replaced."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from torpor.base.errors import DeliveryFailed
from torpor.skills.briefing.deliver import deliver, delivered, file_names
from torpor.testing import fail_at, record

MD, HTML = file_names("r1")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_the_files_are_named_by_the_run_and_hold_the_texts(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    assert delivered(str(out), "r1", "é", "<p>") is None
    assert deliver(str(out), "r1", "é", "<p>") == [str(out / MD), str(out / HTML)]
    assert names(out) == [HTML, MD]
    assert (out / MD).read_bytes() == "é".encode()
    assert delivered(str(out), "r1", "é", "<p>") == [str(out / MD), str(out / HTML)]


def test_doing_it_again_changes_nothing(tmp_path: Path) -> None:
    deliver(str(tmp_path), "r1", "m", "h")
    before = (tmp_path / MD).stat()
    deliver(str(tmp_path), "r1", "m", "h")
    assert (tmp_path / MD).stat() == before


@pytest.mark.parametrize("missing", [MD, HTML])
def test_what_is_missing_is_delivered_and_the_rest_left_as_it_is(tmp_path: Path, missing: str) -> None:
    deliver(str(tmp_path), "r1", "m", "h")
    (tmp_path / missing).unlink()
    assert delivered(str(tmp_path), "r1", "m", "h") is None
    deliver(str(tmp_path), "r1", "m", "h")
    assert names(tmp_path) == [HTML, MD]


@pytest.mark.parametrize("other", [MD, HTML])
def test_a_file_of_that_name_with_other_content_is_kept_and_nothing_is_delivered(tmp_path: Path, other: str) -> None:
    (tmp_path / other).write_text("mine")
    with pytest.raises(DeliveryFailed, match=f"another file of the name {other} is there"):
        deliver(str(tmp_path), "r1", "m", "h")
    assert names(tmp_path) == [other]
    assert (tmp_path / other).read_text() == "mine"
    assert delivered(str(tmp_path), "r1", "m", "h") is None


def test_a_link_that_leads_nowhere_is_not_written_through(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / MD).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DeliveryFailed):
        deliver(str(out), "r1", "m", "h")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(("point", "nth"), [("delivery.staged", 1), ("delivery.staged", 2), ("delivery.half", 1)])
def test_a_failure_half_way_leaves_nothing(tmp_path: Path, point: str, nth: int) -> None:
    out = tmp_path / "out"
    with (
        fail_at(point, OSError(28, "No space left on device"), nth),
        pytest.raises(DeliveryFailed, match="no space left"),
    ):
        deliver(str(out), "r1", "m", "h")
    assert names(out) == []
    deliver(str(out), "r1", "m", "h")
    assert names(out) == [HTML, MD]


def test_a_failure_half_way_leaves_what_an_earlier_attempt_has_delivered(tmp_path: Path) -> None:
    deliver(str(tmp_path), "r1", "m", "h")
    (tmp_path / HTML).unlink()
    with fail_at("delivery.half", OSError(5, "Input/output error")), pytest.raises(DeliveryFailed):
        deliver(str(tmp_path), "r1", "m", "h")
    assert names(tmp_path) == [MD]


def test_a_draft_of_a_killed_attempt_is_used_up(tmp_path: Path) -> None:
    (tmp_path / f".{MD}.part").write_text("torn")
    deliver(str(tmp_path), "r1", "m", "h")
    assert names(tmp_path) == [HTML, MD]
    assert (tmp_path / MD).read_text() == "m"


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_file_where_the_folder_should_be_is_said_to_be_so(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    assert delivered(str(tmp_path / place), "r1", "m", "h") is None
    with pytest.raises(DeliveryFailed, match="there is a file where the folder should be"):
        deliver(str(tmp_path / place), "r1", "m", "h")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_not_known_to_hold_anything(tmp_path: Path) -> None:
    deliver(str(tmp_path / "out"), "r1", "m", "h")
    (tmp_path / "out").chmod(0)
    try:
        assert delivered(str(tmp_path / "out"), "r1", "m", "h") is None
        with pytest.raises(DeliveryFailed, match="permission denied"):
            deliver(str(tmp_path / "out"), "r1", "m", "h")
    finally:
        (tmp_path / "out").chmod(0o700)


def test_the_fault_points_are_passed_in_order(tmp_path: Path) -> None:
    with record() as reached:
        deliver(str(tmp_path), "r1", "m", "h")
    assert reached == ["delivery.begun", "delivery.staged", "delivery.staged", "delivery.half", "delivery.placed"]
