"""The proxy does the harm that it is told to do, to whom it is told, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar

import pytest

from torpor.testing.proxy import Harm, Proxy


class Counter(BaseHTTPRequestHandler):
    """A server that counts what it has done, and answers with the count, ten digits long."""

    protocol_version = "HTTP/1.1"
    done: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        said = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.done.append(f"{self.command} {self.path} {said}{self.headers.get('X-Word', '')}".strip())
        body = f"{len(self.done):010}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_PUT = do_HEAD = do_GET  # noqa: N815  (the library's names)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the library's name)
        pass


@pytest.fixture
def done() -> list[str]:
    Counter.done.clear()
    return Counter.done


@pytest.fixture
def server(done: list[str]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Counter)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def proxy(server: str) -> Iterator[Proxy]:
    with Proxy(server) as proxy:
        yield proxy


def ask(proxy: Proxy, method: str = "GET", path: str = "/a", body: str = "") -> tuple[int, bytes] | str:
    """Return status and body of an answer, or the name of what went wrong."""
    line = HTTPConnection(proxy.url.removeprefix("http://"))
    try:
        line.request(method, path, body=body or None, headers={"X-Word": "!"})
        came = line.getresponse()
        return came.status, came.read()
    except (HTTPException, OSError) as error:
        return type(error).__name__
    finally:
        line.close()


def test_without_harm_it_passes_everything_on(proxy: Proxy, done: list[str]) -> None:
    assert ask(proxy) == (200, b"0000000001")
    assert ask(proxy, "PUT", "/b?c=1", "said") == (200, b"0000000002")
    assert ask(proxy, "HEAD") == (200, b"")
    assert done == ["GET /a !", "PUT /b?c=1 said!", "HEAD /a !"]
    assert proxy.seen == ["GET /a", "PUT /b?c=1", "HEAD /a"]


@pytest.mark.parametrize(
    ("harm", "answer", "count"),
    [
        (Harm("refuse", status=503), (503, b""), 0),
        (Harm("lie", status=500), (500, b""), 1),
        (Harm("lose"), "RemoteDisconnected", 1),
        (Harm("cut", size=3), "IncompleteRead", 1),
        (Harm("shorten", size=3), (200, b"000"), 1),
    ],
)
def test_each_harm_is_what_it_says(
    proxy: Proxy, done: list[str], harm: Harm, answer: tuple[int, bytes] | str, count: int
) -> None:
    proxy.set(harm)
    assert ask(proxy) == answer
    assert len(done) == count
    assert ask(proxy) == (200, f"{count + 1:010}".encode())
    assert proxy.struck == 1


@pytest.mark.parametrize(("kind", "count"), [("hold", 1), ("delay", 0)])
def test_what_is_held_is_done_before_or_after_and_answered_when_it_is_released(
    proxy: Proxy, done: list[str], kind: str, count: int
) -> None:
    proxy.set(Harm(kind))  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, proxy)
        proxy.wait_until_held()
        assert len(done) == count
        proxy.release()
        assert len(done) == 1
        assert answer.result() == (200, b"0000000001")


def test_what_is_stale_is_the_first_answer(proxy: Proxy) -> None:
    assert [ask(proxy), ask(proxy)] == [(200, b"0000000001"), (200, b"0000000002")]
    proxy.set(Harm("stale", times=2))
    assert ask(proxy) == (200, b"0000000001")
    assert ask(proxy, path="/new") == (200, b"0000000003"), "what was never asked is not stale"
    assert ask(proxy) == (200, b"0000000004")


def test_harm_strikes_whom_it_fits_as_often_as_it_says(proxy: Proxy) -> None:
    proxy.set(Harm("refuse", method="PUT", path="/b", times=2), Harm("refuse", status=500, path="/b"))
    assert [ask(proxy, "PUT", "/a")[0], ask(proxy, "GET", "/a")[0]] == [200, 200]
    assert [ask(proxy, "PUT", "/b")[0] for _ in range(4)] == [503, 503, 500, 200]
    assert proxy.struck == 3
    proxy.set(Harm("refuse", times=9))
    assert ask(proxy)[0] == 503
    proxy.lift()
    assert ask(proxy)[0] == 200


def test_what_it_is_deaf_to_never_arrives(server: str, done: list[str]) -> None:
    with Proxy(server, deaf_to="x-word") as proxy:
        ask(proxy)
    assert done == ["GET /a"]


def test_it_ends_although_lines_are_open_and_requests_held(server: str) -> None:
    with ThreadPoolExecutor(1) as pool, Proxy(server) as proxy:
        proxy.set(Harm("hold"))
        held = pool.submit(ask, proxy)
        idle = HTTPConnection(proxy.url.removeprefix("http://"))
        idle.connect()
        proxy.wait_until_held()
    assert held.result() in [(200, b"0000000001"), "RemoteDisconnected"]
    idle.close()
