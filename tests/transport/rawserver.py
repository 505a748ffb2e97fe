"""A server that says exactly the bytes a test wants, and sees what the client does with the connection."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from tieline.transport.base import UpstreamRequest


class Peer:
    """One accepted connection, as a test's script sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: RawServer) -> None:
        self.reader = reader
        self.writer = writer
        self._server = server

    async def request(self) -> bytes:
        """The next request, head and body; raises IncompleteReadError when the client closed."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        request = head + await self.reader.readexactly(length)
        self._server.requests.append(request)
        return request

    async def say(self, *pieces: bytes, delay_s: float = 0) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            if delay_s:
                await asyncio.sleep(delay_s)

    def reset(self) -> None:
        """Closes with RST instead of FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def closed(self) -> None:
        """Returns when the client has closed the connection."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass


Script = Callable[[Peer], Awaitable[None]]


class RawServer:
    def __init__(self) -> None:
        self.url = ""
        self.port = 0
        self.accepted = 0
        self.open = 0
        self.most_open = 0
        self.requests: list[bytes] = []
        self.stop_listening: Callable[[], None] = lambda: None

    async def until_closed(self) -> None:
        """Returns when no client connection is left."""
        async with asyncio.timeout(5):
            while self.open:
                await asyncio.sleep(0.005)

    def request(self, body: bytes = b"{}", **changes: object) -> UpstreamRequest:
        fields: dict[str, object] = {
            "url": f"{self.url}/v1/chat",
            "headers": [(b"x-test", b"1")],
            "body": body,
        }
        return UpstreamRequest(**{**fields, "response_timeout_s": 5.0, **changes})  # type: ignore[arg-type]


@asynccontextmanager
async def serving(
    script: Script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[RawServer]:
    """Runs ``script`` for each connection, which is closed when the script returns."""
    server = RawServer()
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        server.accepted += 1
        server.open += 1
        server.most_open = max(server.most_open, server.open)
        try:
            await script(Peer(reader, writer, server))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            server.open -= 1
            tasks.discard(task)
            writer.close()

    listener = await asyncio.start_server(accept, host, 0, ssl=tls)
    server.stop_listening = listener.close
    server.port = listener.sockets[0].getsockname()[1]
    server.url = f"{'https' if tls else 'http'}://{'localhost' if tls else host}:{server.port}"
    try:
        yield server
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)


def answer(body: bytes = b"ok", *headers: bytes, status: bytes = b"200 OK") -> bytes:
    lines = [b"HTTP/1.1 " + status, b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def always(*pieces: bytes) -> Script:
    """Answers every request on the connection with the same bytes."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(*pieces)

    return script
