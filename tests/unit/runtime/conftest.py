from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from torpor import Workbook


@pytest.fixture(autouse=True)
def _new_world(request: pytest.FixtureRequest) -> None:
    """Begin each test of a module that has a `World` with a new one, as its `world`."""
    if hasattr(request.module, "World"):
        request.module.world = request.module.World()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ada.workbook"


@pytest.fixture
def book(path: Path) -> Iterator[Workbook]:
    """A workbook, whose invariants must hold when the test is done with it."""
    book = Workbook.open(path)
    yield book
    book.close()
    with Workbook.open(path, readonly=True) as again:
        assert again.verify().problems == ()
