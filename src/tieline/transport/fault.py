"""Wraps any Transport and breaks what a predicate picks: the faults of a network, for drills and tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

from msgspec import Struct

from tieline.transport.base import Transport, TransportError, UpstreamRequest, UpstreamResponse
from tieline.transport.body import Piped
from tieline.transport.interrupt import Interrupt

Sleep = Callable[[float], Awaitable[None]]
_GARBLE = bytes(byte ^ 0xA5 for byte in range(256))


class Fault(Struct, frozen=True, kw_only=True):
    """What goes wrong with one request.

    ``connect``, ``dns``, ``tls``: no connection. ``reset``: closed before the headers. ``silence``: no headers until the
    response timeout. ``latency``: ``delay_s`` before the request is passed on. ``cut``: closed after ``after_bytes`` of
    body. ``stall``: nothing more after ``after_bytes``, for ever, or for ``delay_s`` if that is not 0. ``garble``: other
    bytes from ``after_bytes`` on. The first four come after ``delay_s`` too.
    """

    kind: Literal["connect", "dns", "tls", "reset", "silence", "latency", "cut", "stall", "garble"]
    after_bytes: int = 0
    delay_s: float = 0.0


class FaultTransport:
    def __init__(
        self,
        inner: Transport,
        choose: Callable[[UpstreamRequest], Fault | None],
        *,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._inner = inner
        self._choose = choose
        self._sleep = sleep

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        fault = self._choose(request)
        if fault is None:
            return await self._inner.send(request)
        if fault.kind == "cut" or fault.kind == "stall" or fault.kind == "garble":
            return FaultyResponse(await self._inner.send(request), fault, self._sleep)
        if fault.kind == "silence" or fault.delay_s >= request.response_timeout_s:
            await self._sleep(request.response_timeout_s)
            raise TransportError("timeout", "no response within the time given", sent=True)
        if fault.delay_s:
            await self._sleep(fault.delay_s)
        if fault.kind == "latency":
            return await self._inner.send(request)
        raise TransportError(fault.kind, f"a drill: {fault.kind}", sent=fault.kind == "reset")

    async def aclose(self) -> None:
        await self._inner.aclose()


class FaultyResponse(Piped):
    def __init__(self, inner: UpstreamResponse, fault: Fault, sleep: Sleep) -> None:
        self.status = inner.status
        self.headers = inner.headers
        self._inner = inner
        self._fault = fault
        self._sleep = sleep
        self._left = fault.after_bytes
        self._held: list[bytes] | None = None
        self._waking: asyncio.Task[None] | None = None
        self._interrupt = Interrupt()

    async def pipe(self, on_data: Callable[[bytes], None]) -> None:
        await self._interrupt.guard(self._pipe(on_data))

    def pause(self) -> None:
        self._inner.pause()

    def resume(self) -> None:
        if self._held is None:
            self._inner.resume()

    def abort(self, error: BaseException) -> None:
        self._inner.abort(error)
        self._interrupt.fire(error)

    def close(self) -> None:
        self._inner.close()
        self._interrupt.fire(TransportError("closed", "the response was closed", sent=True))

    async def _pipe(self, on_data: Callable[[bytes], None]) -> None:
        try:
            await self._inner.pipe(lambda data: self._pass(data, on_data))
            if self._waking is not None:
                await self._waking
            elif self._held is not None:
                await asyncio.get_running_loop().create_future()
        finally:
            if self._waking is not None:
                self._waking.cancel()
            self._inner.close()

    def _pass(self, data: bytes, on_data: Callable[[bytes], None]) -> None:
        if self._held is not None:
            self._held.append(data)
            return
        sound, rest = data[: self._left], data[self._left :]
        self._left -= len(sound)
        if sound:
            on_data(sound)
        if self._left == 0:
            self._break(rest, on_data)

    def _break(self, rest: bytes, on_data: Callable[[bytes], None]) -> None:
        if self._fault.kind == "cut":
            raise TransportError("reset", "the connection was closed within the response's body", sent=True)
        if self._fault.kind == "garble":
            if rest:
                on_data(rest.translate(_GARBLE))
            return
        self._held = [rest]
        self._inner.pause()
        if self._fault.delay_s:
            self._waking = asyncio.ensure_future(self._wake(on_data))

    async def _wake(self, on_data: Callable[[bytes], None]) -> None:
        await self._sleep(self._fault.delay_s)
        held, self._held = self._held or [], None
        self._left = 1 << 62
        try:
            for data in held:
                if data:
                    on_data(data)
        except BaseException as error:
            self._inner.abort(error)
            raise
        self._inner.resume()
