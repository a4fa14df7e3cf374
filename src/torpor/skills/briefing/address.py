"""Which addresses an agent may call by itself: public ones only.

Theory. A model that chooses addresses can be talked into choosing ones inside our network: the
cloud's metadata service, a router, a database (server-side request forgery, CWE-918). A name proves
nothing: it may resolve to 127.0.0.1, and to something else a moment later (DNS rebinding). So a
host is resolved *once*, *every* address it resolved to is judged, and the connection is made to an
address that was judged, not to the name. Each redirect is a new address and is judged anew. What
`getaddrinfo` returned is what counts, so an odd spelling (decimal, octal, hex, short) can't hide an
address; such spellings are refused all the same, since no feed has one.

The judgement follows the special-purpose registries of IANA (RFC 6890) as Python's `ipaddress` has
them, and adds what they leave open: addresses of IPv6 that carry one of IPv4, and services of
clouds that live on public addresses.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import urllib.parse
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio

from torpor.base.errors import SourceRefused, SourceUnreachable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Awaitable[list[str]]]
"""Host and port to the numeric addresses of the host; raises OSError."""

_SCHEMES = {"http": 80, "https": 443}
_PORTS = frozenset({80, 443, 8080, 8443})
"""Ports of the public web; on others an agent's GET could reach mail servers or databases."""

_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
"""The only part of IPv6 that is given out for the public net (RFC 4291 §2.4)."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""What IPv4 hosts are called behind NAT64 (RFC 6052); the address inside is judged."""

_NEVER = tuple(
    ipaddress.ip_network(network)
    for network in (
        "100.64.0.0/10",  # shared address space (RFC 6598); Alibaba's metadata service
        "168.63.129.16/32",  # Azure's wire server, on a public address
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata service
        "192.88.99.0/24",  # 6to4 relays (RFC 7526)
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "3fff::/20",  # documentation (RFC 9637)
    )
)
_NUMBER = re.compile(r"(?:0[xX][0-9a-fA-F]*|[0-9]+)")


async def system_resolver(host: str, port: int) -> list[str]:
    """Return the addresses that the operating system knows for a host.

    Args:
        host: a name or a numeric address.
        port: the port that will be called.

    Raises:
        OSError: the name doesn't resolve.

    """
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in found]


def is_public(address: Address) -> bool:
    """Tell whether an address belongs to the public internet.

    Args:
        address: a numeric address.

    """
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in _GLOBAL_V6:
            return False
    if address.is_multicast or address.is_reserved or address.is_unspecified or not address.is_global:
        return False
    return not any(address.version == network.version and address in network for network in _NEVER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What may be called. The defaults are for the open internet; tests bring their own."""

    permits: Callable[[Address], bool] = is_public
    ports: frozenset[int] | None = _PORTS
    """None where any port will do."""
    resolve: Resolver = system_resolver


PUBLIC = Policy()
"""The policy for addresses that an agent, a model or a feed chose."""


async def checked_addresses(url: str, policy: Policy = PUBLIC) -> list[str]:
    """Resolve the host of a URL and judge every address it has.

    Whoever connects must connect to one of the returned addresses, and not resolve the name again.

    Args:
        url: the address to call.
        policy: what may be called.

    Returns:
        Numeric addresses, at least one, in the resolver's order.

    Raises:
        SourceRefused: the URL, or one of the host's addresses, is not to be called.
        SourceUnreachable: the host's name doesn't resolve.

    """
    host, port = checked_url(url, policy)
    try:
        found = list(dict.fromkeys(await policy.resolve(host, port)))
    except (OSError, UnicodeError) as error:
        raise SourceUnreachable(source=url, reason=f"the name {host} doesn't resolve ({error})") from None
    if not found:
        raise SourceUnreachable(source=url, reason=f"the name {host} has no address")
    for text in found:
        if not _permitted(text, policy):
            shown = text if text == host else f"{host} is {text}"
            raise SourceRefused(source=url, reason=f"{shown}, which is not a public address")
    return found


def checked_url(url: str, policy: Policy = PUBLIC) -> tuple[str, int]:
    """Judge what a URL's spelling alone can tell, and return its host and port.

    Args:
        url: the address to call.
        policy: what may be called.

    Raises:
        SourceRefused: the scheme, a user name or password, the port or the spelling of the host.

    """
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise SourceRefused(source=url, reason=f"it is no valid address ({error})") from None
    if parts.scheme not in _SCHEMES:
        raise SourceRefused(source=url, reason=f"{parts.scheme or 'a file'} is not http or https")
    if "@" in parts.netloc:
        raise SourceRefused(source=url, reason="it holds a user name or password")
    if not host:
        raise SourceRefused(source=url, reason="it names no host")
    port = _SCHEMES[parts.scheme] if port is None else port
    if policy.ports is not None and port not in policy.ports:
        allowed = ", ".join(str(number) for number in sorted(policy.ports))
        raise SourceRefused(source=url, reason=f"port {port} is none of {allowed}")
    if _disguised(host):
        raise SourceRefused(source=url, reason=f"{host} is an odd spelling of a numeric address")
    return host, port


def _disguised(host: str) -> bool:
    # A host whose last label is a number is an IPv4 address to the web (URL Standard, «ends in a
    # number»).
    last = host.rstrip(".").rpartition(".")[2]
    if "%" in host or not _NUMBER.fullmatch(last):
        return "%" in host
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return True
    return False


def _permitted(text: str, policy: Policy) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return policy.permits(address)
