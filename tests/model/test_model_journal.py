"""The journal behaves like a list, and a second connection sees exactly what was committed of it."""

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test
from tests.model.kit import TORTURE, USUAL, Machine

from torpor.base.errors import EventRefused, KeyReused
from torpor.workbook import Event, Workbook

KINDS = st.sampled_from(["a.b", "a.c", "file.seen"])
SPANS = st.sampled_from([None, "s", "t"])
KEYS = st.sampled_from([None, None, "k", "l", "m"])

Row = tuple[str, dict[str, Any], str | None, int | None, str | None]


def plain(event: Event) -> Row:
    return (event.kind, event.body, event.span, event.parent, event.key)


class JournalMachine(Machine):
    reader: Workbook

    def __init__(self) -> None:
        super().__init__()
        self.model = []

    @initialize()
    def second_connection(self) -> None:
        self.reader = self.open(readonly=True)

    @rule(kind=KINDS, number=st.integers(0, 3), span=SPANS, parent=st.integers(-1, 30), key=KEYS)
    def append(self, kind: str, number: int, span: str | None, parent: int, key: str | None) -> None:
        answered = parent if parent >= 0 and number else None
        row: Row = (kind, {"n": number}, span, answered, key)

        def call() -> int:
            return self.book.append(kind, {"n": number}, span=span, parent=answered, key=key)

        known = [seq for seq, old in enumerate(self.model, 1) if key is not None and old[4] == key]
        if known:
            if self.model[known[0] - 1][:2] == row[:2]:
                assert call() == known[0]
            else:
                with pytest.raises(KeyReused):
                    call()
        elif answered is not None and not 0 < answered <= len(self.model):
            with pytest.raises(EventRefused):
                call()
        else:
            assert call() == len(self.model) + 1
            self.model.append(row)

    @rule(after=st.integers(0, 40), span=SPANS, limit=st.one_of(st.none(), st.integers(0, 10)))
    def page(self, after: int, span: str | None, limit: int | None) -> None:
        expected = [
            (seq, row) for seq, row in enumerate(self.model, 1) if seq > after and (span is None or row[2] == span)
        ][:limit]
        found = [(event.seq, plain(event)) for event in self.book.events(after, span=span, limit=limit)]
        assert found == expected

    @rule(count=st.integers(400, 1100))
    def many(self, count: int) -> None:
        if len(self.model) > 2000:
            return
        with self.book.transaction():
            for number in range(count):
                self.book.append("a.many", {"n": number}, span="s" if number % 2 else None)
                self.model.append(("a.many", {"n": number}, "s" if number % 2 else None, None, None))

    @rule(key=st.sampled_from(["k", "l", "m"]))
    def by_key(self, key: str) -> None:
        found = self.book.journal.by_key(key)
        known = [row for row in self.model if row[4] == key]
        assert [plain(found)] == known if found else known == []

    @invariant()
    def the_newest_is_known(self) -> None:
        assert self.book.last == len(self.model)

    @rule()
    def beside(self) -> None:
        found = list(self.reader.events())
        assert [plain(event) for event in found] == self.committed
        assert [event.seq for event in found] == list(range(1, len(found) + 1))

    def teardown(self) -> None:
        while self.blocks:
            self.end()
        events = list(self.book.events())
        assert [plain(event) for event in events] == self.model
        assert len({event.id for event in events}) == len(events)
        self.reader.close()
        super().teardown()


def test_the_journal_agrees_with_a_list() -> None:
    run_state_machine_as_test(JournalMachine, settings=USUAL)


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_the_journal_agrees_with_a_list_for_long() -> None:
    run_state_machine_as_test(JournalMachine, settings=TORTURE)
