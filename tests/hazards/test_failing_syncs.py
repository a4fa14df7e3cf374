"""A sync that the kernel refuses, of whichever file and whenever: typed, undone, and nothing acknowledged is lost.

strace(1) makes the nth fdatasync of a child fail, so SQLite meets it where it really calls it, checkpoints included.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from torpor.workbook import Workbook

SCRIPT = """
import json, sys
import apsw
from torpor.base.errors import StorageFailed
from torpor.workbook import Workbook

apsw.connection_hooks.append(lambda db: db.wal_autocheckpoint(6))
failed, acknowledged = [], 0
for _ in range(2):
    try:
        book = Workbook.open(sys.argv[1])
    except StorageFailed:
        failed.append("open")
        book = Workbook.open(sys.argv[1])
    for n in range(8):
        before = book.last
        while True:
            try:
                seq = book.append("note.added", {"n": n, "text": "x" * 2000})
                break
            except StorageFailed:
                failed.append("append")
                assert book.last == before, "not undone"
        assert seq == before + 1
        acknowledged = seq
    book.verify().require()
    try:
        book.close()
    except StorageFailed:
        failed.append("close")
print(json.dumps({"failed": failed, "acknowledged": acknowledged}))
"""


def injected(path: Path, nth: int) -> dict[str, object]:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    inject = ["-e", "trace=fdatasync", "-e", f"inject=fdatasync:error=EIO:when={nth}"]
    command = [
        "strace",
        "-f",
        "-qq",
        "-o",
        str(path.with_name("trace")),
        *inject,
        sys.executable,
        "-c",
        SCRIPT,
        str(path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "ptrace" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def check(tmp_path: Path, nth: int) -> tuple[dict[str, object], bool]:
    folder = tmp_path / str(nth)
    folder.mkdir()
    path = folder / "ada.workbook"
    said = injected(path, nth)
    with Workbook.open(path) as book:
        assert book.last == said["acknowledged"] == 16
        book.verify().require()
    return said, "INJECTED" in (folder / "trace").read_text(encoding="utf-8")


def test_a_sync_that_fails_loses_nothing(tmp_path: Path) -> None:
    answers = [check(tmp_path, nth) for nth in (1, 2, 3, 9, 14)]
    assert all(struck for _, struck in answers)
    assert any("append" in str(said["failed"]) for said, _ in answers)


@pytest.mark.torture
def test_each_sync_that_fails_in_turn_loses_nothing(tmp_path: Path) -> None:
    nth = 1
    while check(tmp_path, nth)[1]:
        nth += 1
    assert nth > 20
