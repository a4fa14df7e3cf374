"""Fixtures of the ledger's tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a ledger can be made."""
    return tmp_path / "ledger.db"
