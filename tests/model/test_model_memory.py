"""Memory behaves like a dictionary with two indexes, and spend like a list of movements that sum to zero."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test
from tests.model.kit import TORTURE, USUAL, Machine

from torpor.base.errors import KeyReused
from torpor.workbook import Embedding

WORDS = ["sloth", "river", "stone", "cloud", "ember", "zürich", "42"]  # of seven different stems
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5)
NAMES = st.sampled_from(["n1", "n2", "n3", "n4", "n5"])
KINDS = st.sampled_from(["note", "article"])
VECTORS = st.lists(st.integers(-3, 3), min_size=3, max_size=3).filter(any)
MODELS = st.sampled_from(["m", "n"])
ACCOUNTS = st.sampled_from(["wallet", "models/a", "models/b"])


@dataclass(frozen=True)
class Kept:
    words: tuple[str, ...]
    kind: str
    source: str | None
    aliases: tuple[str, ...]
    expires: int | None
    vector: tuple[str, tuple[int, ...]] | None


class MemoryMachine(Machine):
    def __init__(self) -> None:
        super().__init__()
        self.model = {"memory": {}, "spend": {}}

    def alive(self) -> dict[int, Kept]:
        now = self.clock.now
        kept: dict[int, Kept] = self.model["memory"]
        return {entry: it for entry, it in kept.items() if it.expires is None or it.expires > now}

    def owner(self, name: str) -> int | None:
        owners = [entry for entry, it in self.alive().items() if it.source == name]
        owners += [entry for entry, it in self.alive().items() if name in it.aliases]
        return owners[0] if owners else None

    @rule(
        words=TEXTS, kind=KINDS, source=st.one_of(st.none(), NAMES), aliases=st.lists(NAMES, max_size=2),
        lasts=st.sampled_from([None, None, -5, 1, 20]), vector=st.one_of(st.none(), st.tuples(MODELS, VECTORS)),
    )  # fmt: skip
    def remember(
        self, words: list[str], kind: str, source: str | None, aliases: list[str], lasts: int | None, vector: Any
    ) -> None:
        expires = None if lasts is None else self.clock.now + lasts
        old = None if source is None else self.owner(source)
        names = tuple(name for name in dict.fromkeys(aliases) if name != source)

        def call() -> int:
            return self.book.memory.remember(
                " ".join(words), kind=kind, source=source, aliases=aliases, expires=expires,
                metadata={"words": words}, embedding=Embedding(*vector) if vector else None,
            )  # fmt: skip

        if any(self.owner(name) not in (None, old) for name in names):
            before = self.book.last
            with pytest.raises(KeyReused):
                call()
            assert self.book.last == before
            return
        entry = call()
        self.model["memory"] = self.alive()
        assert entry == old if old else entry not in self.model["memory"]
        self.model["memory"][entry] = Kept(
            tuple(words), kind, source, names, expires, (vector[0], tuple(vector[1])) if vector else None
        )

    @rule(entry=st.integers(1, 8))
    def forget(self, entry: int) -> None:
        known = entry in self.alive()
        assert self.book.memory.forget(entry) == known
        self.model["memory"] = self.alive()
        self.model["memory"].pop(entry, None)

    @rule(step=st.sampled_from([1, 4, 19, -3]))
    def time_passes(self, step: int) -> None:
        self.clock.now += step

    @rule(name=NAMES)
    def get(self, name: str) -> None:
        owner, found = self.owner(name), self.book.memory.get(name)
        assert (found.entry if found else None) == owner
        assert self.book.memory.unseen([name, name]) == ([] if owner else [name])
        if found and owner:
            it = self.model["memory"][owner]
            assert (found.content, found.kind, found.source) == (" ".join(it.words), it.kind, it.source)
            assert (found.expires, found.metadata) == (it.expires, {"words": list(it.words)})

    @rule(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3), kind=st.one_of(st.none(), KINDS))
    def search(self, words: list[str], kind: str | None) -> None:
        expected = {
            entry for entry, it in self.alive().items() if set(words) <= set(it.words) and kind in (None, it.kind)
        }
        found = self.book.memory.search(", ".join(words).upper(), kind=kind, limit=100)
        assert {each.entry.entry for each in found} == expected
        assert len(found) == len(expected)
        assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
        assert len(self.book.memory.search(" ".join(words), kind=kind, limit=1)) == min(1, len(expected))

    @rule(model=MODELS, vector=VECTORS, limit=st.integers(1, 5))
    def nearest(self, model: str, vector: list[int], limit: int) -> None:
        scores = {}
        for entry, it in self.alive().items():
            if it.vector and it.vector[0] == model:
                one, two = np.array(vector, np.float64), np.array(it.vector[1], np.float64)
                scores[entry] = float(one @ two / np.linalg.norm(one) / np.linalg.norm(two))
        found = self.book.memory.nearest(Embedding(model, vector), limit=limit)
        assert len(found) == min(limit, len(scores))
        assert np.allclose([each.score for each in found], sorted(scores.values(), reverse=True)[:limit], atol=1e-5)
        assert all(np.isclose(each.score, scores[each.entry.entry], atol=1e-5) for each in found)

    @rule(amount=st.integers(1, 5), payer=ACCOUNTS, payee=ACCOUNTS, key=st.sampled_from("abcdefgh"))
    def spend(self, amount: int, payer: str, payee: str, key: str) -> None:
        assume(payer != payee)
        known = self.model["spend"].get(key)

        def call() -> int:
            return self.book.spend.book(amount, "usd", source=payer, target=payee, key=key)

        if known is None:
            self.model["spend"][key] = (payer, payee, amount, call())
        elif known[:3] == (payer, payee, amount):
            assert call() == known[3]
        else:
            with pytest.raises(KeyReused):
                call()

    @invariant()
    def balances_agree_and_sum_to_zero(self) -> None:
        due: Counter[tuple[str, str]] = Counter()
        for source, target, amount, _ in self.model["spend"].values():
            due[target, "usd"] += amount
            due[source, "usd"] -= amount
        found = self.book.spend.balances()
        assert found == dict(due)
        assert sum(found.values()) == 0

    @invariant()
    def entries_agree(self) -> None:
        assert [each.entry for each in self.book.memory.entries()] == sorted(self.alive(), reverse=True)


def test_memory_and_spend_agree_with_dictionaries() -> None:
    run_state_machine_as_test(MemoryMachine, settings=USUAL)


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_memory_and_spend_agree_with_dictionaries_for_long() -> None:
    run_state_machine_as_test(MemoryMachine, settings=TORTURE)
