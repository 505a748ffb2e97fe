"""A Transport in memory: answers from a script, for tests, dry runs and drills that need no socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from msgspec import Struct, field

from tieline.transport.base import TransportError, UpstreamRequest
from tieline.transport.body import Piped
from tieline.transport.interrupt import Interrupt
from tieline.types.call import Headers

Sleep = Callable[[float], Awaitable[None]]


class Scripted(Struct, kw_only=True):
    """One answer. In ``chunks``, bytes are given to the caller, a number is seconds of silence, an error is raised."""

    status: int = 200
    headers: Headers = field(default_factory=list)
    chunks: list[bytes | float | BaseException] = field(default_factory=list)
    wait_s: float = 0.0
    """Before the headers."""


Answer = Scripted | BaseException


class ScriptedTransport:
    """Answers in order from a list, or as a function of the request; a list that is used up is a ``connect`` error.

    ``requests`` holds what was sent; ``in_flight`` counts responses neither read to their end nor closed.
    """

    def __init__(
        self, answers: Iterable[Answer] | Callable[[UpstreamRequest], Answer], *, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._answer = answers if callable(answers) else _in_order(answers)
        self._sleep = sleep
        self._closed = False
        self._live: set[ScriptedResponse] = set()
        self.requests: list[UpstreamRequest] = []

    async def send(self, request: UpstreamRequest) -> ScriptedResponse:
        if self._closed:
            raise _closed(sent=False)
        self.requests.append(request)
        answer = self._answer(request)
        if isinstance(answer, BaseException):
            raise answer
        response = ScriptedResponse(answer, self._sleep, self._live.discard)
        self._live.add(response)
        try:
            await response.guard_headers(request.response_timeout_s)
        except BaseException:
            self._live.discard(response)
            raise
        return response

    async def aclose(self) -> None:
        self._closed = True
        for response in list(self._live):
            response.abort(_closed(sent=True))

    @property
    def in_flight(self) -> int:
        return len(self._live)


class ScriptedResponse(Piped):
    def __init__(self, answer: Scripted, sleep: Sleep, ended: Callable[[ScriptedResponse], None]) -> None:
        self.status = answer.status
        self.headers = list(answer.headers)
        self._answer = answer
        self._sleep = sleep
        self._ended = ended
        self._interrupt = Interrupt()
        self._resumed = asyncio.Event()
        self._resumed.set()

    async def guard_headers(self, timeout_s: float) -> None:
        await self._interrupt.guard(self._before_headers(timeout_s))

    async def pipe(self, on_data: Callable[[bytes], None]) -> None:
        try:
            await self._interrupt.guard(self._play(on_data))
        finally:
            self._ended(self)

    def pause(self) -> None:
        self._resumed.clear()

    def resume(self) -> None:
        self._resumed.set()

    def abort(self, error: BaseException) -> None:
        self._ended(self)
        self._interrupt.fire(error)

    def close(self) -> None:
        self.abort(_closed(sent=True))

    async def _before_headers(self, timeout_s: float) -> None:
        if self._answer.wait_s:
            await self._sleep(min(self._answer.wait_s, timeout_s))
        if self._answer.wait_s > timeout_s:
            raise TransportError("timeout", "no response within the time given", sent=True)

    async def _play(self, on_data: Callable[[bytes], None]) -> None:
        for chunk in self._answer.chunks:
            await self._resumed.wait()
            if isinstance(chunk, BaseException):
                raise chunk
            if isinstance(chunk, bytes):
                on_data(chunk)
            else:
                await self._sleep(chunk)


def _in_order(answers: Iterable[Answer]) -> Callable[[UpstreamRequest], Answer]:
    left = iter(answers)
    exhausted = TransportError("connect", "the script has no more answers", sent=False)
    return lambda request: next(left, exhausted)


def _closed(*, sent: bool) -> TransportError:
    return TransportError("closed", "the transport is closed", sent=sent)
