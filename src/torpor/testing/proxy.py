"""A server before another server, which does harm as it is told.

`Proxy` takes requests of HTTP on this machine, passes each on, and gives the answer back. A `Harm` changes that for the
next requests that it fits: they are refused, lost on the way back, cut, held, or answered from the past. The client is
a real one and meets real sockets; what the server behind has done is as real, whatever the client was told.

Nothing here is measured in time: what is held is held until `release`.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Literal, Self

Kind = Literal["refuse", "lie", "lose", "cut", "shorten", "hold", "delay", "stale"]

_OF_ONE_LINE: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})
"""Headers that are about one connection, and are not passed on."""


@dataclass(frozen=True, slots=True)
class Harm:
    """What goes wrong with a request.

    Attributes:
        kind: "refuse": it is answered with `status`, and not passed on. "lie": it is passed on, and answered with
            `status` all the same. "lose": it is passed on, and the line is cut instead of an answer. "cut": likewise,
            after `size` bytes of the answer's body. "shorten": the answer has only those, and says so. "hold": it is
            passed on, and answered when it is released. "delay": it is passed on when it is released. "stale": it is
            answered as the same request was the first time.
        method: such as "PUT"; "" for any.
        path: what the path and query contain; "" for any.
        times: how many requests it strikes.
        status: of the answer.
        size: bytes of the body.

    """

    kind: Kind
    method: str = ""
    path: str = ""
    times: int = 1
    status: int = 503
    size: int = 0


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Proxy:
    """A server on this machine before another one. A context manager.

    Args:
        server: the other one's address, `http://host:port`.
        deaf_to: a header that is never passed on, so that the server behind seems not to know it; "" for none.

    """

    def __init__(self, server: str, *, deaf_to: str = "") -> None:
        self._deaf_to = deaf_to.lower()
        host, port = server.removeprefix("http://").split(":")
        self._behind = (host, int(port))
        self._listener = _Listener(("127.0.0.1", 0), self)
        self._serving = threading.Thread(target=self._listener.serve_forever, args=(0.05,))
        self._state = threading.Condition()
        self._harms: list[tuple[Harm, int]] = []
        self._answers: dict[str, _Answer] = {}
        self._held = 0
        self._open = threading.Event()
        self.url = f"http://127.0.0.1:{self._listener.server_port}"
        self.seen: list[str] = []
        """Method and path of each request, in order."""
        self.struck = 0
        """How often a harm has struck since one was set."""

    def set(self, *harms: Harm) -> None:
        """Do these from now on, and no others; of several that fit a request, the first."""
        with self._state:
            self._harms = [(harm, harm.times) for harm in harms]
            self._open.clear()
            self.struck = 0

    def lift(self) -> None:
        """Do no harm from now on, and release what is held."""
        with self._state:
            self._harms = []
        self.release()

    def release(self) -> None:
        """Let go what is held, and wait until it has gone its way."""
        self._open.set()
        with self._state:
            self._state.wait_for(lambda: self._held == 0)

    def __enter__(self) -> Self:
        self._serving.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.lift()
        self._listener.shutdown()
        self._serving.join()
        self._listener.hang_up()
        self._listener.server_close()

    def take(self, request: _Request) -> None:
        """Answer one request, or not."""
        harm = self._due(request)
        with self._holding(harm, "delay"):
            answer = self._answer(request, harm)
            with self._holding(harm, "hold"):
                request.reply(answer, harm)

    def _due(self, request: _Request) -> Harm | None:
        """Note a request, and return the harm that strikes it."""
        with self._state:
            self.seen.append(f"{request.command} {request.path}")
            for number, (harm, left) in enumerate(self._harms):
                if left and harm.method in ("", request.command) and harm.path in request.path:
                    self._harms[number] = (harm, left - 1)
                    self.struck += 1
                    return harm
        return None

    @contextmanager
    def _holding(self, harm: Harm | None, kind: Kind) -> Iterator[None]:
        """Hold a request before the block, if that is the harm; `release` waits until the block is done."""
        if harm is None or harm.kind != kind:
            yield
            return
        with self._state:
            self._held += 1
            self._state.notify_all()
        self._open.wait()
        try:
            yield
        finally:
            with self._state:
                self._held -= 1
                self._state.notify_all()

    def wait_until_held(self) -> None:
        """Wait until a request is held."""
        with self._state:
            self._state.wait_for(lambda: self._held > 0)

    def _answer(self, request: _Request, harm: Harm | None) -> _Answer:
        if harm is not None and harm.kind == "refuse":
            return _Answer(harm.status, [], b"")
        same = f"{request.command} {request.path}"
        if harm is not None and harm.kind == "stale" and same in self._answers:
            return self._answers[same]
        answer = self._pass_on(request)
        if request.command in ("GET", "HEAD"):
            self._answers.setdefault(same, answer)
        if harm is not None and harm.kind == "lie":
            return _Answer(harm.status, [], b"")
        if harm is not None and harm.kind == "shorten":
            kept = [(name, text) for name, text in answer.headers if name != "Content-Length"]
            return _Answer(answer.status, [*kept, ("Content-Length", str(harm.size))], answer.body[: harm.size])
        return answer

    def _pass_on(self, request: _Request) -> _Answer:
        line = HTTPConnection(*self._behind)
        try:
            told = {name: text for name, text in request.headers.items() if name.lower() != self._deaf_to}
            line.request(request.command, request.path, body=request.body, headers=told)
            came: HTTPResponse = line.getresponse()
            body = came.read()
            headers = [(name, text) for name, text in came.getheaders() if name.lower() not in _OF_ONE_LINE]
            length = came.getheader("Content-Length") if request.command == "HEAD" else None
            headers.append(("Content-Length", length or str(len(body))))
            return _Answer(came.status, headers, body)
        finally:
            line.close()


class _Listener(ThreadingHTTPServer):
    """Takes the calls, and knows the open lines, so that it can end them."""

    daemon_threads = False

    def __init__(self, address: tuple[str, int], proxy: Proxy) -> None:
        super().__init__(address, _Request)
        self.proxy = proxy
        self._lines: list[socket.socket] = []

    def get_request(self) -> tuple[socket.socket, object]:
        """Take a call."""
        line, caller = super().get_request()
        self._lines.append(line)
        return line, caller

    def hang_up(self) -> None:
        """End all lines, so that the threads which listen at them end too."""
        for line in self._lines:
            with suppress(OSError):  # the other side has
                line.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Take no notice of a client that hung up."""


class _Request(BaseHTTPRequestHandler):
    """One line, and the requests that come over it."""

    protocol_version = "HTTP/1.1"
    server: _Listener
    body: bytes = b""

    def do_GET(self) -> None:
        """Take a request of any method."""
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with suppress(OSError):  # the client has hung up
            self.server.proxy.take(self)

    do_DELETE = do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815  (the library's names)

    def reply(self, answer: _Answer, harm: Harm | None) -> None:
        """Give an answer, or a part of it, or none."""
        kind = harm.kind if harm is not None else ""
        size = harm.size if harm is not None and kind == "cut" else len(answer.body)
        if kind != "lose":
            self.send_response_only(answer.status)
            for name, text in answer.headers or [("Content-Length", "0")]:
                self.send_header(name, text)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body[:size])
            self.wfile.flush()
        if kind in ("lose", "cut"):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the library's name)
        """Say nothing."""
