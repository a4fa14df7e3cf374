"""Who is at the other end: what the kernel says of a Unix socket's peer, and what an address counts as."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.access.kit import lab

from torpor.access import Bearer, Nobody, UnixPeer, is_loopback, peer_name, unix_peer
from torpor.access.credentials import same_user
from torpor.base.errors import CredentialRefused

CONNECT = """
import os, socket, sys
uid = int(sys.argv[2])
if uid:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
print("in", flush=True)
sys.stdin.read()
"""
"""Become a user, connect, and stay until the input ends."""


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    # A path of a socket has 107 bytes at most, and another user must be able to get there.
    short = Path("/tmp") / f"torpor-{os.getpid()}-{abs(hash(tmp_path))}"  # noqa: S108  (ours alone: it is made anew)
    short.mkdir(mode=0o711)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(short / "s"))
    os.chmod(short / "s", 0o666)  # noqa: S103  (it is for everybody)
    listener.listen()
    try:
        yield listener
    finally:
        listener.close()
        (short / "s").unlink()
        short.rmdir()


def connected(listener: socket.socket, uid: int) -> tuple[subprocess.Popen[bytes], socket.socket]:
    command = [sys.executable, "-c", CONNECT, listener.getsockname(), str(uid)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    connection, _ = listener.accept()
    assert child.stdout
    assert child.stdout.readline() == b"in\n"
    return child, connection


def end(child: subprocess.Popen[bytes], connection: socket.socket) -> None:
    connection.close()
    child.communicate()
    assert child.returncode == 0


def test_the_kernel_says_who_has_connected(listener: socket.socket) -> None:
    child, connection = connected(listener, 0)
    peer = unix_peer(connection)
    assert peer == UnixPeer(child.pid, os.getuid(), os.getgid())
    assert same_user(peer)
    end(child, connection)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_is_told_from_the_nodes_own(listener: socket.socket, tmp_path: Path) -> None:
    child, connection = connected(listener, 54_321)
    peer = unix_peer(connection)
    assert peer == UnixPeer(child.pid, 54_321, 54_321)
    assert not same_user(peer)
    with lab(tmp_path) as there:
        decision = there.access.gate.decide(peer, "agents.list")
        assert isinstance(decision.error, CredentialRefused)
        assert there.owner("agents.list").allowed
    end(child, connection)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_nobody_is_the_same_user_as_a_process_of_the_unmapped_user() -> None:
    """Users of other namespaces all look like that one."""
    unmapped = int(Path("/proc/sys/kernel/overflowuid").read_text())
    source = f"""
import os
from torpor.access.credentials import UnixPeer, same_user
for uid in ({unmapped}, 54321):
    os.seteuid(0)
    os.seteuid(uid)
    print(same_user(UnixPeer(1, uid, uid)))
"""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src")}
    done = subprocess.run([sys.executable, "-c", source], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "False\nTrue\n"


def test_other_sockets_have_no_peer_that_the_kernel_tells() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert unix_peer(client) is None
    with socket.socket(socket.AF_UNIX) as unconnected:
        assert unix_peer(unconnected) is None
    with socket.socket(socket.AF_UNIX) as closed:
        pass
    assert unix_peer(closed) is None


def test_a_pair_of_sockets_is_of_who_made_it() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert unix_peer(one) == UnixPeer(os.getpid(), os.getuid(), os.getgid())


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", "unknown"),
        ("not an address" * 100, ("not an address" * 5)[:64]),
    ],
)
def test_an_address_counts_as_its_peer(host: str, name: str) -> None:
    assert peer_name(host) == name


@pytest.mark.parametrize(
    ("host", "is_so"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::1%lo", True),
        ("0.0.0.0", False),  # noqa: S104  (nothing is bound)
        ("128.0.0.1", False),
        ("::2", False),
        ("::ffff:128.0.0.1", False),
        ("localhost", False),
        ("127.0.0.1.evil.example", False),
        ("2130706433", False),
        ("0x7f.1", False),
        ("", False),
    ],
)
def test_only_this_machines_own_addresses_are_loopback(host: str, is_so: bool) -> None:  # noqa: FBT001
    assert is_loopback(host) == is_so


def test_a_token_does_not_get_into_a_log_by_its_credential() -> None:
    assert "secret" not in repr(Bearer("secret", "192.0.2.1"))
    assert repr(Nobody("192.0.2.1")) == "Nobody(peer='192.0.2.1', loopback=False)"
