"""A request to the pipeline without a socket: what the SDK and the clients bound to it begin with."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from tieline.dialects import paths
from tieline.gateway import Gateway, closed
from tieline.types.call import Call, Headers
from tieline.types.errors import NotFound
from tieline.types.record import Record

MAX_QUEUED_BYTES = 1024 * 1024
"""What a stream may run ahead of its reader before the upstream is paused."""


class MemoryReply:
    """``types.call.Reply`` without a socket."""

    def __init__(self) -> None:
        self.started = False
        self.ended = False
        self.status = 0
        self.headers: Headers = []
        self.task: asyncio.Task[Record] | None = None
        self._loop = asyncio.get_running_loop()
        self._head: asyncio.Future[None] = self._loop.create_future()
        self._pieces: list[bytes] = []
        self._queued = 0
        self._more = asyncio.Event()
        self._drained: Callable[[], None] | None = None

    def start(self, status: int, headers: Headers, length: int | None) -> None:
        self.started = True
        self.status, self.headers = status, headers
        if not self._head.done():
            self._head.set_result(None)

    def write(self, data: bytes) -> bool:
        if data and not self.ended:
            self._pieces.append(data)
            self._queued += len(data)
            self._more.set()
        return self._queued < MAX_QUEUED_BYTES

    def on_drain(self, callback: Callable[[], None] | None) -> None:
        self._drained = callback

    def end(self) -> None:
        self.ended = True
        self._more.set()

    async def head(self) -> None:
        """Returns when status and headers are there; raises what the pipeline died of."""
        assert self.task is not None
        either: set[asyncio.Future[Any]] = {self._head, self.task}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self.cancel()
            raise
        if not self.started:
            if self.task.cancelled():  # before it had begun: the caller's own cancellation is above
                raise closed()
            await self.task

    async def pieces(self, patience_s: float | None = None) -> AsyncIterator[bytes]:
        """The body. Leaving early cancels the request, as a closed connection would.

        Raises TimeoutError when nothing came for ``patience_s``.
        """
        try:
            while self._pieces or not self.ended:
                if not self._pieces:
                    self._more.clear()
                    async with asyncio.timeout(patience_s):
                        await self._more.wait()
                    continue
                pieces, self._pieces, self._queued = self._pieces, [], 0
                if self._drained is not None:
                    self._drained()
                yield b"".join(pieces)
        finally:
            if not self.ended:
                self.cancel()

    def run(self, task: asyncio.Task[Record]) -> None:
        self.task = task
        task.add_done_callback(lambda _task: self.end())

    def cancel(self) -> None:
        if self.task is not None and not self.task.done():
            self.task.cancel()

    def leave(self) -> None:
        """``cancel`` from any thread, and without waiting: it may be garbage collection that leaves, or the interpreter's
        end. Nothing when it has ended, or its loop."""
        if not self.ended:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.cancel)


def begin(gateway: Gateway, path: str, query: str, headers: Headers, body: bytes) -> MemoryReply:
    """Starts a request as the server's door would. Raises NotFound for a path that is not of the data plane, RuntimeError
    after the end, in a process that was forked since and on another event loop."""
    gateway.check_open()
    door = paths.find(path, query)
    if door is None:
        raise NotFound(
            f"{path} is not served in-process.",
            hint="Only the data plane is; start `tieline serve` for more.",
        )
    reply = MemoryReply()
    call = Call(
        dialect=door.dialect,
        operation=door.operation,
        path=path,
        query=query,
        headers=headers,
        body=body,
        model=door.model,
        stream=door.stream,
        received_at=gateway.clock(),
        in_process=True,
    )
    task = asyncio.get_running_loop().create_task(gateway.handle(call, reply))
    gateway.tasks.add(task)
    task.add_done_callback(gateway.tasks.discard)
    reply.run(task)
    return reply
