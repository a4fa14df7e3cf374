"""Fixtures of the acceptance tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.acceptance.kit import Command, Ended, Zygote


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """Run a `torpor` command line in a real process, quickly."""
    zygote = Zygote(tmp_path_factory.mktemp("zygote"))
    yield zygote
    zygote.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return where the home of a `cli` is; nothing has made it yet."""
    return tmp_path / "home"


@pytest.fixture
def cli(run: Zygote, tmp_path: Path, home: Path) -> Command:
    """Run a `torpor` command line in the test's folder, with a home of its own."""

    def ended(*words: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Ended:
        return run(*words, cwd=tmp_path, env={"TORPOR_HOME": str(home), **(env or {})}, stdin=stdin)

    return ended


@pytest.fixture
def ada(cli: Command) -> str:
    """Make an agent of that name that has a file."""
    assert cli("new", "ada").code == 0
    assert cli("files", "put", "ada", "/a.txt", "-", stdin=b"hello").code == 0
    return "ada"
