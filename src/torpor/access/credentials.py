"""Who somebody says to be, and how it is known: a token, a peer on a Unix socket, or nothing at all."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from pathlib import Path
from typing import Final

import msgspec

_UCRED: Final = struct.Struct("iII")
"""`struct ucred` of socket(7): pid, uid, gid."""
_UNMAPPED_DEFAULT: Final = 65_534
_PEER_CHARACTERS_MAX: Final = 64


class Bearer(msgspec.Struct, frozen=True):
    """A token, as it came, and from where (`peer_name`)."""

    token: str
    peer: str

    def __repr__(self) -> str:
        return f"Bearer(token=…, peer={self.peer!r})"  # a token has no business in a log


class UnixPeer(msgspec.Struct, frozen=True):
    """A process of this machine at the other end of a Unix socket, as the kernel tells it (`unix_peer`)."""

    pid: int
    uid: int
    gid: int


class Nobody(msgspec.Struct, frozen=True):
    """Somebody without a credential, and from where."""

    peer: str
    loopback: bool = False


Credential = Bearer | UnixPeer | Nobody


def unix_peer(connection: socket.socket) -> UnixPeer | None:
    """Return who connected a Unix socket; None where it is no such socket, or the kernel doesn't say.

    Whose process it was is settled when it connects, so passing the socket on later changes nothing.
    """
    if connection.family != socket.AF_UNIX:
        return None
    try:
        found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid, uid, gid = _UCRED.unpack(found)
    except (OSError, struct.error):
        return None
    return UnixPeer(pid, uid, gid) if pid > 0 else None


def same_user(peer: UnixPeer) -> bool:
    """Report whether a peer is of the user whom this process runs as.

    Users of another namespace that have no number here all look like one, the unmapped user. If this process runs as
    that one, nobody can be told apart, so nobody counts as the same.
    """
    return peer.uid == os.geteuid() and peer.uid != _unmapped_user()


def _unmapped_user() -> int:
    try:
        return int(Path("/proc/sys/kernel/overflowuid").read_bytes())
    except (OSError, ValueError):
        return _UNMAPPED_DEFAULT


def peer_name(host: str) -> str:
    """Return what attempts from an address are counted under.

    One who has an IPv6 address usually has all 2^64 beside it, so they count as one.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host[:_PEER_CHARACTERS_MAX] or "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.ip_network((address, 64), strict=False))
        address = address.ipv4_mapped
    return str(address)


def is_loopback(host: str) -> bool:
    """Report whether an address is this machine's own, which no other machine can have."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback
