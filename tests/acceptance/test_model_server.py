"""Summaries by an OpenAI-compatible server: what it does well is used and booked, what it does badly loses no item."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acceptance.kit import Story, Zygote, events, left_in, pages, rss, stories
from tests.unit.models.chat_server import Answer, Asked, ChatServer, chat, honest, serving

from torpor.workbook import MICRO, Workbook

KEY = "sk-very-secret-0123456789"
WORDS = ("brief", "f.xml", "--workbook", "x.workbook", "--out", "out", "--json")


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serving() as found:
        yield found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "f.xml").write_bytes(rss(stories(3)))
    return tmp_path


def settings(server: ChatServer, **more: str) -> dict[str, str]:
    return {"TORPOR_MODEL": "openai:small", "TORPOR_MODEL_URL": server.url, "TORPOR_MODEL_KEY": KEY, **more}


def assert_key_is_nowhere(home: Path, *texts: str) -> None:
    for text in texts:
        assert KEY not in text
    for path in home.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path


def test_the_model_named_by_the_environment_summarises_and_its_tokens_are_booked(
    run: Zygote, home: Path, server: ChatServer
) -> None:
    server.answer = lambda _: chat("The server says this in one sentence.")
    ended = run(*WORDS, "--interest", "durable commits", cwd=home, env=settings(server))
    assert ended.code == 0, ended.err
    assert ended.json["model"].startswith("openai")
    assert "small" in ended.json["model"]
    assert [choice["summary"] for choice in ended.json["chosen"]] == ["The server says this in one sentence."] * 3
    assert len(server.asked) == 3, "embeddings are made here, where no embedding model is named"
    assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {KEY}"}
    with Workbook.open(home / "x.workbook", readonly=True) as book:
        balances = book.spend.balances()
    assert balances["agent", "token"] == -3 * 150 * MICRO
    assert_key_is_nowhere(home, ended.out, ended.err, str([event.body for event in events(home / "x.workbook")]))


def test_an_embedding_model_is_asked_where_one_is_named(run: Zygote, home: Path, server: ChatServer) -> None:
    env = settings(server, TORPOR_EMBEDDING_MODEL="vectors")
    ended = run(*WORDS, "--interest", "cats that sleep", cwd=home, env=env)
    assert ended.code == 0, ended.err
    assert any(asked.path.endswith("/embeddings") for asked in server.asked)
    assert ended.json["chosen"][0]["title"] == "Story s1"


def test_the_option_wins_over_the_environment(run: Zygote, home: Path, server: ChatServer) -> None:
    ended = run(*WORDS, "--model", "local", cwd=home, env=settings(server))
    assert (ended.code, server.asked) == (0, [])
    assert ended.json["model"].startswith("local")


def test_an_item_that_the_model_fails_on_is_delivered_without_summary_and_reported(
    run: Zygote, home: Path, server: ChatServer
) -> None:
    (home / "f.xml").write_bytes(rss([*stories(2), Story("bad", title="The bad one", text="poison " * 5)]))

    def moody(asked: Asked) -> Answer:
        return Answer(b'{"error": "no"}', 400) if "poison" in str(asked.body) else honest(asked)

    server.answer = moody
    ended = run(*WORDS, cwd=home, env=settings(server))
    assert ended.code == 3, ended.err
    assert [bool(choice["summary"]) for choice in ended.json["chosen"]] == [True, True, False]
    (problem,) = ended.json["problems"]
    assert "«The bad one» has no summary" in problem["message"]
    assert "handler" not in problem["next_step"], "advice for users, not for programmers"
    assert "The bad one" in pages(home / "out")[0]
    again = run(*WORDS, cwd=home, env=settings(server))
    assert (again.code, again.json["already_read"]) == (0, 3)
    assert_key_is_nowhere(home, ended.out, ended.err)


def test_a_server_that_refuses_the_key_never_has_it_shown(run: Zygote, home: Path, server: ChatServer) -> None:
    said = f'{{"error": {{"message": "Incorrect API key provided: {KEY}"}}}}'.encode()
    server.answer = lambda _: Answer(said, 401)
    ended = run(*WORDS, cwd=home, env=settings(server))
    assert ended.code == 3
    assert len(ended.json["problems"]) == 3
    assert len(left_in(home / "out")) == 2
    plain = run("runs", "x.workbook", cwd=home)
    assert_key_is_nowhere(home, ended.out, ended.err, plain.out)


@pytest.mark.parametrize("url", ["ftp://example.org", "not an address", "http://", "http://h:99999/v1"])
def test_a_model_address_that_is_none_is_refused_before_anything_is_made(run: Zygote, home: Path, url: str) -> None:
    env = {"TORPOR_MODEL": "openai:small", "TORPOR_MODEL_URL": url, "TORPOR_MODEL_KEY": KEY}
    ended = run(*WORDS, cwd=home, env=env)
    assert ended.code == 1, ended
    assert ended.error["code"] == "TOR-502"
    assert left_in(home) == ["f.xml"]
    assert KEY not in ended.err


@pytest.mark.parametrize("name", ["gpt-x", "openai:", "openai", "", "local:x"])
def test_a_name_that_means_no_model_is_misuse(run: Zygote, home: Path, name: str) -> None:
    ended = run(*WORDS, "--model", name, cwd=home)
    assert ended.code == 2, ended
    assert ended.error["code"] == "TOR-115"
    assert "local" in ended.error["next_step"]
    assert left_in(home) == ["f.xml"]


def test_the_public_server_without_a_key_is_refused_before_anything_is_made(run: Zygote, home: Path) -> None:
    ended = run(*WORDS, cwd=home, env={"TORPOR_MODEL": "openai:small"})
    assert ended.code == 1
    assert "TORPOR_MODEL_KEY" in ended.err
    assert left_in(home) == ["f.xml"]
