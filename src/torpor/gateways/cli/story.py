"""How `torpor show` tells an agent's story."""

from __future__ import annotations

from torpor.gateways.cli.show import say, when
from torpor.gateways.cli.tables import say_table, size, some, span, until
from torpor.service import AgentStory, BranchView, MoveView, RelativeView, TemplateStory


def say_story(story: AgentStory, now_us: int) -> None:
    """Print all that is known of an agent."""
    say_facts(_facts(story, now_us))
    if story.problem:
        say(f"\nProblem: {story.problem.message} {story.problem.next_step}")
    if story.children:
        say("\nChildren")
        for child in story.children:
            say(f"  {_relative(child)}")
    if story.branches:
        say("\nSet aside by rewinds")
        for branch in story.branches:
            say(f"  {_events(branch)}, by event {branch.rewound}")
    say("\nHistory")
    say_history(story.history)


def say_template(story: TemplateStory) -> None:
    """Print all that is known of a template."""
    parent = f"{story.parent}{'' if story.parent_seq is None else f', at event {story.parent_seq}'}"
    idle = {"suspended after": story.suspend_after_s, "frozen after": story.freeze_after_s}
    facts = {
        "name": story.name,
        "state": f"a template, read-only, of which {story.clones} {'agent was' if story.clones == 1 else 'agents were'}"
        " made",
        "id": story.id,
        "made from": parent if story.parent else None,
        "size": size(story.bytes),
        "digest": story.digest,
        "newest event": f"{story.seq} {story.head}".rstrip(),
        "created": f"{when(story.created)} UTC",
        "clones idle": ", ".join(f"{what} {span(after)}" for what, after in idle.items() if after is not None),
    }
    say_facts({name: text for name, text in facts.items() if text})
    say("\nHistory")
    say_history(story.history)


def _events(branch: BranchView) -> str:
    parts = [str(first) if first == last else f"{first} to {last}" for first, last in branch.events]
    one = len(parts) == 1 and branch.first == branch.last
    return f"{'event' if one else 'events'} {' and '.join(parts)}"


def _facts(story: AgentStory, now_us: int) -> dict[str, str]:
    """Return what is known, by its name; what is unknown is left out."""
    woken = {0: "never woken", 1: "woken once", 2: "woken twice"}.get(story.epoch, f"woken {story.epoch} times")
    facts: dict[str, str | None] = {
        "name": story.name,
        "state": f"{story.state}, {woken}",
        "id": story.id,
        "tenant": story.tenant,
        "template": story.template,
        "parent": _relative(story.parent) if story.parent else None,
        "size": size(story.bytes),
        "file": story.path,
        "cold copy": story.cold,
        "archived copy": story.archive,
        "digest": story.digest,
        "newest event": f"{story.seq} {story.head}".rstrip(),
        "created": f"{when(story.created)} UTC",
        "last in use": f"{when(story.active)} UTC, {span(story.idle_s)} ago".replace("now ago", "just now"),
        "next wake": f"{when(story.wake)} UTC, {until(story.wake, now_us)}" if story.wake is not None else None,
        "when idle": f"suspended after {span(story.suspend_after_s)}, frozen after {span(story.freeze_after_s)}",
    }
    if story.state == "deleted":
        facts = {name: facts[name] for name in facts if name not in {"size", "when idle"}}
    return {name: text for name, text in facts.items() if text}


def say_facts(facts: dict[str, str]) -> None:
    """Print facts below each other."""
    width = max(map(len, facts))
    for name, text in facts.items():
        say(f"{name:{width}}  {text}")


def _relative(relative: RelativeView) -> str:
    at = "" if relative.at is None else f", at event {relative.at}"
    note = f" ({relative.what})" if relative.what != "agent" else "" if relative.known else " (not in this home)"
    return f"{relative.name}{note}{at}"


def say_history(history: list[MoveView]) -> None:
    """Print moves, oldest first."""
    heads = ("WHEN (UTC)", "MOVE", "FROM", "TO", "SIZE", "MS", "WHO", "WHY", "DETAILS")
    rows = [
        (
            when(move.time),
            move.verb,
            move.before or "-",
            move.after or "-",
            some(move.bytes),
            f"{move.ms:.1f}",
            move.who,
            move.why,
            ", ".join(f"{name}={value}" for name, value in move.details.items()),
        )
        for move in history
    ]
    say_table(heads, rows, right=("SIZE", "MS"))
