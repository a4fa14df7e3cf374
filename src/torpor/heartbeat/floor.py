"""The floor: up to which number packs of the sequence may be gone. `replica.py` says what it is good for."""

from __future__ import annotations

import re
from typing import Final

from torpor.base import faults
from torpor.base.errors import ObjectCut, ObjectMissing, ReplicaDamaged
from torpor.stores.objects import Objects

FLOOR: Final = "floor"

_FORM: Final = re.compile(rb"[0-9a-f]{16}\n")
_BYTES: Final = 17


def read_floor(objects: Objects) -> int:
    """Return the number up to which packs may have been removed.

    Raises:
        ReplicaDamaged: it can't be read.
        StoreUnreachable: it can't be known now.

    """
    try:
        content = objects.read(FLOOR, 0, _BYTES)
    except ObjectMissing:
        return 0
    except ObjectCut:
        content = b""
    if not _FORM.fullmatch(content):
        raise ReplicaDamaged(place=objects.place(FLOOR), offset=0, reason="it is no number")
    return int(content, 16)


def raise_floor(objects: Objects, number: int) -> None:
    """Have the floor be at a number, or above it.

    Raises:
        ReplicaDamaged, StoreUnreachable, StorageFull: it may not be: nothing may be removed.

    """
    if read_floor(objects) < number:
        objects.put(FLOOR, iter((b"%016x\n" % number,)), _BYTES)
    faults.point("replica.floored")
