"""An agent calls public addresses only, and exactly those that were judged."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable

import pytest

from torpor.base.errors import SourceRefused, SourceUnreachable
from torpor.skills.briefing.address import (
    PUBLIC,
    Policy,
    checked_addresses,
    checked_url,
    is_public,
    system_resolver,
)


def resolver(*addresses: str) -> Callable[[str, int], Awaitable[list[str]]]:
    async def resolve(_host: str, _port: int) -> list[str]:
        return list(addresses)

    return resolve


NOT_PUBLIC = [
    "127.0.0.1",
    "127.9.9.9",
    "0.0.0.0",  # noqa: S104 - an address to refuse, not to bind
    "0.1.2.3",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b:1::808:808",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_an_address_of_no_public_host_is_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::808:808"])
def test_an_address_of_the_open_internet_is_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "url",
    [
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://127.0.0.1./",
        "http://8.8.8/",
        "http://[fe80::1%25eth0]/",
        "http://ada:secret@example.org/",
        "http://example.org@10.0.0.1/",
        "http://example.org:22/",
        "http://example.org:6379/",
        "http://example.org:99999/",
        "ftp://example.org/",
        "file:///etc/passwd",
        "gopher://example.org/",
        "/etc/passwd",
        "http:///path",
        "http://[::1",
    ],
)
def test_the_spelling_alone_can_be_refused(url: str) -> None:
    with pytest.raises(SourceRefused):
        checked_url(url)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://example.org/", ("example.org", 80)),
        ("https://example.org/", ("example.org", 443)),
        ("https://example.org:8443/", ("example.org", 8443)),
        ("http://8.8.8.8/", ("8.8.8.8", 80)),
        ("http://[2606:4700::1111]/", ("2606:4700::1111", 80)),
        ("http://1.example.org/", ("1.example.org", 80)),
    ],
)
def test_a_plain_spelling_is_taken(url: str, place: tuple[str, int]) -> None:
    assert checked_url(url) == place


@pytest.mark.anyio
@pytest.mark.parametrize("address", NOT_PUBLIC)
async def test_a_name_of_a_private_address_is_refused(address: str) -> None:
    policy = Policy(resolve=resolver(address))
    with pytest.raises(SourceRefused, match=r"not a public address"):
        await checked_addresses("http://innocent.example/feed", policy)


@pytest.mark.anyio
async def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    policy = Policy(resolve=resolver("8.8.8.8", "10.0.0.1"))
    with pytest.raises(SourceRefused, match=r"10\.0\.0\.1"):
        await checked_addresses("http://mixed.example/", policy)


@pytest.mark.anyio
async def test_the_addresses_of_a_public_name_are_returned_once_each() -> None:
    policy = Policy(resolve=resolver("8.8.8.8", "8.8.8.8", "1.1.1.1"))
    assert await checked_addresses("http://public.example/", policy) == ["8.8.8.8", "1.1.1.1"]


@pytest.mark.anyio
async def test_a_name_that_does_not_resolve_is_unreachable() -> None:
    async def resolve(_host: str, _port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(SourceUnreachable, match=r"doesn't resolve"):
        await checked_addresses("http://nowhere.example/", Policy(resolve=resolve))
    with pytest.raises(SourceUnreachable, match=r"no address"):
        await checked_addresses("http://nowhere.example/", Policy(resolve=resolver()))


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
async def test_the_system_s_own_resolver_does_not_let_the_machine_itself_through(host: str) -> None:
    with pytest.raises(SourceRefused):
        await checked_addresses(f"http://{host}/", PUBLIC)


@pytest.mark.anyio
async def test_the_system_s_resolver_gives_numeric_addresses() -> None:
    assert await system_resolver("127.0.0.1", 80) == ["127.0.0.1"]
