"""What an agent does with its own workbook happens once, together with its receipt."""

from __future__ import annotations

from base64 import b64encode

import pytest
from tests.unit.runtime.lab import at, die, kinds, receipts, reopened

import torpor
from torpor import Agent, Embedding, StepFailed, Workbook
from torpor.base.errors import SettingRefused
from torpor.runtime import Note

pytestmark = pytest.mark.anyio


@torpor.step
async def nothing() -> None:
    pass


class Keeper(Agent):
    greeting: str = "Hello"
    names: list[str] = []  # noqa: RUF012  (a setting's default)
    _count = 0

    @torpor.on("everything")
    async def everything(self) -> list[object]:
        said: list[object] = [
            self.memory.remember("alpha", source="urn:a", embedding=Embedding("m", (1.0, 0.0))),
            self.memory.remember_all([Note(content="beta", source="urn:b"), Note(content="gamma", source="urn:c")]),
            self.memory.unseen(["urn:a", "urn:new", "urn:new"]),
            [found.entry.content for found in self.memory.search("beta")],
            [found.entry.content for found in self.memory.nearest(Embedding("m", (1.0, 0.0)))],
            self.memory.get("urn:c") is not None,
            self.memory.get("urn:x"),
            self.memory.forget(1),
        ]
        self.files.write("/a/b.txt", b"\x00\xff")
        self.files.append("/a/b.txt", b"more")
        said.append(self.files.read("/a/b.txt"))
        self.files.move("/a/b.txt", "/c.txt")
        said.append([stat.path for stat in self.files.list("/")])
        self.files.delete("/c.txt")
        said += [
            self.spend.book(5, "eur", source="purse", target="shop", key="k1"),
            self.spend.balances(),
        ]
        self.greeting = "Hi"
        self.names = ["x"]
        said += [self.greeting, self.names]
        return said

    @torpor.on("look")
    async def look(self) -> list[object]:
        first = self.memory.get("urn:a")
        await nothing()
        return [first and first.content, self.greeting]

    @torpor.on("fail")
    async def fail(self) -> list[str]:
        said = []
        for path in ("/missing", "../up"):
            try:
                self.files.read(path)
            except StepFailed as error:
                said.append(f"{error.name} {error.kind} {error.attempts} {error.detail}")
        self.files.write("/after", b"")
        return said


class TestOnce:
    @pytest.mark.parametrize("nth", range(2, 21))
    async def test_whatever_crash_each_call_changes_the_workbook_once_and_answers_the_same(
        self, book: Workbook, nth: int
    ) -> None:
        await die(Keeper(book), "everything", at("transaction.committing", nth))
        with reopened(book) as after:
            (outcome,) = await Keeper(after).resume()
            assert outcome.result[1:4] == [2, ["urn:new"], ["beta"]]
            assert outcome.result[8] == b64encode(b"\x00\xffmore").decode()
            assert outcome.result[-3:] == [{"purse eur": -5, "shop eur": 5}, "Hi", ["x"]]
            counted = kinds(after)
            assert counted.count("memory.kept") == 3
            assert counted.count("file.written") == counted.count("file.appended") == 1
            assert counted.count("spend.booked") == 1
            assert counted.count("setting.changed") == 2
            assert [r[2] for r in receipts(after)] == ["step.completed"] * 18

    async def test_the_change_and_its_receipt_are_one_transaction(self, book: Workbook) -> None:
        class Writer(Agent):
            @torpor.on("write")
            async def write(self) -> None:
                self.files.write("/a.txt", b"a")

        await die(Writer(book), "write", at("append.inserted", 3))
        assert kinds(book) == ["run.started"]
        assert book.list("workspace") == []

    async def test_a_replay_gets_the_recorded_answer_even_if_the_workbook_has_changed(self, book: Workbook) -> None:
        book.memory.remember("before", source="urn:a")
        await die(Keeper(book), "look", at("step.recorded"))
        with reopened(book) as after:
            after.memory.remember("after", source="urn:a")
            (outcome,) = await Keeper(after).resume()
            assert outcome.result == ["before", "Hello"]

    async def test_a_refusal_is_recorded_and_the_same_at_replay(self, book: Workbook) -> None:
        live = await Keeper(book).send("fail")
        assert live[0].startswith("files.read FileMissing 1 ")
        assert live[1].startswith("files.read PathRefused 1 ")
        await die(Keeper(book), "fail", at("run.finishing"))
        with reopened(book) as after:
            after.write("workspace", "/missing", b"here now")
            (outcome,) = await Keeper(after).resume()
            assert outcome.result == live

    async def test_outside_a_run_the_calls_go_straight_to_the_workbook(self, book: Workbook) -> None:
        agent = Keeper(book)
        agent.files.write("/a.txt", b"a")
        agent.memory.remember("x", source="urn:x")
        assert agent.memory.unseen(["urn:x", "urn:y"]) == ["urn:y"]
        assert set(kinds(book)) == {"file.written", "memory.kept"}

    async def test_another_workbook_is_not_part_of_the_run(self, book: Workbook, tmp_path: object) -> None:
        class Friend(Agent):
            @torpor.on("help")
            async def help(self) -> None:
                other.files.write("/a.txt", b"a")

        with Workbook.open(f"{tmp_path}/other.workbook") as second:
            other = Keeper(second)
            await Friend(book).send("help")
            assert kinds(book) == ["run.started", "run.completed"]
            assert kinds(second) == ["file.written"]


class TestSettings:
    async def test_a_run_sees_the_settings_of_its_beginning_also_at_replay(self, book: Workbook) -> None:
        Keeper(book).greeting = "Old"
        await die(Keeper(book), "look", at("step.recorded"))
        with reopened(book) as after:
            Keeper(after).greeting = "New"
            (outcome,) = await Keeper(after).resume()
            assert outcome.result[1] == "Old"
            assert await Keeper(after).send("look") == [None, "New"]

    async def test_a_value_of_the_wrong_type_is_refused(self, book: Workbook) -> None:
        with pytest.raises(SettingRefused):
            Keeper(book).greeting = 5  # type: ignore[assignment]  # what is refused
        assert kinds(book) == []

    async def test_what_is_done_with_a_default_does_not_change_it(self, book: Workbook) -> None:
        agent = Keeper(book)
        agent.names.append("x")
        assert agent.names == []

    async def test_large_settings_do_not_keep_a_run_from_beginning(self, book: Workbook) -> None:
        agent = Keeper(book)
        agent.greeting = "x" * 200_000
        agent.names = ["y" * 200_000]
        await die(agent, "look", at("step.recorded"))
        with reopened(book) as after:
            (outcome,) = await Keeper(after).resume()
            assert outcome.result[1] == "x" * 200_000

    async def test_a_setting_changed_within_a_step_changes_the_workbook_and_not_the_runs_view(
        self, book: Workbook
    ) -> None:
        class Changer(Agent):
            luck: int = 1

            @torpor.step
            async def change(self) -> None:
                self.luck = 2

            @torpor.on("go")
            async def go(self) -> int:
                await self.change()
                return self.luck

        assert await Changer(book).send("go") == 1
        assert Changer(book).luck == 2
