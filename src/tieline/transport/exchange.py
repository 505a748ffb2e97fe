"""One request under way on a connection, and its response: the ``UpstreamResponse`` of ``http1``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tieline.transport.base import TransportError
from tieline.transport.body import Collected, Inflater, too_large
from tieline.types.call import Headers

if TYPE_CHECKING:
    from tieline.transport.connection import Connection

_MAX_UNCLAIMED: Final = 262_144
"""Body bytes kept before ``read`` or ``pipe`` is called; beyond it the socket is not read (it may overrun once)."""


class Exchange:
    __slots__ = (
        "_buffered",
        "_claimed",
        "_coding",
        "_connection",
        "_error",
        "_head",
        "_headers",
        "_held",
        "_loop",
        "_lower",
        "_sink",
        "_unclaimed",
        "_waiter",
        "arrived",
        "bodiless",
        "complete",
        "status",
    )

    def __init__(self, connection: Connection, loop: asyncio.AbstractEventLoop, bodiless: bool) -> None:
        self.status = 0
        self._head = b""
        self._lower = b""
        self._headers: Headers | None = None
        self.arrived: asyncio.Future[None] = loop.create_future()
        """Done when the headers are in or never will be; it carries no exception, ``error`` does."""
        self.bodiless = bodiless
        self.complete = False
        self._loop = loop
        self._connection: Connection | None = connection
        self._error: BaseException | None = None
        self._buffered: list[bytes] = []
        self._unclaimed = 0
        self._claimed = False
        self._held = False
        self._sink: Callable[[bytes], object] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._coding: bytes | None = None

    # The caller's side

    @property
    def headers(self) -> Headers:
        """Read when somebody asks: of most answers nobody does."""
        if self._headers is None:
            self._headers = headers_of(self._head, self._lower)
        return self._headers

    def mentions(self, text: bytes) -> bool:
        return self._lower.find(text) >= 0  # `in` first tries whether it is a number, which raises

    def header(self, name: bytes) -> bytes | None:
        if self._headers is not None:
            for key, value in self._headers:
                if key == name:
                    return value
            return None
        at = self._lower.find(b"\r\n%b:" % name)
        if at < 0:
            return None
        start = at + len(name) + 3
        end = self._lower.find(b"\r\n", start)
        return self._head[start : end if end >= 0 else len(self._head)].strip()

    async def read(self, limit: int) -> bytes:
        if self.complete and self._coding is None and not self._claimed:
            self._claimed = True
            body = self._buffered[0] if len(self._buffered) == 1 else b"".join(self._buffered)
            if len(body) > limit:
                raise too_large(limit)
            return body
        length = self.header(b"content-length")
        if length is not None and int(length) > limit and not self.bodiless:
            self.abort(too_large(limit))
        collected = Collected(limit)
        await self.pipe(collected.add)
        return b"".join(collected.pieces)

    async def pipe(self, on_data: Callable[[bytes], None]) -> None:
        if self._claimed:
            raise RuntimeError("the body was already taken")
        self._claimed = True
        try:
            inflater = None if self._coding is None else Inflater(self._coding, on_data)
            self._attach(on_data if inflater is None else inflater.feed)
            if not self._ended:
                self._waiter = self._loop.create_future()
                await self._waiter
            if self._error is not None:
                raise self._error
            if inflater is not None:
                inflater.finish()
        except BaseException:
            self.close()
            raise
        finally:
            # A traceback kept by someone must not keep the caller's callback and the body alive.
            self._sink = None

    def pause(self) -> None:
        if self._connection is not None:
            self._held = True
            self._connection.hold()

    def resume(self) -> None:
        self._held = False
        if self._connection is not None and (self._claimed or self._unclaimed <= _MAX_UNCLAIMED):
            self._connection.unhold()

    def abort(self, error: BaseException) -> None:
        if self._connection is not None:
            self._connection.fail(error)

    def close(self) -> None:
        if self._connection is not None:
            self.abort(TransportError("closed", "the response was closed", sent=True))

    # The connection's side

    def on_head(self, status: int, head: bytes) -> None:
        """``head`` is what the parser has found to be good, without the empty line."""
        self.status = status
        self._head = head
        self._lower = head.lower()
        if self.mentions(b"content-encoding"):
            self._note_coding()
        if not self.arrived.done():
            self.arrived.set_result(None)

    def on_body(self, data: bytes) -> None:
        """What it raises is the caller's own, and ends the exchange."""
        if self._sink is not None:
            self._sink(data)
            return
        self._buffered.append(data)
        self._unclaimed += len(data)
        if self._unclaimed > _MAX_UNCLAIMED and self._connection is not None:
            self._connection.hold()

    def settle(self, error: BaseException | None) -> None:
        """The connection's last word: the body is complete, or failed with ``error``."""
        self._connection = None
        self._error = error
        self.complete = error is None
        if not self.arrived.done():
            self.arrived.set_result(None)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _note_coding(self) -> None:
        headers = self.headers
        coding = None
        for name, value in headers:
            if name == b"content-encoding":
                coding = value
        if coding is not None and coding.lower() != b"identity" and not self.bodiless:
            # What is left in the headers then describes what read() and pipe() give.
            self._coding = coding
            self._headers = [
                pair for pair in headers if pair[0] not in (b"content-encoding", b"content-length")
            ]

    @property
    def error(self) -> BaseException | None:
        return self._error

    @property
    def is_until_eof(self) -> bool:
        """The body ends where the connection ends (RFC 9112, 6.3)."""
        fields = dict(self.headers)
        coding = fields.get(b"transfer-encoding")
        if coding is not None:
            return not coding.lower().endswith(b"chunked")
        return self.status != 0 and b"content-length" not in fields

    @property
    def _ended(self) -> bool:
        return self._connection is None

    def _attach(self, sink: Callable[[bytes], object]) -> None:
        buffered, self._buffered = self._buffered, []
        self._sink = sink
        for piece in buffered:
            sink(piece)
        if self._connection is not None and not self._held:
            self._connection.unhold()


def headers_of(head: bytes, lower: bytes) -> Headers:
    """The header fields of a message; the first line is not one. What stands in them was checked by the parser."""
    headers: Headers = []
    lines, lowered = head.split(b"\r\n"), lower.split(b"\r\n")
    for at in range(1, len(lines)):
        line = lines[at]
        colon = line.find(b":")
        headers.append((lowered[at][:colon], line[colon + 1 :].strip()))
    return headers
