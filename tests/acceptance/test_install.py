"""What `pip install` gives: a wheel with all it needs, that works with the sources out of sight."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.acceptance.kit import ROOT, left_in, rss, stories


def called(*words: str | Path, cwd: Path) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TORPOR"))}
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.torture
@pytest.mark.timeout(900)
def test_a_wheel_in_a_clean_environment_has_all_files_and_briefs(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    called(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    pip = (python, "-m", "pip", "--disable-pip-version-check", "--quiet")
    called(*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path / "dist", source, cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = {
        path.relative_to(source / "src").as_posix()
        for path in (source / "src").rglob("*")
        if path.is_file() and "egg-info" not in str(path) and path.suffix != ".pyc"
    }
    assert wanted <= names, wanted - names
    assert {"torpor/py.typed", "torpor/skills/briefing/page.html", "torpor/workbook/schema.sql"} <= names
    shutil.rmtree(source)

    called(*pip, "install", wheel, cwd=tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    (home / "f.xml").write_bytes(rss(stories(3)))
    torpor = tmp_path / "venv" / "bin" / "torpor"
    said = called(torpor, "brief", "f.xml", "--workbook", "x.workbook", "--out", "out", cwd=home)
    assert "3 new, 0 already read" in said
    assert len(left_in(home / "out")) == 2
    assert called(torpor, "verify", "x.workbook", cwd=home).startswith("ok: ")
    assert called(torpor, "--version", cwd=home).startswith("torpor 0.")
    where = called(python, "-c", "import torpor; print(torpor.__file__)", cwd=home)
    assert where.startswith(str(tmp_path))
