"""The fast path: HTTP/1.1 over pooled keep-alive connections."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from tieline.transport.base import TransportError, UpstreamRequest
from tieline.transport.connection import Connection
from tieline.transport.dial import Lookups, dial
from tieline.transport.exchange import Exchange
from tieline.transport.limits import PoolLimits
from tieline.transport.origin import Origin, split_url
from tieline.transport.outbox import Outbox
from tieline.transport.pool import Pool
from tieline.transport.target import Heads

_MAX_TARGETS: Final = 1024
_MAX_ORIGINS: Final = 1024
"""Above it, origins without a connection are forgotten."""
_CLOSE_S: Final = 2.0
_RACE_S: Final = 1.0
"""A request that crosses the end of an idle connection hears of it within a round trip. Who says nothing for longer and
then breaks off may have worked on it, and been paid: that is an attempt of its own, which is for the pipeline to repeat."""


class _Target:
    __slots__ = ("heads", "origin", "pool")

    def __init__(self, origin: Origin, pool: Pool[Connection], heads: Heads) -> None:
        self.origin = origin
        self.pool = pool
        self.heads = heads


class Http1Transport:
    """The Transport over plain TCP and TLS, without proxies. Bound to the event loop of its first ``send``."""

    def __init__(
        self,
        *,
        limits: PoolLimits | None = None,
        ca_file: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.outbox = Outbox()
        self._limits = limits or PoolLimits()
        self._idle_s = self._limits.idle_s
        self._ca_file = ca_file
        self._tls = tls
        self._targets: dict[str, _Target] = {}
        self._pools: dict[Origin, Pool[Connection]] = {}
        self._connections: set[Connection] = set()
        self._dials: set[asyncio.Timeout] = set()
        self._lookups = Lookups()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        self._emptied: asyncio.Event | None = None

    async def send(self, request: UpstreamRequest) -> Exchange:
        loop = self._loop or self._bind()
        target = self._targets.get(request.url) or self._locate(request.url)
        head = target.heads.of(request)
        now = loop.time()
        deadline = now + request.response_timeout_s
        connection = target.pool.take(now)
        reused = connection is not None
        if connection is None:
            connection, reused = await self._acquire(loop, target, request, deadline)
            now = loop.time()
        while True:
            exchange = connection.start(head, request.body, request.method == "HEAD", deadline)
            try:
                await exchange.arrived
            except BaseException:
                exchange.close()
                raise
            if exchange.status:
                return exchange
            if not reused or not connection.untouched or not _is_reset(exchange.error):
                raise _failure(exchange)
            if loop.time() - now > _RACE_S:
                raise _failure(exchange)
            # The server closed the idle connection as our request was on its way; it is not an answer to it.
            connection = await self._again(loop, target, request, deadline)
            reused = False

    async def aclose(self) -> None:
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for pool in self._pools.values():
            for waiter in pool.waiters:
                if not waiter.done():
                    waiter.set_exception(_closed())
        for deadline in self._dials:
            if not deadline.expired():
                deadline.reschedule(0)
        for connection in list(self._connections):
            connection.close()
        if self._connections:
            self._emptied = asyncio.Event()
            try:
                await asyncio.wait_for(self._emptied.wait(), _CLOSE_S)
            except TimeoutError:
                for connection in list(self._connections):
                    connection.abort()

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    @property
    def idle_connections(self) -> int:
        return sum(len(pool.idle) for pool in self._pools.values())

    @property
    def in_flight(self) -> int:
        """Requests that wait for a connection, for headers or for the rest of a body."""
        return sum(pool.in_flight for pool in self._pools.values())

    # What connections report

    def freed(self, connection: Connection) -> None:
        if self._loop is None or not connection.is_usable:
            return
        connection.expires_at = self._loop.time() + self._idle_s
        if self._closed:
            connection.close()
            return
        connection.pool.release(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._idle_s / 4, self._sweep)

    def doomed(self, connection: Connection) -> None:
        if connection in self._connections:
            connection.pool.forget(connection)

    def gone(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if self._emptied is not None and not self._connections:
            self._emptied.set()

    # The steps of send

    def _bind(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.get_running_loop()
        return self._loop

    def _locate(self, url: str) -> _Target:
        origin, rest = split_url(url)
        pool = self._pools.get(origin)
        if pool is None:
            if len(self._pools) >= _MAX_ORIGINS:
                self._forget_origins()
            pool = self._pools[origin] = Pool(str(origin), self._limits)
        if len(self._targets) >= _MAX_TARGETS:
            del self._targets[next(iter(self._targets))]
        target = self._targets[url] = _Target(origin, pool, Heads(rest))
        return target

    def _forget_origins(self) -> None:
        self._targets.clear()
        self._pools = {origin: pool for origin, pool in self._pools.items() if not pool.is_unused()}

    async def _acquire(
        self, loop: asyncio.AbstractEventLoop, target: _Target, request: UpstreamRequest, deadline: float
    ) -> tuple[Connection, bool]:
        """A connection, and whether it has served before."""
        if self._closed:
            raise _closed()
        pool = target.pool
        if not pool.reserve():
            self._close_expired(pool, loop.time())
            if not pool.reserve():
                waited = await self._wait(loop, pool, deadline)
                if waited is not None:
                    return waited, True
        deadline = min(deadline, loop.time() + request.connect_timeout_s)
        return await self._open(loop, target, deadline), False

    async def _open(self, loop: asyncio.AbstractEventLoop, target: _Target, deadline: float) -> Connection:
        """Opens the connection that the pool has reserved; gives the place back when that fails."""
        pool = target.pool
        timeout = asyncio.timeout_at(deadline)
        self._dials.add(timeout)
        try:
            tls = self._tls_context() if target.origin.scheme == "https" else None
            connection = await dial(
                loop, self._lookups, target.origin, tls, lambda: Connection(self, pool, loop), timeout
            )
            if not connection.is_usable:
                raise TransportError("reset", f"{pool.origin}: closed as soon as opened", sent=False)
        except BaseException as error:
            pool.forget()
            if self._closed and isinstance(error, TransportError):
                raise _closed() from None
            raise
        finally:
            self._dials.discard(timeout)
        self._connections.add(connection)
        return connection

    async def _wait(
        self, loop: asyncio.AbstractEventLoop, pool: Pool[Connection], deadline: float
    ) -> Connection | None:
        waiter = pool.wait(loop)
        wait_s = min(self._limits.wait_s, deadline - loop.time())
        try:
            async with asyncio.timeout(wait_s):
                return await waiter
        except BaseException as error:
            self._decline(pool, waiter)
            if isinstance(error, TimeoutError):
                message = f"{pool.origin}: no connection became free in {wait_s:g} s"
                raise TransportError("timeout", message, sent=False) from None
            raise

    def _decline(self, pool: Pool[Connection], waiter: asyncio.Future[Connection | None]) -> None:
        """What was given to a request that is no longer there goes to the next."""
        pool.withdraw(waiter)
        if not waiter.done() or waiter.cancelled() or waiter.exception() is not None:
            waiter.cancel()
            return
        connection = waiter.result()
        if connection is None:
            pool.forget()
        else:
            self.freed(connection)

    async def _again(
        self, loop: asyncio.AbstractEventLoop, target: _Target, request: UpstreamRequest, deadline: float
    ) -> Connection:
        try:
            connection, _ = await self._acquire(loop, target, request, deadline)
        except TransportError as error:
            error.sent = True
            raise
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            try:
                self._tls = ssl.create_default_context(cafile=self._ca_file)
            except OSError as error:
                message = f"the CA file {self._ca_file} cannot be used: {error.strerror}"
                raise TransportError("tls", message, sent=False) from None
        return self._tls

    def _sweep(self) -> None:
        """Closes what has been idle too long; runs only while something is idle."""
        assert self._loop is not None
        self._sweeper = None
        now = self._loop.time()
        for pool in self._pools.values():
            self._close_expired(pool, now)
        if self.idle_connections:
            self._sweeper = self._loop.call_later(self._idle_s / 4, self._sweep)

    def _close_expired(self, pool: Pool[Connection], now: float) -> None:
        for connection in pool.expired(now):
            connection.close()


def _is_reset(error: BaseException | None) -> bool:
    return isinstance(error, TransportError) and error.kind == "reset"


def _failure(exchange: Exchange) -> BaseException:
    assert exchange.error is not None
    return exchange.error


def _closed() -> TransportError:
    return TransportError("closed", "the transport is closed", sent=False)
