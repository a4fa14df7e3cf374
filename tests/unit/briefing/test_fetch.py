"""Fetching keeps its limits and says what went wrong, whatever the other side does."""

from __future__ import annotations

import gzip
import os
import socket
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from tests.unit.briefing.feeds_server import (
    Answer,
    Exchange,
    FeedsServer,
    body,
    cut,
    dripping,
    endless,
    feeds_server,
    redirect,
    silent,
    status,
)

from torpor.base.errors import (
    SourceError,
    SourceMalformed,
    SourceMissing,
    SourceRefused,
    SourceTooLarge,
    SourceUnreachable,
)
from torpor.skills.briefing.address import Address, Policy
from torpor.skills.briefing.fetch import Limits, fetch
from torpor.skills.briefing.item import Feed, Validators

NOW = 1_795_219_200_000_000
RSS = b'<rss version="2.0"><channel><title>News</title><item><title>One</title><link>/1</link></item></channel></rss>'
SMALL = Limits(size=10_000, seconds=5.0, redirects=3)
NONE = Validators()

pytestmark = pytest.mark.anyio


@pytest.fixture
def server() -> Iterator[FeedsServer]:
    with feeds_server() as running:
        yield running


async def get(
    source: str,
    validators: Validators = NONE,
    *,
    guard: bool = False,
    limits: Limits = SMALL,
    policy: Policy | None = None,
) -> Feed:
    return await fetch(source, validators, guard=guard, now_us=NOW, limits=limits, policy=policy or Policy())


@asynccontextmanager
async def peak_memory_under(limit: int) -> AsyncIterator[None]:
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < limit


def only(*addresses: str, resolve: dict[str, list[str]] | None = None) -> Policy:
    """Treat some loopback addresses as if they were the public internet."""

    def permits(address: Address) -> bool:
        return str(address) in addresses

    async def resolver(host: str, _port: int) -> list[str]:
        return (resolve or {}).get(host, [host])

    return Policy(permits=permits, ports=None, resolve=resolver)


# --- asking


async def test_a_feed_comes_with_its_items_and_validators(server: FeedsServer) -> None:
    server.answers["/f"] = body(RSS, ETag='"v1"', Last_Modified="Sat, 13 Jun 2026 05:30:00 GMT")
    feed = await get(server.url("/f"))
    assert [item.title for item in feed.items] == ["One"]
    assert feed.items[0].url == server.url("/1")
    assert feed.source == server.url("/f")
    assert feed.validators == Validators(etag='"v1"', modified="Sat, 13 Jun 2026 05:30:00 GMT")
    assert not feed.unchanged


async def test_the_request_names_itself_and_asks_only_for_what_can_be_read(server: FeedsServer) -> None:
    server.answers["/f"] = body(RSS)
    await get(server.url("/f"))
    (_, headers) = server.requests[0]
    assert headers["User-Agent"].startswith("Torpor/")
    assert headers["Accept-Encoding"] == "gzip, deflate"
    assert "If-None-Match" not in headers
    assert "Cookie" not in headers


async def test_validators_are_sent_and_a_304_is_unchanged(server: FeedsServer) -> None:
    server.answers["/f"] = status(304, ETag='"v2"')
    asked = Validators(etag='"v1"', modified="Sat, 13 Jun 2026 05:30:00 GMT")
    feed = await get(server.url("/f"), asked)
    (_, headers) = server.requests[0]
    assert headers["If-None-Match"] == '"v1"'
    assert headers["If-Modified-Since"] == asked.modified
    assert (feed.unchanged, feed.items) == (True, [])
    assert feed.validators == Validators(etag='"v2"', modified=asked.modified)


async def test_validators_that_no_header_can_carry_are_not_sent(server: FeedsServer) -> None:
    server.answers["/f"] = body(RSS)
    await get(server.url("/f"), Validators(etag='"a"\r\nX-Evil: 1', modified="é"))
    (_, headers) = server.requests[0]
    assert not {"If-None-Match", "If-Modified-Since", "X-Evil"} & set(headers)


async def test_a_304_that_was_not_asked_for_is_unreachable(server: FeedsServer) -> None:
    server.answers["/f"] = status(304)
    with pytest.raises(SourceUnreachable, match=r"304"):
        await get(server.url("/f"))


async def test_the_environment_s_proxies_are_not_used(server: FeedsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    server.answers["/f"] = body(RSS)
    assert (await get(server.url("/f"))).items


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (404, SourceMissing, "no such page"),
        (410, SourceMissing, "gone for good"),
        (401, SourceMissing, "password"),
        (403, SourceMissing, "forbids"),
        (400, SourceMissing, "HTTP 400"),
        (418, SourceMissing, "HTTP 418"),
        (451, SourceMissing, "legal"),
        (408, SourceUnreachable, "HTTP 408"),
        (429, SourceUnreachable, "again in 120 s"),
        (500, SourceUnreachable, "HTTP 500"),
        (503, SourceUnreachable, "again in 120 s"),
        (599, SourceUnreachable, "unknown status"),
        (300, SourceUnreachable, "HTTP 300"),
    ],
)
async def test_a_status_becomes_the_error_that_fits(
    server: FeedsServer, code: int, kind: type[SourceError], words: str
) -> None:
    server.answers["/f"] = status(code, Retry_After="120")
    with pytest.raises(kind) as caught:
        await get(server.url("/f"))
    assert words in str(caught.value)
    assert caught.value.source == server.url("/f")


async def test_an_answer_that_is_no_feed_is_malformed(server: FeedsServer) -> None:
    server.answers["/f"] = body(b"<html><link rel=alternate type=application/rss+xml href=/x></html>")
    with pytest.raises(SourceMalformed) as caught:
        await get(server.url("/f"))
    assert server.url("/x") in caught.value.reason


async def test_an_empty_answer_is_malformed(server: FeedsServer) -> None:
    server.answers["/f"] = body(b"")
    with pytest.raises(SourceMalformed, match=r"empty"):
        await get(server.url("/f"))


# --- what can break


async def test_a_closed_port_is_unreachable() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(SourceUnreachable, match=r"connection was refused"):
            await get(f"http://127.0.0.1:{held.getsockname()[1]}/")


async def test_a_name_that_cannot_exist_is_unreachable_or_no_address() -> None:
    with pytest.raises(SourceUnreachable, match=r"doesn't resolve"):
        await get("http://feeds.invalid/")
    with pytest.raises((SourceMissing, SourceUnreachable)):
        await get(f"http://{'a' * 70}.example/")


async def test_plain_http_where_tls_is_wanted_is_unreachable(server: FeedsServer) -> None:
    with pytest.raises(SourceUnreachable, match=r"TLS"):
        await get(server.url("/f").replace("http:", "https:"))


@pytest.mark.parametrize("source", ["http://", "http://[::1", "http://a b/", "http://a:99999/", "http://\x00/"])
async def test_what_is_no_address_is_missing(source: str) -> None:
    with pytest.raises(SourceError):
        await get(source)


async def test_a_server_that_never_answers_is_given_up_in_time(server: FeedsServer) -> None:
    server.answers["/f"] = silent
    begun = time.perf_counter()
    with pytest.raises(SourceUnreachable, match=r"no answer within 0\.2 s"):
        await get(server.url("/f"), limits=Limits(seconds=0.2))
    assert time.perf_counter() - begun < 2


async def test_a_body_that_drips_is_given_up_in_time(server: FeedsServer) -> None:
    server.answers["/f"] = dripping(RSS)
    begun = time.perf_counter()
    with pytest.raises(SourceUnreachable, match=r"not complete after 0\.2 s \(\d+ bytes came\)"):
        await get(server.url("/f"), limits=Limits(seconds=0.2))
    assert time.perf_counter() - begun < 2


async def test_the_time_limit_runs_over_all_redirects(server: FeedsServer) -> None:
    def slowly(target: str) -> Answer:
        def answer(exchange: Exchange) -> None:
            exchange.server.over.wait(0.12)
            redirect(target)(exchange)

        return answer

    for step in range(5):
        server.answers[f"/{step}"] = slowly(f"/{step + 1}")
    with pytest.raises(SourceUnreachable, match=r"within 0\.3 s"):
        await get(server.url("/0"), limits=Limits(seconds=0.3, redirects=10))


async def test_a_body_that_breaks_off_is_unreachable(server: FeedsServer) -> None:
    server.answers["/f"] = cut(RSS[:20], claimed=5000)
    with pytest.raises(SourceUnreachable, match=r"broke off"):
        await get(server.url("/f"))


async def test_an_answer_that_is_no_http_is_unreachable(server: FeedsServer) -> None:
    def garbage(exchange: Exchange) -> None:
        exchange.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")

    server.answers["/f"] = garbage
    with pytest.raises(SourceUnreachable):
        await get(server.url("/f"))


async def test_cancelling_the_task_cancels_the_fetch(server: FeedsServer) -> None:
    server.answers["/f"] = silent
    begun = time.perf_counter()
    with anyio.move_on_after(0.1) as scope:
        await get(server.url("/f"))
    assert scope.cancelled_caught
    assert time.perf_counter() - begun < 2


# --- size


async def test_a_body_of_exactly_the_limit_is_read_and_one_byte_more_is_not(server: FeedsServer) -> None:
    fits = RSS + b" " * (10_000 - len(RSS))
    server.answers["/fits"] = body(fits)
    server.answers["/over"] = body(fits + b" ")
    server.answers["/over-packed"] = body(gzip.compress(fits + b" ", mtime=0), Content_Encoding="gzip")
    assert (await get(server.url("/fits"))).items
    for path in ("/over", "/over-packed"):
        with pytest.raises(SourceTooLarge) as caught:
            await get(server.url(path))
        assert caught.value.limit == 10_000


async def test_an_endless_body_is_left_at_the_limit(server: FeedsServer) -> None:
    server.answers["/f"] = endless(b"<!-- and on and on -->" * 1000)
    async with peak_memory_under(6_000_000):
        with pytest.raises(SourceTooLarge):
            await get(server.url("/f"), limits=Limits(size=1_000_000))
    assert server.hangups.wait(2)


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", lambda data: gzip.compress(data, 9, mtime=0)),
        ("deflate", lambda data: zlib.compress(data, 9)),
        ("deflate", lambda data: zlib.compress(data, 9)[2:-4]),
    ],
)
async def test_a_decompression_bomb_stops_at_the_limit(
    server: FeedsServer, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    server.answers["/f"] = body(pack(b" " * 200_000_000), Content_Encoding=encoding)
    async with peak_memory_under(6_000_000):
        with pytest.raises(SourceTooLarge):
            await get(server.url("/f"), limits=Limits(size=1_000_000))


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(RSS, mtime=0)),
        ("GZIP", gzip.compress(RSS, mtime=0)),
        ("x-gzip", gzip.compress(RSS, mtime=0)),
        ("gzip", gzip.compress(RSS[:50], mtime=0) + gzip.compress(RSS[50:], mtime=0)),
        ("gzip", gzip.compress(RSS, mtime=0) + b"\0" * 20),
        ("deflate", zlib.compress(RSS)),
        ("deflate", zlib.compress(RSS)[2:-4]),
        ("identity", RSS),
    ],
)
async def test_compressed_answers_are_read(server: FeedsServer, encoding: str, packed: bytes) -> None:
    server.answers["/f"] = body(packed, Content_Encoding=encoding)
    assert [item.title for item in (await get(server.url("/f"))).items] == ["One"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("packed", [b"not packed at all", gzip.compress(RSS, mtime=0)[:-30], b"\x1f\x8b"])
async def test_damaged_compression_is_unreachable(server: FeedsServer, encoding: str, packed: bytes) -> None:
    server.answers["/f"] = body(packed, Content_Encoding=encoding)
    with pytest.raises(SourceUnreachable, match=r"damaged"):
        await get(server.url("/f"))


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress"])
async def test_a_coding_that_was_not_asked_for_is_unreachable(server: FeedsServer, encoding: str) -> None:
    server.answers["/f"] = body(RSS, Content_Encoding=encoding)
    with pytest.raises(SourceUnreachable, match=r"not asked for"):
        await get(server.url("/f"))


# --- redirects


async def test_redirects_are_followed_and_links_are_relative_to_the_last(server: FeedsServer) -> None:
    server.answers["/old"] = redirect("new/feed")
    server.answers["/new/feed"] = body(RSS.replace(b"/1", b"1"))
    feed = await get(server.url("/old"))
    assert feed.source == server.url("/old")
    assert feed.items[0].url == server.url("/new/1")
    assert feed.notes == []


async def test_a_feed_that_moved_for_good_is_told(server: FeedsServer) -> None:
    server.answers["/old"] = redirect("/mid", 301)
    server.answers["/mid"] = redirect("/new", 308)
    server.answers["/new"] = redirect("/now", 302)
    server.answers["/now"] = body(RSS)
    assert (await get(server.url("/old"))).notes == [f"it moved for good to {server.url('/new')}"]


async def test_too_many_redirects_are_unreachable(server: FeedsServer) -> None:
    for step in range(9):
        server.answers[f"/{step}"] = redirect(f"/{step + 1}")
    with pytest.raises(SourceUnreachable, match=r"more than 3 times"):
        await get(server.url("/0"))
    assert len(server.requests) == 4


async def test_redirects_in_a_circle_are_unreachable(server: FeedsServer) -> None:
    server.answers["/a"] = redirect("/b")
    server.answers["/b"] = redirect("/a#again")
    with pytest.raises(SourceUnreachable, match=r"circle"):
        await get(server.url("/a"))
    assert len(server.requests) == 2


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/", "javascript:alert(1)"])
async def test_a_redirect_out_of_the_web_is_refused(server: FeedsServer, target: str) -> None:
    server.answers["/f"] = redirect(target)
    with pytest.raises(SourceRefused, match=r"not http or https"):
        await get(server.url("/f"))


async def test_a_redirect_to_no_address_is_unreachable(server: FeedsServer) -> None:
    server.answers["/f"] = redirect("http://[::1")
    with pytest.raises(SourceUnreachable, match=r"no address"):
        await get(server.url("/f"))


async def test_a_redirect_to_nobody_tells_both_addresses(server: FeedsServer) -> None:
    server.answers["/f"] = redirect("http://feeds.invalid/x")
    with pytest.raises(SourceUnreachable) as caught:
        await get(server.url("/f"))
    assert caught.value.source == server.url("/f")
    assert caught.value.reason.startswith("it redirects to http://feeds.invalid/x, and ")


async def test_a_name_and_password_typed_by_the_user_go_to_their_server_only(
    server: FeedsServer,
) -> None:
    with feeds_server("127.0.0.2") as other:
        server.answers["/f"] = redirect(f"http://127.0.0.2:{other.port}/f")
        other.answers["/f"] = body(RSS)
        await get(server.url("/f").replace("http://", "http://ada:pass@"))
        assert server.requests[0][1]["Authorization"] == "Basic YWRhOnBhc3M="
        assert "Authorization" not in other.requests[0][1]


# --- the guard


async def test_an_agent_may_not_call_the_machine_itself(server: FeedsServer) -> None:
    server.answers["/f"] = body(RSS)
    policy = Policy(ports=None)
    for host in ("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]"):
        with pytest.raises(SourceRefused) as caught:
            await get(f"http://{host}:{server.port}/f", guard=True, policy=policy)
        assert caught.value.source == f"http://{host}:{server.port}/f"
    assert server.requests == []


async def test_an_agent_may_not_read_files(tmp_path: Path) -> None:
    path = tmp_path / "feed.xml"
    path.write_bytes(RSS)
    for source in (str(path), path.as_uri(), "FILE://" + str(path)):
        with pytest.raises(SourceRefused):
            await get(source, guard=True)


async def test_a_name_is_resolved_once_and_the_judged_address_is_called(server: FeedsServer) -> None:
    server.answers["/f"] = body(RSS)
    asked: list[str] = []

    async def rebinding(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    policy = Policy(permits=lambda address: str(address) == "127.0.0.1", ports=None, resolve=rebinding)
    source = f"http://feeds.example:{server.port}/f"
    feed = await get(source, guard=True, policy=policy)
    assert feed.items[0].url == f"http://feeds.example:{server.port}/1"
    assert asked == ["feeds.example"]
    (_, headers) = server.requests[0]
    assert headers["Host"] == f"feeds.example:{server.port}"
    with pytest.raises(SourceRefused, match=r"feeds\.example is 127\.0\.0\.2"):
        await get(source, guard=True, policy=policy)


async def test_the_next_address_is_tried_where_the_first_refuses(server: FeedsServer) -> None:
    server.answers["/f"] = body(RSS)
    policy = only("127.0.0.1", "127.0.0.3", resolve={"two.example": ["127.0.0.3", "127.0.0.1"]})
    assert (await get(f"http://two.example:{server.port}/f", guard=True, policy=policy)).items


async def test_every_redirect_of_an_agent_s_address_is_judged(server: FeedsServer) -> None:
    with feeds_server("127.0.0.2") as inner:
        server.answers["/f"] = redirect(f"http://127.0.0.2:{inner.port}/secret")
        inner.answers["/secret"] = body(RSS)
        with pytest.raises(SourceRefused, match=r"it redirects to http://127\.0\.0\.2") as caught:
            await get(server.url("/f"), guard=True, policy=only("127.0.0.1"))
        assert caught.value.source == server.url("/f")
        assert inner.requests == []


async def test_a_public_server_cannot_redirect_the_user_into_the_private_network(
    server: FeedsServer,
) -> None:
    with feeds_server("127.0.0.2") as inner:
        server.answers["/f"] = redirect(f"http://127.0.0.2:{inner.port}/secret")
        inner.answers["/secret"] = body(RSS)
        with pytest.raises(SourceRefused):
            await get(server.url("/f"), policy=only("127.0.0.1"))
        assert inner.requests == []


async def test_a_private_server_may_redirect_the_user_within_the_private_network(
    server: FeedsServer,
) -> None:
    with feeds_server("127.0.0.2") as inner:
        server.answers["/f"] = redirect(f"http://127.0.0.2:{inner.port}/next")
        inner.answers["/next"] = body(RSS)
        assert (await get(server.url("/f"))).items


# --- files


async def test_a_file_is_read_by_path_and_by_url(tmp_path: Path) -> None:
    path = tmp_path / "my feed ü.xml"
    path.write_bytes(RSS)
    for source in (str(path), path.as_uri(), path.as_uri().replace("file://", "file://localhost")):
        feed = await get(source)
        assert [item.title for item in feed.items] == ["One"]
        assert (feed.source, feed.validators) == (source, NONE)


async def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    for source in (str(tmp_path / "none.xml"), (tmp_path / "none.xml").as_uri(), "\0", "a" * 5000, ""):
        with pytest.raises(SourceMissing):
            await get(source)


async def test_an_address_without_its_scheme_is_recognised() -> None:
    with pytest.raises(SourceMissing, match=r"write https://example\.org/feed"):
        await get("example.org/feed")


@pytest.mark.parametrize("source", ["ftp://example.org/feed", "gopher://a/", "file://other.example/feed"])
async def test_other_schemes_and_hosts_are_not_read(source: str) -> None:
    with pytest.raises(SourceMissing):
        await get(source)


async def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        for source in (tmp_path, tmp_path / "pipe", tmp_path / "socket", tmp_path / "loop", "/dev/zero"):
            with pytest.raises(SourceMissing):
                await get(str(source))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_an_unreadable_file_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "feed.xml"
    path.write_bytes(RSS)
    path.chmod(0)
    with pytest.raises(SourceMissing, match=r"may not read"):
        await get(str(path))


async def test_a_huge_file_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "huge.xml"
    with path.open("wb") as file:
        file.truncate(200_000_000)
    async with peak_memory_under(1_000_000):
        with pytest.raises(SourceTooLarge):
            await get(str(path), limits=Limits())


async def test_a_file_that_hides_its_size_is_read_to_the_limit_only() -> None:
    with pytest.raises((SourceTooLarge, SourceMalformed)):
        await get("/proc/self/maps", limits=Limits(size=100))


async def test_a_workbook_is_never_opened(tmp_path: Path) -> None:
    book = tmp_path / "ada.workbook"
    disguised = tmp_path / "ada.xml"
    for path in (book, tmp_path / "ada.workbook-wal", disguised, tmp_path / "ada.xml-wal"):
        path.write_bytes(RSS)
    (tmp_path / "link.xml").symlink_to(book)
    for name in ("ada.workbook", "ada.workbook-wal", "ada.xml", "ada.xml-wal", "link.xml"):
        with pytest.raises(SourceMissing, match=r"workbook"):
            await get(str(tmp_path / name))
