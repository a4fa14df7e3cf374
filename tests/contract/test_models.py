"""What every model promises, whoever provides it."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import msgspec
import pytest
from tests.unit.models.chat_server import length, serving

from torpor.models import Local, Model, Paired, Prompt, Reply, Usage, Vectors
from torpor.models.openai import Endpoint, OpenAI

TEXT = (
    "The journal is the canonical state of an agent. Every event carries the hash of the one "
    "before it. A reader can therefore prove that nothing was taken out. Suspended agents cost "
    "nothing but disk space. Waking one takes some milliseconds on an ordinary machine."
)
STRANGE = {
    "chinese": "他们发布了新的数据库。它比以前快得多。用户可以免费使用。",
    "japanese": "新しいデータベースが公開された。以前よりずっと速い。",
    "emoji": "We shipped it 🚀🎉! Everybody 👩‍👩‍👧 is happy today.",
    "one sentence": "Agents sleep in a single file and wake where they stopped.",
    "no sentence": "agents sleep",
    "lone surrogate": "A broken \ud800 character came with this feed today.",
    "nul and escapes": "A bell \x07 and a nul \x00 came with this feed \x1b[31mtoday.",
    "no blanks": "a" * 5_000,
}


@pytest.fixture(params=["local", "openai", "paired"])
def model(request: pytest.FixtureRequest) -> Iterator[Model]:
    if request.param == "local":
        yield Local()
        return
    with serving() as server:
        remote = OpenAI(Endpoint(base_url=server.url, model="talker", embedding_model="bag"))
        paired = Paired(generate_with=remote, embed_with=Local())
        yield remote if request.param == "openai" else paired


@pytest.mark.anyio
async def test_a_summary_is_words_of_a_named_model(model: Model) -> None:
    reply = await model.generate(Prompt(text=TEXT, sentences=2))
    assert reply.text.strip()
    assert reply.model == model.name
    assert reply.usage.input_tokens > 0
    assert reply.usage.output_tokens > 0


@pytest.mark.anyio
async def test_answers_survive_a_journal(model: Model) -> None:
    reply = await model.generate(Prompt(text=TEXT))
    vectors = await model.embed([TEXT, "short"])
    assert msgspec.json.decode(msgspec.json.encode(reply), type=Reply) == reply
    assert msgspec.json.decode(msgspec.json.encode(vectors), type=Vectors) == vectors


@pytest.mark.anyio
@pytest.mark.parametrize("text", ["", " \n\t "])
async def test_a_blank_text_gives_an_empty_reply(model: Model, text: str) -> None:
    reply = await model.generate(Prompt(text=text))
    assert reply == Reply(text="", model=model.name, usage=Usage())


@pytest.mark.anyio
async def test_no_texts_give_no_vectors(model: Model) -> None:
    vectors = await model.embed([])
    assert vectors.rows == []
    assert vectors.usage == Usage()


@pytest.mark.anyio
async def test_vectors_are_of_unit_length_or_zero_and_equally_long(model: Model) -> None:
    vectors = await model.embed([TEXT, "agents", "", "他们发布了新的数据库", "🚀"])
    assert len({len(row) for row in vectors.rows}) == 1
    assert [round(length(row), 4) in {0.0, 1.0} for row in vectors.rows] == [True] * 5


@pytest.mark.anyio
async def test_vectors_keep_the_order_of_the_texts(model: Model) -> None:
    texts = [f"text number {number} about {word}" for number, word in enumerate("abcdefgh")]
    together = await model.embed(texts)
    alone = [(await model.embed([text])).rows[0] for text in texts]
    assert together.rows == alone


@pytest.mark.anyio
async def test_texts_alike_lie_nearer_than_strangers(model: Model) -> None:
    question, near, far = (
        await model.embed(["a durable journal", "the durable journal", "tomato soup with basil"])
    ).rows
    assert dot(question, near) > dot(question, far)


@pytest.mark.anyio
async def test_a_megabyte_is_cut_and_not_refused(model: Model) -> None:
    text = (TEXT + " ") * 4_000
    assert (await model.generate(Prompt(text=text))).text
    assert len((await model.embed([text])).rows) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("name", STRANGE)
async def test_strange_text_is_taken(model: Model, name: str) -> None:
    reply = await model.generate(Prompt(text=STRANGE[name], focus=STRANGE[name]))
    assert reply.text
    assert len((await model.embed([STRANGE[name]])).rows) == 1


@pytest.mark.anyio
async def test_calls_at_once_answer_as_calls_in_turn(model: Model) -> None:
    prompts = [Prompt(text=f"{TEXT} Number {number} ends here.") for number in range(6)]
    expected = [await model.generate(prompt) for prompt in prompts]
    found: dict[int, Reply] = {}

    async def ask(number: int) -> None:
        found[number] = await model.generate(prompts[number])

    async with anyio.create_task_group() as group:
        for number in range(len(prompts)):
            group.start_soon(ask, number)
    assert [found[number] for number in range(len(prompts))] == expected


def test_the_name_is_one_word_and_the_tier_is_known(model: Model) -> None:
    assert model.name == "".join(model.name.split())
    assert model.tier in {"light", "medium", "heavy", "local"}


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))
