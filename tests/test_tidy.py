"""The source obeys the rules we would otherwise repeat in review.

What breaks one for a good reason is listed in tests/tidy_debt.txt, as `complaint  # reason`; the list may only shrink.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
DEBT = Path(__file__).with_name("tidy_debt.txt")

FUNCTION_LINES_MAX = 60
MODULE_LINES_MAX = 500
CLASS_METHODS_MAX = 20
WORDS_BANNED = ("manager", "helper", "util", "_v2", "_v3")  # Say what it does instead.
TRACES = (
    r"\bsession s?\d+",
    r"\bissues? #?\d+",
    r"(?i)\b(?:fix(?:es)?|closes?|see|PR|GH) ?[#-]\d+",
    r"(?<![\w.])/(?:home|root|Users|work)/\w",
    r"\b[Cc]laude\b",
    r"\bas an AI\b",
)
"""What a text of the project never speaks of: how it came to be, and where that was."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def body_lines(node: Function) -> int:
    """Count the lines of a function, its docstring left out."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node) is not None:
        lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
    return lines


def imported(node: ast.AST) -> list[str]:
    """Return the dotted names that one import statement binds."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def reaches_into(importer: str, name: str) -> bool:
    """Report whether `name` passes through a private module outside `importer`."""
    owner: list[str] = []
    for part in name.split("."):
        if part.startswith("_") and not part.startswith("__"):
            return not f"{importer}.".startswith(".".join(owner) + ".")
        owner.append(part)
    return False


def about_module(path: Path, text: str, tree: ast.Module) -> Iterator[str]:
    """Yield what is wrong with the file as a whole."""
    yield from (f"{word!r} in its name" for word in WORDS_BANNED if word in path.stem)
    if text.count("\n") > MODULE_LINES_MAX:
        yield "too long"
    if ast.get_docstring(tree) is None:
        yield "no docstring"


def about_definition(node: ast.AST) -> Iterator[str]:
    """Yield what is wrong with one function or class."""
    if isinstance(node, Function):
        if body_lines(node) > FUNCTION_LINES_MAX:
            yield f"{node.name}() too long"
        yield from (f"{word!r} in {node.name}()" for word in WORDS_BANNED if word in node.name.lower())
    if isinstance(node, ast.ClassDef):
        methods = sum(isinstance(child, Function) for child in node.body)
        if methods > CLASS_METHODS_MAX:
            yield f"{node.name} has too many methods"
        yield from (f"{word!r} in {node.name}" for word in WORDS_BANNED if word in node.name.lower())


def complaints(path: Path) -> Iterator[str]:
    """Yield one stable line per broken rule."""
    here = path.relative_to(SRC).as_posix()
    module = here.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    root = module.split(".")[0] + "."
    yield from (f"{here}: {wrong}" for wrong in about_module(path, text, tree))
    for node in ast.walk(tree):
        yield from (f"{here}: {wrong}" for wrong in about_definition(node))
        for name in imported(node):
            if name.startswith(root) and reaches_into(module, name):
                yield f"{here}: imports private {name}"


def owed() -> set[str]:
    lines = DEBT.read_text(encoding="utf-8").splitlines() if DEBT.exists() else []
    for line in lines:
        assert "  # " in line, f"no reason given: {line}"
    return {line.partition("  # ")[0] for line in lines}


def texts() -> Iterator[Path]:
    """Yield every text of the project."""
    for folder in ("src", "tests", "docs", "bench"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".md", ".sql", ".txt", ".toml", ".html") and "__pycache__" not in path.parts:
                yield path
    yield from ROOT.glob("*.md")
    yield ROOT / "pyproject.toml"


def test_source_is_tidy() -> None:
    """Every rule holds, except where the debt file says it does not yet."""
    found = {line for path in SRC.rglob("*.py") for line in complaints(path)}
    assert found - owed() == set(), "new untidiness"
    assert owed() - found == set(), "debt repaid: delete these lines from tidy_debt.txt"


def test_the_rules_find_what_they_forbid() -> None:
    tree = ast.parse("class TaskManager:\n def do_v2(self): pass\n")
    assert [wrong for node in ast.walk(tree) for wrong in about_definition(node)] == [
        "'manager' in TaskManager", "'_v2' in do_v2()"
    ]  # fmt: skip
    assert reaches_into("torpor.a.b", "torpor.c._d.e")
    assert not reaches_into("torpor.a.b", "torpor.a._d.e")


@pytest.mark.parametrize("trace", TRACES)
def test_the_project_speaks_of_itself_and_not_of_how_it_was_made(trace: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()[:100]}"
        for path in texts()
        if path.name != "test_tidy.py" and "fixtures" not in path.parts and "data" not in path.parts
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
        if re.search(trace, line)
    ]
    assert found == []
