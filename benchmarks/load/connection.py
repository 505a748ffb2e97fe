"""One client connection of the load generators: sends a request, times what comes back, calls when it is complete."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import struct
import time
from array import array
from collections.abc import Callable
from typing import Any

import httptools

from benchmarks.load.content import FirstContent

_TAIL = 512
"""Bytes of a stream's end that are kept to see its terminator; a gateway may add a comment after it."""
_TERMINATORS = (b"[DONE]", b"message_stop", b"response.completed")
now = time.perf_counter


class Connection(asyncio.Protocol):
    """Used by one request at a time. ``done`` is called with the connection when the answer is complete, or when the
    connection is lost while one was awaited (then ``ok`` is false)."""

    def __init__(self, done: Callable[[Connection], None], *, gaps: array[float] | None = None) -> None:
        self.done = done
        self.gaps = gaps
        self.busy = False
        self.first_piece: Callable[[Connection], None] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def send(self, request: bytes, *, intended: float | None = None, stream: bool = False) -> None:
        """``intended`` is when the request should have left: latency counts from there, however late it is sent."""
        self.parser = httptools.HttpResponseParser(self)
        self.busy, self.stream = True, stream
        self.status = self.reads = self.events = self.body_bytes = 0
        self.tail, self.retry_after = b"", False
        self.sent = now()
        self.intended = self.sent if intended is None else intended
        self.first_content = self.last = 0.0
        self.looking = FirstContent() if stream else None
        self.transport.write(request)

    @property
    def ok(self) -> bool:
        """A 200, complete, and for a stream one that said something and ended with its terminator."""
        ended = not self.stream or (
            self.first_content > 0.0 and any(mark in self.tail for mark in _TERMINATORS)
        )
        return not self.busy and self.status == 200 and ended

    def data_received(self, data: bytes) -> None:
        if not self.busy:
            return
        self.reads += 1
        self.piece = data
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def on_headers_complete(self) -> None:
        """Only a refusal's headers are looked at, and by their bytes: a call for every header would cost more."""
        self.retry_after = self.parser.get_status_code() == 503 and b"retry-after:" in self.piece.lower()

    def on_body(self, data: bytes) -> None:
        self.body_bytes += len(data)
        if not self.stream:
            return
        at = now()
        if self.last == 0.0:
            if self.first_piece is not None:
                self.first_piece(self)
        elif self.gaps is not None:
            self.gaps.append(at - self.last)
        if self.looking is not None and self.looking.found_in(data):
            self.first_content, self.looking = at, None
        self.last = at
        self.events += data.count(b"\n\n") + (data[:1] == b"\n" and self.tail[-1:] == b"\n")
        self.tail = data[-_TAIL:] if len(data) >= _TAIL else (self.tail + data)[-_TAIL:]

    def on_message_complete(self) -> None:
        self.finished = now()
        self.status = self.parser.get_status_code()
        self.busy = False
        self.done(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.busy:
            self.finished = now()
            self.status = 0
            self.done(self)
            self.busy = False


async def connect(host: str, port: int, connection: Connection) -> Connection:
    await asyncio.get_running_loop().create_connection(lambda: connection, host, port)
    return connection


def http_request(host: str, port: int, path: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"host: {host}:{port}", "content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


def quantiles(values: array[float] | list[float], scale: float = 1e6) -> dict[str, float]:
    """p50, p99, p99.9, mean and maximum, by nearest rank; seconds become microseconds by default."""
    ordered = sorted(values)
    if not ordered:
        return {}
    last = len(ordered) - 1
    ranks = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    found = {
        name: round(ordered[min(last, int(rank * len(ordered)))] * scale, 1) for name, rank in ranks.items()
    }
    return found | {"mean": round(sum(ordered) / len(ordered) * scale, 1)}


class Ticker:
    """Calls back at times that the event loop's own timers, whole milliseconds in libuv, are too coarse for: a Linux
    timerfd watched by the loop. ``os.timerfd_create`` exists only from Python 3.13 on."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, interval_s: float, callback: Callable[[], None]
    ) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._loop, self._callback = loop, callback
        self._fd = libc.timerfd_create(1, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        seconds, nanoseconds = divmod(int(interval_s * 1e9), 1_000_000_000)
        spec = struct.pack("qqqq", seconds, nanoseconds, seconds, nanoseconds)
        if libc.timerfd_settime(self._fd, 0, spec, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        loop.add_reader(self._fd, self._fire)

    def _fire(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)
        self._callback()

    def stop(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
