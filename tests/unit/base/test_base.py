"""The words that every room shares: ids, clock, entropy, errors, limits, faults."""

import pickle
import re
import threading
import uuid

import pytest

from torpor.base import errors, faults, limits
from torpor.base.clock import MICROSECONDS, SystemClock
from torpor.base.entropy import SystemEntropy
from torpor.base.ids import IdSource, format_id


class Still:
    """A clock that is set by hand."""

    def __init__(self, now: int) -> None:
        self.now = now

    def now_us(self) -> int:
        return self.now


class Ones:
    """The largest chance there is."""

    def token(self, size: int) -> bytes:
        return b"\xff" * size


class Zeros:
    """The smallest chance there is."""

    def token(self, size: int) -> bytes:
        return bytes(size)


# --- ids ---


def test_the_example_of_the_rfc_has_its_time_in_the_first_48_bits() -> None:
    made = uuid.UUID(bytes=IdSource(Still(0), Ones()).next(0x017F22E279B0 * 1000 + 999))
    assert str(made).startswith("017f22e2-79b0-7")
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert int(str(made)[15:18], 16) == 999 * 4096 // 1000, "the fraction of the millisecond (method 3)"


@pytest.mark.parametrize("entropy", [SystemEntropy(), Ones(), Zeros()])
@pytest.mark.parametrize("steps", [[0] * 3000, [1] * 3000, [-1] * 50, [1000, -5000, 1, 0, 7_000_000, -7_000_000] * 50])
def test_ids_are_valid_and_rise_whatever_the_clock_does(
    entropy: SystemEntropy | Ones | Zeros, steps: list[int]
) -> None:
    clock = Still(1_700_000_000_000_000)
    ids = IdSource(clock, entropy)
    before = b""
    for step in steps:
        clock.now += step
        made = ids.next(clock.now)
        assert made > before
        before = made
        text = uuid.UUID(bytes=made)
        assert (text.version, text.variant) == (7, uuid.RFC_4122)


@pytest.mark.parametrize("now", [0, -1, -(10**18)])
def test_a_clock_before_1970_still_gives_valid_ids(now: int) -> None:
    ids = IdSource(Still(now), SystemEntropy())
    first, second = uuid.UUID(ids.text()), uuid.UUID(ids.text())
    assert first < second
    assert first.version == second.version == 7
    assert first.int >> 80 == 0


def test_ids_of_different_sources_differ_at_the_same_time() -> None:
    sources = [IdSource(Still(5), SystemEntropy()) for _ in range(100)]
    assert len({source.next(5) for source in sources}) == 100


def test_the_text_of_an_id_is_the_usual_one() -> None:
    raw = bytes(range(16))
    assert format_id(raw) == str(uuid.UUID(bytes=raw))


# --- clock and entropy ---


def test_the_systems_clock_tells_microseconds() -> None:
    first, second = SystemClock().now_us(), SystemClock().now_us()
    assert second >= first > 1_700_000_000 * MICROSECONDS
    assert MICROSECONDS == 1_000_000


def test_the_systems_entropy_gives_as_many_bytes_as_asked_for() -> None:
    assert [len(SystemEntropy().token(size)) for size in (0, 1, 16)] == [0, 1, 16]
    assert SystemEntropy().token(16) != SystemEntropy().token(16)


# --- errors ---

TREE = re.findall(r"^    ([ │├└─]*)([A-Z]\w+)(?: +(.+))?$", errors.__doc__ or "", re.MULTILINE)
CLASSES = [
    value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.TorporError)
]
CONCRETE = [kind for kind in CLASSES if "code" in vars(kind) and kind is not errors.TorporError]
SAMPLES = {
    "int": 7, "float": 7.5, "str": "some text", "float | None": None, "tuple[str, ...]": ("some", "text"),
}  # fmt: skip


def sample(kind: type[errors.TorporError]) -> errors.TorporError:
    """Return an error of that class with something in every field."""
    types = dict(pair for base in kind.__mro__ for pair in vars(base).get("__annotations__", {}).items())
    return kind(**{name: SAMPLES[types[name]] for name in kind.names})


def test_the_drawing_is_the_tree() -> None:
    drawn: dict[str, str | None] = {}
    line: list[str] = []
    for marks, name, _ in TREE:
        depth = len(marks) // 4
        line = [*line[:depth], name]
        drawn[name] = line[-2] if depth else None
    real = {kind.__name__: kind.__bases__[0].__name__ for kind in CLASSES}
    assert drawn == {**real, "TorporError": None}


def test_every_branch_is_drawn_with_a_word_about_it() -> None:
    assert all(word for _, name, word in TREE if name != "TorporError")


def test_every_error_that_is_raised_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in CONCRETE]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"TOR-\d{3}", code) for code in codes)
    parents = {kind.__bases__[0] for kind in CLASSES}
    assert {kind for kind in CLASSES if kind not in parents} <= set(CONCRETE), "a leaf without a code"


@pytest.mark.parametrize("kind", CONCRETE, ids=lambda kind: kind.code)
def test_every_error_says_what_happened_and_what_to_do_from_its_own_fields(
    kind: type[errors.TorporError],
) -> None:
    error = sample(kind)
    used = set(re.findall(r"\{(\w+)", kind.says + kind.hint))
    assert used <= set(kind.names)
    assert "{" not in error.message + error.next_step
    assert str(error) == f"{error.message} {error.next_step} [{kind.code}]"
    assert error.message.rstrip()[-1] in ".:" or kind.says.endswith("}")
    assert kind.__doc__


@pytest.mark.parametrize("kind", CONCRETE, ids=lambda kind: kind.code)
def test_every_error_travels_between_processes(kind: type[errors.TorporError]) -> None:
    error = sample(kind)
    back = pickle.loads(pickle.dumps(error))  # noqa: S301  (our own bytes)
    assert type(back) is kind
    assert str(back) == str(error)
    assert {error: 1}[error] == 1, "errors are hashed by what they are, not by what they say"
    with pytest.raises(TypeError):
        kind("an error is made of named fields")


def test_a_bug_is_told_from_bad_weather() -> None:
    assert not issubclass(errors.InternalError, errors.UsageError | errors.WorkbookError)
    assert not issubclass(errors.UsageError, errors.WorkbookError)


# --- limits and faults ---


def test_every_limit_has_its_unit_beside_it() -> None:
    from pathlib import Path

    text = Path(limits.__file__).read_text(encoding="utf-8")
    names = [name for name in vars(limits) if name.isupper() and name not in ("KIB", "MIB", "GIB")]
    for name in names:
        assert re.search(rf"^{name} = .+\n\"\"\"(.|\n)+?\"\"\"$", text, re.MULTILINE), name
        assert getattr(limits, name) > 0


def test_fault_points_reach_their_listener_and_nobody_else() -> None:
    heard: list[str] = []
    faults.point("append.begun")
    faults.listen(heard.append)
    try:
        faults.point("append.begun")
        thread = threading.Thread(target=faults.point, args=("append.inserted",))
        thread.start()
        thread.join()
    finally:
        faults.listen(None)
    faults.point("append.begun")
    assert heard == ["append.begun", "append.inserted"]
    assert len(set(faults.POINTS)) == len(faults.POINTS)


def test_every_fault_point_is_announced_somewhere_and_the_reverse() -> None:
    from pathlib import Path

    source = Path(faults.__file__).parents[1]
    said = {
        name
        for path in source.rglob("*.py")
        if path.name != "faults.py"
        for name in re.findall(r"faults\.point\(\s*\"([a-z.]+)\"", path.read_text(encoding="utf-8"))
    }
    assert said <= set(faults.POINTS)


def test_an_error_with_missing_or_unknown_fields_is_refused() -> None:
    with pytest.raises(TypeError, match="takes volume"):
        errors.VolumeUnknown()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="not volume, path"):
        errors.VolumeUnknown(volume="x", path="/y")  # type: ignore[call-arg]
