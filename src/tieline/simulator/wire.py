"""HTTP/1.1 on a socket, with the freedom to do it wrong: cut, reset, stall, split anywhere, lie about lengths."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import cast
from urllib.parse import parse_qsl, unquote

import httptools
from msgspec import Struct, field

from tieline.simulator.exchange import Headers

MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_HEADER_BYTES = 64 * 1024


class HttpRequest(Struct):
    method: str = ""
    path: str = ""
    """Decoded, without query."""
    target: str = ""
    """Path and query as they stood on the wire, for signatures."""
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    keep_alive: bool = True

    @property
    def raw(self) -> bytes:
        return self.body


class ClientGone(Exception):
    """The caller closed the connection before the answer was sent."""


class Wire(asyncio.Protocol):
    """One connection. Requests are answered in order; the answer is written through the methods below."""

    def __init__(self, handle: Callable[[HttpRequest, Wire], Awaitable[None]], open_wires: set[Wire]) -> None:
        self._handle = handle
        self._open_wires = open_wires
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: list[HttpRequest] = []
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._chunked = False
        self._body: list[bytes] = []
        self._size = 0
        self.split = 0
        """Bytes per write; 0 writes whole pieces."""
        self.started = False

    # reading ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._open_wires.add(self)
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._open_wires.discard(self)
        self._writable.set()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self._transport is not None:
                self._transport.write(
                    b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                )
                self._transport.close()

    def on_message_begin(self) -> None:
        self._request = HttpRequest()
        self._body = []
        self._size = 0

    def on_url(self, url: bytes) -> None:
        parsed = httptools.parse_url(url)
        self._request.target = url.decode("latin-1")
        self._request.path = unquote(parsed.path.decode("ascii", "replace"))
        if parsed.query:
            self._request.query = dict(parse_qsl(parsed.query.decode("ascii", "replace")))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._size += len(name) + len(value)
        if self._size > MAX_HEADER_BYTES:
            self.abort()
            return
        self._request.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._size = 0
        if self._request.headers.get("expect", "").lower() == "100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > MAX_BODY_BYTES:
            self.abort()
            return
        self._body.append(body)

    def on_message_complete(self) -> None:
        request = self._request
        request.method = self._parser.get_method().decode("ascii")
        request.keep_alive = self._parser.should_keep_alive()
        request.body = b"".join(self._body)
        self._waiting.append(request)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._serve())

    async def _serve(self) -> None:
        try:
            while self._waiting and self._transport is not None:
                request = self._waiting.pop(0)
                self.split, self.started = 0, False
                await self._handle(request, self)
                if not request.keep_alive:
                    self.close()
        except (ClientGone, asyncio.CancelledError):
            pass
        finally:
            self._task = None

    # writing ------------------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    @property
    def gone(self) -> bool:
        return self._transport is None

    async def start(self, status: int, headers: Headers, length: int | None) -> None:
        """Sends the head; ``length`` None is a chunked body."""
        self.started = True
        self._chunked = length is None
        framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
        lines = [
            f"HTTP/1.1 {status} {_reason(status)}",
            *(f"{name}: {value}" for name, value in headers),
            framing,
        ]
        await self._put("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")

    async def write(self, data: bytes) -> None:
        """Body bytes, as one HTTP chunk for each write."""
        if not data:
            return
        step = self.split or len(data)
        for at in range(0, len(data), step):
            part = data[at : at + step]
            await self._put(b"%x\r\n%b\r\n" % (len(part), part) if self._chunked else part)
            if self.split:
                await asyncio.sleep(0)

    async def end(self) -> None:
        if self._chunked:
            await self._put(b"0\r\n\r\n")

    async def _put(self, data: bytes) -> None:
        if self._transport is None:
            raise ClientGone
        self._transport.write(data)
        await self._writable.wait()

    def close(self) -> None:
        """Ends the connection in an orderly way (FIN), whatever was promised."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Resets the connection (RST)."""
        if self._transport is None:
            return
        raw = self._transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    async def hold(self, seconds: float | None = None) -> None:
        """Does nothing until the caller leaves (this task is then cancelled), or ``seconds`` have passed."""
        await asyncio.sleep(seconds if seconds is not None else 3600)


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
