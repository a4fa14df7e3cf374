"""Every example in the documents and in the docstrings of the public names runs."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.blocks import RUN, SHOWN_ONLY, Block, Desk, blocks, documents, matches

import torpor
import torpor.testing
import torpor.workbook

WITH_EXAMPLES = [path for path in documents() if any(not block.skipped for block in blocks(path))]


@pytest.mark.parametrize("document", WITH_EXAMPLES, ids=lambda path: path.name)
def test_the_examples_of_a_document_run_in_order_and_print_what_it_says(document: Path, tmp_path: Path) -> None:
    desk = Desk(tmp_path)

    for block in blocks(document):
        desk.run(block)


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_each_block_says_what_becomes_of_it(document: Path) -> None:
    for block in blocks(document):
        assert block.language in RUN | SHOWN_ONLY, block.place
        if block.flags.startswith("notest"):
            assert re.fullmatch(r"notest: .{10,}", block.flags), f"{block.place} gives no reason"
        else:
            known = r"(file=\S+)?|(exit=\d+)?|needs=litestream|output"
            assert re.fullmatch(known, block.flags), f"{block.place}: {block.flags!r} means nothing"


def test_the_first_documents_have_examples() -> None:
    names = {path.name for path in WITH_EXAMPLES}

    assert {"README.md", "first-briefing.md", "the-life-of-an-agent.md", "write-an-agent.md"} <= names


def test_a_promised_output_is_compared() -> None:
    """The proof that the tests above can fail."""
    assert matches("a … c\nlast", "a b b c\nlast\n")
    assert not matches("a … c", "a b b")
    assert not matches("one", "one\ntwo")


def test_a_failing_example_fails(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    readme = documents()[0]

    with pytest.raises(AssertionError, match="no such column"):
        desk.run(Block(readme, 1, "sqlite", "", "SELECT colour FROM events"))

    with pytest.raises(ZeroDivisionError):
        desk.run(Block(readme, 1, "python", "", "1 / 0"))
    with pytest.raises(AssertionError, match="ended with 2"):
        desk.run(Block(readme, 1, "sh", "", "torpor brief"))


def test_what_a_block_exports_later_ones_have_and_nothing_else(tmp_path: Path) -> None:
    desk = Desk(tmp_path)

    desk.run(Block(documents()[0], 1, "sh", "", "export ONE='a\nb' && two=2"))
    desk.run(Block(documents()[0], 2, "sh", "", 'echo "$ONE ${two-none}"'))

    assert desk.said == "a\nb none\n"


def test_an_example_keeps_its_agents_to_itself(tmp_path: Path) -> None:
    desk = Desk(tmp_path)

    desk.run(Block(documents()[0], 1, "sh", "", "torpor new ada"))

    assert str(tmp_path) in desk.said


def test_where_there_is_no_sqlite_shell_python_stands_in(tmp_path: Path) -> None:
    desk = Desk(tmp_path, sqlite3=None)

    desk.run(Block(documents()[0], 1, "sqlite", "", "SELECT 1, NULL, kind FROM events LIMIT 1; SELECT 2"))

    assert desk.said == "1||note.added\n2\n"


def _literals() -> Iterator[tuple[str, str]]:
    """Yield the indented blocks behind `::` in public docstrings that are Python."""
    for room in (torpor, torpor.workbook, torpor.testing):
        for name in room.__all__:
            text = inspect.getdoc(getattr(room, name)) or ""
            for found in re.finditer(r"::\n\n((?:    .*\n|\n)+)", text + "\n"):
                code = textwrap.dedent(found[1])
                with contextlib.suppress(SyntaxError):
                    ast.parse(code)
                    yield f"{room.__name__}.{name}", code


@pytest.mark.parametrize(("name", "code"), list(_literals()), ids=[name for name, _ in _literals()])
def test_the_examples_of_a_docstring_run(name: str, code: str, tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path), contextlib.redirect_stdout(io.StringIO()):
        exec(compile(code, name, "exec", dont_inherit=True), {"__name__": "example", "torpor": torpor})  # noqa: S102
