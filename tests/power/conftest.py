"""Fixtures of the tests of power cuts."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """Return a new folder, in which a workload is recorded."""
    folder = tmp_path / "desk"
    folder.mkdir()
    return folder
