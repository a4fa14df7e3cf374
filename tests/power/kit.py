"""What the tests of power cuts share: laying out what each cut leaves, and asking of each what is lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from tests.power.workload import fast_folder

from torpor.testing import Image, Seeded, Tape, images
from torpor.testing.power import Renamed, Synced


class Recorded(Protocol):
    """A recorded workload, which knows what may be found after a cut."""

    tape: Tape

    def litter(self, folder: Path, chance: Seeded) -> None:
        """Leave in the folder of an image what else a cut may leave there."""

    def fault(self, image: Image, folder: Path) -> str | None:
        """Open one image, which is laid out in a folder, and return what is wrong with it, if anything is."""


def losses(run: Recorded, cuts: Iterable[Image], tmp_path: Path) -> tuple[int, list[str]]:
    """Lay out each image, with what else a cut leaves beside it, and return their number and what went wrong."""
    chance = Seeded(7)
    count = 0
    found = []
    fast = fast_folder(tmp_path)
    folder = fast / "image"
    for image in cuts:
        count += 1
        folder.mkdir()
        image.lay_out(folder)
        run.litter(folder, chance)
        wrong = run.fault(image, folder)
        if wrong:
            found.append(f"cut {image.at}, {image.how}: {wrong}")
        shutil.rmtree(folder)
    fast.rmdir()
    return count, found


def is_lost(run: Recorded, cuts: Iterable[Image], tmp_path: Path, says: str = "") -> bool:
    """Report whether something is wrong with one of the images, in these words; it looks no further than that one."""
    return any(says in found for image in cuts for found in losses(run, [image], tmp_path)[1])


def check(run: Recorded, tmp_path: Path, budget: int, seed: int = 1) -> int:
    """Insist that nothing is wrong with any image of a recorded workload, and return how many were tried."""
    count, found = losses(run, images(run.tape, seed=seed, budget=budget), tmp_path)
    assert not found, f"{len(found)} of {count} images: {found[:5]}"
    return count


def main_file(run: Recorded) -> int:
    """Return the number, on the tape, of the file that got its name by being renamed: not a log."""
    return next(op.file for op in run.tape.ops if isinstance(op, Renamed))


def leave_out_syncs(run: Recorded, file: int) -> None:
    """Take the syncs of one file off the tape, as if they had never been asked for."""
    run.tape.ops = [op for op in run.tape.ops if not (isinstance(op, Synced) and op.file == file)]
