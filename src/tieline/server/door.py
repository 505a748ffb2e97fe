"""The process's front door: an asyncio protocol that uvicorn runs in place of its own HTTP implementation.

Requests to the paths of ``dialects/paths.py`` go to the gateway without any framework, every other one to the ASGI
application (``asgi.py``). One parser and one queue of answers serve both, so that a connection may mix the planes in any
order, pipelined too, and the same bounds hold for everything that comes in.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final

import httptools
from uvicorn.config import Config as UvicornConfig
from uvicorn.server import ServerState

from tieline.dialects import paths
from tieline.server.accept import Place
from tieline.server.answer import Answer
from tieline.server.asgi import Cycle, scope_of
from tieline.transport.outbox import Outbox, Sender
from tieline.types.call import Call, Headers, secret_of
from tieline.types.errors import Fault, TielineError, fault_of

if TYPE_CHECKING:
    from tieline.gateway import Gateway

log = logging.getLogger("tieline")

MAX_PIPELINED: Final = 64
"""Requests of one connection that wait for their turn; reading stops at the first, so one segment can hold more."""
MAX_ROUTES: Final = 512
MAX_UNLIKE: Final = 8
"""Requests of one connection whose heads are kept to be compared, when none has come again."""
MAX_OUT: Final = 65_536
"""Bytes that may wait for the end of a turn: the transport must learn soon that the caller does not keep up."""
MAX_DIGITS: Final = 20
"""Of a length. Zeros in front are allowed, and ``int`` reads no more than 4,300."""
STRANGERS_BODY: Final = 1_048_576
"""Bytes of a body that are taken before its key is looked at; else anybody could fill the memory, 20 MB at a time. What is not of
the data plane has no larger one."""
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_NOTED: Final = frozenset((b"content-length", b"expect", b"content-encoding", b"host", b"origin"))
"""What the door itself looks at; of all other headers it only adds up the size."""


class Route:
    """Where a URL leads on the data plane."""

    __slots__ = ("dialect", "model", "operation", "path", "query", "stream")

    def __init__(self, door: paths.Door, path: str, query: str) -> None:
        self.dialect = door.dialect
        self.operation = door.operation
        self.model = door.model
        self.stream = door.stream
        self.path = path
        self.query = query


class Hall:
    """What the connections of one server share."""

    __slots__ = ("_usual", "_usual_lines", "gateway", "outbox", "place", "routes")

    def __init__(self, gateway: Gateway, place: Place) -> None:
        self.gateway = gateway
        self.place = place
        """Where it is told how many connections there are."""
        self.outbox = Outbox()
        self.routes: dict[bytes, Route] = {}
        """Of the URLs that were asked for."""
        self._usual: list[tuple[bytes, bytes]] = []
        self._usual_lines = b""

    def usual_lines(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """What uvicorn puts into every answer: the date. It is another list each second."""
        if headers is not self._usual:
            self._usual_lines = b"".join([b"%b: %b\r\n" % (name, value) for name, value in headers])
            self._usual = headers
        return self._usual_lines


class Known:
    """The head of a request of a connection: most callers send the same again and again, but for the length of the body.
    What was found in it holds for the same bytes."""

    __slots__ = ("after", "before", "headers", "length_at", "route", "secret")

    def __init__(
        self, before: bytes, after: bytes, headers: Headers, length_at: int, route: Route, secret: str | None
    ) -> None:
        self.before = before
        self.after = after
        """Around the digits of the length."""
        self.headers = headers
        self.length_at = length_at
        self.route = route
        self.secret = secret


class Door(Sender):
    """One connection: an ``asyncio.Protocol``."""

    linger_s: ClassVar[float] = 2.0
    """A refused upload is thrown away until it pauses for this long, so that the client sees the answer, not a reset."""
    linger_total_s: ClassVar[float] = 30.0
    """And no longer than this in all; both as nginx's lingering_timeout and lingering_time."""
    idle_s: ClassVar[float] = 75.0
    """Without a request; nginx's keepalive_timeout."""
    stuck_write_s: ClassVar[float] = 120.0
    """A caller that takes nothing for this long is gone."""

    def __init__(
        self,
        hall: Hall,
        config: UvicornConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.loop = loop
        self.hall = hall
        self.gateway = hall.gateway
        self.outbox = hall.outbox
        self.routes = hall.routes
        self.app = config.loaded_app
        self.app_state = app_state
        self.server_state = server_state
        self.limits = self.gateway.config.server
        self.max_body = self.limits.max_body_mb * 1024 * 1024
        self.max_head = self.limits.max_header_kb * 1024
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.parser: Any = httptools.HttpRequestParser(self)
        self.replies: deque[Answer] = deque()
        self.out: list[bytes] = []
        """Written at the end of this turn of the loop."""
        self.out_bytes = 0
        self.url = b""
        self.headers: Headers = []
        self.body: list[bytes] = []
        self.body_bytes = 0
        self.most_body = 0
        """Until it is known who sends it."""
        self.head_bytes = 0
        """Since the request began or the last piece of body came: trailers and chunk extensions have the same bound."""
        self.segment = 0
        """Bytes of the segment that is being read: no head in it is larger."""
        self.taken: Route | None = None
        """By the request that ended in the segment that is being read, if its head is one that may be known again."""
        self.known: Known | None = None
        self.unlike = 0
        """Heads since one came again."""
        self.receiving = False
        self.in_head = False
        self.moved = False
        """A request began, or a piece of body came, in the segment that is being read: what of it is head is not known."""
        self.held_back = False
        """Reading is paused until a pipelined request has had its turn."""
        self.continue_owed = False
        self.discarding = False
        self.discarding_since = 0.0
        self.closing = False
        """No further request is taken."""
        self.paused = False
        self.since = 0.0
        """When the connection entered its present state (receiving, idle, paused, discarding), for ``sweep``."""
        self.peer = ""

    # connection -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.server_state.connections.add(self)  # type: ignore[arg-type]
        self.since = self.loop.time()
        name = transport.get_extra_info("peername")
        self.peer = name[0] if isinstance(name, tuple) else ""

    def connection_lost(self, exc: Exception | None) -> None:
        self.server_state.connections.discard(self)
        self.hall.place.lost(len(self.server_state.connections))
        self.closing = True
        for reply in self.replies:
            reply.lost()
        self.replies.clear()
        self.parser = None

    def eof_received(self) -> None:
        """Who says no more hears no more: the transport closes."""

    def pause_writing(self) -> None:
        self.paused = True
        self.since = self.loop.time()

    def resume_writing(self) -> None:
        self.paused = False
        self.since = self.loop.time()
        if self.replies and self.replies[0].drained is not None:
            self.replies[0].drained()

    def send(self, data: bytes) -> None:
        if not self.out:
            self.outbox.add(self)
        self.out.append(data)
        self.out_bytes += len(data)
        if self.out_bytes > MAX_OUT:
            self.flush()

    def flush(self) -> None:
        out = self.out
        self.out_bytes = 0
        if not out or self.transport.is_closing():
            out.clear()
        elif len(out) == 1:
            data = out[0]
            out.clear()
            self.transport.write(data)
        else:
            self.out = []
            self.transport.writelines(out)

    def close(self) -> None:
        """After what was sent so far."""
        self.flush()
        self.transport.close()

    def shutdown(self) -> None:
        """uvicorn is stopping: close when the answers under way are out. A request that is coming in is still taken."""
        self.closing = True
        for reply in self.replies:
            if reply.cycle is not None:
                reply.cycle.leave()
        if not self.replies and not self.receiving:
            self.close()

    def sweep(self, now: float) -> None:
        """Called every second: ends what waits beyond its bound."""
        waited = now - self.since
        if self.discarding and not self.replies:
            if waited > self.linger_s or now - self.discarding_since > self.linger_total_s:
                self.transport.abort()
        elif self.paused:
            if waited > self.stuck_write_s:
                self.transport.abort()
        elif self.receiving:
            if waited > self.limits.receive_timeout_s and not self.held_back:
                self._refuse(
                    408,
                    "request_timeout",
                    f"The request was not complete after {self.limits.receive_timeout_s:g} s.",
                )
        elif not self.replies and waited > self.idle_s:
            self.close()

    # receiving --------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self.discarding:
            self.since = self.loop.time()
            return
        if self.closing and not self.receiving:
            return
        apart = not self.receiving
        if apart and self.known is not None and self._is_known(self.known, data):
            return
        self.moved = False
        self.segment = len(data)
        try:
            self.parser.feed_data(data)
            taken, self.taken = self.taken, None
            if apart and taken is not None and self.unlike < MAX_UNLIKE:
                self._keep_head(data, taken)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay_http(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError:
            log.exception("a request from %s could not be read", self.peer)
            self._refuse(500, "internal_error", "Tieline failed to read this request.")
        except httptools.HttpParserError as error:
            if not self.closing or self.receiving:
                self._refuse(400, "bad_request", _why_not_http(data, error))
        if self.receiving and not self.moved:
            self.head_bytes += len(data)
            if self.head_bytes > self.max_head:
                self._head_too_large()

    def _is_known(self, known: Known, data: bytes) -> bool:
        """Takes a request that is here whole, and whose head differs from the last one in nothing but the length."""
        before, after = known.before, known.after
        if not data.startswith(before):
            return False
        at = len(before)
        end = data.find(b"\r", at)
        if end < 0:
            return False
        start = end + len(after)
        length = len(data) - start
        said = b"%d" % length
        if data[end:start] != after or data[at:end] != said or length > self.max_body:
            return False
        self.unlike = 0
        headers = known.headers.copy()
        headers[known.length_at] = (b"content-length", said)
        self._take(self._call(known.route, headers, data[start:], known.secret), self._reply(True, False))
        return True

    def _keep_head(self, data: bytes, route: Route) -> None:
        """``data`` began with a request to ``route``. If that is all of it, its head may come again."""
        self.known = None
        self.unlike += 1
        start = data.find(b"\r\n\r\n") + 4
        at = data[:start].lower().find(b"\r\ncontent-length: ") + 18
        end = data.find(b"\r", at)
        names = [name for name, _ in self.headers]
        if at < 18 or data[at:end] != b"%d" % (len(data) - start) or b"expect" in names:
            return
        length_at = names.index(b"content-length")
        self.known = Known(
            data[:at], data[end:start], self.headers, length_at, route, secret_of(self.headers)
        )

    def _stay_http(self, rest: bytes) -> None:
        """An upgrade is an offer, and this one is not taken (RFC 9110 section 7.8): the request is read again without it,
        as the parser takes what follows such a head for another protocol."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(
                405, "method_not_allowed", "CONNECT is for proxies, which Tieline is not: use it as base URL."
            )
            return
        head = [b"%b %b HTTP/%b\r\n" % (method, self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name not in (b"connection", b"upgrade", b"http2-settings"):
                head.append(b"%b: %b\r\n" % (name, value))
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"".join((*head, b"\r\n", rest)))

    def _route(self, url: bytes) -> Route | None:
        found = self.routes.get(url)
        if found is None:
            path, _, query = _path_of(url).partition("?")
            door = paths.find(path, query)
            if door is None:
                return None
            found = Route(door, path, query)
            if len(self.routes) < MAX_ROUTES and not query:
                self.routes[url] = found
        return found

    # parser callbacks -------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self.receiving = self.in_head = self.moved = True
        if not self.replies:
            self.since = self.loop.time()
        self.url = b""
        self.taken = None
        self.headers = []
        self.body = []
        self.body_bytes = self.head_bytes = 0
        self.most_body = min(STRANGERS_BODY, self.max_body)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head:  # a trailer is none of them (RFC 9110, 6.5.1)
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.in_head = False
        for name, value in self.headers:
            if name in _NOTED:
                self._note(name, value)
        if self.head_bytes + self.segment > self.max_head:
            size = sum(len(name) + len(value) for name, value in self.headers)
            if len(self.url) + size > self.max_head:
                self._head_too_large()
        if self.continue_owed:
            self._continue()

    def _note(self, name: bytes, value: bytes) -> None:
        if name == b"content-length":
            if len(value) > MAX_DIGITS or int(value) > self.max_body:
                self._body_too_large()
        elif name == b"expect":
            self.continue_owed = value.lower() == b"100-continue"
        elif name == b"host":
            if self.gateway.admission.refuses_name(value.decode("latin-1")):
                self._refuse_page(
                    "This was sent by a name of this machine (Host) that another site may have given it; use localhost "
                    "or an address."
                )
        elif name == b"origin":
            if self._route(self.url) and self.gateway.admission.refuses_page(value.decode("latin-1")):
                self._refuse_page("A page of another site sent this.")
        elif value.lower() != b"identity":
            self._refuse(
                415, "unsupported_media_type", "A compressed request body is not read; send it as it is."
            )

    def _continue(self) -> None:
        """The go-ahead for a body, once no other answer is on the line."""
        if self.continue_owed and not self.replies and not self.discarding:
            self.continue_owed = False
            self.send(CONTINUE)

    def on_body(self, body: bytes) -> None:
        self.moved = True
        self.head_bytes = 0
        self.body_bytes += len(body)
        if self.body_bytes > self.most_body and not self.discarding:
            self._look_at_sender()
        if not self.discarding:
            self.body.append(body)

    def _look_at_sender(self) -> None:
        """Of a body that is not small, once: it is refused, or may be as large as any."""
        if self.body_bytes > self.max_body:
            self._body_too_large()
        elif self._route(self.url) is None:
            self._refuse(
                413,
                "request_too_large",
                "No model is asked at this path, and no body above 1 MB is read there. See / for what is served.",
            )
        else:
            try:
                self.gateway.authenticate(secret_of(self.headers))
            except TielineError as error:
                fault = fault_of(error)
                self._refuse(fault.status, fault.code, fault.message)
            self.most_body = self.max_body

    def on_message_complete(self) -> None:
        self.receiving = self.continue_owed = False
        if self.discarding or self.transport.is_closing():
            return
        parser = self.parser
        if parser.should_upgrade():
            return  # read again by _stay_http
        keep_alive: bool = parser.should_keep_alive()
        reply = self._reply(keep_alive, parser.get_http_version() == "1.0")
        route = self._route(self.url)
        method = parser.get_method()
        if route is not None and method == b"POST":
            body = self.body
            whole = body[0] if len(body) == 1 else b"".join(body)
            self.taken = route if keep_alive and not reply.old else None
            self._take(self._call(route, self.headers, whole, secret_of(self.headers)), reply)
            return
        self._other(route, method, reply)

    def _reply(self, keep_alive: bool, old: bool) -> Answer:
        if not keep_alive or len(self.replies) >= MAX_PIPELINED:
            self.closing = True
        return Answer(self, keep_alive, old=old)

    def _take(self, call: Call, reply: Answer) -> None:
        if not self.replies:
            self.replies.append(reply)
            self._begin(call, reply)
        else:
            self._queue(reply, lambda: self._begin(call, reply))

    def _other(self, route: Route | None, method: bytes, reply: Answer) -> None:
        reply.bodiless = method == b"HEAD"
        if route is not None:
            self._queue(reply, lambda: self._wrong_method(route, method, reply))
            return
        scope = scope_of(self, b"GET" if reply.bodiless else method, self.url, self.headers, reply.old)
        body = b"".join(self.body)
        self._queue(reply, lambda: self._begin_cycle(reply, scope, body))

    def _queue(self, reply: Answer, begin: Callable[[], None]) -> None:
        """Answers go out in the order in which requests came in."""
        self.replies.append(reply)
        if len(self.replies) == 1:
            begin()
            return
        reply.begin = begin
        if not self.held_back:
            self.held_back = True
            self.transport.pause_reading()

    def _call(self, route: Route, headers: Headers, body: bytes, secret: str | None) -> Call:
        self.since = self.loop.time()
        return Call(
            dialect=route.dialect,
            operation=route.operation,
            path=route.path,
            query=route.query,
            headers=headers,
            body=body,
            model=route.model,
            stream=route.stream,
            received_at=self.since,
            secret=secret,
        )

    def _begin(self, call: Call, reply: Answer) -> None:
        """The task is held by its reply, and that by the connection: the server's set of tasks would cost each request
        another turn of the loop."""
        # Not by the loop's own method: that has it numbered, and the name costs more than the task.
        reply.task = asyncio.Task(self.gateway.handle(call, reply), loop=self.loop, name="request")

    @property
    def is_answering(self) -> bool:
        return bool(self.replies) or self.transport.is_closing()

    def cut(self) -> list[asyncio.Task[Any]]:
        """Cancels what is under way; the tasks that end by it."""
        tasks = [reply.task for reply in self.replies if reply.task is not None]
        for task in tasks:
            task.cancel()
        return tasks

    def _begin_cycle(self, reply: Answer, scope: dict[str, Any], body: bytes) -> None:
        reply.cycle = Cycle(self.app, scope, body, reply)
        task = self.loop.create_task(reply.cycle.run())
        self.server_state.tasks.add(task)
        task.add_done_callback(self.server_state.tasks.discard)

    def finished(self, reply: Answer) -> None:
        """An answer is out: the next pipelined request begins, or the connection closes or idles."""
        if self.replies and self.replies[0] is reply:
            self.replies.popleft()
        self.since = self.loop.time()
        if not reply.keep_alive or (self.closing and not self.replies and not self.receiving):
            self.close()
            return
        if self.replies:
            begin, self.replies[0].begin = self.replies[0].begin, None
            if begin is not None:
                begin()
        elif self.continue_owed:
            self._continue()
        if self.held_back and len(self.replies) <= 1 and not self.transport.is_closing():
            self.held_back = False
            self.transport.resume_reading()

    # refusals before there is a call ------------------------------------------------------------------------------

    def _wrong_method(self, route: Route, method: bytes, reply: Answer) -> None:
        fault = Fault(
            status=405,
            code="method_not_allowed",
            message=f"{method.decode('latin-1')} is not served at {route.path}; send a POST.",
        )
        body, headers = self.gateway.error_answer(route.dialect, fault)
        reply.whole(405, [*headers, (b"allow", b"POST")], body)

    def _body_too_large(self) -> None:
        most = self.limits.max_body_mb
        self._refuse(
            413, "request_too_large", f"The body is larger than {most} MB, which is server.max_body_mb."
        )

    def _head_too_large(self) -> None:
        most = self.limits.max_header_kb
        self._refuse(
            431,
            "headers_too_large",
            f"The headers are larger than {most} KiB, which is server.max_header_kb.",
        )

    def _refuse_page(self, why: str) -> None:
        self._refuse(
            403,
            "permission_denied",
            f"{why} Without virtual keys only programs of this machine are served: make a key with `tieline keys "
            "create`, or set server.open: true to serve anyone.",
        )

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answers in the dialect of the path when its turn comes, then closes after a moment of reading on."""
        if self.discarding or self.transport.is_closing():
            return
        path = _path_of(self.url).partition("?")[0]
        body, headers = self.gateway.error_answer(
            paths.dialect_of_path(path), Fault(status=status, code=code, message=message)
        )
        self.discarding = self.closing = True
        self.receiving = self.in_head = False
        self.body = []
        self.since = self.discarding_since = self.loop.time()
        reply = Answer(self, keep_alive=False, old=False)
        reply.lingers = True
        self._queue(reply, lambda: reply.whole(status, headers, body))

    def linger(self) -> None:
        """The refusal is out. ``sweep`` ends the rest."""
        self.replies.clear()
        self.since = self.discarding_since = self.loop.time()
        if self.held_back:
            self.held_back = False
            self.transport.resume_reading()
        self.flush()
        if self.transport.can_write_eof():
            self.transport.write_eof()


def _path_of(url: bytes) -> str:
    """``/path?query``, also of the absolute form that proxies send."""
    if not url.startswith((b"http://", b"https://")):
        return url.decode("latin-1")
    _, slash, rest = url.decode("latin-1").partition("://")[2].partition("/")
    return slash + rest or "/"


def _why_not_http(data: bytes, error: Exception) -> str:
    if data[:1] == b"\x16":
        return "This port speaks plain HTTP, not TLS; use http:// or put a TLS proxy in front."
    if data.startswith(b"PRI * HTTP/2"):
        return "This port speaks HTTP/1.1, not HTTP/2."
    return f"This is not HTTP/1.1: {error}."


def door_for(gateway: Gateway, place: Place) -> Callable[..., Door]:
    """What uvicorn takes for a protocol class."""
    hall = Hall(gateway, place)

    def door(
        config: UvicornConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> Door:
        return Door(hall, config, server_state, app_state, _loop or asyncio.get_running_loop())

    return door
