"""The pool's brain: decides which connection serves whom. No I/O and no await here; the transport does what it says."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, Protocol, TypeVar

from tieline.transport.base import TransportError
from tieline.transport.limits import PoolLimits


class Pooled(Protocol):
    expires_at: float


C = TypeVar("C", bound=Pooled)


class Pool(Generic[C]):
    """The connections of one origin. Every connection counted in ``open`` ends in exactly one ``forget``."""

    __slots__ = ("idle", "limits", "open", "origin", "waiters")

    def __init__(self, origin: str, limits: PoolLimits) -> None:
        self.origin = origin
        self.limits = limits
        self.idle: dict[C, None] = {}
        """In the order they came back, which is the order they expire in. A provider that restarts closes all at once, so each
        must be found without a search."""
        self.open = 0
        self.waiters: deque[asyncio.Future[C | None]] = deque()

    def take(self, now: float) -> C | None:
        """The connection used last, so that the surplus grows old and is closed. Expired ones stay for ``expired``."""
        if self.idle:
            connection, _ = self.idle.popitem()
            if connection.expires_at > now:
                return connection
            self.idle[connection] = None
        return None

    def reserve(self) -> bool:
        """Counts a connection about to be opened; False when the origin has its maximum."""
        if self.open >= self.limits.max_connections:
            return False
        self.open += 1
        return True

    def wait(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[C | None]:
        """Resolves to a connection, or to None: then one is reserved and the caller opens it."""
        if self.waiting >= self.limits.max_waiting:
            raise TransportError(
                "connect", f"{self.origin}: too many requests wait for a connection", sent=False
            )
        waiter: asyncio.Future[C | None] = loop.create_future()
        self.waiters.append(waiter)
        return waiter

    def withdraw(self, waiter: asyncio.Future[C | None]) -> None:
        """Its request waits no longer. Without this, those who gave up would pile up behind a stuck origin."""
        if waiter in self.waiters:
            self.waiters.remove(waiter)

    def release(self, connection: C) -> None:
        """Gives the connection to who waits longest, else keeps it."""
        if (waiter := self._next_waiter()) is not None:
            waiter.set_result(connection)
        else:
            self.idle[connection] = None

    def forget(self, connection: C | None = None) -> None:
        """A connection is gone, or a reserved one was not opened; its place goes to who waits longest."""
        if connection is not None:
            self.idle.pop(connection, None)
        self.open -= 1
        if (waiter := self._next_waiter()) is not None:
            self.open += 1
            waiter.set_result(None)

    def expired(self, now: float) -> list[C]:
        return [connection for connection in self.idle if connection.expires_at <= now]

    @property
    def waiting(self) -> int:
        return len(self.waiters)

    @property
    def in_flight(self) -> int:
        return self.open - len(self.idle) + self.waiting

    def is_unused(self) -> bool:
        return self.open == 0 and self.waiting == 0

    def _next_waiter(self) -> asyncio.Future[C | None] | None:
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                return waiter
        return None
