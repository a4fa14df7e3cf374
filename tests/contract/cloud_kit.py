"""Servers that speak as much of Google's and of Azure's object storage as is asked of them here, for want of real ones.

What they answer follows the documents of the two (Cloud Storage XML API; Blob service REST API, 2023-11-03). What a
cloud does beyond those, nothing here can show. Keys and signatures are not looked at.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import ClassVar, Final
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from torpor.stores import Options

PAGE: Final = 700
"""Objects in one answer of a list."""


class Cloud(BaseHTTPRequestHandler):
    """What both have in common: objects by name, and their parts. Each server has a class of its own."""

    protocol_version = "HTTP/1.1"
    objects: ClassVar[dict[str, bytes]]
    parts: ClassVar[dict[str, bytes]]
    turn: ClassVar[Lock]
    depth: ClassVar[int]

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        self.name = "/".join(unquote(parts.path).split("/")[self.depth + 1 :])
        with self.turn:
            self.take(body)

    do_DELETE = do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815  (the library's names)

    def take(self, body: bytes) -> None:
        raise NotImplementedError

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the library's name)
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", headers.get("length", str(len(body))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def give(self) -> None:
        """Answer with an object, or the part of it that was asked for."""
        content = self.objects.get(self.name)
        if content is None:
            return self.answer(404)
        known = {"ETag": '"1"', "Last_Modified": formatdate(usegmt=True)}
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        if part is None:
            body = content if self.command == "GET" else bytes(len(content))
            return self.answer(200, body, **known)
        first, last = int(part[1]), min(int(part[2]), len(content) - 1)
        if first > last:
            return self.answer(416)
        return self.answer(
            206, content[first : last + 1], Content_Range=f"bytes {first}-{last}/{len(content)}", **known
        )

    def page(self, prefix: str, start: str) -> tuple[list[str], str]:
        """Return names from `start` on, and where the next page starts; "" at the end."""
        found = sorted(name for name in self.objects if name.startswith(prefix) and name >= start)
        return found[:PAGE], (found[PAGE] if len(found) > PAGE else "")


class Google(Cloud):
    """`/bucket/name`."""

    depth = 1

    def take(self, body: bytes) -> None:
        match self.command:
            case "PUT" | "POST":
                self.put(body)
            case "DELETE":
                self.answer(204 if self.objects.pop(self.name, None) is not None else 404)
            case _ if "list-type" in self.query:
                self.list()
            case _:
                self.give()

    def put(self, body: bytes) -> None:
        if "uploads" in self.query:
            return self.answer(200, _xml("InitiateMultipartUploadResult", "<UploadId>1</UploadId>"))
        if "partNumber" in self.query:
            self.parts[f"{self.name}?{int(self.query['partNumber']):06}"] = body
            return self.answer(200, ETag='"1"')
        if "uploadId" in self.query:
            body = b"".join(self.parts.pop(name) for name in sorted(self.parts) if name.startswith(f"{self.name}?"))
            self.objects[self.name] = body
            return self.answer(200, _xml("CompleteMultipartUploadResult", "<ETag>1</ETag>"))
        if self.headers.get("x-goog-if-generation-match") == "0" and self.name in self.objects:
            return self.answer(412)
        self.objects[self.name] = body
        return self.answer(200, ETag='"1"', x_goog_generation="1")

    def list(self) -> None:
        token, after = self.query.get("continuation-token", ""), self.query.get("start-after", "")
        names, more = self.page(self.query.get("prefix", ""), token or (after and f"{after}\0"))
        found = [
            f"<Contents><Key>{escape(name)}</Key><LastModified>{_iso()}</LastModified>"
            f"<Size>{len(self.objects[name])}</Size><ETag>1</ETag></Contents>"
            for name in names
        ]
        token = f"<NextContinuationToken>{escape(more)}</NextContinuationToken>" if more else ""
        self.answer(200, _xml("ListBucketResult", "".join(found) + token))


class Unordered(Google):
    """Lists in no order, as the directory buckets of S3 do."""

    def page(self, prefix: str, start: str) -> tuple[list[str], str]:
        names, more = super().page(prefix, start)
        return names[::-1], more


class Azure(Cloud):
    """`/account/container/name`."""

    depth = 2

    def take(self, body: bytes) -> None:
        match self.command, self.query.get("comp"):
            case "PUT", comp:
                self.put(comp, body)
            case "POST", "batch":
                self.delete(body)
            case _, "list":
                self.list()
            case _:
                self.give()

    def put(self, comp: str | None, body: bytes) -> None:
        if comp == "block":
            self.parts[self.query["blockid"]] = body
            return self.answer(201)
        if comp == "blocklist":
            self.objects[self.name] = b"".join(
                self.parts.pop(name) for name in re.findall(r">([^<>]+)</(?:Latest|Uncommitted)>", body.decode())
            )
            return self.answer(201, ETag='"1"')
        if self.headers.get("If-None-Match") == "*" and self.name in self.objects:
            return self.answer(409, x_ms_error_code="BlobAlreadyExists")
        self.objects[self.name] = body
        return self.answer(201, ETag='"1"')

    def delete(self, body: bytes) -> None:
        answers = []
        for number, path in enumerate(re.findall(r"DELETE (\S+) HTTP", body.decode())):
            there = self.objects.pop("/".join(unquote(path).split("/")[3:]), None) is not None
            status = "202 Accepted" if there else "404 The specified blob does not exist."
            code = "" if there else "x-ms-error-code: BlobNotFound\r\n"
            head = f"--b\r\nContent-Type: application/http\r\nContent-ID: {number}\r\n\r\n"
            answers.append(f"{head}HTTP/1.1 {status}\r\n{code}\r\n\r\n")
        self.answer(202, ("".join(answers) + "--b--").encode(), Content_Type="multipart/mixed; boundary=b")

    def list(self) -> None:
        start = self.query.get("marker") or self.query.get("startFrom", "")
        names, more = self.page(self.query.get("prefix", ""), start)
        found = [
            f"<Blob><Name>{escape(name)}</Name><Properties><Last-Modified>{formatdate(usegmt=True)}</Last-Modified>"
            f"<Etag>1</Etag><Content-Length>{len(self.objects[name])}</Content-Length>"
            "<Content-Type>application/octet-stream</Content-Type></Properties></Blob>"
            for name in names
        ]
        marker = f"<NextMarker>{escape(more)}</NextMarker>" if more else "<NextMarker/>"
        self.answer(200, _xml("EnumerationResults", f"<Blobs>{''.join(found)}</Blobs>{marker}"))


def _xml(name: str, inside: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?><{name}>{inside}</{name}>'.encode()


def _iso() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@contextmanager
def serving(kind: type[Cloud]) -> Iterator[Options]:
    """Run a server of its own on this machine, and give the options to speak to it."""
    handler = type(kind.__name__, (kind,), {"objects": {}, "parts": {}, "turn": Lock(), "timeout": 5})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True  # obstore keeps its lines open
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield _options(kind, f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        thread.join()
        server.socket.close()


def _options(kind: type[Cloud], address: str) -> Options:
    if issubclass(kind, Google):
        return Options(config={"base_url": address, "bearer_token": "secret"}, allow_http=True, retries=0)
    key = base64.b64encode(b"secret").decode()
    config = {"endpoint": f"{address}/account", "account_name": "account", "account_key": key}
    return Options(config=config, allow_http=True, retries=0)
