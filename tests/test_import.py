"""Importing Torpor is cheap and does nothing: a tool may import it at its start without paying for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SRC = Path(__file__).parents[1] / "src"

# An audit hook sees what a program does: files opened, threads started, sockets made (PEP 578). The environment is
# replaced by one that notes who reads it.
WATCHED = """
import importlib, json, os, sys, threading
opened, others, read = [], [], []

def hook(event, arguments):
    if event == "open":
        opened.append(str(arguments[0]))
    elif event in {"_thread.start_new_thread", "socket.__new__", "subprocess.Popen", "os.fork", "os.mkdir"}:
        others.append(event)

class Noted(dict):
    def __getitem__(self, name):
        read.append(name)
        return dict.__getitem__(self, name)
    def get(self, name, default=None):
        read.append(name)
        return dict.get(self, name, default)
    def __contains__(self, name):
        read.append(name)
        return dict.__contains__(self, name)

before = set(sys.modules)
os.environ = Noted(os.environ)
sys.addaudithook(hook)
importlib.import_module(sys.argv[1])
for name in sys.argv[2:]:
    getattr(sys.modules[sys.argv[1]], name)
found = {
    "modules": sorted(set(sys.modules) - before),
    "opened": opened, "others": others, "read": read, "threads": threading.active_count(),
}
print(json.dumps(found))
"""

HEAVY = {
    "anyio", "apsw", "bm25s", "feedparser", "httpx", "lxml", "msgspec", "numpy", "pydantic", "rich", "safetensors",
    "sqlite3", "sqlite_vec", "tokenizers", "typer", "wordllama", "asyncio", "ssl", "email",
}  # fmt: skip


def imported(*words: str) -> dict[str, Any]:
    env = {**os.environ, "PYTHONPATH": str(SRC), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", WATCHED, *words], env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def tops(found: dict[str, Any]) -> set[str]:
    return {name.partition(".")[0] for name in found["modules"]}


def test_importing_torpor_loads_no_heavy_module_and_does_nothing() -> None:
    found = imported("torpor")
    assert not tops(found) & HEAVY
    assert [name for name in found["modules"] if name.startswith("torpor")] == ["torpor"]
    assert found["others"] == []
    assert found["read"] == []
    assert found["threads"] == 1
    assert [name for name in found["opened"] if not name.endswith((".py", ".pyc"))] == []


def test_using_a_workbook_loads_neither_models_nor_the_command_line() -> None:
    found = imported("torpor", "Workbook", "Agent", "step")
    assert not tops(found) & {
        "numpy",
        "httpx",
        "rich",
        "typer",
        "lxml",
        "feedparser",
        "wordllama",
        "tokenizers",
        "bm25s",
    }
    assert not [
        name for name in found["modules"] if name.startswith(("torpor.models", "torpor.skills", "torpor.service"))
    ]
    assert "_thread.start_new_thread" not in found["others"]
    assert [name for name in found["read"] if name.startswith("TORPOR")] == []


def test_the_command_line_loads_no_model_and_no_http_before_it_is_asked_for_a_briefing() -> None:
    found = imported("torpor.main")
    assert not tops(found) & {"httpx", "lxml", "feedparser", "wordllama", "tokenizers", "bm25s", "safetensors"}
    assert [name for name in found["read"] if name.startswith("TORPOR")] == []


@pytest.mark.parametrize("name", ["nothing", "workbook_", "Workbok"])
def test_a_name_that_torpor_does_not_offer_is_an_attribute_error(name: str) -> None:
    import torpor

    with pytest.raises(AttributeError, match=name):
        getattr(torpor, name)
