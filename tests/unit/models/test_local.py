from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import anyio.lowlevel
import numpy as np
import pytest

from torpor.base.errors import ModelRefused
from torpor.models import Local, Prompt
from torpor.models.sentences import split_sentences
from torpor.models.weights import TOKENIZER_FILE, WEIGHTS_FILE, load, package_folder

POST = """Why the pump failed

The pump of the east hall failed on Monday night. Nobody was hurt. A seal had worn through after
nine years of work, and the water reached the motor. Technicians found the worn seal within an
hour.

The cafeteria will serve pancakes again from Tuesday. Guests had asked for pancakes for months.

Maintenance now replaces every seal of every pump after five years. The new rule costs little
compared with a flooded motor.
"""


@pytest.mark.anyio
async def test_a_summary_is_made_of_the_texts_own_sentences_in_order() -> None:
    text = (await Local().generate(Prompt(text=POST, sentences=3))).text
    chosen, whole = split_sentences(text), split_sentences(POST)
    assert len(chosen) == 3
    assert [whole.index(sentence) for sentence in chosen] == sorted(map(whole.index, chosen))


@pytest.mark.anyio
async def test_the_focus_decides_what_is_quoted() -> None:
    model = Local()
    food = await model.generate(Prompt(text=POST, focus="food, pancakes, lunch", sentences=1))
    parts = await model.generate(Prompt(text=POST, focus="pump maintenance, seals", sentences=1))
    assert "pancakes" in food.text
    assert "seal" in parts.text


@pytest.mark.anyio
async def test_the_same_question_has_the_same_answer() -> None:
    prompt = Prompt(text=POST, focus="pumps")
    assert await Local().generate(prompt) == await Local().generate(prompt)


@pytest.mark.anyio
@pytest.mark.parametrize("sentences", [-1, 0, 1, 2, 50])
async def test_never_more_sentences_than_asked_for(sentences: int) -> None:
    text = (await Local().generate(Prompt(text=POST, sentences=sentences))).text
    assert 1 <= len(split_sentences(text)) <= max(1, sentences)


@pytest.mark.anyio
async def test_a_wall_of_text_is_cut_at_a_word() -> None:
    text = (await Local().generate(Prompt(text="wall of text " * 500, sentences=1))).text
    assert len(text) <= 400
    assert text.endswith(("wall\u2026", "of\u2026", "text\u2026"))


@pytest.mark.anyio
async def test_vectors_are_wordllamas_own() -> None:
    # In a child: importing the package sets up logging for the whole process.
    texts = ["a durable journal", "他们发布了新的数据库", POST]
    code = (
        "import sys, json, pathlib, wordllama\n"
        "folder = pathlib.Path(wordllama.__file__).parent\n"
        "model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)\n"
        "json.dump(model.embed(json.load(sys.stdin), norm=True).tolist(), sys.stdout)\n"
    )
    sent = json.dumps(texts).encode()
    done = await anyio.run_process([sys.executable, "-c", code], input=sent)
    ours = (await Local().embed(texts)).rows
    np.testing.assert_allclose(ours, json.loads(done.stdout), atol=2e-6)


def test_it_answers_where_every_connection_and_lookup_is_forbidden() -> None:
    code = (
        "import sys\n"
        "def forbid(event, args):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo', 'socket.gethostbyname'):\n"
        "        raise SystemExit('called ' + event)\n"
        "sys.addaudithook(forbid)\n"
        "import anyio\n"
        "from torpor.models import Local, Prompt\n"
        "assert 'numpy' not in sys.modules, 'importing must stay cheap'\n"
        "model = Local()\n"
        "reply = anyio.run(model.generate, Prompt(text='Agents sleep in one file.'))\n"
        "rows = anyio.run(model.embed, ['a', 'b']).rows\n"
        "assert 'wordllama' not in sys.modules and 'requests' not in sys.modules\n"
        "print(reply.text, len(rows))\n"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Agents sleep in one file. 2\n", "")


@pytest.mark.anyio
@pytest.mark.parametrize("missing", [TOKENIZER_FILE, WEIGHTS_FILE])
async def test_a_missing_file_is_named_and_nothing_is_fetched(tmp_path: Path, missing: str) -> None:
    copy_package(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(ModelRefused, match=f"{missing} is missing"):
        await Local(tmp_path).embed(["a"])


@pytest.mark.anyio
@pytest.mark.parametrize("damaged", [TOKENIZER_FILE, WEIGHTS_FILE])
@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 100])
async def test_a_damaged_file_is_refused(tmp_path: Path, damaged: str, content: bytes) -> None:
    copy_package(tmp_path)
    (tmp_path / damaged).write_bytes(content)
    with pytest.raises(ModelRefused, match="can't be read"):
        await Local(tmp_path).embed(["a"])


def copy_package(folder: Path) -> None:
    package = package_folder()
    assert package is not None
    for name in (TOKENIZER_FILE, WEIGHTS_FILE):
        (folder / name).parent.mkdir()
        shutil.copyfile(package / name, folder / name)


def test_first_uses_at_once_read_the_files_once(tmp_path: Path) -> None:
    copy_package(tmp_path)
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(load(tmp_path, model="x"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({id(each) for each in found}) == 1


@pytest.mark.anyio
async def test_long_work_leaves_the_event_loop_free() -> None:
    model = Local()
    turns = 0

    async def tick() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        await model.generate(Prompt(text=POST * 300))
        group.cancel_scope.cancel()
    assert turns > 3


@pytest.mark.anyio
async def test_logging_is_left_alone() -> None:
    before = (logging.getLogger().level, list(logging.getLogger().handlers))
    await Local().embed(["a"])
    assert (logging.getLogger().level, list(logging.getLogger().handlers)) == before
