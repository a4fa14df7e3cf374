"""A real HTTP server on 127.0.0.1 for tests: each path has a function that writes the answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Exchange"], None]


class Exchange(BaseHTTPRequestHandler):
    """One request, and the ways to answer it."""

    protocol_version = "HTTP/1.1"
    server: FeedsServer

    def do_GET(self) -> None:
        self.close_connection = True
        with self.server.lock:
            self.server.requests.append((self.path, dict(self.headers.items())))
        answer = self.server.answers.get(self.path.partition("?")[0], status(404))
        try:
            answer(self)
        except (BrokenPipeError, ConnectionResetError):
            self.server.hangups.set()

    def begin(self, code: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Send status line and headers; the body, if any, ends with the connection."""
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, *_args: Any) -> None:
        """Keep the test's output clean."""


class FeedsServer(ThreadingHTTPServer):
    """Answers with `answers`, remembers `requests`."""

    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), Exchange)
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.lock = threading.Lock()
        self.hangups = threading.Event()
        """Set when a client left in the middle of an answer."""
        self.over = threading.Event()
        """Set at the end of the test; slow answers wait for it instead of sleeping."""

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def handle_error(self, *_args: Any) -> None:
        """Ignore clients that leave, as these tests make them do."""


@contextmanager
def feeds_server(host: str = "127.0.0.1") -> Iterator[FeedsServer]:
    """Run a server for the time of a test."""
    server = FeedsServer(host)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def body(data: bytes, **headers: str) -> Answer:
    """Answer 200 with these bytes; header names have `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def answer(exchange: Exchange) -> None:
        exchange.begin(200, {"Content-Length": str(len(data)), **named})
        exchange.wfile.write(data)

    return answer


def status(code: int, **headers: str) -> Answer:
    """Answer with a status and no body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def answer(exchange: Exchange) -> None:
        exchange.begin(code, {"Content-Length": "0", **named})

    return answer


def redirect(target: str, code: int = 302) -> Answer:
    """Answer with a redirect."""
    return status(code, Location=target)


def endless(piece: bytes, **headers: str) -> Answer:
    """Answer with a piece again and again, until the client leaves or the test ends."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def answer(exchange: Exchange) -> None:
        exchange.begin(200, named)
        while not exchange.server.over.is_set():
            exchange.wfile.write(piece)

    return answer


def dripping(data: bytes, every: float = 0.02) -> Answer:
    """Answer a byte at a time, until the client leaves or the test ends."""

    def answer(exchange: Exchange) -> None:
        exchange.begin(200)
        for index in range(len(data)):
            exchange.wfile.write(data[index : index + 1])
            exchange.wfile.flush()
            if exchange.server.over.wait(every):
                return

    return answer


def silent(exchange: Exchange) -> None:
    """Never answer; hold the connection until the test ends."""
    exchange.server.over.wait(5)


def cut(data: bytes, claimed: int) -> Answer:
    """Claim a length, send less, and hang up."""

    def answer(exchange: Exchange) -> None:
        exchange.begin(200, {"Content-Length": str(claimed)})
        exchange.wfile.write(data)

    return answer
