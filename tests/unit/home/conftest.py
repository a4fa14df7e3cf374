"""Fixtures of the homes' tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.home.kit import open_home
from tests.unit.workbook.kit import SetClock

from torpor.home import Home


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return the folder of a replica."""
    made = tmp_path / "replica"
    made.mkdir()
    return made


@pytest.fixture
def home(folder: Path, clock: SetClock) -> Iterator[Home]:
    with open_home(folder, clock) as home:
        yield home
