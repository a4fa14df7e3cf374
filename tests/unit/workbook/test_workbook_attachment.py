"""Attachments: a lock that lasts as long as the program that inherited it, and that no mover gets past."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.hazards.kit import ROOT
from tests.unit.workbook.log_kit import MemoryLog

from torpor.base.errors import AgentBusy, WorkbookMissing
from torpor.workbook import Durability, Workbook, at_rest
from torpor.workbook.attachment import Attached, attach, attached, attachment_path, folder_for_attached

RECORD = Attached(pid=os.getpid(), program="Copier 1.0", target="file:///srv/there")
ENV = {"PYTHONPATH": str(ROOT / "src"), "PATH": os.defpath}


@pytest.fixture
def path(tmp_path: Path) -> str:
    Workbook.open(tmp_path / "ada.workbook").close()
    return str(tmp_path / "ada.workbook")


def test_it_says_who_is_attached_and_how_far_it_is(path: str) -> None:
    assert attached(path) is None
    attachment = attach(path, RECORD)
    assert attached(path) == RECORD

    attachment.write(Attached(pid=1, program="p", sent=12))

    assert attached(path) == Attached(pid=1, program="p", sent=12)
    attachment.release()
    assert attached(path) is None
    assert not os.path.exists(attachment_path(path))


def test_an_owner_does_not_mind_and_a_mover_is_refused(path: str) -> None:
    attachment = attach(path, RECORD)
    with Workbook.open(path) as book:
        book.append("note.added", {})
    with pytest.raises(AgentBusy, match=r"Copier 1\.0 replicates it to file:///srv/there"), at_rest(path):
        pass
    attachment.release()

    with at_rest(path) as rest:
        assert rest.look().seq == 1


def test_an_owner_whose_commits_a_log_keeps_is_refused(path: str) -> None:
    attachment = attach(path, RECORD)
    with pytest.raises(AgentBusy, match=r"Copier 1\.0 replicates it"):
        Workbook.open(path, durability=Durability("heartbeat", "NORMAL", log=MemoryLog(os.path.dirname(path))))
    attachment.release()
    Workbook.open(path, durability=Durability("heartbeat", "NORMAL", log=MemoryLog(os.path.dirname(path)))).close()


def test_nobody_is_attached_to_what_is_being_moved(path: str) -> None:
    with at_rest(path), pytest.raises(AgentBusy, match="is about to copy, move or remove it"):
        attach(path, RECORD)

    attach(path, RECORD).release()
    assert os.listdir(os.path.dirname(path)) == ["ada.workbook"]


def test_one_is_attached_beside_an_owner(path: str) -> None:
    with Workbook.open(path):
        attach(path, RECORD).release()


def test_a_second_is_refused(path: str) -> None:
    attachment = attach(path, RECORD)

    with pytest.raises(AgentBusy, match="for process"):
        attach(path, RECORD)

    assert attached(path) == RECORD
    attachment.release()


def test_there_is_no_folder_to_be_attached_in(tmp_path: Path) -> None:
    with pytest.raises(WorkbookMissing):
        attach(str(tmp_path / "none" / "ada.workbook"), RECORD)


ATTACHER = """
import os, subprocess, sys
from torpor.workbook.attachment import Attached, attach
path, how = sys.argv[1:]
attachment = attach(path, Attached(pid=os.getpid(), program="Copier 1.0"))
if how == "program":
    subprocess.Popen(["cat"], pass_fds=[attachment.descriptor], stdout=subprocess.DEVNULL)
elif how == "fork" and os.fork() == 0:
    os.read(0, 1)
    os._exit(0)
os.kill(os.getpid(), 9)
"""
"""Attaches, leaves a process that lives until standard input ends, and dies."""


@contextmanager
def left_by_the_dead(path: str, how: str) -> Iterator[None]:
    words = [sys.executable, "-c", ATTACHER, path, how]
    with subprocess.Popen(words, env=ENV, stdin=subprocess.PIPE) as process:
        assert process.wait(60) == -9
        yield
        process.communicate()


def test_the_lock_lasts_as_long_as_the_program_when_its_owner_is_killed(path: str) -> None:
    with left_by_the_dead(path, "program"):
        assert attached(path) is not None
        with pytest.raises(AgentBusy), at_rest(path):
            pass


def test_a_forked_child_of_the_owner_does_not_keep_the_lock(path: str) -> None:
    with left_by_the_dead(path, "fork"):
        assert attached(path) is None
        with at_rest(path):
            pass


@pytest.mark.parametrize("finder", ["attached", "at rest", "attach"])
def test_what_the_dead_left_is_removed_by_whoever_finds_it(path: str, finder: str) -> None:
    folder = folder_for_attached()
    attachment = attach(path, Attached(pid=1, program="p", folder=folder))
    os.close(attachment.descriptor)  # as when its process dies
    attachment.descriptor = os.open(os.devnull, os.O_RDONLY)

    if finder == "attached":
        assert attached(path) is None
    elif finder == "at rest":
        with at_rest(path):
            pass
    else:
        attach(path, RECORD).release()

    assert not os.path.exists(folder)
    assert not os.path.exists(attachment_path(path))
    os.close(attachment.descriptor)


def test_a_folder_that_was_not_made_for_it_is_left_alone(path: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    attachment = attach(path, Attached(pid=1, program="p", folder=str(mine)))
    os.close(attachment.descriptor)
    attachment.descriptor = os.open(os.devnull, os.O_RDONLY)

    assert attached(path) is None

    assert mine.exists()
    os.close(attachment.descriptor)


def test_a_text_that_is_none_of_ours_is_no_reason_to_fail(path: str) -> None:
    attachment = attach(path, RECORD)
    os.pwrite(attachment.descriptor, b"\xff" * 10_000, 0)

    found = attached(path)

    assert found is not None
    assert found.program == "a program that is just starting"
    attachment.release()
