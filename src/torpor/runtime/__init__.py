"""Durable runs: agents, steps and effects, replay and recovery."""

from torpor.runtime.agent import Agent, Outcome, RunInfo, cancel, given_to, on, runs_in, settle, waiting
from torpor.runtime.effect import Effect, Happened, effect
from torpor.runtime.gather import gather
from torpor.runtime.local import Note
from torpor.runtime.run import Run, run
from torpor.runtime.step import Step, step

__all__ = [
    "Agent",
    "Effect",
    "Happened",
    "Note",
    "Outcome",
    "Run",
    "RunInfo",
    "Step",
    "cancel",
    "effect",
    "gather",
    "given_to",
    "on",
    "run",
    "runs_in",
    "settle",
    "step",
    "waiting",
]
