"""Single ownership: at most one process, and in it one `Workbook`, writes a workbook.

The claim (`torpor.base.claims`) is a lock on a small file beside the workbook, `NAME.workbook-owner`, whose text says
who holds it, and which is removed when the claim ends: at rest an agent is one file. The lock is never on the workbook
itself: nothing but SQLite may open that.
"""

from __future__ import annotations

from torpor.base import claims
from torpor.base.claims import Claim, Holder, moment
from torpor.base.errors import WorkbookOwned
from torpor.workbook.weather import from_system

__all__ = ["Owner", "claim", "holder", "moment", "owner_path"]


class Owner:
    """A claim on a workbook; `release` ends it."""

    def __init__(self, path: str, held: Claim) -> None:
        self._path = path
        self._held = held

    def release(self) -> None:
        """End the claim and remove its file; nothing where the claim is another's, as in a forked child.

        Raises:
            WorkbookReadOnly, StorageFailed: the file can't be removed; the claim has ended all the same.

        """
        try:
            self._held.release()
        except OSError as error:
            raise from_system(self._path, error) from error


def owner_path(path: str) -> str:
    """Return the name of the file that tells who owns the workbook at `path`."""
    return f"{path}-owner"


def claim(path: str, since: str, *, passing: bool = False, moving: bool = False) -> Owner:
    """Claim the workbook at `path` (absolute, links resolved) for this process.

    Args:
        path: the workbook, which need not exist yet.
        since: the present time, in words for whoever is refused.
        passing: it is given up in a moment; others wait for that instead of being refused.
        moving: the file is not to be opened, but copied, moved or removed.

    Raises:
        WorkbookOwned: somebody holds it.
        WorkbookMissing, WorkbookReadOnly, StorageFull, StorageFailed: the claim's file can't be made.

    """
    try:
        found = claims.claim(owner_path(path), since, passing=passing, moving=moving)
    except OSError as error:
        raise from_system(path, error) from error
    if isinstance(found, Holder):
        raise WorkbookOwned(path=path, pid=found.pid, command=found.command, since=found.since)
    return Owner(path, found)


def holder(path: str) -> Holder | None:
    """Return who holds the claim on the workbook at `path`, or None.

    Raises:
        WorkbookMissing, WorkbookReadOnly, StorageFull, StorageFailed: that can't be known.

    """
    try:
        found = claims.claim(owner_path(path), "a moment ago", passing=True)
        if isinstance(found, Holder):
            return found
        found.release()
    except OSError as error:
        raise from_system(path, error) from error
    return None
