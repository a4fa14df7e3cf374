"""What every ledger promises, whatever keeps it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
import pytest
from tests.unit.ledger.kit import HASH, NOW, add, agent, becoming, bring, content, id_of, leftover, move, note, template

from torpor.base.errors import AgentUnknown, HomeRefused, InternalError, MoveConflict, MoveRefused, NameTaken
from torpor.ledger import AgentRecord, Changes, Ledger, Mark, SqliteLedger
from torpor.ledger import together as in_one
from torpor.lifecycle import EDGES, STATES, State

Opener = Callable[[], Ledger]
FACTORIES: dict[str, Callable[[Path], Ledger]] = {"sqlite": lambda folder: SqliteLedger.open(folder / "ledger.db")}
"""The implementations; each opens the ledger of a folder, and makes it where there is none."""


@pytest.fixture(params=FACTORIES)
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Return what opens one and the same ledger once more."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(FACTORIES[request.param](tmp_path)))


@pytest.fixture
def ledger(opener: Opener) -> Ledger:
    return opener()


# --- agents -------------------------------------------------------------------------------------------------------


def test_an_agent_is_found_by_name_in_any_case_and_by_id_with_all_that_was_told(ledger: Ledger) -> None:
    full = agent(
        "Ada", tenant="acme", template="base", bytes=7, seq=3, head=HASH, parent="p", parent_seq=2, wake=NOW + 5,
        suspend_after_s=1.5, freeze_after_s=2.5,
    )  # fmt: skip
    add(ledger, full)
    assert ledger.agent("Ada") == ledger.agent("aDA") == ledger.agent(full.id) == full


@pytest.mark.parametrize("name", ["eve", "", "../x", "a\0b", "x" * 4096, "🐸", "\udcff", "' OR 1=1 --"])
def test_who_never_was_is_unknown(ledger: Ledger, name: str) -> None:
    add(ledger, agent())
    for look in (ledger.agent, ledger.history, ledger.templates.get):
        with pytest.raises(AgentUnknown) as refused:
            look(name)
        assert refused.value.name == name
        refused.value.message.encode()


def test_agents_come_in_the_order_of_their_names(ledger: Ledger) -> None:
    add(ledger, *(agent(name) for name in ("delta", "Bravo", "alpha", "Charlie")))
    names = [record.name for record in ledger.agents()]
    assert names == ["alpha", "Bravo", "Charlie", "delta"]
    assert [record.name for record in ledger.agents(after="bravo")] == names[2:]
    assert [record.name for record in ledger.agents(after="alpha", limit=2)] == names[1:3]
    assert [list(ledger.agents(limit=size)) for size in (0, 4, 9)] == [[], *[list(ledger.agents())] * 2]


def test_many_agents_come_each_once_across_pages(ledger: Ledger) -> None:
    names = [f"agent-{number:04}" for number in range(1_201)]
    add(ledger, *(agent(name, tenant="odd" if int(name[-1]) % 2 else "even") for name in reversed(names)))
    assert [record.name for record in ledger.agents()] == names
    assert [record.name for record in ledger.agents(limit=700)] == names[:700]
    assert [record.name for record in ledger.agents(tenant="odd")] == names[1::2]
    assert [record.name for record in ledger.agents(tenant="odd", after=names[999], limit=2)] == [
        names[1001],
        names[1003],
    ]
    assert ledger.counts()["created"] == len(names)


def test_agents_are_told_apart_by_tenant_and_state(ledger: Ledger) -> None:
    for state in STATES:
        bring(ledger, state, f"{state}-a", tenant="acme")
        bring(ledger, state, f"{state}-b", tenant="Acme")
    living = sorted(f"{state}-{end}" for state in STATES if state != "deleted" for end in "ab")
    assert [record.name for record in ledger.agents()] == living
    assert [record.name for record in ledger.agents(tenant="acme")] == living[::2]
    assert [record.name for record in ledger.agents(tenant="acme", state="frozen")] == ["frozen-a"]
    assert [record.name for record in ledger.agents(state="deleted")] == ["deleted-a", "deleted-b"]
    assert list(ledger.agents(tenant="")) == list(ledger.agents(tenant="\udcff")) == []
    assert ledger.counts() == dict.fromkeys(STATES, 2)


def test_an_empty_ledger_has_nothing(ledger: Ledger) -> None:
    for found in (ledger.agents(), ledger.ladder(), ledger.due(2**62), ledger.templates.all(), ledger.leftovers()):
        assert [*found] == []
    assert ledger.children("x") == []
    assert ledger.counts() == dict.fromkeys(STATES, 0)


def test_what_one_has_written_another_reads_at_once(opener: Opener) -> None:
    first, second = opener(), opener()
    ada = bring(first, "suspended")
    assert second.agent("ada") == ada
    second.schedule(ada.id, NOW)
    first.touch(ada.id, NOW + 9)
    assert content(first) == content(second)


def test_what_was_written_is_there_when_it_is_opened_again(opener: Opener) -> None:
    ledger = opener()
    bring(ledger, "frozen")
    ledger.reserve([leftover("file:x")])
    before = content(ledger)
    ledger.close()
    assert content(opener()) == before


# --- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("twin", ["Ada", "ada", "ADA"])
@pytest.mark.parametrize("state", STATES)
def test_a_name_is_given_once_whatever_became_of_its_agent(ledger: Ledger, state: State, twin: str) -> None:
    bring(ledger, state, "Ada")
    before = content(ledger)
    with pytest.raises(NameTaken) as refused:
        add(ledger, agent(twin, id="another", file="another"))
    assert refused.value.owner.startswith("the agent Ada")
    assert ("deleted" in refused.value.owner) == (state == "deleted")
    assert content(ledger) == before


def test_agents_and_templates_share_their_names(ledger: Ledger) -> None:
    ledger.templates.add(template("Base"), note(id_of("Base"), "template"))
    with pytest.raises(NameTaken, match="by the template Base"):
        add(ledger, agent("base"))
    add(ledger, agent("ada"))
    with pytest.raises(NameTaken, match="by the agent ada"):
        ledger.templates.add(template("ADA"), note(id_of("ADA"), "template"))
    ledger.templates.drop(ledger.templates.get("base"), note(id_of("Base"), "drop"))
    with pytest.raises(NameTaken, match="dropped"):
        add(ledger, agent("BASE"))


def test_a_name_that_folds_to_more_letters_is_a_twin_too(ledger: Ledger) -> None:
    add(ledger, agent("straße"))
    with pytest.raises(NameTaken):
        add(ledger, agent("STRASSE"))


def test_nobody_is_named_as_another_agents_id(ledger: Ledger) -> None:
    ada = bring(ledger, "created")
    with pytest.raises(NameTaken, match="by the agent ada"):
        add(ledger, agent(ada.id.upper(), id="eve"))
    assert ledger.agent(ada.id) == ada


@pytest.mark.parametrize("taken", [0, 57, 99])
def test_of_many_agents_all_are_added_or_none(ledger: Ledger, taken: int) -> None:
    add(ledger, agent("clone-57-again"))
    ledger.reserve([leftover("file:clone")])
    before = content(ledger)
    many = [agent(f"clone-{number}") for number in range(100)]
    many[taken] = agent("CLONE-57-AGAIN", id="x", file="x")
    with pytest.raises(NameTaken):
        add(ledger, *many, made=[leftover("file:clone")])
    assert content(ledger) == before


def test_twins_among_the_new_are_refused(ledger: Ledger) -> None:
    with pytest.raises(NameTaken):
        add(ledger, agent("ada"), agent("ADA", id="other"))
    assert list(ledger.agents()) == []


def test_an_agent_enters_as_created_with_one_note_about_it(ledger: Ledger) -> None:
    with pytest.raises(InternalError):
        add(ledger, becoming(agent(), "active"))
    for wrong in ([], [note(id_of("ada"))] * 2, [note("somebody")]):
        with pytest.raises(InternalError):
            ledger.add([agent()], wrong)
    assert list(ledger.agents()) == []


# --- moves --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "asked"), list(itertools.product(STATES, STATES)))
def test_just_the_edges_and_staying_are_moves(ledger: Ledger, state: State, asked: State) -> None:
    ada = bring(ledger, state)
    before = content(ledger)
    if asked in EDGES[state] or (asked == state != "deleted"):
        after = move(ledger, ada, asked)
        assert after.state == asked
        assert ledger.agent("ada") == after
        assert ledger.history("ada")[-1].after == asked
        return
    with pytest.raises(MoveRefused):
        move(ledger, ada, asked)
    assert content(ledger) == before


def test_a_move_writes_state_history_and_leftovers_together(ledger: Ledger) -> None:
    ada = bring(ledger, "suspended")
    made, left = leftover("file:///cold#a/1.workbook", ada.id), leftover("file:agents/ada.workbook", ada.id)
    ledger.reserve([made])
    told = note(ada.id, "freeze", who="ticker", why="idle", time=NOW + 3, bytes=9, ms=1.5, details={"how": ["x", 1]})
    after = ledger.move(ada, becoming(ada, "frozen"), told, made=[made], left=[left])
    assert ledger.agent("ada") == after == becoming(ada, "frozen")
    assert ledger.leftovers() == [left]
    entry = ledger.history("ada")[-1]
    assert (entry.verb, entry.before, entry.after, entry.name, entry.epoch) == (
        "freeze",
        "suspended",
        "frozen",
        "ada",
        1,
    )
    assert {name: getattr(entry, name) for name in told.__struct_fields__} == msgspec.structs.asdict(told)


def test_a_move_of_somebody_who_was_moved_meanwhile_changes_nothing(opener: Opener) -> None:
    first, second = opener(), opener()
    ada = bring(first, "suspended")
    first.reserve([leftover("file:///cold#a")])
    move(second, ada, "active")
    before = content(first)
    with pytest.raises(MoveConflict) as refused:
        move(first, ada, "frozen", made=[leftover("file:///cold#a")], left=[leftover("file:agents/ada.workbook")])
    assert (refused.value.name, refused.value.state) == ("ada", "active")
    assert content(second) == before


def test_a_move_of_somebody_who_came_back_to_the_same_state_is_a_conflict_too(opener: Opener) -> None:
    first, second = opener(), opener()
    ada = bring(first, "suspended")
    move(second, move(second, ada, "active"), "suspended")
    with pytest.raises(MoveConflict):
        move(first, ada, "frozen")
    assert first.agent("ada").state == "suspended"


def test_a_move_keeps_what_others_set_since(opener: Opener) -> None:
    first, second = opener(), opener()
    ada = bring(first, "active")
    second.touch(ada.id, NOW + 50)
    second.schedule(ada.id, NOW + 99)
    after = move(first, ada, "suspended", left=[])
    assert (after.active, after.wake) == (NOW + 50, NOW + 99)
    assert first.agent("ada") == after


def test_a_move_may_set_what_others_may_set(ledger: Ledger) -> None:
    ada = bring(ledger, "active", wake=NOW)
    after = msgspec.structs.replace(ada, active=NOW + 7, wake=None, seq=9, head=HASH, bytes=8, suspend_after_s=1.0)
    assert ledger.move(ada, after, note(ada.id, "rewind")) == ledger.agent("ada") == after


@pytest.mark.parametrize("field", ["id", "name", "tenant", "template", "parent", "parent_seq", "created"])
def test_no_move_makes_another_agent_of_one(ledger: Ledger, field: str) -> None:
    ada = bring(ledger, "active")
    before = content(ledger)
    strange = 77 if field in ("created", "parent_seq") else "strange"
    with pytest.raises(InternalError):
        ledger.move(ada, msgspec.structs.replace(ada, **{field: strange}), note(ada.id, "rewind"))
    assert content(ledger) == before


@pytest.mark.parametrize(
    ("state", "broken"),
    [
        ("active", {"cold": "c"}),
        ("active", {"archive": "a"}),
        ("active", {"digest": HASH}),
        ("active", {"file": ""}),
        ("active", {"epoch": 0}),
        ("active", {"bytes": -1}),
        ("frozen", {"cold": None}),
        ("frozen", {"digest": None}),
        ("frozen", {"digest": "short"}),
        ("archived", {"archive": None}),
    ],
)
def test_a_record_that_contradicts_itself_is_refused_as_a_bug(
    ledger: Ledger, state: State, broken: dict[str, object]
) -> None:
    ada = bring(ledger, state)
    before = content(ledger)
    with pytest.raises(InternalError):
        ledger.move(ada, msgspec.structs.replace(ada, **broken), note(ada.id, "rewind"), left=[leftover("file:x")])
    assert content(ledger) == before


def test_a_note_of_a_move_is_about_who_is_moved(ledger: Ledger) -> None:
    ada, eve = bring(ledger, "active"), bring(ledger, "active", "eve")
    with pytest.raises(InternalError):
        ledger.move(ada, becoming(ada, "suspended"), note(eve.id, "suspend"))


def test_a_move_of_nobody_is_refused(ledger: Ledger) -> None:
    with pytest.raises(AgentUnknown):
        move(ledger, agent(), "active")


def test_two_agents_have_not_one_file(ledger: Ledger) -> None:
    add(ledger, agent())
    with pytest.raises(InternalError):
        add(ledger, agent("eve", file="agents/ada.workbook"))


def test_what_is_deleted_leaves_a_tombstone_that_nothing_changes(opener: Opener) -> None:
    first, second = opener(), opener()
    ada = bring(first, "archived", tenant="acme", seq=4, head=HASH, bytes=9, parent="p", parent_seq=1)
    second.schedule(ada.id, NOW)  # of which `ada` knows nothing
    gone = move(first, ada, "deleted", left=[leftover("file:///archive#a")])
    assert gone == agent("ada", tenant="acme", parent="p", parent_seq=1, state="deleted", epoch=1, file="")
    assert first.agent(ada.id) == second.agent("ADA") == gone
    before = content(second)
    with pytest.raises(MoveConflict, match="deleted"):
        second.touch(ada.id, NOW + 1)
    with pytest.raises(MoveConflict, match="deleted"):
        second.schedule(ada.id, NOW + 1)
    with pytest.raises(MoveConflict, match="deleted"):
        move(second, ada, "active")
    assert content(second) == before
    for found in (first.due(2**62), first.ladder(), first.agents()):
        assert [*found] == []


# --- history ------------------------------------------------------------------------------------------------------


def test_the_history_of_an_agent_is_told_from_its_beginning(ledger: Ledger) -> None:
    bring(ledger, "active", "eve")
    bring(ledger, "deleted", "Ada")
    told = ledger.history("ada")
    assert [(entry.verb, entry.before, entry.after) for entry in told] == [
        ("new", None, "created"),
        ("wake", "created", "active"),
        ("archive", "active", "archived"),
        ("delete", "archived", "deleted"),
    ]
    assert {entry.name for entry in told} == {"Ada"}
    assert [entry.epoch for entry in told] == [0, 1, 1, 1]
    assert sorted({entry.move for entry in told}) == [entry.move for entry in told]
    assert ledger.history(id_of("Ada"), last=2) == told[-2:]
    assert [ledger.history("Ada", last=number) for number in (0, 99)] == [[], told]


def test_both_sides_of_a_fork_are_told_at_once(ledger: Ledger) -> None:
    ada = bring(ledger, "active")
    eve = agent("eve", parent=ada.id, parent_seq=3)
    ledger.add([eve], [note(ada.id, "forked", details={"child": eve.id}), note(eve.id, "fork")])
    parents = ledger.history("ada")[-1]
    assert (parents.verb, parents.before, parents.after, parents.epoch) == ("forked", None, None, 1)
    assert parents.details == {"child": eve.id}
    assert [entry.verb for entry in ledger.history("eve")] == ["fork"]
    assert ledger.children(ada.id) == [eve]


def test_a_fork_of_nobody_is_refused_whole(ledger: Ledger) -> None:
    with pytest.raises(AgentUnknown):
        ledger.add([agent("eve")], [note(id_of("eve"), "fork"), note("nobody", "forked")])
    assert list(ledger.agents()) == []


def test_children_are_told_oldest_first_the_deleted_too(ledger: Ledger) -> None:
    ada = bring(ledger, "active")
    names = ["zoe", "eve", "bob"]
    children = [bring(ledger, "deleted" if name == "eve" else "created", name, parent=ada.id) for name in names]
    bring(ledger, "created", "stranger", parent="somebody")
    assert ledger.children(ada.id) == children


def test_a_note_alone_touches_no_state(ledger: Ledger) -> None:
    ada = bring(ledger, "active")
    ledger.note(note(ada.id, "export", why="asked"))
    assert ledger.agent("ada") == ada
    entry = ledger.history("ada")[-1]
    assert (entry.verb, entry.before, entry.after, entry.why) == ("export", None, None, "asked")
    with pytest.raises(AgentUnknown):
        ledger.note(note("nobody", "export"))


def test_words_that_are_no_text_are_kept_as_well_as_can_be(ledger: Ledger) -> None:
    ada = bring(ledger, "active")
    ledger.note(note(ada.id, "export", who="\udcff🐸", why="a\0b", details={"file": "x\ud800y", "deep": [{"n": None}]}))
    entry = ledger.history("ada")[-1]
    assert (entry.who, entry.why, entry.details) == ("?🐸", "a\0b", {"file": "x?y", "deep": [{"n": None}]})


# --- activity, timers, the ladder ---------------------------------------------------------------------------------


def test_a_touch_is_the_last_word_even_after_the_clock_was_set_back(opener: Opener) -> None:
    first, second = opener(), opener()
    ada = bring(first, "active")
    for time in (NOW + 10, NOW + 20, NOW - 1_000_000):
        first.touch(ada.id, time)
        assert second.agent("ada").active == time
    assert len(first.history("ada")) == 2


def test_nobody_is_touched_or_scheduled_who_never_was(ledger: Ledger) -> None:
    with pytest.raises(AgentUnknown):
        ledger.touch("nobody", NOW)
    with pytest.raises(AgentUnknown):
        ledger.schedule("\udcff", NOW)


def test_who_is_due_comes_longest_overdue_first(ledger: Ledger) -> None:
    wakes = {"b": NOW - 5, "a": NOW, "c": NOW + 1, "d": None, "e": NOW - 5}
    for name, wake in wakes.items():
        ledger.schedule(bring(ledger, "suspended", name).id, wake)
    assert [record.name for record in ledger.due(NOW)] == ["b", "e", "a"]
    ledger.schedule(id_of("b"), None)
    assert [record.name for record in ledger.due(NOW)] == ["e", "a"]
    assert list(ledger.due(NOW - 6)) == []


def test_many_who_are_due_at_once_come_each_once_though_they_are_moved_meanwhile(ledger: Ledger) -> None:
    add(ledger, *(agent(f"agent-{number:04}", wake=NOW) for number in range(1_100)))
    came = []
    for record in ledger.due(NOW):
        came.append(record.name)
        move(ledger, record, "active")
        ledger.schedule(record.id, None if len(came) % 2 else NOW + 9)
    assert came == [f"agent-{number:04}" for number in range(1_100)]
    assert list(ledger.due(NOW)) == []


def test_the_ladder_has_the_active_and_the_suspended(ledger: Ledger) -> None:
    for state in STATES:
        bring(ledger, state, f"is-{state}", suspend_after_s=1.5 if state == "active" else None)
    rungs = list(ledger.ladder())
    assert [(rung.name, rung.state, rung.suspend_after_s) for rung in rungs] == [
        ("is-active", "active", 1.5),
        ("is-suspended", "suspended", None),
    ]
    assert {(rung.id, rung.active, rung.freeze_after_s) for rung in rungs} == {
        (id_of("is-active"), NOW, None),
        (id_of("is-suspended"), NOW, None),
    }


def test_agents_may_be_moved_while_the_ladder_is_walked(ledger: Ledger) -> None:
    names = [f"agent-{number:04}" for number in range(1_100)]
    add(ledger, *(agent(name) for name in names))
    for name in names:
        move(ledger, ledger.agent(name), "active")
    came = []
    for rung in ledger.ladder():
        came.append(rung.name)
        if len(came) % 10 == 1:
            move(ledger, ledger.agent(rung.id), "suspended")
    assert came == names
    assert ledger.counts()["suspended"] == 110


# --- leftovers ----------------------------------------------------------------------------------------------------


def test_leftovers_are_named_until_they_are_released(opener: Opener) -> None:
    ledger = opener()
    first, second = leftover("file:a", "a", since=NOW + 1), leftover("file:b", "b", since=NOW)
    ledger.reserve(each for each in (first, second))
    assert opener().leftovers() == [second, first]
    ledger.release([second, leftover("file:never")])
    assert opener().leftovers() == [first]


def test_a_place_is_reserved_again_and_by_another_agent(ledger: Ledger) -> None:
    ledger.reserve([leftover("file:a", "one", since=NOW)])
    ledger.reserve(
        [leftover("file:a", "one", since=NOW + 5, claim="elsewhere"), leftover("file:a", "two", since=NOW + 6)]
    )
    assert [(each.agent, each.since, each.claim) for each in ledger.leftovers()] == [
        ("one", NOW + 5, "elsewhere"),
        ("two", NOW + 6, "agents/ada.workbook"),
    ]
    ledger.release([leftover("file:a", "two")])
    assert [each.agent for each in ledger.leftovers()] == ["one"]


def test_new_agents_and_templates_take_what_was_made_from_the_leftovers(ledger: Ledger) -> None:
    for place in ("file:agents/ada.workbook", "file:templates/base.workbook", "file:other"):
        ledger.reserve([leftover(place)])
    add(ledger, agent(), made=[leftover("file:agents/ada.workbook")])
    base = template()
    ledger.templates.add(base, note(base.id, "template"), made=[leftover("file:templates/base.workbook")])
    assert [each.place for each in ledger.leftovers()] == ["file:other"]
    ledger.templates.drop(base, note(base.id, "drop"), left=[leftover("file:templates/base.workbook")])
    assert len(ledger.leftovers()) == 2


# --- templates ----------------------------------------------------------------------------------------------------


def test_a_template_is_found_by_name_in_any_case_and_by_id(ledger: Ledger) -> None:
    full = template("Base", seq=3, head=HASH, parent="p", parent_seq=2, suspend_after_s=1.0, freeze_after_s=2.0)
    ledger.templates.add(full, note(full.id, "template"))
    assert ledger.templates.get("bASE") == ledger.templates.get(full.id) == full
    with pytest.raises(AgentUnknown):
        ledger.agent("Base")


def test_templates_come_in_the_order_of_their_names(ledger: Ledger) -> None:
    for name in ("delta", "Bravo", "alpha"):
        ledger.templates.add(template(name), note(id_of(name), "template"))
    assert [record.name for record in ledger.templates.all()] == ["alpha", "Bravo", "delta"]


def test_a_dropped_template_is_gone_once_and_its_history_stays(opener: Opener) -> None:
    first, second = opener(), opener()
    base = template()
    first.templates.add(base, note(base.id, "template"))
    second.templates.drop(base, note(base.id, "drop"))
    with pytest.raises(AgentUnknown):
        first.templates.drop(base, note(base.id, "drop"), left=[leftover("file:x")])
    with pytest.raises(AgentUnknown):
        first.templates.get("base")
    assert first.leftovers() == []
    told = first.history("base")
    assert [(entry.verb, entry.name, entry.epoch) for entry in told] == [
        ("template", "base", None),
        ("drop", "base", None),
    ]


# --- at once ------------------------------------------------------------------------------------------------------


def together(count: int, act: Callable[[int], None]) -> None:
    """Have threads act at the same time, and raise what one of them raised."""
    gate = threading.Barrier(count)
    wrong: list[BaseException] = []

    def run(number: int) -> None:
        gate.wait(10)
        try:
            act(number)
        except BaseException as error:  # noqa: BLE001  (raised below, in the test's own thread)
            wrong.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if wrong:
        raise wrong[0]


@pytest.mark.parametrize("shared", [True, False], ids=["one ledger", "a ledger each"])
def test_of_threads_that_move_one_agent_at_once_one_does(opener: Opener, shared: bool) -> None:  # noqa: FBT001
    ledger = opener()
    ledgers = [ledger if shared else opener() for _ in range(6)]
    done: list[int] = []
    refused: list[int] = []
    for round_ in range(10):
        ada = bring(ledger, "suspended", f"agent-{round_}")

        def act(number: int, ada: AgentRecord = ada, place: str = f"file:{round_}") -> None:
            try:
                move(ledgers[number], ada, ("frozen", "active")[number % 2], left=[leftover(place, str(number))])
                done.append(number)
            except MoveConflict:
                refused.append(number)

        together(6, act)
    assert (len(done), len(refused)) == (10, 50)
    assert sorted(each.agent for each in ledger.leftovers()) == sorted(map(str, done))
    assert [len(ledger.history(f"agent-{round_}")) for round_ in range(10)] == [4] * 10


def test_of_threads_that_take_one_name_at_once_one_gets_it(opener: Opener) -> None:
    ledgers = [opener() for _ in range(6)]
    got: list[int] = []

    def act(number: int) -> None:
        for round_ in range(10):
            try:
                add(
                    ledgers[number],
                    agent(f"{'nN'[number % 2]}ame-{round_}", id=f"{number}-{round_}", file=f"{number}-{round_}"),
                )
                got.append(round_)
            except NameTaken:
                continue

    together(6, act)
    assert sorted(got) == list(range(10))
    assert len(list(ledgers[0].agents())) == 10


def test_nothing_is_lost_where_many_write_at_once(opener: Opener) -> None:
    ledgers = [opener() for _ in range(4)]

    def act(number: int) -> None:
        ada = bring(ledgers[number], "active", f"agent-{number}")
        for turn in range(20):
            ada = move(ledgers[number], ada, "suspended" if turn % 2 == 0 else "active")
            ledgers[number].touch(ada.id, NOW + turn)
            ledgers[number].reserve([leftover(f"file:{turn}", ada.id)])
            ledgers[number].note(note(ada.id, "export"))

    together(4, act)
    for number in range(4):
        told = ledgers[0].history(f"agent-{number}")
        assert [entry.verb for entry in told].count("export") == 20
        told = [entry for entry in told if entry.verb != "export"]
        assert len(told) == 22
        assert all(before.after == after.before for before, after in itertools.pairwise(told))
        assert ledgers[0].agent(f"agent-{number}").active == NOW + 19
    assert len(ledgers[0].leftovers()) == 80


# --- changes ------------------------------------------------------------------------------------------------------


def followed(ledger: Ledger, since: Mark | None = None, limit: int = 3) -> list[Changes]:
    found, mark = [], since or Mark()
    while changes := ledger.changes(mark, limit):
        found.append(changes)
        mark = changes.mark
    return found


def busy_life(ledger: Ledger) -> None:
    for state in STATES:
        bring(ledger, state, f"{state}-a", tenant="acme", parent="p", wake=None if state == "deleted" else NOW + 9)
    for name in ("base", "other"):
        ledger.templates.add(template(name), note(id_of(name), "template", details={"from": "ada"}))
    ledger.templates.drop(template("other"), note(id_of("other"), "drop"))
    ledger.note(note(id_of("active-a"), "export", why="asked"))


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_a_ledger_made_of_all_changes_says_the_same(ledger: Ledger, tmp_path: Path, limit: int) -> None:
    busy_life(ledger)
    (tmp_path / "copy").mkdir()
    with closing(SqliteLedger.open(tmp_path / "copy" / "ledger.db")) as copy:
        copy.take_over(in_one(followed(ledger, limit=limit)))
        mine, theirs = content(ledger), content(copy)
        for told in (mine, theirs):
            for entries in told["history"].values():
                for entry in entries:
                    del entry["move"]
        assert theirs == mine
        assert [entry.verb for entry in copy.history("other")] == ["template", "drop"]
        with pytest.raises(NameTaken):
            copy.templates.add(template("other"), note(id_of("other"), "template"))
        copy.move(copy.agent("suspended-a"), becoming(copy.agent("suspended-a"), "active"), note(id_of("suspended-a")))


def test_whoever_follows_hears_of_each_change_once_and_of_nothing_else(ledger: Ledger) -> None:
    assert ledger.changes(Mark(), 10) is None
    busy_life(ledger)
    mark = followed(ledger)[-1].mark
    assert ledger.changes(mark, 10) is None
    ledger.touch(id_of("active-a"), NOW + 77)
    ledger.reserve([leftover("file:a")])
    assert ledger.changes(mark, 10) is None
    ledger.schedule(id_of("active-a"), NOW + 5)
    found = ledger.changes(mark, 10)
    assert found is not None
    assert [(record.name, record.wake, record.active) for record in found.agents] == [("active-a", NOW + 5, NOW + 77)]
    assert found.moves == []
    move(ledger, ledger.agent("active-a"), "suspended")
    (again,) = followed(ledger, found.mark)
    assert ([record.state for record in again.agents], [entry.verb for entry in again.moves]) == (
        ["suspended"], ["suspend"],
    )  # fmt: skip
    assert [(name.name, name.kind) for name in again.names] == [("active-a", "agent")]


def test_only_a_new_ledger_takes_over(ledger: Ledger, tmp_path: Path) -> None:
    busy_life(ledger)
    everything = in_one(followed(ledger))
    before = content(ledger)
    with pytest.raises(HomeRefused):
        ledger.take_over(everything)
    assert content(ledger) == before


def test_closing_twice_is_once(opener: Opener) -> None:
    ledger = opener()
    ledger.close()
    ledger.close()
