"""What the model of a power cut assumes of the layers below is so, by the system calls that are really made."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys

import pytest

SCRIPT = """
import sys
from torpor.workbook import Workbook
for n in range(2):
    with Workbook.open(sys.argv[1]) as book:
        for m in range(3):
            book.append("note.added", {"n": n, "m": m})
"""


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the file system calls of a process that makes a workbook, in order."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    folder = tmp_path_factory.mktemp("traced")
    trace = folder / "trace"
    command = [
        "strace", "-f", "-y", "-o", str(trace),
        "-e", "trace=fsync,fdatasync,pwrite64,rename,unlink",
        sys.executable, "-c", SCRIPT, str(folder / "ada.workbook"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"strace may not trace here: {done.stderr[-200:]}")
    lines = trace.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.replace(str(folder), "DIR") for line in lines if str(folder) in line]


def syncs(calls: list[str]) -> list[str]:
    return [found.group(1) for line in calls if (found := re.search(r"f(?:data)?sync\(\d+<([^>]*)>\)", line))]


def test_the_first_sync_of_a_log_syncs_its_folder_too(calls: list[str]) -> None:
    found = syncs(calls)
    for log in ("DIR/ada.workbook-new-wal", "DIR/ada.workbook-wal"):
        assert found[found.index(log) + 1] == "DIR"


def test_each_opening_that_makes_a_log_syncs_the_folder_again(calls: list[str]) -> None:
    found = syncs(calls)
    pairs = list(itertools.pairwise(found))
    assert pairs.count(("DIR/ada.workbook-wal", "DIR")) == 2


def test_the_name_of_a_new_workbook_is_certain_before_anything_is_written_to_it(
    calls: list[str],
) -> None:
    renamed = next(at for at, line in enumerate(calls) if "rename(" in line)
    synced = next(at for at in range(renamed, len(calls)) if "sync(" in calls[at])
    assert "<DIR>" in calls[synced]
    assert not any("pwrite64" in line for line in calls[renamed:synced])


def test_each_append_asks_for_one_sync_of_the_log(calls: list[str]) -> None:
    assert syncs(calls).count("DIR/ada.workbook-wal") >= 6
