"""A small real server of the OpenAI-compatible protocol on 127.0.0.1, with faults to order."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DIMENSIONS = 64


@dataclass
class Answer:
    """What goes over the wire."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    promised: int | None = None
    """Content-Length, where it is not the truth."""
    stall_before_last_byte: bool = False
    """Hold the last byte back until the server closes."""


@dataclass
class Asked:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


def chat(content: str | None, **choice: Any) -> Answer:
    message = {"role": "assistant", "content": content, **choice.pop("message", {})}
    return Answer(
        json.dumps(
            {
                "choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}],
                "usage": {"prompt_tokens": 120, "completion_tokens": 30, "total_tokens": 150},
            }
        ).encode()
    )


def zipped(answer: Answer) -> Answer:
    return Answer(gzip.compress(answer.body), answer.status, {"content-encoding": "gzip"})


def bag(text: str) -> list[float]:
    """Words hashed into a vector: alike texts lie near each other."""
    row = [0.0] * DIMENSIONS
    for word in text.lower().split():
        row[hashlib.sha256(word.encode()).digest()[0] % DIMENSIONS] += 3.0
    return row


def vectors(rows: list[list[float]]) -> Answer:
    # In reverse: the protocol orders by index, not by place.
    data = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)]
    body = {"data": data[::-1], "usage": {"prompt_tokens": len(rows), "total_tokens": len(rows)}}
    return Answer(json.dumps(body).encode())


def honest(asked: Asked) -> Answer:
    """Answer as a well-behaved server does."""
    if asked.path.endswith("/embeddings"):
        return vectors([bag(text) for text in asked.body["input"]])
    fenced = asked.body["messages"][1]["content"].split("\n")
    said = " ".join(fenced[1:-1])[:100].strip() + "."
    return zipped(chat(said))


class ChatServer:
    def __init__(self) -> None:
        self.answer: Callable[[Asked], Answer] = honest
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                asked = Asked(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                outer.asked.append(asked)
                outer.send(self, outer.answer(asked))

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def send(self, handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        handler.send_response(answer.status)
        length = len(answer.body) if answer.promised is None else answer.promised
        headers = {"content-length": str(length), "connection": "close", **answer.headers}
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.close_connection = True
        try:
            if answer.stall_before_last_byte:
                handler.wfile.write(answer.body[:-1])
                handler.wfile.flush()
                self.closing.wait()
            else:
                handler.wfile.write(answer.body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client under test hung up, as it should


@contextmanager
def serving() -> Iterator[ChatServer]:
    server = ChatServer()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.http.shutdown()
        server.http.server_close()
        thread.join()


def length(row: list[float]) -> float:
    return math.hypot(*row)
