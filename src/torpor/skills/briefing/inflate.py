"""Compressed answers, unpacked a little at a time: no small answer becomes a huge one in memory.

httpx unpacks whole network chunks: 64 KiB of gzip become up to 64 MiB at once. zlib's own limit on
the length of its output stops earlier: no call here returns more than `_PIECE` bytes.

Formats: gzip (RFC 1952, several members), zlib and raw deflate, both of which servers send as
«deflate» (RFC 9110 §8.4.1.2).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

ENCODINGS = ("gzip", "x-gzip", "deflate", "identity", "")
"""The content codings that can be read."""

ACCEPTED = "gzip, deflate"
"""What is asked for."""

_PIECE = 64 * 1024
_ANY_HEADER = zlib.MAX_WBITS | 32
_RAW = -zlib.MAX_WBITS


class Damaged(Exception):
    """The compressed bytes are damaged, or end too early."""


class Inflater:
    """Unpacks one answer."""

    def __init__(self, encoding: str) -> None:
        """Begin.

        Args:
            encoding: one of `ENCODINGS`.

        """
        self._plain = encoding in {"", "identity"}
        self._gzip = encoding in {"gzip", "x-gzip"}
        self._stream = None if self._plain else zlib.decompressobj(_ANY_HEADER)
        self._started = False
        self._ended = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what a piece of the answer unpacks to, in small pieces.

        The caller may stop at any time; the rest is then never unpacked.

        Args:
            data: the next bytes of the answer, as they came.

        Raises:
            Damaged: they are not what they should be.

        """
        if self._stream is None:
            yield data
            return
        while data and not self._ended:
            try:
                piece = self._inflate(data)
            except zlib.error as error:
                raise Damaged(str(error)) from None
            if piece:
                yield piece
            data = self._next_member() if self._stream.eof else self._stream.unconsumed_tail

    def close(self) -> None:
        """Say that the answer is complete.

        Raises:
            Damaged: the compressed data isn't.

        """
        if self._stream is not None and self._started and not (self._stream.eof or self._ended):
            raise Damaged("it ends in the middle")

    def _inflate(self, data: bytes) -> bytes:
        stream = self._stream
        if stream is None:
            return data
        first, self._started = not self._started, True
        try:
            return stream.decompress(data, _PIECE)
        except zlib.error:
            if not first or self._gzip:
                raise
            # «deflate» without zlib's header.
            self._stream = zlib.decompressobj(_RAW)
            return self._stream.decompress(data, _PIECE)

    def _next_member(self) -> bytes:
        rest = self._stream.unused_data if self._stream is not None else b""
        if self._gzip and rest.startswith(b"\x1f"):
            self._stream = zlib.decompressobj(_ANY_HEADER)
            return rest
        # Padding after the end is nobody's data.
        self._ended = True
        return b""
