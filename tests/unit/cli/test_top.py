"""What the inspector answers, as it is printed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console, RenderableType

from torpor.gateways.cli.top import look_in_tables, top_in_tables
from torpor.node.cgroups import Cgroups
from torpor.service.loads import AgentLoad, ByKind, Child, Look, NodeLoad, Owner, Spot, TaskStack, Top

LAYOUTS = Path(__file__).parents[1] / "node/fixtures/cgroups"

SPOT = Spot("Briefing.brief", "briefing.agent", "/skills/agent.py", 41)
ADA = AgentLoad(
    agent="ada",
    tenant="acme",
    state="handling",
    busy=0.9731,
    turns=12_345,
    waiting=731,
    oldest_s=83.2,
    memory=150_000,
    awake=True,
    has=ByKind(tasks=3, subscriptions=2, children=1),
    running=0.25,
    spot=SPOT,
    hot=msgspec.structs.replace(SPOT, function="churn"),
    hot_share=0.75,
)
BOB = AgentLoad(
    agent="bob",
    tenant="",
    state="idle",
    busy=0.0,
    turns=0,
    waiting=None,
    oldest_s=None,
    memory=None,
    awake=False,
    has=ByKind(),
)
NODE = NodeLoad(
    pid=4711,
    cpu=1.02,
    loop=0.99,
    loop_waited=0.01,
    agents_busy=0.98,
    held_by="agent:ada",
    held_s=0.25,
    active=1_002,
    waiting=731,
    tasks=1_005,
    threads=9,
    rss=104_857_600,
    anon=73_400_320,
    file=31_457_280,
    shmem=0,
    descriptors=3_021,
    descriptors_max=20_000,
)
CHILD = Child(owner="agent:gone", pid=99, what="litestream", state="dead", busy=0.5, rss=2_097_152, owned=False)
TOP = Top(
    time=1_700_000_000_000_000,
    window_s=1.0,
    by="busy",
    node=NODE,
    agents=[ADA, BOB],
    agents_left_out=1_000,
    owners=[Owner(owner="agent:gone", lives=False, has=ByKind(subscriptions=4, children=1))],
    owners_left_out=0,
    children=[CHILD],
    children_left_out=0,
)


def printed(thing: RenderableType, width: int = 300, *, colour: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=colour, color_system="standard" if colour else None)
    console.print(thing)
    return out.getvalue()


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip()]


def test_agents_stand_in_rows_with_what_they_use() -> None:
    text = printed(top_in_tables(TOP))

    ada, bob = (next(row for row in rows(text) if row[0] == name) for name in ("ada", "bob"))
    assert ada == [
        *("ada", "handling", "97.3", "%", "12,345", "731", "83.2", "s", "146.5", "KiB", "3", "2", "1"),
        "briefing.agent:churn:41",
    ]
    assert bob == ["bob", "idle", "(closed)", "0.0", "%", "0", "-", "-", "-", "0", "0", "0", "-"]
    assert "and 1,000 more" in text


def test_who_holds_the_loop_is_at_the_top() -> None:
    text = printed(top_in_tables(TOP))

    head = text.partition("AGENT")[0]
    assert "agent:ada, for 250.0 ms by now" in head
    assert "98.0 % by agents, 99.0 % running, 1.0 % waiting for a core" in head
    assert "1,002 active, 1,005 tasks, 731 messages waiting" in head
    assert "100.0 MiB: 70.0 MiB its own, 30.0 MiB of files, 0 bytes shared" in head
    assert "3,021 of 20,000" in head


def test_who_has_gone_stands_out() -> None:
    plain, coloured = printed(top_in_tables(TOP)), printed(top_in_tables(TOP), colour=True)

    assert ["agent:gone", "GONE", "4", "1", "0"] in rows(plain)
    assert ["99", "agent:gone", "(GONE)", "dead", "50.0", "%", "2.0", "MiB", "litestream"] in rows(plain)
    for line in coloured.splitlines():
        assert ("\x1b[1;31m" in line) == any(word in line for word in ("ada  ", "GONE")), line


@pytest.mark.parametrize("layout", ["v1", "v2", "hybrid"])
def test_control_groups_and_pressure_are_told_where_they_are_known(layout: str) -> None:
    machine = Cgroups(str(LAYOUTS / layout)).machine()
    text = printed(top_in_tables(msgspec.structs.replace(TOP, machine=machine)))

    table = rows(text.partition("RECLAIMABLE")[2])
    assert [row[0] for row in table[1:]] == [group.path for group in machine.groups]
    pressures = [row for row in rows(text) if row[0] in ("cpu", "memory", "io")]
    assert len(pressures[-3:]) == 3
    assert (pressures[-1] == ["io", *"------"]) == (layout == "v1")


def test_a_group_shows_all_kinds_of_memory() -> None:
    machine = Cgroups(str(LAYOUTS / "v2")).machine("/system.slice/torpor.service/node")
    text = printed(top_in_tables(msgspec.structs.replace(TOP, machine=machine)))

    assert " ".join(rows(text)[-1]) == (
        "/system.slice/torpor.service/node 3.2 GiB 4.0 GiB 8.0 GiB 1.2 GiB 400.0 MiB 1.4 GiB "
        "240.0 MiB 1.2 MiB 6.0 MiB 183.0 MiB 1.9 GiB 0.0 %"
    )


def test_no_name_steers_the_terminal() -> None:
    evil = "x\x1b[2J\x1b]0;owned\x07\u202e[bold]y[/bold]\nz"
    everywhere: Any = msgspec.structs.replace(
        TOP,
        agents=[msgspec.structs.replace(ADA, agent=evil, hot=msgspec.structs.replace(SPOT, function=evil))],
        owners=[Owner(owner=evil, lives=False, has=ByKind())],
        children=[msgspec.structs.replace(CHILD, what=evil)],
        node=msgspec.structs.replace(NODE, held_by=evil),
    )
    look = Look(
        time=0,
        load=msgspec.structs.replace(ADA, agent=evil),
        tasks=[TaskStack(evil, running=False, stack=[msgspec.structs.replace(SPOT, function=evil)])],
        tasks_left_out=0,
        children=[],
    )

    for text in (printed(top_in_tables(everywhere)), printed(look_in_tables(look))):
        assert "[bold]y[/bold]" in text, "as it is, and not obeyed"
        assert not set(text) & set("\x1b\x07\u202e")


def test_one_agent_is_shown_from_near() -> None:
    stack = [SPOT, msgspec.structs.replace(SPOT, function="collect", line=7)]
    look = Look(
        time=0,
        load=ADA,
        tasks=[TaskStack("Agent.send", running=True, stack=stack), TaskStack("follow", running=False, stack=[])],
        tasks_left_out=3,
        children=[CHILD],
    )
    text = printed(look_in_tables(look))

    assert "ada of acme" in text
    assert "97.3 % of the event loop, in 12,345 turns" in text
    assert "731 messages, the oldest for 83.2 s" in text
    assert "briefing.agent:churn:41, 75.0 % of the looks" in text
    assert "3 tasks, 2 subscriptions, 1 process" in text
    assert "Agent.send (running)\n  briefing.agent:Briefing.brief:41\n  briefing.agent:collect:7\nfollow\n" in text
    assert "and 3 more tasks" in text
    assert "litestream" in text


def test_a_narrow_terminal_folds_and_loses_nothing() -> None:
    text = printed(top_in_tables(TOP), width=100)

    squeezed = "".join(text.split())
    for word in ("ada", "12,345", "731", "146.5", "litestream"):
        assert word in squeezed
