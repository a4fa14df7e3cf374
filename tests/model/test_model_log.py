"""A log against a plain list, under random sequences of all that can be done to it, closing and kills among it."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.heartbeat.log_kit import AGENTS, SMALL, open_log

from torpor.base.errors import HeartbeatReleased
from torpor.heartbeat.log import Log
from torpor.heartbeat.records import Kind, Record, encoded_size
from torpor.testing import fail_at

AGENT = st.sampled_from(AGENTS)
KIND = st.sampled_from(list(Kind))
SIZE = st.one_of(st.integers(0, 40), st.integers(0, 3000), st.integers(2 * SMALL, 3 * SMALL))
Row = tuple[str, int, int, Kind, bytes]


class Killed(BaseException):
    """Stands for the end of the process."""


class LogMachine(RuleBasedStateMachine):
    """What was added is a list; how many of it are durable, and how many were given up, are two numbers."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp()) / "heartbeat"
        self.rows: list[Row] = []
        self.durable = 0
        self.log: Log = open_log(self.folder)

    @rule(agent=AGENT, kind=KIND, size=SIZE, byte=st.integers(0, 255), new=st.booleans())
    def add(self, agent: str, kind: Kind, size: int, byte: int, new: bool) -> None:  # noqa: FBT001  (drawn)
        lsn = self.log.add(agent, 0 if new else 1, len(self.rows), kind, bytes([byte]) * size)
        self.rows.append((agent, lsn if new else 1, len(self.rows), kind, bytes([byte]) * size))
        assert lsn == len(self.rows)

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def wait(self, data: st.DataObject) -> None:
        lsn = data.draw(st.integers(1, len(self.rows)))
        self.log.wait(lsn)
        assert self.log.durable >= lsn
        self.durable = self.log.durable

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        before = self.log.segments()
        lsn = data.draw(st.integers(0, len(self.rows) + 2))
        self.log.release(lsn)
        needed = [facts for facts in before[:-1] if facts.last > min(lsn, self.durable)]
        assert self.log.first == (needed or before[-1:])[0].first

    @rule()
    def prepare(self) -> None:
        self.log.prepare()

    @rule(data=st.data(), limit=st.integers(1, 20_000))
    def read(self, data: st.DataObject, limit: int) -> None:
        after = data.draw(st.integers(0, len(self.rows)))
        if after + 1 < self.log.first:
            with pytest.raises(HeartbeatReleased):
                self.log.read(after, limit)
            return
        found = self.log.read(after, limit)
        self.compare(found, after)
        assert bool(found) == (after < self.durable)
        assert len(found) < 2 or sum(encoded_size(len(each.payload)) for each in found) <= limit

    @rule()
    def close_and_open(self) -> None:
        self.log.close()
        self.log = open_log(self.folder)
        self.durable = len(self.rows)

    @precondition(lambda self: self.durable < len(self.rows))
    @rule(point=st.sampled_from(["heartbeat.writing", "heartbeat.written", "heartbeat.synced"]))
    def die_while_writing(self, point: str) -> None:
        with fail_at(point, Killed()), suppress(Killed):
            self.log.wait(self.log.last)
        self.be_killed()

    @rule()
    def be_killed(self) -> None:
        self.log._give_up()  # as the kernel does it for a process that was killed
        self.log = open_log(self.folder)
        assert self.durable <= self.log.durable <= len(self.rows)
        self.durable = self.log.durable
        del self.rows[self.durable :]

    def compare(self, found: list[Record], after: int) -> None:
        assert [record.lsn for record in found] == list(range(after + 1, after + 1 + len(found)))
        rows = [(each.agent, each.life, each.txn, each.kind, each.payload) for each in found]
        assert rows == self.rows[after : after + len(found)]

    @invariant()
    def everything_durable_is_there(self) -> None:
        if not hasattr(self, "log"):
            return
        assert (self.log.durable, self.log.last) == (self.durable, len(self.rows))
        self.compare([each for each in self.log.scan() if isinstance(each, Record)], self.log.first - 1)
        on_disk = [each.stat().st_size for each in self.folder.iterdir() if each.suffix in (".segment", ".spare")]
        assert sum(on_disk) == self.log.size

    def teardown(self) -> None:
        if hasattr(self, "log"):
            self.log.close()
            assert not os.path.exists(self.folder / "owner")
            shutil.rmtree(self.folder.parent)


TestLog = LogMachine.TestCase
TestLog.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
