"""The documents agree with the code and with each other."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from tests.docs import pages
from tests.docs.blocks import ROOT, documents

from torpor.base import errors
from torpor.main import Settings

_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)


def prose(path: Path) -> str:
    """Return a document without its code."""
    return _CODE.sub("", path.read_text(encoding="utf-8"))


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub makes of a document's headings."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found: list[str] = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in found}


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in _LINK.findall(prose(document)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        assert target.exists(), f"{document.name}: nothing at {link}"
        if anchor:
            assert anchor in anchors(target), f"{document.name}: no heading for {link}"


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.path.name)
def test_a_reference_page_is_what_the_code_says(page: pages.Page) -> None:
    written = page.path.read_text(encoding="utf-8")

    assert written == page.text(), f"run `{pages.COMMAND}`"


def test_every_error_code_is_unique_and_documented() -> None:
    page = (ROOT / "docs/reference/errors.md").read_text(encoding="utf-8")
    codes = [error.code for error in pages.all_errors() if "code" in vars(error)]

    assert len(codes) == len(set(codes)) > 40
    assert all(f"### {code} " in page for code in codes)


def test_every_error_is_in_the_tree_of_the_modules_text() -> None:
    for error in pages.all_errors():
        assert error.__name__ in (errors.__doc__ or ""), error.__name__


def test_every_command_and_option_is_documented() -> None:
    page = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
    for path, command in pages.commands():
        assert f"## {path}\n" in page
        for parameter in command.params:
            for name in (*parameter.opts, *parameter.secondary_opts):
                assert not name.startswith("-") or re.search(rf"[` ]{name}[`,]", page), f"{path} {name}"


def test_every_setting_of_the_environment_is_documented() -> None:
    page = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
    howtos = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs/howto").glob("*.md"))
    for name in (*Settings.__struct_fields__, "model"):
        assert f"`TORPOR_{name.upper()}`" in page
        assert f"TORPOR_{name.upper()}" in howtos


@pytest.mark.parametrize("room", pages.ROOMS, ids=lambda room: room.__name__)
def test_every_public_name_has_a_docstring(room: ModuleType) -> None:
    for name in pages.public(room):
        value = getattr(room, name)
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue  # a constant or a name for a type, which its module explains
        assert pages.first_line(value), f"{name} has no docstring"
        for member, method in pages.members(value):
            assert pages.first_line(method), f"{name}.{member} has no docstring"


@pytest.mark.parametrize("name", pages.OWN)
def test_every_method_of_what_an_agent_has_has_a_docstring(name: str) -> None:
    methods = pages.members(pages.OWN[name])

    assert methods
    assert all(pages.first_line(method) for _, method in methods)


def test_every_public_name_is_documented() -> None:
    page = (ROOT / "docs/reference/api.md").read_text(encoding="utf-8")
    for room in pages.ROOMS:
        for name in pages.public(room):
            assert f"`{name}" in page, name


def test_the_changelog_has_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    assert f"\n## [{project['version']}] - " in changelog


def test_the_decisions_are_numbered_without_gaps_and_say_why() -> None:
    records = sorted(path for path in (ROOT / "docs/decisions").glob("*.md") if path.name != "README.md")
    index = (ROOT / "docs/decisions/README.md").read_text(encoding="utf-8")

    assert [path.name[:5] for path in records] == [f"{number:04}-" for number in range(1, len(records) + 1)]
    for record in records:
        text = record.read_text(encoding="utf-8")
        assert text.startswith(f"# {record.name[:4]}: ")
        assert all(f"\n## {part}\n" in text for part in ("Context", "Decision", "Consequences")), record.name
        assert f"({record.name})" in index


def test_each_word_of_the_glossary_is_a_word_of_the_code() -> None:
    glossary = (ROOT / "docs/concepts/glossary.md").read_text(encoding="utf-8")
    words: list[str] = re.findall(r"^\| \*\*(.+?)\*\*", glossary, re.MULTILINE)
    code = "\n".join(path.read_text(encoding="utf-8").lower() for path in (ROOT / "src").rglob("*.py"))

    assert len(words) == len(set(words)) > 25
    assert [word for word in words if word not in code] == []


def strays(pattern: str, text: str) -> list[str]:
    """Return what a pattern finds in a text."""
    return [match[0] for match in re.finditer(pattern, text, re.IGNORECASE)]


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_a_document_uses_the_words_of_the_house_and_speaks_of_the_project_only(document: Path) -> None:
    boasts = r"\b(?<!context )manager|\b(helper|utils|telemetry|robust|seamless|blazing|powerful|simply|leverage)\b"
    machines = r"(?<![\w.])/(work|root|home|tmp)/"  # a path from the root, not one of ours with such a part

    if document.name != "CONTRIBUTING.md":  # which names the words, to forbid them
        assert strays(boasts, prose(document)) == []
    assert strays(machines, document.read_text(encoding="utf-8")) == []
