"""What the inspector answers: plain data, for the API and the command line alike.

Times are µs since 1970 UTC, lengths of time seconds, sizes bytes, shares parts of one. None means that nobody knows.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from torpor.node.cgroups import Machine
from torpor.node.stacks import Spot


class ByKind(msgspec.Struct, frozen=True):
    """How many things an owner has."""

    tasks: int = 0
    subscriptions: int = 0
    children: int = 0


class AgentLoad(msgspec.Struct, frozen=True, kw_only=True):
    """One active agent in the window.

    Attributes:
        agent: its name.
        tenant: whose it is.
        state: of its actor, in the node's words.
        busy: the share of the window for which its tasks held the event loop.
        turns: how often one of them went on.
        waiting: messages in its mailbox; None while its workbook is closed.
        oldest_s: for how long the oldest of them has waited; None where none does.
        memory: what it takes, as far as that is known: its open workbook, and its processes.
        awake: whether its workbook is open.
        has: its tasks, subscriptions and processes.
        running: whether it holds the event loop at this moment, and for how long; None where it doesn't.
        spot: where its code is: the task that went on last.
        hot: where it was found most often while it held the loop in the window; None where it never was.
        hot_share: in which share of the looks at it that was.

    """

    agent: str
    tenant: str
    state: str
    busy: float
    turns: int
    waiting: int | None
    oldest_s: float | None
    memory: int | None
    awake: bool
    has: ByKind
    running: float | None = None
    spot: Spot | None = None
    hot: Spot | None = None
    hot_share: float = 0.0


class Child(msgspec.Struct, frozen=True, kw_only=True):
    """One child process.

    Attributes:
        owner: whose it is.
        pid: its id.
        what: what it does, in a few words.
        state: "lives", "dead" (it has ended, and nobody has asked how), or "gone".
        busy: processor time in the window, by its length: 1 is one core.
        rss: memory that is its, or that it shares.
        owned: whether its owner lives.

    """

    owner: str
    pid: int
    what: str
    state: Literal["lives", "dead", "gone"]
    busy: float
    rss: int
    owned: bool


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who has something.

    Attributes:
        owner: "agent:NAME", or how the node calls whoever it is.
        lives: whether there still is such an owner; what a dead one has is left over.
        has: what.

    """

    owner: str
    lives: bool
    has: ByKind


class NodeLoad(msgspec.Struct, frozen=True, kw_only=True):
    """The node's own process in the window.

    Attributes:
        pid: its id.
        cpu: processor time, by the window's length: 1 is one core.
        loop: the share of the window for which the event loop's thread ran.
        loop_waited: the share for which it could have run, and had no core.
        agents_busy: the share for which agents that are active now held the loop.
        held_by: who holds the loop at this moment; "" for no agent.
        held_s: for how long.
        active: how many agents are active.
        waiting: messages in those of their mailboxes that are open.
        tasks: their tasks, and those that dead ones have left.
        threads: of the process.
        rss: memory that is its, or that it shares.
        anon: of that, with no file behind it.
        file: pages of files.
        shmem: shared.
        descriptors: that are open.
        descriptors_max: that may be.

    """

    pid: int
    cpu: float
    loop: float | None
    loop_waited: float | None
    agents_busy: float
    held_by: str
    held_s: float
    active: int
    waiting: int
    tasks: int
    threads: int
    rss: int
    anon: int | None
    file: int | None
    shmem: int | None
    descriptors: int
    descriptors_max: int


class Top(msgspec.Struct, frozen=True, kw_only=True):
    """Who uses the node.

    Attributes:
        time: the end of the window.
        window_s: its length.
        by: what the agents are ordered by.
        node: the node's process.
        agents: those with the most, in order.
        agents_left_out: how many more are active.
        owners: who has something: first the dead, then those with the most.
        owners_left_out: how many more there are.
        children: processes, by what they use.
        children_left_out: how many more there are.
        machine: control groups and pressure; None where they weren't asked for.

    """

    time: int
    window_s: float
    by: str
    node: NodeLoad
    agents: list[AgentLoad]
    agents_left_out: int
    owners: list[Owner]
    owners_left_out: int
    children: list[Child]
    children_left_out: int
    machine: Machine | None = None


class TaskStack(msgspec.Struct, frozen=True):
    """One task.

    Attributes:
        task: the function that it was begun with.
        running: whether it holds the event loop at this moment.
        stack: where it is, outermost first.

    """

    task: str
    running: bool
    stack: list[Spot]


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """One agent from near.

    Attributes:
        time: when it was so.
        load: what it has used in the window.
        tasks: each of its tasks.
        tasks_left_out: how many more there are.
        children: its processes.

    """

    time: int
    load: AgentLoad
    tasks: list[TaskStack]
    tasks_left_out: int
    children: list[Child]
