"""The data plane's door: an asyncio protocol that uvicorn runs in place of its own HTTP implementation.

Requests to the paths of ``dialects/paths.py`` are parsed here and handed to the gateway without any framework. At the
start of any other request the connection is lent to uvicorn's own protocol and comes back at its next request, so one
keep-alive connection may mix both planes.
"""

from __future__ import annotations

import asyncio
import http
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import httptools
from uvicorn.config import Config as UvicornConfig
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from tieline.dialects import paths
from tieline.types.call import Call, Headers
from tieline.types.errors import Fault

if TYPE_CHECKING:
    from tieline.gateway import Gateway

MAX_REQUEST_LINE = 8 * 1024
"""As nginx's default large_client_header_buffers."""
MAX_PIPELINED = 16
LINGER_S = 2.0
"""How long a refused upload is read and thrown away, so that the client gets to see the answer before a reset."""
IDLE_S = 75.0
"""Keep-alive without a request; nginx's default."""
STUCK_WRITE_S = 120.0
"""A caller that takes nothing for this long is gone."""

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus}
_SECRET_HEADERS = {b"authorization", b"x-api-key", b"x-goog-api-key", b"api-key"}
_JSON = b"application/json"


class Door(asyncio.Protocol):
    """One connection. Subclassed with its ``gateway`` by ``door_for``, as uvicorn wants a class."""

    gateway: ClassVar[Gateway]
    routes: ClassVar[dict[bytes, tuple[paths.Door, str, str]]] = {}

    def __init__(
        self,
        config: UvicornConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.loop = _loop or asyncio.get_running_loop()
        self.config = config
        self.app_state = app_state
        self.server_state = server_state
        self.limits = self.gateway.config.server
        self.max_body = self.limits.max_body_mb * 1024 * 1024
        self.max_head = self.limits.max_header_kb * 1024
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.parser = httptools.HttpRequestParser(self)
        self.control: _Control | None = None
        self.replies: deque[_Reply] = deque()
        self.early = b""
        """A request line that is not whole yet."""
        self.url = b""
        self.headers: Headers = []
        self.body: list[bytes] = []
        self.body_bytes = 0
        self.head_bytes = 0
        self.receiving = False
        self.in_head = False
        self.discarding = False
        self.closing = False
        self.paused = False
        self.since = 0.0
        """When the connection entered its present state (receiving, idle, paused), for ``sweep``."""
        self.peer = ""

    # connection -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.server_state.connections.add(self)  # type: ignore[arg-type]
        self.since = self.loop.time()
        name = transport.get_extra_info("peername")
        self.peer = name[0] if isinstance(name, tuple) else ""

    def connection_lost(self, exc: Exception | None) -> None:
        self.server_state.connections.discard(self)  # type: ignore[arg-type]
        self.closing = True
        for reply in self.replies:
            reply.lost()
        self.replies.clear()
        self.parser = None

    def pause_writing(self) -> None:
        self.paused = True
        self.since = self.loop.time()

    def resume_writing(self) -> None:
        self.paused = False
        self.since = self.loop.time()
        if self.replies and self.replies[0].drained is not None:
            self.replies[0].drained()

    def shutdown(self) -> None:
        """uvicorn is stopping: close when the answers under way are out."""
        self.closing = True
        if not self.replies:
            self.transport.close()

    def sweep(self, now: float) -> None:
        """Called every second: ends what waits beyond its bound."""
        waited = now - self.since
        if self.discarding:
            if waited > LINGER_S:
                self.transport.abort()
        elif self.paused:
            if waited > STUCK_WRITE_S:
                self.transport.abort()
        elif self.receiving or self.early:
            if waited > self.limits.receive_timeout_s:
                self.refuse(408, "request_timeout", f"The request was not complete after {self.limits.receive_timeout_s:g} s.")
        elif not self.replies and waited > IDLE_S:
            self.transport.close()

    # receiving --------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self.discarding or self.closing and not self.receiving:
            return
        if not self.receiving and not self.replies:
            if self.early:
                data = self.early + data
                self.early = b""
            else:
                self.since = self.loop.time()
            if not self._is_ours(data):
                return
        if self.in_head or not self.receiving:
            self.head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.refuse(400, "bad_request", "This path does not upgrade to another protocol.")
        except httptools.HttpParserCallbackError:
            raise
        except httptools.HttpParserError as error:
            if not self.discarding:
                self.refuse(400, "bad_request", f"This is not HTTP/1.1: {error}.")
        if self.in_head and self.head_bytes > self.max_head:
            self.refuse(431, "headers_too_large", f"Headers may have {self.limits.max_header_kb} KiB at most.")

    def _is_ours(self, data: bytes) -> bool:
        """Whether the request that starts here is of the data plane; lends the connection away when not."""
        end = data.find(b" ", 5)
        if data.startswith(b"POST ") and end > 0 and self._route(data[5:end]) is not None:
            return True
        if b"\n" not in data and end < 0 and len(data) <= MAX_REQUEST_LINE:
            self.early = data
            return False
        self._lend(data)
        return False

    def _route(self, url: bytes) -> tuple[paths.Door, str, str] | None:
        found = self.routes.get(url)
        if found is None:
            path, _, query = url.decode("latin-1").partition("?")
            door = paths.find(path, query)
            if door is None:
                return None
            found = (door, path, query)
            if len(self.routes) < 512 and not query:
                self.routes[url] = found
        return found

    def _lend(self, data: bytes) -> None:
        if self.control is None:
            self.control = _Control(self)
        self.server_state.connections.discard(self)  # type: ignore[arg-type]
        self.control.connection_made(self.transport)
        self.transport.set_protocol(self.control)
        self.control.data_received(data)

    def take_back(self, data: bytes) -> None:
        self.server_state.connections.add(self)  # type: ignore[arg-type]
        self.transport.set_protocol(self)
        self.data_received(data)

    # parser callbacks -------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self.receiving = self.in_head = True
        self.url = b""
        self.headers = []
        self.body = []
        self.body_bytes = 0

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.in_head = False
        self.head_bytes = 0
        for name, value in self.headers:
            if name == b"content-length" and int(value) > self.max_body:
                self._too_large()
            elif name == b"expect" and value.lower() == b"100-continue" and not self.discarding:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)
        if self.body_bytes > self.max_body:
            self._too_large()
        elif not self.discarding:
            self.body.append(body)

    def on_message_complete(self) -> None:
        self.receiving = False
        self.since = self.loop.time()
        if self.discarding:
            return
        route = self._route(self.url) if self.parser.get_method() == b"POST" else None
        if route is None or len(self.replies) >= MAX_PIPELINED:
            self.closing = True  # a pipelined request for the other plane: unanswered, so the client sends it again
            return
        reply = _Reply(self, self.parser.should_keep_alive(), self.parser.get_http_version() == "1.0")
        call = self._call(route)
        self.replies.append(reply)
        if len(self.replies) == 1:
            self._begin(call, reply)
        else:
            reply.waiting = call
            self.transport.pause_reading()

    def _call(self, route: tuple[paths.Door, str, str]) -> Call:
        door, path, query = route
        secret: bytes | None = None
        for name, value in self.headers:
            if name in _SECRET_HEADERS:
                secret = value[7:] if value[:7].lower() == b"bearer " else value
        body = self.body
        return Call(
            dialect=door.dialect,
            operation=door.operation,
            path=path,
            query=query,
            headers=self.headers,
            body=body[0] if len(body) == 1 else b"".join(body),
            model=door.model,
            stream=door.stream,
            received_at=self.since,
            peer=self.peer,
            secret=secret.decode("latin-1").strip() if secret is not None else None,
        )

    def _begin(self, call: Call, reply: _Reply) -> None:
        task = reply.task = self.loop.create_task(self.gateway.handle(call, reply))
        self.server_state.tasks.add(task)
        task.add_done_callback(self.server_state.tasks.discard)

    def finished(self, reply: _Reply) -> None:
        """An answer is out: the next pipelined request begins, or the connection closes or idles."""
        if self.replies and self.replies[0] is reply:
            self.replies.popleft()
        self.server_state.total_requests += 1
        self.since = self.loop.time()
        if not reply.keep_alive or (self.closing and not self.replies):
            self.transport.close()
        elif self.replies:
            following = self.replies[0]
            call, following.waiting = following.waiting, None
            self._begin(call, following)  # type: ignore[arg-type]
            if len(self.replies) == 1:
                self.transport.resume_reading()

    # refusals before there is a call ------------------------------------------------------------------------------

    def _too_large(self) -> None:
        self.refuse(
            413, "request_too_large", f"The body is larger than server.max_body_mb = {self.limits.max_body_mb} MB."
        )

    def refuse(self, status: int, code: str, message: str) -> None:
        """Answers in the dialect of the path, then closes after a moment of reading on."""
        if self.discarding or self.transport.is_closing():
            return
        path = self.url.decode("latin-1").partition("?")[0]
        body, headers = self.gateway.error_answer(
            paths.dialect_of_path(path), Fault(status=status, code=code, message=message)
        )
        if not self.replies:
            reply = _Reply(self, keep_alive=False, close_delimited=False)
            reply.start(status, headers, len(body))
            reply.write(body)
            reply.flush()
        self.discarding = self.closing = True
        self.since = self.loop.time()
        if self.transport.can_write_eof():
            self.transport.write_eof()


class _Reply:
    """The way back for one request; ``types.call.Reply``."""

    __slots__ = (
        "chunked",
        "close_delimited",
        "door",
        "drained",
        "ended",
        "head",
        "keep_alive",
        "started",
        "task",
        "waiting",
    )

    def __init__(self, door: Door, keep_alive: bool, close_delimited: bool) -> None:
        self.door = door
        self.keep_alive = keep_alive
        self.close_delimited = close_delimited
        self.started = False
        self.ended = False
        self.chunked = False
        self.head = b""
        self.task: asyncio.Task[None] | None = None
        self.waiting: Call | None = None
        self.drained: Callable[[], None] | None = None

    def start(self, status: int, headers: Headers, length: int | None) -> None:
        self.started = True
        if self.door.closing:
            self.keep_alive = False
        parts = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status, *_date_of(self.door.server_state)]
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        if length is not None:
            parts.append(b"content-length: %d\r\n" % length)
        elif self.close_delimited:
            self.keep_alive = False
        else:
            self.chunked = True
            parts.append(b"transfer-encoding: chunked\r\n")
        parts.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        self.head = b"".join(parts)

    def write(self, data: bytes) -> bool:
        door = self.door
        if self.chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        if self.head:
            data, self.head = self.head + data, b""
        if data:
            door.transport.write(data)
        return not door.paused

    def flush(self) -> None:
        if self.head:
            self.write(b"")

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
            door.transport.write(last)
        self.drained = None
        door.finished(self)

    def lost(self) -> None:
        self.drained = None
        if self.task is not None and not self.ended:
            self.ended = True
            self.task.cancel()


def _date_of(state: ServerState) -> list[bytes]:
    """uvicorn renews this list each second."""
    parts: list[bytes] = []
    for name, value in state.default_headers:
        parts += (name, b": ", value, b"\r\n")
    return parts


class _Control(HttpToolsProtocol):
    """uvicorn's protocol for one or more requests of the control plane on a connection that the door lent."""

    def __init__(self, door: Door) -> None:
        super().__init__(door.config, door.server_state, door.app_state, door.loop)
        self.door = door

    def data_received(self, data: bytes) -> None:
        if self.cycle is not None and self.cycle.response_complete and not self.pipeline:
            self._unset_keepalive_if_required()
            self.connections.discard(self)
            self.cycle = None  # type: ignore[assignment]
            self.door.take_back(data)
            return
        super().data_received(data)


def door_for(gateway: Gateway) -> type[Door]:
    return type("Door", (Door,), {"gateway": gateway, "routes": {}})
