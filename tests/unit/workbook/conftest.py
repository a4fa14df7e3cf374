"""Fixtures of the workbook's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.workbook.kit import SetClock

from torpor.workbook import Workbook


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ada.workbook"


@pytest.fixture
def book(path: Path, clock: SetClock) -> Iterator[Workbook]:
    with Workbook.open(path, clock=clock) as book:
        yield book
        assert book.verify().problems == ()
