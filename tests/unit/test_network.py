"""The tests themselves: none of them can reach another machine."""

from __future__ import annotations

import socket

import pytest


def test_no_test_reaches_another_machine() -> None:
    with socket.socket() as other, pytest.raises(ConnectionRefusedError, match="stay on this machine"):
        other.connect(("192.0.2.1", 80))
