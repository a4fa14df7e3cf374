"""Forking a DBOS workflow from a step; the fork is of a version that nobody runs, so that it isn't executed."""

from __future__ import annotations

from typing import Any

from dbos import DBOS, SetWorkflowID

from bench.peers import dbos_sqlite


class Subject(dbos_sqlite.Subject):
    """One workflow of many steps, and its forks."""

    def operate(self, count: int) -> list[int]:
        with SetWorkflowID("bench"):
            return super().operate(count)

    def point(self, at: int) -> Any:
        """Return the step before which `at` are done."""
        return at + 1

    def fork(self, point: Any) -> None:
        """Fork the workflow there."""
        DBOS.fork_workflow("bench", point, application_version="nobody's")
