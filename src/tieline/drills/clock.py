"""Compressed time: an event loop whose seconds are shorter, so that an outage of minutes passes in seconds.

Everything that lives on the loop (server, simulator, callers, deadlines, breakers) sees ordinary seconds; only the world
outside sees how short they are.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, TypeVar

T = TypeVar("T")
MAX_SPEED = 200.0
"""A timer is exact to a millisecond of real time: at this speed that is 0.2 s on the loop."""


class _Hurried(selectors.DefaultSelector):  # an alias chosen by the platform
    """Sleeps ``speed`` times shorter than it is told to."""

    def __init__(self, speed: float) -> None:
        super().__init__()
        self._speed = speed

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout / self._speed if timeout and timeout > 0 else timeout)


class CompressedLoop(asyncio.SelectorEventLoop):
    """``time()`` starts near 0 and runs ``speed`` times as fast as the world's."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._epoch = monotonic()
        super().__init__(_Hurried(speed))

    def time(self) -> float:
        return 1.0 + (monotonic() - self._epoch) * self.speed

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        """At once: a resolver's thread would take its real time, and here there are only addresses."""
        return socket.getaddrinfo(host, port, **options)


def speed_of(loop: asyncio.AbstractEventLoop) -> float:
    """How much faster than the world it runs."""
    return loop.speed if isinstance(loop, CompressedLoop) else 1.0


def run(work: Callable[[], Coroutine[Any, Any, T]], speed: float = 1.0) -> T:
    """Runs ``work()`` to its end on a loop of its own."""
    if speed == 1.0:
        return asyncio.run(work())
    with asyncio.Runner(loop_factory=lambda: CompressedLoop(speed)) as runner:
        return runner.run(work())
