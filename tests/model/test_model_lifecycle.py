"""The whole lifecycle against a model, with every process that moves an agent killed somewhere, or not.

Each operation is done by a process of its own, which opens the home, and is killed by SIGKILL at a fault point that the
machine draws, counted over all the points that it passes: in the recovery, before the move, between any two of its
writes. Then another process opens the home and tells what it finds: each agent in its old state or its new one, with
all that was acknowledged, and not a file more or less than its state needs.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import obstore
import pytest
import zstandard
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from tests.model.kit import TORTURE, USUAL

from torpor.base import faults
from torpor.base.errors import MoveRefused, TorporError
from torpor.home import Home
from torpor.lifecycle import EDGES

IMPORTED = (obstore, zstandard)
"""What the children need, imported once for all."""

DAY = 86_400 * 1_000_000
KILLS = st.one_of(st.none(), st.integers(1, 45))
NAMES = ["ada", "bea", "cyd", "dot", "eve", "fay"]


@dataclass(frozen=True)
class Expected:
    """What the model knows of an agent."""

    state: str = "created"
    notes: tuple[str, ...] = ()
    """The texts of its notes, each an acknowledged commit."""
    fetched: bool = False
    """Whether a frozen agent's file is here too."""


class Clock:
    """A clock that stands where the machine has put it."""

    def __init__(self, now: int) -> None:
        self.now = now

    def now_us(self) -> int:
        return self.now


@dataclass
class Told:
    """What a process said before it ended."""

    done: bool = False
    """Whether it came to its end."""
    error: str = ""
    value: Any = None


def in_child(act: Callable[[], Any], kill: int | None = None) -> Told:
    """Do something in a process of its own, which is killed at the `kill`-th fault point that it passes."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            os.write(writing, msgspec.json.encode(_act(act, kill)))
            status = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(status)
    os.close(writing)
    with open(reading, "rb") as stream:
        said = stream.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert kill is not None
        return Told()
    assert status == 0, said
    return msgspec.json.decode(said, type=Told)


def _act(act: Callable[[], Any], kill: int | None) -> Told:
    passed = 0

    def hear(name: str) -> None:
        nonlocal passed
        passed += 1
        if passed == kill:
            os.kill(os.getpid(), signal.SIGKILL)

    faults.listen(hear)
    try:
        return Told(done=True, value=act())
    except TorporError as error:
        return Told(done=True, error=type(error).__name__, value=str(error))


class Lives(RuleBasedStateMachine):
    """A home, and what the model knows of its agents."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="torpor-lives-"))
        self.now = 1_800_000_000_000_000
        self.agents: dict[str, Expected] = {}
        self.template: tuple[str, ...] | None = None
        self.written = 0

    # --- the plumbing ---

    def home(self) -> Home:
        return Home.open(self.folder / "home", clock=Clock(self.now))

    def do(self, act: Callable[[Home], Any], kill: int | None) -> Told:
        def whole() -> Any:
            with self.home() as home:
                return act(home)

        return in_child(whole, kill)

    def settle(self, told: Told, name: str, *possible: Expected) -> None:
        """Find an agent as it may be: as the last of these where the process came to its end."""
        found = in_child(lambda: self.look(name)).value
        if told.done:
            possible = possible[-1:]
        seen = msgspec.convert(found, type=Expected)
        assert seen in possible, (name, seen, possible, told)
        self.agents[name] = seen

    def look(self, name: str) -> Any:
        with self.home() as home:
            record = home.ledger.agent(name)
            here = (self.folder / "home" / record.file).exists() if record.file else False
            notes: tuple[str, ...] = self.agents[name].notes if name in self.agents else ()
            if here:
                with home.reading(name) as book:
                    assert book.verify().problems == ()
                    notes = tuple(event.body["text"] for event in book.events() if event.kind == "note.added")
            fetched = here and record.state == "frozen"
            return msgspec.to_builtins(Expected(record.state, notes, fetched))

    def legal(self, name: str, to: str) -> bool:
        return to in EDGES[self.agents[name].state]  # type: ignore[index]  # a state is a text

    # --- what is done ---

    @initialize()
    def begin(self) -> None:
        self.make("ada", None)

    @rule(name=st.sampled_from(NAMES), kill=KILLS)
    def make(self, name: str, kill: int | None) -> None:
        if name in self.agents:
            told = self.do(lambda home: home.new(name).id, kill)
            assert told.error == "NameTaken" or not told.done
            return
        told = self.do(lambda home: home.new(name).id, kill)
        if not told.done and not self.known(name):
            return
        assert told.error == ""
        self.settle(told, name, Expected())

    def known(self, name: str) -> bool:
        def ask() -> bool:
            with self.home() as home:
                return any(record.name == name for record in home.ledger.agents())

        return bool(in_child(ask).value)

    @rule(data=st.data(), kill=KILLS, scratch=st.booleans())
    def write(self, data: st.DataObject, kill: int | None, *, scratch: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.agents)))
        was = self.agents[name]
        self.written += 1
        text = f"note {self.written}"

        def act(home: Home) -> None:
            with home.using(name) as book:
                assert book.list("tmp", recursive=True) == []
                if scratch:
                    book.write("tmp", "/scratch", b"x" * 5000)
                book.append("note.added", {"text": text})

        told = self.do(act, kill)
        if was.state == "deleted":
            assert not told.done or told.error == "MoveRefused"
            return
        assert told.error == "", told
        awake = replace(was, state="active", fetched=False)
        self.settle(
            told,
            name,
            was,
            replace(was, fetched=was.state == "frozen"),
            awake,
            replace(awake, notes=(*was.notes, text)),
        )

    def move(self, name: str, verb: str, to: str, kill: int | None, *between: Expected) -> None:
        was = self.agents[name]
        told = self.do(lambda home: getattr(home, verb)(name).ms, kill)
        if was.state == to:
            assert told.error == "", told
            self.settle(told, name, was, replace(was, fetched=False))
            return
        if not self.legal(name, to):
            assert not told.done or told.error == MoveRefused.__name__, told
            self.settle(Told(), name, was)
            return
        assert told.error == "", told
        self.settle(told, name, was, *between, replace(was, state=to, fetched=False))

    @rule(data=st.data(), kill=KILLS)
    def wake(self, data: st.DataObject, kill: int | None) -> None:
        name = data.draw(st.sampled_from(sorted(self.agents)))
        was = self.agents[name]
        self.move(name, "wake", "active", kill, replace(was, fetched=was.state == "frozen"))

    @rule(data=st.data(), kill=KILLS, verb=st.sampled_from(["suspend", "freeze", "archive", "delete"]))
    def sink(self, data: st.DataObject, kill: int | None, verb: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.agents)))
        to = {"suspend": "suspended", "freeze": "frozen", "archive": "archived", "delete": "deleted"}[verb]
        self.move(name, verb, to, kill)

    @rule(data=st.data(), kill=KILLS)
    def prefetch(self, data: st.DataObject, kill: int | None) -> None:
        name = data.draw(st.sampled_from(sorted(self.agents)))
        was = self.agents[name]
        told = self.do(lambda home: home.prefetch(name).after, kill)
        if was.state == "deleted":
            assert not told.done or told.error == "MoveRefused"
            return
        assert told.error == "", told
        self.settle(told, name, was, replace(was, fetched=was.state == "frozen"))

    @rule(data=st.data(), new=st.sampled_from(NAMES), kill=KILLS)
    def fork(self, data: st.DataObject, new: str, kill: int | None) -> None:
        here = [
            name
            for name, agent in self.agents.items()
            if agent.fetched or agent.state in ("created", "active", "suspended")
        ]
        if new in self.agents or not here:
            return
        name = data.draw(st.sampled_from(sorted(here)))
        told = self.do(lambda home: home.fork(name, new=new).id, kill)
        assert told.error == "", told
        if told.done or self.known(new):
            self.settle(told, new, Expected(notes=self.agents[name].notes))

    @precondition(lambda self: self.template is None)
    @rule(kill=KILLS)
    def make_template(self, kill: int | None) -> None:
        if self.agents["ada"].state not in ("created", "active", "suspended"):
            return
        notes = self.agents["ada"].notes

        def act(home: Home) -> str:
            return home.templates.create("base", "ada").digest

        told = self.do(act, kill)
        assert told.error == "", told

        def ask() -> bool:
            with self.home() as home:
                return any(template.name == "base" for template in home.ledger.templates.all())

        if in_child(ask).value:
            self.template = notes
        else:
            assert not told.done

    @precondition(lambda self: self.template is not None)
    @rule(kill=KILLS, count=st.integers(1, 3))
    def clone(self, kill: int | None, count: int) -> None:
        before = self.all_names()
        told = self.do(lambda home: len(home.templates.clone("base", tenant="acme", count=count)), kill)
        assert told.error == "", told
        new = [name for name in self.all_names() if name not in before]
        assert len(new) == count or (not told.done and not new), "all or none"
        for name in new:
            self.settle(told, name, Expected(notes=self.template or ()))

    def all_names(self) -> list[str]:
        def ask() -> list[str]:
            with self.home() as home:
                return [record.name for record in home.ledger.agents()]

        names: list[str] = in_child(ask).value
        return names

    @rule(kill=KILLS, days=st.sampled_from([-1.0, 0.0, 0.02, 1.5]))
    def tick(self, kill: int | None, days: float) -> None:
        self.now += int(days * DAY)
        told = self.do(lambda home: [str(failed.error) for failed in home.tick().failed], kill)
        assert told.error == ""
        assert not told.done or told.value == []
        for name, was in list(self.agents.items()):
            lower = {"active": "suspended", "suspended": "frozen"}.get(was.state, was.state)
            found = in_child(lambda name=name: self.look(name)).value  # type: ignore[misc]  # bound at once
            assert found["state"] in (was.state, lower)
            assert tuple(found["notes"]) == was.notes
            self.agents[name] = replace(was, state=found["state"], fetched=found["fetched"])

    @rule()
    def nothing_is_there_that_nobody_knows(self) -> None:
        def walk() -> tuple[list[str], int]:
            with self.home() as home:
                wanted = {"ledger.db", "ledger.db-wal", "ledger.db-shm", "agents", "templates", "cold", "archive"}
                for record in home.ledger.agents():
                    for place in (record.cold, record.archive):
                        if place:
                            store, _, key = place.partition("#")
                            wanted |= {f"{store}/{key}", f"{store}/{key.split('/')[0]}"}
                    if record.state in ("created", "active", "suspended") or self.agents[record.name].fetched:
                        wanted.add(record.file)
                for template in home.ledger.templates.all():
                    wanted.add(template.file)
                root = self.folder / "home"
                found = {path.relative_to(root).as_posix() for path in root.rglob("*")}
                found = {name for name in found if name.partition("/")[0] != "heartbeat"}
                empty = {name for name in found - wanted if (root / name).is_dir() and not any((root / name).iterdir())}
                return sorted(found - wanted - empty), len(list(home.ledger.leftovers()))

        strays, leftovers = in_child(walk).value
        assert strays == []
        assert leftovers == 0

    def teardown(self) -> None:
        try:
            self.nothing_is_there_that_nobody_knows()
        finally:
            shutil.rmtree(self.folder)


LENGTHS = {
    "few": settings(USUAL, max_examples=10, stateful_step_count=20),
    "many": settings(TORTURE, max_examples=200, stateful_step_count=60),
}
"""Every step is two processes or more."""

ROOT = Path(__file__).parents[2]


def live(length: str) -> None:
    run_state_machine_as_test(Lives, settings=LENGTHS[length])


def in_new_process(length: str) -> None:
    """Run the machine in a process that has never used a store: what is forked from one that has can use none."""
    words = [sys.executable, "-c", f"import tests.model.test_model_lifecycle as lives; lives.live({length!r})"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_lives_with_deaths() -> None:
    in_new_process("few")


@pytest.mark.torture
def test_many_lives_with_deaths() -> None:
    in_new_process("many")
