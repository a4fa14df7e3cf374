"""A disk without room, for scripts in processes of their own: a limit on the size of files, or a ballast to remove."""

from __future__ import annotations

import resource
import signal
from pathlib import Path


def limit_files(limit: int) -> None:
    """Let no file that this process writes grow beyond `limit` bytes; 0 for no limit."""
    if limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def make_room(limit: int, ballast: Path) -> None:
    """Lift the limit, or where there was none, remove the ballast from a small file system."""
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    else:
        ballast.unlink()
