"""What is recorded comes back as what it was; what can't be is refused at the call, with the reason."""

from __future__ import annotations

import dataclasses
import enum
import os
import socket
import subprocess
import sys
import tempfile
import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest
from tests.unit.runtime.lab import at, die, reopened, steps

import torpor
from torpor import Agent, StepFailed, Workbook
from torpor.base.errors import NotRecordable, StepRefused
from torpor.runtime.record import decode, encode, encode_arguments

pytestmark = pytest.mark.anyio


@dataclasses.dataclass
class Point:
    x: float
    names: set[str]


class Shape(msgspec.Struct, tag=True):
    points: tuple[Point, ...]


class Circle(msgspec.Struct, tag=True):
    radius: Decimal


class Item(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, extra="forbid")

    ident: int = pydantic.Field(alias="itemId")
    when: datetime
    tags: set[str] = set()
    raw: bytes = b""

    @pydantic.computed_field  # type: ignore[prop-decorator]  # mypy can't stack decorators on property
    @property
    def double(self) -> int:
        return 2 * self.ident


class Row(TypedDict):
    name: str
    value: int | None


class Pair(NamedTuple):
    left: int
    right: str


class Colour(enum.Enum):
    RED = "red"


NOON = datetime(2026, 5, 4, 12, 0, 0, 123456, UTC)

VALUES: list[tuple[Any, Any]] = [
    (int, 2**63),
    (int, 2**70),
    (float, 0.1),
    (str, 'ä\u2028"\\[{'),
    (bytes, bytes(range(256))),
    (type(None), None),
    (bool, True),
    (int | str, "1"),
    (str | None, None),
    (list[Point], [Point(1.5, {"a", "b"})]),
    (dict[str, Point], {"p": Point(0.0, set())}),
    (dict[int, date], {1: date(2026, 1, 2)}),
    (Shape | Circle, Circle(Decimal("1.10"))),
    (Shape | Circle, Shape((Point(1.0, {"z"}),))),
    (Item, Item(itemId=1, when=NOON, tags={"x", "y"}, raw=b"abc")),
    (list[Item], [Item(itemId=2, when=NOON)]),
    (Item | None, None),
    (Row, {"name": "n", "value": None}),
    (Pair, Pair(1, "r")),
    (Colour, Colour.RED),
    (datetime, NOON),
    (timedelta, timedelta(days=1, microseconds=1)),
    (UUID, UUID(int=7)),
    (frozenset[int], frozenset({3, 1})),
    (tuple[int, ...], (1, 2)),
    (tuple[int, str], (1, "b")),
    (list[list[int]], [[]] * 3),
]


def maker(type_: Any, value: Any) -> tuple[type[Agent], list[Any]]:
    """Return an agent whose one step returns the value, and a list of what its handler got."""
    got: list[Any] = []

    async def make() -> Any:
        return value

    make.__annotations__["return"] = type_
    step = torpor.step(make)

    class Maker(Agent):
        @torpor.on("make")
        async def make(self) -> None:
            got.append(await step())

    return Maker, got


@pytest.mark.parametrize(("type_", "value"), VALUES)
async def test_a_result_comes_back_by_its_annotation_the_same_live_and_replayed(
    book: Workbook, type_: Any, value: Any
) -> None:
    agent, got = maker(type_, value)
    await die(agent(book), "make", at("run.finishing"))
    with reopened(book) as after:
        (outcome,) = await agent(after).resume()
        assert outcome.error is None
    assert got == [value, value]
    assert type(got[0]) is type(got[1]) is type(value)


async def test_without_an_annotation_the_live_value_is_plain_as_the_replayed_one_will_be(book: Workbook) -> None:
    agent, got = maker(Any, Point(1.0, {"a"}))
    await die(agent(book), "make", at("run.finishing"))
    with reopened(book) as after:
        await agent(after).resume()
    assert got == [{"x": 1.0, "names": ["a"]}] * 2


def live_things() -> list[Any]:
    """Return what lives in this process only."""
    return [lambda: 1, threading.Lock(), (i for i in range(3)), object(), ValueError("x"), Point, sys.stdout, 1j]


CYCLE: list[Any] = []
CYCLE.append(CYCLE)

STRANGE = [
    (float("nan"), "NaN"),
    ({"deep": [float("inf"), None]}, "NaN or an infinity"),
    (Point(float("nan"), set()), "NaN"),
    ([10**5000], "digits"),
    ("\ud800", "surrogates"),
    (CYCLE, "recursion"),
    ({(1, 2): 3}, "tuple|dict"),
]


@pytest.mark.parametrize("thing", live_things(), ids=lambda thing: type(thing).__name__)
async def test_what_lives_in_this_process_only_is_refused_at_the_call(book: Workbook, thing: Any) -> None:
    await refused(book, thing, "is not data|type is unsupported|not supported")


@pytest.mark.parametrize(("thing", "why"), STRANGE)
async def test_what_json_cannot_say_is_refused_at_the_call(book: Workbook, thing: Any, why: str) -> None:
    await refused(book, thing, why)


async def refused(book: Workbook, thing: Any, why: str) -> None:
    """Insist that it is refused as an argument, before anything is recorded, and as a result, as a failure."""
    called: list[Any] = []

    @torpor.step(retries=3)
    async def take(value: Any) -> None:
        called.append(value)

    @torpor.step(retries=3)
    async def give() -> Any:
        called.append(thing)
        return thing

    class Taker(Agent):
        @torpor.on("take")
        async def take(self) -> None:
            await take(thing)

        @torpor.on("give")
        async def give(self) -> None:
            await give()

    with pytest.raises(NotRecordable, match=why):
        await Taker(book).send("take")
    assert called == []
    assert steps(book) == []
    with pytest.raises(StepFailed, match=why) as caught:
        await Taker(book).send("give")
    assert len(called) == 1
    assert caught.value.kind == "NotRecordable"


async def test_an_open_file_and_a_socket_are_refused(book: Workbook) -> None:
    with tempfile.TemporaryFile() as file, socket.socket() as wire:
        for thing in (file, wire):
            with pytest.raises(NotRecordable, match="it lives in this process only"):
                encode_arguments({"thing": thing}, name="take")


@pytest.mark.parametrize("depth", [100, 101, 900])
def test_what_is_nested_too_deep_to_be_read_again_is_refused(depth: int) -> None:
    value: Any = "[{"
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    if depth <= 100:
        assert decode(encode(value, name="s", where="r"), Any, name="s", where="r") == value
        return
    with pytest.raises(NotRecordable, match=r"nested more than 100 deep|recursion"):
        encode(value, name="s", where="r")


def test_what_is_wide_is_not_taken_for_deep() -> None:
    value = [[["]"], {}] for _ in range(5_000)]
    assert decode(encode(value, name="s", where="r"), Any, name="s", where="r") == value


def test_arguments_are_the_same_in_every_process_whatever_the_hash_seed() -> None:
    code = (
        "from datetime import UTC, datetime\n"
        "from tests.unit.runtime.test_values import Item, Point, NOON\n"
        "from torpor.runtime.record import encode_arguments as e\n"
        "names = {'alpha', 'beta', 'gamma', 'delta'}\n"
        "print(e({'s': names, 'p': Point(1.0, names), 'i': Item(itemId=1, when=NOON, tags=names)}, name='n'))"
    )
    root = Path(__file__).parents[3]
    env = {**os.environ, "PYTHONPATH": f"{root}:{root / 'src'}"}
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={**env, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1


@pytest.mark.parametrize("size", [4_000, 5_000, 40_000, 5_000_000])
async def test_large_arguments_and_results_are_kept(book: Workbook, size: int) -> None:
    calls: list[int] = []

    @torpor.step
    async def double(text: str) -> str:
        calls.append(len(text))
        return text + text

    class Doubler(Agent):
        @torpor.on("double")
        async def double(self, text: str) -> str:
            return await double(text + "!")

    await die(Doubler(book), "double", at("run.finishing"), text="x" * size)
    assert max(len(msgspec.json.encode(event.body)) for event in book.events()) < 40_000
    with reopened(book) as after:
        (outcome,) = await Doubler(after).resume()
        assert len(outcome.result) == 2 * size + 2
        assert len(calls) == 1


async def test_other_large_arguments_at_replay_are_noticed(book: Workbook) -> None:
    said = ["x" * 10_000]

    @torpor.step
    async def size(text: str) -> int:
        return len(text)

    class Sizer(Agent):
        @torpor.on("size")
        async def size(self) -> int:
            return await size(said[0])

    await die(Sizer(book), "size", at("run.finishing"))
    said[0] = "y" * 10_000
    with reopened(book) as after:
        (outcome,) = await Sizer(after).resume()
        assert "SHA-256" in str(outcome.error)


@pytest.mark.parametrize(("annotation", "why"), [("Nowhere", "Nowhere"), (Point | Row, "no JSON form")])
async def test_a_result_type_that_cannot_be_read_is_refused_before_the_call(
    book: Workbook, annotation: Any, why: str
) -> None:
    called: list[int] = []

    async def act(*, key: str) -> None:
        called.append(1)

    act.__annotations__["return"] = annotation
    effect = torpor.effect(on_unknown="retry")(act)

    class Actor(Agent):
        @torpor.on("act")
        async def act(self) -> None:
            await effect(key="k")

    with pytest.raises(StepRefused, match=why):
        await Actor(book).send("act")
    assert called == []


async def test_a_result_that_is_not_of_its_type_is_a_failure_of_the_step(book: Workbook) -> None:
    agent, _ = maker(int, "one")
    with pytest.raises(StepFailed, match=r"Expected `int`, got `str`"):
        await agent(book).send("make")


async def test_a_handlers_result_that_is_not_of_its_type_is_the_runs_failure(book: Workbook) -> None:
    class Liar(Agent):
        @torpor.on("lie")
        async def lie(self) -> int:
            return "one"  # type: ignore[return-value]  # the lie

    with pytest.raises(NotRecordable, match=r"Expected `int`, got `str`"):
        await Liar(book).send("lie")
    assert [info.state for info in Liar(book).runs()] == ["failed"]
