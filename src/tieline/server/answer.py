"""How an answer is written on a connection: its head, its pieces, its end."""

from __future__ import annotations

import asyncio
import http
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from tieline.types.call import Headers

if TYPE_CHECKING:
    from tieline.server.asgi import Cycle
    from tieline.server.door import Door

JOIN_BELOW: Final = 65_536
"""A body this small is copied behind its head."""
_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus
}
_CHUNK_LINES: Final = [b"%x\r\n" % size for size in range(1024)]
_WITHOUT_BODY: Final = (204, 304)


class Answer:
    """The way back for one request; ``types.call.Reply``."""

    __slots__ = (
        "begin",
        "bodiless",
        "chunked",
        "cycle",
        "door",
        "drained",
        "ended",
        "head",
        "keep_alive",
        "lingers",
        "old",
        "started",
        "task",
    )

    def __init__(self, door: Door, keep_alive: bool, *, old: bool) -> None:
        self.door = door
        self.keep_alive = keep_alive
        self.old = old
        """HTTP/1.0: no chunks, and staying open must be said."""
        self.started = False
        self.ended = False
        self.chunked = False
        self.bodiless = False
        self.lingers = False
        self.head = b""
        self.task: asyncio.Task[Any] | None = None
        self.cycle: Cycle | None = None
        self.begin: Callable[[], None] | None = None
        """Of a pipelined request, until its turn."""
        self.drained: Callable[[], None] | None = None

    def start(self, status: int, headers: Headers, length: int | None) -> None:
        self.started = True
        door = self.door
        if door.closing and door.replies and door.replies[-1] is self and not door.receiving:
            self.keep_alive = False
        parts = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
        parts.append(door.hall.usual_lines(door.server_state.default_headers))
        for name, value in headers:
            parts.append(b"%b: %b\r\n" % (name, value))
        if length is not None:
            parts.append(b"content-length: %d\r\n" % length)
        elif status in _WITHOUT_BODY:
            self.bodiless = True
        elif self.old:
            self.keep_alive = False
        elif not self.bodiless:
            self.chunked = True
            parts.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        elif self.old:
            parts.append(b"connection: keep-alive\r\n")
        parts.append(b"\r\n")
        self.head = b"".join(parts)

    def write(self, data: bytes) -> bool:
        door = self.door
        if self.ended:  # the next answer on this connection may have begun
            return True
        if self.bodiless:
            data = b""
        elif self.chunked and data:
            size = len(data)
            line = _CHUNK_LINES[size] if size < len(_CHUNK_LINES) else b"%x\r\n" % size
            data = b"%b%b\r\n" % (line, data)
        if self.head:
            head, self.head = self.head, b""
            if len(data) < JOIN_BELOW:
                data = head + data
            else:
                door.send(head)
        if data:
            door.send(data)
        return not door.paused

    def whole(self, status: int, headers: Headers, body: bytes) -> None:
        self.start(status, headers, len(body))
        self.write(body)
        self.end()

    def on_drain(self, callback: Callable[[], None] | None) -> None:
        self.drained = callback

    def end(self) -> None:
        if self.ended:
            return
        self.ended = True
        door = self.door
        last = self.head
        if self.chunked:
            last += b"0\r\n\r\n"
        self.head = b""
        if last:
            door.send(last)
        self.drained = None
        if self.lingers:
            door.linger()
        else:
            door.finished(self)

    def fail(self) -> None:
        """What was begun cannot be finished: the connection breaks, so that nobody takes it for whole."""
        if not self.ended:
            self.ended = True
            self.door.transport.abort()

    def lost(self) -> None:
        """The caller went away."""
        self.drained = None
        if self.cycle is not None:
            self.cycle.leave()
        if self.task is not None and not self.ended:
            self.ended = True
            self.task.cancel()
