"""The real Litestream for tests: what TORPOR_LITESTREAM or PATH has, else the npm package, fetched once per user."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from functools import cache
from pathlib import Path

import pytest
from platformdirs import user_cache_path

PACKAGE = "@flydotio/litestream-linux-x64@1.0.1"  # Litestream 0.3.13


@cache
def litestream() -> str:
    """Return the path of the program; the test is skipped where there is none and none can be fetched."""
    named = os.environ.get("TORPOR_LITESTREAM") or shutil.which("litestream")
    if named:
        return named
    kept = user_cache_path("torpor-tests") / PACKAGE.rpartition("/")[2] / "litestream"
    if not kept.exists():
        _fetch(kept)
    return str(kept)


def _fetch(kept: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("there is no Litestream on PATH, and no npm to fetch it with")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["npm", "pack", "--silent", PACKAGE, "--pack-destination", folder],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        packed = next(Path(folder).glob("*.tgz"), None)
        if done.returncode != 0 or packed is None:
            pytest.skip(f"there is no Litestream on PATH, and npm can't fetch it: {done.stderr.strip()[-200:]}")
        with tarfile.open(packed) as tar:
            tar.extractall(folder, filter="data")
        found = next(path for path in Path(folder).rglob("litestream") if path.is_file())
        kept.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=kept.parent)) / "litestream"
        shutil.copy(found, draft)
        draft.chmod(0o755)
        draft.replace(kept)  # whole or not there, also where several test processes fetch it at once
        draft.parent.rmdir()
