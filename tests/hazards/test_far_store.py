"""A store far away: silent, refusing, talking nonsense or cut off. It is said so, and nothing half made is left."""

from __future__ import annotations

import itertools
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, Self

import msgspec
import pytest
from tests.contract.store_kit import (
    ARCHIVE,
    COLD,
    KEYS,
    content_of,
    files,
    new_bucket,
    serving_s3,
    speaking_to,
    wanted,
)

from torpor.base import faults
from torpor.base.errors import (
    CopyMissing,
    StoreUnreachable,
)
from torpor.base.limits import MIB
from torpor.stores.shelves import PART, RANGE
from torpor.stores.stores import Store, open_store
from torpor.testing.chance import Seeded


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with serving_s3() as address:
        yield address


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(content_of(300_001))
    return path


AnyUse = Callable[[Store, Path], object]
USES: dict[str, AnyUse] = {
    "put": lambda store, folder: store.put(COLD, str(folder / "source"), name="ada"),
    "put an archive": lambda store, folder: store.put(ARCHIVE, str(folder / "source"), name="ada"),
    "get": lambda store, folder: store.get(COLD, str(folder / "target"), wanted(b"x" * 9)),
    "has": lambda store, _: store.has(COLD),
    "delete": lambda store, _: store.delete(COLD),
}


def refused(use: AnyUse, store: Store, folder: Path) -> StoreUnreachable:
    with pytest.raises(StoreUnreachable) as failed:
        use(store, folder)
    assert "\n" not in failed.value.reason
    assert len(failed.value.reason) <= 300
    assert "secret" not in str(failed.value)
    assert not (folder / "target").exists()
    return failed.value


@pytest.mark.parametrize("use", USES)
def test_a_server_that_isnt_there_is_weather(tmp_path: Path, source: Path, use: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closing:
        port = closing.getsockname()[1]
    store = open_store("s3://bucket", str(tmp_path), options=speaking_to(f"http://127.0.0.1:{port}"))
    assert source.exists()
    assert "refused" in refused(USES[use], store, tmp_path).reason


@pytest.mark.parametrize("use", USES)
def test_a_server_that_never_answers_is_weather(tmp_path: Path, source: Path, use: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it listens, and nobody takes the calls
        port = silent.getsockname()[1]
        options = speaking_to(f"http://127.0.0.1:{port}", read_s=0.3)
        store = open_store("s3://bucket", str(tmp_path), options=options)
        assert source.exists()
        assert "in time" in refused(USES[use], store, tmp_path).reason


@pytest.mark.parametrize("use", ["put", "put an archive"])
def test_a_bucket_that_isnt_there_takes_nothing(tmp_path: Path, source: Path, s3: str, use: str) -> None:
    store = open_store("s3://no-such-bucket", str(tmp_path), options=speaking_to(s3))
    assert source.exists()
    assert "no such bucket" in refused(USES[use], store, tmp_path).reason
    with pytest.raises(CopyMissing):
        store.get(COLD, str(tmp_path / "target"), wanted(b"x"))


def test_an_address_without_encryption_has_to_be_allowed(tmp_path: Path, source: Path, s3: str) -> None:
    options = msgspec.structs.replace(speaking_to(s3), allow_http=False)
    store = open_store("s3://bucket", str(tmp_path), options=options)
    assert source.exists()
    assert "AWS_ALLOW_HTTP" in refused(USES["put"], store, tmp_path).reason


@contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """Run a server that gives each call, whatever it asks, the next answer, the last one for ever."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for number in itertools.count():
                with suppress(OSError):
                    caller, _ = server.accept()
                    with caller:
                        take_request(caller)
                        caller.sendall(answers[min(number, len(answers) - 1)])
                if server.fileno() < 0:
                    return

        serving = threading.Thread(target=serve)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            server.close()
            serving.join()


def take_request(caller: socket.socket) -> None:
    caller.settimeout(5)
    taken = b""
    while b"\r\n\r\n" not in taken:
        taken += caller.recv(65_536) or b"\r\n\r\n"
    head, _, body = taken.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    left = int(length[1]) - len(body) if length else 0
    while left > 0:
        left -= len(caller.recv(65_536)) or left


ANSWERS = {
    "forbidden": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnope",
    "unauthorised": b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "broken": b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "slow down": b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "moved": b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "no http": b"220 mail.example ESMTP ready\r\n",
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "very long": b"HTTP/1.1 400 Bad\r\nContent-Length: 9000\r\nConnection: close\r\n\r\n" + b"because\n" * 1125,
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_server_that_says_no_or_talks_nonsense_is_weather(
    tmp_path: Path, source: Path, answer: str, use: str
) -> None:
    assert source.exists()
    with answering(ANSWERS[answer]) as address:
        store = open_store("s3://bucket", str(tmp_path), options=speaking_to(address))
        refused(USES[use], store, tmp_path)


class Line:
    """A line to a server, cut after so many bytes one way. A context manager.

    Args:
        server: its address.

    """

    def __init__(self, server: str) -> None:
        host, port = server.removeprefix("http://").split(":")
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads: list[threading.Thread] = []
        self._ends: list[socket.socket] = []
        self.left = {"there": sys.maxsize, "back": sys.maxsize}

    def cut_after(self, way: Literal["there", "back"], size: int) -> None:
        self.left[way] = size

    def mend(self) -> None:
        self.left = dict.fromkeys(self.left, sys.maxsize)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for end in self._ends:
            hang_up(end)
        for thread in self._threads[1:]:
            thread.join()
        for end in self._ends:
            end.close()

    def _start(self, act: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=act, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._server)
            self._ends += [near, far]
            self._start(self._carry, near, far, "there")
            self._start(self._carry, far, near, "back")

    def _carry(self, start: socket.socket, end: socket.socket, way: str) -> None:
        with suppress(OSError):
            while piece := start.recv(65_536):
                end.sendall(piece[: self.left[way]])
                self.left[way] = max(0, self.left[way] - len(piece))
                if not self.left[way]:
                    break
        hang_up(start)
        hang_up(end)


def hang_up(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("after", [0, 100, 100_000, PART + 100_000])
def test_a_line_that_breaks_while_putting_leaves_nothing_and_can_be_tried_again(
    tmp_path: Path, s3: str, key: str, after: int
) -> None:
    source = tmp_path / "source"
    source.write_bytes(Seeded(4).token(3 * PART))
    url = f"s3://{new_bucket(s3)}/cold"
    with Line(s3) as line:
        store = open_store(url, str(tmp_path), options=speaking_to(line.url))
        line.cut_after("there", after)
        with pytest.raises(StoreUnreachable):
            store.put(key, str(source), name="ada")
        assert not open_store(url, str(tmp_path), options=speaking_to(s3)).has(key)
        line.mend()
        store.put(key, str(source), name="ada")
        store.get(key, str(tmp_path / "target"), wanted(source.read_bytes()))
        line.cut_after("back", 0)
        with pytest.raises(StoreUnreachable):
            store.delete(key)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("after", [0, 100, 100_000, RANGE + 100_000])
def test_a_line_that_breaks_while_getting_leaves_nothing_and_can_be_tried_again(
    tmp_path: Path, s3: str, key: str, after: int
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(Seeded(5).token(RANGE + 3 * MIB))
    url = f"s3://{new_bucket(s3)}/cold"
    with Line(s3) as line:
        store = open_store(url, str(tmp_path), options=speaking_to(line.url))
        store.put(key, str(source), name="ada")
        line.cut_after("back", after)
        with pytest.raises(StoreUnreachable):
            store.get(key, str(target), wanted(source.read_bytes()))
        assert files(tmp_path) == ["source"]
        line.mend()
        store.get(key, str(target), wanted(source.read_bytes()))


def test_a_line_that_breaks_while_reading_back_is_no_proof(tmp_path: Path, s3: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(Seeded(6).token(3 * MIB))
    with Line(s3) as line:
        store = open_store(f"s3://{new_bucket(s3)}", str(tmp_path), options=speaking_to(line.url))
        faults.listen(lambda point: line.cut_after("back", MIB) if point == "store.put" else None)
        try:
            with pytest.raises(StoreUnreachable):
                store.put(COLD, str(source), name="ada")
        finally:
            faults.listen(None)


def test_a_short_break_is_got_over(tmp_path: Path) -> None:
    """With the retries that are usual, one bad answer is not the caller's business."""
    with answering(ANSWERS["slow down"], b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") as address:
        patient = open_store("s3://bucket", str(tmp_path), options=speaking_to(address, retries=3))
        assert not patient.has(COLD)
    with answering(ANSWERS["slow down"], b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") as address:
        impatient = open_store("s3://bucket", str(tmp_path), options=speaking_to(address))
        with pytest.raises(StoreUnreachable):
            impatient.has(COLD)
