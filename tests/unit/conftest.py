"""Fixtures of the tests of single modules."""

from __future__ import annotations

import pytest
from tests.unit.workbook.kit import SetClock


@pytest.fixture
def clock() -> SetClock:
    """Return a clock that stands still until it is set."""
    return SetClock()
