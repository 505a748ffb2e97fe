"""Opens a TCP or TLS connection within a deadline, and says which part of it failed."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from typing import Any, Final, Literal, TypeVar

from tieline.transport.base import TransportError
from tieline.transport.origin import Origin

_STAGGER_S = 0.25
"""Head start of each address over the next (RFC 8305, section 5): a dead IPv6 path costs this, not the deadline."""
_MAX_ADDRESSES = 6
_TLS_SHUTDOWN_S = 2.0
NO_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""This process or machine cannot have another connection, whoever is at its other end."""

Address = tuple[int, int, int, str, Any]
P = TypeVar("P")
"""Of asyncio's protocols; a compiled class cannot inherit from them."""


class Lookups:
    """Addresses of hosts. Who asks while a host is being looked up shares the answer; nothing is kept beyond it."""

    def __init__(self) -> None:
        self._running: dict[tuple[str, int], _Lookup] = {}

    async def addresses(self, loop: asyncio.AbstractEventLoop, origin: Origin) -> Sequence[Address]:
        """Never empty. Raises OSError."""
        if literal := _literal(origin.host, origin.port):
            return [literal]
        key = (origin.host, origin.port)
        lookup = self._running.get(key)
        if lookup is None:
            lookup = self._running[key] = _Lookup(loop.create_task(_look_up(loop, *key)))
        lookup.waiting += 1
        try:
            # Whose deadline passes goes without the others.
            return await asyncio.shield(lookup.task)
        finally:
            lookup.waiting -= 1
            if not lookup.waiting:
                lookup.task.cancel()
                del self._running[key]


class _Lookup:
    __slots__ = ("task", "waiting")

    def __init__(self, task: asyncio.Task[Sequence[Address]]) -> None:
        self.task = task
        self.waiting = 0


def _literal(host: str, port: int) -> Address | None:
    """Of a host that is an address itself, most often of a model that runs near by."""
    wheres = ((socket.AF_INET, (host, port)), (socket.AF_INET6, (host, port, 0, 0)))
    for family, where in wheres:
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where
    return None


async def _look_up(loop: asyncio.AbstractEventLoop, host: str, port: int) -> Sequence[Address]:
    return await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)


async def dial(
    loop: asyncio.AbstractEventLoop,
    lookups: Lookups,
    origin: Origin,
    tls: ssl.SSLContext | None,
    protocol: Callable[[], P],
    deadline: asyncio.Timeout,
) -> P:
    """Raises TransportError: ``dns``, ``connect``, ``tls``, ``timeout`` for any of them, or ``local``: this machine has no
    room for another connection. Nothing was sent then."""
    started = loop.time()
    stage: Literal["dns", "connect", "tls"] = "dns"
    try:
        async with deadline:
            addresses = await lookups.addresses(loop, origin)
            stage = "connect"
            sock = await _first_to_connect(loop, _interleaved(addresses))
            stage = "connect" if tls is None else "tls"
            return await _wrap(loop, sock, tls, origin.host, protocol)
    except TimeoutError:
        spent = f"{loop.time() - started:.1f} s"
        raise TransportError("timeout", f"{origin}: no connection in {spent} ({stage})", sent=False) from None
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise TransportError(
                "local", f"No connection to {origin}: {_reason(error)}", sent=False
            ) from error
        raise TransportError(stage, f"{origin}: {_reason(error)}", sent=False) from error


async def _wrap(
    loop: asyncio.AbstractEventLoop,
    sock: socket.socket,
    tls: ssl.SSLContext | None,
    host: str,
    protocol: Callable[[], P],
) -> P:
    try:
        if tls is None:
            made = await loop.create_connection(protocol, sock=sock)  # type: ignore[type-var]
        else:
            made = await loop.create_connection(
                protocol,  # type: ignore[type-var]
                sock=sock,
                ssl=tls,
                server_hostname=host,
                ssl_shutdown_timeout=_TLS_SHUTDOWN_S,
            )
        return made[1]
    except BaseException:
        sock.close()
        raise


def _interleaved(addresses: Sequence[Address]) -> list[Address]:
    """The resolver's order, families taking turns, so that one broken family does not hide the other."""
    first = [a for a in addresses if a[0] == addresses[0][0]]
    other = [a for a in addresses if a[0] != addresses[0][0]]
    mixed = chain.from_iterable(zip_longest(first, other))
    return [address for address in mixed if address is not None][:_MAX_ADDRESSES]


async def _first_to_connect(loop: asyncio.AbstractEventLoop, addresses: list[Address]) -> socket.socket:
    if len(addresses) == 1:
        return await _connect(loop, addresses[0])
    pending: set[asyncio.Task[socket.socket]] = set()
    failure: BaseException | None = None
    left = list(addresses)
    try:
        while left or pending:
            if left:
                pending.add(loop.create_task(_connect(loop, left.pop(0))))
            done, pending = await asyncio.wait(
                pending, timeout=_STAGGER_S if left else None, return_when=asyncio.FIRST_COMPLETED
            )
            winners = [task for task in done if task.exception() is None]
            for surplus in winners[1:]:
                surplus.result().close()
            if winners:
                return winners[0].result()
            for task in done:
                failure = task.exception()
        raise failure or OSError("no address")
    finally:
        for task in pending:
            task.cancel()
            task.add_done_callback(_close_late)


def _close_late(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _connect(loop: asyncio.AbstractEventLoop, address: Address) -> socket.socket:
    family, kind, number, _, where = address
    sock = socket.socket(family, kind, number)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A model may think for minutes in silence; without probes a NAT on the way forgets the connection.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 45)
        await _reach(loop, sock, where)
    except BaseException:
        sock.close()
        raise
    return sock


async def _reach(loop: asyncio.AbstractEventLoop, sock: socket.socket, where: Any) -> None:
    """As ``loop.sock_connect``, which on uvloop has a thread look up what is an address already."""
    reached = loop.create_future()
    try:
        loop.add_writer(sock, _settle, reached)
    except NotImplementedError:  # Windows
        await loop.sock_connect(sock, where)
        return
    try:
        code = sock.connect_ex(where)
        if code in (errno.EINPROGRESS, errno.EINTR):
            await reached
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    finally:
        loop.remove_writer(sock)
    if code:
        raise OSError(code, os.strerror(code))


def _settle(reached: asyncio.Future[None]) -> None:
    if not reached.done():
        reached.set_result(None)


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate was refused: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
