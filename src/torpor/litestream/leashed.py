"""Become a program that is killed when whoever started it dies: `python leashed.py PARENT PROGRAM WORDS…`.

The kernel is asked for that (PR_SET_PDEATHSIG), and it keeps it over exec. It has to be asked by the child, after the
fork: done by a function between fork and exec, that could find a lock which another thread of the parent held. So a
fresh interpreter asks, and then becomes the program. It imports nothing of Torpor.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, program: list[str]) -> None:
    """Ask for the signal, and become the program; where the parent is dead already, end."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        sys.exit(f"the kernel can't end this process with its parent: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the parent has ended")
    os.execv(program[0], program)  # noqa: S606  (the program that the parent chose, without a shell)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
