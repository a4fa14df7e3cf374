"""Power cuts over the pair, workbooks and log: together they have every acknowledged transaction, none by halves."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
from tests.power.kit import check, is_lost, losses
from tests.power.pair import AGENTS, HEARTBEAT, NAMES, Agents, Desk, Heart, HomeTape, Pair, taped, workbook
from tests.power.workload import SMALL, append, checkpoint_every, fast_folder, forget, several, stream
from tests.unit.workbook.kit import TickingClock

from torpor.heartbeat.reading import Reader
from torpor.heartbeat.restore import restore_agent
from torpor.stores.objects import open_objects
from torpor.testing import Image, Seeded, images
from torpor.testing.power import FolderSynced, Renamed, Synced
from torpor.workbook import Workbook, digest

Step = Callable[[Desk], object]


def on(name: str, act: Callable[[Workbook], object]) -> Step:
    return lambda desk: act(desk.book(name))


def beat(desk: Desk) -> None:
    desk.heart.rounds.beat()


def close(name: str) -> Step:
    return lambda desk: desk.leave(name)


def settle(name: str) -> Step:
    def step(desk: Desk) -> None:
        lane = desk.heart.roll.lane(desk.book(name).agent)
        assert lane is not None
        assert lane.settle()

    return step


def restart(desk: Desk) -> None:
    desk.end()
    desk.start()


def change_the_schema(book: Workbook) -> None:
    with book.transaction():
        book._store.execute("CREATE TABLE IF NOT EXISTS mine (a)")
        book._store.execute("CREATE INDEX IF NOT EXISTS mine_a ON mine (a)")
        book.append("note.added", {"schema": True})


def rewind(book: Workbook) -> None:
    book.rewind(max(1, book.last - 3))


def remember(number: int) -> Callable[[Workbook], object]:
    return lambda book: book.memory.remember(f"fact {number} of ponds", source=f"urn:{number}")


FEW: tuple[Step, ...] = (
    on("ada", append(1)), on("bea", append(2)), on("ada", several(1)), on("cyd", append(1)), beat,
    on("bea", lambda book: book.write("workspace", "/a.txt", b"a" * 9000)), on("ada", remember(1)),
    on("ada", append(3)), on("bea", change_the_schema), on("bea", append(4)), on("ada", rewind), on("cyd", remember(2)),
    on("cyd", forget), close("ada"), beat, on("ada", append(5)), on("bea", several(2)), settle("cyd"),
    on("cyd", append(6)), on("ada", append(1)),
)  # fmt: skip

LONG: tuple[Step, ...] = (
    *(on("ada", step) for step in SMALL[:7]), on("bea", append(1)), beat, on("bea", stream), on("cyd", append(1)),
    beat, on("bea", remember(1)), *(on("bea", step) for step in SMALL[7:-2]), close("cyd"), beat,
    on("ada", several(3)), restart, on("cyd", several(4)), on("ada", append(4)), on("ada", change_the_schema), beat,
    on("cyd", rewind), on("ada", append(2)), close("bea"), on("cyd", stream), beat, on("ada", append(3)),
)  # fmt: skip

QUICK: tuple[Step, ...] = (on("ada", append(1)), on("bea", append(1)), on("ada", append(2)), on("bea", several(1)))


def record(desk: Path, steps: Sequence[Step], replica: Path | None = None, pair: Pair | None = None) -> Pair:
    """Record a workload."""
    (desk / AGENTS).mkdir(exist_ok=True)
    (desk / HEARTBEAT).mkdir(exist_ok=True)
    pair = pair or Pair(desk, HomeTape.at(desk))
    with taped(pair.tape):
        hands = Desk(pair, replica)
        try:
            for step in steps:
                hands.step(step)
            pair.tape.begun(len(pair.after))
        finally:
            hands.end()
    return pair


def test_what_was_acknowledged_is_in_the_files_and_the_log_together(desk: Path, tmp_path: Path) -> None:
    pair = record(desk, FEW)
    assert check(pair, tmp_path, 200) > 130
    assert pair.lacking > 60, "most files lacked something"


def test_nor_is_anything_lost_across_checkpoints_segments_and_starts(desk: Path, tmp_path: Path) -> None:
    with checkpoint_every(8):
        pair = record(desk, LONG)
    segments = {path.name for path in (desk / HEARTBEAT).glob("*.segment")}
    assert min(segments) > "0000000000000001", "segments were let go"
    assert check(pair, tmp_path, 100) > 70
    assert pair.lacking


def chosen(pair: Pair, seed: int, count: int) -> list[Image]:
    """Return some images of a recorded workload, from its beginning to its end."""
    found = list(images(pair.tape, seed=seed, budget=400))
    return found[:: max(1, len(found) // count)]


def second(image: Image, first: Pair, folder: Path, learnt: Path) -> Pair:
    """Recover what a cut has left, and go on, on a tape that begins there."""
    for place in (folder, learnt):
        place.mkdir()
        image.lay_out(place)
        first.litter(place, Seeded(1))
    agents = Agents(learnt, first.ids)
    Heart(learnt, agents).close()
    found = first.look(learnt)
    tape = HomeTape.of(image)
    tape.root = str(folder)
    tape.marks = (0, 0)
    pair = Pair(folder, tape, {agent: name for agent, name in first.ids.items() if name in found}, again=False)
    pair.states = {name: {txn: content} for name, (txn, content) in found.items()}
    pair.after = [{name: txn for name, (txn, _) in found.items()}]
    return record(folder, QUICK, pair=pair)


def check_second(first: Pair, cuts: Iterable[Image], tmp_path: Path, budget: int) -> int:
    """Cut the power again, in the recovery and after it, and return how many disks were tried."""
    tried = 0
    fast = fast_folder(tmp_path)
    for image in cuts:
        pair = second(image, first, fast / "second", fast / "learnt")
        shutil.rmtree(fast / "second")
        shutil.rmtree(fast / "learnt")
        tried += check(pair, tmp_path, budget)
    fast.rmdir()
    return tried


def test_a_cut_in_the_middle_of_the_recovery_changes_nothing(desk: Path, tmp_path: Path) -> None:
    first = record(desk, FEW)
    assert check_second(first, chosen(first, 3, 5), tmp_path, 25) > 70


def test_the_index_never_knows_what_a_cut_may_take_from_the_log(desk: Path) -> None:
    (desk / AGENTS).mkdir()
    hands = Desk(Pair(desk, HomeTape.at(desk)))
    agent = hands.book("ada").agent
    assert hands.heart.log.durable < hands.heart.log.last, "a life has begun, and nobody waits for it"
    hands.heart.roll.flush()
    known = hands.heart.index.get(agent)
    assert known is not None
    assert 0 < known.last <= hands.heart.log.durable
    hands.end()


# --- the replica


SHIPPING: tuple[Step, ...] = (
    on("ada", append(1)), beat, Desk.ship, on("ada", append(2)), on("bea", several(1)), beat, on("bea", append(3)),
    Desk.ship, on("ada", rewind), on("ada", change_the_schema), on("ada", append(4)), beat, close("bea"), Desk.ship,
    on("bea", append(5)), on("ada", append(6)), beat, on("bea", remember(1)), close("ada"), beat, Desk.ship, restart,
    on("ada", append(7)), beat, on("bea", append(8)), on("bea", several(9)),
)  # fmt: skip


def diverged(pair: Pair, image: Image, folder: Path, store: Path) -> str | None:
    """Recover an image, go on with each workbook, ship, and say where the replica gives something else."""
    place = folder / "replica"
    for name in pair.objects(image):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes((store / name).read_bytes())
    hands = Desk(Pair(folder, HomeTape.at(folder), dict(pair.ids)), place)
    assert not hands.heart.recovered.quarantined
    for number, name in enumerate(NAMES):
        if workbook(folder, name).exists():
            append(number + 1)(hands.book(name))
    for _ in range(2):
        hands.heart.rounds.beat()
    hands.ship()
    reader = Reader(open_objects(place.as_uri(), str(folder)))
    for name, book in hands.books.items():
        found = restore_agent(reader, book.agent, str(folder / f"{name}.restored"), clock=TickingClock())
        living, given = digest(workbook(folder, name)), digest(folder / f"{name}.restored")
        if (living[0].txn, living[1]) != (given[0].txn, given[1]):
            return f"{name} lives at {living[0].txn}, the replica has {given[0].txn}: {found.reason}"
    hands.end()
    return None


def check_replica(pair: Pair, cuts: Iterable[Image], store: Path, tmp_path: Path) -> int:
    """Insist that workbooks and replica agree after a cut, and return how many disks were tried."""
    fast, tried, wrong = fast_folder(tmp_path), 0, []
    for image in cuts:
        folder = fast / "image"
        folder.mkdir()
        image.lay_out(folder)
        pair.litter(folder, Seeded(1))
        found = diverged(pair, image, folder, store)
        if found:
            wrong.append(f"cut {image.at}, {image.how}: {found}")
        shutil.rmtree(folder)
        tried += 1
    fast.rmdir()
    assert not wrong, f"{len(wrong)} of {tried}: {wrong[:5]}"
    return tried


def test_workbooks_and_replica_agree_again_after_a_cut(desk: Path, tmp_path: Path) -> None:
    store = tmp_path / "replica"
    pair = record(desk, SHIPPING, store)
    assert check_replica(pair, chosen(pair, 5, 70), store, tmp_path) > 50


# --- the proof that these tests can find a loss at all


def test_without_the_syncs_of_the_log_transactions_are_lost(desk: Path, tmp_path: Path) -> None:
    pair = record(desk, FEW[:8])
    segments = {op.file for op in pair.tape.ops if isinstance(op, Renamed) and op.target.endswith(".segment")}
    begun = next(at for at, op in enumerate(pair.tape.ops) if isinstance(op, FolderSynced))
    pair.tape.ops = [
        op for at, op in enumerate(pair.tape.ops) if not (isinstance(op, Synced) and op.file in segments and at > begun)
    ]
    count, found = losses(pair, images(pair.tape, seed=1, budget=80), tmp_path)
    assert len(found) > count // 4, found


def test_without_the_syncs_of_the_files_a_cut_in_the_recovery_would_be_the_end(desk: Path, tmp_path: Path) -> None:
    """What is settled, or closed, is let go from the log: so it had better be on the disk."""
    with checkpoint_every(8):
        pair = record(desk, LONG)
    books = {pair.tape.names[f"{AGENTS}/{name}.workbook"] for name in NAMES}
    pair.tape.ops = [op for op in pair.tape.ops if not (isinstance(op, Synced) and op.file in books)]
    assert is_lost(pair, images(pair.tape, seed=1, budget=60), tmp_path)


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("steps", [FEW, LONG])
def test_nothing_is_lost_in_many_more_images(desk: Path, tmp_path: Path, steps: tuple[Step, ...], seed: int) -> None:
    with checkpoint_every(8 if seed else 1000):
        pair = record(desk, steps)
    check(pair, tmp_path, 4000, seed)
    check_second(pair, chosen(pair, seed, 60), tmp_path, 60)


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(3))
def test_workbooks_and_replica_agree_again_in_many_more_images(desk: Path, tmp_path: Path, seed: int) -> None:
    store = tmp_path / "replica"
    pair = record(desk, SHIPPING, store)
    check_replica(pair, images(pair.tape, seed=seed, budget=2000), store, tmp_path)
