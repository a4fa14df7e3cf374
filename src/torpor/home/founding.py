"""Where a home that is brought back is built: beside its place, until it is whole.

`PATH-draft` holds the home in the making, with a file in it that tells it from a folder of somebody else's. The claim
`PATH-draft-owner` keeps other processes off. One rename makes the draft the home; whoever is killed before leaves only
what the next try removes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from torpor.base import claims
from torpor.base.clock import Clock
from torpor.base.errors import HomeRefused
from torpor.base.faults import point
from torpor.home.site import DRAFT
from torpor.stores.copies import sync_folder

MARK: Final = "restoring"
"""The file that tells a home that is being brought back from a folder of somebody else's."""


def vacant(path: str) -> str:
    """Return where the home is to be, absolute, after making sure that nothing is there.

    Raises:
        HomeRefused: something is.

    """
    try:
        target = os.path.realpath(path)
        if os.path.lexists(target) and os.listdir(target):
            raise HomeRefused(
                path=path, reason="something is there; a lost home is brought back to a new or empty folder"
            )
        os.makedirs(os.path.dirname(target), exist_ok=True)
    except OSError as error:
        raise HomeRefused(path=path, reason=error.strerror or str(error)) from error
    except ValueError as error:
        raise HomeRefused(path=path, reason=str(error)) from error
    return target


@contextmanager
def building(target: str, clock: Clock) -> Iterator[str]:
    """Give a folder for the home, and put it in its place when the block is done; where that fails, nothing is left.

    Raises:
        HomeRefused: another process is at it, or something is in the way.

    """
    draft = f"{target}{DRAFT}"
    with ExitStack() as steps:
        _claim(steps, target, f"{draft}-owner", clock)
        try:
            _clear(target, draft)
            os.mkdir(draft, mode=0o700)
            Path(draft, MARK).touch()
            point("rebuild.begun")
            try:
                yield draft
                os.rename(draft, target)
                point("rebuild.placed")
            except BaseException:
                shutil.rmtree(draft, ignore_errors=True)
                raise
            os.unlink(os.path.join(target, MARK))
            sync_folder(os.path.dirname(target))
        except OSError as error:
            raise HomeRefused(path=target, reason=error.strerror or str(error)) from error


def _claim(steps: ExitStack, target: str, owner: str, clock: Clock) -> None:
    """Be the only process that brings this home back.

    Raises:
        HomeRefused: another one is at it.

    """
    try:
        claim = claims.claim(owner, claims.moment(clock))
    except OSError as error:
        raise HomeRefused(path=target, reason=error.strerror or str(error)) from error
    if isinstance(claim, claims.Holder):
        raise HomeRefused(path=target, reason=f"process {claim.pid} brings it back since {claim.since}")
    steps.callback(_release, claim)


def _release(claim: claims.Claim) -> None:
    with suppress(OSError):  # the lock has ended all the same
        claim.release()


def _clear(target: str, draft: str) -> None:
    """Remove what a killed try has left.

    Raises:
        HomeRefused: it is something else.

    """
    if not os.path.lexists(draft):
        return
    if os.listdir(draft) and not os.path.lexists(os.path.join(draft, MARK)):
        raise HomeRefused(path=target, reason=f"{draft} is in the way, and is none that a restore has left")
    shutil.rmtree(draft)
