"""Agents that live by chance, and what a replica of their records must give back, in a few plain lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.unit.heartbeat.replica_kit import SECOND, agent, placed
from tests.unit.workbook.kit import NOW

from torpor.heartbeat.records import Kind, Record
from torpor.testing.chance import Seeded

AGENTS: Final = 5
_COMMITS: Final = (Kind.COMMIT, Kind.LEDGER)
_SNAPSHOTS: Final = (Kind.SNAPSHOT, Kind.SNAPSHOT_AT)


@dataclass
class Being:
    """Where one agent stands."""

    life: int = 0
    txn: int = 0
    begin: int = 0
    gone: bool = False


class Lives:
    """Makes records of some agents, one second apart.

    Args:
        seed: what happens follows from it.

    """

    def __init__(self, seed: int) -> None:
        self._chance = Seeded(seed)
        self._beings = [Being() for _ in range(AGENTS)]
        self.records: list[Record] = []

    def pack(self) -> list[Record]:
        """Return the records of the next pack."""
        begin = len(self.records)
        for _ in range(1 + self._chance.below(6)):
            number = self._chance.below(AGENTS)
            self._step(agent(number), self._beings[number])
        return self.records[begin:]

    def _step(self, whose: str, being: Being) -> None:
        what = self._chance.below(100)
        if being.life == 0 or being.gone or what < 3:
            self._begin(whose, being)
        elif what < 18:
            lag = self._chance.below(4)  # a slow one may come behind a newer one
            self._add(whose, being, self._snapshot(), max(being.begin, being.txn - lag))
        elif what < 20:
            self._add(whose, being, Kind.GONE, being.txn)
            being.gone = True
        elif what < 23:
            being.txn += 2  # a transaction that no record could say
            self._add(whose, being, Kind.COMMIT, being.txn)
        elif what < 27:
            self._add(whose, being, Kind.LEFT, being.txn)
        else:
            being.txn += 1
            self._add(whose, being, Kind.COMMIT, being.txn)

    def _begin(self, whose: str, being: Being) -> None:
        being.life, being.gone = len(self.records) + 1, False
        being.txn = being.begin = self._chance.below(20)
        self._add(whose, being, Kind.LIFE, being.txn)
        if self._chance.below(4):
            self._add(whose, being, self._snapshot(), being.txn)

    def _snapshot(self) -> Kind:
        return _SNAPSHOTS[self._chance.below(2)]

    def _add(self, whose: str, being: Being, kind: Kind, txn: int) -> None:
        lsn = len(self.records) + 1
        payload = placed(f"snapshots/{whose}/1-{lsn}") if kind is Kind.SNAPSHOT_AT else f"{being.life}/{txn}".encode()
        self.records.append(Record(lsn, lsn, whose, being.life, txn, NOW + lsn * SECOND, kind, payload))


def expected(records: list[Record], whose: str) -> tuple[int, int] | None:
    """Return the life and the transaction that a restore gives; None where it can give nothing."""
    own = [one for one in records if one.agent == whose]
    ended = [at for at, one in enumerate(own) if one.kind is Kind.GONE]
    own = own[ended[-1] + 1 :] if ended else own
    for life in sorted({one.life for one in own}, reverse=True):
        commits = {one.txn for one in own if one.life == life and one.kind in _COMMITS}
        ends = []
        for one in own:
            if one.life == life and one.kind in _SNAPSHOTS:
                end = one.txn
                while end + 1 in commits:
                    end += 1
                ends.append(end)
        if ends:
            return life, max(ends)
    return None


def by_then(records: list[Record], lsn: int) -> list[Record]:
    """Return the records up to a number."""
    return [one for one in records if one.lsn <= lsn]
