"""The floor: the least that a Python process can do and still be a model gateway, as fast as it reasonably goes.

It parses HTTP on both sides (httptools), decodes the whole JSON body, swaps the model for the upstream's, re-encodes,
forwards on a pooled keep-alive connection and returns the answer, streams piece by piece as they come. It keeps
backpressure and notices a caller that leaves. It has no keys, limits, routing, health, records, deadlines or retries:
what Tieline takes beyond this figure is the price of its features.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httptools
import msgspec
import uvloop

MAX_IDLE_PER_ORIGIN = 1024
"""Connections kept for reuse; as many as the largest closed-loop cell has streams."""

_HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"upgrade", b"server", b"date")
)
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Upstream(NamedTuple):
    """Where one public model goes; ``head`` is the request's header block, built once."""

    host: str
    port: int
    head: bytes
    model: str
    idle: deque[UpstreamSide]


def load_routes(spec: list[dict[str, str]]) -> dict[str, Upstream]:
    """``[{"public", "base_url", "model"}]`` to the table that the relay looks up."""
    pools: dict[str, deque[UpstreamSide]] = {}
    routes = {}
    for row in spec:
        url = urlsplit(row["base_url"])
        head = (
            f"POST {url.path}/chat/completions HTTP/1.1\r\nhost: {url.netloc}\r\n"
            "content-type: application/json\r\nauthorization: Bearer upstream-key\r\ncontent-length: "
        ).encode()
        idle = pools.setdefault(url.netloc, deque(maxlen=MAX_IDLE_PER_ORIGIN))
        routes[row["public"]] = Upstream(url.hostname or "", url.port or 80, head, row["model"], idle)
    return routes


class UpstreamSide(asyncio.Protocol):
    """One connection to an upstream, lent to one caller at a time."""

    def __init__(self, idle: deque[UpstreamSide]) -> None:
        self.idle = idle
        self.caller: CallerSide | None = None
        self.parser = httptools.HttpResponseParser(self)
        self.out: list[bytes] = []
        self.chunked = self.complete = self.paused = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def on_message_begin(self) -> None:
        self.headers: list[bytes] = []
        self.chunked = True

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-length":
            self.chunked = False
            self.headers.append(b"content-length: " + value + b"\r\n")
        elif name not in _HOP_BY_HOP:
            self.headers.append(name + b": " + value + b"\r\n")

    def on_headers_complete(self) -> None:
        framing = b"transfer-encoding: chunked\r\n\r\n" if self.chunked else b"\r\n"
        self.out.append(
            b"HTTP/1.1 %d OK\r\n%b%b" % (self.parser.get_status_code(), b"".join(self.headers), framing)
        )

    def on_body(self, data: bytes) -> None:
        self.out.append(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def on_message_complete(self) -> None:
        self.complete = True
        if self.chunked:
            self.out.append(b"0\r\n\r\n")

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)
        caller, out = self.caller, self.out
        if caller is not None and out:
            caller.transport.write(out[0] if len(out) == 1 else b"".join(out))
        out.clear()
        if self.complete:
            self.complete = False
            self.caller = None
            if caller is not None:
                caller.upstream = None
            self.pause(False)
            self.idle.append(self)

    def pause(self, paused: bool) -> None:
        if paused is not self.paused:
            self.paused = paused
            (self.transport.pause_reading if paused else self.transport.resume_reading)()

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self.idle:
            self.idle.remove(self)
        if self.caller is not None:
            self.caller.transport.abort()


class CallerSide(asyncio.Protocol):
    """One connection of a caller."""

    routes: dict[str, Upstream]

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.body: list[bytes] = []
        self.upstream: UpstreamSide | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, KeyError, msgspec.DecodeError):
            self.transport.close()

    def on_body(self, data: bytes) -> None:
        self.body.append(data)

    def on_message_complete(self) -> None:
        request = _decode(self.body[0] if len(self.body) == 1 else b"".join(self.body))
        self.body.clear()
        route = self.routes[request["model"]]
        request["model"] = route.model
        body = _encode(request)
        message = b"%b%d\r\n\r\n%b" % (route.head, len(body), body)
        if route.idle:
            self._forward(route.idle.pop(), message)
        else:
            asyncio.get_running_loop().create_task(self._connect(route, message))

    async def _connect(self, route: Upstream, message: bytes) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, side = await loop.create_connection(lambda: UpstreamSide(route.idle), route.host, route.port)
        except OSError:
            self.transport.write(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")
            return
        self._forward(side, message)

    def _forward(self, side: UpstreamSide, message: bytes) -> None:
        side.caller = self
        self.upstream = side
        side.transport.write(message)

    def pause_writing(self) -> None:
        if self.upstream is not None:
            self.upstream.pause(True)

    def resume_writing(self) -> None:
        if self.upstream is not None:
            self.upstream.pause(False)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.upstream is not None:
            self.upstream.caller = None
            self.upstream.transport.abort()


async def serve(port: int, routes: dict[str, Upstream]) -> None:
    CallerSide.routes = routes
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    server = await asyncio.get_running_loop().create_server(CallerSide, sock=listener, backlog=4096)
    print(f"listening on {listener.getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--port", type=int, default=0)
    arguments.add_argument("--routes", type=Path, required=True, help="JSON: [{public, base_url, model}]")
    options = arguments.parse_args()
    uvloop.run(serve(options.port, load_routes(json.loads(options.routes.read_text()))))


if __name__ == "__main__":
    main()
