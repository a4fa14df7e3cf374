"""Random histories with rewinds: what was is had back, byte for byte, and so is every fork of it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from tests.model.kit import FAST, TORTURE, USUAL, SetClock
from tests.unit.workbook.kit import Seen, see

from torpor.base.errors import FileInTheWay, FileMissing
from torpor.workbook import Embedding, Workbook, fork

PATHS = st.sampled_from(["/a", "/b", "/folder/a", "/folder/b", "/folder/deep/c"])
VOLUMES = st.sampled_from(["workspace", "memory"])
CONTENT = st.one_of(st.sampled_from([b"a", b"aa", b"aaa"]), st.binary(max_size=40).map(lambda piece: piece * 200))
SOURCES = st.sampled_from(["one", "two", "three"])


class Histories(RuleBasedStateMachine):
    """A workbook, and what it was after each of its commits."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "ada.workbook"
        self.clock = SetClock()
        self.book = Workbook.open(self.path, durability=FAST, clock=self.clock)
        self.was: dict[int, Seen] = {}
        self.count = 0

    @initialize()
    def begin(self) -> None:
        self.was[0] = see(self.book)

    @rule(volume=VOLUMES, path=PATHS, content=CONTENT, mode=st.sampled_from([0o644, 0o600]))
    def write(self, volume: Any, path: str, content: bytes, mode: int) -> None:
        try:
            self.book.write(volume, path, content, mode=mode)
        except FileInTheWay:
            return

    @rule(volume=VOLUMES, path=PATHS, content=CONTENT)
    def append(self, volume: Any, path: str, content: bytes) -> None:
        try:
            self.book.volumes.append(volume, path, content)
        except FileInTheWay:
            return

    @rule(volume=VOLUMES, path=st.one_of(PATHS, st.just("/folder")), onto=PATHS, replace=st.booleans())
    def move(self, volume: Any, path: str, onto: str, *, replace: bool) -> None:
        if onto == path or onto.startswith(f"{path}/"):
            return
        try:
            self.book.move(volume, path, onto, replace=replace)
        except (FileMissing, FileInTheWay):
            return

    @rule(volume=VOLUMES, path=st.one_of(PATHS, st.sampled_from(["/folder", "/"])))
    def delete(self, volume: Any, path: str) -> None:
        try:
            self.book.delete(volume, path, recursive=True)
        except FileMissing:
            return

    @rule(volume=VOLUMES, path=PATHS, content=CONTENT)
    def stream(self, volume: Any, path: str, content: bytes) -> None:
        try:
            with self.book.writer(volume, path) as writer:
                writer.write(content)
        except FileInTheWay:
            return

    @rule(
        content=st.text(max_size=9).filter(lambda text: "\0" not in text),
        source=st.one_of(SOURCES, st.none()),
        named=st.booleans(),
        lasts=st.sampled_from([None, 1, 3]),
        vector=st.sampled_from([None, Embedding("test", [0.5, 1.0])]),
    )
    def remember(
        self, content: str, source: str | None, lasts: int | None, vector: Embedding | None, *, named: bool
    ) -> None:
        aliases = [f"{source}-alias"] if named and source else []
        expires = None if lasts is None else self.clock.now + lasts
        metadata = {"length": len(content), "big": 2**70}
        self.book.memory.remember(
            content, source=source, aliases=aliases, metadata=metadata, expires=expires, embedding=vector
        )

    @rule()
    def wait(self) -> None:
        self.clock.now += 1

    @rule(entry=st.integers(1, 4))
    def forget(self, entry: int) -> None:
        self.book.memory.forget(entry)

    @rule(name=st.sampled_from(["tone", "count"]), value=st.one_of(st.integers(), st.floats(0, 9), st.text(max_size=5)))
    def set(self, name: str, value: Any) -> None:
        self.book.settings.set(name, value)

    @rule(amount=st.integers(1, 9), key=st.sampled_from(["k1", "k2", "k3"]))
    def spend(self, amount: int, key: str) -> None:
        if all(booking.key != key for booking in self.book.spend.bookings()):
            self.book.spend.book(amount, "usd", source="wallet", target="models", key=key)

    @rule(quota=st.integers(1_000_000, 9_000_000))
    def limit(self, quota: int) -> None:
        self.book.volumes.set_quota("workspace", quota)

    @rule(number=st.integers(0, 2))
    def run_a_step(self, number: int) -> None:
        state = {run: state for run, _, state, *_ in self.book.journal.runs()}.get(f"r{number}")
        if state is None:
            self.book.append("run.started", {"message": "go"}, span=f"r{number}")
        elif state == "started":
            self.book.append("run.completed", {}, span=f"r{number}", key=f"end-{number}")

    @rule(content=CONTENT)
    def together(self, content: bytes) -> None:
        with self.book.transaction():
            self.book.append("note.added", {"count": self.count})
            self.book.volumes.append("memory", "/log", content)
            self.book.settings.set("count", self.count)

    @rule(data=st.data())
    def rewind(self, data: st.DataObject) -> None:
        to = data.draw(st.sampled_from(sorted(self.was)))
        event = self.book.rewind(to)
        assert see(self.book) == self.was[to]
        assert event == self.book.last

    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        at = data.draw(st.sampled_from(sorted(self.was)))
        target = Path(self.folder.name) / "fork.workbook"
        fork(self.path, target, agent="the-fork", at=at, durability=FAST)
        with Workbook.open(target, durability=FAST, clock=self.clock) as book:
            assert book.verify().problems == ()
            assert see(book) == self.was[at]
            assert book.lineage == (self.book.agent, at)
            theirs = [event for event in self.book.events() if event.seq <= at]
            assert [event for event in book.events() if event.seq <= at] == theirs
            book.rewind(at)
            assert see(book) == self.was[at]
            assert book.verify().problems == ()
        target.unlink()

    @rule()
    def reopen(self) -> None:
        self.book.close()
        self.book = Workbook.open(self.path, durability=FAST, clock=self.clock)

    @invariant()
    def it_is_whole(self) -> None:
        self.count += 1
        self.was.setdefault(self.book.last, see(self.book))
        assert self.book.verify().problems == ()

    def teardown(self) -> None:
        self.book.close()
        self.folder.cleanup()


def test_histories_with_rewinds_and_forks() -> None:
    run_state_machine_as_test(Histories, settings=USUAL)


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_many_histories_with_rewinds_and_forks() -> None:
    run_state_machine_as_test(Histories, settings=TORTURE)
