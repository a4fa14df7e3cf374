"""What the models share: a workbook in a folder of its own, and blocks of transactions that end well or badly."""

import copy
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from torpor.workbook import Durability, Workbook

FAST = Durability("model", "OFF")
"""Power loss has tests of its own; here only the answers matter."""

USUAL = settings(
    max_examples=20,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    phases=[Phase.generate, Phase.shrink],
    print_blob=True,
)
TORTURE = settings(USUAL, max_examples=1500, stateful_step_count=120)


class SetClock:
    """A clock that is set by hand."""

    now = 1_800_000_000_000_000

    def now_us(self) -> int:
        return self.now


class Stop(Exception):
    """Leaves a block."""


class Machine(RuleBasedStateMachine):
    """A workbook beside a model of it, `self.model`, which is any value that can be copied."""

    model: Any

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="torpor-model-"))
        self.clock = SetClock()
        self.blocks: list[tuple[Any, Any]] = []
        self.book = self.open()

    def open(self, *, readonly: bool = False) -> Workbook:
        return Workbook.open(self.folder / "m.workbook", readonly=readonly, durability=FAST, clock=self.clock)

    @property
    def committed(self) -> Any:
        """What a second connection sees."""
        return self.blocks[0][1] if self.blocks else self.model

    @precondition(lambda self: len(self.blocks) < 4)
    @rule()
    def begin(self) -> None:
        block = self.book.transaction()
        block.__enter__()
        self.blocks.append((block, copy.deepcopy(self.model)))

    @precondition(lambda self: self.blocks)
    @rule()
    def end(self) -> None:
        self.blocks.pop()[0].__exit__(None, None, None)

    @precondition(lambda self: self.blocks)
    @rule()
    def undo(self) -> None:
        block, self.model = self.blocks.pop()
        block.__exit__(Stop, Stop(), None)

    @precondition(lambda self: not self.blocks)
    @rule()
    def reopen(self) -> None:
        self.book.close()
        self.book = self.open()

    def teardown(self) -> None:
        while self.blocks:
            self.end()
        try:
            assert self.book.verify().problems == ()
            self.book.close()
            with self.open(readonly=True) as book:
                assert book.verify().problems == ()
            assert [path.name for path in self.folder.iterdir()] == ["m.workbook"]
        finally:
            self.book.close()
            shutil.rmtree(self.folder)
