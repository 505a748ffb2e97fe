"""What becomes of body bytes before the caller gets them: decoded where a host compressed them, bounded when collected."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from tieline.transport.base import TransportError
from tieline.types.call import Headers

_PIECE = 65_536
_MAX_PER_SEGMENT = 16 * 1024 * 1024
"""A segment read from the socket is at most 256 KiB; more than this out of one is a decompression bomb."""


class Inflater:
    """We ask for ``identity``, yet some hosts compress all the same. Feeds the decoded body to ``sink`` in pieces of at most 64 KiB. Raises TransportError on a bad body."""

    def __init__(self, coding: bytes, sink: Callable[[bytes], object]) -> None:
        self._coding = coding.strip().lower()
        if self._coding not in (b"gzip", b"x-gzip", b"deflate"):
            name = coding[:40].decode("latin-1")
            raise TransportError(
                "protocol", f"the body has the coding {name!r}, which was not asked for", sent=True
            )
        self._sink = sink
        self._stream: zlib._Decompress | None = None

    def feed(self, data: bytes) -> None:
        made = 0
        try:
            while data:
                if self._stream is None or self._stream.eof:
                    self._stream = self._open(data)
                piece = self._stream.decompress(data, _PIECE)
                data = self._stream.unused_data or self._stream.unconsumed_tail
                made += len(piece)
                if made > _MAX_PER_SEGMENT:
                    raise TransportError("too_large", "the compressed body expands without bound", sent=True)
                if piece:
                    self._sink(piece)
        except zlib.error as error:
            raise TransportError("protocol", f"the compressed body is damaged: {error}", sent=True) from error

    def finish(self) -> None:
        """Raises ``reset`` when the compressed stream lacks its end."""
        if self._stream is not None and not self._stream.eof:
            raise TransportError("reset", "the compressed body ended early", sent=True)

    def _open(self, data: bytes) -> zlib._Decompress:
        if self._coding != b"deflate":
            return zlib.decompressobj(16 + zlib.MAX_WBITS)
        # "deflate" means zlib (RFC 9110, 8.4.1.2), yet some servers send it raw; a zlib header has method 8.
        return zlib.decompressobj(zlib.MAX_WBITS if data[0] & 0x0F == 8 else -zlib.MAX_WBITS)


class Collected:
    """A sink that keeps everything up to ``limit`` bytes, and raises ``too_large`` beyond."""

    __slots__ = ("_left", "limit", "pieces")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.pieces: list[bytes] = []
        self._left = limit

    def add(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise too_large(self.limit)
        self.pieces.append(data)


class Piped:
    """A response that is never complete when its head is there, and whose ``read`` is a ``pipe`` into memory."""

    complete = False
    headers: Headers

    def mentions(self, text: bytes) -> bool:
        return any(text in name or text in value.lower() for name, value in self.headers)

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key == name), None)

    async def read(self, limit: int) -> bytes:
        collected = Collected(limit)
        await self.pipe(collected.add)
        return b"".join(collected.pieces)

    async def pipe(self, on_data: Callable[[bytes], None]) -> None:
        raise NotImplementedError


def too_large(limit: int) -> TransportError:
    return TransportError("too_large", f"the body is larger than {limit} bytes", sent=True)
