"""One request of the control plane through the ASGI application, on a connection of the door's."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tieline.types.call import Headers

if TYPE_CHECKING:
    from tieline.server.answer import Answer
    from tieline.server.door import Door

log = logging.getLogger("tieline")


def scope_of(door: Door, method: bytes, url: bytes, headers: Headers, old: bool) -> dict[str, Any]:
    """The connection scope of the ASGI specification, version 2.3."""
    raw_path, _, query = url.partition(b"?")
    if raw_path.startswith((b"http://", b"https://")):
        raw_path = b"/" + raw_path.partition(b"://")[2].partition(b"/")[2]
    server = door.transport.get_extra_info("sockname")
    client = door.transport.get_extra_info("peername")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.0" if old else "1.1",
        "method": method.decode("latin-1").upper(),
        "scheme": "http",
        "path": unquote(raw_path.decode("latin-1")),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "server": server[:2] if isinstance(server, tuple) else None,
        "client": client[:2] if isinstance(client, tuple) else None,
        "state": door.app_state.copy(),
    }


class Cycle:
    """The body is here already, whole; the answer goes out as the application gives it, at the caller's pace."""

    __slots__ = ("answer", "app", "body", "drained", "given", "gone", "scope", "status")

    def __init__(self, app: Any, scope: dict[str, Any], body: bytes, answer: Answer) -> None:
        self.app = app
        self.scope = scope
        self.body = body
        self.answer = answer
        self.given = False
        self.gone = asyncio.Event()
        self.drained = asyncio.Event()
        self.status: tuple[int, Headers] | None = None

    async def run(self) -> None:
        """Never raises; what the application leaves undone breaks the connection or is a bare 500."""
        try:
            await self.app(self.scope, self.receive, self.send)
        except Exception:
            log.exception("%s %s failed", self.scope["method"], self.scope["path"])
        if self.answer.started or self.answer.door.transport.is_closing():
            self.answer.fail()
        elif not self.answer.ended:
            self.answer.whole(500, [(b"content-type", b"text/plain")], b"Internal error")

    def leave(self) -> None:
        """The caller went away, or the server is stopping: a stream without an end learns it by ``http.disconnect``."""
        self.gone.set()
        self.drained.set()

    async def receive(self) -> dict[str, Any]:
        if not self.given:
            self.given = True
            body, self.body = self.body, b""
            return {"type": "http.request", "body": body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        answer = self.answer
        if answer.ended or answer.door.transport.is_closing():
            return
        if message["type"] == "http.response.start":
            self.status = (
                message["status"],
                [(name.lower(), value) for name, value in message.get("headers", [])],
            )
            return
        data, more = message.get("body", b""), message.get("more_body", False)
        if not answer.started:
            self._start(None if more else len(data))
        if data and not answer.write(data):
            await self._drain()
        if not more:
            answer.end()

    def _start(self, length: int | None) -> None:
        assert self.status is not None, "http.response.start comes first"
        status, headers = self.status
        for name, value in headers:
            if name == b"content-length":
                length = int(value)
        kept = [
            pair
            for pair in headers
            if pair[0] not in (b"content-length", b"transfer-encoding", b"connection")
        ]
        self.answer.start(status, kept, None if status in (204, 304) else length)

    async def _drain(self) -> None:
        self.drained.clear()
        if self.gone.is_set():
            return
        self.answer.on_drain(self.drained.set)
        await self.drained.wait()
        self.answer.on_drain(None)
