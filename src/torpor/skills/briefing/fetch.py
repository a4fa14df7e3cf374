"""One source, fetched: a file or an address, with limits on time, bytes and redirects.

The limits hold for whatever the other side does: time runs over all redirects and over a body that
drips; bytes are counted after decompression, while they arrive; of an answer that is too large
nothing more than the limit is held. Redirects are followed here and not by httpx, since each is an
address that somebody else chose (see `address.py`): where an agent may choose only public
addresses, so may a redirect; and where the user chose a public one, its redirect can't lead into
the user's own network.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import ssl
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
import anyio.to_thread
import httpx

from torpor.base.errors import SourceMissing, SourceRefused, SourceTooLarge, SourceUnreachable
from torpor.base.limits import FEED_BYTES_MAX, FETCH_SECONDS_MAX, REDIRECTS_MAX
from torpor.skills.briefing.address import PUBLIC, Policy, checked_addresses
from torpor.skills.briefing.inflate import ACCEPTED, ENCODINGS, Damaged, Inflater
from torpor.skills.briefing.item import Feed, Validators
from torpor.skills.briefing.local import read_file
from torpor.skills.briefing.parse import parse
from torpor.skills.briefing.reasons import broke_off, status_error

USER_AGENT = "Torpor/0.1 (feed reader; asks when its user does)"
_ACCEPT = (
    "application/atom+xml, application/rss+xml, application/feed+json, "
    "application/xml;q=0.9, text/xml;q=0.9, application/json;q=0.8, */*;q=0.5"
)
_SCHEME = re.compile(r"\s*(file(?=:)|[A-Za-z][A-Za-z0-9+.-]*(?=://)):", re.IGNORECASE)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOVED = frozenset({301, 308})
_NOT_MODIFIED = 304
_VALIDATOR_MAX = 1024
"""Characters of an ETag or a date worth keeping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of the world one source may take."""

    size: int = FEED_BYTES_MAX
    """Bytes, after decompression."""
    seconds: float = FETCH_SECONDS_MAX
    redirects: int = REDIRECTS_MAX


@dataclass(slots=True)
class _Answer:
    """What came of asking."""

    data: bytes = b""
    content_type: str = ""
    address: str = ""
    validators: Validators = field(default_factory=Validators)
    unchanged: bool = False
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class _Errand:
    """What to ask for, how, and how far the asking came."""

    source: str
    validators: Validators
    limits: Limits
    policy: Policy
    rule: Policy | None
    """What the next address has to satisfy; None where the user chose it."""
    answered: bool = False
    received: int = 0
    """Bytes, as they came."""


async def fetch(
    source: str,
    validators: Validators,
    *,
    guard: bool,
    now_us: int,
    limits: Limits = Limits(),
    policy: Policy = PUBLIC,
) -> Feed:
    """Fetch and read one feed.

    Args:
        source: an http(s) address, a path, or a file: URL.
        validators: what the server gave with its last answer; empty ones ask for everything.
        guard: True where somebody else than the user chose the source: then it must be a public
            address.
        now_us: the present, in microseconds since 1970 UTC.
        limits: of bytes, seconds and redirects.
        policy: what counts as a public address.

    Returns:
        The feed with its new validators; or, where the server says that nothing changed, one that
        is `unchanged`.

    Raises:
        SourceMissing: no such file or page, or not for us.
        SourceUnreachable: no answer, a broken one, or none in time.
        SourceRefused: an address that we will not call.
        SourceTooLarge: more bytes than the limit.
        SourceMalformed: an answer, but no feed.

    """
    scheme = _SCHEME.match(source)
    if scheme and scheme[1].lower() in {"http", "https"}:
        rule = policy if guard else None
        answer = await _asked(_Errand(source=source, validators=validators, limits=limits, policy=policy, rule=rule))
    elif guard:
        raise SourceRefused(source=source, reason="files are not for agents to read")
    else:
        path = _path(source)
        data = await anyio.to_thread.run_sync(read_file, source, path, limits.size)
        answer = _Answer(data=data)
    if answer.unchanged:
        return Feed(
            source=source,
            title="",
            items=[],
            validators=answer.validators,
            unchanged=True,
            notes=answer.notes,
        )
    read = functools.partial(parse, now_us=now_us, address=answer.address)
    feed = await anyio.to_thread.run_sync(read, source, answer.data, answer.content_type)
    return Feed(
        source=source,
        title=feed.title,
        items=feed.items,
        validators=answer.validators,
        notes=[*answer.notes, *feed.notes],
    )


def _path(source: str) -> Path:
    scheme = _SCHEME.match(source)
    if scheme is None:
        return Path(source)
    if scheme[1].lower() != "file":
        reason = f"{scheme[1]} addresses are not read; http, https and files are"
        raise SourceMissing(source=source, reason=reason)
    host, slash, path = source[scheme.end() :].removeprefix("//").partition("/")
    if host not in {"", "localhost"}:
        raise SourceMissing(source=source, reason=f"files of the host {host} can't be read")
    return Path(urllib.parse.unquote(slash + path))


# --- over HTTP


async def _asked(errand: _Errand) -> _Answer:
    limit = errand.limits.seconds
    try:
        with anyio.fail_after(limit):
            return await _followed(errand)
    except TimeoutError:
        if errand.received:
            came = f"{errand.received:,} bytes came"
            reason = f"its answer was not complete after {limit:g} s ({came})"
        else:
            what = "only the beginning of an answer" if errand.answered else "no answer"
            reason = f"{what} within {limit:g} s"
        raise SourceUnreachable(source=errand.source, reason=reason) from None


async def _followed(errand: _Errand) -> _Answer:
    source = errand.source
    url = source.strip()
    seen = {url}
    moved_to = ""
    # Where every redirect so far says that it is for good, the user should know the new address.
    for_good = True
    downgraded = False
    for _ in range(errand.limits.redirects + 1):
        async with _response(errand, url) as response:
            errand.answered = True
            if response.status_code not in _REDIRECTS or "location" not in response.headers:
                answer = await _taken(errand, response)
                answer.address = url
                if moved_to:
                    answer.notes.append(f"it moved for good to {moved_to}")
                if downgraded:
                    answer.notes.append("it was redirected from https to http, which is not safe")
                return answer
            for_good = for_good and response.status_code in _MOVED
            target = _target(source, url, response.headers["location"])
            if errand.rule is None and _public_server(response, errand.policy):
                errand.rule = replace(errand.policy, ports=None)
        downgraded = downgraded or (url.startswith("https:") and target.startswith("http:"))
        if target in seen:
            reason = f"its redirects go in a circle, at {target}"
            raise SourceUnreachable(source=source, reason=reason)
        seen.add(target)
        url = target
        moved_to = target if for_good else moved_to
    reason = f"it redirects more than {errand.limits.redirects} times"
    raise SourceUnreachable(source=source, reason=reason)


def _target(source: str, url: str, location: str) -> str:
    try:
        target = urllib.parse.urldefrag(urllib.parse.urljoin(url, location.strip())).url
        parts = urllib.parse.urlsplit(target)
    except ValueError:
        reason = "it redirects to something that is no address"
        raise SourceUnreachable(source=source, reason=reason) from None
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        reason = f"it redirects to {target[:100]}, which is not http or https"
        raise SourceRefused(source=source, reason=reason)
    return target


def _public_server(response: httpx.Response, policy: Policy) -> bool:
    stream = response.extensions.get("network_stream")
    server = stream.get_extra_info("server_addr") if stream is not None else None
    return server is not None and policy.permits(ipaddress.ip_address(server[0]))


@asynccontextmanager
async def _response(errand: _Errand, url: str) -> AsyncIterator[httpx.Response]:
    inner = httpx.AsyncHTTPTransport(
        verify=_trust() if url.lower().startswith("https:") else False,
        trust_env=False,
        # One connection, one answer: what was opened for one name must never serve another.
        limits=httpx.Limits(max_connections=1, max_keepalive_connections=0),
    )
    transport = inner if errand.rule is None else GuardedTransport(inner, errand.rule)
    # The transport alone, since a client looks into redirects even where it doesn't follow them.
    async with transport:
        request = _request(errand, url)
        try:
            response = await _sent(errand, transport, request, url)
            response.request = request
            try:
                yield response
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            reason = _via(errand, url) + broke_off(error)
            raise SourceUnreachable(source=errand.source, reason=reason) from None


def _request(errand: _Errand, url: str) -> httpx.Request:
    # The limit on the whole errand comes first; the client's own is its safety net.
    timeout = httpx.Timeout(errand.limits.seconds + 1).as_dict()
    headers = _headers(errand.validators)
    try:
        request = httpx.Request("GET", url, headers=headers, extensions={"timeout": timeout})
    except (httpx.InvalidURL, ValueError) as error:
        reason = f"{_via(errand, url)}it is no valid address ({error})"
        raise SourceMissing(source=errand.source, reason=reason) from None
    if not request.url.host:
        reason = f"{_via(errand, url)}it is no valid address (it names no host)"
        raise SourceMissing(source=errand.source, reason=reason)
    if request.url.userinfo:
        # A user may write a name and a password into an address; the guard refuses both.
        basic = httpx.BasicAuth(request.url.username, request.url.password)
        request = next(basic.auth_flow(request))
    return request


async def _sent(
    errand: _Errand, transport: httpx.AsyncBaseTransport, request: httpx.Request, url: str
) -> httpx.Response:
    try:
        return await transport.handle_async_request(request)
    except (SourceRefused, SourceUnreachable) as error:
        # The guard speaks of the address that it judged; the user knows the feed's.
        reason = _via(errand, url) + error.reason
        raise type(error)(source=errand.source, reason=reason) from None
    except UnicodeError as error:
        # A host with a label that DNS can't carry (RFC 1035 §2.3.4).
        reason = f"{_via(errand, url)}it is no valid address ({error})"
        raise SourceMissing(source=errand.source, reason=reason) from None


def _via(errand: _Errand, url: str) -> str:
    return "" if url == errand.source.strip() else f"it redirects to {url}, and "


def _headers(validators: Validators) -> dict[str, str]:
    headers = {"User-Agent": USER_AGENT, "Accept": _ACCEPT, "Accept-Encoding": ACCEPTED}
    if _sendable(validators.etag):
        headers["If-None-Match"] = validators.etag
    if _sendable(validators.modified):
        headers["If-Modified-Since"] = validators.modified
    return headers


@functools.cache
def _trust() -> ssl.SSLContext:
    # Reading the certificates takes some 20 ms; once is enough.
    return httpx.create_ssl_context(trust_env=False)


def _sendable(value: str) -> bool:
    return 0 < len(value) <= _VALIDATOR_MAX and value.isascii() and value.isprintable()


async def _taken(errand: _Errand, response: httpx.Response) -> _Answer:
    status, headers, asked = response.status_code, response.headers, errand.validators
    etag, modified = headers.get("etag", ""), headers.get("last-modified", "")
    given = Validators(etag=etag if _sendable(etag) else "", modified=modified if _sendable(modified) else "")
    if status == _NOT_MODIFIED and (asked.etag or asked.modified):
        # A 304 may leave out what didn't change (RFC 9110 §15.4.5).
        kept = Validators(etag=given.etag or asked.etag, modified=given.modified or asked.modified)
        return _Answer(unchanged=True, validators=kept)
    if not response.is_success:
        raise status_error(errand.source, status, headers.get("retry-after", ""))
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in ENCODINGS:
        reason = f"it answered in the coding {encoding[:40]!r}, which was not asked for"
        raise SourceUnreachable(source=errand.source, reason=reason)
    data = await _body(errand, response, Inflater(encoding))
    return _Answer(data=data, content_type=headers.get("content-type", ""), validators=given)


async def _body(errand: _Errand, response: httpx.Response, inflater: Inflater) -> bytes:
    source, limit = errand.source, errand.limits.size
    length = response.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limit:
        raise SourceTooLarge(source=source, limit=limit)
    data = bytearray()
    try:
        async for raw in response.aiter_raw():
            errand.received += len(raw)
            for piece in inflater.feed(raw):
                data += piece
                if len(data) > limit:
                    raise SourceTooLarge(source=source, limit=limit)
        inflater.close()
    except Damaged as error:
        reason = f"its compressed answer is damaged: {error}"
        raise SourceUnreachable(source=source, reason=reason) from None
    return bytes(data)


class GuardedTransport(httpx.AsyncBaseTransport):
    """Connects only to addresses that were judged, and to those very addresses.

    The request goes to a numeric address; its Host header and the name that TLS asks for and
    verifies stay the URL's own.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, policy: Policy) -> None:
        """Guard another transport.

        Args:
            inner: what connects.
            policy: what may be called.

        """
        self._inner = inner
        self._policy = policy

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Judge the address, then send the request there.

        Args:
            request: the request, its URL with the host's name.

        Raises:
            SourceRefused: not to be called.
            SourceUnreachable: the name doesn't resolve.
            httpx.TransportError: the connection failed, at every address.

        """
        found = await checked_addresses(str(request.url), self._policy)
        for address in found[:-1]:
            try:
                return await self._inner.handle_async_request(_pinned(request, address))
            except httpx.ConnectError:
                continue  # the host's next address may answer
        return await self._inner.handle_async_request(_pinned(request, found[-1]))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


def _pinned(request: httpx.Request, address: str) -> httpx.Request:
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        extensions={**request.extensions, "sni_hostname": request.url.raw_host.decode("ascii")},
    )
