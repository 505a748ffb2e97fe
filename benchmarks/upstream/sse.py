"""An upstream that streams: uvloop and httptools, one process. The model's name is its behaviour.

``sse-50-4`` answers with 50 tokens, 4 ms apart; interval 0 writes each event in its own turn of the loop, as fast as it
goes; ``whole-1024`` answers whole with about that many bytes. ``…/chat/completions`` speaks OpenAI Chat, ``…/messages``
Anthropic Messages. Every event is one write on a socket without Nagle, so that it is one segment; whether the reader
sees it alone depends on the reader: with an interval, two pieces merge only when the reader is a whole interval late.
``GET /counts`` tells the streams, events and disconnects so far.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
from functools import cache
from typing import Any

import httptools
import msgspec
import uvloop

from benchmarks.upstream.bodies import anthropic_stream, chat_stream, completion

_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"x-request-id: req_bench\r\ntransfer-encoding: chunked\r\n\r\n"
)


class Asked(msgspec.Struct):
    model: str
    stream: bool = False


_decode = msgspec.json.Decoder(Asked).decode


@cache
def stream_segments(model: str, anthropic: bool) -> tuple[float, tuple[bytes, ...]]:
    """Seconds between segments, and the segments, HTTP framing included. The last events travel together, as they do
    at the vendors: finish, usage and terminator are one segment."""
    _, tokens, interval_ms = model.split("-")
    events = (anthropic_stream if anthropic else chat_stream)(int(tokens), model)
    paced, tail = events[:-3], b"".join(events[-3:])
    segments = [b"%x\r\n%b\r\n" % (len(event), event) for event in (*paced, tail)]
    segments[-1] += b"0\r\n\r\n"
    return float(interval_ms) / 1000, tuple(segments)


@cache
def whole(model: str) -> bytes:
    body = completion(int(model.split("-")[1]), model)
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


class Connection(asyncio.Protocol):
    streams = events = disconnects = 0

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.body: list[bytes] = []
        self.path = b""
        self.left: list[bytes] = []
        self.timer: asyncio.Handle | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, msgspec.DecodeError, ValueError):
            self.transport.write(
                b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
            self.transport.close()

    def on_url(self, url: bytes) -> None:
        self.path = url

    def on_body(self, data: bytes) -> None:
        self.body.append(data)

    def on_message_complete(self) -> None:
        body = b"".join(self.body)
        self.body.clear()
        if self.path == b"/counts":
            self._counts()
            return
        asked = _decode(body)
        if not asked.stream:
            self.transport.write(whole(asked.model))
            return
        self.interval, segments = stream_segments(asked.model, self.path.endswith(b"/messages"))
        self.left = list(reversed(segments))
        Connection.streams += 1
        self.transport.write(_HEAD)
        self._next()

    def _next(self) -> None:
        self.transport.write(self.left.pop())
        Connection.events += 1
        if not self.left:
            self.timer = None
        elif self.interval:
            self.timer = self.loop.call_later(self.interval, self._next)
        else:
            self.timer = self.loop.call_soon(self._next)

    def _counts(self) -> None:
        counts = {
            "streams": Connection.streams,
            "events": Connection.events,
            "disconnects": Connection.disconnects,
        }
        body = json.dumps(counts).encode()
        self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timer is not None:
            self.timer.cancel()
            Connection.disconnects += 1


async def serve(port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    server = await asyncio.get_running_loop().create_server(Connection, sock=listener, backlog=4096)
    print(f"listening on {listener.getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--port", type=int, default=0)
    uvloop.run(serve(arguments.parse_args().port))


if __name__ == "__main__":
    main()
