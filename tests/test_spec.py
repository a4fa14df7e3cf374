"""SPEC.md is true: its tables, its invariants, its example, its kinds of events and its queries."""

import hashlib
import re
import sqlite3
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.workbook.kit import filled, lived

from torpor.base import limits
from torpor.workbook import Workbook, fork, store
from torpor.workbook.lines import Lines

ROOT = Path(__file__).parents[1]
SPEC = (ROOT / "SPEC.md").read_text(encoding="utf-8")
ROOM = ROOT / "src" / "torpor" / "workbook"


def statements(sql: str) -> list[str]:
    """Return the statements of a script, without comments, each with its white space as it is."""
    found, begun = [], ""
    for line in sql.splitlines():
        if line.startswith("--"):
            continue
        begun = f"{begun}\n{line}".lstrip("\n")
        if sqlite3.complete_statement(begun):
            found.append(begun)
            begun = ""
    assert not begun.strip()
    return found


def fenced(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", SPEC, re.MULTILINE | re.DOTALL)


def table(heading: str) -> list[list[str]]:
    """Return the rows of the table whose first heading that is."""
    found = re.search(rf"^\| {heading} \|.*\n\|[-| ]+\n((?:\|.*\n)+)", SPEC, re.MULTILINE)
    assert found, heading
    rows = [re.split(r"(?<!\\) \| ", line[2:-2]) for line in found[1].splitlines()]
    return [[cell.strip().strip("|").strip() for cell in row] for row in rows]


def test_the_tables_are_those_that_the_code_makes() -> None:
    told = [statement for block in fenced("sql") for statement in statements(block)]
    made = statements((ROOM / "schema.sql").read_text(encoding="utf-8"))
    assert sorted(told) == sorted(made)


def test_every_column_has_its_meaning() -> None:
    db = sqlite3.connect(":memory:")
    db.executescript((ROOM / "schema.sql").read_text(encoding="utf-8"))
    for name in ("meta", "events", "files", "memory", "memory_past"):
        columns = {row[1] for row in db.execute(f"PRAGMA table_info({name})")}
        section = SPEC[SPEC.index(f"CREATE TABLE {name} (") :]
        told = re.search(r"^\| column \|.*\n\|[-| ]+\n((?:\|.*\n)+)", section, re.MULTILINE)
        assert told
        explained = {word for line in told[1].splitlines() for word in re.findall(r"`(\w+)`", line.split("|")[1])}
        assert columns - {"one"} == explained
    db.close()


def test_the_numbers_of_the_header_are_in_the_file(tmp_path: Path) -> None:
    header = filled(tmp_path / "a.workbook").read_bytes()[:100]
    cells = {row[0].strip("`"): row[1:] for row in table("field")}
    assert cells["`application_id".strip("`")] == ["68", f"`0x{store.APPLICATION_ID:08X}`, the letters `TRPR`"]
    assert struct.unpack(">I", header[68:72])[0] == store.APPLICATION_ID
    assert header[68:72] == b"TRPR"
    assert struct.unpack(">I", header[60:64])[0] == store.FORMAT == int(cells["user_version"][1][-2])
    assert struct.unpack(">I", header[56:60])[0] == 1, "UTF-8"
    assert struct.unpack(">H", header[16:18])[0] == store.PAGE_BYTES
    assert header[18:20] == b"\2\2", "write-ahead log"


def test_the_limits_are_those_of_the_code() -> None:
    for number, limit in (
        ("262,144", limits.EVENT_BODY_MAX),
        ("65,536", limits.CHUNK_MAX),
        ("255 bytes in a part", limits.SEGMENT_MAX),
        ("1,024 in all", limits.PATH_MAX),
        ("4,294,967,296", limits.VOLUME_QUOTA_DEFAULT),
        ("1 to 512 printable", limits.LABEL_MAX),
        ("up to 100 characters", limits.KIND_MAX),
    ):
        assert number in SPEC
        assert str(limit) in number.replace(",", "")
    assert limits.MEMORY_CONTENT_MAX == 2**20


# --- the hash chain ---


def chain(rows: list[tuple[Any, ...]]) -> list[str]:
    """Return the hashes of events, by the words of the page and nothing of our code."""
    found, before = [], bytes(32)
    for seq, id_, time, kind, version, span, parent, key, body in rows:
        fields = (seq, id_, time, kind, version, span, parent, key, body)
        text = "\n".join("" if field is None else str(field) for field in fields)
        before = hashlib.sha256(before + text.encode()).digest()
        found.append(before.hex())
    return found


def test_the_example_of_the_chain_is_right() -> None:
    rows = table("seq")
    events = [tuple(cell.strip("`") or None for cell in row[:-1]) for row in rows]
    assert len(events) == 2
    assert chain(events) == [row[-1].strip("`") for row in rows]
    (shown,) = fenced("text")
    fields = [field or "" for field in events[0]]
    assert shown.rstrip("\n").replace("␊\n", "\n") == "\n".join(fields)


def test_the_chain_of_a_workbook_is_as_the_page_says(tmp_path: Path) -> None:
    db = sqlite3.connect(filled(tmp_path / "a.workbook"))
    rows = db.execute(
        "SELECT seq, lower(hex(id)), time, kind, version, span, parent, key, body FROM events ORDER BY seq"
    ).fetchall()
    assert chain(rows) == [row[0] for row in db.execute("SELECT lower(hex(hash)) FROM events ORDER BY seq")]
    db.close()


# --- the line ---


def ranges(cell: str) -> list[tuple[int, int]]:
    return [(int(first), int(last)) for first, last in re.findall(r"`(\d+)-(\d+)`", cell)]


def test_the_example_of_the_line_is_right(tmp_path: Path) -> None:
    with Workbook.open(tmp_path / "a.workbook") as book:
        for _ in range(7):
            book.append("note.added", {})
        assert book.rewind(4) == 8
        for _ in range(2):
            book.append("note.added", {})
        assert book.rewind(7) == 11
        lines = book.past.lines()
        told = table("newest event")
        for newest, line, aside in told:
            tip = int(newest.strip("`"))
            assert (lines.line(tip), lines.set_aside(tip)) == (ranges(line), ranges(aside))
            assert Lines([rewind for rewind in lines.rewinds if rewind[0] <= tip]).line(tip) == ranges(line)
        assert [event.seq for event in book.events(set_aside=False)] == [
            seq for first, last in ranges(told[-1][1]) for seq in range(first, last + 1)
        ]


# --- kinds ---

KINDS = {row[0].strip("`"): row[1] for row in re.findall(r"^\| (`[a-z.]+\.[a-z]+`) \| ([^|]*) \|", SPEC, re.MULTILINE)}


def test_every_kind_that_the_code_appends_is_on_the_page_and_the_reverse() -> None:
    used = set()
    for path in (ROOT / "src" / "torpor").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        used |= set(re.findall(r'(?:\.append|\.tell)\(\s*"([a-z_]+\.[a-z_]+)"', text))
        used |= set(re.findall(r'^(?:CANCEL_ASKED|REWOUND: Final|BORN: Final) = "(.+)"', text, re.MULTILINE))
        for family in re.findall(r'\bkind = "(step|effect)"', text):
            used |= {f"{family}.{end}" for end in ("attempted", "completed", "failed")}
    runtime = {kind for kind in KINDS if kind.split(".")[0] in ("run", "step", "effect", "cancel")}
    workbook = set(KINDS) - runtime
    assert used - set(KINDS) == set()
    assert workbook <= used
    if (ROOT / "src" / "torpor" / "runtime").exists():
        assert runtime <= used


def test_the_bodies_of_the_workbooks_events_have_the_fields_on_the_page(tmp_path: Path) -> None:
    path = filled(tmp_path / "a.workbook")
    with Workbook.open(path) as book:
        book.move("workspace", "/a", "/b")
        book.delete("workspace", "/b", recursive=True)
        book.memory.forget(1)
        with book.writer("workspace", "/streamed") as writer:
            writer.write(b"x")
        book.rewind(1)
    fork(path, tmp_path / "b.workbook", agent="b")
    found: dict[str, set[str]] = {}
    with Workbook.open(tmp_path / "b.workbook") as book:
        for event in book.events():
            found.setdefault(event.kind, set()).update(event.body)
            assert event.version == 1
    for kind, fields in KINDS.items():
        if kind.split(".")[0] in ("file", "volume", "memory", "setting", "spend", "journal", "agent"):
            assert found[kind] == set(re.findall(r"`(\w+)`", fields)), kind


# --- invariants ---


def test_every_invariant_is_stated_once_checked_by_the_code_and_cited_by_a_test() -> None:
    listed = re.findall(r"^- \*\*(INV-\d+)\*\* (.*(?:\n  .*)*)", SPEC, re.MULTILINE)
    names = [name for name, _ in listed]
    assert names == [f"INV-{number}" for number in range(1, len(names) + 1)]
    assert all("MUST" in text for _, text in listed)
    checked = set(re.findall(r'"(INV-\d+)"', (ROOM / "verify.py").read_text(encoding="utf-8")))
    assert checked == set(names)
    cited = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        if path.name != "test_spec.py"
        for name in re.findall(r"INV-\d+", path.read_text(encoding="utf-8"))
    }
    assert cited == set(names)


def test_every_mention_of_an_invariant_is_of_one_that_there_is() -> None:
    names = set(re.findall(r"^- \*\*(INV-\d+)\*\*", SPEC, re.MULTILINE))
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "docs").rglob("*.md")]:
        assert set(re.findall(r"INV-\d+", path.read_text(encoding="utf-8"))) <= names, path


# --- queries ---


@pytest.mark.parametrize("query", [query for block in fenced("sqlite") for query in statements(block)])
def test_the_queries_run_in_any_shell(tmp_path: Path, query: str) -> None:
    path = lived(tmp_path / "ada.workbook")
    db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    rows = db.execute(query).fetchall()
    assert rows, query
    db.close()
    with Workbook.open(path) as book:
        assert book.verify().ok


def test_the_answers_of_the_queries_are_those_of_the_library(tmp_path: Path) -> None:
    path = lived(tmp_path / "ada.workbook")
    db = sqlite3.connect(path)
    content = b"".join(
        row[0] for row in db.execute(next(q for b in fenced("sqlite") for q in statements(b) if "chunks" in q))
    )
    runs = db.execute("SELECT run, message, state FROM runs").fetchall()
    balances = db.execute("SELECT account, unit, amount FROM balances").fetchall()
    db.close()
    with Workbook.open(path) as book:
        assert book.read("workspace", "/a/one.txt") == content
        assert runs == [("r-1", "brief", "completed")]
        assert {(account, unit): amount for account, unit, amount in balances} == book.spend.balances()
        assert msgspec.json.decode(book.settings.all()["interests"]) == "durable systems"


def test_the_contents_lead_somewhere() -> None:
    anchors = {
        re.sub(r"[^\w -]", "", line[3:]).lower().replace(" ", "-")
        for line in SPEC.splitlines()
        if line.startswith("## ")
    }
    assert {link[1:] for link in re.findall(r"\]\((#[^)]+)\)", SPEC)} == anchors
