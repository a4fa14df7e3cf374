from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from torpor import Workbook


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


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
