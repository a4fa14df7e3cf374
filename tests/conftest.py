"""What holds for every test: nothing talks to other machines, one event loop runs what is awaited, Ctrl-C works."""

from __future__ import annotations

import gc
import importlib
import ipaddress
import signal
import sys

import pytest


def _stay_home(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse connections to other machines, wherever in the process they are tried.

    An audit hook (PEP 578) sees what a replaced `socket.socket` would miss, and can't be taken back by accident.
    """
    if event not in ("socket.connect", "socket.sendto"):
        return
    address = arguments[1]
    if not isinstance(address, tuple):
        return  # a Unix socket's path
    host = str(address[0]).partition("%")[0]
    if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
        raise ConnectionRefusedError(f"a test tried to reach {host}: tests stay on this machine")


sys.addaudithook(_stay_home)

# A shell that starts something in the background has it ignore SIGINT, and every child inherits that: those that a test
# interrupts would never end.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Have the garbage collector leave out what was collected here: thousands of tests, which stay.

    Else each full collection walks through all of them, and so does that of each forked child, in pages of its own.
    """
    importlib.import_module("hypothesis")  # it looks at who refers to what, and would not see who is left out
    gc.collect()
    gc.freeze()


@pytest.fixture
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio only; a module that tries others too says so itself."""
    return "asyncio"
