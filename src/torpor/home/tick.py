"""One pass over the ledger: who is to wake, who is to be moved down.

First what earlier moves had to leave is removed. Then whoever's time has come is woken. Then the ladder: each agent by
its own thresholds, one rung in a pass. Who is busy is left alone. Trouble with one agent is reported and doesn't keep
the others waiting; trouble with the ledger ends the pass, since there is nothing to go by.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torpor.base.errors import AgentBusy, LedgerDamaged, LedgerFailed, MoveConflict, TorporError
from torpor.home import moves
from torpor.home.leftovers import sweep_all
from torpor.home.results import Failed, Moved, Passed, Ticked, Woken
from torpor.home.site import Asked, Site
from torpor.home.wake import wake
from torpor.ledger import Rung
from torpor.lifecycle import idle_seconds, next_state
from torpor.stores.copies import Watch


class Tick:
    """One pass.

    Args:
        site: the home.
        now: the time to go by, in µs UTC; the clock's unless given.
        watch: is told how far a copy is.

    """

    def __init__(self, site: Site, now: int | None = None, watch: Watch | None = None) -> None:
        self._site = site
        self._now = site.clock.now_us() if now is None else now
        self._watch = watch
        self._moved: list[Moved] = []
        self._woken: list[Woken] = []
        self._passed: list[Passed] = []
        self._failed: list[Failed] = []

    def run(self) -> Ticked:
        """Do the pass.

        Raises:
            LedgerFailed, LedgerDamaged: the ledger can't be used; what was done until then is done.

        """
        removed = sweep_all(self._site)
        for record in list(self._site.ledger.due(self._now)):
            self._try(record.name, partial(self._wake, record.id))
        for rung in self._site.ledger.ladder():
            self._step(rung)
        return Ticked(
            now=self._now,
            moved=tuple(self._moved),
            woken=tuple(self._woken),
            skipped=tuple(self._passed),
            failed=tuple(self._failed),
            removed=tuple(removed),
        )

    def _wake(self, agent: str) -> None:
        self._woken.append(wake(self._site, agent, Asked("wake", "timer", self._watch, self._now)))

    def _step(self, rung: Rung) -> None:
        site = self._site
        active = max(rung.active, site.activations.active(rung.id))
        if active > max(self._now, site.clock.now_us()):
            # The clock was set back since. The agent is as old as it is from now on.
            site.activations.touch(rung.id, site.clock.now_us())
            site.ledger.touch(rung.id, site.clock.now_us())
            return
        ladder = site.ladder.but(rung.suspend_after_s, rung.freeze_after_s)
        idle = idle_seconds(active, self._now)
        target = next_state(rung.state, idle, ladder)
        if target == rung.state:
            return
        move = moves.suspend if target == "suspended" else moves.freeze
        asked = Asked("suspend" if target == "suspended" else "freeze", f"idle for {idle:,.0f} s", self._watch)
        self._try(rung.name, lambda: self._moved.append(move(site, rung.id, asked)))

    def _try(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except (LedgerFailed, LedgerDamaged):
            raise
        except (AgentBusy, MoveConflict) as error:
            self._passed.append(
                Passed(name=name, reason=error.reason if isinstance(error, AgentBusy) else error.message)
            )
        except TorporError as error:
            self._failed.append(Failed(name=name, error=error))
