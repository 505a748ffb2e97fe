"""Compressed time: an event loop that waits faster than the world, so that an outage of minutes passes in seconds.

Only *waiting* is compressed. What is computed takes as long on the loop's clock as it really does, and a machine that
oversleeps a timer does not make the loop late: deadlines keep their meaning on a busy machine, and a latency that is
measured in compressed time is one that callers would have seen.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, TypeVar

T = TypeVar("T")
MAX_SPEED = 1000.0


class _Hurried(selectors.DefaultSelector):
    """Waits ``speed`` times shorter than it is told to; ``gained`` is how far the loop's clock is ahead because of it."""

    def __init__(self, speed: float) -> None:
        super().__init__()
        self._speed = speed
        self.gained = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        began = monotonic()
        found = super().select(None if timeout is None else timeout / self._speed)
        real = monotonic() - began
        waited = real * self._speed
        self.gained += (waited if timeout is None else min(waited, timeout)) - real
        return found


class CompressedLoop(asyncio.SelectorEventLoop):
    """``time()`` is in the seconds that everything on the loop sees."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._hurried = _Hurried(speed)
        super().__init__(self._hurried)

    def time(self) -> float:
        return monotonic() + self._hurried.gained

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        """At once: a resolver's thread would take its real time, and here there are only addresses."""
        return socket.getaddrinfo(host, port, **options)


def speed_of(loop: asyncio.AbstractEventLoop) -> float:
    """How much faster than the world it waits."""
    return loop.speed if isinstance(loop, CompressedLoop) else 1.0


def run(work: Callable[[], Coroutine[Any, Any, T]], speed: float = 1.0) -> T:
    """Runs ``work()`` to its end on a loop of its own."""
    if speed == 1.0:
        return asyncio.run(work())
    with asyncio.Runner(loop_factory=lambda: CompressedLoop(speed)) as runner:
        return runner.run(work())
